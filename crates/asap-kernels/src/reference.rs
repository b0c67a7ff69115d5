//! The definition of every operation in the plainest loops and `f64`, which the fused kernels are tested against.
//!
//! An operation is a list of layers as in the DARTS code; a layer goes forward and backward on its own, and nothing is
//! shared with the fused code but the names.

use crate::edge::{Mixing, OpParams};
use crate::spec::{EdgeSpec, OpKind};

/// A tensor `[n, h, w, c]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The values.
    pub data: Vec<f64>,
    /// `[n, h, w, c]`.
    pub shape: [usize; 4],
}

/// Parameters of an operation, in the order of [`OpParams`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params {
    /// Convolution weights.
    pub convs: Vec<Vec<f64>>,
    /// Gamma and beta of each batch norm; empty without affine parameters.
    pub affine: Vec<(Vec<f64>, Vec<f64>)>,
}

/// Gradients of an edge.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeGrads {
    /// Gradient of the input.
    pub input: Tensor,
    /// Gradients of the parameters of each operation.
    pub ops: Vec<Params>,
    /// Gradients of the mixing weights.
    pub mixing: Vec<f64>,
}

/// Mean and biased variance per channel of a batch norm.
pub type Statistics = (Vec<f64>, Vec<f64>);

/// An edge on a batch: its output and all intermediate results.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeRun {
    /// The weighted sum of the operations.
    pub out: Tensor,
    /// For each operation, the statistics of each batch norm over the batch.
    pub stats: Vec<Vec<Statistics>>,
    /// For each operation, the input of each layer and the result of the last.
    activations: Vec<Vec<Tensor>>,
}

/// The weighted sum of the operations of an edge. Batch norm uses the statistics of the batch, or `running` ones.
pub fn forward(
    spec: &EdgeSpec,
    x: &Tensor,
    params: &[Params],
    mixing: Mixing<'_>,
    running: Option<&[Vec<Statistics>]>,
) -> EdgeRun {
    let (h, w) = spec.output_size(x.shape[1], x.shape[2]);
    let mut out = Tensor::zeros([x.shape[0], h, w, spec.cout]);
    let (mut stats, mut activations) = (vec![], vec![]);
    for (index, op) in spec.ops.iter().enumerate() {
        let (mut op_stats, mut tape) = (vec![], vec![x.clone()]);
        for layer in layers(*op, spec) {
            let x = &tape[tape.len() - 1];
            if let Layer::Norm { norm } = layer {
                op_stats.push(
                    running.map_or_else(|| x.statistics(), |running| running[index][norm].clone()),
                );
            }
            let y = layer.forward(x, &params[index], &op_stats);
            tape.push(y);
        }
        let (y, weight) = (&tape[tape.len() - 1], f64::from(mixing.weights[index]));
        assert_eq!(y.shape, out.shape, "{op} yields another shape");
        for (i, (out, y)) in out.data.iter_mut().zip(&y.data).enumerate() {
            *out += weight * image_weight(mixing, i / (h * w * spec.cout)) * y;
        }
        stats.push(op_stats);
        activations.push(tape);
    }
    EdgeRun { out, stats, activations }
}

/// The gradients of an edge whose batch norms used the statistics of the batch.
pub fn backward(
    spec: &EdgeSpec,
    run: &EdgeRun,
    params: &[Params],
    mixing: Mixing<'_>,
    grad_out: &Tensor,
) -> EdgeGrads {
    let [_, h, w, c] = grad_out.shape;
    let (mut input, mut ops, mut weights) = (None::<Tensor>, vec![], vec![]);
    for (index, op) in spec.ops.iter().enumerate() {
        let tape = &run.activations[index];
        let mut d = grad_out.clone();
        for (i, d) in d.data.iter_mut().enumerate() {
            *d *= image_weight(mixing, i / (h * w * c));
        }
        weights.push(d.data.iter().zip(&tape[tape.len() - 1].data).map(|(d, y)| d * y).sum());
        d.data.iter_mut().for_each(|d| *d *= f64::from(mixing.weights[index]));
        let mut grads = params[index].zeros();
        for (layer, x) in layers(*op, spec).iter().zip(tape).rev() {
            d = layer.backward(x, &params[index], &run.stats[index], &d, &mut grads);
        }
        ops.push(grads);
        input = Some(match input {
            None => d,
            Some(mut sum) => {
                sum.data.iter_mut().zip(&d.data).for_each(|(sum, d)| *sum += d);
                sum
            }
        });
    }
    let none = || Tensor::zeros([grad_out.shape[0], h * spec.stride, w * spec.stride, spec.cin]);
    EdgeGrads { input: input.unwrap_or_else(none), ops, mixing: weights }
}

fn image_weight(mixing: Mixing<'_>, image: usize) -> f64 {
    mixing.image_weights.map_or(1.0, |weights| f64::from(weights[image]))
}

impl Tensor {
    /// A tensor of zeros.
    pub fn zeros(shape: [usize; 4]) -> Self {
        Self { data: vec![0.0; shape.iter().product()], shape }
    }

    /// A tensor of `f32` values.
    pub fn new(data: &[f32], shape: [usize; 4]) -> Self {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "the data does not fill {shape:?}");
        Self { data: data.iter().map(|v| f64::from(*v)).collect(), shape }
    }

    fn at(&self, n: usize, y: usize, x: usize, c: usize) -> usize {
        let [_, h, w, channels] = self.shape;
        ((n * h + y) * w + x) * channels + c
    }

    /// The pixel, or `None` outside the image.
    fn inside(&self, n: usize, y: isize, x: isize, c: usize) -> Option<usize> {
        let [_, h, w, _] = self.shape;
        let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
        inside.then(|| self.at(n, y as usize, x as usize, c))
    }

    /// Mean and biased variance per channel.
    fn statistics(&self) -> Statistics {
        let c = self.shape[3];
        let count = (self.data.len() / c) as f64;
        let channel = |channel: usize| self.data.iter().skip(channel).step_by(c);
        let mean: Vec<f64> = (0..c).map(|i| channel(i).sum::<f64>() / count).collect();
        let var = (0..c)
            .map(|i| channel(i).map(|v| (v - mean[i]).powi(2)).sum::<f64>() / count)
            .collect();
        (mean, var)
    }
}

impl Params {
    /// Parameters of `f32` values.
    pub fn new(params: &OpParams<'_>) -> Self {
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect();
        Self {
            convs: params.convs.iter().map(|v| wide(v)).collect(),
            affine: params.affine.iter().map(|(g, b)| (wide(g), wide(b))).collect(),
        }
    }

    fn zeros(&self) -> Self {
        let zeros = |v: &Vec<f64>| vec![0.0; v.len()];
        Self {
            convs: self.convs.iter().map(zeros).collect(),
            affine: self.affine.iter().map(|(g, b)| (zeros(g), zeros(b))).collect(),
        }
    }
}

/// A layer of an operation.
#[derive(Debug, Clone, Copy)]
enum Layer {
    Relu,
    Conv(Conv),
    /// Batch norm number `norm`.
    Norm {
        norm: usize,
    },
    MaxPool {
        stride: usize,
    },
    AvgPool {
        size: usize,
        stride: usize,
    },
    /// Weights 0 and 1 on the image and on the shifted image.
    Reduce {
        cout: usize,
    },
}

/// A convolution with weight number `weight`, `[cout, cin / groups, kh, kw]`.
#[derive(Debug, Clone, Copy)]
struct Conv {
    weight: usize,
    cout: usize,
    groups: usize,
    kernel: (usize, usize),
    stride: (usize, usize),
    dilation: usize,
}

/// The layers of an operation.
fn layers(op: OpKind, spec: &EdgeSpec) -> Vec<Layer> {
    let (cin, cout, s) = (spec.cin, spec.cout, spec.stride);
    let full = |weight, kernel, stride| {
        Layer::Conv(Conv { weight, cout, groups: 1, kernel, stride, dilation: 1 })
    };
    // ReLU, depthwise, 1x1, batch norm.
    let half = |norm: usize, k, stride, dilation, cout| {
        let depthwise = Conv {
            weight: 2 * norm,
            cout: cin,
            groups: cin,
            kernel: (k, k),
            stride: (stride, stride),
            dilation,
        };
        let pointwise = Conv {
            weight: 2 * norm + 1,
            cout,
            groups: 1,
            kernel: (1, 1),
            stride: (1, 1),
            dilation: 1,
        };
        vec![Layer::Relu, Layer::Conv(depthwise), Layer::Conv(pointwise), Layer::Norm { norm }]
    };
    let sep = |k| [half(0, k, s, 1, cin), half(1, k, 1, 1, cout)].concat();
    let pool =
        |layer| if spec.pool_norm { vec![layer, Layer::Norm { norm: 0 }] } else { vec![layer] };
    match op {
        OpKind::MaxPool3x3 => pool(Layer::MaxPool { stride: s }),
        OpKind::AvgPool3x3 => pool(Layer::AvgPool { size: 3, stride: s }),
        OpKind::SkipConnect if s == 1 => vec![],
        OpKind::SkipConnect | OpKind::FactorizedReduce => {
            vec![Layer::Relu, Layer::Reduce { cout }, Layer::Norm { norm: 0 }]
        }
        OpKind::SepConv3x3 => sep(3),
        OpKind::SepConv5x5 => sep(5),
        OpKind::SepConv7x7 => sep(7),
        OpKind::DilConv3x3 => half(0, 3, s, 2, cout),
        OpKind::DilConv5x5 => half(0, 5, s, 2, cout),
        OpKind::Conv7x1Conv1x7 => {
            vec![
                Layer::Relu,
                full(0, (1, 7), (1, s)),
                full(1, (7, 1), (s, 1)),
                Layer::Norm { norm: 0 },
            ]
        }
        OpKind::ReluConv1x1 => vec![Layer::Relu, full(0, (1, 1), (s, s)), Layer::Norm { norm: 0 }],
        OpKind::Conv3x3 => vec![full(0, (3, 3), (s, s)), Layer::Norm { norm: 0 }],
        OpKind::ReluConv3x3 => vec![Layer::Relu, full(0, (3, 3), (s, s)), Layer::Norm { norm: 0 }],
        OpKind::AvgPool2x2Conv1x1 => {
            vec![Layer::AvgPool { size: 2, stride: s }, full(0, (1, 1), (1, 1))]
        }
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, params: &Params, stats: &[Statistics]) -> Tensor {
        match self {
            // Not a maximum: NaN stays NaN.
            Self::Relu => x.map(|_, v| if v < 0.0 { 0.0 } else { v }),
            Self::Conv(conv) => {
                let mut y = conv.output(x);
                conv.each(x, |tap| {
                    y.data[tap.y] += x.data[tap.x] * params.convs[conv.weight][tap.weight]
                });
                y
            }
            Self::Norm { norm } => {
                let (mean, var) = &stats[*norm];
                x.map(|c, v| {
                    let normalised = (v - mean[c]) / (var[c] + 1e-5).sqrt();
                    params
                        .affine
                        .get(*norm)
                        .map_or(normalised, |(gamma, beta)| gamma[c] * normalised + beta[c])
                })
            }
            Self::MaxPool { stride } => {
                pool(x, 3, *stride, |window| x.data[first_largest(x, window)])
            }
            Self::AvgPool { size, stride } => pool(x, *size, *stride, |window| {
                window.iter().map(|i| x.data[*i]).sum::<f64>() / window.len() as f64
            }),
            Self::Reduce { cout } => {
                let mut y = Tensor::zeros([
                    x.shape[0],
                    x.shape[1].div_ceil(2),
                    x.shape[2].div_ceil(2),
                    *cout,
                ]);
                each_reduced(x, *cout, |tap| {
                    y.data[tap.y] += x.data[tap.x] * params.convs[tap.part][tap.weight]
                });
                y
            }
        }
    }

    /// From the gradient `d` of the result to that of `x`; adds to those of the parameters.
    fn backward(
        &self,
        x: &Tensor,
        params: &Params,
        stats: &[Statistics],
        d: &Tensor,
        grads: &mut Params,
    ) -> Tensor {
        let mut dx = Tensor::zeros(x.shape);
        match self {
            Self::Relu => {
                for ((dx, x), d) in dx.data.iter_mut().zip(&x.data).zip(&d.data) {
                    *dx = if *x <= 0.0 { 0.0 } else { *d };
                }
            }
            Self::Conv(conv) => conv.each(x, |tap| {
                dx.data[tap.x] += d.data[tap.y] * params.convs[conv.weight][tap.weight];
                grads.convs[conv.weight][tap.weight] += d.data[tap.y] * x.data[tap.x];
            }),
            Self::Norm { norm } => {
                let ((mean, var), c) = (&stats[*norm], x.shape[3]);
                let count = (x.data.len() / c) as f64;
                for c in 0..c {
                    let rstd = 1.0 / (var[c] + 1e-5).sqrt();
                    let gamma = params.affine.get(*norm).map_or(1.0, |(gamma, _)| gamma[c]);
                    let channel = || (c..x.data.len()).step_by(x.shape[3]);
                    let sum: f64 = channel().map(|i| d.data[i]).sum();
                    let dot: f64 =
                        channel().map(|i| d.data[i] * (x.data[i] - mean[c]) * rstd).sum();
                    for i in channel() {
                        let normalised = (x.data[i] - mean[c]) * rstd;
                        dx.data[i] =
                            gamma * rstd * (d.data[i] - sum / count - normalised * dot / count);
                    }
                    if let Some((to_gamma, to_beta)) = grads.affine.get_mut(*norm) {
                        to_gamma[c] += dot;
                        to_beta[c] += sum;
                    }
                }
            }
            Self::MaxPool { stride } => {
                let mut results = d.data.iter();
                pool(x, 3, *stride, |window| {
                    dx.data[first_largest(x, window)] += results.next().unwrap_or(&0.0);
                    0.0
                });
            }
            Self::AvgPool { size, stride } => {
                let mut results = d.data.iter();
                pool(x, *size, *stride, |window| {
                    let share = results.next().unwrap_or(&0.0) / window.len() as f64;
                    window.iter().for_each(|i| dx.data[*i] += share);
                    0.0
                });
            }
            Self::Reduce { cout } => each_reduced(x, *cout, |tap| {
                dx.data[tap.x] += d.data[tap.y] * params.convs[tap.part][tap.weight];
                grads.convs[tap.part][tap.weight] += d.data[tap.y] * x.data[tap.x];
            }),
        }
        dx
    }
}

impl Tensor {
    /// A function of the channel and the value, everywhere.
    fn map(&self, f: impl Fn(usize, f64) -> f64) -> Self {
        let c = self.shape[3];
        let data = self.data.iter().enumerate().map(|(i, v)| f(i % c, *v)).collect();
        Self { data, shape: self.shape }
    }
}

/// A term of a convolution: the indices of its result, its input and its weight (and of the parameter it is in).
struct Tap {
    y: usize,
    x: usize,
    weight: usize,
    part: usize,
}

impl Conv {
    fn output(&self, x: &Tensor) -> Tensor {
        let [n, h, w, _] = x.shape;
        Tensor::zeros([n, h.div_ceil(self.stride.0), w.div_ceil(self.stride.1), self.cout])
    }

    /// Every product of the convolution.
    fn each(&self, x: &Tensor, mut f: impl FnMut(Tap)) {
        let y = self.output(x);
        let [n, h, w, _] = y.shape;
        let (per_group, out_per_group) = (x.shape[3] / self.groups, self.cout / self.groups);
        let ((kh, kw), d) = (self.kernel, self.dilation);
        for (n, oy, ox) in indices([n, h, w]) {
            for o in 0..self.cout {
                for (i, ky, kx) in indices([per_group, kh, kw]) {
                    let iy = (oy * self.stride.0 + ky * d) as isize - (d * (kh - 1) / 2) as isize;
                    let ix = (ox * self.stride.1 + kx * d) as isize - (d * (kw - 1) / 2) as isize;
                    let channel = o / out_per_group * per_group + i;
                    if let Some(x) = x.inside(n, iy, ix, channel) {
                        let weight = ((o * per_group + i) * kh + ky) * kw + kx;
                        f(Tap { y: y.at(n, oy, ox, o), x, weight, part: 0 });
                    }
                }
            }
        }
    }
}

/// Every product of the factorized reduce.
fn each_reduced(x: &Tensor, cout: usize, mut f: impl FnMut(Tap)) {
    let [n, h, w, cin] = x.shape;
    let y = Tensor::zeros([n, h.div_ceil(2), w.div_ceil(2), cout]);
    let half = cout.div_ceil(2);
    for (n, oy, ox) in indices([n, y.shape[1], y.shape[2]]) {
        for (o, i) in (0..cout).flat_map(|o| (0..cin).map(move |i| (o, i))) {
            let part = usize::from(o >= half);
            if let Some(x) = x.inside(n, (2 * oy + part) as isize, (2 * ox + part) as isize, i) {
                f(Tap { y: y.at(n, oy, ox, o), x, weight: (o - part * half) * cin + i, part });
            }
        }
    }
}

/// A function of each window of `size` x `size` pixels, padding `(size - 1) / 2`, given as positions in `x` in row-major
/// order.
fn pool(x: &Tensor, size: usize, stride: usize, mut f: impl FnMut(&[usize]) -> f64) -> Tensor {
    let ([n, h, w, c], before) = (x.shape, (size as isize - 1) / 2);
    let mut y = Tensor::zeros([n, h.div_ceil(stride), w.div_ceil(stride), c]);
    for (n, oy, ox) in indices([n, y.shape[1], y.shape[2]]) {
        for channel in 0..c {
            let taps = indices([1, size, size]).filter_map(|(_, ky, kx)| {
                x.inside(
                    n,
                    (oy * stride + ky) as isize - before,
                    (ox * stride + kx) as isize - before,
                    channel,
                )
            });
            let at = y.at(n, oy, ox, channel);
            y.data[at] = f(&taps.collect::<Vec<_>>());
        }
    }
    y
}

/// The first NaN of a window, or the first of its largest values.
fn first_largest(x: &Tensor, window: &[usize]) -> usize {
    let mut best = window[0];
    for &i in window {
        if !x.data[best].is_nan() && (x.data[i] > x.data[best] || x.data[i].is_nan()) {
            best = i;
        }
    }
    best
}

fn indices([a, b, c]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Central differences of `sum(out * g)` for every parameter and input of every operation.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        for op in OpKind::ALL {
            for stride in [1, 2] {
                let (cin, cout) =
                    if spec_of(op, 2, 3, stride).check().is_ok() { (2, 3) } else { (2, 2) };
                let spec = spec_of(op, cin, cout, stride);
                if spec.check().is_ok() {
                    check(&spec);
                }
            }
        }
    }

    fn spec_of(op: OpKind, cin: usize, cout: usize, stride: usize) -> EdgeSpec {
        EdgeSpec { cin, cout, stride, ops: vec![op], pool_norm: true }
    }

    fn check(spec: &EdgeSpec) {
        let op = spec.ops[0];
        let shape = [2, 5, 4, spec.cin];
        let x = Tensor { data: noise(shape.iter().product(), 1), shape };
        let params = Params {
            convs: spec.conv_shapes(op).iter().map(|s| noise(s.iter().product(), 2)).collect(),
            affine: spec.norm_channels(op).iter().map(|c| (noise(*c, 3), noise(*c, 4))).collect(),
        };
        fn mixing(weights: &[f32]) -> Mixing<'_> {
            Mixing { weights, image_weights: Some(&[0.5, 1.5]) }
        }
        let run = forward(spec, &x, std::slice::from_ref(&params), mixing(&[0.75]), None);
        let g = Tensor { data: noise(run.out.data.len(), 5), shape: run.out.shape };
        let grads = backward(spec, &run, std::slice::from_ref(&params), mixing(&[0.75]), &g);
        let loss = |x: &Tensor, params: &Params, weight: f32| -> f64 {
            let run = forward(spec, x, std::slice::from_ref(params), mixing(&[weight]), None);
            run.out.data.iter().zip(&g.data).map(|(y, g)| y * g).sum()
        };
        let compare = |what: &str, found: f64, up: f64, down: f64, step: f64| {
            let expected = (up - down) / (2.0 * step);
            assert!(
                (found - expected).abs() < 1e-4 * (1.0 + expected.abs()),
                "{op} {what}: {found} not {expected}"
            );
        };
        let step = 1e-5;
        for i in 0..x.data.len() {
            let moved = |by: f64| {
                let mut x = x.clone();
                x.data[i] += by;
                loss(&x, &params, 0.75)
            };
            compare("input", grads.input.data[i], moved(step), moved(-step), step);
        }
        for (conv, weights) in params.convs.iter().enumerate() {
            for i in 0..weights.len() {
                let moved = |by: f64| {
                    let mut params = params.clone();
                    params.convs[conv][i] += by;
                    loss(&x, &params, 0.75)
                };
                compare("weight", grads.ops[0].convs[conv][i], moved(step), moved(-step), step);
            }
        }
        for norm in 0..params.affine.len() {
            for i in 0..params.affine[norm].0.len() {
                let moved = |gamma: f64, beta: f64| {
                    let mut params = params.clone();
                    params.affine[norm].0[i] += gamma;
                    params.affine[norm].1[i] += beta;
                    loss(&x, &params, 0.75)
                };
                let (gamma, beta) = &grads.ops[0].affine[norm];
                compare("gamma", gamma[i], moved(step, 0.0), moved(-step, 0.0), step);
                compare("beta", beta[i], moved(0.0, step), moved(0.0, -step), step);
            }
        }
        compare(
            "mixing",
            grads.mixing[0],
            loss(&x, &params, 0.8125),
            loss(&x, &params, 0.6875),
            0.0625,
        );
    }

    #[test]
    fn the_largest_is_the_first_of_equals() {
        let x = Tensor { data: vec![1.0, 3.0, 3.0, 2.0], shape: [1, 2, 2, 1] };
        assert_eq!(first_largest(&x, &[0, 1, 2, 3]), 1);
    }
}
