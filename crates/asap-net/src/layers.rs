//! The layers of the networks as plain data: shapes and the parameters they own.
//!
//! Their arithmetic is in [`crate::ops`]. Sources: ASAP section 3.1, and the published DARTS code
//! for what each operation consists of.

mod ends;

use asap_core::{Operation, OperationKind};

pub use self::ends::{AuxiliaryHead, Conv3x3Bn, Head, Stem};
use crate::parameters::{Init, ParameterId, Parameters};

/// Batch normalisation over images, rows and columns.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// Dotted path of its parameters.
    pub path: String,
    /// Running mean, `[channels]`.
    pub mean: ParameterId,
    /// Running variance, unbiased, `[channels]`.
    pub variance: ParameterId,
    /// Scale and shift, `[channels]` each; absent inside search cells.
    pub affine: Option<(ParameterId, ParameterId)>,
}

impl BatchNorm {
    /// Adds a batch norm of `channels` at `path`.
    pub fn new(parameters: &mut Parameters, path: String, channels: usize, affine: bool) -> Self {
        Self {
            mean: parameters.buffer(format!("{path}.running_mean"), channels, 0.0),
            variance: parameters.buffer(format!("{path}.running_var"), channels, 1.0),
            affine: affine.then(|| {
                let gamma = Init::Constant(1.0);
                let beta = Init::Constant(0.0);
                (
                    parameters.weight(format!("{path}.gamma"), &[channels], gamma),
                    parameters.weight(format!("{path}.beta"), &[channels], beta),
                )
            }),
            path,
        }
    }
}

/// ReLU, depthwise convolution, 1x1 convolution, batch norm: half of a `sep_conv`, or a `dil_conv`.
#[derive(Clone, Debug)]
pub struct SeparableHalf {
    /// `[channels, 1, kernel, kernel]`.
    pub depthwise: ParameterId,
    /// `[channels, channels, 1, 1]`.
    pub pointwise: ParameterId,
    /// Follows the 1x1 convolution.
    pub bn: BatchNorm,
    /// Side of the depthwise kernel.
    pub kernel: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
    /// Dilation of the depthwise convolution.
    pub dilation: usize,
}

impl SeparableHalf {
    fn new(
        parameters: &mut Parameters,
        path: &str,
        channels: usize,
        [kernel, stride, dilation]: [usize; 3],
        affine: bool,
    ) -> Self {
        let c = channels;
        let depthwise = [c, 1, kernel, kernel];
        let fan_in = Init::fan_in(kernel * kernel);
        Self {
            depthwise: parameters.weight(format!("{path}.depthwise"), &depthwise, fan_in),
            pointwise: parameters.weight(
                format!("{path}.pointwise"),
                &[c, c, 1, 1],
                Init::fan_in(c),
            ),
            bn: BatchNorm::new(parameters, format!("{path}.bn"), c, affine),
            kernel,
            stride,
            dilation,
        }
    }

    /// Padding that keeps `ceil(size / stride)`.
    pub fn padding(&self) -> usize {
        self.dilation * (self.kernel - 1) / 2
    }
}

/// ReLU, 1x1 convolution, batch norm.
#[derive(Clone, Debug)]
pub struct ReluConvBn {
    /// `[out, in, 1, 1]`.
    pub conv: ParameterId,
    /// Follows the convolution.
    pub bn: BatchNorm,
}

/// ReLU, two 1x1 convolutions of stride 2, the second one pixel further down and right, batch norm.
#[derive(Clone, Debug)]
pub struct FactorizedReduce {
    /// `[ceil(out / 2), in, 1, 1]`, on even rows and columns.
    pub conv_a: ParameterId,
    /// `[floor(out / 2), in, 1, 1]`, on odd rows and columns; a missing last one counts as zero.
    pub conv_b: ParameterId,
    /// Follows the concatenation.
    pub bn: BatchNorm,
}

impl FactorizedReduce {
    fn new(
        parameters: &mut Parameters,
        path: &str,
        [c_in, c_out]: [usize; 2],
        affine: bool,
    ) -> Self {
        let init = Init::fan_in(c_in);
        let (a, b) = (c_out.div_ceil(2), c_out / 2);
        Self {
            conv_a: parameters.weight(format!("{path}.conv_a"), &[a, c_in, 1, 1], init),
            conv_b: parameters.weight(format!("{path}.conv_b"), &[b, c_in, 1, 1], init),
            bn: BatchNorm::new(parameters, format!("{path}.bn"), c_out, affine),
        }
    }
}

/// Brings the output of a previous cell to the channels (and size) of this cell.
#[derive(Clone, Debug)]
pub enum Preprocess {
    /// The input has this cell's size already.
    Conv(ReluConvBn),
    /// The input comes from before a reduction cell.
    Reduce(FactorizedReduce),
}

impl Preprocess {
    /// Adds the preprocess of an input with `c_in` channels, of twice the size if `halve`.
    pub fn new(
        parameters: &mut Parameters,
        path: &str,
        [c_in, c_out]: [usize; 2],
        halve: bool,
        affine: bool,
    ) -> Self {
        if halve {
            return Self::Reduce(FactorizedReduce::new(parameters, path, [c_in, c_out], affine));
        }
        let shape = [c_out, c_in, 1, 1];
        Self::Conv(ReluConvBn {
            conv: parameters.weight(format!("{path}.conv"), &shape, Init::fan_in(c_in)),
            bn: BatchNorm::new(parameters, format!("{path}.bn"), c_out, affine),
        })
    }
}

/// What computes a candidate operation.
#[derive(Clone, Debug)]
pub enum Body {
    /// `none`: zeros.
    Zero,
    /// `skip_connect` at stride 1.
    Identity,
    /// `skip_connect` at stride 2.
    Reduce(FactorizedReduce),
    /// 3x3 maximum, padding ignored; batch norm in the search network only.
    MaxPool(Option<BatchNorm>),
    /// 3x3 average without counting the padding; batch norm in the search network only.
    AvgPool(Option<BatchNorm>),
    /// `sep_conv` (two halves) or `dil_conv` (one).
    Separable(Vec<SeparableHalf>),
    /// ReLU, 1x7, 7x1, batch norm.
    Conv7x1Then1x7 {
        /// `[channels, channels, 1, 7]`, stride along the width.
        conv_1x7: ParameterId,
        /// `[channels, channels, 7, 1]`, stride along the height.
        conv_7x1: ParameterId,
        /// Follows the convolutions.
        bn: BatchNorm,
    },
}

/// One alive candidate of a mixed edge.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its place in the search space's list of candidates.
    pub index: usize,
    /// Which operation.
    pub operation: Operation,
    /// What computes it.
    pub body: Body,
}

/// The batch norms that an operation gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Search network: no affine parameters, and a batch norm after pools.
    Search,
    /// Evaluation network: affine, and bare pools.
    Evaluation,
}

impl Candidate {
    /// Adds an operation on `channels` at `path`.
    pub fn new(
        parameters: &mut Parameters,
        path: &str,
        (index, operation): (usize, Operation),
        [channels, stride]: [usize; 2],
        norm: Norm,
    ) -> Self {
        let affine = norm == Norm::Evaluation;
        let c = channels;
        let mut pool_bn = || {
            (norm == Norm::Search)
                .then(|| BatchNorm::new(parameters, format!("{path}.bn"), c, false))
        };
        let body = match operation.kind() {
            OperationKind::None => Body::Zero,
            OperationKind::MaxPool => Body::MaxPool(pool_bn()),
            OperationKind::AvgPool => Body::AvgPool(pool_bn()),
            OperationKind::Skip if stride == 1 => Body::Identity,
            OperationKind::Skip => {
                Body::Reduce(FactorizedReduce::new(parameters, path, [c, c], affine))
            }
            OperationKind::SepConv { kernel } => Body::Separable(
                [stride, 1]
                    .into_iter()
                    .enumerate()
                    .map(|(i, stride)| {
                        let path = format!("{path}.halves.{i}");
                        SeparableHalf::new(parameters, &path, c, [kernel, stride, 1], affine)
                    })
                    .collect(),
            ),
            OperationKind::DilConv { kernel } => {
                let path = format!("{path}.halves.0");
                let half = SeparableHalf::new(parameters, &path, c, [kernel, stride, 2], affine);
                Body::Separable(vec![half])
            }
            OperationKind::Conv7x1Then1x7 => {
                let init = Init::fan_in(7 * c);
                Body::Conv7x1Then1x7 {
                    conv_1x7: parameters.weight(format!("{path}.conv_1x7"), &[c, c, 1, 7], init),
                    conv_7x1: parameters.weight(format!("{path}.conv_7x1"), &[c, c, 7, 1], init),
                    bn: BatchNorm::new(parameters, format!("{path}.bn"), c, affine),
                }
            }
        };
        Self { index, operation, body }
    }
}

/// The alive candidates from one state of a cell to a node: equation 2.
#[derive(Clone, Debug)]
pub struct MixedEdge {
    /// Dotted path of its parameters.
    pub path: String,
    /// Where its mixing weights start in the table of its kind of cell.
    pub offset: usize,
    /// The state that it reads: 0 and 1 are the cell's inputs, 2 and up its nodes.
    pub input: usize,
    /// Every candidate divides the size by this, rounding up.
    pub stride: usize,
    /// The candidates left, in the order of the search space.
    pub candidates: Vec<Candidate>,
}

impl MixedEdge {
    /// Whether it adds nothing to its node.
    pub fn is_zero(&self) -> bool {
        self.candidates.iter().all(|c| matches!(c.body, Body::Zero))
    }

    /// Whether drop-path drops it: not the identity, and not `none`, which gives nothing anyway.
    pub fn drops(&self) -> bool {
        self.candidates.iter().any(|c| !matches!(c.body, Body::Identity | Body::Zero))
    }
}
