//! Sums over all parts of a batch, as an operation of Burn's graph: for batch norms that are composed.

use std::sync::Arc;

use asap_kernels::WholeBatch;
use burn::backend::Flex;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Tensor};

/// The sum over the parts, of each value; every part is differentiated with respect to the values of all.
///
/// # Panics
/// If the tensor is not on the CPU.
pub(super) fn sum<const D: usize>(whole: &Arc<dyn WholeBatch>, values: Tensor<D>) -> Tensor<D> {
    let values = values.autodiff().try_into_primitive::<Autodiff<Flex>>();
    let values = values.expect("processes share batches on the CPU only");
    let node = values.node();
    let out = of_parts(&**whole, values.into_primitive());
    let out = match SumBackward.prepare::<NoCheckpointing>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(Arc::clone(whole), out),
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(out)
}

fn of_parts(whole: &dyn WholeBatch, values: FlexTensor) -> FlexTensor {
    let values = values.to_contiguous();
    let shape = values.layout().shape().clone();
    let slice = values.as_slice::<f32>().expect("the tensor is contiguous and f32");
    let mut numbers: Vec<f64> = slice.iter().copied().map(f64::from).collect();
    whole.sum(&mut numbers);
    let sums: Vec<f32> = numbers.into_iter().map(|number| number as f32).collect();
    FlexTensor::new(Bytes::from_elems(sums), Layout::contiguous(shape), DType::F32)
}

#[derive(Debug)]
struct SumBackward;

impl Backward<Flex, 1> for SumBackward {
    type State = Arc<dyn WholeBatch>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = of_parts(&*ops.state, gradients.consume::<Flex>(&ops.node));
        let [parent] = ops.parents;
        if let Some(node) = parent {
            gradients.register::<Flex>(node.id, gradient);
        }
    }
}
