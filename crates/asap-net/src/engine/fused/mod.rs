//! The layers on our own CPU kernels: Burn operations with hand-written forwards and backwards.
//!
//! One operation is a whole mixed edge (or a layer outside the nodes, which is an edge of one
//! operation): what it keeps for the backward are the raw results of its convolutions. A step on
//! alpha computes no gradient of a weight, and a step on the weights none of a mixing weight.

mod graph;
mod join;
mod prepared;

use std::sync::Arc;

use asap_core::Operation;
use asap_core::plan::{MixedEdge, Primitive, Step};
use asap_kernels::{
    Buffers, Edge, EdgeSpec, Images, Mixing as KernelMixing, Needs, OpKind, OpParams, Precision,
    Prepared, Running, Saved, Target,
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
use self::prepared::PreparedEdges;
use super::composed::{add_operation, image_weights, run_steps};
use super::{Layers, Mixing, Value, place};
use crate::parameters::ParameterId;
use crate::pass::{Mode, Norm, Pass};

/// The engine of the CPU.
pub(super) struct Fused {
    /// Memory that steps share.
    buffers: Buffers,
    precision: Precision,
    prepared: PreparedEdges,
}

impl Fused {
    pub(super) fn new(precision: Precision) -> Self {
        Self { buffers: Buffers::new(), precision, prepared: PreparedEdges::default() }
    }
}

impl Layers for Fused {
    fn edge(
        &self,
        pass: &Pass<'_>,
        edge: &MixedEdge,
        x: &Tensor<4>,
        weights: Option<&Mixing>,
        partial: Option<Tensor<4>>,
    ) -> Option<Tensor<4>> {
        // A weight of 0 that nobody wants the gradient of: the operation is not run.
        let constant = weights.filter(|mixing| !mixing.is_require_grad()).map(|m| flex(m.clone()));
        let counts = |at: Option<usize>| match (&constant, at) {
            (Some(weights), Some(at)) => values(weights)[at] != 0.0,
            _ => true,
        };
        let (mut at, mut ops, mut without_kernel) = (Vec::new(), Vec::new(), Vec::new());
        for candidate in &edge.candidates {
            let place = place(edge, candidate.index);
            if candidate.operation == Operation::None || !counts(place) {
                continue;
            }
            match kernel_of(&candidate.steps) {
                Some((kind, _)) => {
                    at.extend(place);
                    ops.push(KernelOp::new(kind, &candidate.steps));
                }
                None => without_kernel.push(candidate),
            }
        }
        let mut sum = partial;
        if !ops.is_empty()
            || sum.is_none() && without_kernel.is_empty() && !edge.candidates.is_empty()
        {
            let mixing = weights.filter(|_| edge.row.is_some()).map(|mixing| (mixing, at));
            sum = Some(self.mixture(pass, edge, &ops, x, mixing, sum));
        }
        if without_kernel.is_empty() {
            return sum;
        }
        let kept = image_weights(pass, edge, x);
        without_kernel.into_iter().fold(sum, |sum, candidate| {
            Some(add_operation(pass, edge, candidate, x, weights, kept.as_ref(), sum))
        })
    }

    fn chain(&self, pass: &Pass<'_>, steps: &[Step], x: Tensor<4>) -> Value {
        if let Some((kind, stride)) = kernel_of(steps).filter(|_| !steps.is_empty()) {
            let channels = [x.dims()[3], steps[steps.len() - 1].output.channels];
            let spec = EdgeSpec::layer(channels[0], channels[1], stride, kind);
            let sum = Sum { mixing: None, image_weights: None, partial: None };
            return Value::Map(self.run(pass, spec, &[KernelOp::new(kind, steps)], x, sum));
        }
        match steps.split_first() {
            Some((step, rest)) if step.primitive == Primitive::GlobalPool => {
                run_steps(pass, rest, Value::Flat(join::global_pool(&self.buffers, pass, x)))
            }
            Some((step, rest)) => {
                let map = run_steps(pass, std::slice::from_ref(step), Value::Map(x)).map();
                if rest.is_empty() { Value::Map(map) } else { self.chain(pass, rest, map) }
            }
            None => Value::Map(x),
        }
    }

    fn concat(&self, pass: &Pass<'_>, maps: Vec<Tensor<4>>) -> Tensor<4> {
        if maps.len() <= join::MAX_CONCAT {
            join::concat(&self.buffers, pass, maps)
        } else {
            Tensor::cat(maps, 3)
        }
    }

    fn release(&self, maps: &mut dyn Iterator<Item = Tensor<4>>) {
        maps.map(flex).for_each(|map| recycle(&self.buffers, map));
    }

    fn prefers_few_images(&self) -> bool {
        true
    }

    fn trim(&self) {
        self.buffers.trim();
    }
}

/// The kernel of some steps, and its stride; nothing where they must be composed.
fn kernel_of(steps: &[Step]) -> Option<(OpKind, usize)> {
    use Primitive::{AvgPool, AvgPool2x2, BatchNorm, Conv, FactorizedConv, MaxPool, Relu};
    let primitives: Vec<Primitive> = steps.iter().map(|step| step.primitive).collect();
    Some(match primitives[..] {
        [] => (OpKind::SkipConnect, 1),
        [MaxPool { stride }] | [MaxPool { stride }, BatchNorm { .. }] => {
            (OpKind::MaxPool3x3, stride)
        }
        [AvgPool { stride }] | [AvgPool { stride }, BatchNorm { .. }] => {
            (OpKind::AvgPool3x3, stride)
        }
        [AvgPool2x2, conv] if dense(conv) == Some(([1, 1], 1)) => (OpKind::AvgPool2x2Conv1x1, 2),
        [Relu, FactorizedConv, BatchNorm { .. }] => (OpKind::FactorizedReduce, 2),
        [conv, BatchNorm { .. }] => match dense(conv)? {
            ([3, 3], stride) => (OpKind::Conv3x3, stride),
            _ => return None,
        },
        [Relu, conv, BatchNorm { .. }] => match dense(conv)? {
            ([1, 1], 1) => (OpKind::ReluConv1x1, 1),
            ([3, 3], stride) => (OpKind::ReluConv3x3, stride),
            _ => return None,
        },
        [
            Relu,
            Conv { kernel: [1, 7], stride: [1, a], .. },
            Conv { kernel: [7, 1], stride: [b, 1], .. },
            BatchNorm { .. },
        ] if a == b => (OpKind::Conv7x1Conv1x7, a),
        [Relu, depthwise, pointwise, BatchNorm { .. }] => match separable(depthwise, pointwise)? {
            (3, stride, 2) => (OpKind::DilConv3x3, stride),
            (5, stride, 2) => (OpKind::DilConv5x5, stride),
            _ => return None,
        },
        [Relu, first, one, BatchNorm { .. }, Relu, second, two, BatchNorm { .. }] => {
            match (separable(first, one)?, separable(second, two)?) {
                ((3, stride, 1), (3, 1, 1)) => (OpKind::SepConv3x3, stride),
                ((5, stride, 1), (5, 1, 1)) => (OpKind::SepConv5x5, stride),
                ((7, stride, 1), (7, 1, 1)) => (OpKind::SepConv7x7, stride),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// Kernel and stride of a full convolution without dilation whose padding keeps the size.
fn dense(primitive: Primitive) -> Option<([usize; 2], usize)> {
    match primitive {
        Primitive::Conv { kernel, stride: [a, b], padding, dilation: 1, depthwise: false }
            if a == b && padding == kernel.map(|side| (side - 1) / 2) =>
        {
            Some((kernel, a))
        }
        _ => None,
    }
}

/// Kernel, stride and dilation of a depthwise convolution that a 1x1 convolution follows.
fn separable(depthwise: Primitive, pointwise: Primitive) -> Option<(usize, usize, usize)> {
    match (depthwise, dense(pointwise)?) {
        (
            Primitive::Conv { kernel: [k, _], stride: [s, _], dilation, depthwise: true, .. },
            ([1, 1], 1),
        ) => Some((k, s, dilation)),
        _ => None,
    }
}

/// One operation of an edge, and the parameters that it owns in the order of the kernels.
struct KernelOp {
    kind: OpKind,
    convs: Vec<ParameterId>,
    norms: Vec<Norm>,
}

impl KernelOp {
    fn new(kind: OpKind, steps: &[Step]) -> Self {
        let (mut convs, mut norms) = (Vec::new(), Vec::new());
        for step in steps {
            match step.primitive {
                Primitive::BatchNorm { .. } => norms.push(Norm::of(step)),
                _ => convs.extend(step.parameters.clone()),
            }
        }
        Self { kind, convs, norms }
    }
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

impl Fused {
    /// The operations of a mixed edge that have kernels, added to what its node has so far.
    fn mixture(
        &self,
        pass: &Pass<'_>,
        edge: &MixedEdge,
        ops: &[KernelOp],
        x: &Tensor<4>,
        mixing: Option<(&Mixing, Vec<usize>)>,
        partial: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let pool_norm = ops.iter().any(|op| op.convs.is_empty() && !op.norms.is_empty());
        let kinds = ops.iter().map(|op| op.kind).collect();
        let spec = EdgeSpec { pool_norm, ..EdgeSpec::mixed(x.dims()[3], edge.stride, kinds) };
        let image_weights = pass.image_weights(edge, x.dims()[0]);
        self.run(pass, spec, ops, x.clone(), Sum { mixing, image_weights, partial })
    }

    /// An edge in the mode of the pass.
    fn run(
        &self,
        pass: &Pass<'_>,
        spec: EdgeSpec,
        ops: &[KernelOp],
        x: Tensor<4>,
        sum: Sum<'_>,
    ) -> Tensor<4> {
        let edge = Edge::new(spec, &self.buffers)
            .expect("the network is built of edges that kernels know");
        if pass.mode() == Mode::Evaluation {
            self.infer(pass, &edge, ops, x, sum)
        } else {
            self.train(pass, edge.with_precision(self.precision), ops, x, sum)
        }
    }

    fn infer(
        &self,
        pass: &Pass<'_>,
        edge: &Edge,
        ops: &[KernelOp],
        x: Tensor<4>,
        sum: Sum<'_>,
    ) -> Tensor<4> {
        let Sum { mixing, image_weights: _, partial } = sum;
        let mixing = mixing.map(|(mixing, at)| (flex(mixing.clone()), at));
        let weights =
            mixing_values(mixing.as_ref().map(|(tensor, at)| (tensor, at.as_slice())), ops.len());
        let x = flex(x);
        let images = images(&x);
        let size = [images.h, images.w];
        let ids = ops
            .iter()
            .flat_map(|op| op.convs.iter().copied().chain(op.norms.iter().map(|norm| norm.mean)));
        let bits = weights.iter().map(|weight| weight.to_bits()).collect();
        let key = (edge.spec().clone(), ids.collect(), size, bits);
        let prepared =
            self.prepared.get(pass.revision(), key, || prepare(pass, edge, ops, size, &weights));
        let (mut out, add) = self.sum_buffer(edge, images, partial.map(flex));
        prepared.run(images, target(&mut out, add)).expect("shapes follow from the network");
        recycle(&self.buffers, x);
        Tensor::from_primitive::<Flex>(out)
    }

    fn train(
        &self,
        pass: &Pass<'_>,
        edge: Edge,
        ops: &[KernelOp],
        x: Tensor<4>,
        sum: Sum<'_>,
    ) -> Tensor<4> {
        let Sum { mixing, image_weights, partial } = sum;
        let x = tape(x);
        let partial = partial.map(tape);
        let (mixing, at) = match mixing {
            Some((mixing, at)) => (Some(tape(mixing.clone())), at),
            None => (None, Vec::new()),
        };
        let weights =
            mixing_values(mixing.as_ref().map(|m| (m.primitive(), at.as_slice())), ops.len());
        let tracked: Vec<AutodiffTensor> = ops
            .iter()
            .flat_map(|op| {
                let affine = op.norms.iter().filter_map(|norm| norm.affine).flatten();
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
            let norms = op.norms.iter().filter(|norm| norm.affine.is_some());
            affine.push(norms.map(|_| (next(), next())).collect::<Vec<_>>());
        }
        let map = contiguous(x.primitive().clone());
        let images = images(&map);
        let (mut out, add) =
            self.sum_buffer(&edge, images, partial.map(AutodiffTensor::into_primitive));
        let sum = KernelMixing { weights: &weights, image_weights: image_weights.as_deref() };
        let saved = edge
            .forward(images, &params(&convs, &affine), sum, target(&mut out, add))
            .expect("shapes follow from the network");
        for (op, stats) in ops.iter().zip(saved.stats()) {
            for (norm, stats) in op.norms.iter().zip(stats) {
                pass.observe_host(norm, &stats.mean, &stats.var, stats.count);
            }
        }
        let table = mixing.map_or(0, |mixing| values(mixing.primitive()).len());
        let buffers = self.buffers.clone();
        let state =
            EdgeState { buffers, input: x, x: map, weights, image_weights, at, table, saved };
        finish(EdgeBackward, guards, Arc::new(state), out)
    }

    /// Where the sum of an edge goes, and whether there is something in it already.
    fn sum_buffer(
        &self,
        edge: &Edge,
        x: Images<'_>,
        partial: Option<FlexTensor>,
    ) -> (FlexTensor, bool) {
        if let Some(partial) = partial {
            return (contiguous(partial), true);
        }
        let (h, w) = edge.spec().output_size(x.h, x.w);
        let shape = Shape::from([x.n, h, w, edge.spec().cout]);
        (owned(self.buffers.take(shape.num_elements()), shape), false)
    }
}

fn prepare(
    pass: &Pass<'_>,
    edge: &Edge,
    ops: &[KernelOp],
    size: [usize; 2],
    weights: &[f32],
) -> Prepared {
    let owned = |id: ParameterId| flex(pass.flat(id));
    let convs: Vec<Vec<FlexTensor>> =
        ops.iter().map(|op| op.convs.iter().copied().map(owned).collect()).collect();
    let affine: Vec<Vec<(FlexTensor, FlexTensor)>> = ops
        .iter()
        .map(|op| {
            let affine = op.norms.iter().filter_map(|norm| norm.affine);
            affine.map(|[gamma, beta]| (owned(gamma), owned(beta))).collect()
        })
        .collect();
    let running: Vec<Vec<(FlexTensor, FlexTensor)>> = ops
        .iter()
        .map(|op| op.norms.iter().map(|norm| (owned(norm.mean), owned(norm.variance))).collect())
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

/// What the backward of an edge needs of its forward.
#[derive(Debug)]
struct EdgeState {
    buffers: Buffers,
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
            None => owned(state.buffers.take(shape.num_elements()), shape),
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
            None => recycle(&state.buffers, gradient),
        }
        if let Ok(state) = Arc::try_unwrap(state) {
            drop(state.input);
            // A map without a gradient is the batch's images, which nobody takes from the store again.
            if from_store {
                recycle(&state.buffers, state.x);
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

/// The mixing weights of an edge's operations; 1 each where none are mixed.
fn mixing_values(mixing: Option<(&FlexTensor, &[usize])>, operations: usize) -> Vec<f32> {
    match mixing {
        Some((table, at)) => at.iter().map(|&at| values(table)[at]).collect(),
        None => vec![1.0; operations],
    }
}

fn target(out: &mut FlexTensor, add: bool) -> Target<'_> {
    let slice = out.storage_mut::<f32>();
    if add { Target::Add(slice) } else { Target::Write(slice) }
}
