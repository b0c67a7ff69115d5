//! The parts of a chain of a plan: primitive steps with their shapes, their parameters and their cost.

use std::ops::Range;

use super::Cost;

/// The shape of a feature map of one image; features without rows and columns are 1 x 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// A primitive computation on a feature map `[height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Primitive {
    /// A map of zeros, `ceil(size / stride)` large.
    Zero {
        /// The factor that divides the size.
        stride: usize,
    },
    /// `max(x, 0)`.
    Relu,
    /// A convolution without bias. Its parameter is `[out, in / groups, height, width]`.
    Conv {
        /// Height and width of the kernel.
        kernel: [usize; 2],
        /// Along the height and along the width.
        stride: [usize; 2],
        /// Zeros above and below, and left and right.
        padding: [usize; 2],
        /// Distance between the kernel's taps.
        dilation: usize,
        /// One kernel per channel (as many groups as channels); otherwise one group.
        depthwise: bool,
    },
    /// The convolutions of a factorized reduce: 1x1 with stride 2 on the even rows and columns, and another on the odd
    /// ones, side by side. A last odd row or column that is missing counts as zeros. Parameters: `[ceil(out / 2), in, 1, 1]`
    /// and `[floor(out / 2), in, 1, 1]`.
    FactorizedConv,
    /// Normalizes each channel over images, rows and columns. Parameters: running mean, running variance and, with
    /// `affine`, gamma and beta, `[channels]` each.
    BatchNorm {
        /// Scale and shift are trained.
        affine: bool,
    },
    /// 3x3 maximum, padding 1.
    MaxPool {
        /// Along both sides.
        stride: usize,
    },
    /// 3x3 average, padding 1 and not counted.
    AvgPool {
        /// Along both sides.
        stride: usize,
    },
    /// 2x2 average of stride 2; at the end of an odd side, over the existing pixels.
    AvgPool2x2,
    /// Average over a 2x2 grid of the map, whatever its size; on an odd side the halves share the middle.
    AdaptivePool2x2,
    /// Mean over rows and columns.
    GlobalPool,
    /// `x W^T + b`. Parameters: `[out, in]` and `[out]`.
    Linear,
}

/// A primitive at its place in a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The computation.
    pub primitive: Primitive,
    /// Its input.
    pub input: Map,
    /// Its output.
    pub output: Map,
    /// Its parameters among [`Plan::parameters`](super::Plan::parameters).
    pub parameters: Range<usize>,
}

/// A tensor that a network owns.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Dotted path, such as `cells.0.edges.3.sep_conv_3x3.halves.0.depthwise`.
    pub name: String,
    /// Logical shape; convolutions are `[out, in / groups, height, width]`.
    pub shape: Vec<usize>,
    /// Its purpose.
    pub role: Role,
    /// Its initial value.
    pub init: Init,
}

/// The purpose of a tensor of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained by the optimizer, and multiplied with its input.
    Weight,
    /// Trained by the optimizer, and added: the shift of a batch norm, the bias of a linear layer.
    Bias,
    /// Kept by the network itself: the running mean and variance of a batch norm.
    Buffer,
}

impl Role {
    /// True if the optimizer moves the tensor.
    pub fn is_trained(self) -> bool {
        self != Self::Buffer
    }
}

/// The initial value of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `[-bound, bound]`.
    Uniform(f32),
    /// Every element the same.
    Constant(f32),
}

impl Init {
    /// PyTorch's default for convolutions and linear layers: the bound is `1 / sqrt(fan_in)`.
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in as f32).sqrt())
    }
}

impl Map {
    /// Features without rows and columns.
    pub fn flat(channels: usize) -> Self {
        Self { channels, height: 1, width: 1 }
    }

    /// The map after a step of this stride: `ceil(size / stride)`.
    pub fn strided(self, stride: usize) -> Self {
        Self { height: self.height.div_ceil(stride), width: self.width.div_ceil(stride), ..self }
    }

    /// Rows times columns.
    pub fn pixels(self) -> u64 {
        (self.height as u64).saturating_mul(self.width as u64)
    }

    /// Number of elements.
    pub fn elements(self) -> u64 {
        (self.channels as u64).saturating_mul(self.pixels())
    }
}

impl Step {
    /// The exact cost of the step for one image; `parameters` are those of the whole plan.
    pub fn cost(&self, parameters: &[Parameter]) -> Cost {
        let trained = || parameters[self.parameters.clone()].iter().filter(|p| p.role.is_trained());
        let weights = |p: &Parameter| {
            p.shape.iter().fold(1, |product: u64, &side| product.saturating_mul(side as u64))
        };
        let params = trained().map(weights).fold(0, u64::saturating_add);
        let output = self.output.elements();
        let (multiply_adds, activations) = match self.primitive {
            // Each weight is used once per pixel of the output.
            Primitive::Conv { .. } | Primitive::FactorizedConv => {
                (params.saturating_mul(self.output.pixels()), output)
            }
            // The bias is added, not multiplied.
            Primitive::Linear => (params.saturating_sub(output), output),
            Primitive::MaxPool { .. }
            | Primitive::AvgPool { .. }
            | Primitive::AvgPool2x2
            | Primitive::AdaptivePool2x2 => (0, output),
            Primitive::Zero { .. }
            | Primitive::Relu
            | Primitive::BatchNorm { .. }
            | Primitive::GlobalPool => (0, 0),
        };
        Cost { params, multiply_adds, activations }
    }
}
