//! The extents that kernels assert. They saturate, since an overflow that wrapped around would pass as a small extent;
//! no slice is as long as the largest `usize`.

/// The length of memory that holds `len` values after these steps, each a number and a distance.
#[inline(always)]
pub(super) fn reach<const N: usize>(len: usize, steps: [(usize, usize); N]) -> usize {
    steps
        .iter()
        .fold(len, |end, (number, distance)| end.saturating_add(number.saturating_mul(*distance)))
}

/// The number of values of a shape.
#[inline(always)]
pub(super) fn size<const N: usize>(shape: [usize; N]) -> usize {
    shape.iter().fold(1, |size, extent| size.saturating_mul(*extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_memory_holds_is_longer_than_every_slice() {
        assert_eq!(reach(5, [(2, 10), (1, 3)]), 28);
        assert_eq!(size([2, 3, 4]), 24);
        // Both wrap around to 5 and to 0.
        assert_eq!(reach(5, [(1 << 32, 1 << 32)]), usize::MAX);
        assert_eq!(size([1 << 32, 1 << 32, 3]), usize::MAX);
        assert_eq!(size([1 << 40, 1 << 40, 0]), 0);
    }
}
