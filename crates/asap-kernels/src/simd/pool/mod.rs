//! 3x3 pools of padding 1, row by row. Neighbouring channels and pixels of a row are treated alike, so any number of
//! channels fills the vectors; where channels fill them by themselves, stride 1 goes column by column.

mod backward;
mod forward;
mod shape;

pub(crate) use shape::{PoolKind, PoolShape};

use super::level::Level;
use backward::Backward;
use forward::Forward;

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

/// Adds to `dx` the gradient of a pool, given that of its result, which is consumed. The gradient of a maximum goes to
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
