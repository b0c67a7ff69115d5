//! Timings of the steps that search and training run, on made-up images, and of the reading of images.

use std::sync::Arc;
use std::time::Instant;

use asap_core::plan::Plan;
use asap_core::{Adam, Cost, Design, EdgePolicy, NetworkShape, SearchSpace, search_cost};
use asap_data::{Augment, Batch, Loader, Normalization, Splits};
use asap_kernels::Precision;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::memory::peak_rss_mb;
use crate::search::learner::Learner;
use crate::settings::check::check_precision;
use asap_net::device::DeviceName;
use asap_net::engine::Engine;
use asap_net::network::Network;
use asap_net::optimizer::Sgd;
use asap_net::steps::{Descent, NonFinite, StepScore, descend, evaluate};
use asap_net::team::Team;
use asap_net::trained::TrainedNetwork;

/// The network and the steps to time.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchConfig {
    /// The size of the network.
    pub shape: NetworkShape,
    /// Images per step.
    pub batch: usize,
    /// Timed steps of each kind, after one that is not timed.
    pub steps: usize,
    /// The device.
    pub device: DeviceName,
    /// Precision of the CPU in training.
    pub precision: Precision,
}

/// Seconds of the steps, the smallest of those timed; keys as in the output of other tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// `search` or `eval`.
    pub net: String,
    /// Version of asap.
    pub asap: String,
    /// Worker threads.
    pub threads: usize,
    /// Precision of the CPU in training: `f32` or `bf16`.
    pub precision: String,
    /// Images per step.
    pub batch: usize,
    /// Channels C.
    pub channels: usize,
    /// Number of cells.
    pub cells: usize,
    /// Side of an image.
    pub size: usize,
    /// Trained weights.
    pub params: usize,
    /// Multiply-adds of inference on one image.
    pub multiply_adds: u64,
    /// Seconds of a step on the weights.
    pub w_step: f64,
    /// Seconds of a step on alpha; absent for a network that is not searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha_step: Option<f64>,
    /// Seconds of inference on the same batch.
    pub forward: f64,
    /// Images per second in steps on the weights.
    pub w_images_per_s: f64,
    /// Largest resident memory in MiB.
    pub peak_rss_mb: Option<f64>,
}

/// The paper's search: images in each half of CIFAR-10's training set, epochs, and grace epochs.
const PAPER: (f64, f64, f64) = (25_000.0, 50.0, 5.0);

impl Measurement {
    /// Seconds that a search as long as the paper's (50 epochs on 2 x 25,000 images, 5 of them grace) would take at this speed
    /// if nothing were pruned; none for a network that is not searched.
    pub fn paper_search_seconds(&self) -> Option<f64> {
        let (images, epochs, grace) = PAPER;
        let per_image = |seconds: f64| seconds / self.batch as f64;
        let alpha = per_image(self.alpha_step?) * (epochs - grace);
        Some(images * (epochs * (per_image(self.w_step) + per_image(self.forward)) + alpha))
    }
}

/// Times a search network with all operations of `space` alive.
///
/// # Errors
/// If a size is zero, the device is missing, or a loss is not finite.
pub fn search(config: &BenchConfig, space: &SearchSpace) -> Result<Measurement, Error> {
    check_precision(config.device, config.precision)?;
    let device = config.device.open()?;
    let engine = Engine::with_precision(&device, config.precision);
    let mut learner = Learner::new(&config.shape, space, EdgePolicy::Anneal, engine, &device, 0)?;
    let batch = images(&config.shape, config.batch);
    let cost = search_cost(&learner.architecture, &config.shape)?;
    let (temperature, sgd, adam) = (1.3, Sgd::default(), Adam::default());
    let mixing = learner.mixing(temperature);
    let w_step = timed(config.steps, || {
        learner.weight_step(&batch, &mixing, &sgd, 0.025).and_then(StepScore::read).map(drop)
    })
    .map_err(first)?;
    let alpha_step =
        timed(config.steps, || learner.alpha_step(&batch, temperature, &adam).map(drop))
            .map_err(first)?;
    let forward = timed(config.steps, || {
        learner.evaluate(&batch, &mixing);
        Ok::<_, Error>(())
    })?;
    Ok(measurement("search", config, cost, w_step, Some(alpha_step), forward))
}

/// Times the network of a design.
///
/// # Errors
/// If a size is zero, the device is missing, or a loss is not finite.
pub fn evaluation(config: &BenchConfig, design: &Design) -> Result<Measurement, Error> {
    check_precision(config.device, config.precision)?;
    let device = config.device.open()?;
    let plan = Plan::of(design, &config.shape, false)?;
    let cost = plan.cost();
    let network = Network::new(plan, Engine::with_precision(&device, config.precision));
    let mut parameters = network.parameters(&device, 0);
    let batch = images(&config.shape, config.batch);
    let descent = Descent::plain(Sgd::default(), 0.025);
    let w_step = timed(config.steps, || {
        descend(&network, &mut parameters, &[], &batch, &descent, &Team::default())
            .and_then(StepScore::read)
            .map(drop)
    })
    .map_err(first)?;
    let forward = timed(config.steps, || {
        evaluate(&network, &parameters, &[], &batch);
        Ok::<_, Error>(())
    })?;
    Ok(measurement("eval", config, cost, w_step, None, forward))
}

/// Seconds of inference with a trained network, the smallest of those timed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inference {
    /// `predict`.
    pub net: String,
    /// Version of asap.
    pub asap: String,
    /// Worker threads.
    pub threads: usize,
    /// Images per call.
    pub batch: usize,
    /// Height, width and channels of an image.
    pub image: [usize; 3],
    /// Weights.
    pub params: u64,
    /// Multiply-adds on one image.
    pub multiply_adds: u64,
    /// Seconds of a call, from bytes to logits.
    pub forward: f64,
    /// Images per second.
    pub images_per_s: f64,
    /// Largest resident memory in MiB.
    pub peak_rss_mb: Option<f64>,
}

/// Times a trained network on `batch` made-up images.
///
/// # Errors
/// Those of [`TrainedNetwork::logits`].
pub fn prediction(
    network: &TrainedNetwork,
    batch: usize,
    steps: usize,
) -> Result<Inference, Error> {
    let card = network.card();
    let cost = Plan::of(&card.design, &card.shape, false)?.cost();
    let image = network.image_shape();
    let pixels = batch * image.iter().product::<usize>();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let images: Vec<u8> = (0..pixels).map(|_| rng.random()).collect();
    let forward = timed(steps, || network.logits(&images).map(drop))?;
    Ok(Inference {
        net: "predict".to_owned(),
        asap: env!("CARGO_PKG_VERSION").to_owned(),
        threads: rayon::current_num_threads(),
        batch,
        image,
        params: cost.params,
        multiply_adds: cost.multiply_adds,
        forward,
        images_per_s: batch as f64 / forward,
        peak_rss_mb: peak_rss_mb(),
    })
}

/// Seconds of reading a data set, and of an epoch of its batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Images in all parts.
    pub images: usize,
    /// Height, width and channels.
    pub image: [usize; 3],
    /// True if all images are in memory; otherwise a batch reads its own.
    pub in_memory: bool,
    /// Seconds until the data set can be used.
    pub load_seconds: f64,
    /// Images of an epoch: those of the training part.
    pub epoch_images: usize,
    /// Seconds of the first epoch of augmented batches, with nothing else to do.
    pub epoch_seconds: f64,
    /// Largest resident memory in MiB.
    pub peak_rss_mb: Option<f64>,
}

/// Times the reading of a data set, and an epoch of batches of `batch` images, cropped and mirrored as in a search.
///
/// # Errors
/// If an image cannot be read.
pub fn reading<E>(
    load: impl FnOnce() -> Result<Splits, E>,
    batch: usize,
) -> Result<Result<Reading, Error>, E> {
    let started = Instant::now();
    let splits = load()?;
    let load_seconds = started.elapsed().as_secs_f64();
    Ok(epoch_of(splits, batch, load_seconds))
}

fn epoch_of(splits: Splits, batch: usize, load_seconds: f64) -> Result<Reading, Error> {
    let images = splits.parts().map(|(_, data)| data.len()).sum();
    let data = Arc::new(splits.train);
    let image = data.image_shape();
    // Which numbers the bytes become takes no time.
    let normalization = Normalization { mean: vec![0.5; image[2]], std: vec![0.25; image[2]] };
    let pad = Augment::search().pad.min(image[0].min(image[1]).saturating_sub(1));
    let augment = Augment { pad, ..Augment::search() };
    let all = (0..data.len()).collect();
    let loader = Loader::new(data.clone(), all, batch, augment, normalization, 0, true)?;
    let started = Instant::now();
    let mut epoch_images = 0;
    for batch in loader.epoch(0) {
        epoch_images += batch?.labels.len();
    }
    Ok(Reading {
        images,
        image,
        in_memory: data.is_in_memory(),
        load_seconds,
        epoch_images,
        epoch_seconds: started.elapsed().as_secs_f64(),
        peak_rss_mb: peak_rss_mb(),
    })
}

fn measurement(
    net: &str,
    config: &BenchConfig,
    cost: Cost,
    w_step: f64,
    alpha_step: Option<f64>,
    forward: f64,
) -> Measurement {
    Measurement {
        net: net.to_owned(),
        asap: env!("CARGO_PKG_VERSION").to_owned(),
        threads: rayon::current_num_threads(),
        precision: config.precision.to_string(),
        batch: config.batch,
        channels: config.shape.channels,
        cells: config.shape.cells,
        size: config.shape.height,
        params: cost.params as usize,
        multiply_adds: cost.multiply_adds,
        w_step,
        alpha_step,
        forward,
        w_images_per_s: config.batch as f64 / w_step,
        peak_rss_mb: peak_rss_mb(),
    }
}

/// Random images with random labels.
fn images(network: &NetworkShape, batch: usize) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let shape = [batch, network.height, network.width, network.in_channels];
    let images = (0..shape.iter().product()).map(|_| rng.random_range(-1.7..1.7)).collect();
    let labels = (0..batch).map(|_| rng.random_range(0..network.classes as u16)).collect();
    Batch { images, labels, shape }
}

fn first(error: NonFinite) -> Error {
    Error::non_finite(error, 0, 0)
}

/// Seconds of the fastest of `steps` steps, after one that is not timed.
fn timed<E>(steps: usize, mut step: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    step()?;
    let mut fastest = f64::INFINITY;
    for _ in 0..steps.max(1) {
        let started = Instant::now();
        step()?;
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    Ok(fastest)
}
