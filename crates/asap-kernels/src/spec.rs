//! The operations of an edge ([`OpKind`]) and the edge that mixes them ([`EdgeSpec`]).

use std::fmt;
use std::str::FromStr;

use crate::error::{KernelError, Result};

/// An operation of an edge, as in the DARTS code; each ends in batch norm unless noted otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// Max pool 3x3, padding 1; batch norm only with [`EdgeSpec::pool_norm`].
    MaxPool3x3,
    /// Average pool 3x3, padding 1, the padding not counted; batch norm only with [`EdgeSpec::pool_norm`].
    AvgPool3x3,
    /// Identity (no batch norm) at stride 1, [`OpKind::FactorizedReduce`] at stride 2.
    SkipConnect,
    /// Twice (ReLU, depthwise 3x3, 1x1, batch norm); the stride is in the first.
    SepConv3x3,
    /// Twice (ReLU, depthwise 5x5, 1x1, batch norm).
    SepConv5x5,
    /// Twice (ReLU, depthwise 7x7, 1x1, batch norm).
    SepConv7x7,
    /// ReLU, depthwise 3x3 of dilation 2, 1x1, batch norm.
    DilConv3x3,
    /// ReLU, depthwise 5x5 of dilation 2, 1x1, batch norm.
    DilConv5x5,
    /// ReLU, conv 1x7 of stride (1, s), conv 7x1 of stride (s, 1), batch norm.
    Conv7x1Conv1x7,
    /// ReLU, two 1x1 convs of stride 2, the second on the input shifted by one pixel down and right, concatenated,
    /// batch norm. Pixels that the shift moves out of an odd-sized image count as zero; with an odd number of output
    /// channels the first conv gets one more.
    FactorizedReduce,
    /// ReLU, 1x1 conv, batch norm: the preprocess of a cell, `nor_conv_1x1` of NAS-Bench-201.
    ReluConv1x1,
    /// 3x3 conv, batch norm: the stem.
    Conv3x3,
    /// ReLU, 3x3 conv, batch norm: later stages of an ImageNet stem, `nor_conv_3x3` of NAS-Bench-201.
    ReluConv3x3,
    /// Average pool 2x2 of stride 2, 1x1 conv, neither ReLU nor batch norm: the shortcut of a residual block in
    /// NAS-Bench-201. The last windows of an odd-sized image average the pixels that exist.
    AvgPool2x2Conv1x1,
}

/// The precision of an edge in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// All in `f32`.
    #[default]
    F32,
    /// Mixed: 1x1 and full convolutions multiply values rounded to bf16 (8 significant bits) and sum in `f32`; their
    /// results are rounded to bf16 too, once the statistics of batch norm are taken, and kept so. Parameters, their
    /// gradients, batch norm, pools, depthwise convolutions and the sum of the operations stay in `f32`.
    Bf16,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// The name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|precision| precision.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(" or ");
            format!("unknown precision `{text}`; choose {names}")
        })
    }
}

/// The convolution of a [`Block`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConvKind {
    /// Depthwise `kernel` x `kernel` of padding `dilation * (kernel - 1) / 2`, then 1x1.
    Separable { kernel: usize, dilation: usize },
    /// A full convolution, padding `(kernel - 1) / 2` in each direction.
    Full { kernel: (usize, usize) },
    /// The two convolutions of the factorized reduce.
    Reduce,
    /// Averages of 2x2 windows of stride 2, then 1x1.
    Average,
}

/// One step of an operation: (ReLU,) convolution (, batch norm).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) conv: ConvKind,
    pub(crate) relu: bool,
    pub(crate) norm: bool,
    pub(crate) stride: (usize, usize),
    pub(crate) cin: usize,
    pub(crate) cout: usize,
}

/// The parts of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Identity,
    Pool { max: bool, norm: bool },
    Chain(Vec<Block>),
}

impl OpKind {
    /// Every operation.
    pub const ALL: [Self; 14] = [
        Self::MaxPool3x3,
        Self::AvgPool3x3,
        Self::SkipConnect,
        Self::SepConv3x3,
        Self::SepConv5x5,
        Self::SepConv7x7,
        Self::DilConv3x3,
        Self::DilConv5x5,
        Self::Conv7x1Conv1x7,
        Self::FactorizedReduce,
        Self::ReluConv1x1,
        Self::Conv3x3,
        Self::ReluConv3x3,
        Self::AvgPool2x2Conv1x1,
    ];

    /// True if the operation works channel by channel and so cannot change their number.
    fn keeps_channels(self, stride: usize) -> bool {
        matches!(self, Self::MaxPool3x3 | Self::AvgPool3x3)
            || self == Self::SkipConnect && stride == 1
    }

    pub(crate) fn body(self, spec: &EdgeSpec) -> Body {
        let (cin, cout, s) = (spec.cin, spec.cout, spec.stride);
        let block = |conv, relu, norm, stride, cin| Block { conv, relu, norm, stride, cin, cout };
        let full = |kernel, relu| {
            Body::Chain(vec![block(ConvKind::Full { kernel }, relu, true, (s, s), cin)])
        };
        let separable = |kernel, dilation, stride: usize, cin| {
            block(ConvKind::Separable { kernel, dilation }, true, true, (stride, stride), cin)
        };
        // DARTS keeps cin channels between the halves; in our networks they always equal cout.
        let twice = |kernel| {
            let first = Block { cout: cin, ..separable(kernel, 1, s, cin) };
            Body::Chain(vec![first, separable(kernel, 1, 1, cin)])
        };
        match self {
            Self::MaxPool3x3 => Body::Pool { max: true, norm: spec.pool_norm },
            Self::AvgPool3x3 => Body::Pool { max: false, norm: spec.pool_norm },
            Self::SkipConnect if s == 1 => Body::Identity,
            Self::SkipConnect | Self::FactorizedReduce => {
                Body::Chain(vec![block(ConvKind::Reduce, true, true, (2, 2), cin)])
            }
            Self::SepConv3x3 => twice(3),
            Self::SepConv5x5 => twice(5),
            Self::SepConv7x7 => twice(7),
            Self::DilConv3x3 => Body::Chain(vec![separable(3, 2, s, cin)]),
            Self::DilConv5x5 => Body::Chain(vec![separable(5, 2, s, cin)]),
            Self::Conv7x1Conv1x7 => {
                let wide = block(ConvKind::Full { kernel: (1, 7) }, true, false, (1, s), cin);
                Body::Chain(vec![
                    wide,
                    block(ConvKind::Full { kernel: (7, 1) }, false, true, (s, 1), cout),
                ])
            }
            Self::ReluConv1x1 => full((1, 1), true),
            Self::Conv3x3 => full((3, 3), false),
            Self::ReluConv3x3 => full((3, 3), true),
            Self::AvgPool2x2Conv1x1 => {
                Body::Chain(vec![block(ConvKind::Average, false, false, (2, 2), cin)])
            }
        }
    }
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaxPool3x3 => "max_pool_3x3",
            Self::AvgPool3x3 => "avg_pool_3x3",
            Self::SkipConnect => "skip_connect",
            Self::SepConv3x3 => "sep_conv_3x3",
            Self::SepConv5x5 => "sep_conv_5x5",
            Self::SepConv7x7 => "sep_conv_7x7",
            Self::DilConv3x3 => "dil_conv_3x3",
            Self::DilConv5x5 => "dil_conv_5x5",
            Self::Conv7x1Conv1x7 => "conv_7x1_1x7",
            Self::FactorizedReduce => "factorized_reduce",
            Self::ReluConv1x1 => "relu_conv_1x1",
            Self::Conv3x3 => "conv_3x3",
            Self::ReluConv3x3 => "relu_conv_3x3",
            Self::AvgPool2x2Conv1x1 => "avg_pool_2x2_conv_1x1",
        })
    }
}

impl Block {
    /// The shapes of the weights, in the order and layout of the DARTS modules.
    pub(crate) fn weight_shapes(&self) -> Vec<[usize; 4]> {
        let (cin, cout) = (self.cin, self.cout);
        match self.conv {
            ConvKind::Separable { kernel, .. } => vec![[cin, 1, kernel, kernel], [cout, cin, 1, 1]],
            ConvKind::Full { kernel: (kh, kw) } => vec![[cout, cin, kh, kw]],
            ConvKind::Average => vec![[cout, cin, 1, 1]],
            ConvKind::Reduce => vec![[cout.div_ceil(2), cin, 1, 1], [cout / 2, cin, 1, 1]],
        }
    }
}

/// An edge: its channels, stride and operations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EdgeSpec {
    /// Channels of the input.
    pub cin: usize,
    /// Channels of the output.
    pub cout: usize,
    /// Stride, 1 or 2. An image of `h` x `w` becomes `ceil(h / stride)` x `ceil(w / stride)`.
    pub stride: usize,
    /// The operations that are summed; with none the edge adds zero.
    pub ops: Vec<OpKind>,
    /// True if pools are followed by batch norm: only in the search network.
    pub pool_norm: bool,
}

impl EdgeSpec {
    /// A mixed edge of the search network: as many channels out as in, pools with batch norm.
    pub fn mixed(channels: usize, stride: usize, ops: Vec<OpKind>) -> Self {
        Self { cin: channels, cout: channels, stride, ops, pool_norm: true }
    }

    /// An edge of the evaluation network: one operation, pools without batch norm.
    pub fn single(channels: usize, stride: usize, op: OpKind) -> Self {
        Self { cin: channels, cout: channels, stride, ops: vec![op], pool_norm: false }
    }

    /// A layer outside the nodes (preprocess, factorized reduce, stem) that changes the number of channels.
    pub fn layer(cin: usize, cout: usize, stride: usize, op: OpKind) -> Self {
        Self { cin, cout, stride, ops: vec![op], pool_norm: false }
    }

    /// Shapes of the convolution weights of operation `op`, in the order of [`crate::OpParams::convs`], as in
    /// PyTorch: depthwise `[c, 1, k, k]`, others `[cout, cin, kh, kw]`.
    pub fn conv_shapes(&self, op: OpKind) -> Vec<[usize; 4]> {
        match op.body(self) {
            Body::Chain(blocks) => blocks.iter().flat_map(Block::weight_shapes).collect(),
            Body::Identity | Body::Pool { .. } => vec![],
        }
    }

    /// Channels of each batch norm of operation `op`, in the order of [`crate::OpParams::affine`] and of the
    /// statistics.
    pub fn norm_channels(&self, op: OpKind) -> Vec<usize> {
        match op.body(self) {
            Body::Chain(blocks) => blocks.iter().filter(|b| b.norm).map(|b| b.cout).collect(),
            Body::Pool { norm: true, .. } => vec![self.cin],
            Body::Identity | Body::Pool { norm: false, .. } => vec![],
        }
    }

    /// Height and width of the output for an input of `h` x `w`.
    pub fn output_size(&self, h: usize, w: usize) -> (usize, usize) {
        (h.div_ceil(self.stride), w.div_ceil(self.stride))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fail = |field, expected: &str, found: String, remedy| {
            Err(KernelError::Spec { field, expected: expected.into(), found, remedy })
        };
        if !(1..=2).contains(&self.stride) {
            return fail(
                "stride",
                "1 or 2",
                self.stride.to_string(),
                "use stride 2 in a reduction cell, 1 elsewhere",
            );
        }
        if self.cin == 0 || self.cout == 0 {
            let found = format!("{} in, {} out", self.cin, self.cout);
            return fail("channels", "at least 1", found, "give both numbers of channels");
        }
        for op in &self.ops {
            if self.cin != self.cout && op.keeps_channels(self.stride) {
                let found = format!("{} to {} channels with {op}", self.cin, self.cout);
                return fail(
                    "channels",
                    "as many out as in",
                    found,
                    "put a relu_conv_1x1 in front of the operation",
                );
            }
            let halves = matches!(op, OpKind::FactorizedReduce | OpKind::AvgPool2x2Conv1x1);
            if halves && self.stride != 2 {
                return fail(
                    "stride",
                    &format!("2 for {op}"),
                    "1".into(),
                    "use skip_connect or relu_conv_1x1",
                );
            }
        }
        Ok(())
    }
}
