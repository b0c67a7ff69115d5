//! 3x3 pools of padding 1, row by row. Neighbouring channels and pixels of a row are treated alike, so any number of
//! channels fills the vectors; where channels fill them by themselves, stride 1 goes column by column.

mod backward;
mod forward;

use super::Level;
use backward::Backward;
use forward::Forward;

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

/// Adds to `dx` the gradient of a pool, given that of its result, which is used up. The gradient of a maximum goes to
/// the first of equals, in the order of rows and columns. `line` is scratch of at least a row of `x`.
pub(crate) fn pool_backward(
    level: Level,
    shape: PoolShape,
    x: &[f32],
    y: &[f32],
    dy: &mut [f32],
    line: &mut [f32],
    dx: &mut [f32],
) {
    level.run(Backward { shape, x, y, dy, line, dx });
}
