//! The arithmetic of each layer: the seam behind which a device can bring its own kernels.
//!
//! Feature maps are `[images, height, width, channels]` throughout. The bodies here are composed of
//! Burn's operations, run on every device, and are the reference for the fused ones that the CPU has.

use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions, PadMode};
use burn::tensor::{Tensor, s};

use crate::fused;
use crate::layers::{
    BatchNorm, Body, Candidate, FactorizedReduce, Head, MixedEdge, Preprocess, ReluConvBn,
    SeparableHalf, Stem,
};
use crate::parameters::ParameterId;
use crate::pass::{Mode, Pass};

/// Added to a variance before its root is taken.
pub const BATCH_NORM_EPSILON: f32 = 1e-5;

/// The mixing weights of the edges of one kind of cell, `[edges * candidates]`.
pub type Mixing = Tensor<1>;

/// Adds a mixed edge to what a node has so far: `partial + sum_o w_o * o(x)` (equations 1 and 2).
pub fn mixed_edge(
    pass: &Pass,
    edge: &MixedEdge,
    x: &Tensor<4>,
    mixing: &Mixing,
    partial: Option<Tensor<4>>,
) -> Option<Tensor<4>> {
    if pass.kernels() {
        return fused::mixed_edge(pass, edge, x, mixing, partial);
    }
    edge.candidates.iter().fold(partial, |partial, candidate| {
        let at = edge.offset + candidate.index;
        let weight = mixing.clone().narrow(0, at, 1).reshape([1, 1, 1, 1]);
        let term = operation(pass, candidate, edge.stride, x.clone()) * weight;
        Some(match partial {
            Some(partial) => partial + term,
            None => term,
        })
    })
}

/// One operation: `[n, h, w, c]` to `[n, ceil(h / stride), ceil(w / stride), c]`.
pub fn operation(pass: &Pass, candidate: &Candidate, stride: usize, x: Tensor<4>) -> Tensor<4> {
    match &candidate.body {
        Body::Zero => {
            let [n, h, w, c] = x.dims();
            Tensor::zeros([n, h.div_ceil(stride), w.div_ceil(stride), c], &x.device())
        }
        Body::Identity => x,
        Body::Reduce(layer) => factorized_reduce(pass, layer, x),
        Body::MaxPool(bn) => {
            let options = MaxPoolOptions::new([3, 3]).with_stride([stride; 2]).with_padding([1, 1]);
            maybe_norm(pass, bn.as_ref(), channels_last(x, |x| max_pool2d(x, options)))
        }
        Body::AvgPool(bn) => {
            let options = AvgPoolOptions::new([3, 3])
                .with_stride([stride; 2])
                .with_padding([1, 1])
                .with_count_include_pad(false);
            maybe_norm(pass, bn.as_ref(), channels_last(x, |x| avg_pool2d(x, options)))
        }
        Body::Separable(halves) => halves.iter().fold(x, |x, half| separable_half(pass, half, x)),
        Body::Conv7x1Then1x7 { conv_1x7, conv_7x1, bn } => {
            let options = |stride, padding| ConvOptions::new(stride, padding, [1, 1], 1);
            let y = channels_last(relu(x), |x| {
                let x = conv2d(x, pass.weight(*conv_1x7), None, options([1, stride], [0, 3]));
                conv2d(x, pass.weight(*conv_7x1), None, options([stride, 1], [3, 0]))
            });
            batch_norm(pass, bn, y)
        }
    }
}

fn maybe_norm(pass: &Pass, bn: Option<&BatchNorm>, x: Tensor<4>) -> Tensor<4> {
    match bn {
        Some(bn) => batch_norm(pass, bn, x),
        None => x,
    }
}

/// ReLU, depthwise, 1x1, batch norm.
fn separable_half(pass: &Pass, half: &SeparableHalf, x: Tensor<4>) -> Tensor<4> {
    let channels = x.dims()[3];
    let padding = [half.padding(); 2];
    let depthwise = ConvOptions::new([half.stride; 2], padding, [half.dilation; 2], channels);
    let y = channels_last(relu(x), |x| {
        let x = conv2d(x, pass.weight(half.depthwise), None, depthwise);
        conv2d(x, pass.weight(half.pointwise), None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1))
    });
    batch_norm(pass, &half.bn, y)
}

/// Brings a cell's input to its channels and size.
pub fn preprocess(pass: &Pass, layer: &Preprocess, x: Tensor<4>) -> Tensor<4> {
    if pass.kernels() {
        return fused::preprocess(pass, layer, x);
    }
    match layer {
        Preprocess::Conv(ReluConvBn { conv, bn }) => {
            batch_norm(pass, bn, conv_1x1(pass, *conv, relu(x)))
        }
        Preprocess::Reduce(layer) => factorized_reduce(pass, layer, x),
    }
}

fn conv_1x1(pass: &Pass, conv: ParameterId, x: Tensor<4>) -> Tensor<4> {
    let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    channels_last(x, |x| conv2d(x, pass.weight(conv), None, options))
}

fn factorized_reduce(pass: &Pass, layer: &FactorizedReduce, x: Tensor<4>) -> Tensor<4> {
    let [_, h, w, _] = x.dims();
    let padding = [(0, 0), (0, h % 2), (0, w % 2), (0, 0)];
    let x = relu(x).pad(padding, PadMode::Constant(0.0));
    let even = conv_1x1(pass, layer.conv_a, x.clone().slice(s![.., 0..;2, 0..;2, ..]));
    let odd = conv_1x1(pass, layer.conv_b, x.slice(s![.., 1..;2, 1..;2, ..]));
    batch_norm(pass, &layer.bn, Tensor::cat(vec![even, odd], 3))
}

/// Normalises each channel over images, rows and columns (biased variance, as PyTorch).
pub fn batch_norm(pass: &Pass, bn: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let (mean, variance) = if pass.mode() == Mode::Evaluation {
        let (mean, variance) = pass.running(bn);
        (mean.reshape([1, 1, 1, c]), variance.reshape([1, 1, 1, c]))
    } else {
        let mean = x.clone().mean_dims(&[0, 1, 2]);
        let centred = x.clone() - mean.clone();
        let variance = (centred.clone() * centred).mean_dims(&[0, 1, 2]);
        pass.observe(bn, mean.clone().reshape([c]), variance.clone().reshape([c]), n * h * w);
        (mean, variance)
    };
    let y = (x - mean) / (variance + BATCH_NORM_EPSILON).sqrt();
    match bn.affine {
        None => y,
        Some((gamma, beta)) => {
            y * pass.flat(gamma).reshape([1, 1, 1, c]) + pass.flat(beta).reshape([1, 1, 1, c])
        }
    }
}

/// The stem: any number of channels to 3C.
pub fn stem(pass: &Pass, stem: &Stem, x: Tensor<4>) -> Tensor<4> {
    if pass.kernels() {
        return fused::stem(pass, stem, x);
    }
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let y = channels_last(x, |x| conv2d(x, pass.weight(stem.conv), None, options));
    batch_norm(pass, &stem.bn, y)
}

/// The output of a cell: its nodes side by side, `[n, h, w, nodes * c]`.
pub fn concat(pass: &Pass, nodes: Vec<Tensor<4>>) -> Tensor<4> {
    if pass.kernels() { fused::concat(pass, nodes) } else { Tensor::cat(nodes, 3) }
}

/// Global average pool and linear layer: `[n, h, w, c]` to logits `[n, classes]`.
pub fn head(pass: &Pass, head: &Head, x: Tensor<4>) -> Tensor<2> {
    let [n, _, _, c] = x.dims();
    let pooled = if pass.kernels() {
        fused::global_pool(pass, x)
    } else {
        x.mean_dims(&[1, 2]).reshape([n, c])
    };
    let bias: Tensor<1> = pass.flat(head.bias);
    pooled.matmul(pass.weight::<2>(head.weight).transpose()) + bias.unsqueeze::<2>()
}

/// Runs `f`, which wants `[n, c, h, w]`, on a channels-last tensor.
fn channels_last(x: Tensor<4>, f: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    f(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
}
