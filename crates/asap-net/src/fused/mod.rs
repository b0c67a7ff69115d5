//! The layers on our own CPU kernels: Burn operations with hand-written forwards and backwards.
//!
//! One operation is a whole mixed edge (or a layer outside the nodes, which is an edge of one
//! operation): what it keeps for the backward are the raw results of its convolutions. A step on
//! alpha computes no gradient of a weight, and a step on the weights none of a mixing weight.

mod graph;
mod join;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use asap_core::Operation;
use asap_kernels::{
    Edge, EdgeSpec, Images, Mixing as KernelMixing, Needs, OpKind, OpParams, Prepared, Running,
    Saved, Target, buffers,
};
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};

use self::graph::{
    AutodiffTensor, PARENTS, contiguous, finish, flat, flex, guards, owned, recycle, tape, values,
};
pub(crate) use self::join::{MAX_CONCAT, concat, global_pool};
use crate::layers::{BatchNorm, Body, Candidate, Conv3x3Bn, MixedEdge, Preprocess, ReluConvBn};
use crate::ops::Mixing;
use crate::parameters::ParameterId;
use crate::pass::{Mode, Pass};

/// Edges made ready for inference, to be used again as long as parameters and mixing weights stay as they are.
#[derive(Debug, Default)]
pub(crate) struct PreparedEdges(Mutex<HashMap<EdgeKey, Arc<Prepared>>>);

/// An edge, its parameters, the size of its images, and the bits of its mixing weights.
type EdgeKey = (EdgeSpec, Vec<ParameterId>, [usize; 2], Vec<u32>);

impl PreparedEdges {
    /// The edge of `key`. Two threads may make it at once: none waits for another, which could be waiting for it.
    fn get(&self, key: EdgeKey, prepare: impl FnOnce() -> Prepared) -> Arc<Prepared> {
        let edges = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = edges().get(&key).cloned();
        found.unwrap_or_else(|| {
            let prepared = Arc::new(prepare());
            edges().insert(key, prepared.clone());
            prepared
        })
    }
}

/// One operation of an edge, and the parameters that it owns in the order of the kernels.
struct KernelOp<'a> {
    kind: OpKind,
    convs: Vec<ParameterId>,
    norms: Vec<&'a BatchNorm>,
}

impl<'a> KernelOp<'a> {
    /// Nothing for `none`, which adds zero.
    fn of(candidate: &'a Candidate) -> Option<Self> {
        let kind = match candidate.operation {
            Operation::None => return None,
            Operation::MaxPool3x3 => OpKind::MaxPool3x3,
            Operation::AvgPool3x3 => OpKind::AvgPool3x3,
            Operation::SkipConnect => OpKind::SkipConnect,
            Operation::SepConv3x3 => OpKind::SepConv3x3,
            Operation::SepConv5x5 => OpKind::SepConv5x5,
            Operation::SepConv7x7 => OpKind::SepConv7x7,
            Operation::DilConv3x3 => OpKind::DilConv3x3,
            Operation::DilConv5x5 => OpKind::DilConv5x5,
            Operation::Conv7x1Then1x7 => OpKind::Conv7x1Conv1x7,
        };
        let (convs, norms) = match &candidate.body {
            Body::Zero | Body::Identity => (vec![], vec![]),
            Body::Reduce(layer) => (vec![layer.conv_a, layer.conv_b], vec![&layer.bn]),
            Body::MaxPool(bn) | Body::AvgPool(bn) => (vec![], bn.iter().collect()),
            Body::Separable(halves) => (
                halves.iter().flat_map(|half| [half.depthwise, half.pointwise]).collect(),
                halves.iter().map(|half| &half.bn).collect(),
            ),
            Body::Conv7x1Then1x7 { conv_1x7, conv_7x1, bn } => {
                (vec![*conv_1x7, *conv_7x1], vec![bn])
            }
        };
        Some(Self { kind, convs, norms })
    }
}

/// See [`crate::ops::reclaim`].
pub(crate) fn reclaim(maps: impl Iterator<Item = Tensor<4>>) {
    maps.map(flex).for_each(recycle);
}

/// A mixed edge; see [`crate::ops::mixed_edge`].
pub(crate) fn mixed_edge(
    pass: &Pass,
    edge: &MixedEdge,
    x: &Tensor<4>,
    mixing: &Mixing,
    partial: Option<Tensor<4>>,
) -> Option<Tensor<4>> {
    let channels = x.dims()[3];
    // A weight of 0 that nobody wants the gradient of: the operation is not run.
    let constant = (!mixing.is_require_grad()).then(|| flex(mixing.clone()));
    let counts = |at: usize| constant.as_ref().is_none_or(|weights| values(weights)[at] != 0.0);
    let (mut at, mut ops) = (Vec::new(), Vec::new());
    for candidate in &edge.candidates {
        let place = edge.offset + candidate.index;
        if let Some(op) = KernelOp::of(candidate).filter(|_| counts(place)) {
            at.push(place);
            ops.push(op);
        }
    }
    if ops.is_empty() && (partial.is_some() || edge.candidates.is_empty()) {
        return partial;
    }
    let pool_norm = ops.iter().any(|op| op.convs.is_empty() && !op.norms.is_empty());
    let kinds = ops.iter().map(|op| op.kind).collect();
    let spec = EdgeSpec { pool_norm, ..EdgeSpec::mixed(channels, edge.stride, kinds) };
    let image_weights = pass.image_weights(edge, x.dims()[0]);
    let sum = Sum { mixing: Some((mixing, at)), image_weights, partial };
    Some(run(pass, spec, &ops, x.clone(), sum))
}

/// The preprocess of a cell's input.
pub(crate) fn preprocess(pass: &Pass, layer: &Preprocess, x: Tensor<4>) -> Tensor<4> {
    let c_in = x.dims()[3];
    let (kind, stride, convs, bn) = match layer {
        Preprocess::Conv(ReluConvBn { conv, bn }) => (OpKind::ReluConv1x1, 1, vec![*conv], bn),
        Preprocess::Reduce(layer) => {
            (OpKind::FactorizedReduce, 2, vec![layer.conv_a, layer.conv_b], &layer.bn)
        }
    };
    layer_of(pass, kind, [c_in, stride], convs, bn, x)
}

/// A step of a stem.
pub(crate) fn conv3x3(pass: &Pass, layer: &Conv3x3Bn, x: Tensor<4>) -> Tensor<4> {
    let kind = if layer.relu { OpKind::ReluConv3x3 } else { OpKind::Conv3x3 };
    let size = [x.dims()[3], layer.stride];
    layer_of(pass, kind, size, vec![layer.conv], &layer.bn, x)
}

fn layer_of(
    pass: &Pass,
    kind: OpKind,
    [c_in, stride]: [usize; 2],
    convs: Vec<ParameterId>,
    bn: &BatchNorm,
    x: Tensor<4>,
) -> Tensor<4> {
    let spec = EdgeSpec::layer(c_in, pass.len(bn.mean), stride, kind);
    let sum = Sum { mixing: None, image_weights: None, partial: None };
    run(pass, spec, &[KernelOp { kind, convs, norms: vec![bn] }], x, sum)
}

/// How the operations of an edge are summed.
struct Sum<'a> {
    /// The table of mixing weights, and where those of the operations stand in it.
    mixing: Option<(&'a Mixing, Vec<usize>)>,
    /// Of drop-path.
    image_weights: Option<Vec<f32>>,
    /// What the node has so far.
    partial: Option<Tensor<4>>,
}

/// An edge in the mode of the pass.
fn run(pass: &Pass, spec: EdgeSpec, ops: &[KernelOp<'_>], x: Tensor<4>, sum: Sum<'_>) -> Tensor<4> {
    let edge = Edge::new(spec).expect("the network is built of edges that kernels know");
    if pass.mode() == Mode::Evaluation {
        infer(pass, &edge, ops, x, sum)
    } else {
        train(pass, edge.with_precision(pass.precision()), ops, x, sum)
    }
}

fn infer(pass: &Pass, edge: &Edge, ops: &[KernelOp<'_>], x: Tensor<4>, sum: Sum<'_>) -> Tensor<4> {
    let Sum { mixing, image_weights: _, partial } = sum;
    let mixing = mixing.map(|(mixing, at)| (flex(mixing.clone()), at));
    let weights = mixing_values(mixing.as_ref().map(|(tensor, at)| (tensor, at.as_slice())));
    let x = flex(x);
    let images = images(&x);
    let size = [images.h, images.w];
    let prepared = match pass.prepared_edges() {
        Some(edges) => {
            let ids = ops.iter().flat_map(|op| {
                op.convs.iter().copied().chain(op.norms.iter().map(|norm| norm.mean))
            });
            let bits = weights.iter().map(|weight| weight.to_bits()).collect();
            let key = (edge.spec().clone(), ids.collect(), size, bits);
            edges.get(key, || prepare(pass, edge, ops, size, &weights))
        }
        None => Arc::new(prepare(pass, edge, ops, size, &weights)),
    };
    let (mut out, add) = sum_buffer(edge, images, partial.map(flex));
    prepared.run(images, target(&mut out, add)).expect("shapes follow from the network");
    recycle(x);
    Tensor::from_primitive::<Flex>(out)
}

fn prepare(
    pass: &Pass,
    edge: &Edge,
    ops: &[KernelOp<'_>],
    size: [usize; 2],
    weights: &[f32],
) -> Prepared {
    let owned = |id: &ParameterId| flex(pass.flat(*id));
    let convs: Vec<Vec<FlexTensor>> =
        ops.iter().map(|op| op.convs.iter().map(owned).collect()).collect();
    let affine: Vec<Vec<(FlexTensor, FlexTensor)>> = ops
        .iter()
        .map(|op| {
            let affine = op.norms.iter().filter_map(|bn| bn.affine.as_ref());
            affine.map(|(gamma, beta)| (owned(gamma), owned(beta))).collect()
        })
        .collect();
    let running: Vec<Vec<(FlexTensor, FlexTensor)>> = ops
        .iter()
        .map(|op| op.norms.iter().map(|bn| (owned(&bn.mean), owned(&bn.variance))).collect())
        .collect();
    let views: Vec<Vec<Running<'_>>> = running
        .iter()
        .map(|norms| {
            norms
                .iter()
                .map(|(mean, var)| Running { mean: values(mean), var: values(var) })
                .collect()
        })
        .collect();
    edge.prepare(size, &params(&convs, &affine), &views, weights)
        .expect("shapes follow from the network")
}

fn train(pass: &Pass, edge: Edge, ops: &[KernelOp<'_>], x: Tensor<4>, sum: Sum<'_>) -> Tensor<4> {
    let Sum { mixing, image_weights, partial } = sum;
    let x = tape(x);
    let partial = partial.map(tape);
    let (mixing, at) = match mixing {
        Some((mixing, at)) => (Some(tape(mixing.clone())), at),
        None => (None, Vec::new()),
    };
    let weights = mixing_values(mixing.as_ref().map(|m| (m.primitive(), at.as_slice())));
    let tracked: Vec<AutodiffTensor> = ops
        .iter()
        .flat_map(|op| {
            let affine = op.norms.iter().filter_map(|bn| bn.affine).flat_map(<[_; 2]>::from);
            op.convs.iter().copied().chain(affine)
        })
        .map(|id| tape(pass.flat(id)))
        .collect();
    let guards = guards([Some(&x), partial.as_ref(), mixing.as_ref()], &tracked);
    let (mut convs, mut affine) = (Vec::new(), Vec::new());
    let mut owned = tracked.iter().map(|tensor| tensor.primitive().clone());
    let mut next = || owned.next().expect("as many as were taken above");
    for op in ops {
        convs.push(op.convs.iter().map(|_| next()).collect::<Vec<_>>());
        let norms = op.norms.iter().filter(|bn| bn.affine.is_some());
        affine.push(norms.map(|_| (next(), next())).collect::<Vec<_>>());
    }
    let map = contiguous(x.primitive().clone());
    let images = images(&map);
    let (mut out, add) = sum_buffer(&edge, images, partial.map(AutodiffTensor::into_primitive));
    let sum = KernelMixing { weights: &weights, image_weights: image_weights.as_deref() };
    let saved = edge
        .forward(images, &params(&convs, &affine), sum, target(&mut out, add))
        .expect("shapes follow from the network");
    for (op, stats) in ops.iter().zip(saved.stats()) {
        for (bn, stats) in op.norms.iter().zip(stats) {
            pass.observe_host(bn, &stats.mean, &stats.var, stats.count);
        }
    }
    let table = mixing.map_or(0, |mixing| values(mixing.primitive()).len());
    let state = EdgeState { input: x, x: map, weights, image_weights, at, table, saved };
    finish(EdgeBackward, guards, Arc::new(state), out)
}

/// What the backward of an edge needs of its forward.
#[derive(Debug)]
struct EdgeState {
    /// The feature map as the graph has it: the way to the gradient that other edges gave it already.
    /// A step is always taken backwards, so that this reference keeps no graph alive.
    input: AutodiffTensor,
    /// Its values.
    x: FlexTensor,
    weights: Vec<f32>,
    /// Of drop-path.
    image_weights: Option<Vec<f32>>,
    /// Where the mixing weights stand in their table, and the table's length.
    at: Vec<usize>,
    table: usize,
    saved: Saved,
}

#[derive(Debug)]
struct EdgeBackward;

impl Backward<Flex, PARENTS> for EdgeBackward {
    type State = Arc<EdgeState>;

    fn backward(
        self,
        ops: Ops<Self::State, PARENTS>,
        gradients: &mut Gradients,
        _: &mut Checkpointer,
    ) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let state = ops.state;
        let [x, partial, mixing, parameters @ ..] = ops.parents;
        let from_store = x.is_some();
        let needs =
            Needs { weights: parameters.iter().any(Option::is_some), mixing: mixing.is_some() };
        let shape = state.x.layout().shape().clone();
        // What other edges gave the feature map is added to, not copied.
        let given = x.as_ref().and_then(|_| gradients.remove::<Flex>(&state.input));
        let add = given.is_some();
        let mut dx = x.as_ref().map(|_| match given {
            Some(given) => contiguous(given),
            None => owned(buffers::take(shape.num_elements()), shape),
        });
        let image_weights = state.image_weights.as_deref();
        let mixing_weights = KernelMixing { weights: &state.weights, image_weights };
        let dx_target = dx.as_mut().map(|dx| target(dx, add));
        let computed = state
            .saved
            .backward(images(&state.x), mixing_weights, values(&gradient), needs, dx_target)
            .expect("shapes are those of the forward");
        if let (Some(node), Some(dx)) = (x, dx) {
            gradients.register::<Flex>(node.id, dx);
        }
        if let Some(node) = mixing {
            let mut table = vec![0.0; state.table];
            state.at.iter().zip(computed.mixing).for_each(|(&at, gradient)| table[at] = gradient);
            gradients.register::<Flex>(node.id, flat(table));
        }
        let by_parameter = computed.ops.into_iter().flat_map(|op| {
            let affine = op.affine.into_iter().flat_map(|(gamma, beta)| [gamma, beta]);
            op.convs.into_iter().chain(affine)
        });
        for (node, values) in parameters.into_iter().zip(by_parameter) {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, flat(values));
            }
        }
        match partial {
            Some(node) => gradients.register::<Flex>(node.id, gradient),
            None => recycle(gradient),
        }
        if let Ok(state) = Arc::try_unwrap(state) {
            drop(state.input);
            // A map without a gradient is the batch's images, which nobody takes from the store again.
            if from_store {
                recycle(state.x);
            }
        }
    }
}

fn images(x: &FlexTensor) -> Images<'_> {
    let shape = x.layout().shape();
    Images::new(values(x), shape[0], shape[1], shape[2], shape[3])
}

fn params<'a>(
    convs: &'a [Vec<FlexTensor>],
    affine: &'a [Vec<(FlexTensor, FlexTensor)>],
) -> Vec<OpParams<'a>> {
    convs
        .iter()
        .zip(affine)
        .map(|(convs, affine)| OpParams {
            convs: convs.iter().map(values).collect(),
            affine: affine.iter().map(|(gamma, beta)| (values(gamma), values(beta))).collect(),
        })
        .collect()
}

/// The mixing weights of an edge's operations; 1 for a layer that is no mixed edge.
fn mixing_values(mixing: Option<(&FlexTensor, &[usize])>) -> Vec<f32> {
    match mixing {
        Some((table, at)) => at.iter().map(|&at| values(table)[at]).collect(),
        None => vec![1.0],
    }
}

/// Where the sum of an edge goes, and whether there is something in it already.
fn sum_buffer(edge: &Edge, x: Images<'_>, partial: Option<FlexTensor>) -> (FlexTensor, bool) {
    if let Some(partial) = partial {
        return (contiguous(partial), true);
    }
    let (h, w) = edge.spec().output_size(x.h, x.w);
    let shape = Shape::from([x.n, h, w, edge.spec().cout]);
    (owned(buffers::take(shape.num_elements()), shape), false)
}

fn target(out: &mut FlexTensor, add: bool) -> Target<'_> {
    let slice = out.storage_mut::<f32>();
    if add { Target::Add(slice) } else { Target::Write(slice) }
}
