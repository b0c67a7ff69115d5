//! A search network in training: which step moves what, and that nothing but what was pruned goes.

use asap::Precision;
use asap::search::learner::Learner;
use asap_core::{
    Adam, Annealed, EdgePolicy, Family, MixingTables, NetworkShape, Pruned, SearchSpace, Stem,
    ThresholdPolicy, search_cost,
};
use asap_data::Batch;
use asap_net::engine::Engine;
use asap_net::optimizer::Sgd;
use asap_net::parameters::{NamedValues, WeightGradients};
use asap_net::pass::Mode;
use asap_net::steps::StepScore;
use burn::tensor::Device;

const SIZE: [usize; 2] = [9, 7];

fn shape(channels: usize, cells: usize) -> NetworkShape {
    let ([height, width], stem) = (SIZE, Stem::Small);
    NetworkShape { channels, cells, height, width, in_channels: 3, classes: 10, stem }
}

fn batch(images: usize) -> Batch {
    let [height, width] = SIZE;
    let count = images * height * width * 3;
    Batch {
        images: (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect(),
        labels: (0..images).map(|i| (i % 10) as u16).collect(),
        shape: [images, height, width, 3],
    }
}

fn fused() -> Engine {
    Engine::new(&Device::flex())
}

fn learner(family: Family, engine: Engine, seed: u64) -> Learner {
    let space = SearchSpace::of(family);
    Learner::new(&shape(4, 3), &space, EdgePolicy::Anneal, engine, &Device::flex(), seed).unwrap()
}

fn weights(learner: &Learner) -> NamedValues {
    learner.parameters.to_named()
}

/// A step on alpha, and what then falls below the threshold.
fn alpha_step(
    learner: &mut Learner,
    batch: &Batch,
    temperature: f64,
    adam: &Adam,
) -> (f64, Vec<Pruned>) {
    let score = learner.alpha_step(batch, temperature, adam).unwrap();
    let threshold = ThresholdPolicy::Fixed { fraction: 0.4 };
    (score.loss, learner.prune_below(&threshold, temperature, 0.0))
}

#[test]
fn a_step_on_the_weights_leaves_alpha_and_the_reverse_to_the_bit() {
    for family in Family::ALL {
        let mut learner = learner(family, fused(), 3);
        let pictures = batch(6);
        let (before, alpha) = (weights(&learner), learner.architecture.clone());
        learner.weight_step(&pictures, &learner.mixing(1.3), &Sgd::default(), 0.025).unwrap();
        assert_eq!(learner.architecture, alpha);
        let after = weights(&learner);
        for (_, parameter) in learner.parameters.iter() {
            let name = &parameter.name;
            assert_ne!(before[name], after[name], "{name} has not moved");
            let momentum = after.contains_key(&format!("{name}:momentum"));
            assert_eq!(momentum, parameter.role.is_trained(), "{name}");
        }

        learner.alpha_step(&pictures, 0.9, &Adam::default()).unwrap();
        let never = ThresholdPolicy::Fixed { fraction: 0.0 };
        assert!(learner.prune_below(&never, 0.9, 0.0).is_empty());
        assert_eq!(weights(&learner), after, "neither weights nor statistics");
        for &kind in family.kinds() {
            for choice in &learner.architecture.cell(kind).operations {
                assert!(choice.logits().iter().all(|&logit| logit != 0.0), "every alpha moves");
            }
        }
    }
}

#[test]
fn pruning_takes_weights_and_momentum_away_and_the_rest_stays_in_step() {
    for family in Family::ALL {
        let mut learner = learner(family, fused(), 5);
        let pictures = batch(6);
        let adam = Adam { lr: 0.5, ..Adam::default() };
        for step in 0..40 {
            learner.weight_step(&pictures, &learner.mixing(0.5), &Sgd::default(), 0.01).unwrap();
            let before = weights(&learner);
            let (_, pruned) = alpha_step(&mut learner, &pictures, 0.5, &adam);
            let after = weights(&learner);
            assert_eq!(after.is_empty(), before.is_empty());
            for (name, values) in &after {
                assert_eq!(&before[name], values, "what is left is as it was");
            }
            let cost = search_cost(&learner.architecture, learner.shape()).unwrap();
            assert_eq!(learner.parameters.weight_count() as u64, cost.params, "step {step}");
            if !pruned.is_empty() {
                check_fresh(family, &learner, &after, &pictures);
            }
        }
        assert!(learner.architecture.sparsity() > 0.5, "the test must have pruned");
    }
}

/// A fresh network brought to the same architecture takes exactly the tensors that are left.
fn check_fresh(family: Family, learner: &Learner, tensors: &NamedValues, pictures: &Batch) {
    let mut fresh = self::learner(family, fused(), 6);
    fresh.network.prune_to(&mut fresh.parameters, &learner.architecture);
    fresh.parameters.load_named(tensors).unwrap();
    fresh.architecture = learner.architecture.clone();
    assert_eq!(fresh.network.plan(), learner.network.plan());
    let score = fresh.evaluate(pictures, &fresh.mixing(0.5));
    assert_eq!(score, learner.evaluate(pictures, &learner.mixing(0.5)), "to the digit");
}

#[test]
fn steps_of_mixed_precision_lose_nearly_as_much_and_inference_is_the_same() {
    for family in Family::ALL {
        let run = |precision| {
            let engine = Engine::with_precision(&Device::flex(), precision);
            let mut learner = learner(family, engine, 8);
            let (pictures, mixing) = (batch(8), learner.mixing(0.3));
            let before = learner.evaluate(&pictures, &mixing).loss;
            let step = |learner: &mut Learner| {
                let score = learner.weight_step(&pictures, &mixing, &Sgd::default(), 0.01);
                score.and_then(StepScore::read).unwrap().loss
            };
            (before, (0..4).map(|_| step(&mut learner)).collect::<Vec<_>>())
        };
        let (exact, mixed) = (run(Precision::F32), run(Precision::Bf16));
        assert_eq!(exact.0, mixed.0);
        assert_ne!(exact.1, mixed.1);
        for (exact, mixed) in exact.1.iter().zip(&mixed.1) {
            assert!((exact - mixed).abs() < 0.02 * exact, "{mixed}, expected {exact}");
        }
    }
}

/// Longer runs part: rounding grows with each step of a network that is still learning fast. And Adam's first step is its rate times
/// the sign of a gradient, which may be all rounding: so both networks move alpha by the gradients of one.
#[test]
fn engines_take_the_same_way() {
    for (family, seed) in
        [Family::Darts, Family::NasBench201].into_iter().flat_map(|f| [(f, 8), (f, 19)])
    {
        let mut both = [fused(), Engine::composed()].map(|engine| learner(family, engine, seed));
        let pictures = batch(8);
        let adam = Adam { lr: 0.3, ..Adam::default() };
        for step in 0..6 {
            let [fast, slow] = both.each_mut().map(|learner| {
                let mixing = learner.mixing(0.3);
                learner.weight_step(&pictures, &mixing, &Sgd::default(), 0.01).unwrap();
                learner.mixing_gradients(&pictures, &learner.mixing(0.3)).unwrap()
            });
            let (one, other) = (fast.0.loss, slow.0.loss);
            assert!((one - other).abs() < 1e-4 * other, "{family} {seed} {step}: {one} {other}");
            let numbers = |tables: &MixingTables| -> Vec<f64> {
                tables.iter().flatten().flatten().copied().collect()
            };
            let largest = numbers(&slow.1).iter().fold(0.0, |most: f64, g| most.max(g.abs()));
            for (one, other) in numbers(&fast.1).iter().zip(numbers(&slow.1)) {
                assert!(
                    (one - other).abs() < 1e-3 * largest,
                    "{family} {seed} {step}: {one} {other}"
                );
            }
            let pruned = both.each_mut().map(|learner| {
                learner.architecture.step(&fast.1, 0.3, &adam);
                learner.prune_below(&ThresholdPolicy::Fixed { fraction: 0.4 }, 0.3, 0.0)
            });
            assert_eq!(pruned[0], pruned[1]);
        }
        assert!(both[0].architecture.sparsity() > 0.5);
        assert_eq!(both[0].architecture.derive(), both[1].architecture.derive());
    }
}

fn host(gradients: WeightGradients) -> Vec<Vec<f32>> {
    gradients.into_iter().map(|(_, g)| g.into_data().iter::<f32>().collect()).collect()
}

#[test]
fn gradients_with_partial_channels_are_those_of_composed_operations_and_of_differences() {
    let space = SearchSpace::default().with_partial(4);
    let [mut learner, composed] = [fused(), Engine::composed()].map(|engine| {
        let policy = EdgePolicy::Normalize;
        Learner::new(&shape(4, 2), &space, policy, engine, &Device::flex(), 3).unwrap()
    });
    let pictures = batch(16);
    for _ in 0..3 {
        learner.weight_step(&pictures, &learner.mixing(1.0), &Sgd::default(), 0.05).unwrap();
    }
    let mixing = learner.mixing(1.0);
    let gradients = |of: &Learner, mode| {
        of.differentiate(&learner.parameters, &pictures, &mixing, mode).unwrap()
    };
    for mode in [Mode::Architecture, Mode::Weights] {
        let (_, fast, fast_weights) = gradients(&learner, mode);
        let (_, slow, slow_weights) = gradients(&composed, mode);
        let flat = |tables: &MixingTables| tables.iter().flatten().flatten().copied().collect();
        let (fast, slow): (Vec<f64>, Vec<f64>) = (flat(&fast), flat(&slow));
        let scale = slow.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        assert!(
            fast.iter().zip(&slow).all(|(f, s)| (f - s).abs() < 1e-4 * scale),
            "{fast:?} {slow:?}"
        );
        let (fast_weights, slow_weights) = (host(fast_weights), host(slow_weights));
        assert_eq!(fast_weights.len(), slow_weights.len());
        for (fast, slow) in fast_weights.iter().zip(&slow_weights) {
            let scale = slow.iter().fold(1e-4_f32, |m, v| m.max(v.abs()));
            assert!(fast.iter().zip(slow).all(|(f, s)| (f - s).abs() < 1e-3 * scale));
        }
    }
    let (_, found, _) = gradients(&learner, Mode::Architecture);
    const H: f64 = 1e-3;
    let (mut error, mut size) = (0.0, 0.0);
    // Of the last cell, a reduction.
    for (edge, candidate) in [(0, 0), (1, 2), (4, 3), (13, 5)] {
        let loss = |by: f64| {
            let mut mixing = mixing.clone();
            mixing[1][edge][candidate] += by;
            let score = learner.mixing_gradients(&pictures, &mixing).unwrap().0;
            score.loss / score.images as f64
        };
        let numeric = (loss(H) - loss(-H)) / (2.0 * H);
        error += (found[1][edge][candidate] - numeric).powi(2);
        size += numeric.powi(2);
    }
    assert!(error.sqrt() < 0.02 * size.sqrt(), "{error} {size}");
}
