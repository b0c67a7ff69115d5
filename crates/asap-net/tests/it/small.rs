//! Small networks, images for them, and their numbers.

use asap_core::plan::{Body, Map, MixedEdge, Node, Norms, Plan};
use asap_core::{CellKind, Design, Family, Genotype, NetworkShape, Operation, PublishedCell, Stem};
use asap_net::engine::{Engine, Mixing};
use asap_net::network::Network;
use asap_net::parameters::Parameters;
use asap_net::pass::{DropPath, Mode, Pass};
use burn::tensor::{Device, Tensor, TensorData};

pub(crate) const CLASSES: usize = 10;

/// A NAS-Bench-201 cell with each operation, `none` among them.
pub(crate) const NAS_BENCH_201: &str =
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";

pub(crate) fn shape(channels: usize, cells: usize, [height, width]: [usize; 2]) -> NetworkShape {
    let (in_channels, classes, stem) = (3, CLASSES, Stem::Small);
    NetworkShape { channels, cells, height, width, in_channels, classes, stem }
}

pub(crate) fn published(cell: &str) -> Genotype {
    PublishedCell::find(cell).unwrap().genotype()
}

pub(crate) fn plain(network: &str) -> Design {
    Design::Plain(network.parse().unwrap())
}

pub(crate) fn images(images: usize, [height, width]: [usize; 2]) -> Tensor<4> {
    let value = |i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0;
    let values: Vec<f32> = (0..images * height * width * 3).map(value).collect();
    Tensor::from_data(TensorData::new(values, [images, height, width, 3]), &Device::flex())
}

pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.without_autodiff().into_data().try_into_vec::<f32>().unwrap()
}

/// The fused and the composed engine.
pub(crate) fn engines() -> [Engine; 2] {
    [Engine::new(&Device::flex()), Engine::composed()]
}

/// A network of a plan with fresh weights on each of [`engines`].
pub(crate) fn networks(plan: &Plan, seed: u64) -> [(Network, Parameters); 2] {
    engines().map(|engine| {
        let network = Network::new(plan.clone(), engine);
        let parameters = network.parameters(&Device::flex(), seed);
        (network, parameters)
    })
}

pub(crate) fn evaluate(
    network: &Network,
    parameters: &Parameters,
    images: Tensor<4>,
    mixing: &[Mixing],
) -> Vec<f32> {
    host(network.forward(&Pass::new(parameters, Mode::Evaluation), images, mixing).main)
}

/// Named numbers.
pub(crate) type Named = Vec<(String, Vec<f32>)>;

/// Logits of every head, and the gradients of the mean of their squares for the weights.
pub(crate) fn weight_pass(
    network: &Network,
    parameters: &Parameters,
    images: Tensor<4>,
    mixing: &[Mixing],
    drop_path: Option<DropPath>,
) -> Named {
    let pass = Pass::new(parameters, Mode::Weights).with_drop_path(drop_path);
    let logits = network.forward(&pass, images, mixing);
    let mut found = vec![("logits".to_owned(), host(logits.main.clone()))];
    let mut loss = logits.main.powi_scalar(2).mean();
    if let Some(auxiliary) = logits.auxiliary {
        found.push(("auxiliary logits".to_owned(), host(auxiliary.clone())));
        loss = loss + auxiliary.powi_scalar(2).mean();
    }
    for (id, gradient) in pass.finish(&mut loss.backward()).0 {
        found.push((parameters.get(id).name.clone(), host(gradient)));
    }
    found
}

/// Every tensor within `tolerance`, relative to its largest element. Behind a node of zeros the composed engine has no
/// gradients, and the fused one zeros.
pub(crate) fn assert_alike(what: &str, fused: &Named, composed: &Named, tolerance: f32) {
    let size = |values: &[f32]| values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    // What is all rounding beside the rest has no scale of its own.
    let floor = 1e-3 * composed.iter().map(|(_, values)| size(values)).fold(0.0, f32::max);
    let mut composed = composed.iter().peekable();
    for (name, fused) in fused {
        let Some((_, composed)) = composed.next_if(|(other, _)| other == name) else {
            assert!(fused.iter().all(|&f| f == 0.0), "{what}, {name}: missing when composed");
            continue;
        };
        assert_eq!(fused.len(), composed.len(), "{what}, {name}");
        let scale = size(composed).max(floor);
        for (f, c) in fused.iter().zip(composed) {
            assert!((f - c).abs() <= tolerance * scale, "{what}, {name}: {f} fused, {c} composed");
        }
    }
    assert_eq!(composed.next(), None, "{what}");
}

/// A plan of a node of one edge with one operation, on images of 3 channels.
pub(crate) fn operation(operation: Operation, stride: usize, [height, width]: [usize; 2]) -> Plan {
    let map = Map { channels: 3, height, width };
    let mut plan = Plan::of_images(Family::Darts, map);
    let norms = Norms { affine: true, after_pool: false };
    let name = "cells.0.ops.0".to_owned();
    let candidate = plan.candidate((0, operation), name.clone(), map, stride, norms);
    let candidates = vec![candidate];
    let edge = MixedEdge { name, input: 0, stride, row: None, columns: 1, candidates };
    let node = Node { kind: CellKind::Normal, edges: vec![edge], partial: 1 };
    plan.logits = plan.layer("node".to_owned(), map.strided(stride), Body::Node(node));
    plan
}
