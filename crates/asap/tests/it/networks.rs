//! The networks: their size, their shapes, and which step moves what.

use asap::network::Network;
use asap::optimizer::Sgd;
use asap::parameters::{NamedValues, Role};
use asap::pass::{Mode, Pass};
use asap::steps::Learner;
use asap::supernet::Supernet;
use asap_core::{
    Adam, Architecture, CellKind, EdgePolicy, NetworkShape, PublishedCell, SearchSpace, Stem,
    ThresholdPolicy, evaluation_cost, search_cost,
};
use asap_data::Batch;
use burn::tensor::{Device, Tensor};

fn shape(channels: usize, cells: usize, [height, width]: [usize; 2]) -> NetworkShape {
    let (in_channels, classes, stem) = (3, 10, Stem::Small);
    NetworkShape { channels, cells, height, width, in_channels, classes, stem }
}

fn batch(images: usize, [height, width]: [usize; 2]) -> Batch {
    let count = images * height * width * 3;
    Batch {
        images: (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect(),
        labels: (0..images).map(|i| (i % 10) as u16).collect(),
        shape: [images, height, width, 3],
    }
}

fn learner(seed: u64) -> Learner {
    let space = SearchSpace::default();
    let shape = shape(4, 3, [9, 7]);
    Learner::new(&shape, &space, EdgePolicy::Anneal, &Device::flex(), seed).unwrap()
}

fn weights(learner: &Learner) -> NamedValues {
    learner.parameters.to_named()
}

#[test]
fn the_search_network_has_the_published_number_of_weights() {
    let shape = shape(16, 8, [32, 32]);
    let (_, parameters) =
        Supernet::new(&shape, &SearchSpace::default(), &Device::flex(), 0).unwrap();
    assert_eq!(parameters.weight_count(), 1_930_618);
}

#[test]
fn built_networks_have_exactly_the_weights_that_the_cost_counts() {
    for cell in PublishedCell::all() {
        let genotype = cell.genotype();
        let shape = shape(6, 5, [8, 8]);
        let (_, parameters) = Network::new(&genotype, &shape, false, &Device::flex(), 0).unwrap();
        let cost = evaluation_cost(&genotype, &shape).unwrap();
        assert_eq!(parameters.weight_count() as u64, cost.params, "{}", cell.name);
    }
}

#[test]
fn networks_take_any_size_and_any_number_of_channels() {
    for (channels, size) in [(1, [1, 1]), (3, [5, 4]), (5, [17, 3]), (20, [12, 12])] {
        let shape = shape(channels, 5, size);
        let pictures = batch(2, size);
        let images = || {
            let data = burn::tensor::TensorData::new(pictures.images.clone(), pictures.shape);
            Tensor::<4>::from_data(data, &Device::flex())
        };
        for cell in ["ASAP", "AmoebaNet", "SNAS_aggressive"] {
            let genotype = PublishedCell::find(cell).unwrap().genotype();
            let (network, parameters) =
                Network::new(&genotype, &shape, false, &Device::flex(), 0).unwrap();
            for mode in [Mode::Weights, Mode::Evaluation] {
                let pass = Pass::new(&parameters, mode);
                let logits = network.forward(&pass, images()).main;
                assert_eq!(logits.dims(), [2, 10], "{cell} at {channels} channels, {size:?}");
                let finite = logits.into_data().iter::<f32>().all(|v| v.is_finite());
                assert!(finite, "{cell} at {channels} channels, {size:?}");
            }
        }
    }
    let none = NetworkShape { classes: 0, ..shape(4, 3, [8, 8]) };
    let error = Supernet::new(&none, &SearchSpace::default(), &Device::flex(), 0).unwrap_err();
    assert!(error.to_string().contains("classes"), "{error}");
}

#[test]
fn a_step_on_the_weights_leaves_alpha_and_the_reverse_to_the_bit() {
    let mut learner = learner(3);
    let pictures = batch(6, [9, 7]);
    let (before, alpha) = (weights(&learner), learner.architecture.clone());
    learner.weight_step(&pictures, 1.3, &Sgd::default(), 0.025).unwrap();
    assert_eq!(learner.architecture, alpha);
    let after = weights(&learner);
    for (_, parameter) in learner.parameters.iter() {
        let name = &parameter.name;
        assert_ne!(before[name], after[name], "{name} has not moved");
        let momentum = after.contains_key(&format!("{name}:momentum"));
        assert_eq!(momentum, parameter.role == Role::Weight, "{name}");
    }

    let never = ThresholdPolicy::Fixed { fraction: 0.0 };
    let (_, pruned) = learner.alpha_step(&pictures, 0.9, &Adam::default(), &never, 0.0).unwrap();
    assert!(pruned.is_empty());
    assert_eq!(weights(&learner), after, "neither weights nor statistics");
    for kind in CellKind::ALL {
        for choice in &learner.architecture.cell(kind).operations {
            assert!(choice.logits().iter().all(|&logit| logit != 0.0), "every alpha moves");
        }
    }
}

#[test]
fn pruning_takes_weights_and_momentum_away_and_the_rest_stays_in_step() {
    let mut learner = learner(5);
    let pictures = batch(6, [9, 7]);
    let adam = Adam { lr: 0.5, ..Adam::default() };
    let policy = ThresholdPolicy::Fixed { fraction: 0.4 };
    let shape = shape(4, 3, [9, 7]);
    for step in 0..40 {
        learner.weight_step(&pictures, 0.5, &Sgd::default(), 0.01).unwrap();
        let before = weights(&learner);
        let (_, pruned) = learner.alpha_step(&pictures, 0.5, &adam, &policy, 0.0).unwrap();
        let after = weights(&learner);
        assert_eq!(after.is_empty(), before.is_empty());
        for (name, values) in &after {
            assert_eq!(&before[name], values, "what is left is as it was");
        }
        let cost = search_cost(&learner.architecture, &shape).unwrap();
        assert_eq!(learner.parameters.weight_count() as u64, cost.params, "step {step}");

        // A fresh network brought to the same architecture takes exactly the tensors that are left.
        if !pruned.is_empty() {
            let mut fresh = self::learner(6);
            fresh.supernet.prune_to(&mut fresh.parameters, &learner.architecture);
            fresh.parameters.load_named(&after).unwrap();
            fresh.architecture = learner.architecture.clone();
            let score = fresh.evaluate(&pictures, 0.5);
            assert_eq!(score, learner.evaluate(&pictures, 0.5), "to the digit");
        }
    }
    assert!(learner.architecture.sparsity() > 0.5, "the test must have pruned");
}

/// Longer runs part: rounding grows with each step of a network that is still learning fast.
#[test]
fn kernels_and_composed_operations_take_the_same_way() {
    let run = |kernels: bool| -> (Architecture, Vec<f64>) {
        let mut learner = learner(7);
        if !kernels {
            learner.parameters = learner.parameters.without_kernels();
        }
        let pictures = batch(8, [9, 7]);
        let adam = Adam { lr: 0.3, ..Adam::default() };
        let policy = ThresholdPolicy::Fixed { fraction: 0.4 };
        let losses = (0..6)
            .map(|_| {
                learner.weight_step(&pictures, 0.3, &Sgd::default(), 0.01).unwrap();
                let (score, _) = learner.alpha_step(&pictures, 0.3, &adam, &policy, 0.0).unwrap();
                score.loss
            })
            .collect();
        (learner.architecture, losses)
    };
    let ((fast, fast_losses), (slow, slow_losses)) = (run(true), run(false));
    for (fast, slow) in fast_losses.iter().zip(&slow_losses) {
        assert!((fast - slow).abs() < 1e-4 * slow.abs(), "{fast_losses:?} {slow_losses:?}");
    }
    assert!(fast.sparsity() > 0.5, "{}", fast.sparsity());
    assert_eq!(fast.derive(), slow.derive());
}
