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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_pixel_have_no_gradient() {
        for level in Level::available() {
            for (kind, stride) in [PoolKind::Max, PoolKind::Average].into_iter().zip([1, 2]) {
                let shape = PoolShape { kind, h: 3, w: 0, c: 16, stride };
                let mut dx = [7.0; 64];
                pool_backward(level, shape, &[], &[], &mut [], &mut [], &mut dx);
                assert_eq!(dx, [7.0; 64], "{level}");
            }
        }
    }
}
