//! The fused edges against the naive reference, over operations, shapes, SIMD levels and numbers of threads.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Barrier, Mutex};

use asap_kernels::reference::{self, EdgeRun, Params, Tensor};
use asap_kernels::{
    Buffers, Edge, EdgeSpec, Grads, Images, Level, Mixing, Needs, OpGrads, OpKind, OpParams,
    Precision, Running, Saved, Target, WholeBatch,
};
use proptest::prelude::*;

/// A problem: an edge, a batch and random values for all of it.
#[derive(Debug, Clone)]
struct Problem {
    spec: EdgeSpec,
    shape: [usize; 4],
    affine: bool,
    drop_path: bool,
    seed: u64,
}

/// The values of a problem.
struct Values {
    x: Vec<f32>,
    before: Vec<f32>,
    grad_out: Vec<f32>,
    convs: Vec<Vec<Vec<f32>>>,
    affine: Vec<Vec<(Vec<f32>, Vec<f32>)>>,
    weights: Vec<f32>,
    image_weights: Option<Vec<f32>>,
}

/// What the fused code yields for a problem.
#[derive(Debug, PartialEq)]
struct Fused {
    out: Vec<f32>,
    stats: Vec<Vec<(Vec<f32>, Vec<f32>)>>,
    dx: Vec<f32>,
    grads: Grads,
    inferred: Vec<f32>,
}

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn take(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }
}

impl Problem {
    fn new(spec: EdgeSpec, shape: [usize; 4]) -> Self {
        Self { spec, shape, affine: false, drop_path: false, seed: 1 }
    }

    fn out_shape(&self) -> [usize; 4] {
        let (h, w) = self.spec.output_size(self.shape[1], self.shape[2]);
        [self.shape[0], h, w, self.spec.cout]
    }

    fn values(&self) -> Values {
        let (spec, mut noise) = (&self.spec, Noise(self.seed));
        let len: usize = self.shape.iter().product();
        let out_len: usize = self.out_shape().iter().product();
        let mut convs = vec![];
        let mut affine = vec![];
        for op in &spec.ops {
            convs.push(
                spec.conv_shapes(*op).iter().map(|s| noise.take(s.iter().product())).collect(),
            );
            let norms = if self.affine { spec.norm_channels(*op) } else { vec![] };
            affine.push(norms.iter().map(|c| (noise.take(*c), noise.take(*c))).collect());
        }
        Values {
            x: noise.take(len),
            before: noise.take(out_len.max(len)),
            grad_out: noise.take(out_len),
            convs,
            affine,
            weights: noise.take(spec.ops.len()),
            image_weights: self.drop_path.then(|| noise.take(self.shape[0])),
        }
    }
}

impl Values {
    fn params(&self) -> Vec<OpParams<'_>> {
        (self.convs.iter().zip(&self.affine))
            .map(|(convs, affine)| OpParams {
                convs: convs.iter().map(|v| &v[..]).collect(),
                affine: affine.iter().map(|(g, b)| (&g[..], &b[..])).collect(),
            })
            .collect()
    }

    fn mixing(&self) -> Mixing<'_> {
        Mixing { weights: &self.weights, image_weights: self.image_weights.as_deref() }
    }
}

const ALL: Needs = Needs { weights: true, mixing: true };

/// Runs all passes of a problem.
fn fused(problem: &Problem, values: &Values, level: Option<Level>, precision: Precision) -> Fused {
    let edge = Edge::new(problem.spec.clone(), &Buffers::new()).unwrap().with_precision(precision);
    let edge = level.map_or(edge.clone(), |level| edge.with_level(level));
    passes(&edge, problem.shape, values)
}

/// Runs all passes of an edge. The output and the gradient of the input are added to `before`.
fn passes(edge: &Edge, [n, h, w, c]: [usize; 4], values: &Values) -> Fused {
    let (x, params, mixing) =
        (Images::new(&values.x, n, h, w, c), values.params(), values.mixing());
    let mut out = values.before[..values.grad_out.len()].to_vec();
    let saved = edge.forward(x, &params, mixing, Target::Add(&mut out)).unwrap();
    let mut dx = values.before[..values.x.len()].to_vec();
    let grads =
        saved.backward(x, mixing, &values.grad_out, ALL, Some(Target::Add(&mut dx))).unwrap();
    let inferred = infer(edge, &saved, x, &params, mixing, values.grad_out.len());
    let stats = saved
        .stats()
        .iter()
        .map(|op| op.iter().map(|s| (s.mean.clone(), s.var.clone())).collect())
        .collect();
    Fused { out, stats, dx, grads, inferred }
}

/// Inference with the statistics of the batch in the place of running ones.
fn infer(
    edge: &Edge,
    saved: &Saved,
    x: Images,
    params: &[OpParams],
    mixing: Mixing,
    len: usize,
) -> Vec<f32> {
    let running: Vec<Vec<Running>> = saved
        .stats()
        .iter()
        .map(|op| op.iter().map(|s| Running { mean: &s.mean, var: &s.var }).collect())
        .collect();
    let mut out = vec![f32::NAN; len];
    let prepared = edge.prepare([x.h, x.w], params, &running, mixing.weights).unwrap();
    prepared.run(x, Target::Write(&mut out)).unwrap();
    if let Some(weights) = mixing.image_weights {
        let images = out.chunks_mut(len / x.n).zip(weights);
        images.for_each(|(image, weight)| image.iter_mut().for_each(|value| *value *= weight));
    }
    out
}

/// The largest difference over the largest magnitude stays below `tolerance`.
fn close<'a>(
    what: &str,
    found: impl IntoIterator<Item = &'a f32>,
    expected: impl IntoIterator<Item = f64>,
    tolerance: f64,
) {
    let found: Vec<f64> = found.into_iter().map(|v| f64::from(*v)).collect();
    let expected: Vec<f64> = expected.into_iter().collect();
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1.0_f64, |scale, v| scale.max(v.abs()));
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs() / scale;
        assert!(error <= tolerance, "{what}[{i}]: {found}, expected {expected}: error {error:.1e}");
    }
}

/// The length of the difference stays below `tolerance` times that of what is expected, or times `least`: a single value
/// says little of bf16.
fn near(
    what: &str,
    found: &[f32],
    expected: &[f64],
    least: f64,
    tolerance: f64,
) -> Result<(), String> {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = length(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - b));
    let error = difference / length(&mut expected.iter().copied()).max(least);
    // A NaN is not near.
    if error <= tolerance { Ok(()) } else { Err(format!("{what} in bf16: error {error:.1e}")) }
}

/// 1e-4, unless a batch norm divides by next to nothing: over the two values of a tiny image it multiplies the
/// rounding of its input by up to `1 / sqrt(1e-5)`, once in the forward and once more in the backward.
fn tolerance(run: &EdgeRun) -> f64 {
    let variances = run.stats.iter().flatten().flat_map(|(_, variance)| variance);
    let smallest = variances.copied().fold(f64::INFINITY, f64::min);
    1e-4 * (0.02 / (smallest + 1e-5)).max(1.0)
}

/// Compares the fused code with the reference.
fn check(problem: &Problem, level: Option<Level>) {
    let values = problem.values();
    let found = fused(problem, &values, level, Precision::F32);
    let params: Vec<Params> = values.params().iter().map(Params::new).collect();
    let x = Tensor::new(&values.x, problem.shape);
    let grad_out = Tensor::new(&values.grad_out, problem.out_shape());
    let run = reference::forward(&problem.spec, &x, &params, values.mixing(), None);
    let grads = reference::backward(&problem.spec, &run, &params, values.mixing(), &grad_out);
    let before = |v: &[f64]| {
        v.iter().zip(&values.before).map(|(v, b)| v + f64::from(*b)).collect::<Vec<_>>()
    };
    let tolerance = tolerance(&run);
    close("output", &found.out, before(&run.out.data), tolerance);
    close("inference", &found.inferred, run.out.data.iter().copied(), tolerance);
    close("input gradient", &found.dx, before(&grads.input.data), tolerance);
    close("mixing gradient", &found.grads.mixing, grads.mixing.iter().copied(), tolerance);
    for (op, (found, expected)) in problem.spec.ops.iter().zip(found.stats.iter().zip(&run.stats)) {
        assert_eq!(found.len(), expected.len());
        for ((mean, var), (expected_mean, expected_var)) in found.iter().zip(expected) {
            close(&format!("{op} mean"), mean, expected_mean.iter().copied(), 1e-5);
            close(&format!("{op} variance"), var, expected_var.iter().copied(), 1e-5);
        }
    }
    for (op, (found, expected)) in
        problem.spec.ops.iter().zip(found.grads.ops.iter().zip(&grads.ops))
    {
        assert_eq!(
            (found.convs.len(), found.affine.len()),
            (expected.convs.len(), expected.affine.len())
        );
        for (i, (found, expected)) in found.convs.iter().zip(&expected.convs).enumerate() {
            close(&format!("{op} weight gradient {i}"), found, expected.iter().copied(), tolerance);
        }
        for ((gamma, beta), (expected_gamma, expected_beta)) in
            found.affine.iter().zip(&expected.affine)
        {
            close(
                &format!("{op} gamma gradient"),
                gamma,
                expected_gamma.iter().copied(),
                tolerance,
            );
            close(&format!("{op} beta gradient"), beta, expected_beta.iter().copied(), tolerance);
        }
    }
}

/// Compares mixed precision with the reference. A ReLU between two convolutions may see the other sign of a number near
/// zero, and then half of a gradient and more is another: of the reference, too, when its input moves by the rounding of
/// bf16. So what is found must be near the reference of one of the inputs that round to the same.
fn check_bf16(problem: &Problem, level: Level) {
    let values = problem.values();
    let found = fused(problem, &values, Some(level), Precision::Bf16);
    let mut noise = Noise(problem.seed);
    let mut round = |v: &mut Vec<f32>| v.iter_mut().for_each(|v| *v *= 1.0 + noise.next() / 512.0);
    let exact = near_in_bf16(problem, &values, &found);
    let mut near_another = || {
        (0..64).any(|_| {
            let mut values = problem.values();
            round(&mut values.x);
            values.convs.iter_mut().flatten().for_each(&mut round);
            near_in_bf16(problem, &values, &found).is_ok()
        })
    };
    assert!(exact.is_ok() || near_another(), "{}", exact.unwrap_err());
}

/// Whether what mixed precision found is near the reference of `values`.
fn near_in_bf16(problem: &Problem, values: &Values, found: &Fused) -> Result<(), String> {
    let params: Vec<Params> = values.params().iter().map(Params::new).collect();
    let x = Tensor::new(&values.x, problem.shape);
    let grad_out = Tensor::new(&values.grad_out, problem.out_shape());
    let run = reference::forward(&problem.spec, &x, &params, values.mixing(), None);
    let grads = reference::backward(&problem.spec, &run, &params, values.mixing(), &grad_out);
    let added = |found: &[f32]| -> Vec<f32> {
        found.iter().zip(&values.before).map(|(v, before)| v - before).collect()
    };
    let magnified = tolerance(&run) / 1e-4;
    let norms = problem.spec.ops.iter().map(|op| problem.spec.norm_channels(*op).len());
    let last = norms.max().unwrap_or(0).saturating_sub(1);
    // Twice what the worst of 60,000 problems needed: 0.02 for the weights of a 1x1 convolution of three channels (nine sums
    // that cancel), 0.01 for mixing. Behind a ReLU several signs may be others at once, as no input nearby has them: one in 70,000
    // needed 0.31. Without a gradient it is 1.
    let behind = |relu| magnified * if relu { 0.5 } else { 0.04 + 0.03 * last as f64 };
    let products = (grad_out.data.len() as f64).sqrt();
    near("output", &added(&found.out), &run.out.data, 1.0, 0.01 * magnified)?;
    near("input gradient", &added(&found.dx), &grads.input.data, 1e-3, behind(last > 0))?;
    near("mixing gradient", &found.grads.mixing, &grads.mixing, products, 0.02 * magnified)?;
    let ops = found.grads.ops.iter().zip(&grads.ops);
    for ((found, expected), weight) in ops.zip(&values.weights) {
        // A sum of products of numbers around one, whose signs cancel, times the weight of the operation.
        let weighted = 0.3 * products * f64::from(*weight).abs();
        for (i, (found, expected)) in found.convs.iter().zip(&expected.convs).enumerate() {
            near("weight gradient", found, expected, weighted, behind(i < 2 * last))?;
        }
        for (i, ((gamma, beta), (expected_gamma, expected_beta))) in
            found.affine.iter().zip(&expected.affine).enumerate()
        {
            near("gamma gradient", gamma, expected_gamma, weighted, behind(i < last))?;
            near("beta gradient", beta, expected_beta, weighted, behind(i < last))?;
        }
    }
    Ok(())
}

/// An edge that is possible for an operation: as many channels out as in where they must be.
fn spec(op: OpKind, cin: usize, cout: usize, stride: usize, pool_norm: bool) -> EdgeSpec {
    let spec = EdgeSpec { cin, cout, stride, ops: vec![op], pool_norm };
    let same = EdgeSpec { cout: cin, ..spec.clone() };
    let halved = EdgeSpec { stride: 2, ..spec.clone() };
    [spec, same, halved.clone()]
        .into_iter()
        .find(|spec| is_possible(spec.clone()))
        .unwrap_or(halved)
}

fn is_possible(spec: EdgeSpec) -> bool {
    Edge::new(spec, &Buffers::new()).is_ok()
}

#[test]
fn the_last_windows_of_a_shortcut_average_the_pixels_that_exist() {
    let edge =
        Edge::new(EdgeSpec::layer(1, 1, 2, OpKind::AvgPool2x2Conv1x1), &Buffers::new()).unwrap();
    let x: [f32; 9] = std::array::from_fn(|i| i as f32 + 1.0);
    let (x, params) =
        (Images::new(&x, 1, 3, 3, 1), [OpParams { convs: vec![&[2.0]], affine: vec![] }]);
    let mixing = Mixing { weights: &[1.0], image_weights: None };
    let mut out = [0.0; 4];
    let saved = edge.forward(x, &params, mixing, Target::Write(&mut out)).unwrap();
    assert_eq!(out, [6.0, 9.0, 15.0, 18.0]);
    let mut dx = [0.0; 9];
    let grads = saved
        .backward(x, mixing, &[4.0, 2.0, 2.0, 1.0], ALL, Some(Target::Write(&mut dx)))
        .unwrap();
    assert_eq!(dx, [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
    assert_eq!(grads.ops[0].convs, [[4.0 * 3.0 + 2.0 * 4.5 + 2.0 * 7.5 + 9.0]]);
}

#[test]
fn every_operation_matches_the_reference() {
    for op in OpKind::ALL {
        // Whole vectors, pixels grouped to fill them, a last half vector, a half of a factorized reduce without channels.
        let shapes = [(1, 16, 8, 8), (2, 16, 7, 9), (1, 5, 3, 11), (2, 33, 6, 5), (1, 36, 6, 8)];
        for (stride, c, h, w) in shapes.into_iter().chain([(1, 20, 5, 7), (2, 1, 8, 6)]) {
            check(&Problem::new(spec(op, c, c, stride, true), [3, h, w, c]), None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_matches_the_reference(
        op in prop::sample::select(&OpKind::ALL[..]),
        (cin, cout) in (1..40_usize, 1..70_usize),
        (n, h, w) in (1..5_usize, 1..14_usize, 1..14_usize),
        stride in 1..3_usize,
        (pool_norm, affine, drop_path) in any::<(bool, bool, bool)>(),
        level in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let spec = spec(op, cin, cout, stride, pool_norm);
        // Fewer values than three per channel have no variance to speak of: 1 / sqrt(eps) magnifies rounding.
        let n = if n * h.div_ceil(stride) * w.div_ceil(stride) < 3 { 12 } else { n };
        let problem = Problem { spec, shape: [n, h, w, cin], affine, drop_path, seed };
        let levels = Level::available();
        check(&problem, Some(levels[level.index(levels.len())]));
    }

    #[test]
    fn any_shape_in_bf16_is_near_the_reference(
        op in prop::sample::select(&OpKind::ALL[..]),
        (cin, cout) in (3..40_usize, 3..70_usize),
        (n, h, w) in (3..5_usize, 6..14_usize, 6..14_usize),
        stride in 1..3_usize,
        (affine, drop_path) in any::<(bool, bool)>(),
        level in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let spec = spec(op, cin, cout, stride, true);
        let problem = Problem { spec, shape: [n, h, w, cin], affine, drop_path, seed };
        let levels = Level::available();
        check_bf16(&problem, levels[level.index(levels.len())]);
    }

    #[test]
    fn any_mixture_matches_the_reference(
        ops in prop::collection::vec(prop::sample::select(&OpKind::ALL[..]), 0..6),
        c in 1..25_usize,
        (n, h, w) in (2..4_usize, 2..9_usize, 2..9_usize),
        stride in 1..3_usize,
        (pool_norm, drop_path) in any::<(bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let possible = |op: &OpKind| is_possible(EdgeSpec::mixed(c, stride, vec![*op]));
        let ops = ops.into_iter().filter(possible).collect();
        let spec = EdgeSpec { pool_norm, ..EdgeSpec::mixed(c, stride, ops) };
        if spec.ops.is_empty() && stride == 2 {
            return Ok(());
        }
        check(&Problem { spec, shape: [n * 2, h, w, c], affine: false, drop_path, seed }, None);
    }
}

/// What an edge of NAS-Bench-201 mixes.
const BENCH_201: [OpKind; 4] =
    [OpKind::SkipConnect, OpKind::ReluConv1x1, OpKind::ReluConv3x3, OpKind::AvgPool3x3];

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn edges_of_nas_bench_201_match_the_reference(
        ops in prop::sample::subsequence(&BENCH_201[..], 1..5),
        c in prop::sample::select(vec![3, 8, 16, 24, 32, 33]),
        (n, h, w) in (3..5_usize, 6..12_usize, 6..12_usize),
        (affine, drop_path) in any::<(bool, bool)>(),
        level in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let spec = EdgeSpec { pool_norm: false, ..EdgeSpec::mixed(c, 1, ops) };
        let problem = Problem { spec, shape: [n, h, w, c], affine, drop_path, seed };
        let levels = Level::available();
        let level = levels[level.index(levels.len())];
        check(&problem, Some(level));
        check_bf16(&problem, level);
    }
}

#[test]
fn windows_of_lines_of_a_pixel_or_two_match_the_reference_in_bf16() {
    let of_windows = [
        OpKind::Conv7x1Conv1x7,
        OpKind::FactorizedReduce,
        OpKind::ReluConv1x1,
        OpKind::Conv3x3,
        OpKind::ReluConv3x3,
    ];
    for op in of_windows {
        for (w, stride) in (1..6).flat_map(|w| [(w, 1), (w, 2)]) {
            for level in Level::available() {
                check_bf16(&Problem::new(spec(op, 5, 20, stride, true), [24, 5, w, 5]), level);
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mixed = EdgeSpec::mixed(20, 1, OpKind::ALL[..9].to_vec());
    // So many weights that groups have more images.
    let wide = EdgeSpec::single(64, 1, OpKind::ReluConv3x3);
    for (spec, shape) in [(mixed, [70, 6, 5, 20]), (wide, [70, 4, 3, 64])] {
        let problem = Problem { affine: true, drop_path: true, ..Problem::new(spec, shape) };
        let values = problem.values();
        for precision in Precision::ALL {
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| fused(&problem, &values, None, precision))
            };
            let one = with(1);
            assert!(one == with(2) && one == with(5), "{precision}");
        }
    }
}

/// Parts of a batch in threads, which meet to add their numbers.
#[derive(Debug)]
struct Meeting {
    part: usize,
    brought: Arc<Vec<Mutex<Vec<f64>>>>,
    all_here: Arc<Barrier>,
}

impl WholeBatch for Meeting {
    fn parts(&self) -> usize {
        self.brought.len()
    }

    fn sum(&self, numbers: &mut [f64]) {
        *self.brought[self.part].lock().unwrap() = numbers.to_vec();
        self.all_here.wait();
        numbers.fill(0.0);
        for brought in &*self.brought {
            let brought = brought.lock().unwrap();
            assert_eq!(brought.len(), numbers.len());
            numbers.iter_mut().zip(brought.iter()).for_each(|(sum, number)| *sum += number);
        }
        self.all_here.wait();
    }
}

#[test]
fn parts_with_the_norms_of_their_batch_are_the_batch() {
    const PARTS: usize = 3;
    let each = OpKind::ALL.into_iter().map(|op| spec(op, 20, 20, 1, true));
    let all = EdgeSpec { pool_norm: true, ..EdgeSpec::mixed(20, 2, OpKind::ALL[..9].to_vec()) };
    for spec in each.filter(|spec| is_possible(spec.clone())).chain([all]) {
        let shape = [9, 6, 5, 20];
        let problem = Problem { affine: true, drop_path: true, ..Problem::new(spec, shape) };
        let values = problem.values();
        let expected = fused(&problem, &values, None, Precision::F32);
        let part_of = |part: usize| {
            let cut =
                |values: &[f32]| values.chunks(values.len() / PARTS).nth(part).unwrap().to_vec();
            Values {
                x: cut(&values.x),
                before: vec![0.0; values.before.len() / PARTS],
                grad_out: cut(&values.grad_out),
                convs: values.convs.clone(),
                affine: values.affine.clone(),
                weights: values.weights.clone(),
                image_weights: values.image_weights.as_deref().map(cut),
            }
        };
        let brought: Arc<Vec<_>> = Arc::new((0..PARTS).map(|_| Mutex::default()).collect());
        let all_here = Arc::new(Barrier::new(PARTS));
        let parts: Vec<Fused> = std::thread::scope(|scope| {
            let parts = (0..PARTS).map(|part| {
                let (brought, all_here) = (Arc::clone(&brought), Arc::clone(&all_here));
                let (values, spec) = (part_of(part), problem.spec.clone());
                scope.spawn(move || {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
                    let whole: Arc<dyn WholeBatch> = Arc::new(Meeting { part, brought, all_here });
                    let edge = Edge::new(spec, &Buffers::new()).unwrap();
                    let edge = edge.with_whole_batch(Some(whole));
                    pool.install(|| passes(&edge, [3, 6, 5, 20], &values))
                })
            });
            let parts: Vec<_> = parts.collect();
            parts.into_iter().map(|part| part.join().unwrap()).collect()
        });
        let what = format!("{:?}", problem.spec.ops);
        let less = |found: &[f32]| {
            found.iter().zip(&values.before).map(|(v, b)| f64::from(v - b)).collect::<Vec<_>>()
        };
        let joined = |read: fn(&Fused) -> &[f32]| -> Vec<f32> {
            parts.iter().flat_map(|part| read(part).to_vec()).collect()
        };
        close(&what, &joined(|part| &part.out), less(&expected.out), 1e-4);
        close(&what, &joined(|part| &part.dx), less(&expected.dx), 1e-4);
        for part in &parts {
            assert_eq!(part.stats, parts[0].stats, "{what}: to the bit");
        }
        let numbers = |fused: &Fused| {
            let stats = fused.stats.iter().flatten().flat_map(|(mean, var)| mean.iter().chain(var));
            stats.copied().collect::<Vec<f32>>()
        };
        let wanted = numbers(&expected).into_iter().map(f64::from);
        close(&what, &numbers(&parts[0]), wanted, 1e-5);
        let gradients = |fused: &Fused| {
            let ops = fused.grads.ops.iter();
            let of_op = |op: &OpGrads| {
                let affine = op.affine.iter().flat_map(|(gamma, beta)| gamma.iter().chain(beta));
                let convs = op.convs.iter().flatten();
                convs.chain(affine).copied().collect::<Vec<f32>>()
            };
            fused.grads.mixing.iter().copied().chain(ops.flat_map(of_op)).collect::<Vec<f32>>()
        };
        let mut sum = vec![0.0; gradients(&parts[0]).len()];
        for part in &parts {
            sum.iter_mut().zip(gradients(part)).for_each(|(sum, value)| *sum += value);
        }
        close(&what, &sum, gradients(&expected).into_iter().map(f64::from), 1e-4);
    }
}

#[test]
fn inference_has_one_precision() {
    let spec = EdgeSpec::mixed(20, 1, OpKind::ALL[..9].to_vec());
    let problem = Problem { affine: true, ..Problem::new(spec, [2, 6, 5, 20]) };
    let (values, [n, h, w, c]) = (problem.values(), problem.shape);
    let (x, params) = (Images::new(&values.x, n, h, w, c), values.params());
    let (mixing, len) = (values.mixing(), values.grad_out.len());
    let edge = Edge::new(problem.spec.clone(), &Buffers::new()).unwrap();
    let saved = edge.forward(x, &params, mixing, Target::Write(&mut vec![0.0; len])).unwrap();
    let [exact, mixed] = Precision::ALL.map(|precision| {
        infer(&edge.clone().with_precision(precision), &saved, x, &params, mixing, len)
    });
    assert_eq!(exact, mixed);
}

#[test]
fn simd_levels_agree() {
    for stride in [1, 2] {
        let problem =
            Problem::new(EdgeSpec::mixed(24, stride, OpKind::ALL[..9].to_vec()), [2, 9, 9, 24]);
        let values = problem.values();
        let levels = Level::available();
        // In bf16 another order of a sum may round its result to the neighbour.
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.01)] {
            let scalar = fused(&problem, &values, levels.last().copied(), precision);
            for &level in &levels {
                let found = fused(&problem, &values, Some(level), precision);
                let expected =
                    |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
                close("output", &found.out, expected(&scalar.out), tolerance);
                close("input gradient", &found.dx, expected(&scalar.dx), tolerance);
            }
        }
    }
}

#[test]
fn nan_and_infinity_pass_through() {
    for (op, bad) in OpKind::ALL.into_iter().flat_map(|op| [(op, f32::NAN), (op, f32::INFINITY)]) {
        let spec = EdgeSpec { pool_norm: false, ..spec(op, 16, 16, 1, false) };
        let problem = Problem { affine: true, ..Problem::new(spec, [1, 6, 6, 16]) };
        for level in Level::available() {
            let mut values = problem.values();
            values.x[(2 * 6 + 2) * 16 + 3] = bad;
            let edge = Edge::new(problem.spec.clone(), &Buffers::new()).unwrap().with_level(level);
            let [n, h, w, c] = problem.shape;
            let (params, mixing) = (values.params(), values.mixing());
            let channels = problem.spec.norm_channels(op);
            let (zeros, ones) = (vec![0.0; 16], vec![1.0; 16]);
            let running = [channels
                .iter()
                .map(|c| Running { mean: &zeros[..*c], var: &ones[..*c] })
                .collect()];
            let mut out = vec![0.0; values.grad_out.len()];
            let x = Images::new(&values.x, n, h, w, c);
            let prepared = edge.prepare([h, w], &params, &running, mixing.weights).unwrap();
            prepared.run(x, Target::Write(&mut out)).unwrap();
            let statistics: Vec<Vec<_>> =
                vec![channels.iter().map(|c| (vec![0.0; *c], vec![1.0; *c])).collect()];
            let params: Vec<Params> = params.iter().map(Params::new).collect();
            let x = Tensor::new(&values.x, problem.shape);
            let run = reference::forward(&problem.spec, &x, &params, mixing, Some(&statistics));
            for (i, (found, expected)) in out.iter().zip(&run.out.data).enumerate() {
                let expected = *expected as f32;
                let same = found.is_nan() == expected.is_nan()
                    && found.is_infinite() == expected.is_infinite();
                assert!(
                    same,
                    "{op} at {level}, value {i} with {bad}: {found}, expected {expected}"
                );
            }
        }
    }
}

#[test]
fn statistics_survive_a_large_mean() {
    // The average pool of a constant plus small noise: the variance is a millionth of the squared mean.
    let problem = Problem::new(EdgeSpec::mixed(16, 1, vec![OpKind::AvgPool3x3]), [4, 16, 16, 16]);
    let mut values = problem.values();
    values.x.iter_mut().for_each(|v| *v += 1000.0);
    let found = fused(&problem, &values, None, Precision::F32);
    let x = Tensor::new(&values.x, problem.shape);
    let run = reference::forward(&problem.spec, &x, &[Params::default()], values.mixing(), None);
    for (found, expected) in found.stats[0][0].1.iter().zip(&run.stats[0][0].1) {
        assert!(
            (f64::from(*found) - expected).abs() < 1e-3 * expected,
            "variance {found}, expected {expected}"
        );
    }
}

#[test]
fn needs_leave_the_rest_out() {
    let problem = Problem::new(EdgeSpec::mixed(8, 1, OpKind::ALL[..7].to_vec()), [2, 5, 5, 8]);
    let values = problem.values();
    let all = fused(&problem, &values, None, Precision::F32).grads;
    let edge = Edge::new(problem.spec.clone(), &Buffers::new()).unwrap();
    let (x, params, mixing) =
        (Images::new(&values.x, 2, 5, 5, 8), values.params(), values.mixing());
    let mut out = vec![0.0; values.grad_out.len()];
    let saved = edge.forward(x, &params, mixing, Target::Write(&mut out)).unwrap();
    let some = |weights, mixing_too| {
        let needs = Needs { weights, mixing: mixing_too };
        saved.backward(x, mixing, &values.grad_out, needs, None).unwrap()
    };
    assert_eq!(some(true, false), Grads { mixing: vec![], ..all.clone() });
    assert_eq!(some(false, true), Grads { ops: vec![], ..all });
    assert_eq!(some(false, false), Grads::default());
}

#[test]
fn faults_are_named() {
    let refuse = |spec: EdgeSpec| Edge::new(spec, &Buffers::new()).unwrap_err().to_string();
    assert_eq!(
        refuse(EdgeSpec::mixed(16, 3, vec![])),
        "stride of the edge: expected 1 or 2, found 3; use stride 2 in a reduction cell, 1 elsewhere"
    );
    assert!(
        refuse(EdgeSpec::layer(8, 16, 1, OpKind::MaxPool3x3))
            .contains("put a relu_conv_1x1 in front")
    );
    assert!(
        refuse(EdgeSpec::layer(8, 16, 1, OpKind::AvgPool2x2Conv1x1))
            .contains("2 for avg_pool_2x2_conv_1x1, found 1")
    );
    assert!(refuse(EdgeSpec::mixed(0, 1, vec![])).contains("at least 1"));

    let edge = Edge::new(EdgeSpec::mixed(4, 1, vec![OpKind::DilConv3x3]), &Buffers::new()).unwrap();
    let (x, dw, pw) = ([0.0; 36], [0.0; 36], [0.0; 16]);
    let mixing = Mixing { weights: &[1.0], image_weights: None };
    let params = |pw: &'static [f32]| [OpParams { convs: vec![&[0.0; 36], pw], affine: vec![] }];
    let forward = |x: Images, params: &[OpParams], mixing, len: usize| {
        edge.forward(x, params, mixing, Target::Write(&mut vec![0.0; len]))
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let images = Images::new(&x, 1, 3, 3, 4);
    let good = [OpParams { convs: vec![&dw, &pw], affine: vec![] }];
    assert_eq!(forward(images, &good, mixing, 36), Ok(()));
    assert_eq!(
        forward(images, &params(&[0.0; 15]), mixing, 36).unwrap_err(),
        "weight 1 of dil_conv_3x3: expected 16 values ([4, 4, 1, 1]), found 15; pass a contiguous tensor of that shape"
    );
    assert!(
        forward(Images { h: 2, ..images }, &good, mixing, 36)
            .unwrap_err()
            .contains("input of the edge")
    );
    assert!(
        forward(images, &[], mixing, 36)
            .unwrap_err()
            .contains("parameters of the edge: expected 1")
    );
    assert!(forward(images, &good, mixing, 35).unwrap_err().contains("output of the edge"));
    let none = Mixing { weights: &[], image_weights: None };
    assert!(forward(images, &good, none, 36).unwrap_err().contains("mixing weights"));
    let empty = Images::new(&[], 0, 3, 3, 4);
    assert!(forward(empty, &good, mixing, 0).unwrap_err().contains("at least one"));
    let running = [vec![Running { mean: &[0.0; 4], var: &[1.0; 4] }]];
    assert!(edge.prepare([3, 0], &good, &running, &[1.0]).is_err());
    assert!(edge.prepare([3, 3], &good, &[], &[1.0]).is_err());
    let prepared = edge.prepare([3, 3], &good, &running, &[1.0]).unwrap();
    let run = |x: Images, len: usize| {
        prepared.run(x, Target::Write(&mut vec![0.0; len])).map_err(|error| error.to_string())
    };
    assert_eq!((run(images, 36), run(empty, 0)), (Ok(()), Ok(())));
    let wide = Images::new(&x, 1, 1, 9, 4);
    assert!(run(wide, 36).unwrap_err().contains("height of the input"));
    assert!(run(images, 35).unwrap_err().contains("output of the edge"));
    let saved = edge.forward(images, &good, mixing, Target::Write(&mut [0.0; 36])).unwrap();
    let backward = |images, grad, dx: &mut [f32]| {
        let dx = Some(Target::Write(dx));
        saved.backward(images, mixing, grad, ALL, dx).unwrap_err().to_string()
    };
    let other = Images::new(&x[..32], 1, 2, 4, 4);
    assert!(backward(other, &x, &mut [0.0; 36]).contains("input of the edge"));
    assert!(backward(images, &x[..35], &mut [0.0; 36]).contains("gradient of the output"));
    assert!(backward(images, &x, &mut [0.0; 35]).contains("gradient of the input"));
}

#[test]
fn a_relu_that_sees_another_sign_in_bf16_is_no_fault() {
    let problem = Problem {
        spec: spec(OpKind::SepConv3x3, 4, 5, 2, true),
        shape: [4, 9, 8, 4],
        affine: true,
        drop_path: false,
        seed: 16_646_014_970_458_468_391,
    };
    check_bf16(&problem, Level::available()[0]);
}
