//! Times every operation at the shapes of the search network: milliseconds, GFLOP/s and the share of the peak that
//! this machine reaches in a loop of multiply-adds. `cargo bench -p asap-kernels [-- FILTER]`.
//!
//! A plain program rather than a harness: what counts here is the ratio to the peak and to one thread, taken from the
//! minimum over repeats, since the machine may be busy with other things.

use std::hint::black_box;
use std::time::{Duration, Instant};

use asap_kernels::{
    Buffers, Edge, EdgeSpec, Images, Level, Mixing, Needs, OpKind, OpParams, Target,
};

/// Images of a batch.
const N: usize = 64;

const SEARCH: [OpKind; 7] = [
    OpKind::MaxPool3x3,
    OpKind::AvgPool3x3,
    OpKind::SkipConnect,
    OpKind::SepConv3x3,
    OpKind::SepConv5x5,
    OpKind::DilConv3x3,
    OpKind::DilConv5x5,
];

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    let two =
        rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool of two threads");
    let peak = one.install(peak);
    println!(
        "{} lanes; one thread reaches {peak:.0} GFLOP/s in registers",
        Level::available()[0].lanes()
    );
    println!(
        "Batch 64, two threads: ms, GFLOP/s, share of the peak with one thread, speed-up over one thread."
    );
    println!("{:36}{:>27}{:>27}{:>27}", "", "forward", "backward", "backward, alpha step");
    for (c, size) in [(16, 32), (32, 16), (64, 8), (8, 28), (36, 32)] {
        for op in SEARCH {
            let name = format!("{op} C{c} {size}x{size}");
            if name.contains(&filter) {
                case(&name, EdgeSpec::mixed(c, 1, vec![op]), size, peak, [&one, &two]);
            }
        }
    }
    // The mixed edges of the search network (8 cells, C 16, 32x32) and how many there are of each.
    let edges = [(16, 32, 1, 28), (32, 32, 2, 8), (32, 16, 1, 34), (64, 16, 2, 8), (64, 8, 1, 34)];
    let mut network = [0.0; 3];
    for (c, size, stride, count) in edges {
        let name = format!("mixed edge C{c} {size}x{size} stride {stride}");
        if name.contains(&filter) {
            let spec = EdgeSpec::mixed(c, stride, SEARCH.to_vec());
            let seconds = case(&name, spec, size, peak, [&one, &two]);
            network.iter_mut().zip(seconds).for_each(|(sum, s)| *sum += count as f64 * s);
        }
    }
    if "mixed edge".contains(&filter) {
        let [forward, backward, alpha] = network;
        println!(
            "All {} edges: w step {:.0} images/s, alpha step {:.0} images/s",
            edges.iter().map(|e| e.3).sum::<usize>(),
            N as f64 / (forward + backward),
            N as f64 / (forward + alpha),
        );
    }
    // The operations of NAS-Bench-201, whose edges have pools without batch norm.
    println!("Forward and backward together, two threads: median, minimum.");
    let dense = [OpKind::SkipConnect, OpKind::ReluConv1x1, OpKind::ReluConv3x3, OpKind::AvgPool3x3];
    let singles = [vec![OpKind::ReluConv1x1], vec![OpKind::ReluConv3x3], dense.to_vec()];
    for ops in singles {
        for (c, size) in [(16, 32), (32, 16), (64, 8)] {
            let op = ops.iter().map(OpKind::to_string).collect::<Vec<_>>().join("+");
            let name = format!("step of {op} C{c} {size}x{size}");
            if name.contains(&filter) {
                let spec = EdgeSpec { pool_norm: false, ..EdgeSpec::mixed(c, 1, ops.clone()) };
                two.install(|| whole_step(&name, spec, size));
            }
        }
    }
}

/// Times a step on the weights: forward, then backward with the gradients of weights and input.
fn whole_step(name: &str, spec: EdgeSpec, size: usize) {
    let weights = weights(&spec);
    let (params, mixing) = (params(&weights), vec![1.0; spec.ops.len()]);
    let mixing = Mixing { weights: &mixing, image_weights: None };
    let (x, g) = (noise(N * size * size * spec.cin), noise(N * size * size * spec.cout));
    let images = Images::new(&x, N, size, size, spec.cin);
    let edge = Edge::new(spec, &Buffers::new()).expect("a valid edge");
    let (mut out, mut dx) = (g.clone(), x.clone());
    let mut times = times(|| {
        let saved = edge.forward(images, &params, mixing, Target::Write(&mut out));
        let (dx, needs) = (Target::Write(&mut dx[..]), Needs { weights: true, mixing: false });
        let grads = saved.and_then(|saved| saved.backward(images, mixing, &g, needs, Some(dx)));
        black_box(grads.expect("a valid call"));
    });
    times.sort_by(f64::total_cmp);
    println!("{name:80}{:8.2} ms{:8.2} ms", times[times.len() / 2] * 1e3, times[0] * 1e3);
}

/// Convolution weights of each operation.
fn weights(spec: &EdgeSpec) -> Vec<Vec<Vec<f32>>> {
    let shapes = spec.ops.iter().map(|op| spec.conv_shapes(*op));
    shapes.map(|s| s.iter().map(|s| noise(s.iter().product())).collect()).collect()
}

/// Parameters without affine ones.
fn params(weights: &[Vec<Vec<f32>>]) -> Vec<OpParams<'_>> {
    let convs = weights.iter().map(|w| w.iter().map(|w| &w[..]).collect());
    convs.map(|convs| OpParams { convs, affine: vec![] }).collect()
}

/// Times an edge; returns the seconds of forward, backward and alpha-step backward pass on two threads.
fn case(
    name: &str,
    spec: EdgeSpec,
    size: usize,
    peak: f64,
    pools: [&rayon::ThreadPool; 2],
) -> [f64; 3] {
    let n = N;
    let weights = weights(&spec);
    let params = params(&weights);
    let (oh, ow) = spec.output_size(size, size);
    let flops = 2.0
        * (n * oh * ow) as f64
        * spec.ops.iter().map(|op| multiply_adds(&spec, *op)).sum::<f64>();
    let x = noise(n * size * size * spec.cin);
    let g = noise(n * oh * ow * spec.cout);
    let mixing = vec![0.3; spec.ops.len()];
    let mixing = Mixing { weights: &mixing, image_weights: None };
    let edge = Edge::new(spec, &Buffers::new()).expect("a valid edge");
    let images = Images::new(&x, n, size, size, edge.spec().cin);
    let (mut out, mut dx) = (g.clone(), x.clone());
    let mut saved =
        edge.forward(images, &params, mixing, Target::Write(&mut out)).expect("a valid call");
    let mut line = format!("{name:36}");
    let mut result = [0.0; 3];
    let steps = [
        None,
        Some(Needs { weights: true, mixing: false }),
        Some(Needs { weights: false, mixing: true }),
    ];
    for ((step, times), result) in steps.into_iter().zip([1.0, 2.0, 1.0]).zip(&mut result) {
        let seconds = pools.map(|pool| {
            pool.install(|| {
                minimum(|| match step {
                    None => {
                        saved = edge
                            .forward(images, &params, mixing, Target::Write(&mut out))
                            .expect("a valid call");
                    }
                    Some(needs) => {
                        let dx = Some(Target::Write(&mut dx[..]));
                        black_box(
                            saved.backward(images, mixing, &g, needs, dx).expect("a valid call"),
                        );
                    }
                })
            })
        });
        *result = seconds[1];
        let rate = seconds.map(|s| times * flops / s / 1e9);
        line += &format!("{:8.2} ms", seconds[1] * 1e3);
        line += &match flops > 0.0 {
            true => format!("{:5.0} {:3.0}%", rate[1], rate[0] / peak * 100.0),
            false => " ".repeat(10),
        };
        line += &format!(" x{:.2}", seconds[0] / seconds[1]);
    }
    println!("{line}");
    result
}

/// Multiply-adds of an operation per pixel of the output.
fn multiply_adds(spec: &EdgeSpec, op: OpKind) -> f64 {
    spec.conv_shapes(op).iter().map(|s| s.iter().product::<usize>() as f64).sum()
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The least time of a call.
fn minimum(call: impl FnMut()) -> f64 {
    times(call).into_iter().fold(f64::INFINITY, f64::min)
}

/// The seconds of at least three calls, over at least a fifth of a second.
fn times(mut call: impl FnMut()) -> Vec<f64> {
    call();
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || begin.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        call();
        times.push(start.elapsed().as_secs_f64());
    }
    times
}

/// GFLOP/s of multiply-adds in registers.
fn peak() -> f64 {
    struct Loop;
    impl pulp::WithSimd for Loop {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, simd: S) -> f32 {
            let factor = simd.splat_f32s(black_box(0.999));
            let mut sums = [simd.splat_f32s(1.0); 12];
            for _ in 0..1_000_000 {
                for sum in &mut sums {
                    *sum = simd.mul_add_e_f32s(*sum, factor, factor);
                }
            }
            sums.iter().map(|sum| simd.reduce_sum_f32s(*sum)).sum()
        }
    }
    let arch = pulp::Arch::new();
    let seconds = minimum(|| {
        black_box(arch.dispatch(Loop));
    });
    12e6 * 2.0 * Level::available()[0].lanes() as f64 / seconds / 1e9
}
