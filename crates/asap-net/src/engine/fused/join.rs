//! Layers without parameters: the nodes of a cell side by side, and the global average pool.

use asap_kernels::{Buffers, join};
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};

use super::graph::{
    AutodiffTensor, PARENTS, contiguous, finish, flex, guards, owned, recycle, tape, values,
};
use crate::pass::{Mode, Pass};

/// The largest number of tensors that [`concat`] joins.
pub(super) const MAX_CONCAT: usize = PARENTS;

/// Nodes side by side; see [`crate::engine::Layers::concat`].
pub(super) fn concat(buffers: &Buffers, pass: &Pass<'_>, nodes: Vec<Tensor<4>>) -> Tensor<4> {
    let [n, h, w, c] = nodes[0].dims();
    let shape = Shape::from([n, h, w, nodes.len() * c]);
    let join = |parts: &[FlexTensor]| {
        let mut out = buffers.take(shape.num_elements());
        let parts: Vec<&[f32]> = parts.iter().map(values).collect();
        join::concat(&parts, c, &mut out).expect("nodes have one shape");
        owned(out, shape.clone())
    };
    if pass.mode() == Mode::Evaluation {
        let parts: Vec<FlexTensor> = nodes.into_iter().map(flex).collect();
        let out = join(&parts);
        parts.into_iter().for_each(|part| recycle(buffers, part));
        return Tensor::from_primitive::<Flex>(out);
    }
    let nodes: Vec<AutodiffTensor> = nodes.into_iter().map(tape).collect();
    let guards = guards([], &nodes);
    let parts: Vec<FlexTensor> =
        nodes.into_iter().map(|node| contiguous(node.into_primitive())).collect();
    let state = JoinState { buffers: buffers.clone(), parts: parts.len(), shape: [n, h, w, c] };
    let out = join(&parts);
    parts.into_iter().for_each(|part| recycle(buffers, part));
    finish(JoinBackward, guards, state, out)
}

#[derive(Clone, Debug)]
struct JoinState {
    buffers: Buffers,
    parts: usize,
    shape: [usize; 4],
}

#[derive(Debug)]
struct JoinBackward;

impl Backward<Flex, PARENTS> for JoinBackward {
    type State = JoinState;

    fn backward(
        self,
        ops: Ops<Self::State, PARENTS>,
        gradients: &mut Gradients,
        _: &mut Checkpointer,
    ) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let JoinState { buffers, parts, shape } = ops.state;
        let mut parts: Vec<Vec<f32>> =
            (0..parts).map(|_| buffers.take(shape.iter().product())).collect();
        join::concat_backward(values(&gradient), shape[3], &mut parts)
            .expect("shapes are those of the forward");
        for (node, part) in ops.parents.into_iter().zip(parts) {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, owned(part, Shape::from(shape)));
            }
        }
        recycle(&buffers, gradient);
    }
}

/// The mean over rows and columns, `[n, h, w, c]` to `[n, c]`.
pub(super) fn global_pool(buffers: &Buffers, pass: &Pass<'_>, x: Tensor<4>) -> Tensor<2> {
    let [n, h, w, c] = x.dims();
    let pool = |x: &FlexTensor| {
        let mut out = vec![0.0; n * c];
        join::global_average_pool(values(x), n, h * w, c, &mut out).expect("an image has pixels");
        owned(out, Shape::from([n, c]))
    };
    if pass.mode() == Mode::Evaluation {
        return Tensor::from_primitive::<Flex>(pool(&flex(x)));
    }
    let x = tape(x);
    let guards = guards([Some(&x)], &[]);
    let out = pool(&contiguous(x.into_primitive()));
    finish(PoolBackward, guards, (buffers.clone(), [n, h, w, c]), out)
}

#[derive(Debug)]
struct PoolBackward;

impl Backward<Flex, PARENTS> for PoolBackward {
    type State = (Buffers, [usize; 4]);

    fn backward(
        self,
        ops: Ops<Self::State, PARENTS>,
        gradients: &mut Gradients,
        _: &mut Checkpointer,
    ) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let (buffers, [n, h, w, c]) = ops.state;
        if let Some(Some(node)) = ops.parents.into_iter().next() {
            let mut dx = buffers.take(n * h * w * c);
            join::global_average_pool_backward(values(&gradient), n, h * w, c, &mut dx)
                .expect("shapes are those of the forward");
            gradients.register::<Flex>(node.id, owned(dx, Shape::from([n, h, w, c])));
        }
    }
}
