//! What stands before and after the cells: stems and classifiers.

use asap_core::Stem as StemKind;

use super::BatchNorm;
use crate::parameters::{Init, ParameterId, Parameters};

/// (ReLU,) 3x3 convolution, batch norm with affine: a step of a stem.
#[derive(Clone, Debug)]
pub struct Conv3x3Bn {
    /// `[out, in, 3, 3]`.
    pub conv: ParameterId,
    /// Follows the convolution.
    pub bn: BatchNorm,
    /// Whether a ReLU comes first.
    pub relu: bool,
    /// Stride of the convolution.
    pub stride: usize,
}

impl Conv3x3Bn {
    fn new(
        parameters: &mut Parameters,
        path: &str,
        [c_in, c_out]: [usize; 2],
        relu: bool,
        stride: usize,
    ) -> Self {
        let (shape, init) = ([c_out, c_in, 3, 3], Init::fan_in(9 * c_in));
        let conv = parameters.weight(format!("{path}.conv"), &shape, init);
        let bn = BatchNorm::new(parameters, format!("{path}.bn"), c_out, true);
        Self { conv, bn, relu, stride }
    }
}

/// What makes the two inputs of the first cell from images of any number of channels.
#[derive(Clone, Debug)]
pub enum Stem {
    /// One step to three times C, which is both inputs (DARTS `NetworkCIFAR`).
    Small(Conv3x3Bn),
    /// Three steps of stride 2 (DARTS `NetworkImageNet`): to C / 2, rounded up, and C, the first
    /// input, a quarter of the size; to C, the second, an eighth.
    Large(Box<[Conv3x3Bn; 3]>),
}

impl Stem {
    /// Adds the stem of a network with `channels` initial channels, for images of `c_in`.
    pub fn new(parameters: &mut Parameters, kind: StemKind, [c_in, channels]: [usize; 2]) -> Self {
        match kind {
            StemKind::Small => {
                let size = [c_in, 3 * channels];
                Self::Small(Conv3x3Bn::new(parameters, "stem", size, false, 1))
            }
            StemKind::Large => {
                let half = channels.div_ceil(2);
                let mut step = |i: usize, size, relu| {
                    Conv3x3Bn::new(parameters, &format!("stem.{i}"), size, relu, 2)
                };
                Self::Large(Box::new([
                    step(0, [c_in, half], false),
                    step(1, [half, channels], true),
                    step(2, [channels, channels], true),
                ]))
            }
        }
    }
}

/// Global average pool and linear layer.
#[derive(Clone, Debug)]
pub struct Head {
    /// `[classes, channels]`.
    pub weight: ParameterId,
    /// `[classes]`.
    pub bias: ParameterId,
}

impl Head {
    /// Adds the classifier.
    pub fn new(parameters: &mut Parameters, channels: usize, classes: usize) -> Self {
        let init = Init::fan_in(channels);
        Self {
            weight: parameters.weight("head.weight".to_owned(), &[classes, channels], init),
            bias: parameters.weight("head.bias".to_owned(), &[classes], init),
        }
    }
}

/// A second classifier on the output of a cell, for training only (DARTS `AuxiliaryHeadCIFAR`, its
/// pool adaptive): ReLU, average pool to 2x2, 1x1 convolution, batch norm, ReLU, 2x2 convolution without
/// padding, batch norm, ReLU, linear layer.
#[derive(Clone, Debug)]
pub struct AuxiliaryHead {
    /// `[128, channels, 1, 1]`.
    pub conv_1x1: ParameterId,
    /// Follows the 1x1 convolution.
    pub bn_1x1: BatchNorm,
    /// `[768, 128, 2, 2]`.
    pub conv_2x2: ParameterId,
    /// Follows the 2x2 convolution.
    pub bn_2x2: BatchNorm,
    /// `[classes, 768]`.
    pub weight: ParameterId,
    /// `[classes]`.
    pub bias: ParameterId,
}

impl AuxiliaryHead {
    /// Channels after the 1x1 and after the 2x2 convolution.
    const WIDTHS: [usize; 2] = [128, 768];

    /// Adds the head on a feature map of `channels`.
    pub fn new(parameters: &mut Parameters, channels: usize, classes: usize) -> Self {
        let [narrow, wide] = Self::WIDTHS;
        let path = |name: &str| format!("auxiliary.{name}");
        let mut weight =
            |name, shape: &[usize], fan| parameters.weight(path(name), shape, Init::fan_in(fan));
        let conv_1x1 = weight("conv_1x1", &[narrow, channels, 1, 1], channels);
        let conv_2x2 = weight("conv_2x2", &[wide, narrow, 2, 2], 4 * narrow);
        let linear = weight("weight", &[classes, wide], wide);
        let bias = weight("bias", &[classes], wide);
        let mut bn = |name, channels| BatchNorm::new(parameters, path(name), channels, true);
        let (bn_1x1, bn_2x2) = (bn("bn_1x1", narrow), bn("bn_2x2", wide));
        Self { conv_1x1, bn_1x1, conv_2x2, bn_2x2, weight: linear, bias }
    }
}
