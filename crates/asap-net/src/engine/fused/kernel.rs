//! The steps of a plan that are one kernel.

use asap_core::plan::{Primitive, Step};
use asap_kernels::OpKind;

use crate::parameters::ParameterId;
use crate::pass::Norm;

/// The kernel of some steps, and its stride; `None` if they must be composed.
pub(super) fn kernel_of(steps: &[Step]) -> Option<(OpKind, usize)> {
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
pub(super) struct KernelOp {
    pub(super) kind: OpKind,
    pub(super) convs: Vec<ParameterId>,
    pub(super) norms: Vec<Norm>,
}

impl KernelOp {
    pub(super) fn new(kind: OpKind, steps: &[Step]) -> Self {
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
