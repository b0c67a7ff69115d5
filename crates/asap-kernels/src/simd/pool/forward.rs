//! Pools: a window is merged by columns, then by rows.

use pulp::{Simd, WithSimd};

use super::super::vector::{Lanes, load, store};
use super::shape::{PoolKind, PoolShape};

/// See [`pool_forward`](super::pool_forward).
pub(super) struct Forward<'a> {
    pub(super) shape: PoolShape,
    pub(super) x: &'a [f32],
    pub(super) line: &'a mut [f32],
    pub(super) out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, x, line, out } = self;
        let nan = shape.kind == PoolKind::Max && has_nan(simd, &x[..shape.h * shape.w * shape.c]);
        windows::<S, false>(simd, shape, nan, x, line, out);
    }
}

/// The largest (or the mean) of each window; if `ADD`, adds the sum of each window to `out` instead.
#[inline(always)]
pub(super) fn windows<S: Simd, const ADD: bool>(
    simd: S,
    shape: PoolShape,
    nan: bool,
    x: &[f32],
    line: &mut [f32],
    out: &mut [f32],
) {
    let PoolShape { kind, h, w, c, stride } = shape;
    let (oh, ow) = shape.out();
    let line = &mut line[..w * c];
    for oy in 0..oh {
        // A window cut off by the border has its middle twice, which changes no maximum; a sum counts it once.
        let (top, bottom) = shape.window(oy, h);
        let row = |y: usize| &x[y * w * c..][..w * c];
        let rows = [row(oy * stride), row(top), row(bottom - 1)];
        let there = [oy * stride > top, bottom - 1 > oy * stride];
        let out = &mut out[oy * ow * c..][..ow * c];
        let mut edges = 0..ow;
        let factor = |columns: usize| {
            if ADD { 1.0 } else { 1.0 / ((bottom - top) * columns) as f32 }
        };
        if stride == 1 && w > 2 && c.is_multiple_of(S::F32_LANES) {
            let factors = [factor(2), factor(3)];
            slide::<S, ADD>(simd, (kind, nan), rows, there, c, factors, out);
            continue;
        }
        fold::<S, false>(simd, (kind, nan), rows, there, 1.0, line);
        if stride == 1 && w > 2 {
            let rows = [&line[c..(w - 1) * c], &line[..(w - 2) * c], &line[2 * c..]];
            let out = &mut out[c..(w - 1) * c];
            fold::<S, ADD>(simd, (kind, nan), rows, [true, true], factor(3), out);
            edges = 0..2;
        }
        for edge in edges {
            // The last of two edges is the last pixel.
            let ox = if stride == 1 && w > 2 { edge * (w - 1) } else { edge };
            let (left, right) = shape.window(ox, w);
            let pixel = |x: usize| &line[x * c..][..c];
            let pixels = [pixel(ox * stride), pixel(left), pixel(right - 1)];
            let there = [ox * stride > left, right - 1 > ox * stride];
            let (factor, out) = (factor(right - left), &mut out[ox * c..][..c]);
            fold::<S, ADD>(simd, (kind, nan), pixels, there, factor, out);
        }
    }
}

/// True if there is a NaN: without one a plain maximum is enough.
#[inline(always)]
fn has_nan<S: Simd>(simd: S, x: &[f32]) -> bool {
    let mut numbers = simd.equal_f32s(simd.splat_f32s(0.0), simd.splat_f32s(0.0));
    let mut first = 0;
    while first < x.len() {
        let lanes = Lanes::at(simd, first, x.len());
        // SAFETY: lanes lie below the length.
        let x = unsafe { lanes.load(x.as_ptr().add(first)) };
        numbers = simd.and_m32s(numbers, simd.equal_f32s(x, x));
        first += S::F32_LANES;
    }
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    simd.reduce_max_f32s(simd.select_f32s(numbers, zero, one)) > 0.0
}

/// `out = max(mid, a, b)`, or `factor * (mid + a + b)`, where `a` and `b` count only if they are `there`, added
/// to `out` if `ADD`.
#[inline(always)]
fn fold<S: Simd, const ADD: bool>(
    simd: S,
    (kind, nan): (PoolKind, bool),
    rows: [&[f32]; 3],
    there: [bool; 2],
    factor: f32,
    out: &mut [f32],
) {
    match (kind, nan, there) {
        (PoolKind::Max, true, _) => zip::<S, LargestOrNan>(simd, rows, factor, out),
        (PoolKind::Max, false, _) => zip::<S, Largest>(simd, rows, factor, out),
        (_, _, [true, true]) => zip::<S, Sum<true, true, ADD>>(simd, rows, factor, out),
        (_, _, [true, false]) => zip::<S, Sum<true, false, ADD>>(simd, rows, factor, out),
        (_, _, [false, true]) => zip::<S, Sum<false, true, ADD>>(simd, rows, factor, out),
        (_, _, [false, false]) => zip::<S, Sum<false, false, ADD>>(simd, rows, factor, out),
    }
}

/// A row of windows of stride 1 whose channels fill vectors: each column of three pixels is merged once, and stays in
/// registers for its three windows. `factors` are those of windows at the edges of the image and of the others.
#[inline(always)]
fn slide<S: Simd, const ADD: bool>(
    simd: S,
    (kind, nan): (PoolKind, bool),
    rows: [&[f32]; 3],
    there: [bool; 2],
    c: usize,
    factors: [f32; 2],
    out: &mut [f32],
) {
    let columns = Columns { rows, c, factors, out };
    match (kind, nan, there) {
        (PoolKind::Max, true, _) => columns.merge::<S, LargestOrNan, LargestOrNan>(simd),
        (PoolKind::Max, false, _) => columns.merge::<S, Largest, Largest>(simd),
        (_, _, [true, true]) => {
            columns.merge::<S, Sum<true, true, false>, Sum<true, true, ADD>>(simd);
        }
        (_, _, [true, false]) => {
            columns.merge::<S, Sum<true, false, false>, Sum<true, true, ADD>>(simd);
        }
        (_, _, [false, true]) => {
            columns.merge::<S, Sum<false, true, false>, Sum<true, true, ADD>>(simd);
        }
        (_, _, [false, false]) => {
            columns.merge::<S, Sum<false, false, false>, Sum<true, true, ADD>>(simd);
        }
    }
}

/// See [`slide`].
struct Columns<'a> {
    rows: [&'a [f32]; 3],
    c: usize,
    factors: [f32; 2],
    out: &'a mut [f32],
}

impl Columns<'_> {
    /// `V` merges the pixels of a column, `H` three columns.
    #[inline(always)]
    fn merge<S: Simd, V: Merge, H: Merge>(self, simd: S) {
        let Self { rows, c, factors, out } = self;
        let w = out.len() / c;
        assert!(
            w > 1 && c.is_multiple_of(S::F32_LANES) && rows.iter().all(|row| row.len() >= w * c),
            "pool: a row is too short"
        );
        let [edge, inside] = factors.map(|factor| simd.splat_f32s(factor));
        for first in (0..c).step_by(S::F32_LANES) {
            // SAFETY: the extents were asserted, and channels are whole vectors.
            unsafe {
                let rows = rows.map(|row| row.as_ptr().add(first));
                let out = out.as_mut_ptr().add(first);
                let mut mid = column::<S, V>(simd, rows, 0);
                let mut right = column::<S, V>(simd, rows, c);
                let border = H::border(simd, mid);
                put::<S, H>(simd, out, H::merge(simd, mid, border, right, edge));
                for x in 1..w - 1 {
                    let left = mid;
                    (mid, right) = (right, column::<S, V>(simd, rows, (x + 1) * c));
                    put::<S, H>(simd, out.add(x * c), H::merge(simd, mid, left, right, inside));
                }
                let border = H::border(simd, right);
                let last = H::merge(simd, right, mid, border, edge);
                put::<S, H>(simd, out.add((w - 1) * c), last);
            }
        }
    }
}

/// Merges the three pixels at `at`.
///
/// # Safety
/// A vector is readable there in each row.
#[inline(always)]
unsafe fn column<S: Simd, V: Merge>(simd: S, rows: [*const f32; 3], at: usize) -> S::f32s {
    // SAFETY: a vector is readable there.
    let [mid, a, b] = unsafe { rows.map(|row| load::<S>(row.add(at))) };
    V::merge(simd, mid, a, b, simd.splat_f32s(1.0))
}

/// Writes a vector to `out`, or adds it there.
///
/// # Safety
/// A vector is readable and writable there.
#[inline(always)]
unsafe fn put<S: Simd, H: Merge>(simd: S, out: *mut f32, value: S::f32s) {
    // SAFETY: a vector is readable and writable there.
    unsafe {
        store::<S>(out, if H::ADD { simd.add_f32s(load::<S>(out), value) } else { value });
    }
}

/// A function of three vectors; a trait and not a closure, since a closure is not guaranteed to be inlined.
trait Merge {
    /// Adds to the current contents.
    const ADD: bool = false;

    fn merge<S: Simd>(simd: S, mid: S::f32s, a: S::f32s, b: S::f32s, factor: S::f32s) -> S::f32s;

    /// The substitute for a neighbour of `mid` beyond the border.
    #[inline(always)]
    fn border<S: Simd>(_: S, mid: S::f32s) -> S::f32s {
        mid
    }
}

/// The largest, without NaN among them.
struct Largest;

impl Merge for Largest {
    #[inline(always)]
    fn merge<S: Simd>(simd: S, mid: S::f32s, a: S::f32s, b: S::f32s, _: S::f32s) -> S::f32s {
        simd.max_f32s(simd.max_f32s(mid, a), b)
    }
}

/// The largest, or NaN if there is one.
struct LargestOrNan;

impl Merge for LargestOrNan {
    #[inline(always)]
    fn merge<S: Simd>(simd: S, mid: S::f32s, a: S::f32s, b: S::f32s, _: S::f32s) -> S::f32s {
        larger(simd, larger(simd, mid, a), b)
    }
}

/// The sum times a factor, of `a` and `b` only if they are there.
struct Sum<const A: bool, const B: bool, const ADD: bool>;

impl<const A: bool, const B: bool, const ADD: bool> Merge for Sum<A, B, ADD> {
    const ADD: bool = ADD;

    #[inline(always)]
    fn merge<S: Simd>(simd: S, mid: S::f32s, a: S::f32s, b: S::f32s, factor: S::f32s) -> S::f32s {
        let sum = if A { simd.add_f32s(mid, a) } else { mid };
        simd.mul_f32s(if B { simd.add_f32s(sum, b) } else { sum }, factor)
    }

    #[inline(always)]
    fn border<S: Simd>(simd: S, _: S::f32s) -> S::f32s {
        simd.splat_f32s(0.0)
    }
}

/// Merges each vector of three rows.
#[inline(always)]
fn zip<S: Simd, M: Merge>(simd: S, [mid, a, b]: [&[f32]; 3], factor: f32, out: &mut [f32]) {
    let len = out.len();
    assert!(mid.len() >= len && a.len() >= len && b.len() >= len, "pool: a row is too short");
    let factor = simd.splat_f32s(factor);
    let mut first = 0;
    while first < len {
        let lanes = Lanes::at(simd, first, len);
        // SAFETY: the lengths were asserted, and lanes lie below len.
        unsafe {
            let mid = lanes.load(mid.as_ptr().add(first));
            let a = lanes.load(a.as_ptr().add(first));
            let b = lanes.load(b.as_ptr().add(first));
            let out = out.as_mut_ptr().add(first);
            let merged = M::merge(simd, mid, a, b, factor);
            lanes.store(out, if M::ADD { simd.add_f32s(lanes.load(out), merged) } else { merged });
        }
        first += S::F32_LANES;
    }
}

/// The larger of two, or NaN if there is one.
#[inline(always)]
fn larger<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    let number = simd.equal_f32s(b, b);
    simd.select_f32s(number, simd.select_f32s(simd.less_than_f32s(a, b), b, a), b)
}
