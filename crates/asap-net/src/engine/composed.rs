//! Layers composed of Burn's operations: for every device, and the reference for the fused ones.

use asap_core::plan::{Candidate, Map, MixedEdge, Primitive, Step};
use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions, PadMode};
use burn::tensor::{Tensor, TensorData, s};

use super::{BATCH_NORM_EPSILON, Layers, Mixing, Value, counting, place, whole};
use crate::pass::{Mode, Norm, Pass};

/// The engine of every device.
pub(super) struct Composed;

impl Layers for Composed {
    fn edge(
        &self,
        pass: &Pass<'_>,
        edge: &MixedEdge,
        x: &Tensor<4>,
        weights: Option<&Mixing>,
        partial: Option<Tensor<4>>,
    ) -> Option<Tensor<4>> {
        let kept = image_weights(pass, edge, x);
        let sum = counting(edge, weights).fold(partial, |sum, candidate| {
            Some(add_operation(pass, edge, candidate, x, weights, kept.as_ref(), sum))
        });
        sum.or_else(|| zeros(edge, x))
    }

    fn chain(&self, pass: &Pass<'_>, steps: &[Step], x: Tensor<4>) -> Value {
        run_steps(pass, steps, Value::Map(x))
    }

    fn concat(&self, _: &Pass<'_>, maps: Vec<Tensor<4>>) -> Tensor<4> {
        Tensor::cat(maps, 3)
    }
}

/// The sum of an edge of which nothing is run; none if it has no candidates.
fn zeros(edge: &MixedEdge, x: &Tensor<4>) -> Option<Tensor<4>> {
    let [n, h, w, c] = x.dims();
    let steps = &edge.candidates.first()?.steps;
    let channels = steps.last().map_or(c, |step| step.output.channels);
    let [h, w] = [h, w].map(|side| side.div_ceil(edge.stride));
    Some(Tensor::zeros([n, h, w, channels], &x.device()))
}

/// The weights of drop-path, `[n, 1, 1, 1]`, if the pass drops the edge for some images.
pub(super) fn image_weights(pass: &Pass<'_>, edge: &MixedEdge, x: &Tensor<4>) -> Option<Tensor<4>> {
    let images = x.dims()[0];
    let weights = pass.image_weights(edge, images)?;
    let weights = Tensor::<1>::from_floats(weights.as_slice(), &x.device());
    Some(weights.reshape([images, 1, 1, 1]))
}

/// Adds an operation of an edge, `[n, h, w, c]` to `[n, ceil(h / stride), ceil(w / stride), c]`, to a node's sum so far.
pub(super) fn add_operation(
    pass: &Pass<'_>,
    edge: &MixedEdge,
    candidate: &Candidate,
    x: &Tensor<4>,
    weights: Option<&Mixing>,
    kept: Option<&Tensor<4>>,
    partial: Option<Tensor<4>>,
) -> Tensor<4> {
    let mut term = run_steps(pass, &candidate.steps, Value::Map(x.clone())).map();
    if let Some((weights, at)) = weights.zip(place(edge, candidate.index)) {
        term = term * weights.tensor().clone().narrow(0, at, 1).reshape([1, 1, 1, 1]);
    }
    if let Some(kept) = kept {
        term = term * kept.clone();
    }
    match partial {
        Some(partial) => partial + term,
        None => term,
    }
}

/// Runs steps one after the other.
pub(super) fn run_steps(pass: &Pass<'_>, steps: &[Step], x: Value) -> Value {
    steps.iter().fold(x, |x, step| run_step(pass, step, x))
}

fn run_step(pass: &Pass<'_>, step: &Step, x: Value) -> Value {
    let stride = |stride: usize| [stride; 2];
    let Map { height, width, .. } = step.output;
    Value::Map(match step.primitive {
        Primitive::Zero { .. } => {
            let x = x.map();
            let [n, _, _, c] = x.dims();
            Tensor::zeros([n, height, width, c], &x.device())
        }
        Primitive::Relu => relu(x.map()),
        Primitive::Conv { .. } => conv(pass, step, x.map()),
        Primitive::FactorizedConv => factorized_conv(pass, step, x.map()),
        Primitive::BatchNorm { .. } => batch_norm(pass, &Norm::of(step), x.map()),
        Primitive::MaxPool { stride: s } => {
            let options = MaxPoolOptions::new([3, 3]).with_stride(stride(s)).with_padding([1, 1]);
            channels_last(x.map(), |x| max_pool2d(x, options))
        }
        Primitive::AvgPool { stride: s } => {
            let options = AvgPoolOptions::new([3, 3])
                .with_stride(stride(s))
                .with_padding([1, 1])
                .with_count_include_pad(false);
            channels_last(x.map(), |x| avg_pool2d(x, options))
        }
        Primitive::AvgPool2x2 => average_pairs(x.map()),
        Primitive::AdaptivePool2x2 => adaptive_averages(x.map()),
        Primitive::GlobalPool => {
            let x = x.map();
            let [n, _, _, c] = x.dims();
            return Value::Flat(x.mean_dims(&[1, 2]).reshape([n, c]));
        }
        Primitive::Linear => {
            let [weight, bias] = [step.parameters.start, step.parameters.start + 1];
            let bias: Tensor<1> = pass.flat(bias);
            let product = x.flat().matmul(pass.weight::<2>(weight).transpose());
            return Value::Flat(product + bias.unsqueeze::<2>());
        }
        primitive => unreachable!("{primitive:?} has an arm above"),
    })
}

/// A convolution; one that sees single pixels, or the whole map at once, is a product of matrices.
fn conv(pass: &Pass<'_>, step: &Step, x: Tensor<4>) -> Tensor<4> {
    let Primitive::Conv { kernel, stride, padding, dilation, depthwise } = step.primitive else {
        unreachable!("a convolution's step");
    };
    let id = step.parameters.start;
    let [n, h, w, c] = x.dims();
    let alone = kernel == [1, 1] && stride == [1, 1];
    let whole = kernel == [h, w] && padding == [0, 0];
    if !depthwise && (alone || whole) {
        let (rows, columns) = if alone { (n * h * w, c) } else { (n, h * w * c) };
        let filter: Tensor<4> = pass.weight(id);
        let out = filter.dims()[0];
        let matrix = filter.permute([0, 2, 3, 1]).reshape([out, columns]).transpose();
        let [height, width] = if alone { [h, w] } else { [1, 1] };
        return x.reshape([rows, columns]).matmul(matrix).reshape([n, height, width, out]);
    }
    let groups = if depthwise { c } else { 1 };
    let options = ConvOptions::new(stride, padding, [dilation; 2], groups);
    channels_last(x, |x| conv2d(x, pass.weight(id), None, options))
}

fn factorized_conv(pass: &Pass<'_>, step: &Step, x: Tensor<4>) -> Tensor<4> {
    let [_, h, w, _] = x.dims();
    let options = || ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    let x = x.pad([(0, 0), (0, h % 2), (0, w % 2), (0, 0)], PadMode::Constant(0.0));
    let conv = |id, x| channels_last(x, |x| conv2d(x, pass.weight(id), None, options()));
    let even = conv(step.parameters.start, x.clone().slice(s![.., 0..;2, 0..;2, ..]));
    let odd = conv(step.parameters.start + 1, x.slice(s![.., 1..;2, 1..;2, ..]));
    Tensor::cat(vec![even, odd], 3)
}

/// Normalises each channel over images, rows and columns (biased variance, as in PyTorch).
fn batch_norm(pass: &Pass<'_>, norm: &Norm, x: Tensor<4>) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let (mean, variance) = if pass.mode() == Mode::Evaluation {
        let (mean, variance) = pass.running(norm);
        (mean.reshape([1, 1, 1, c]), variance.reshape([1, 1, 1, c]))
    } else {
        let whole = pass.whole();
        let parts = whole.map_or(1, |whole| whole.parts());
        let mean_of = |x: Tensor<4>| {
            let mean = x.mean_dims(&[0, 1, 2]);
            match whole {
                Some(whole) => whole::sum(whole, mean * (1.0 / parts as f64)),
                None => mean,
            }
        };
        let mean = mean_of(x.clone());
        let centred = x.clone() - mean.clone();
        let variance = mean_of(centred.clone() * centred);
        let count = parts * n * h * w;
        pass.observe(norm, mean.clone().reshape([c]), variance.clone().reshape([c]), count);
        (mean, variance)
    };
    let y = (x - mean) / (variance + BATCH_NORM_EPSILON).sqrt();
    match norm.affine {
        None => y,
        Some([gamma, beta]) => {
            y * pass.flat(gamma).reshape([1, 1, 1, c]) + pass.flat(beta).reshape([1, 1, 1, c])
        }
    }
}

/// Averages over squares of two rows and columns. A last row or column without a partner is its own: it is taken twice, which leaves its
/// mean as it is.
fn average_pairs(x: Tensor<4>) -> Tensor<4> {
    let even = |x: Tensor<4>, dim: usize| match x.dims()[dim] {
        side if side % 2 == 1 => {
            let last = x.clone().narrow(dim, side - 1, 1);
            Tensor::cat(vec![x, last], dim)
        }
        _ => x,
    };
    let x = even(even(x, 1), 2);
    let [n, h, w, c] = x.dims();
    let pairs = x.reshape([n, h / 2, 2, w / 2, 2, c]);
    pairs.mean_dims(&[2, 4]).reshape([n, h / 2, w / 2, c])
}

/// Averages over two by two parts that overlap where a side is odd, `[n, 2, 2, c]`, as a product with a matrix.
fn adaptive_averages(x: Tensor<4>) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let matrix = TensorData::new(average_matrix([h, w]), [1, 4, h * w]);
    let matrix = Tensor::<3>::from_data(matrix, &x.device());
    matrix.matmul(x.reshape([n, h * w, c])).reshape([n, 2, 2, c])
}

/// The matrix `[4, h * w]` of such averages.
fn average_matrix([h, w]: [usize; 2]) -> Vec<f32> {
    let part = |size: usize, i: usize| i * size / 2..((i + 1) * size).div_ceil(2);
    let mut matrix = vec![0.0; 4 * h * w];
    for (pixel, row) in matrix.chunks_exact_mut(h * w).enumerate() {
        let (rows, columns) = (part(h, pixel / 2), part(w, pixel % 2));
        let share = 1.0 / (rows.len() * columns.len()) as f32;
        for y in rows {
            row[y * w..][columns.clone()].fill(share);
        }
    }
    matrix
}

/// Runs `f`, which expects `[n, c, h, w]`, on a channels-last tensor.
pub(super) fn channels_last(x: Tensor<4>, f: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    f(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adaptive_pool_averages_overlapping_halves() {
        assert_eq!(average_matrix([1, 1]), [1.0; 4]);
        // 3 rows: 0 and 1, then 1 and 2; 2 columns: one each
        let expected = [
            [0.5, 0.0, 0.5, 0.0, 0.0, 0.0],
            [0.0, 0.5, 0.0, 0.5, 0.0, 0.0],
            [0.0, 0.0, 0.5, 0.0, 0.5, 0.0],
            [0.0, 0.0, 0.0, 0.5, 0.0, 0.5],
        ];
        assert_eq!(average_matrix([3, 2]), expected.concat());
        // an even size is divided into quarters
        let eight = average_matrix([8, 8]);
        assert!(eight.iter().all(|&v| v == 0.0 || v == 1.0 / 16.0));
        assert_eq!(eight[64 + 3 * 8 + 4], 1.0 / 16.0, "row 3, column 4 is top right");
    }
}
