//! Passes over pixels with a value per channel: normalise, ReLU, weighted sum, and the sums that batch norm needs.
//!
//! The caller's tensors are dense, `c` channels per pixel; vectors of coefficients are padded to `cp`. If channels do
//! not fill the vectors, neighbouring pixels are treated as one wide pixel (`group`), its coefficients repeated.

use pulp::{Simd, WithSimd};

use super::level::group;
use super::reach::{reach, size};
use super::vector::{Bf16, Lanes, Value, load, store};

/// A value per channel times `x` plus another.
#[derive(Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
}

/// Writes an image into the interior of a padded image: `dst = relu(scale * x + shift)`, scale and ReLU optional.
pub(crate) struct LoadRows<'a, T> {
    /// `[rows, width, c]`.
    pub(crate) x: &'a [T],
    pub(crate) affine: Option<Affine<'a>>,
    pub(crate) relu: bool,
    /// From the first interior pixel on, pixels `cp` apart, rows `dst_row` apart.
    pub(crate) dst: &'a mut [f32],
    pub(crate) dst_row: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) c: usize,
    pub(crate) cp: usize,
}

impl<T: Value> WithSimd for LoadRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, affine, relu, dst, dst_row, rows, width, c, cp } = self;
        if rows == 0 || width == 0 {
            return;
        }
        assert!(
            x.len() >= size([rows, width, c]) && cp == c.next_multiple_of(S::F32_LANES),
            "load: x is too short"
        );
        let end = reach(0, [(rows - 1, dst_row), (width, cp)]);
        assert!(dst.len() >= end, "load: dst is too short");
        if let Some(affine) = affine {
            assert!(
                affine.scale.len() >= cp && affine.shift.len() >= cp,
                "load: the coefficients are too short"
            );
        }
        let zero = simd.splat_f32s(0.0);
        // Without padding and coefficients all vectors of a row are alike: pixels of one vector, read in order.
        let (width, c, cp) = if c == cp && affine.is_none() {
            (width * c / S::F32_LANES, S::F32_LANES, S::F32_LANES)
        } else {
            (width, c, cp)
        };
        // All channels of a row before the next row: they share cache lines.
        for row in 0..rows {
            for first in (0..cp).step_by(S::F32_LANES) {
                let lanes = Lanes::at(simd, first, c);
                // SAFETY: the extents were asserted; first + lanes <= cp, and the enabled lanes are below c.
                unsafe {
                    let coefficients = affine.map(|a| {
                        (load::<S>(a.scale.as_ptr().add(first)), a.shift.as_ptr().add(first))
                    });
                    let x = x.as_ptr().add(row * width * c + first);
                    let dst = dst.as_mut_ptr().add(row * dst_row + first);
                    for pixel in 0..width {
                        let mut value = T::load(lanes, x.add(pixel * c));
                        if let Some((scale, shift)) = coefficients {
                            value = simd.mul_add_e_f32s(value, scale, load::<S>(shift));
                        }
                        if relu {
                            // A comparison rather than a maximum: NaN stays NaN.
                            value = simd.select_f32s(simd.less_than_f32s(value, zero), zero, value);
                        }
                        store::<S>(dst.add(pixel * cp), value);
                    }
                }
            }
        }
    }
}

/// Mean and sum of squared deviations per channel of `pixels` more pixels, merged into those of `count` before them.
pub(crate) struct Moments<'a> {
    /// `[pixels, c]`.
    pub(crate) y: &'a [f32],
    pub(crate) pixels: usize,
    pub(crate) c: usize,
    pub(crate) count: usize,
    /// `cp` long.
    pub(crate) mean: &'a mut [f32],
    pub(crate) m2: &'a mut [f32],
}

impl WithSimd for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { y, pixels, c, count, mean, m2 } = self;
        if pixels == 0 {
            return;
        }
        let cp = c.next_multiple_of(S::F32_LANES);
        assert!(y.len() >= size([pixels, c]), "moments: y is too short");
        assert!(mean.len() >= cp && m2.len() >= cp, "moments: the sums are too short");
        let (old, new) = (count as f32, pixels as f32);
        let mut first = 0;
        while first < cp {
            let lanes = Lanes::at(simd, first, c);
            // SAFETY: the extents were asserted; first + lanes <= cp, and the enabled lanes are below c.
            unsafe {
                let y = y.as_ptr().add(first);
                let zero = simd.splat_f32s(0.0);
                // Four sums, so that an addition need not wait for the previous one.
                let mut sums = [zero; 4];
                let mut pixel = 0;
                while pixel + 4 <= pixels {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.add_f32s(*sum, lanes.load(y.add((pixel + i) * c)));
                    }
                    pixel += 4;
                }
                while pixel < pixels {
                    sums[0] = simd.add_f32s(sums[0], lanes.load(y.add(pixel * c)));
                    pixel += 1;
                }
                let chunk = simd.mul_f32s(total(simd, sums), simd.splat_f32s(1.0 / new));
                let mut squares = [zero; 4];
                let mut pixel = 0;
                while pixel + 4 <= pixels {
                    for (i, square) in squares.iter_mut().enumerate() {
                        let deviation = simd.sub_f32s(lanes.load(y.add((pixel + i) * c)), chunk);
                        *square = simd.mul_add_e_f32s(deviation, deviation, *square);
                    }
                    pixel += 4;
                }
                while pixel < pixels {
                    let deviation = simd.sub_f32s(lanes.load(y.add(pixel * c)), chunk);
                    squares[0] = simd.mul_add_e_f32s(deviation, deviation, squares[0]);
                    pixel += 1;
                }
                let square = total(simd, squares);
                let (mean, m2) = (mean.as_mut_ptr().add(first), m2.as_mut_ptr().add(first));
                let delta = simd.sub_f32s(chunk, load::<S>(mean));
                let share = simd.splat_f32s(new / (old + new));
                store::<S>(mean, simd.mul_add_e_f32s(delta, share, load::<S>(mean)));
                let between = simd.mul_f32s(
                    simd.mul_f32s(delta, delta),
                    simd.splat_f32s(old * new / (old + new)),
                );
                store::<S>(m2, simd.add_f32s(simd.add_f32s(load::<S>(m2), square), between));
            }
            first += S::F32_LANES;
        }
    }
}

/// Largest number of terms of a kind in an [`Accumulate`].
pub(crate) const TERMS: usize = 4;

/// An image of an [`Accumulate`], and its factor.
pub(crate) type Terms<'a, T> = &'a [(&'a [T], &'a [f32])];

/// `out (+)= sum a * y + shift` per channel.
pub(crate) struct Accumulate<'a> {
    /// `[pixels, c]`.
    pub(crate) out: &'a mut [f32],
    /// Add to the contents of `out`.
    pub(crate) add: bool,
    /// At most [`TERMS`], `[pixels, c]` each.
    pub(crate) terms: Terms<'a, f32>,
    /// The same for rounded images; with both kinds, at most one each.
    pub(crate) rounded: Terms<'a, Bf16>,
    /// Repeated up to the period, like factors.
    pub(crate) shift: &'a [f32],
    pub(crate) pixels: usize,
    pub(crate) c: usize,
}

impl WithSimd for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if self.pixels == 0 {
            return;
        }
        let len = size([self.pixels, self.c]);
        assert!(self.out.len() >= len, "accumulate: out is too short");
        let together = group(S::F32_LANES, self.c, self.pixels);
        (self.pixels, self.c) = (self.pixels / together, self.c * together);
        let cp = self.c.next_multiple_of(S::F32_LANES);
        assert!(self.shift.len() >= cp, "accumulate: shift is too short");
        let terms = self.terms.iter().map(|(y, factor)| (y.len(), factor.len()));
        let rounded = self.rounded.iter().map(|(y, factor)| (y.len(), factor.len()));
        for (y, factor) in terms.chain(rounded) {
            assert!(y >= len && factor >= cp, "accumulate: a term is too short");
        }
        // SAFETY: the extents were asserted, and each call has the numbers of terms.
        unsafe {
            match (self.terms.len(), self.rounded.len()) {
                (0, 0) => self.sum::<S, 0, 0>(simd),
                (1, 0) => self.sum::<S, 1, 0>(simd),
                (2, 0) => self.sum::<S, 2, 0>(simd),
                (3, 0) => self.sum::<S, 3, 0>(simd),
                (TERMS, 0) => self.sum::<S, TERMS, 0>(simd),
                (1, 1) => self.sum::<S, 1, 1>(simd),
                (0, 1) => self.sum::<S, 0, 1>(simd),
                (0, 2) => self.sum::<S, 0, 2>(simd),
                (0, 3) => self.sum::<S, 0, 3>(simd),
                (0, TERMS) => self.sum::<S, 0, TERMS>(simd),
                (terms, rounded) => unreachable!("{terms} terms and {rounded} rounded ones"),
            }
        }
    }
}

impl Accumulate<'_> {
    /// All `N` terms and `M` rounded ones.
    ///
    /// # Safety
    /// The extents were asserted, and there are `N` terms and `M` rounded ones.
    #[inline(always)]
    unsafe fn sum<S: Simd, const N: usize, const M: usize>(self, simd: S) {
        let Self { out, add, terms, rounded, shift, pixels, c } = self;
        for first in (0..c).step_by(S::F32_LANES) {
            let lanes = Lanes::at(simd, first, c);
            // SAFETY: the extents were asserted; first + lanes <= cp, and the enabled lanes are below c.
            unsafe {
                let out = out.as_mut_ptr().add(first);
                let shift = load::<S>(shift.as_ptr().add(first));
                let (mut ys, mut factors) = ([std::ptr::null(); N], [shift; N]);
                for (i, (y, factor)) in terms.iter().enumerate().take(N) {
                    ys[i] = y.as_ptr().add(first);
                    factors[i] = load::<S>(factor.as_ptr().add(first));
                }
                let (mut zs, mut scales) = ([std::ptr::null(); M], [shift; M]);
                for (i, (z, factor)) in rounded.iter().enumerate().take(M) {
                    zs[i] = z.as_ptr().add(first);
                    scales[i] = load::<S>(factor.as_ptr().add(first));
                }
                for pixel in 0..pixels {
                    let at = out.add(pixel * c);
                    let mut value = if add { simd.add_f32s(lanes.load(at), shift) } else { shift };
                    for (y, factor) in ys.iter().zip(factors) {
                        value = simd.mul_add_e_f32s(factor, lanes.load(y.add(pixel * c)), value);
                    }
                    for (z, scale) in zs.iter().zip(scales) {
                        let z = Bf16::load(lanes, z.add(pixel * c));
                        value = simd.mul_add_e_f32s(scale, z, value);
                    }
                    lanes.store(at, value);
                }
            }
        }
    }
}

/// The sum of four vectors.
#[inline(always)]
fn total<S: Simd>(simd: S, v: [S::f32s; 4]) -> S::f32s {
    simd.add_f32s(simd.add_f32s(v[0], v[1]), simd.add_f32s(v[2], v[3]))
}

/// `sum += sum_pixels g` and `dot += sum_pixels g * (y - mean)` per channel.
pub(crate) struct Sums<'a, T> {
    /// `[pixels, c]`.
    pub(crate) g: &'a [f32],
    pub(crate) y: &'a [T],
    /// Repeated up to the period.
    pub(crate) mean: &'a [f32],
    pub(crate) pixels: usize,
    pub(crate) c: usize,
    /// As long as the period; the sum of a channel is that of all its positions.
    pub(crate) sum: &'a mut [f32],
    pub(crate) dot: &'a mut [f32],
}

impl<T: Value> WithSimd for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { g, y, mean, pixels, c, sum, dot } = self;
        if pixels == 0 {
            return;
        }
        let len = size([pixels, c]);
        assert!(g.len() >= len && y.len() >= len, "sums: an image is too short");
        let together = group(S::F32_LANES, c, pixels);
        let (pixels, c) = (pixels / together, c * together);
        let cp = c.next_multiple_of(S::F32_LANES);
        assert!(
            mean.len() >= cp && sum.len() >= cp && dot.len() >= cp,
            "sums: a vector of channels is too short"
        );
        let mut first = 0;
        while first < cp {
            let lanes = Lanes::at(simd, first, c);
            // SAFETY: the extents were asserted; first + lanes <= cp, and the enabled lanes are below c.
            unsafe {
                let (g, y) = (g.as_ptr().add(first), y.as_ptr().add(first));
                let mean = load::<S>(mean.as_ptr().add(first));
                let zero = simd.splat_f32s(0.0);
                let (mut sums, mut dots) = ([zero; 4], [zero; 4]);
                let mut pixel = 0;
                while pixel + 4 <= pixels {
                    for i in 0..4 {
                        let g = lanes.load(g.add((pixel + i) * c));
                        let deviation = simd.sub_f32s(T::load(lanes, y.add((pixel + i) * c)), mean);
                        sums[i] = simd.add_f32s(sums[i], g);
                        dots[i] = simd.mul_add_e_f32s(g, deviation, dots[i]);
                    }
                    pixel += 4;
                }
                while pixel < pixels {
                    let g = lanes.load(g.add(pixel * c));
                    let deviation = simd.sub_f32s(T::load(lanes, y.add(pixel * c)), mean);
                    sums[0] = simd.add_f32s(sums[0], g);
                    dots[0] = simd.mul_add_e_f32s(g, deviation, dots[0]);
                    pixel += 1;
                }
                let (sum, dot) = (sum.as_mut_ptr().add(first), dot.as_mut_ptr().add(first));
                store::<S>(sum, simd.add_f32s(load::<S>(sum), total(simd, sums)));
                store::<S>(dot, simd.add_f32s(load::<S>(dot), total(simd, dots)));
            }
            first += S::F32_LANES;
        }
    }
}

/// `dst (+)= scale * d` where the padded image `r` is not `<= 0` (the gradient of ReLU), all of `d` without `r`.
pub(crate) struct MaskedAdd<'a> {
    /// `[rows, width, c]`.
    pub(crate) dst: &'a mut [f32],
    pub(crate) add: bool,
    /// `[rows, width, cp]`.
    pub(crate) d: &'a [f32],
    /// From the first interior pixel on, rows `r_row` apart.
    pub(crate) r: Option<&'a [f32]>,
    pub(crate) r_row: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) c: usize,
    pub(crate) cp: usize,
}

impl WithSimd for MaskedAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dst, add, d, r, r_row, rows, width, c, cp } = self;
        if rows == 0 || width == 0 {
            return;
        }
        assert!(
            dst.len() >= size([rows, width, c]) && cp == c.next_multiple_of(S::F32_LANES),
            "mask: dst is too short"
        );
        assert!(d.len() >= size([rows, width, cp]), "mask: d is too short");
        if let Some(r) = r {
            let end = reach(0, [(rows - 1, r_row), (width, cp)]);
            assert!(r.len() >= end, "mask: r is too short");
        }
        let zero = simd.splat_f32s(0.0);
        // Without padding all vectors of a row are alike, as in LoadRows.
        let (width, c, cp) = if c == cp {
            (width * c / S::F32_LANES, S::F32_LANES, S::F32_LANES)
        } else {
            (width, c, cp)
        };
        // All channels of a row before the next row: they share cache lines.
        for row in 0..rows {
            for first in (0..cp).step_by(S::F32_LANES) {
                let lanes = Lanes::at(simd, first, c);
                // SAFETY: the extents were asserted; first + lanes <= cp, and the enabled lanes are below c.
                unsafe {
                    let dst = dst.as_mut_ptr().add(row * width * c + first);
                    let d = d.as_ptr().add(row * width * cp + first);
                    let r = r.map(|r| r.as_ptr().add(row * r_row + first));
                    for pixel in 0..width {
                        let mut value = load::<S>(d.add(pixel * cp));
                        if let Some(r) = r {
                            let off =
                                simd.less_than_or_equal_f32s(load::<S>(r.add(pixel * cp)), zero);
                            value = simd.select_f32s(off, zero, value);
                        }
                        let at = dst.add(pixel * c);
                        lanes.store(
                            at,
                            if add { simd.add_f32s(lanes.load(at), value) } else { value },
                        );
                    }
                }
            }
        }
    }
}
