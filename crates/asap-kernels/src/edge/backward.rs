//! Backward pass of an edge.
//!
//! A first walk over the images sums, per operation and channel, the gradient and its product with the result: this is
//! all that batch norm needs, and it also yields the gradients of mixing weights and affine parameters. A second walk
//! goes back through second convolutions, whose input is normalised too; a last one through first convolutions, pools
//! and identity into the gradient of the input.

use rayon::prelude::*;

use super::forward::{CHUNK, Results, scaled, weight};
use super::plan::{
    Direction, Loaded, Op, Plan, Pooling, gradient_group_size, group_size, join, next, over_groups,
    part, split,
};
use super::types::{Grads, Mixing, Needs, OpGrads, Target};
use crate::block::{Conv, ResultGrad, Scratch};
use crate::buffers::Buffer;
use crate::matrix::PackedGrads;
use crate::norm::{GradSums, Norm, NormGrad};
use crate::padded::Padded;
use crate::simd::{Accumulate, MaskedAdd, Sums, prefetch};
use crate::stored::Stored;

/// The inputs of a backward pass.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) x: &'a [f32],
    pub(super) results: &'a Results,
    pub(super) mixing: Mixing<'a>,
    pub(super) grad_out: &'a [f32],
}

/// The gradient at the result of a first convolution that a second one follows.
struct Inner {
    op: usize,
    /// For all images, of the normalised result.
    grad: Buffer,
    sums: GradSums,
    /// Gradients of the weights of the second convolution.
    packed: PackedGrads,
}

impl Plan {
    pub(super) fn backward(&self, given: Given<'_>, needs: Needs, dx: Option<Target<'_>>) -> Grads {
        let sums = self.output_sums(given, needs.mixing);
        let mut grads = Grads::default();
        if needs.mixing {
            grads.mixing = (given.results.norms.iter().zip(&sums))
                .map(|(norms, sums)| match &norms.last {
                    Some(norm) => norm.weight_grad(sums),
                    None => sums.dot.iter().sum::<f64>() as f32,
                })
                .collect();
        }
        if !needs.weights && dx.is_none() {
            return grads;
        }
        let mut of_batch = sums.clone();
        if let Some(whole) = &self.whole {
            let norms = given.results.norms.iter().zip(&mut of_batch);
            let sums = norms.filter(|(norms, _)| norms.last.is_some()).map(|(_, sums)| sums);
            GradSums::of_whole(&**whole, sums);
        }
        // How the gradient of the output propagates to the result of each operation.
        let outer: Vec<NormGrad> = (of_batch.iter().zip(given.mixing.weights).enumerate())
            .map(|(op, (sums, weight))| {
                let norm = given.results.norms[op].last.as_ref();
                let count = given.results.stats[op].last().map_or(0, |stats| stats.count);
                self.norm_back(norm, *weight, sums, count, self.cout)
            })
            .collect();
        let inner = self.second_convs_back(given, &outer, needs.weights);
        let first = self.first_walk_back(given, &outer, &inner, needs.weights, dx);
        if needs.weights {
            grads.ops = self.unpack(given, &sums, &inner, &first);
        }
        grads
    }

    /// Through a batch norm of `channels` channels over `count` values, or through a plain factor if there is none.
    fn norm_back(
        &self,
        norm: Option<&Norm>,
        weight: f32,
        sums: &GradSums,
        count: usize,
        channels: usize,
    ) -> NormGrad {
        let period = self.level.period(channels);
        match norm {
            Some(norm) => norm.backward(weight, sums, count),
            None => {
                let zeros = || vec![0.0; period];
                NormGrad { g_scale: vec![weight; period], y_scale: zeros(), shift: zeros() }
            }
        }
    }

    /// For each operation the sums over the batch of the gradient of the output, and of its product with the result minus
    /// the mean.
    fn output_sums(&self, given: Given<'_>, mixing: bool) -> Vec<GradSums> {
        let (c, period) = (self.cout, self.level.period(self.cout));
        if !mixing && given.results.norms.iter().all(|norms| norms.last.is_none()) {
            return vec![GradSums::new(c); self.ops.len()];
        }
        let zero = vec![0.0; period];
        let scratch = || {
            let zeros = || vec![0.0; period * self.ops.len()];
            (self.poolings(), zeros(), zeros())
        };
        let items = (0..self.n).collect();
        let walk = (Direction::Down, group_size(self.n));
        let groups = over_groups(walk, items, scratch, |scratch, images, _| {
            let (pooling, sums, dots) = scratch;
            let mut totals = vec![GradSums::new(c); self.ops.len()];
            for i in images {
                let g = part(given.grad_out, i, self.n);
                let results = self.of_image(part(given.x, i, self.n), given.results, i, pooling);
                sums.fill(0.0);
                dots.fill(0.0);
                for (chunk, g) in g.chunks(CHUNK * c).enumerate() {
                    let state = sums.chunks_exact_mut(period).zip(dots.chunks_exact_mut(period));
                    for ((y, norms), (sum, dot)) in
                        results.iter().zip(&given.results.norms).zip(state)
                    {
                        if norms.last.is_none() && !mixing {
                            continue;
                        }
                        let mean = norms.last.as_ref().map_or(&zero, |norm| &norm.mean);
                        let from = chunk * CHUNK * c;
                        prefetch(y.words(from + g.len()..from + 2 * g.len()));
                        self.sums(g, y.part(from..from + g.len()), mean, c, sum, dot);
                    }
                }
                let state = sums.chunks_exact(period).zip(dots.chunks_exact(period));
                for (total, (sum, dot)) in totals.iter_mut().zip(state) {
                    total.add(sum, dot, weight(given.mixing, i));
                }
            }
            totals
        });
        join(groups, |all, parts| parts.into_iter().for_each(|part| all.join(part)))
    }

    /// See [`Sums`].
    fn sums(
        &self,
        g: &[f32],
        y: Stored<'_>,
        mean: &[f32],
        c: usize,
        sum: &mut [f32],
        dot: &mut [f32],
    ) {
        let pixels = g.len() / c;
        match y {
            Stored::Values(y) => self.level.run(Sums { g, y, mean, pixels, c, sum, dot }),
            Stored::Rounded(y) => self.level.run(Sums { g, y, mean, pixels, c, sum, dot }),
        }
    }

    /// Back through the second convolutions.
    fn second_convs_back(&self, given: Given<'_>, outer: &[NormGrad], weights: bool) -> Vec<Inner> {
        let twos = || {
            self.chains()
                .filter_map(|(op, convs)| <&[Conv; 2]>::try_from(convs).ok().map(|c| (op, c)))
        };
        let mut gradients: Vec<Buffer> =
            twos().map(|(_, [one, _])| self.buffers.buffer(self.n * one.out_len())).collect();
        if gradients.is_empty() {
            return vec![];
        }
        let items = split(self.n, gradients.iter_mut().map(|grad| &mut grad[..]));
        let scratch = || -> Vec<Middle> {
            twos().map(|(_, [one, two])| Middle::new(self, one, two)).collect()
        };
        let sums = if weights { twos().map(|(_, [_, two])| two.grads_len()).sum() } else { 0 };
        let walk = (Direction::Up, gradient_group_size(self.n, sums, self.pixels));
        let groups = over_groups(walk, items, scratch, |middles, images, items| {
            let back = |(index, ((op, [one, two]), middle)): (
                usize,
                ((usize, &[Conv; 2]), &mut Middle),
            )| {
                let Middle { image, d_image, scratch, sum, dot } = middle;
                let c = one.block.cout;
                let mut packed = two.packed_grads(weights);
                let mut total = GradSums::new(c);
                let norms = &given.results.norms[op];
                for (i, item) in images.clone().zip(items.iter_mut()) {
                    let (raw, g) = (&given.results.raw[op], part(given.grad_out, i, self.n));
                    let y = self.stored(&raw[0], i);
                    self.load_between(image, y, two, norms);
                    let scale = scaled(&outer[op].g_scale, weight(given.mixing, i));
                    let grad = ResultGrad::new(&outer[op], g, &scale, self.stored(&raw[1], i));
                    let packed = weights.then_some(&mut packed);
                    let ahead = [next(&given.results.raw[op][0], i, self.n), &*item[index]];
                    two.backward(image, scratch, grad, true, Some(d_image), packed, ahead);
                    let dst = &mut item[index][..];
                    self.through_relu(two, image, d_image, dst, false);
                    if let Some(norm) = &norms.inner {
                        sum.fill(0.0);
                        dot.fill(0.0);
                        for (chunk, g) in dst.chunks(CHUNK * c).enumerate() {
                            let from = chunk * CHUNK * c;
                            self.sums(g, y.part(from..from + g.len()), &norm.mean, c, sum, dot);
                        }
                        total.add(sum, dot, 1.0);
                    }
                }
                (total, packed)
            };
            twos().zip(middles).enumerate().map(back).collect::<Vec<_>>()
        });
        let joined = join(groups, |(sums, packed): &mut (GradSums, PackedGrads), parts| {
            parts.iter().for_each(|(part, _)| sums.join(part));
            packed.add(&parts.iter().map(|(_, part)| part).collect::<Vec<_>>());
        });
        (twos().zip(gradients).zip(joined))
            .map(|(((op, _), grad), (sums, packed))| Inner { op, grad, sums, packed })
            .collect()
    }

    /// From the gradient of a loaded image to that of its source, dense.
    fn through_relu(&self, conv: &Conv, image: &Padded, d: &[f32], dst: &mut [f32], add: bool) {
        let (c, cp) = (conv.block.cin, image.cp);
        let r = conv.block.relu.then(|| image.interior());
        self.level.run(MaskedAdd {
            dst,
            add,
            d,
            r,
            r_row: image.row(),
            rows: image.h,
            width: image.w,
            c,
            cp,
        });
    }

    /// Back through first convolutions, pools and identity. Returns the gradients of the weights of the first
    /// convolution of each chain.
    fn first_walk_back(
        &self,
        given: Given<'_>,
        outer: &[NormGrad],
        inner: &[Inner],
        weights: bool,
        dx: Option<Target<'_>>,
    ) -> Vec<PackedGrads> {
        let mut of_batch: Vec<GradSums> = inner.iter().map(|inner| inner.sums.clone()).collect();
        if let Some(whole) = self.whole.as_ref().filter(|_| !inner.is_empty()) {
            GradSums::of_whole(&**whole, of_batch.iter_mut());
        }
        let inner_back: Vec<NormGrad> = (inner.iter().zip(&of_batch))
            .map(|(inner, sums)| {
                let Op::Chain(convs) = &self.ops[inner.op] else {
                    unreachable!("only chains have inner gradients")
                };
                let norm = given.results.norms[inner.op].inner.as_ref();
                let count = given.results.stats[inner.op][0].count;
                self.norm_back(norm, 1.0, sums, count, convs[0].block.cout)
            })
            .collect();
        let (dx, add) = dx.map(Target::parts).unzip();
        let items = split(self.n, dx.into_iter());
        let convs = self.chains().map(|(_, convs)| &convs[0]);
        let sums = if weights { convs.map(Conv::grads_len).sum() } else { 0 };
        let direction = if self.has_second() { Direction::Down } else { Direction::Up };
        let groups = over_groups(
            (direction, gradient_group_size(self.n, sums, self.pixels)),
            items,
            || Walk::new(self),
            |walk, images, items| {
                let chains = self.chains();
                let mut grads: Vec<_> =
                    chains.map(|(_, convs)| convs[0].packed_grads(weights)).collect();
                for (i, dx) in images.zip(items) {
                    let x = part(given.x, i, self.n);
                    let mut dx = dx.first_mut().map(|dx| &mut **dx);
                    // Until something is written to dx.
                    let mut add = add == Some(true);
                    let g = part(given.grad_out, i, self.n);
                    let factor = weight(given.mixing, i);
                    walk.loaded.load(self, x);
                    let mut x_ahead = next(given.x, i, self.n);
                    for relu in [true, false] {
                        let mut last = None;
                        for (index, (op, convs)) in self.chains().enumerate() {
                            if convs[0].block.relu != relu {
                                continue;
                            }
                            let y = self.stored(&given.results.raw[op][0], i);
                            let scale;
                            let grad = match inner
                                .iter()
                                .zip(&inner_back)
                                .find(|(inner, _)| inner.op == op)
                            {
                                Some((inner, back)) => ResultGrad::new(
                                    back,
                                    part(&inner.grad, i, self.n),
                                    &back.g_scale,
                                    y,
                                ),
                                None => {
                                    scale = scaled(&outer[op].g_scale, factor);
                                    ResultGrad::new(&outer[op], g, &scale, y)
                                }
                            };
                            let packed = weights.then_some(&mut grads[index]);
                            let x_ahead = std::mem::take(&mut x_ahead);
                            let scratch = &mut walk.scratch[index];
                            if convs[0].is_pointwise() {
                                let dx = dx.as_deref_mut().map(|dx| (dx, add));
                                convs[0].backward_pointwise(
                                    x,
                                    scratch,
                                    grad,
                                    dx,
                                    packed,
                                    [x_ahead, &[]],
                                );
                                add = true;
                                continue;
                            }
                            let fresh = last.replace(&convs[0]).is_none();
                            let d_image = dx.is_some().then_some(&mut walk.d_image[..]);
                            let image = walk.loaded.image(&convs[0]);
                            let dx_ahead = dx.as_deref().filter(|_| fresh).unwrap_or_default();
                            let ahead = [x_ahead, dx_ahead];
                            convs[0].backward(image, scratch, grad, fresh, d_image, packed, ahead);
                        }
                        if let (Some(conv), Some(dx)) = (last, &mut dx) {
                            self.through_relu(
                                conv,
                                walk.loaded.image(conv),
                                &walk.d_image,
                                dx,
                                add,
                            );
                            add = true;
                        }
                    }
                    let Some(dx) = dx else { continue };
                    if !add {
                        dx.fill(0.0);
                    }
                    for (op, body) in self.ops.iter().enumerate() {
                        let scale = scaled(&outer[op].g_scale, factor);
                        match body {
                            Op::Chain(_) => {}
                            Op::Identity => {
                                let terms = &[(g, &scale[..])];
                                let (pixels, c, shift) = (self.pixels, self.cin, &outer[op].shift);
                                self.level.run(Accumulate {
                                    out: dx,
                                    add: true,
                                    terms,
                                    rounded: &[],
                                    shift,
                                    pixels,
                                    c,
                                });
                            }
                            Op::Pool { shape, .. } => {
                                let (c, d_pool) = (self.cin, &mut walk.d_pool[..]);
                                walk.pooling.back(*shape, x, d_pool, dx, |y, dy| {
                                    let y = Stored::Values(y);
                                    let grad = ResultGrad::new(&outer[op], g, &scale, y);
                                    grad.fill(self.level, c, 0, self.pixels, dy);
                                });
                            }
                        }
                    }
                }
                grads
            },
        );
        join(groups, |all, parts| all.add(&parts))
    }

    /// The gradients of the parameters in the caller's layout.
    fn unpack(
        &self,
        given: Given<'_>,
        sums: &[GradSums],
        inner: &[Inner],
        first: &[PackedGrads],
    ) -> Vec<OpGrads> {
        let mut grads = vec![OpGrads::default(); self.ops.len()];
        let chains: Vec<_> = self.chains().zip(first).collect();
        let convs = chains.into_par_iter().map(|((op, convs), first)| {
            let second = inner.iter().filter(|inner| inner.op == op).map(|inner| &inner.packed);
            let packed = std::iter::once(first).chain(second);
            let convs = convs.iter().zip(packed);
            (op, convs.flat_map(|(conv, packed)| conv.unpack(packed)).collect())
        });
        for (op, convs) in convs.collect::<Vec<_>>() {
            grads[op].convs = convs;
        }
        for (op, grads) in grads.iter_mut().enumerate().filter(|(op, _)| self.affine[*op]) {
            let norms = &given.results.norms[op];
            let inner = inner.iter().find(|inner| inner.op == op).zip(norms.inner.as_ref());
            grads.affine.extend(inner.map(|(inner, norm)| norm.affine_grad(1.0, &inner.sums)));
            let last = norms
                .last
                .as_ref()
                .map(|norm| norm.affine_grad(given.mixing.weights[op], &sums[op]));
            grads.affine.extend(last);
        }
        grads
    }
}

/// Scratch of the walk back through second convolutions, for one convolution.
struct Middle {
    /// Its input.
    image: Padded,
    /// The gradient of that.
    d_image: Buffer,
    scratch: Scratch,
    /// For the batch norm between the two convolutions.
    sum: Vec<f32>,
    dot: Vec<f32>,
}

impl Middle {
    fn new(plan: &Plan, one: &Conv, two: &Conv) -> Self {
        let c = one.block.cout;
        let zeros = || vec![0.0; plan.level.period(c)];
        Self {
            image: plan.between(two),
            d_image: plan.buffers.buffer(one.oh * one.ow * plan.level.pad(c)),
            scratch: two.scratch(),
            sum: zeros(),
            dot: zeros(),
        }
    }
}

/// Scratch of the last walk.
struct Walk {
    loaded: Loaded,
    /// Gradient of the loaded image.
    d_image: Buffer,
    scratch: Vec<Scratch>,
    pooling: Pooling,
    d_pool: Buffer,
}

impl Walk {
    fn new(plan: &Plan) -> Self {
        let chained = plan.chains().any(|(_, convs)| !convs[0].is_pointwise());
        let pooled = plan.pools().next().is_some();
        Self {
            loaded: Loaded::new(plan),
            d_image: plan.buffers.buffer(if chained {
                plan.h * plan.w * plan.level.pad(plan.cin)
            } else {
                0
            }),
            scratch: plan.chains().map(|(_, convs)| convs[0].scratch()).collect(),
            pooling: Pooling::new(plan),
            d_pool: plan.buffers.buffer(if pooled { plan.out_len } else { 0 }),
        }
    }
}
