//! Inputs and outputs of an edge: images, parameters, weights, gradients.

/// A batch of images, channels last: `[n, h, w, c]`.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    /// The values, `n * h * w * c` of them.
    pub data: &'a [f32],
    /// Number of images.
    pub n: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl<'a> Images<'a> {
    /// Images of shape `[n, h, w, c]`.
    pub fn new(data: &'a [f32], n: usize, h: usize, w: usize, c: usize) -> Self {
        Self { data, n, h, w, c }
    }
}

/// The destination of a result.
#[derive(Debug)]
pub enum Target<'a> {
    /// Overwrite the slice.
    Write(&'a mut [f32]),
    /// Add to what the slice holds: the sum of a node, or the gradient of an input that several edges read.
    Add(&'a mut [f32]),
}

impl<'a> Target<'a> {
    /// The slice, and true to add to it.
    pub(super) fn parts(self) -> (&'a mut [f32], bool) {
        match self {
            Self::Write(slice) => (slice, false),
            Self::Add(slice) => (slice, true),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Write(slice) | Self::Add(slice) => slice.len(),
        }
    }
}

/// Parameters of one operation.
#[derive(Debug, Clone, Default)]
pub struct OpParams<'a> {
    /// Convolution weights, of the shapes of [`EdgeSpec::conv_shapes`](crate::EdgeSpec::conv_shapes).
    pub convs: Vec<&'a [f32]>,
    /// Scale (gamma) and offset (beta) of each batch norm; empty for batch norm without affine parameters.
    pub affine: Vec<(&'a [f32], &'a [f32])>,
}

/// Weights of the sum.
#[derive(Debug, Clone, Copy)]
pub struct Mixing<'a> {
    /// The weight of each operation.
    pub weights: &'a [f32],
    /// An optional weight per image that multiplies the whole edge: the mask of drop-path over the keep probability.
    pub image_weights: Option<&'a [f32]>,
}

/// Running statistics of one batch norm, for inference.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// Mean per channel.
    pub mean: &'a [f32],
    /// Variance per channel.
    pub var: &'a [f32],
}

/// The gradients that a backward pass computes besides that of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Gradients of convolution and affine parameters: the step on the network weights.
    pub weights: bool,
    /// Gradients of the mixing weights: the step on alpha.
    pub mixing: bool,
}

/// Gradients of the parameters of an edge.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Grads {
    /// For each operation, if [`Needs::weights`]; otherwise empty.
    pub ops: Vec<OpGrads>,
    /// For each mixing weight, if [`Needs::mixing`]; otherwise empty.
    pub mixing: Vec<f32>,
}

/// Gradients of the parameters of one operation, in the order and layout of [`OpParams`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OpGrads {
    /// Gradient of each convolution weight.
    pub convs: Vec<Vec<f32>>,
    /// Gradients of gamma and beta of each batch norm; empty without affine parameters.
    pub affine: Vec<(Vec<f32>, Vec<f32>)>,
}
