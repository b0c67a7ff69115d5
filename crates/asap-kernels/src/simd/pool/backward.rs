//! The gradients of pools.

use pulp::{Simd, WithSimd};

use super::super::reach::size;
use super::super::vector::Lanes;
use super::forward::windows;
use super::shape::{PoolKind, PoolShape};

/// See [`pool_backward`](super::pool_backward).
pub(super) struct Backward<'a> {
    pub(super) shape: PoolShape,
    pub(super) x: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) dy: &'a mut [f32],
    pub(super) line: &'a mut [f32],
    pub(super) dx: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let PoolShape { kind, h, w, c, stride } = self.shape;
        let (oh, ow) = self.shape.out();
        let (len, out) = (size([h, w, c]), size([oh, ow, c]));
        assert!(self.dy.len() >= out, "pool: the gradient is too short");
        assert!(self.dx.len() >= len, "pool: the gradient of the input is too short");
        // A row without a pixel has no first one.
        if ow == 0 {
            return;
        }
        if kind == PoolKind::Max {
            assert!(self.y.len() >= out && self.x.len() >= len, "pool: an image is too short");
        } else {
            self.divide();
            if stride == 1 {
                // Pixel q is in the window of p if p is in that of q.
                windows::<S, true>(simd, self.shape, false, self.dy, self.line, self.dx);
                return;
            }
        }
        for oy in 0..oh {
            for first in (0..c).step_by(S::F32_LANES) {
                let lanes = Lanes::at(simd, first, c);
                // SAFETY: the extents were asserted, rows have pixels, and oy and ox are below the size of the result.
                unsafe {
                    match (kind, stride) {
                        (PoolKind::Max, 1) => self.largest_of_row(lanes, oy),
                        (PoolKind::Max, _) => {
                            for ox in 0..ow {
                                self.largest(lanes, oy, ox);
                            }
                        }
                        (PoolKind::Average, _) => {
                            for ox in 0..ow {
                                self.share(lanes, oy, ox);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Backward<'_> {
    /// Divides the gradient of an average by the size of its window.
    #[inline(always)]
    fn divide(&mut self) {
        let PoolShape { h, w, c, .. } = self.shape;
        let (oh, ow) = self.shape.out();
        for (i, dy) in self.dy[..oh * ow * c].chunks_exact_mut(c).enumerate() {
            let ((top, bottom), (left, right)) =
                (self.shape.window(i / ow, h), self.shape.window(i % ow, w));
            let factor = 1.0 / ((bottom - top) * (right - left)) as f32;
            for dy in dy {
                *dy *= factor;
            }
        }
    }

    /// A row of maxima of stride 1, against each row of the input in turn; the gradient that no pixel of that row has taken
    /// stays in `dy` for the next.
    ///
    /// # Safety
    /// The extents were asserted, the stride is 1, rows have pixels, `oy` is a row of the result, `lanes` within the channels.
    #[inline(always)]
    unsafe fn largest_of_row<S: Simd>(&mut self, lanes: Lanes<S>, oy: usize) {
        let (PoolShape { h, w, c, .. }, zero) = (self.shape, lanes.simd.splat_f32s(0.0));
        let (top, bottom) = self.shape.window(oy, h);
        // SAFETY: the window's rows are rows of the image, their pixels 0 to w - 1, and the result is as large.
        unsafe {
            let at = oy * w * c + lanes.first;
            let (y, dy) = (self.y.as_ptr().add(at), self.dy.as_mut_ptr().add(at));
            for row in top..bottom {
                let at = row * w * c + lanes.first;
                let (x, dx) = (self.x.as_ptr().add(at), self.dx.as_mut_ptr().add(at));
                let mut window = Window { lanes, inputs: [zero; 3], sums: [zero; 3] };
                window.inputs[1] = lanes.load(x);
                if w == 1 {
                    window.take::<false, false>(y, dy);
                } else {
                    window.inputs[2] = lanes.load(x.add(c));
                    window.take::<false, true>(y, dy);
                    for ox in 1..w - 1 {
                        if ox > 1 {
                            window.flush(dx.add((ox - 2) * c), 0);
                        }
                        window.step(lanes.load(x.add((ox + 1) * c)));
                        window.take::<true, true>(y.add(ox * c), dy.add(ox * c));
                    }
                    if w > 2 {
                        window.flush(dx.add((w - 3) * c), 0);
                    }
                    window.step(zero);
                    window.take::<true, false>(y.add((w - 1) * c), dy.add((w - 1) * c));
                    window.flush(dx.add((w - 2) * c), 0);
                }
                window.flush(dx.add((w - 1) * c), 1);
            }
        }
    }

    /// The gradient goes to the first pixel that equals the maximum, and nothing is left for later ones.
    ///
    /// # Safety
    /// The extents were asserted, `oy` and `ox` are within the result, `lanes` within the channels.
    #[inline(always)]
    unsafe fn largest<S: Simd>(&mut self, lanes: Lanes<S>, oy: usize, ox: usize) {
        let (PoolShape { h, w, c, .. }, simd) = (self.shape, lanes.simd);
        let ((top, bottom), (left, right)) = (self.shape.window(oy, h), self.shape.window(ox, w));
        // SAFETY: the pixel is one of the result, and those of its window are pixels of the image.
        unsafe {
            let at = (oy * self.shape.out().1 + ox) * c + lanes.first;
            let (y, zero) = (lanes.load(self.y.as_ptr().add(at)), simd.splat_f32s(0.0));
            let mut left_over = lanes.load(self.dy.as_ptr().add(at));
            for row in top..bottom {
                for column in left..right {
                    let at = (row * w + column) * c + lanes.first;
                    let (x, dx) =
                        (lanes.load(self.x.as_ptr().add(at)), self.dx.as_mut_ptr().add(at));
                    // Not below the maximum: equal to it, or one of them NaN.
                    let below = simd.less_than_f32s(x, y);
                    let share = simd.select_f32s(below, zero, left_over);
                    left_over = simd.select_f32s(below, left_over, zero);
                    lanes.store(dx, simd.add_f32s(lanes.load(dx), share));
                }
            }
        }
    }

    /// An equal share, already divided, goes to every pixel of the window.
    ///
    /// # Safety
    /// As [`Backward::largest`].
    #[inline(always)]
    unsafe fn share<S: Simd>(&mut self, lanes: Lanes<S>, oy: usize, ox: usize) {
        let (PoolShape { h, w, c, .. }, simd) = (self.shape, lanes.simd);
        let ((top, bottom), (left, right)) = (self.shape.window(oy, h), self.shape.window(ox, w));
        // SAFETY: the pixel is one of the result, and those of its window are pixels of the image.
        unsafe {
            let at = (oy * self.shape.out().1 + ox) * c + lanes.first;
            let share = lanes.load(self.dy.as_ptr().add(at));
            for row in top..bottom {
                for column in left..right {
                    let dx = self.dx.as_mut_ptr().add((row * w + column) * c + lanes.first);
                    lanes.store(dx, simd.add_f32s(lanes.load(dx), share));
                }
            }
        }
    }
}

/// Three pixels of a row, to the left, in the middle and to the right of a window, and the gradient that they have taken.
struct Window<S: Simd> {
    lanes: Lanes<S>,
    inputs: [S::f32s; 3],
    sums: [S::f32s; 3],
}

impl<S: Simd> Window<S> {
    /// Hands the gradient at `dy` to the first pixel that equals the maximum at `y`, and leaves the rest.
    ///
    /// # Safety
    /// The enabled lanes are readable and writable.
    #[inline(always)]
    unsafe fn take<const LEFT: bool, const RIGHT: bool>(&mut self, y: *const f32, dy: *mut f32) {
        let (lanes, simd) = (self.lanes, self.lanes.simd);
        let zero = simd.splat_f32s(0.0);
        // SAFETY: the enabled lanes are readable.
        let (y, mut left_over) = unsafe { (lanes.load(y), lanes.load(dy)) };
        for i in usize::from(!LEFT)..2 + usize::from(RIGHT) {
            // Not below the maximum: equal to it, or one of them NaN.
            let below = simd.less_than_f32s(self.inputs[i], y);
            let more = simd.add_f32s(self.sums[i], left_over);
            self.sums[i] = simd.select_f32s(below, self.sums[i], more);
            left_over = simd.select_f32s(below, left_over, zero);
        }
        // SAFETY: the enabled lanes are writable.
        unsafe { lanes.store(dy, left_over) };
    }

    /// Advances by one pixel: `input` comes in.
    #[inline(always)]
    fn step(&mut self, input: S::f32s) {
        self.sums = [self.sums[1], self.sums[2], self.lanes.simd.splat_f32s(0.0)];
        self.inputs = [self.inputs[1], self.inputs[2], input];
    }

    /// Adds the gradient that pixel `i` has taken to `dx`.
    ///
    /// # Safety
    /// The enabled lanes are readable and writable.
    #[inline(always)]
    unsafe fn flush(&self, dx: *mut f32, i: usize) {
        // SAFETY: the enabled lanes are readable and writable.
        unsafe {
            self.lanes.store(dx, self.lanes.simd.add_f32s(self.lanes.load(dx), self.sums[i]))
        };
    }
}
