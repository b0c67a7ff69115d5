//! Edges as operations of Burn's graph, forward and backward.

use std::sync::Arc;

use asap_core::plan::MixedEdge;
use asap_kernels::{
    Buffers, Edge, EdgeSpec, Images, Mixing as KernelMixing, Needs, OpParams, Precision, Prepared,
    Running, Saved, Target,
};
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};

use super::graph::{
    AutodiffTensor, PARENTS, contiguous, finish, flat, flex, guards, owned, recycle, tape, values,
};
use super::kernel::KernelOp;
use super::prepared::PreparedEdges;
use crate::parameters::ParameterId;
use crate::pass::{Mode, Pass};

/// The weights of the sum of an edge's operations.
pub(super) struct Sum<'a> {
    /// The table of mixing weights, and the positions of those of the operations in it.
    pub(super) mixing: Option<(&'a Tensor<1>, Vec<usize>)>,
    /// Weight of each image, of drop-path.
    pub(super) image_weights: Option<Vec<f32>>,
    /// The sum of the node so far.
    pub(super) partial: Option<Tensor<4>>,
}

/// Runs edges; holds the memory that steps share, and the edges that are ready for inference.
pub(super) struct Edges {
    pub(super) buffers: Buffers,
    precision: Precision,
    prepared: PreparedEdges,
}

impl Edges {
    pub(super) fn new(precision: Precision) -> Self {
        Self { buffers: Buffers::new(), precision, prepared: PreparedEdges::default() }
    }

    /// The operations of a mixed edge that have kernels, added to the sum of its node so far.
    pub(super) fn mixture(
        &self,
        pass: &Pass<'_>,
        edge: &MixedEdge,
        ops: &[KernelOp],
        x: &Tensor<4>,
        mixing: Option<(&Tensor<1>, Vec<usize>)>,
        partial: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let pool_norm = ops.iter().any(|op| op.convs.is_empty() && !op.norms.is_empty());
        let kinds = ops.iter().map(|op| op.kind).collect();
        let spec = EdgeSpec { pool_norm, ..EdgeSpec::mixed(x.dims()[3], edge.stride, kinds) };
        let image_weights = pass.image_weights(edge, x.dims()[0]);
        self.run(pass, spec, ops, x.clone(), Sum { mixing, image_weights, partial })
    }

    /// An edge in the mode of the pass.
    pub(super) fn run(
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
            let edge = edge.with_precision(self.precision).with_whole_batch(pass.whole().cloned());
            self.train(pass, edge, ops, x, sum)
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

    /// The buffer for the sum of an edge, and true if it already holds something.
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

/// The values of an edge's forward pass that its backward pass needs.
#[derive(Debug)]
struct EdgeState {
    buffers: Buffers,
    /// The feature map as the graph has it: leads to the gradient that other edges have already given it.
    /// A step always runs backwards, so this reference keeps no graph alive.
    input: AutodiffTensor,
    /// Its values.
    x: FlexTensor,
    weights: Vec<f32>,
    /// Weight of each image, of drop-path.
    image_weights: Option<Vec<f32>>,
    /// Positions of the mixing weights in their table, and the table's length.
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
        // The gradient that other edges gave the feature map is added to, not copied.
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

/// The mixing weights of an edge's operations; 1 each if none are mixed.
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
