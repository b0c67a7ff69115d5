//! The way in which cells make a network.

/// A way of stacking the cells of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stacking {
    /// Each cell reads the two cells before it; [`reduction_cells`] halve the feature map.
    Darts,
    /// Each cell reads the one before it; between stages of equal cells a residual block halves the feature map.
    Stages,
}

/// The reduction cells of a network of `cells` cells, counted from 0: `cells / 3` and `2 * cells / 3` as in DARTS.
///
/// DARTS would make every cell of a network of one or two cells a reduction cell, and no normal cell would be left to
/// search. Here one cell is a normal cell, and the second of two cells is the reduction cell.
pub fn reduction_cells(cells: usize) -> impl Iterator<Item = usize> {
    let (first, second) = match cells {
        0 | 1 => (None, None),
        2 => (None, Some(1)),
        _ => (Some(cells / 3), Some(2 * cells / 3)),
    };
    first.into_iter().chain(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_stand_at_one_and_two_thirds() {
        let at = |cells| reduction_cells(cells).collect::<Vec<_>>();
        assert_eq!(at(20), [6, 13]);
        assert_eq!(at(14), [4, 9]);
        assert_eq!(at(8), [2, 5]);
        assert_eq!(at(3), [1, 2]);
        assert_eq!(at(2), [1]);
        assert!(at(1).is_empty() && at(0).is_empty());
    }
}
