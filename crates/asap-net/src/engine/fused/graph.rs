//! Conversions between Burn's graph and slices of numbers.

use asap_kernels::Buffers;
use burn::backend::Flex;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::ops::{Backward, NodeGuard, OpsKind};
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, DType, Shape, Tensor};

/// A CPU tensor on the graph.
pub(super) type AutodiffTensor = FloatTensor<Autodiff<Flex>>;

/// Inputs of one operation of the graph: feature map, partial sum, mixing weights, parameters.
/// The graph needs a fixed number; unused inputs are filled with a constant.
pub(super) const PARENTS: usize = 32;

/// Puts an operation on the graph.
pub(super) fn finish<B, const D: usize>(
    backward: B,
    guards: [NodeGuard; PARENTS],
    state: B::State,
    out: FlexTensor,
) -> Tensor<D>
where
    B: Backward<Flex, PARENTS>,
{
    let out = match backward.prepare::<NoCheckpointing>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, out),
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(out)
}

/// The nodes of all inputs; missing inputs and the unused positions get that of a constant.
pub(super) fn guards<const N: usize>(
    first: [Option<&AutodiffTensor>; N],
    rest: &[AutodiffTensor],
) -> [NodeGuard; PARENTS] {
    assert!(N + rest.len() <= PARENTS, "an operation of the graph has at most {PARENTS} inputs");
    let constant = AutodiffTensor::new(flat(vec![0.0]));
    std::array::from_fn(|i| match first.get(i) {
        Some(input) => input.unwrap_or(&constant).node(),
        None => rest.get(i - N).unwrap_or(&constant).node(),
    })
}

pub(super) fn tape<const D: usize>(tensor: Tensor<D>) -> AutodiffTensor {
    let tensor = tensor.autodiff().try_into_primitive::<Autodiff<Flex>>();
    tensor.expect("kernels are used on the CPU only")
}

pub(super) fn flex<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    let tensor = tensor.without_autodiff().try_into_primitive::<Flex>();
    contiguous(tensor.expect("kernels are used on the CPU only"))
}

pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("tensors are contiguous and f32")
}

pub(super) fn owned(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

pub(super) fn flat(values: Vec<f32>) -> FlexTensor {
    let shape = Shape::from([values.len()]);
    owned(values, shape)
}

/// Gives the memory of a tensor that nobody else holds to the next step.
pub(super) fn recycle(buffers: &Buffers, tensor: FlexTensor) {
    if tensor.is_unique()
        && let Ok(values) = tensor.into_data().try_into_vec::<f32>()
    {
        buffers.give(values);
    }
}
