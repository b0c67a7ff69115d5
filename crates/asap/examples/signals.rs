//! What does alpha follow? Trains a search network with every operation alive, and prints which cell each of two signals
//! would choose, as a JSON line per window of steps: the gradient of an even mixture (eq. 4), and the losses of single paths.
//! docs/results/quality.md shows what came out.
//!
//!     cargo run --release -p asap-nas --example signals -- space=nas-bench-201 data.source=photos/ search.epochs=3

use std::error::Error;
use std::sync::Arc;

use asap::settings::config::{Config, Trained};
use asap::{Layers, Learner, Preset, jobs};
use asap_core::{Architecture, CosineLearningRate, EdgePolicy, Evidence, Sureness};
use asap_data::{Augment, Loader, normalization_of, stratified_halves};
use asap_net::engine::Engine;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Steps of a window.
const WINDOW: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut layers = Layers::preset(Preset::Quick);
    for setting in std::env::args().skip(1) {
        layers.set(&setting)?;
    }
    run(&layers.resolve()?)
}

fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    let (mut learner, train, valid) = begin(config)?;
    let mut random = ChaCha8Rng::seed_from_u64(config.seed);
    let candidates = config.network.candidates.len();
    let (mut step, mut paths) = (0, Vec::new());
    let fresh = |learner: &Learner| Evidence::new(&learner.architecture, f64::INFINITY);
    let (mut mixture, mut single) = (fresh(&learner), fresh(&learner));
    let rate = CosineLearningRate {
        initial: config.weights.lr,
        minimum: config.weights.lr_min,
        epochs: config.search.epochs,
    };
    for epoch in 0..config.search.epochs {
        for (train_batch, valid_batch) in train.epoch(epoch).zip(valid.epoch(epoch)) {
            let (train_batch, valid_batch) = (train_batch?, valid_batch?);
            if paths.is_empty() {
                paths = learner.architecture.draw_paths(candidates, &mut random);
            }
            let even = learner.mixing(f64::INFINITY);
            let trained = match config.weights.trained {
                Trained::Path => paths.pop().expect("drawn above"),
                _ => even.clone(),
            };
            let rate = rate.at(step as f64 / train.batches_per_epoch() as f64);
            learner.weight_step(&train_batch, &trained, &config.sgd(), rate)?;

            let (_, gradients) = learner.mixing_gradients(&valid_batch, &even)?;
            let gradients = learner.architecture.choice_gradients(&gradients, f64::INFINITY);
            mixture.observe_gradients(&learner.architecture, &gradients);
            let compared = learner.architecture.draw_paths(candidates, &mut random);
            let mut losses = Vec::new();
            for path in &compared {
                losses.push(learner.try_out(&valid_batch, path)?.mean_loss().unwrap_or_default());
            }
            single.observe_paths(&learner.architecture, &compared, &losses);
            step += 1;
            if step % WINDOW == 0 {
                let line = json!({
                    "step": step,
                    "mixture": chosen(&learner.architecture, &mixture),
                    "paths": chosen(&learner.architecture, &single),
                });
                println!("{line}");
                (mixture, single) = (fresh(&learner), fresh(&learner));
            }
        }
    }
    Ok(())
}

/// A learner, and the images of the steps on weights and on alpha.
fn begin(config: &Config) -> Result<(Learner, Loader, Loader), Box<dyn Error>> {
    let data = Arc::new(jobs::load(config, &mut ())?.train);
    let (train, valid) = stratified_halves(data.labels(), data.classes().len(), 0.5, config.seed);
    let scale = normalization_of(&data, &train)?;
    let loader = |indices: &[usize], stream| {
        let augment: Augment = config.augment.changes(data.height().min(data.width()));
        let (data, scale) = (Arc::clone(&data), scale.clone());
        let seed = 2 * config.seed + stream;
        Loader::new(data, indices.to_vec(), config.search.batch, augment, scale, seed, true)
    };
    let shape = config.network.shape(data.image_shape(), data.classes().len());
    let device = config.device.open()?;
    let engine = Engine::with_precision(&device, config.precision());
    let (space, policy) = (config.space()?, EdgePolicy::Anneal);
    let learner = Learner::new(&shape, &space, policy, engine, &device, config.seed)?;
    Ok((learner, loader(&train, 0)?, loader(&valid, 1)?))
}

/// The cell that the evidence would choose, and how sure it is of each choice.
fn chosen(architecture: &Architecture, evidence: &Evidence) -> serde_json::Value {
    let mut placed = architecture.clone();
    evidence.place_logits(&mut placed);
    let sure: Vec<f64> = evidence
        .sureness(architecture, &architecture.derive().genotype)
        .iter()
        .map(|choice: &Sureness| choice.sure)
        .collect();
    json!({ "cell": placed.derive().genotype.to_string(), "sure": sure })
}
