//! An edge on images of a given size: its operations with packed weights, and the walk over the images.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::types::{Images, Mixing, OpParams};
use crate::block::{Conv, Source};
use crate::buffers::{Buffer, Buffers};
use crate::error::{KernelError, Result};
use crate::norm::WholeBatch;
use crate::padded::Padded;
use crate::simd::{Level, PoolKind, PoolShape, pool_backward, pool_forward};
use crate::spec::{Body, EdgeSpec, OpKind, Precision};
use crate::stored::Stored;

/// Largest number of groups of images with separate sums; the sums do not depend on who computes which group.
const GROUPS: usize = 32;

/// Sums of gradients of weights, those of all groups together, that the cache holds.
const CACHED_SUMS: usize = 1 << 18;

/// Pixels of a group from which on it takes long enough to make up for sums that the cache does not hold.
const PIXELS_PER_SUM: usize = 512;

/// Groups that are left in any case, for as many threads.
const FEWEST_GROUPS: usize = 16;

/// An operation on images of a given size.
#[derive(Debug)]
pub(super) enum Op {
    Identity,
    Pool { shape: PoolShape, norm: bool },
    Chain(Vec<Conv>),
}

/// An edge on images of a given size.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) level: Level,
    pub(super) precision: Precision,
    pub(super) buffers: Buffers,
    /// The batch of which the images are a part.
    pub(super) whole: Option<Arc<dyn WholeBatch>>,
    pub(super) ops: Vec<Op>,
    /// True for each operation that has affine parameters.
    pub(super) affine: Vec<bool>,
    pub(super) n: usize,
    /// Values of an image of the output.
    pub(super) out_len: usize,
    /// Size of the input, pixels of the output, channels.
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) pixels: usize,
    pub(super) cin: usize,
    pub(super) cout: usize,
}

impl Plan {
    /// Checks parameters and size, then packs the weights: for `n` images of `h` by `w` pixels.
    pub(super) fn new(
        spec: &EdgeSpec,
        level: Level,
        precision: Precision,
        buffers: &Buffers,
        [n, h, w]: [usize; 3],
        params: &[OpParams<'_>],
    ) -> Result<Self> {
        KernelError::check_count(
            || "parameters of the edge".into(),
            "operation",
            spec.ops.len(),
            params.len(),
        )?;
        if n * h * w == 0 {
            let found = format!("{n} of {h} x {w}");
            let expected = "at least one, of at least one pixel".into();
            return Err(KernelError::Spec {
                field: "images",
                expected,
                found,
                remedy: "skip empty batches",
            });
        }
        let (oh, ow) = spec.output_size(h, w);
        for (kind, params) in spec.ops.iter().zip(params) {
            check_params(spec, *kind, params)?;
        }
        let op = |(kind, params): (&OpKind, &OpParams<'_>)| match kind.body(spec) {
            Body::Identity => Op::Identity,
            Body::Pool { max, norm } => {
                let kind = if max { PoolKind::Max } else { PoolKind::Average };
                Op::Pool { shape: PoolShape { kind, h, w, c: spec.cin, stride: spec.stride }, norm }
            }
            Body::Chain(blocks) => {
                let (mut h, mut w, mut used) = (h, w, 0);
                let mut convs = Vec::with_capacity(blocks.len());
                for block in blocks {
                    let count = block.weight_shapes().len();
                    let params = &params.convs[used..used + count];
                    let conv = Conv::new(buffers, level, precision, block, [h, w], params);
                    (h, w, used) = (conv.oh, conv.ow, used + count);
                    convs.push(conv);
                }
                Op::Chain(convs)
            }
        };
        let ops = spec.ops.par_iter().zip(params).map(op).collect();
        Ok(Self {
            level,
            precision,
            buffers: buffers.clone(),
            whole: None,
            ops,
            affine: params.iter().map(|params| !params.affine.is_empty()).collect(),
            n,
            out_len: oh * ow * spec.cout,
            h,
            w,
            pixels: oh * ow,
            cin: spec.cin,
            cout: spec.cout,
        })
    }

    /// Checks images and output.
    pub(super) fn check(&self, x: Images<'_>, out: usize) -> Result<()> {
        let count = |what: &str, per, expected, found| {
            KernelError::check_count(|| format!("{what} of the input"), per, expected, found)
        };
        count("channels", "channel of the edge", self.cin, x.c)?;
        count("height", "row of the edge", self.h, x.h)?;
        count("width", "column of the edge", self.w, x.w)?;
        let shape = [x.n, self.h, self.w, self.cin];
        KernelError::check_len(|| "input of the edge".into(), &shape, x.data.len())?;
        let shape = [x.n, self.pixels, self.cout];
        KernelError::check_len(|| "output of the edge".into(), &shape, out)
    }

    /// Chains, with the index of their operation.
    pub(super) fn chains(&self) -> impl Iterator<Item = (usize, &[Conv])> {
        self.ops.iter().enumerate().filter_map(|(i, op)| match op {
            Op::Chain(convs) => Some((i, convs.as_slice())),
            Op::Identity | Op::Pool { .. } => None,
        })
    }

    /// Pools, with the index of their operation.
    pub(super) fn pools(&self) -> impl Iterator<Item = (usize, PoolShape, bool)> {
        self.ops.iter().enumerate().filter_map(|(i, op)| match op {
            Op::Pool { shape, norm } => Some((i, *shape, *norm)),
            Op::Identity | Op::Chain(_) => None,
        })
    }

    /// True if an operation has two convolutions.
    pub(super) fn has_second(&self) -> bool {
        self.chains().any(|(_, convs)| convs.len() > 1)
    }

    /// Image `i` of stored results.
    pub(super) fn stored<'a>(&self, words: &'a [f32], i: usize) -> Stored<'a> {
        Stored::new(self.precision, part(words, i, self.n))
    }

    /// The border that the first convolutions with (or without) ReLU need, if any of them needs a loaded image.
    pub(super) fn first_pad(&self, relu: bool) -> Option<usize> {
        self.chains()
            .filter(|(_, convs)| convs[0].block.relu == relu && !convs[0].is_pointwise())
            .map(|(_, convs)| convs[0].pad)
            .max()
    }
}

/// An image loaded for the first convolutions: with ReLU, without, or both.
pub(super) struct Loaded([Option<Padded>; 2]);

impl Loaded {
    pub(super) fn new(plan: &Plan) -> Self {
        let padded =
            |pad| Padded::new(&plan.buffers, plan.h, plan.w, pad, plan.level.pad(plan.cin));
        Self([true, false].map(|relu| plan.first_pad(relu).map(padded)))
    }

    /// Loads an image of the input.
    pub(super) fn load(&mut self, plan: &Plan, x: &[f32]) {
        for (relu, image) in [true, false].into_iter().zip(&mut self.0) {
            if let Some(image) = image {
                image.load(plan.level, Stored::Values(x), plan.cin, None, relu);
            }
        }
    }

    /// The image as `conv` reads it.
    pub(super) fn image(&self, conv: &Conv) -> &Padded {
        let image = self.0[usize::from(!conv.block.relu)].as_ref();
        image.unwrap_or_else(|| unreachable!("loaded for every first convolution that needs it"))
    }

    /// The source that `conv` reads for image `x`.
    pub(super) fn source<'a>(&'a self, conv: &Conv, x: &'a [f32]) -> Source<'a> {
        if conv.is_pointwise() { Source::Dense(x) } else { Source::Image(self.image(conv)) }
    }
}

/// Scratch of a pool.
pub(super) struct Pooling {
    level: Level,
    line: Buffer,
    image: Buffer,
}

impl Pooling {
    pub(super) fn new(plan: &Plan) -> Self {
        let (line, image) =
            if plan.pools().next().is_some() { (plan.w * plan.cin, plan.out_len) } else { (0, 0) };
        Self {
            level: plan.level,
            line: plan.buffers.buffer(line),
            image: plan.buffers.buffer(image),
        }
    }

    /// Pools an image again and goes back through the pool: `gradient` turns the result into its gradient, and the
    /// resulting gradient of the image is added to `dx`.
    pub(super) fn back(
        &mut self,
        shape: PoolShape,
        x: &[f32],
        dy: &mut [f32],
        dx: &mut [f32],
        gradient: impl FnOnce(&[f32], &mut [f32]),
    ) {
        gradient(self.run(shape, x), dy);
        pool_backward(self.level, shape, x, &self.image, dy, &mut self.line, dx);
    }

    /// Pools an image.
    pub(super) fn run(&mut self, shape: PoolShape, x: &[f32]) -> &[f32] {
        pool_forward(self.level, shape, x, &mut self.line, &mut self.image);
        &self.image
    }
}

/// Checks the numbers of weights.
pub(super) fn check_mixing(mixing: Mixing<'_>, ops: usize, n: usize) -> Result<()> {
    let what = || "mixing weights".into();
    KernelError::check_count(what, "operation", ops, mixing.weights.len())?;
    match mixing.image_weights {
        Some(w) => KernelError::check_count(|| "image weights".into(), "image", n, w.len()),
        None => Ok(()),
    }
}

fn check_params(spec: &EdgeSpec, kind: OpKind, params: &OpParams<'_>) -> Result<()> {
    let shapes = spec.conv_shapes(kind);
    KernelError::check_count(
        || format!("weights of {kind}"),
        "convolution",
        shapes.len(),
        params.convs.len(),
    )?;
    for (i, (shape, conv)) in shapes.iter().zip(&params.convs).enumerate() {
        KernelError::check_len(|| format!("weight {i} of {kind}"), shape, conv.len())?;
    }
    let norms = spec.norm_channels(kind);
    if !params.affine.is_empty() {
        let what = || format!("affine parameters of {kind}");
        KernelError::check_count(what, "batch norm", norms.len(), params.affine.len())?;
    }
    for (i, (c, (gamma, beta))) in norms.iter().zip(&params.affine).enumerate() {
        KernelError::check_len(|| format!("gamma {i} of {kind}"), &[*c], gamma.len())?;
        KernelError::check_len(|| format!("beta {i} of {kind}"), &[*c], beta.len())?;
    }
    Ok(())
}

/// The direction of a walk over the images. A walk that follows another goes the opposite way, and finds in the cache
/// the values that the other touched last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// Number of images in a group: at least two where that leaves many groups, since each has sums of its own to write and
/// to join.
pub(super) fn group_size(n: usize) -> usize {
    n.div_ceil(GROUPS).max(n.div_ceil(GROUPS / 2).clamp(1, 2))
}

/// The same for groups that also sum the gradients of `weights` weights, over results of `pixels` pixels: more images where
/// weights are many and pixels few.
pub(super) fn gradient_group_size(n: usize, weights: usize, pixels: usize) -> usize {
    let cached = (n * weights).div_ceil(CACHED_SUMS);
    let worth = PIXELS_PER_SUM.div_ceil(pixels);
    cached.min(worth).min(n / FEWEST_GROUPS).max(group_size(n))
}

/// Runs `f` on groups of `size` consecutive images, on all threads, and returns its results in the order of the groups.
/// Each group gets the numbers of its images and their `items`, and scratch that `init` makes for some groups in a row.
pub(super) fn over_groups<T: Send, S, R: Send>(
    (direction, size): (Direction, usize),
    mut items: Vec<T>,
    init: impl Fn() -> S + Send + Sync,
    f: impl Fn(&mut S, Range<usize>, &mut [T]) -> R + Send + Sync,
) -> Vec<R> {
    let groups = items.par_chunks_mut(size).enumerate();
    let run = |scratch: &mut S, (group, items): (usize, &mut [T])| {
        f(scratch, group * size..group * size + items.len(), items)
    };
    match direction {
        Direction::Up => groups.map_init(init, run).collect(),
        Direction::Down => {
            let mut results: Vec<R> = groups.rev().map_init(init, run).collect();
            results.reverse();
            results
        }
    }
}

/// Joins the sums of groups of images: each entry of the first group with those of the others, in their order.
pub(super) fn join<T: Send + Sync>(
    groups: Vec<Vec<T>>,
    join: impl Fn(&mut T, Vec<&T>) + Send + Sync,
) -> Vec<T> {
    let mut groups = groups.into_iter();
    let mut all = groups.next().unwrap_or_default();
    let others = groups.as_slice();
    all.par_iter_mut().enumerate().for_each(|(index, all)| {
        join(all, others.iter().map(|group| &group[index]).collect());
    });
    all
}

/// For each image, its part of each buffer.
pub(super) fn split<'a>(
    n: usize,
    buffers: impl Iterator<Item = &'a mut [f32]>,
) -> Vec<Vec<&'a mut [f32]>> {
    let mut images: Vec<Vec<&mut [f32]>> = (0..n).map(|_| Vec::new()).collect();
    for mut rest in buffers {
        let len = rest.len() / n.max(1);
        for image in &mut images {
            let part;
            (part, rest) = rest.split_at_mut(len);
            image.push(part);
        }
    }
    images
}

/// Part `i` of `n` equal parts, one per image.
pub(super) fn part(values: &[f32], i: usize, n: usize) -> &[f32] {
    let len = values.len() / n;
    &values[i * len..(i + 1) * len]
}

/// The part after part `i`, empty after the last.
pub(super) fn next(values: &[f32], i: usize, n: usize) -> &[f32] {
    if i + 1 < n { part(values, i + 1, n) } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_groups_sum_many_weights_over_few_pixels() {
        assert_eq!([1, 3, 16, 17, 64, 65, 256].map(group_size), [1, 1, 1, 2, 2, 3, 8]);
        let many = |n, pixels| gradient_group_size(n, CACHED_SUMS, pixels);
        assert_eq!([16, 64, 128, 256, 1024].map(|pixels| many(64, pixels)), [4, 4, 4, 2, 2]);
        assert_eq!([1, 8, 31, 32, 128, 512].map(|n| many(n, 16)), [1, 1, 2, 2, 8, 32]);
        let of = |groups| gradient_group_size(64, CACHED_SUMS / groups, 16);
        assert_eq!([16, 21, 22, 32, 64].map(of), [4, 4, 3, 2, 2]);
    }
}
