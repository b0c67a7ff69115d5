//! Depthwise convolution over rows of pixels, and the gradient of its weights.
//!
//! One kernel serves the forward pass and the data gradient at any stride and dilation: it receives the position of its
//! first tap and the distances between taps, rows of taps and pixels.

use pulp::{Simd, WithSimd};

use super::level::Level;
use super::reach::{reach, size};
use super::vector::{load, store};

impl Level {
    /// Runs a depthwise convolution, in halves.
    pub(crate) fn depthwise(self, conv: Depthwise<'_>) {
        let Depthwise { weights, out, .. } = conv;
        self.in_halves(conv.channels, |level, part| {
            let (first, channels) = (conv.first + part.start, level.pad(part.len()));
            let (weights, out) = (&weights[part.start..], &mut out[part.start..]);
            level.run(Depthwise { first, channels, weights, out, ..conv });
        });
    }

    /// Runs the gradient of depthwise weights, in halves.
    pub(crate) fn depthwise_grad(self, conv: DepthwiseGrad<'_>) {
        let DepthwiseGrad { grad, .. } = conv;
        self.in_halves(conv.channels, |level, part| {
            let (first, d_first) = (conv.first + part.start, conv.d_first + part.start);
            let (channels, grad) = (level.pad(part.len()), &mut grad[part.start..]);
            level.run(DepthwiseGrad { first, d_first, channels, grad, ..conv });
        });
    }
}

/// `out[y, x] (+)= sum_ij src[first + y * row + x * pixel + i * tap_row + j * tap] * weights[i, j]` for `rows` rows of
/// `count` pixels.
pub(crate) struct Depthwise<'a> {
    /// A padded image.
    pub(crate) src: &'a [f32],
    /// Offset of the first tap of the first pixel.
    pub(crate) first: usize,
    /// Distance between rows of taps, between taps, between the first taps of neighbouring pixels and of neighbouring
    /// rows of pixels.
    pub(crate) tap_row: usize,
    pub(crate) tap: usize,
    pub(crate) pixel: usize,
    pub(crate) row: usize,
    /// `[kh, kw, cp]`.
    pub(crate) weights: &'a [f32],
    pub(crate) kernel: (usize, usize),
    pub(crate) cp: usize,
    /// Number of channels: whole vectors when it runs, ensured by [`Level::depthwise`].
    pub(crate) channels: usize,
    /// Pixels `out_pixel` apart, rows `out_row`.
    pub(crate) out: &'a mut [f32],
    pub(crate) out_pixel: usize,
    pub(crate) out_row: usize,
    pub(crate) rows: usize,
    pub(crate) count: usize,
    pub(crate) add: bool,
}

impl WithSimd for Depthwise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (kh, kw) = self.kernel;
        if self.rows == 0 || self.count == 0 || kh == 0 || kw == 0 {
            return;
        }
        let (y, x, channels) = (self.rows - 1, self.count - 1, self.channels);
        let [down, right] = [(kh - 1, self.tap_row), (kw - 1, self.tap)];
        let end = reach(channels, [(1, self.first), down, right, (y, self.row), (x, self.pixel)]);
        assert!(channels.is_multiple_of(S::F32_LANES), "depthwise: channels are not whole vectors");
        assert!(self.src.len() >= end, "depthwise: the source is too short");
        let end = reach(channels, [(size([kh, kw]) - 1, self.cp)]);
        assert!(self.weights.len() >= end, "depthwise: weights are too short");
        let end = reach(channels, [(y, self.out_row), (x, self.out_pixel)]);
        assert!(self.out.len() >= end, "depthwise: the output is too short");
        // Distance of the taps in pixels, if neighbouring pixels share them.
        let apart =
            if self.tap == self.pixel { 1 } else { 2 * usize::from(self.tap == 2 * self.pixel) };
        // SAFETY: the extents were asserted, and each call has the width and the distance of the taps.
        unsafe {
            match (kw, apart) {
                (1, _) => self.rows::<S, 1, 0>(simd),
                (2, 1) => self.rows::<S, 2, 1>(simd),
                (2, _) => self.rows::<S, 2, 0>(simd),
                (3, 1) => self.rows::<S, 3, 1>(simd),
                (3, 2) => self.rows::<S, 3, 2>(simd),
                (3, _) => self.rows::<S, 3, 0>(simd),
                (4, 1) => self.rows::<S, 4, 1>(simd),
                (4, _) => self.rows::<S, 4, 0>(simd),
                (5, 1) => self.rows::<S, 5, 1>(simd),
                (5, 2) => self.rows::<S, 5, 2>(simd),
                (5, _) => self.rows::<S, 5, 0>(simd),
                (7, 1) => self.rows::<S, 7, 1>(simd),
                (7, _) => self.rows::<S, 7, 0>(simd),
                _ => unreachable!("no operation has a depthwise kernel {kw} wide"),
            }
        }
    }
}

impl Depthwise<'_> {
    /// `KW` taps, `D` pixels apart (0: not a useful number of pixels).
    ///
    /// # Safety
    /// The extents were asserted, `KW` is the width of the kernel, and `D` fits the distances.
    #[inline(always)]
    unsafe fn rows<S: Simd, const KW: usize, const D: usize>(&mut self, simd: S) {
        for y in 0..self.rows {
            for channel in (0..self.channels).step_by(S::F32_LANES) {
                let mut x = 0;
                // SAFETY: the extents were asserted; the row and the pixels are there.
                unsafe {
                    while x + 8 <= self.count {
                        self.pixels::<S, KW, D, 8>(simd, channel, y, x);
                        x += 8;
                    }
                    while x + 4 <= self.count {
                        self.pixels::<S, KW, D, 4>(simd, channel, y, x);
                        x += 4;
                    }
                    // The rest is done again together with pixels before it, if there are enough; not when adding.
                    if x < self.count && self.count >= 4 && !self.add {
                        self.pixels::<S, KW, D, 4>(simd, channel, y, self.count - 4);
                        continue;
                    }
                    while x < self.count {
                        self.pixels::<S, KW, D, 1>(simd, channel, y, x);
                        x += 1;
                    }
                }
            }
        }
    }

    /// # Safety
    /// The extents were asserted, `y < rows`, `x + P <= count`, `channel` starts one of the vectors, `KW` is the width of the
    /// kernel, and `D` fits the distances.
    #[inline(always)]
    unsafe fn pixels<S: Simd, const KW: usize, const D: usize, const P: usize>(
        &mut self,
        simd: S,
        channel: usize,
        y: usize,
        x: usize,
    ) {
        // SAFETY: every tap of every pixel, their results and the weights are within the asserted extents.
        unsafe {
            let mut acc = [simd.splat_f32s(0.0); P];
            let out = y * self.out_row + x * self.out_pixel + channel;
            let out = self.out.as_mut_ptr().add(out);
            if self.add {
                for (i, acc) in acc.iter_mut().enumerate() {
                    *acc = load::<S>(out.add(i * self.out_pixel));
                }
            }
            let src = self.first + y * self.row + x * self.pixel + channel;
            let src = self.src.as_ptr().add(src);
            let weights = self.weights.as_ptr().add(channel);
            for ky in 0..self.kernel.0 {
                let src = src.add(ky * self.tap_row);
                let weights = weights.add(ky * KW * self.cp);
                if D == 0 || P == 1 {
                    for kx in 0..KW {
                        let weight = load::<S>(weights.add(kx * self.cp));
                        let src = src.add(kx * self.tap);
                        for (i, acc) in acc.iter_mut().enumerate() {
                            *acc = simd.mul_add_e_f32s(
                                load::<S>(src.add(i * self.pixel)),
                                weight,
                                *acc,
                            );
                        }
                    }
                } else {
                    // Every pixel of the row is loaded once for all its taps: 16 hold those of 8 results.
                    let mut inputs = [simd.splat_f32s(0.0); 16];
                    for (j, input) in inputs.iter_mut().enumerate().take(P + D * (KW - 1)) {
                        *input = load::<S>(src.add(j * self.pixel));
                    }
                    for kx in 0..KW {
                        let weight = load::<S>(weights.add(kx * self.cp));
                        for (i, acc) in acc.iter_mut().enumerate() {
                            *acc = simd.mul_add_e_f32s(inputs[i + D * kx], weight, *acc);
                        }
                    }
                }
            }
            for (i, acc) in acc.iter().enumerate() {
                store::<S>(out.add(i * self.out_pixel), *acc);
            }
        }
    }
}

/// `grad[i, j] (+)= sum_xy d[x, y] * src[first + y * row + x * pixel + i * tap_row + j * tap]`: the gradient of square
/// depthwise weights over an image.
pub(crate) struct DepthwiseGrad<'a> {
    /// A padded image.
    pub(crate) src: &'a [f32],
    /// Offset of the first tap of the first pixel.
    pub(crate) first: usize,
    /// As in [`Depthwise`].
    pub(crate) tap_row: usize,
    pub(crate) tap: usize,
    pub(crate) pixel: usize,
    /// Distance between the first taps of neighbouring rows of pixels.
    pub(crate) row: usize,
    /// The gradient of the result: from `d_first` on, pixels `cp` apart, rows `d_row` apart.
    pub(crate) d: &'a [f32],
    pub(crate) d_first: usize,
    pub(crate) d_row: usize,
    /// Height and width of the result.
    pub(crate) size: (usize, usize),
    pub(crate) kernel: usize,
    pub(crate) cp: usize,
    /// As in [`Depthwise`].
    pub(crate) channels: usize,
    /// `[kernel, kernel, cp]`.
    pub(crate) grad: &'a mut [f32],
    /// Add to the contents of `grad`.
    pub(crate) add: bool,
}

impl WithSimd for DepthwiseGrad<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let ((h, w), k) = (self.size, self.kernel);
        if h == 0 || w == 0 || k == 0 {
            return;
        }
        let channels = self.channels;
        let [down, right] = [(k - 1, self.tap_row), (k - 1, self.tap)];
        let [y, x] = [(h - 1, self.row), (w - 1, self.pixel)];
        let end = reach(channels, [(1, self.first), down, right, y, x]);
        assert!(
            channels.is_multiple_of(S::F32_LANES),
            "depthwise gradient: channels are not whole vectors"
        );
        assert!(self.src.len() >= end, "depthwise gradient: the source is too short");
        let end = reach(channels, [(1, self.d_first), (h - 1, self.d_row), (w - 1, self.cp)]);
        assert!(self.d.len() >= end, "depthwise gradient: d is too short");
        let end = reach(channels, [(size([k, k]) - 1, self.cp)]);
        assert!(self.grad.len() >= end, "depthwise gradient: grad is too short");
        // SAFETY: the extents were asserted; each call covers rows of taps below k.
        unsafe {
            match (k, S::REGISTER_COUNT >= 32) {
                (3, _) => self.taps::<S, 3, 3>(simd, 0),
                (5, true) => self.taps::<S, 5, 5>(simd, 0),
                (5, false) => {
                    self.taps::<S, 2, 5>(simd, 0);
                    self.taps::<S, 2, 5>(simd, 2);
                    self.taps::<S, 1, 5>(simd, 4);
                }
                (7, _) => {
                    for ky in 0..7 {
                        self.taps::<S, 1, 7>(simd, ky);
                    }
                }
                _ => unreachable!("no operation has a depthwise kernel {k} wide"),
            }
        }
    }
}

impl DepthwiseGrad<'_> {
    /// Rows `ky..ky + KH` of the kernel, whose sums stay in registers for a row of pixels.
    ///
    /// # Safety
    /// The extents were asserted, `ky + KH <= kernel`, `KW == kernel`.
    #[inline(always)]
    unsafe fn taps<S: Simd, const KH: usize, const KW: usize>(&mut self, simd: S, ky: usize) {
        // SAFETY: every tap of every pixel, the gradient of its result and that of the taps are within the asserted extents.
        unsafe {
            for channel in (0..self.channels).step_by(S::F32_LANES) {
                let grad = self.grad.as_mut_ptr().add(ky * KW * self.cp + channel);
                for y in 0..self.size.0 {
                    let mut acc = [[simd.splat_f32s(0.0); KW]; KH];
                    let src = self
                        .src
                        .as_ptr()
                        .add(self.first + y * self.row + ky * self.tap_row + channel);
                    let d = self.d.as_ptr().add(self.d_first + y * self.d_row + channel);
                    for x in 0..self.size.1 {
                        let d = load::<S>(d.add(x * self.cp));
                        let src = src.add(x * self.pixel);
                        for (i, acc) in acc.iter_mut().enumerate() {
                            for (j, acc) in acc.iter_mut().enumerate() {
                                let src = load::<S>(src.add(i * self.tap_row + j * self.tap));
                                *acc = simd.mul_add_e_f32s(src, d, *acc);
                            }
                        }
                    }
                    for (i, acc) in acc.iter().enumerate() {
                        for (j, acc) in acc.iter().enumerate() {
                            let grad = grad.add((i * KW + j) * self.cp);
                            let add = self.add || y > 0;
                            let sum = if add { simd.add_f32s(load::<S>(grad), *acc) } else { *acc };
                            store::<S>(grad, sum);
                        }
                    }
                }
            }
        }
    }
}
