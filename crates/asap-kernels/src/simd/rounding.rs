//! Values rounded to bf16 and back: in pairs for products, one by one for storage.

use super::arithmetic::{Pair, Rounding, RoundingKernel};
use super::reach::{reach, size};
use super::vector::Bf16;

/// Rounds `rows` rows of `k` values, followed by zeros up to `row`: neighbouring ones are pairs.
pub(crate) struct RoundRows<'a> {
    /// Rows of stride `ldx`.
    pub(crate) x: &'a [f32],
    pub(crate) ldx: usize,
    pub(crate) rows: usize,
    pub(crate) k: usize,
    /// Rows of stride `row`, a multiple of the lanes, with no gap.
    pub(crate) out: &'a mut [Bf16],
    pub(crate) row: usize,
}

impl RoundingKernel for RoundRows<'_> {
    #[inline(always)]
    fn compute<R: Rounding>(self, rounding: R) {
        let Self { x, ldx, rows, k, out, row } = self;
        if rows == 0 {
            return;
        }
        assert!(x.len() >= reach(k, [(rows - 1, ldx)]), "round: x is too short");
        assert!(row >= k && row.is_multiple_of(R::LANES), "round: rows end within a vector");
        assert!(out.len() >= size([rows, row]), "round: out is too short");
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

/// Pairs every `step`-th of `rows` rows with the one `distance` further on, or with zeros after the last:
/// `[ceil(rows / step), row]`.
pub(crate) struct PairRows<'a> {
    /// Rows of stride `ldx`.
    pub(crate) x: &'a [f32],
    pub(crate) ldx: usize,
    pub(crate) rows: usize,
    pub(crate) step: usize,
    pub(crate) distance: usize,
    pub(crate) n: usize,
    pub(crate) out: &'a mut [Pair],
    /// A multiple of the lanes; the values after the `n` columns are zero.
    pub(crate) row: usize,
}

impl RoundingKernel for PairRows<'_> {
    #[inline(always)]
    fn compute<R: Rounding>(self, rounding: R) {
        let Self { x, ldx, rows, step, distance, n, out, row } = self;
        if rows == 0 {
            return;
        }
        let (full, all) = (rows.saturating_sub(distance).div_ceil(step), rows.div_ceil(step));
        assert!(x.len() >= reach(n, [(rows - 1, ldx)]), "pair: x is too short");
        assert!(row >= n && row.is_multiple_of(R::LANES), "pair: rows end within a vector");
        assert!(out.len() >= size([all, row]), "pair: out is too short");
        let zeros = [0.0; 64];
        const { assert!(R::LANES <= 64) };
        for first in (0..row).step_by(R::LANES) {
            let count = n.saturating_sub(first).min(R::LANES);
            let (x, out) = (x.as_ptr().wrapping_add(first), out[first..].as_mut_ptr());
            let at = |row: usize| x.wrapping_add(row * ldx);
            let two = |pair: usize| [at(pair * step), at(pair * step + distance)];
            // SAFETY: the extents were asserted; beyond column n nothing is read, and of the zeros no more than LANES.
            unsafe {
                // A constant number of values needs no mask.
                if count == R::LANES {
                    for pair in 0..full {
                        let terms = rounding.pair(two(pair), R::LANES);
                        rounding.store_terms(out.add(pair * row), terms);
                    }
                } else {
                    for pair in 0..full {
                        let terms = rounding.pair(two(pair), count);
                        rounding.store_terms(out.add(pair * row), terms);
                    }
                }
                for pair in full..all {
                    let terms = rounding.pair([at(pair * step), zeros.as_ptr()], count);
                    rounding.store_terms(out.add(pair * row), terms);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    /// The nearer of the two neighbours; the even one if equally near.
    fn nearest(value: f32) -> f32 {
        let below = f32::from_bits(value.to_bits() & 0xffff_0000);
        let above = f32::from_bits((value.to_bits() & 0xffff_0000).wrapping_add(0x1_0000));
        let distance = |to: f32| (f64::from(to) - f64::from(value)).abs();
        match distance(below).total_cmp(&distance(above)) {
            std::cmp::Ordering::Less => below,
            std::cmp::Ordering::Greater => above,
            std::cmp::Ordering::Equal if below.to_bits() & 0x1_0000 == 0 => below,
            std::cmp::Ordering::Equal => above,
        }
    }

    #[test]
    fn numbers_become_the_nearest_and_no_number_stays_none() {
        let mut values: Vec<f32> = (0..67_u32)
            .map(|i| {
                f32::from_bits(0x3f80_0000 + i * 0x4_4001) * if i % 2 == 0 { 1.0 } else { -1.0 }
            })
            .collect();
        values.extend([1.0 + 2.0_f32.powi(-8), 1.0 + 3.0 * 2.0_f32.powi(-8), 0.0, -0.0, 1e38]);
        let mut expected: Vec<f32> = values.iter().map(|value| nearest(*value)).collect();
        values.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e-40]);
        expected.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::INFINITY, 0.0]);
        for level in Level::with_and_without_bf16() {
            let (k, row) = (values.len(), level.pad(values.len()));
            let mut out = vec![Bf16(7); row];
            level.round(RoundRows { x: &values, ldx: k, rows: 1, k, out: &mut out, row });
            for (found, expected) in out.iter().zip(&expected) {
                let found = f32::from_bits(u32::from(found.0) << 16);
                assert!(
                    found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                    "{level}: {found}, expected {expected}"
                );
            }
            assert!(out[k..].iter().all(|zero| zero.0 == 0), "{level}");
        }
    }

    #[test]
    fn rows_are_paired_with_the_one_a_distance_further_on_or_with_zeros() {
        for level in Level::with_and_without_bf16() {
            let (rows, n) = (7, 20);
            let row = level.pad(n);
            let x: Vec<f32> = (0..rows * n).map(|i| i as f32).collect();
            for (step, distance) in [(2, 1), (1, 1), (1, 2), (1, 9), (2, 2)] {
                let pairs = rows.div_ceil(step);
                let mut out = vec![7; pairs * row];
                let to = &mut out[..];
                level.round(PairRows { x: &x, ldx: n, rows, step, distance, n, out: to, row });
                for (i, pair) in out.iter().enumerate() {
                    let (first, column) = (i / row * step, i % row);
                    let value =
                        |at: usize| if at < rows && column < n { x[at * n + column] } else { 0.0 };
                    let expected = value(first).to_bits() >> 16 | value(first + distance).to_bits();
                    assert_eq!(*pair, expected, "{level}, {step}, {distance}: {i}");
                }
            }
        }
    }
}
