//! Forward pass of an edge: the raw results with their statistics, then one pass that normalises and sums them.
//!
//! Batch statistics need the whole batch, so there are up to three walks over the images: first convolutions and
//! pools, second convolutions (of an operation that has two), sum. Within a walk an image is loaded once for all
//! operations.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::plan::{
    Direction, Loaded, Op, Plan, Pooling, group_size, join, next, over_groups, part, split,
};
use super::types::{Images, Mixing, Target};
use crate::block::{Conv, Scratch, Source};
use crate::buffers::Buffer;
use crate::norm::{MomentSum, Norm, Stats};
use crate::padded::Padded;
use crate::simd::{Accumulate, Bf16, Level, Moments, TERMS, Terms, prefetch};
use crate::stored::{Stored, words};

/// Pixels that a pass over pixels takes at a time: few enough for the first-level cache.
pub(super) const CHUNK: usize = 64;

/// Gamma and beta of each batch norm of an operation.
pub(super) type AffineParams<'a> = Vec<(&'a [f32], &'a [f32])>;

/// The batch norms of an operation, with their statistics.
#[derive(Debug, Default)]
pub(super) struct OpNorms {
    /// Batch norm of the first of two convolutions.
    pub(super) inner: Option<Norm>,
    /// Batch norm of the result.
    pub(super) last: Option<Norm>,
}

/// A batch norm of an operation.
#[derive(Debug, Clone, Copy)]
struct Slot {
    op: usize,
    inner: bool,
}

/// The weighted sum of the normalised results, `sum_o scales[o] * y_o + shift`: mixing weights included, repeated up to
/// the period of the level.
#[derive(Debug)]
pub(super) struct Weighted {
    scales: Vec<Vec<f32>>,
    shift: Vec<f32>,
}

/// The results of a forward pass that its backward pass needs.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// Statistics of each batch norm of each operation.
    pub(super) stats: Vec<Vec<Stats>>,
    /// For each operation the raw result of each of its convolutions, as words of [`Stored`].
    pub(super) raw: Vec<Vec<Buffer>>,
    /// The batch norms of each operation with these statistics.
    pub(super) norms: Vec<OpNorms>,
}

impl Plan {
    /// Everything but the sum: raw results, statistics, batch norms.
    pub(super) fn raw(&self, x: &[f32], affine: &[AffineParams<'_>]) -> Results {
        let mut results = Results::default();
        results.stats.resize_with(self.ops.len(), Vec::new);
        results.raw.resize_with(self.ops.len(), Vec::new);
        results.norms.resize_with(self.ops.len(), OpNorms::default);
        for (op, convs) in self.chains() {
            let room = |conv: &Conv| self.n * words(self.precision, conv.out_len());
            results.raw[op] = convs.iter().map(|conv| self.buffers.buffer(room(conv))).collect();
        }
        let first = self.first_convs(x, &mut results);
        self.add_norms(first, affine, &mut results);
        if self.has_second() {
            let second = self.second_convs(&mut results);
            self.add_norms(second, affine, &mut results);
        }
        results
    }

    /// Joins the statistics of the groups of images, in their order, and adds the batch norms that they complete.
    fn add_norms(
        &self,
        groups: Vec<Vec<(Slot, MomentSum)>>,
        affine: &[AffineParams<'_>],
        results: &mut Results,
    ) {
        let mut joined = join(groups, |(_, all), parts| {
            parts.into_iter().for_each(|(_, part)| all.join(part));
        });
        if let Some(whole) = &self.whole {
            MomentSum::of_whole(&**whole, joined.iter_mut().map(|(_, moments)| moments));
        }
        for (slot, sum) in joined {
            let stats = sum.stats();
            let Results { stats: all, norms, .. } = &mut *results;
            let affine = affine[slot.op].get(all[slot.op].len()).copied();
            let norm = Some(Norm::new(self.level, &stats.mean, &stats.var, affine));
            all[slot.op].push(stats);
            if slot.inner {
                norms[slot.op].inner = norm;
            } else {
                norms[slot.op].last = norm;
            }
        }
    }

    /// The first convolution of each chain, and the statistics of pools.
    fn first_convs(&self, x: &[f32], results: &mut Results) -> Vec<Vec<(Slot, MomentSum)>> {
        let chains = results.raw.iter_mut().filter_map(|raw| raw.first_mut());
        let scratch = || {
            let runs: Vec<Run> = (self.chains())
                .map(|(op, convs)| {
                    Run::new(self.level, Slot { op, inner: convs.len() > 1 }, &convs[0])
                })
                .collect();
            let pools: Vec<_> = (self.pools().filter(|(.., norm)| *norm))
                .map(|(op, shape, _)| {
                    let group = self.level.group(self.cin, self.pixels);
                    let tracker = Tracker::new(self.level, self.cin, group);
                    (Slot { op, inner: false }, shape, tracker)
                })
                .collect();
            (Loaded::new(self), runs, Pooling::new(self), pools)
        };
        let items = split(self.n, chains.map(|raw| &mut raw[..]));
        let walk = (Direction::Up, group_size(self.n));
        over_groups(walk, items, scratch, |(loaded, runs, pooling, pools), images, items| {
            for (i, raw) in images.zip(items) {
                let (given, x) = (x, part(x, i, self.n));
                loaded.load(self, x);
                let mut ahead = [next(given, i, self.n), &[]];
                for (run, raw) in runs.iter_mut().zip(raw) {
                    run.forward(loaded.source(run.conv, x), raw, std::mem::take(&mut ahead));
                }
                for (_, shape, tracker) in pools.iter_mut() {
                    tracker.image(pooling.run(*shape, x));
                }
            }
            let pools = pools.iter_mut().map(|(slot, _, tracker)| (*slot, tracker.take()));
            runs.iter_mut().filter_map(Run::take).chain(pools).collect()
        })
    }

    /// The second convolution of each chain that has one.
    fn second_convs(&self, results: &mut Results) -> Vec<Vec<(Slot, MomentSum)>> {
        let (mut first, mut second) = (vec![], vec![]);
        let Results { raw, norms, .. } = results;
        for raw in raw {
            if let [one, two] = &mut raw[..] {
                first.push(&one[..]);
                second.push(&mut two[..]);
            }
        }
        let scratch = || -> Vec<(Run, Padded)> {
            let twos = self.chains().filter(|(_, convs)| convs.len() > 1);
            twos.map(|(op, convs)| {
                let run = Run::new(self.level, Slot { op, inner: false }, &convs[1]);
                (run, self.between(&convs[1]))
            })
            .collect()
        };
        let items = split(self.n, second.into_iter());
        let walk = (Direction::Down, group_size(self.n));
        over_groups(walk, items, scratch, |runs, images, items| {
            let runs = runs.iter_mut().zip(&first).enumerate();
            let sums = runs.filter_map(|(index, ((run, image), given))| {
                for (i, raw) in images.clone().zip(items.iter_mut()) {
                    let y = self.stored(given, i);
                    self.load_between(image, y, run.conv, &norms[run.slot.op]);
                    let ahead = [next(given, i, self.n), &[]];
                    run.forward(Source::Image(image), raw[index], ahead);
                }
                run.take()
            });
            sums.collect()
        })
    }

    /// Scratch for the input of a second convolution.
    pub(super) fn between(&self, conv: &Conv) -> Padded {
        Padded::new(&self.buffers, conv.h, conv.w, conv.pad, self.level.pad(conv.block.cin))
    }

    /// Loads the input of a second convolution: the first result, normalised.
    pub(super) fn load_between(
        &self,
        image: &mut Padded,
        y: Stored<'_>,
        conv: &Conv,
        norms: &OpNorms,
    ) {
        let affine = norms.inner.as_ref().map(Norm::affine);
        image.load(self.level, y, conv.block.cin, affine, conv.block.relu);
    }

    /// The weighted sum of the operations.
    pub(super) fn sum(&self, x: &[f32], results: &Results, mixing: Mixing<'_>, out: Target<'_>) {
        let terms = self.terms(&results.norms, mixing.weights);
        let (out, add) = out.parts();
        let (items, scratch) = (split(self.n, std::iter::once(out)), || self.poolings());
        let direction = if self.has_second() { Direction::Up } else { Direction::Down };
        let walk = (direction, group_size(self.n));
        over_groups(walk, items, scratch, |pooling, images, items| {
            for (i, out) in images.zip(items) {
                let results = self.of_image(part(x, i, self.n), results, i, pooling);
                self.sum_image(&terms, &results, true, weight(mixing, i), out[0], add);
            }
        });
    }

    /// Scratch for each pool of the edge.
    pub(super) fn poolings(&self) -> Vec<Pooling> {
        self.pools().map(|_| Pooling::new(self)).collect()
    }

    /// The result of each operation for image `i`, pools computed again.
    pub(super) fn of_image<'a>(
        &self,
        x: &'a [f32],
        results: &'a Results,
        i: usize,
        pooling: &'a mut [Pooling],
    ) -> Vec<Stored<'a>> {
        let mut pooling = pooling.iter_mut();
        let results = self.ops.iter().zip(&results.raw).map(|(op, raw)| match (op, raw.last()) {
            (Op::Pool { shape, .. }, _) => {
                Stored::Values(pooling.next().map_or(x, |pooling| pooling.run(*shape, x)))
            }
            (_, Some(raw)) => self.stored(raw, i),
            (_, None) => Stored::Values(x),
        });
        results.collect()
    }

    pub(super) fn terms(&self, norms: &[OpNorms], weights: &[f32]) -> Weighted {
        let period = self.level.period(self.cout);
        let mut terms =
            Weighted { scales: Vec::with_capacity(norms.len()), shift: vec![0.0; period] };
        for (norms, weight) in norms.iter().zip(weights) {
            terms.scales.push(match &norms.last {
                None => vec![*weight; period],
                Some(norm) => {
                    let shift = self.level.repeat(&norm.shift[..self.cout]);
                    terms.shift.iter_mut().zip(shift).for_each(|(sum, v)| *sum += v * weight);
                    scaled(&self.level.repeat(&norm.scale[..self.cout]), *weight).into_owned()
                }
            });
        }
        terms
    }

    /// The sum for an image, a few pixels at a time; `far` results are in memory and worth a prefetch.
    fn sum_image(
        &self,
        terms: &Weighted,
        results: &[Stored<'_>],
        far: bool,
        weight: f32,
        out: &mut [f32],
        add: bool,
    ) {
        let (period, c) = (self.level.period(self.cout), self.cout);
        let scales: Vec<_> = terms.scales.iter().map(|scale| scaled(scale, weight)).collect();
        let shift = scaled(&terms.shift, weight);
        let zero = vec![0.0; period];
        let (mut plain, mut rounded) = (Vec::new(), Vec::new());
        for (result, scale) in results.iter().zip(&scales) {
            match *result {
                Stored::Values(y) => plain.push((y, &scale[..])),
                Stored::Rounded(y) => rounded.push((y, &scale[..])),
            }
        }
        for (chunk, out) in out.chunks_mut(CHUNK * c).enumerate() {
            let pixels = out.len() / c;
            let (from, len) = (chunk * CHUNK * c, pixels * c);
            if far {
                for result in results {
                    prefetch(result.words(from + len..from + 2 * len));
                }
            }
            let (mut add, mut shift) = (add, &shift[..]);
            let mut run = |terms: Terms<'_, f32>, rounded: Terms<'_, Bf16>| {
                self.level.run(Accumulate { out, add, terms, rounded, shift, pixels, c });
                (add, shift) = (true, &zero);
            };
            for some in plain.chunks(TERMS) {
                run(&cut(some, from..from + len)[..some.len()], &[]);
            }
            for some in rounded.chunks(TERMS) {
                run(&[], &cut(some, from..from + len)[..some.len()]);
            }
            if results.is_empty() {
                run(&[], &[]);
            }
        }
    }

    /// The whole edge with known statistics.
    pub(super) fn infer(
        &self,
        x: Images<'_>,
        norms: &[OpNorms],
        terms: &Weighted,
        out: Target<'_>,
    ) {
        let Images { n, data: x, .. } = x;
        let (out, add) = out.parts();
        let scratch = || {
            let chains: Vec<Fused> =
                self.chains().map(|(op, convs)| Fused::new(self, op, convs)).collect();
            (Loaded::new(self), chains, self.poolings())
        };
        let items = split(n, std::iter::once(out));
        // Threads without an image help with the rows of another.
        let tasks = rayon::current_num_threads().div_ceil(n.max(1));
        let walk = (Direction::Up, group_size(n));
        over_groups(walk, items, scratch, |(loaded, chains, pooling), images, items| {
            for (i, out) in images.zip(items) {
                let x = part(x, i, n);
                loaded.load(self, x);
                for chain in chains.iter_mut() {
                    let source = loaded.source(&chain.convs[0], x);
                    chain.run(self, source, &norms[chain.op], tasks);
                }
                let (mut pools, mut chains) = (pooling.iter_mut(), chains.iter());
                let results: Vec<&[f32]> = (self.ops.iter())
                    .map(|op| match op {
                        Op::Identity => x,
                        Op::Pool { shape, .. } => {
                            pools.next().map_or(x, |pooling| pooling.run(*shape, x))
                        }
                        Op::Chain(_) => chains.next().map_or(x, |chain| &chain.result),
                    })
                    .collect();
                let band = self.pixels.div_ceil(tasks).next_multiple_of(CHUNK) * self.cout;
                out[0].par_chunks_mut(band).enumerate().for_each(|(i, out)| {
                    let results: Vec<_> =
                        results.iter().map(|y| Stored::Values(&y[i * band..])).collect();
                    self.sum_image(terms, &results, false, 1.0, out, add);
                });
            }
        });
    }
}

/// A part of some images, at most [`TERMS`] of them.
fn cut<'a, T>(
    images: &[(&'a [T], &'a [f32])],
    part: Range<usize>,
) -> [(&'a [T], &'a [f32]); TERMS] {
    let mut cut: [(&[T], &[f32]); TERMS] = [(&[], &[]); TERMS];
    for (cut, (image, scale)) in cut.iter_mut().zip(images) {
        *cut = (&image[part.clone()], scale);
    }
    cut
}

/// The weight of an image.
pub(super) fn weight(mixing: Mixing<'_>, image: usize) -> f32 {
    mixing.image_weights.map_or(1.0, |weights| weights[image])
}

/// `factor` times each value.
pub(super) fn scaled(values: &[f32], factor: f32) -> Cow<'_, [f32]> {
    if factor == 1.0 {
        return Cow::Borrowed(values);
    }
    values.iter().map(|v| v * factor).collect()
}

/// The convolutions of an operation one after the other on an image, for inference.
struct Fused<'a> {
    op: usize,
    convs: &'a [Conv],
    middle: Option<(Buffer, Padded)>,
    result: Buffer,
}

impl<'a> Fused<'a> {
    fn new(plan: &Plan, op: usize, convs: &'a [Conv]) -> Self {
        let middle =
            convs.get(1).map(|two| (plan.buffers.buffer(convs[0].out_len()), plan.between(two)));
        Self { op, convs, middle, result: plan.buffers.buffer(plan.out_len) }
    }

    fn run(&mut self, plan: &Plan, source: Source<'_>, norms: &OpNorms, tasks: usize) {
        match &mut self.middle {
            None => self.convs[0].infer(source, &mut self.result, tasks),
            Some((y, between)) => {
                self.convs[0].infer(source, y, tasks);
                plan.load_between(between, Stored::Values(y), &self.convs[1], norms);
                self.convs[1].infer(Source::Image(between), &mut self.result, tasks);
            }
        }
    }
}

/// A convolution on one image after another, and its statistics if a batch norm follows.
struct Run<'a> {
    slot: Slot,
    conv: &'a Conv,
    scratch: Scratch,
    tracker: Option<Tracker>,
}

impl<'a> Run<'a> {
    fn new(level: Level, slot: Slot, conv: &'a Conv) -> Self {
        let tracker = conv.block.norm.then(|| Tracker::new(level, conv.block.cout, conv.group()));
        Self { slot, conv, scratch: conv.scratch(), tracker }
    }

    fn forward(&mut self, source: Source<'_>, y: &mut [f32], ahead: [&[f32]; 2]) {
        match &mut self.tracker {
            None => self.conv.forward(source, &mut self.scratch, y, None, ahead),
            Some(tracker) => {
                tracker.start();
                self.conv.forward(
                    source,
                    &mut self.scratch,
                    y,
                    Some((&mut tracker.mean, &mut tracker.m2)),
                    ahead,
                );
                tracker.finish(self.conv.oh * self.conv.ow);
            }
        }
    }

    /// The statistics since the last call.
    fn take(&mut self) -> Option<(Slot, MomentSum)> {
        Some((self.slot, self.tracker.as_mut()?.take()))
    }
}

/// Statistics of one image after another.
struct Tracker {
    level: Level,
    channels: usize,
    /// Pixels treated as one; `mean` and `m2` hold the moments of each, padded to whole vectors.
    group: usize,
    mean: Vec<f32>,
    m2: Vec<f32>,
    sum: MomentSum,
}

impl Tracker {
    fn new(level: Level, channels: usize, group: usize) -> Self {
        let zeros = || vec![0.0; level.pad(group * channels)];
        Self { level, channels, group, mean: zeros(), m2: zeros(), sum: MomentSum::new(channels) }
    }

    /// The statistics since the last call.
    fn take(&mut self) -> MomentSum {
        std::mem::replace(&mut self.sum, MomentSum::new(self.channels))
    }

    fn start(&mut self) {
        self.mean.fill(0.0);
        self.m2.fill(0.0);
    }

    /// Ends an image of `pixels` pixels.
    fn finish(&mut self, pixels: usize) {
        let wide = self.group * self.channels;
        self.sum.merge(&self.mean[..wide], &self.m2[..wide], pixels / self.group);
    }

    /// A whole image.
    fn image(&mut self, y: &[f32]) {
        self.start();
        let c = self.group * self.channels;
        let chunk = CHUNK / self.group;
        for (index, y) in y.chunks(chunk * c).enumerate() {
            let (mean, m2) = (&mut self.mean[..], &mut self.m2[..]);
            self.level.run(Moments { y, pixels: y.len() / c, c, count: index * chunk, mean, m2 });
        }
        self.finish(y.len() / self.channels);
    }
}
