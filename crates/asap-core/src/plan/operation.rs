//! The parts of each operation of an edge: its steps and the names of its parameters. Its cost follows from them.

use super::chain::Chain;
use crate::{Operation, OperationKind};

/// The batch norms that an operation gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norms {
    /// Batch norms have scale and shift: true for the network that is trained, false for the search network.
    pub affine: bool,
    /// A batch norm follows a pooling: only in the search network of the DARTS space.
    pub after_pool: bool,
}

/// Adds the steps of an operation that keeps the number of channels (section 3.1 of the paper, and the published DARTS
/// and NAS-Bench-201 code for the parts of each).
pub(super) fn operation<'a>(
    chain: Chain<'a>,
    operation: Operation,
    channels: usize,
    stride: usize,
    norms: Norms,
) -> Chain<'a> {
    let affine = norms.affine;
    let half = |chain: Chain<'a>, part: &str, [kernel, stride, dilation]: [usize; 3]| {
        chain.under(part, |chain| {
            let chain = chain.relu().depthwise("depthwise", kernel, stride, dilation);
            chain.pointwise("pointwise", channels).norm("bn", affine)
        })
    };
    let pooled = |chain: Chain<'a>| match norms.after_pool {
        true => chain.norm("bn", false),
        false => chain,
    };
    match operation.kind() {
        OperationKind::None => chain.zero(stride),
        OperationKind::MaxPool => pooled(chain.max_pool(stride)),
        OperationKind::AvgPool => pooled(chain.avg_pool(stride)),
        OperationKind::Skip if stride == 1 => chain,
        OperationKind::Skip => factorized_reduce(chain, channels, affine),
        OperationKind::SepConv { kernel } => {
            half(half(chain, "halves.0", [kernel, stride, 1]), "halves.1", [kernel, 1, 1])
        }
        OperationKind::DilConv { kernel } => half(chain, "halves.0", [kernel, stride, 2]),
        OperationKind::Conv7x1Then1x7 => {
            let chain = chain.relu().conv("conv_1x7", channels, [1, 7], [1, stride]);
            chain.conv("conv_7x1", channels, [7, 1], [stride, 1]).norm("bn", affine)
        }
        OperationKind::Conv { kernel } => {
            chain.relu().conv("conv", channels, [kernel; 2], [stride; 2]).norm("bn", affine)
        }
    }
}

/// ReLU, two 1x1 convolutions of stride 2, the second one shifted by a pixel down and right, batch norm.
pub fn factorized_reduce(chain: Chain<'_>, channels: usize, affine: bool) -> Chain<'_> {
    chain.relu().factorized_conv(channels).norm("bn", affine)
}
