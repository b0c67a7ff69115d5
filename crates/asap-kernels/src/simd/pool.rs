//! 3x3 pools of padding 1, row by row: neighbouring channels and pixels of a row are treated alike, so any number of
//! channels fills the vectors.

use pulp::{Simd, WithSimd};

use super::Level;

/// Which pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    /// Without counting the padding.
    Average,
}

/// An image of a pool: `[h, w, c]` to `[ceil(h / stride), ceil(w / stride), c]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolShape {
    pub(crate) kind: PoolKind,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) stride: usize,
}

impl PoolShape {
    fn out(self) -> (usize, usize) {
        (self.h.div_ceil(self.stride), self.w.div_ceil(self.stride))
    }

    /// The rows (or columns) of a window, first and one past the last.
    fn window(self, at: usize, size: usize) -> (usize, usize) {
        ((at * self.stride).saturating_sub(1), (at * self.stride + 2).min(size))
    }
}

/// The larger of two, or NaN if there is one.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// Pools image `x` into `out`; `line` is scratch of at least a row of `x`.
pub(crate) fn pool_forward(
    level: Level,
    shape: PoolShape,
    x: &[f32],
    line: &mut [f32],
    out: &mut [f32],
) {
    level.run(Forward { shape, x, line, out });
}

/// Adds to `dx` the gradient of a pool, given that of its result. The gradient of a maximum goes to the first
/// of equals, in the order of rows and columns. `scratch` holds at least two rows of the result.
pub(crate) fn pool_backward(
    level: Level,
    shape: PoolShape,
    x: &[f32],
    y: &[f32],
    dy: &mut [f32],
    dx: &mut [f32],
) {
    level.run(Backward { shape, x, y, dy, dx });
}

struct Forward<'a> {
    shape: PoolShape,
    x: &'a [f32],
    line: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { shape, x, line, out } = self;
        let PoolShape { kind, h, w, c, stride } = shape;
        let (oh, ow) = shape.out();
        let line = &mut line[..w * c];
        for oy in 0..oh {
            let (top, bottom) = shape.window(oy, h);
            line.copy_from_slice(&x[top * w * c..][..w * c]);
            for y in top + 1..bottom {
                fold(kind, line, &x[y * w * c..][..w * c]);
            }
            let out = &mut out[oy * ow * c..][..ow * c];
            if stride == 1 {
                out.copy_from_slice(line);
                if w > 1 {
                    fold(kind, &mut out[c..], &line[..(w - 1) * c]);
                    fold(kind, &mut out[..(w - 1) * c], &line[c..]);
                }
            } else {
                for (ox, out) in out.chunks_exact_mut(c).enumerate() {
                    let (left, right) = shape.window(ox, w);
                    out.copy_from_slice(&line[left * c..][..c]);
                    for x in left + 1..right {
                        fold(kind, out, &line[x * c..][..c]);
                    }
                }
            }
            if kind == PoolKind::Average {
                divide(shape, out, bottom - top);
            }
        }
    }
}

/// `acc = max(acc, x)` or `acc + x`.
#[inline(always)]
fn fold(kind: PoolKind, acc: &mut [f32], x: &[f32]) {
    match kind {
        PoolKind::Max => {
            for (acc, x) in acc.iter_mut().zip(x) {
                *acc = larger(*acc, *x);
            }
        }
        PoolKind::Average => {
            for (acc, x) in acc.iter_mut().zip(x) {
                *acc += *x;
            }
        }
    }
}

/// Divides a row of results by the size of their windows, `rows` high.
#[inline(always)]
fn divide(shape: PoolShape, out: &mut [f32], rows: usize) {
    for (ox, out) in out.chunks_exact_mut(shape.c).enumerate() {
        let (left, right) = shape.window(ox, shape.w);
        let factor = 1.0 / (rows * (right - left)) as f32;
        for out in out {
            *out *= factor;
        }
    }
}

struct Backward<'a> {
    shape: PoolShape,
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a mut [f32],
    dx: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { shape, x, y, dy, dx } = self;
        let PoolShape { kind, h, w, c, stride } = shape;
        let (oh, ow) = shape.out();
        for oy in 0..oh {
            let (top, bottom) = shape.window(oy, h);
            let row = oy * ow * c..(oy + 1) * ow * c;
            let (y, dy) = (&y[row.clone()], &mut dy[row]);
            if kind == PoolKind::Average {
                divide(shape, dy, bottom - top);
            }
            for iy in top..bottom {
                let (x, dx) = (&x[iy * w * c..][..w * c], &mut dx[iy * w * c..][..w * c]);
                for tap in 0..3 {
                    // Results whose window has a column `ox * stride + tap - 1`.
                    let from = usize::from(tap == 0);
                    let to = ow.min((w + 1).saturating_sub(tap).div_ceil(stride));
                    if from >= to {
                        continue;
                    }
                    let column = from * stride + tap - 1;
                    let (y, dy) = (&y[from * c..to * c], &mut dy[from * c..to * c]);
                    if stride == 1 {
                        let span = column * c..(column + to - from) * c;
                        give(kind, &x[span.clone()], y, dy, &mut dx[span]);
                    } else {
                        for (i, (y, dy)) in
                            y.chunks_exact(c).zip(dy.chunks_exact_mut(c)).enumerate()
                        {
                            let span = (column + i * stride) * c..(column + i * stride + 1) * c;
                            give(kind, &x[span.clone()], y, dy, &mut dx[span]);
                        }
                    }
                }
            }
        }
    }
}

/// Hands `dy` on to `dx`: for a maximum only where `x` is it, and then nothing is left for later equals.
#[inline(always)]
fn give(kind: PoolKind, x: &[f32], y: &[f32], dy: &mut [f32], dx: &mut [f32]) {
    match kind {
        PoolKind::Max => {
            for (((x, y), dy), dx) in x.iter().zip(y).zip(dy).zip(dx) {
                let hit = *x == *y || x.is_nan();
                *dx += if hit { *dy } else { 0.0 };
                *dy = if hit { 0.0 } else { *dy };
            }
        }
        PoolKind::Average => {
            for (dy, dx) in dy.iter().zip(dx) {
                *dx += *dy;
            }
        }
    }
}
