//! Values rounded to bf16 and back: pairs for products, halves to keep.

use pulp::{Simd, WithSimd};

use super::arithmetic::{Pair, Rounding, RoundingKernel};

/// Rounds `rows` rows of `k` values to halves, followed by zeros up to `row`: neighbouring values are pairs.
pub(crate) struct RoundRows<'a> {
    /// Rows of stride `ldx`.
    pub(crate) x: &'a [f32],
    pub(crate) ldx: usize,
    pub(crate) rows: usize,
    pub(crate) k: usize,
    /// Rows of stride `row`, a multiple of the lanes, with no gap.
    pub(crate) out: &'a mut [u16],
    pub(crate) row: usize,
}

impl RoundingKernel for RoundRows<'_> {
    #[inline(always)]
    fn compute<R: Rounding>(self, rounding: R) {
        let Self { x, ldx, rows, k, out, row } = self;
        if rows == 0 {
            return;
        }
        assert!(x.len() >= (rows - 1) * ldx + k, "round: x is too short");
        assert!(row >= k && row.is_multiple_of(R::LANES), "round: rows end within a vector");
        assert!(out.len() >= rows * row, "round: out is too short");
        let whole = k - k % R::LANES;
        for index in 0..rows {
            // SAFETY: the extents were asserted; beyond value k nothing is read.
            unsafe {
                let from = x.as_ptr().add(index * ldx);
                let to = out.as_mut_ptr().add(index * row);
                for first in (0..whole).step_by(R::LANES) {
                    rounding.narrow(from.add(first), R::LANES, to.add(first));
                }
                for first in (whole..row).step_by(R::LANES) {
                    let count = k.saturating_sub(first);
                    rounding.narrow(from.wrapping_add(first), count, to.add(first));
                }
            }
        }
    }
}

/// Pairs `rows` rows, each with the next, the last of an odd number with zeros: `[ceil(rows / 2), row]`.
pub(crate) struct PairRows<'a> {
    /// Rows of stride `ldx`.
    pub(crate) x: &'a [f32],
    pub(crate) ldx: usize,
    pub(crate) rows: usize,
    pub(crate) n: usize,
    pub(crate) out: &'a mut [Pair],
    /// A multiple of the lanes; what follows the `n` columns is zero.
    pub(crate) row: usize,
}

impl RoundingKernel for PairRows<'_> {
    #[inline(always)]
    fn compute<R: Rounding>(self, rounding: R) {
        let Self { x, ldx, rows, n, out, row } = self;
        if rows == 0 {
            return;
        }
        assert!(x.len() >= (rows - 1) * ldx + n, "pair: x is too short");
        assert!(row >= n && row.is_multiple_of(R::LANES), "pair: rows end within a vector");
        assert!(out.len() >= rows.div_ceil(2) * row, "pair: out is too short");
        let zeros = [0.0; 64];
        for first in (0..row).step_by(R::LANES) {
            let count = n.saturating_sub(first).min(R::LANES);
            // SAFETY: the extents were asserted; beyond column n nothing is read.
            unsafe {
                let x = x.as_ptr().wrapping_add(first);
                let out = out.as_mut_ptr().add(first);
                let at = |pair: usize| x.wrapping_add(2 * pair * ldx);
                if count == R::LANES {
                    for pair in 0..rows / 2 {
                        let terms = rounding.pair([at(pair), at(pair).add(ldx)], R::LANES);
                        rounding.store_terms(out.add(pair * row), terms);
                    }
                } else {
                    for pair in 0..rows / 2 {
                        let terms = rounding.pair([at(pair), at(pair).wrapping_add(ldx)], count);
                        rounding.store_terms(out.add(pair * row), terms);
                    }
                }
                if !rows.is_multiple_of(2) {
                    let terms = rounding.pair([at(rows / 2), zeros.as_ptr()], count);
                    rounding.store_terms(out.add(rows / 2 * row), terms);
                }
            }
        }
    }
}

/// Halves as `f32`.
pub(crate) struct Widen<'a> {
    pub(crate) halves: &'a [u16],
    pub(crate) out: &'a mut [f32],
}

impl WithSimd for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (half, out) in self.halves.iter().zip(self.out) {
            *out = f32::from_bits(u32::from(*half) << 16);
        }
    }
}
