//! The arithmetic of each layer: the seam behind which a device can bring its own kernels.
//!
//! Feature maps are `[images, height, width, channels]` throughout. The bodies here are composed of
//! Burn's operations, run on every device, and are the reference for the fused ones that the CPU has.

use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions, PadMode};
use burn::tensor::{Tensor, TensorData, s};

use crate::fused;
use crate::layers::{
    AuxiliaryHead, BatchNorm, Body, Candidate, Conv3x3Bn, FactorizedReduce, Head, MixedEdge,
    Preprocess, ReluConvBn, SeparableHalf, Stem,
};
use crate::parameters::ParameterId;
use crate::pass::{Mode, Pass};

/// Added to a variance before its root is taken.
pub const BATCH_NORM_EPSILON: f32 = 1e-5;

/// The mixing weights of the edges of one kind of cell, `[edges * candidates]`.
pub type Mixing = Tensor<1>;

/// Adds a mixed edge to what a node has so far: `partial + sum_o w_o * o(x)` (equations 1 and 2).
///
/// Where the pass drops operations, the sum of each image is multiplied by its weight of
/// [`Pass::image_weights`], after the batch norms.
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
    let images = x.dims()[0];
    let kept = pass.image_weights(edge, images).map(|weights| {
        Tensor::<1>::from_floats(weights.as_slice(), &x.device()).reshape([images, 1, 1, 1])
    });
    edge.candidates.iter().fold(partial, |partial, candidate| {
        let at = edge.offset + candidate.index;
        let weight = mixing.clone().narrow(0, at, 1).reshape([1, 1, 1, 1]);
        let term = operation(pass, candidate, edge.stride, x.clone()) * weight;
        let term = match &kept {
            Some(kept) => term * kept.clone(),
            None => term,
        };
        Some(match partial {
            Some(partial) => partial + term,
            None => term,
        })
    })
}

/// A node with partial channel connections: the first of `parts` equal parts of the channels of each input goes
/// through the mixed edge, and the others pass it by, times the sum of the edge's mixing weights; where the edge has
/// stride 2 they go through a 2x2 max pool. At last the channels are shuffled, so that the next node sees others
/// (Xu et al. 2020, section 3.2, and the published code).
pub fn partial_node<'a>(
    pass: &Pass,
    edges: impl Iterator<Item = (&'a MixedEdge, &'a Tensor<4>)>,
    parts: usize,
    mixing: &Mixing,
) -> Option<Tensor<4>> {
    let (mut mixed, mut passing) = (None, None);
    for (edge, x) in edges {
        let channels = x.dims()[3];
        let seen = channels / parts;
        let x_seen = x.clone().narrow(3, 0, seen);
        mixed = mixed_edge(pass, edge, &x_seen, mixing, mixed);
        let weights =
            edge.candidates.iter().map(|c| mixing.clone().narrow(0, edge.offset + c.index, 1));
        let weight = Tensor::cat(weights.collect(), 0).sum().reshape([1, 1, 1, 1]);
        let mut by = x.clone().narrow(3, seen, channels - seen);
        if edge.stride == 2 {
            let options = MaxPoolOptions::new([2, 2]).with_stride([2, 2]).with_ceil_mode(true);
            by = channels_last(by, |x| max_pool2d(x, options));
        }
        let by = by * weight;
        passing = Some(match passing {
            Some(passing) => passing + by,
            None => by,
        });
    }
    let node = Tensor::cat(vec![mixed?, passing?], 3);
    let [n, h, w, c] = node.dims();
    Some(node.reshape([n, h, w, parts, c / parts]).swap_dims(3, 4).reshape([n, h, w, c]))
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

/// The two inputs of the first cell.
pub fn stem(pass: &Pass, stem: &Stem, x: Tensor<4>) -> [Tensor<4>; 2] {
    match stem {
        Stem::Small(layer) => {
            let y = conv3x3(pass, layer, x);
            [y.clone(), y]
        }
        Stem::Large(steps) => {
            let [half, quarter, eighth] = &**steps;
            let first = conv3x3(pass, quarter, conv3x3(pass, half, x));
            [first.clone(), conv3x3(pass, eighth, first)]
        }
    }
}

fn conv3x3(pass: &Pass, layer: &Conv3x3Bn, x: Tensor<4>) -> Tensor<4> {
    if pass.kernels() {
        return fused::conv3x3(pass, layer, x);
    }
    let x = if layer.relu { relu(x) } else { x };
    let options = ConvOptions::new([layer.stride; 2], [1, 1], [1, 1], 1);
    let y = channels_last(x, |x| conv2d(x, pass.weight(layer.conv), None, options));
    batch_norm(pass, &layer.bn, y)
}

/// The output of a cell: some of its states side by side, `[n, h, w, states * c]`.
pub fn concat(pass: &Pass, states: Vec<Tensor<4>>) -> Tensor<4> {
    if pass.kernels() && states.len() <= fused::MAX_CONCAT {
        fused::concat(pass, states)
    } else {
        Tensor::cat(states, 3)
    }
}

/// Takes back maps; the memory of those that nobody else holds is used again.
pub(crate) fn reclaim(pass: &Pass, maps: impl Iterator<Item = Tensor<4>>) {
    if pass.kernels() {
        fused::reclaim(maps);
    }
}

/// Global average pool and linear layer: `[n, h, w, c]` to logits `[n, classes]`.
pub fn head(pass: &Pass, head: &Head, x: Tensor<4>) -> Tensor<2> {
    let [n, _, _, c] = x.dims();
    let pooled = if pass.kernels() {
        fused::global_pool(pass, x)
    } else {
        x.mean_dims(&[1, 2]).reshape([n, c])
    };
    linear(pass, pooled, [head.weight, head.bias])
}

/// The second classifier: `[n, h, w, c]` of any size to logits `[n, classes]`.
///
/// Its convolutions see 2x2 pixels, so that they are products of matrices.
pub fn auxiliary_head(pass: &Pass, head: &AuxiliaryHead, x: Tensor<4>) -> Tensor<2> {
    let [n, h, w, c] = x.dims();
    let pool = TensorData::new(adaptive_pool(h, w), [1, 4, h * w]);
    let pool = Tensor::<3>::from_data(pool, &x.device());
    let pooled = pool.matmul(relu(x).reshape([n, h * w, c])).reshape([4 * n, c]);
    let matrix = |conv| {
        let conv: Tensor<4> = pass.weight(conv);
        let [out, channels, height, width] = conv.dims();
        conv.permute([0, 2, 3, 1]).reshape([out, height * width * channels]).transpose()
    };
    let [narrow, wide] = [head.conv_1x1, head.conv_2x2].map(|conv| pass.shape(conv)[0]);
    let y = pooled.matmul(matrix(head.conv_1x1)).reshape([n, 2, 2, narrow]);
    let y = relu(batch_norm(pass, &head.bn_1x1, y)).reshape([n, 4 * narrow]);
    let y = y.matmul(matrix(head.conv_2x2)).reshape([n, 1, 1, wide]);
    let y = relu(batch_norm(pass, &head.bn_2x2, y)).reshape([n, wide]);
    linear(pass, y, [head.weight, head.bias])
}

/// The matrix `[4, h * w]` of an average pool to 2x2; on an odd side the halves share the middle
/// (PyTorch `AdaptiveAvgPool2d`).
fn adaptive_pool(h: usize, w: usize) -> Vec<f32> {
    let half = |size: usize, i: usize| i * size / 2..((i + 1) * size).div_ceil(2);
    let mut matrix = vec![0.0; 4 * h * w];
    for (cell, row) in matrix.chunks_exact_mut(h * w).enumerate() {
        let (rows, columns) = (half(h, cell / 2), half(w, cell % 2));
        let share = 1.0 / (rows.len() * columns.len()) as f32;
        for y in rows {
            row[y * w..][columns.clone()].fill(share);
        }
    }
    matrix
}

fn linear(pass: &Pass, x: Tensor<2>, [weight, bias]: [ParameterId; 2]) -> Tensor<2> {
    let bias: Tensor<1> = pass.flat(bias);
    x.matmul(pass.weight::<2>(weight).transpose()) + bias.unsqueeze::<2>()
}

/// Runs `f`, which wants `[n, c, h, w]`, on a channels-last tensor.
fn channels_last(x: Tensor<4>, f: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    f(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adaptive_pool_averages_overlapping_halves() {
        assert_eq!(adaptive_pool(1, 1), [1.0; 4]);
        // 3 rows: 0 and 1, then 1 and 2; 2 columns: one each
        let expected = [
            [0.5, 0.0, 0.5, 0.0, 0.0, 0.0],
            [0.0, 0.5, 0.0, 0.5, 0.0, 0.0],
            [0.0, 0.0, 0.5, 0.0, 0.5, 0.0],
            [0.0, 0.0, 0.0, 0.5, 0.0, 0.5],
        ];
        assert_eq!(adaptive_pool(3, 2), expected.concat());
        // an even size falls into quarters
        let eight = adaptive_pool(8, 8);
        assert!(eight.iter().all(|&v| v == 0.0 || v == 1.0 / 16.0));
        assert_eq!(eight[64 + 3 * 8 + 4], 1.0 / 16.0, "row 3, column 4 is top right");
    }
}
