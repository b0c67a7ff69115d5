//! The networks: their size, their shapes, and which step moves what.

use asap::Precision;
use asap::search::learner::Learner;
use asap_core::{
    Adam, Architecture, CellGenotype, CellKind, EdgePolicy, Gene, Genotype, NetworkShape,
    Operation, PublishedCell, SearchSpace, Stem, ThresholdPolicy, auxiliary_cost, evaluation_cost,
    search_cost,
};
use asap_data::Batch;
use asap_net::layers::{Candidate, MixedEdge, Norm};
use asap_net::network::Network;
use asap_net::ops;
use asap_net::optimizer::Sgd;
use asap_net::parameters::{NamedValues, Parameters, Role};
use asap_net::pass::{DropPath, Mode, Pass};
use asap_net::supernet::Supernet;
use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;

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

fn images(batch: &Batch) -> Tensor<4> {
    Tensor::from_data(TensorData::new(batch.images.clone(), batch.shape), &Device::flex())
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.without_autodiff().into_data().try_into_vec::<f32>().unwrap()
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
        for (channels, stem) in [(6, Stem::Small), (5, Stem::Large)] {
            let shape = NetworkShape { stem, ..shape(channels, 5, [8, 8]) };
            for auxiliary in [false, true] {
                let (_, parameters) =
                    Network::new(&genotype, &shape, auxiliary, &Device::flex(), 0).unwrap();
                let mut cost = evaluation_cost(&genotype, &shape).unwrap().params;
                if auxiliary {
                    cost += auxiliary_cost(&genotype, &shape).unwrap().params;
                }
                assert_eq!(parameters.weight_count() as u64, cost, "{}, {stem:?}", cell.name);
            }
        }
    }
}

/// A cell of up to six nodes with any operations and any output: of a reduction cell only nodes.
fn cell(kind: CellKind) -> impl Strategy<Value = CellGenotype> {
    let operations: Vec<Operation> = Operation::all().collect();
    let gene = (prop::sample::select(operations), any::<prop::sample::Index>());
    let first = if kind == CellKind::Reduction { 2 } else { 0 };
    let output = prop::collection::vec(any::<prop::sample::Index>(), 1..5);
    (prop::collection::vec([gene.clone(), gene], 1..7), output).prop_map(move |(nodes, output)| {
        let states = 2 + nodes.len();
        let nodes = nodes.into_iter().enumerate().map(|(node, pair)| {
            pair.map(|(operation, input)| Gene { operation, input: input.index(2 + node) })
        });
        let mut concat = Vec::new();
        for state in output.iter().map(|index| first + index.index(states - first)) {
            if !concat.contains(&state) {
                concat.push(state);
            }
        }
        CellGenotype::new(nodes.collect(), concat).unwrap()
    })
}

fn genotype() -> impl Strategy<Value = Genotype> {
    (cell(CellKind::Normal), cell(CellKind::Reduction))
        .prop_map(|(normal, reduce)| Genotype::new(normal, reduce).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_genotype_makes_a_network(
        genotype in genotype(),
        (channels, cells, images_per_batch) in (1..7_usize, 1..5_usize, 1..4_usize),
        size in [1..10_usize, 1..10_usize],
        large in any::<bool>(),
    ) {
        let stem = if large { Stem::Large } else { Stem::Small };
        let shape = NetworkShape { stem, ..shape(channels, cells, size) };
        let (network, parameters) =
            Network::new(&genotype, &shape, true, &Device::flex(), 1).unwrap();
        let cost = evaluation_cost(&genotype, &shape).unwrap().params
            + auxiliary_cost(&genotype, &shape).unwrap().params;
        prop_assert_eq!(parameters.weight_count() as u64, cost);
        let batch = batch(images_per_batch, size);
        for parameters in [parameters.clone(), parameters.without_kernels()] {
            let drop_path = DropPath { probability: 0.3, seed: 1, step: 2 };
            let pass = Pass::new(&parameters, Mode::Weights).with_drop_path(Some(drop_path));
            let logits = network.forward(&pass, images(&batch));
            let auxiliary = logits.auxiliary.unwrap();
            prop_assert_eq!(auxiliary.dims(), [images_per_batch, 10]);
            let mut gradients = (logits.main.sum() + auxiliary.sum()).backward();
            for (id, gradient) in pass.finish(&mut gradients).0 {
                let finite = host(gradient).iter().all(|v| v.is_finite());
                prop_assert!(finite, "{}", parameters.get(id).name);
            }
            let pass = Pass::new(&parameters, Mode::Evaluation);
            let logits = network.forward(&pass, images(&batch));
            prop_assert!(logits.auxiliary.is_none());
            prop_assert_eq!(logits.main.dims(), [images_per_batch, 10]);
            prop_assert!(host(logits.main).iter().all(|v| v.is_finite()));
        }
    }
}

#[test]
fn wide_outputs_and_empty_cells_are_networks_too() {
    let gene = |operation, input| Gene { operation, input };
    let chain = |node| [gene(Operation::SkipConnect, node), gene(Operation::None, node + 1)];
    let wide = CellGenotype::new((0..40).map(chain).collect(), (2..42).collect()).unwrap();
    let nothing = [[gene(Operation::None, 0), gene(Operation::None, 0)]];
    let empty = CellGenotype::new(nothing.to_vec(), vec![2]).unwrap();
    let batch = batch(2, [5, 4]);
    for normal in [wide, empty.clone()] {
        let genotype = Genotype::new(normal, empty.clone()).unwrap();
        let shape = shape(2, 4, [5, 4]);
        let (network, parameters) =
            Network::new(&genotype, &shape, false, &Device::flex(), 1).unwrap();
        for parameters in [parameters.clone(), parameters.without_kernels()] {
            for mode in [Mode::Weights, Mode::Evaluation] {
                let logits = network.forward(&Pass::new(&parameters, mode), images(&batch)).main;
                assert_eq!(logits.dims(), [2, 10]);
                // Nothing of the images comes through a reduction cell of `none`.
                let bias = host(parameters.iter().last().unwrap().1.value.clone());
                assert_eq!(host(logits), [bias.clone(), bias].concat());
            }
        }
    }
}

#[test]
fn what_the_logits_do_not_depend_on_is_not_computed() {
    let gene = |operation, input| Gene { operation, input };
    // Node 0 is read by a `none` only, node 2 by nobody, the cell before the last not at all.
    let nodes = vec![
        [gene(Operation::SepConv3x3, 0), gene(Operation::DilConv3x3, 1)],
        [gene(Operation::SepConv3x3, 0), gene(Operation::None, 2)],
        [gene(Operation::SepConv5x5, 3), gene(Operation::SkipConnect, 1)],
    ];
    let cell = CellGenotype::new(nodes, vec![3]).unwrap();
    let genotype = Genotype::new(cell.clone(), cell).unwrap();
    let (network, mut parameters) =
        Network::new(&genotype, &shape(4, 4, [9, 7]), false, &Device::flex(), 3).unwrap();
    let pass = Pass::new(&parameters, Mode::Weights);
    let logits = network.forward(&pass, images(&batch(4, [9, 7]))).main;
    let (gradients, statistics) = pass.finish(&mut logits.powi_scalar(2).sum().backward());
    statistics.apply(&mut parameters);
    let trained: Vec<&str> =
        gradients.iter().map(|(id, _)| parameters.get(*id).name.as_str()).collect();
    let counts = |name: &str| {
        ["stem.", "head."].iter().any(|prefix| name.starts_with(prefix))
            || ["cells.1.", "cells.3."].iter().any(|prefix| name.starts_with(prefix))
                && [".preprocess0.", ".ops.2."].iter().any(|part| name.contains(part))
    };
    for (_, p) in parameters.iter() {
        let name = p.name.as_str();
        match p.role {
            Role::Weight => assert_eq!(trained.contains(&name), counts(name), "{name}"),
            Role::Buffer => {
                let start = if name.ends_with("running_var") { 1.0 } else { 0.0 };
                let moved = host(p.value.clone()).iter().any(|&v| v != start);
                assert_eq!(moved, counts(name), "{name}");
            }
        }
    }
}

#[test]
fn a_genotype_that_cannot_be_built_is_refused_with_the_place() {
    let asap = PublishedCell::find("ASAP").unwrap().genotype();
    let refused = |change: &dyn Fn(&mut Genotype)| {
        let mut genotype = asap.clone();
        change(&mut genotype);
        let shape = shape(4, 3, [8, 8]);
        Network::new(&genotype, &shape, true, &Device::flex(), 0).unwrap_err().to_string()
    };
    let message = refused(&|g| g.reduce.concat[1] = 0);
    assert!(message.contains("reduction cell, concat: state 0 is an input"), "{message}");
    let message = refused(&|g| g.normal.nodes[1][0].input = 3);
    assert!(message.contains("normal cell, node 1") && message.contains("state 3"), "{message}");
    let message = refused(&|g| g.reduce.concat.clear());
    assert!(message.contains("reduction cell, concat: no states"), "{message}");
}

const DROP_PATH: DropPath = DropPath { probability: 0.3, seed: 11, step: 5 };

/// Logits of both heads and all gradients of one pass over 12 images.
fn dropped(
    network: &Network,
    parameters: &Parameters,
    drop_path: Option<DropPath>,
) -> Vec<(String, Vec<f32>)> {
    let pass = Pass::new(parameters, Mode::Weights).with_drop_path(drop_path);
    let logits = network.forward(&pass, images(&batch(12, [9, 7])));
    let auxiliary = logits.auxiliary.unwrap();
    let mut found = vec![("logits".to_owned(), host(logits.main.clone()))];
    found.push(("auxiliary logits".to_owned(), host(auxiliary.clone())));
    let loss = logits.main.powi_scalar(2).mean() + auxiliary.powi_scalar(2).mean();
    let mut gradients = loss.backward();
    for (id, gradient) in pass.finish(&mut gradients).0 {
        found.push((parameters.get(id).name.clone(), host(gradient)));
    }
    found
}

fn asap_network() -> (Network, Parameters) {
    let genotype = PublishedCell::find("ASAP").unwrap().genotype();
    Network::new(&genotype, &shape(5, 4, [9, 7]), true, &Device::flex(), 3).unwrap()
}

#[test]
fn kernels_and_composed_operations_agree_under_drop_path() {
    let (network, parameters) = asap_network();
    let fast = dropped(&network, &parameters, Some(DROP_PATH));
    let whole = dropped(&network, &parameters, None);
    assert_ne!(fast[0], whole[0], "something must drop out");
    let slow = dropped(&network, &parameters.without_kernels(), Some(DROP_PATH));
    assert_eq!(fast.len(), slow.len());
    for ((name, fast), (other, slow)) in fast.iter().zip(&slow) {
        assert_eq!(name, other);
        let scale = slow.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
        for (f, s) in fast.iter().zip(slow) {
            assert!((f - s).abs() <= 2e-4 * scale, "{name}: {f} on kernels, {s} composed");
        }
    }
}

#[test]
fn drop_path_is_the_same_on_any_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (network, parameters) = asap_network();
            dropped(&network, &parameters, Some(DROP_PATH))
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5), "bit-identical");
}

#[test]
fn drop_path_of_zero_and_in_evaluation_is_none_to_the_bit() {
    let (network, parameters) = asap_network();
    let zero = DropPath { probability: 0.0, ..DROP_PATH };
    assert_eq!(dropped(&network, &parameters, Some(zero)), dropped(&network, &parameters, None));
    let evaluate = |drop_path| {
        let pass = Pass::new(&parameters, Mode::Evaluation).with_drop_path(drop_path);
        host(network.forward(&pass, images(&batch(4, [9, 7]))).main)
    };
    assert_eq!(evaluate(Some(DROP_PATH)), evaluate(None));
}

/// DARTS `drop_path`: x / keep * mask, after the batch norms of the operation and before the sum.
#[test]
fn an_operation_drops_out_image_by_image_and_the_identity_never() {
    let n = 12;
    for operation in Operation::all() {
        for stride in [1, 2] {
            let mut parameters = Parameters::new(Device::flex(), 0);
            let (path, size) = ("cells.0.ops.0".to_owned(), [3, stride]);
            let norm = Norm::Evaluation;
            let candidate = Candidate::new(&mut parameters, &path, (0, operation), size, norm);
            let candidates = vec![candidate];
            let edge = MixedEdge { path, offset: 0, input: 0, stride, candidates };
            let stays =
                operation == Operation::None || operation == Operation::SkipConnect && stride == 1;
            for mut parameters in [parameters.clone(), parameters.without_kernels()] {
                let run = |drop_path, parameters: &mut Parameters| {
                    let pass = Pass::new(parameters, Mode::Weights).with_drop_path(drop_path);
                    let one = Tensor::ones([1], &Device::flex());
                    let x = images(&batch(n, [5, 4])).autodiff().require_grad();
                    let y = ops::mixed_edge(&pass, &edge, &x, &one, None).unwrap();
                    let weights = pass.image_weights(&edge, n);
                    let (_, statistics) = pass.finish(&mut (y.clone().sum() + x.sum()).backward());
                    statistics.apply(parameters);
                    (host(y), weights)
                };
                let mut other = parameters.clone();
                let (whole, _) = run(None, &mut other);
                let (found, weights) = run(Some(DROP_PATH), &mut parameters);
                assert_eq!(weights.is_none(), stays, "{operation} of stride {stride}");
                let weights = weights.unwrap_or(vec![1.0; n]);
                let rest = (1.0 / 0.7_f64) as f32;
                assert!(stays || weights.contains(&0.0) && weights.contains(&rest), "{weights:?}");
                assert!(stays || weights.iter().all(|w| [0.0, rest].contains(w)), "{weights:?}");
                let images = whole.chunks(whole.len() / n).zip(found.chunks(found.len() / n));
                for ((whole, found), weight) in images.zip(&weights) {
                    for (w, f) in whole.iter().zip(found) {
                        assert!((w * weight - f).abs() <= 1e-5 * w.abs().max(1.0), "{w} {f}");
                    }
                }
                assert_eq!(parameters.to_named(), other.to_named(), "statistics know no dropping");
            }
        }
    }
}

#[test]
fn networks_take_any_size_and_any_number_of_channels() {
    for (channels, size) in [(1, [1, 1]), (3, [5, 4]), (5, [17, 3]), (20, [12, 12])] {
        let shape = shape(channels, 5, size);
        let pictures = batch(2, size);
        for cell in ["ASAP", "AmoebaNet", "SNAS_aggressive"] {
            let genotype = PublishedCell::find(cell).unwrap().genotype();
            let (network, parameters) =
                Network::new(&genotype, &shape, false, &Device::flex(), 0).unwrap();
            for mode in [Mode::Weights, Mode::Evaluation] {
                let pass = Pass::new(&parameters, mode);
                let logits = network.forward(&pass, images(&pictures)).main;
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
    learner.weight_step(&pictures, &learner.mixing(1.3), &Sgd::default(), 0.025).unwrap();
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
        learner.weight_step(&pictures, &learner.mixing(0.5), &Sgd::default(), 0.01).unwrap();
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
            let score = fresh.evaluate(&pictures, &fresh.mixing(0.5));
            assert_eq!(score, learner.evaluate(&pictures, &learner.mixing(0.5)), "to the digit");
        }
    }
    assert!(learner.architecture.sparsity() > 0.5, "the test must have pruned");
}

#[test]
fn steps_of_mixed_precision_lose_nearly_as_much_and_inference_is_the_same() {
    let run = |precision| {
        let mut learner = learner(8).with_precision(precision);
        let (pictures, mixing) = (batch(8, [9, 7]), learner.mixing(0.3));
        let before = learner.evaluate(&pictures, &mixing).loss;
        let step = |learner: &mut Learner| {
            learner.weight_step(&pictures, &mixing, &Sgd::default(), 0.01).unwrap().loss
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

/// Longer runs part: rounding grows with each step of a network that is still learning fast.
/// Adam's first step is its rate times the sign of a gradient, so that a gradient that is all rounding sends an alpha
/// either way, and a rate of 0.3 makes that another search: so it goes with about half of all seeds. With these no
/// such gradient comes up.
#[test]
fn kernels_and_composed_operations_take_the_same_way() {
    let run = |kernels: bool, seed: u64| -> (Architecture, Vec<f64>) {
        let mut learner = learner(seed);
        if !kernels {
            learner.parameters = learner.parameters.without_kernels();
        }
        let pictures = batch(8, [9, 7]);
        let adam = Adam { lr: 0.3, ..Adam::default() };
        let policy = ThresholdPolicy::Fixed { fraction: 0.4 };
        let losses = (0..6)
            .map(|_| {
                learner
                    .weight_step(&pictures, &learner.mixing(0.3), &Sgd::default(), 0.01)
                    .unwrap();
                let (score, _) = learner.alpha_step(&pictures, 0.3, &adam, &policy, 0.0).unwrap();
                score.loss
            })
            .collect();
        (learner.architecture, losses)
    };
    for seed in [8, 19, 24] {
        let ((fast, fast_losses), (slow, slow_losses)) = (run(true, seed), run(false, seed));
        for (fast, slow) in fast_losses.iter().zip(&slow_losses) {
            assert!((fast - slow).abs() < 1e-4 * slow.abs(), "{fast_losses:?} {slow_losses:?}");
        }
        assert!(fast.sparsity() > 0.5, "{}", fast.sparsity());
        assert_eq!(fast.derive(), slow.derive());
    }
}

/// The paper's space with partial channels.
fn partial_space() -> SearchSpace {
    SearchSpace::default().with_partial(4)
}

#[test]
fn with_partial_channels_operations_have_the_weights_of_a_part_of_the_channels() {
    let (shape, space) = (shape(8, 3, [9, 7]), partial_space());
    let policy = EdgePolicy::Normalize;
    let learner = Learner::new(&shape, &space, policy, &Device::flex(), 0).unwrap();
    let cost = search_cost(&learner.architecture, &shape).unwrap();
    assert_eq!(learner.parameters.weight_count() as u64, cost.params);
    let whole = Learner::new(&shape, &SearchSpace::default(), policy, &Device::flex(), 0).unwrap();
    assert!(2 * cost.params < whole.parameters.weight_count() as u64);
    let odd = NetworkShape { channels: 6, ..shape };
    let error = Learner::new(&odd, &space, policy, &Device::flex(), 0).err().unwrap().to_string();
    assert!(error.contains("expected a multiple of 4"), "{error}");
}

#[test]
fn the_channels_that_an_edge_does_not_see_pass_by_and_are_shuffled() {
    let mut parameters = Parameters::new(Device::flex(), 0);
    let edge = |parameters: &mut Parameters, input: usize, stride: usize| {
        let operation = (0, Operation::None);
        let candidate = Candidate::new(parameters, "edge", operation, [1, stride], Norm::Search);
        MixedEdge { path: "edge".into(), offset: input, input, stride, candidates: vec![candidate] }
    };
    // 4 channels in 2 parts, an image of 1 x 3 pixels for each of two inputs
    let values = |from: u8| (0..12).map(|i| f32::from(from) + i as f32).collect::<Vec<_>>();
    let state =
        |from| Tensor::from_data(TensorData::new(values(from), [1, 1, 3, 4]), &Device::flex());
    let (a, b): (Tensor<4>, Tensor<4>) = (state(0), state(100));
    let mixing = Tensor::from_floats([0.25, 0.75], &Device::flex());
    for stride in [1, 2] {
        let edges = [edge(&mut parameters, 0, stride), edge(&mut parameters, 1, stride)];
        for parameters in [parameters.clone(), parameters.clone().without_kernels()] {
            let pass = Pass::new(&parameters, Mode::Evaluation);
            let found = ops::partial_node(&pass, edges.iter().zip([&a, &b]), 2, &mixing).unwrap();
            assert_eq!(found.dims(), [1, 1, if stride == 1 { 3 } else { 2 }, 4]);
            // nothing on channels 0 and 1; 0.25 a + 0.75 (a + 100) on 2 and 3, which come to 1 and 3
            let expected = match stride {
                1 => vec![0.0, 77.0, 0.0, 78.0, 0.0, 81.0, 0.0, 82.0, 0.0, 85.0, 0.0, 86.0],
                _ => vec![0.0, 81.0, 0.0, 82.0, 0.0, 85.0, 0.0, 86.0],
            };
            assert_eq!(host(found), expected, "stride {stride}");
        }
    }
}

#[test]
fn gradients_with_partial_channels_are_those_of_composed_operations_and_of_differences() {
    let shape = shape(4, 2, [9, 7]);
    let mut learner =
        Learner::new(&shape, &partial_space(), EdgePolicy::Normalize, &Device::flex(), 3).unwrap();
    let pictures = batch(16, [9, 7]);
    for _ in 0..3 {
        learner.weight_step(&pictures, &learner.mixing(1.0), &Sgd::default(), 0.05).unwrap();
    }
    let mixing = learner.mixing(1.0);
    let gradients = |parameters: &Parameters, mode| {
        learner.differentiate(parameters, &pictures, &mixing, mode).unwrap()
    };
    let composed = learner.parameters.clone().without_kernels();
    for mode in [Mode::Architecture, Mode::Weights] {
        let (_, fast, fast_weights) = gradients(&learner.parameters, mode);
        let (_, slow, slow_weights) = gradients(&composed, mode);
        let flat =
            |tables: &[Vec<Vec<f64>>; 2]| tables.iter().flatten().flatten().copied().collect();
        let (fast, slow): (Vec<f64>, Vec<f64>) = (flat(&fast), flat(&slow));
        let scale = slow.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        assert!(
            fast.iter().zip(&slow).all(|(f, s)| (f - s).abs() < 1e-4 * scale),
            "{fast:?} {slow:?}"
        );
        assert_eq!(fast_weights.len(), slow_weights.len());
        for ((_, fast), (_, slow)) in fast_weights.into_iter().zip(slow_weights) {
            let (fast, slow) = (host(fast), host(slow));
            let scale = slow.iter().fold(1e-4_f32, |m, v| m.max(v.abs()));
            assert!(fast.iter().zip(&slow).all(|(f, s)| (f - s).abs() < 1e-3 * scale));
        }
    }
    let (_, found, _) = gradients(&learner.parameters, Mode::Architecture);
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
