//! Networks and steps on a graphics card, or what stands in for one (Mesa's lavapipe), against the CPU. They agree up to the rounding of
//! their sums.

use asap::DeviceName;
use asap::search::learner::Learner;
use asap_core::plan::Plan;
use asap_core::{
    Adam, Annealed, EdgePolicy, Family, NetworkShape, PublishedCell, SearchSpace, Stem,
    ThresholdPolicy,
};
use asap_data::Batch;
use asap_net::engine::Engine;
use asap_net::network::Network;
use asap_net::optimizer::Sgd;
use asap_net::parameters::Parameters;
use asap_net::pass::{DropPath, Mode};
use asap_net::steps::{Descent, Score, StepScore, descend, evaluate};
use asap_net::team::Team;
use burn::tensor::Device;

/// The largest deviation, relative to the norm.
const TOLERANCE: f64 = 1e-3;
const SIZE: [usize; 2] = [10, 8];

fn devices() -> [Device; 2] {
    [DeviceName::Cpu, DeviceName::Wgpu].map(|name| name.open().unwrap())
}

fn shape(channels: usize, cells: usize) -> NetworkShape {
    let ([height, width], stem) = (SIZE, Stem::Small);
    NetworkShape { channels, cells, height, width, in_channels: 3, classes: 10, stem }
}

fn batch(number: usize) -> Batch {
    let ([height, width], images) = (SIZE, 8);
    let value = |i: usize| (((i + 31 * number) * 7919) % 1009) as f32 / 504.5 - 1.0;
    Batch {
        images: (0..images * height * width * 3).map(value).collect(),
        labels: (0..images).map(|i| ((i + number) % 10) as u16).collect(),
        shape: [images, height, width, 3],
    }
}

/// A small search network: a software renderer takes seconds for each of its steps.
fn learner(family: Family, device: &Device) -> Learner {
    let space = SearchSpace::new(family, 2, family.candidates().to_vec()).unwrap();
    let engine = Engine::new(device);
    Learner::new(&shape(4, 3), &space, EdgePolicy::Anneal, engine, device, 3).unwrap()
}

fn values(parameters: &Parameters) -> Vec<f64> {
    let tensors = parameters.to_named().into_values();
    tensors.flat_map(|(_, values)| values).map(f64::from).collect()
}

/// The norm of the difference, relative to that of the first.
fn deviation([one, other]: [&[f64]; 2]) -> f64 {
    assert_eq!(one.len(), other.len());
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|n| n * n).sum::<f64>().sqrt();
    norm(&mut one.iter().zip(other).map(|(a, b)| a - b)) / norm(&mut one.iter().copied())
}

fn check(what: &str, numbers: [Vec<f64>; 2]) {
    let found = deviation([&numbers[0], &numbers[1]]);
    eprintln!("{what}: {found:.1e}");
    assert!(found < TOLERANCE, "{what}: expected at most {TOLERANCE}, found {found}");
}

#[test]
fn losses_and_gradients_are_those_of_the_cpu() {
    for family in Family::ALL {
        let run = |device: &Device| {
            let learner = learner(family, device);
            let mixing = learner.mixing(1.3);
            let parameters = &learner.parameters;
            let (score, tables, weights) =
                learner.differentiate(parameters, &batch(0), &mixing, Mode::Weights).unwrap();
            let weights = weights.into_iter().flat_map(|(_, gradient)| {
                gradient.into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>()
            });
            let evaluated = learner.evaluate(&batch(1), &mixing).loss;
            let tables = tables.into_iter().flatten().flatten().collect::<Vec<_>>();
            (vec![score.loss, evaluated], tables, weights.collect::<Vec<_>>())
        };
        let [cpu, gpu] = devices().map(|device| run(&device));
        check(&format!("{family}, losses"), [cpu.0, gpu.0]);
        check(&format!("{family}, gradients of the mixing weights"), [cpu.1, gpu.1]);
        check(&format!("{family}, gradients of the weights"), [cpu.2, gpu.2]);
    }
}

#[test]
fn ten_steps_of_a_search_are_those_of_the_cpu() {
    for family in Family::ALL {
        // An epsilon as large as gradients: without one, Adam's first step is the sign of what may be rounding.
        let adam = Adam { lr: 0.1, epsilon: 1e-2, ..Adam::default() };
        let run = |device: &Device| {
            let mut learner = learner(family, device);
            let mut scores = Vec::new();
            let mut pruned = Vec::new();
            for step in 0..10 {
                let mixing = learner.mixing(0.5);
                scores.push(
                    learner.weight_step(&batch(step), &mixing, &Sgd::default(), 0.025).unwrap(),
                );
                learner.alpha_step(&batch(step + 10), 0.5, &adam).unwrap();
                let threshold = ThresholdPolicy::Fixed { fraction: 0.9 };
                pruned.extend(learner.prune_below(&threshold, 0.5, 0.0));
            }
            let score = StepScore::read_all(scores).unwrap();
            let logits = learner.architecture.operation_logits();
            let alpha = logits.into_iter().flatten().flatten().filter(|a| a.is_finite()).collect();
            (vec![score.loss], alpha, values(&learner.parameters), pruned)
        };
        let [cpu, gpu] = devices().map(|device| run(&device));
        assert_eq!(cpu.3, gpu.3, "the same operations are pruned");
        check(&format!("{family}, sum of the losses"), [cpu.0, gpu.0]);
        check(&format!("{family}, alpha"), [cpu.1, gpu.1]);
        check(&format!("{family}, weights, momentum and statistics"), [cpu.2, gpu.2]);
    }
}

#[test]
fn ten_steps_of_a_training_are_those_of_the_cpu() {
    let cell = PublishedCell::find("ASAP").unwrap().genotype();
    let run = |device: &Device| {
        let plan = Plan::of(&cell.clone().into(), &shape(4, 3), true).unwrap();
        let network = Network::new(plan, Engine::new(device));
        let mut parameters = network.parameters(device, 1);
        let mut scores = Vec::new();
        for step in 0..10 {
            let drop_path = DropPath { probability: 0.2, seed: 1, step: step as u64, first: 0 };
            let descent = Descent {
                drop_path: Some(drop_path),
                label_smoothing: 0.1,
                auxiliary_weight: 0.4,
                ..Descent::plain(Sgd { gradient_clip: 1.0, ..Sgd::default() }, 0.01)
            };
            let team = Team::default();
            let score =
                descend(&network, &mut parameters, &[], &batch(step), &descent, &team).unwrap();
            let waits = matches!(score, StepScore::Read(_));
            assert_eq!(waits, *device == Device::flex(), "only the CPU's score is read at once");
            scores.push(score);
        }
        let Score { loss, .. } = StepScore::read_all(scores).unwrap();
        let evaluated = evaluate(&network, &parameters, &[], &batch(11)).loss;
        (vec![loss, evaluated], values(&parameters))
    };
    let [cpu, gpu] = devices().map(|device| run(&device));
    check("losses", [cpu.0, gpu.0]);
    check("weights, momentum and statistics", [cpu.1, gpu.1]);
}
