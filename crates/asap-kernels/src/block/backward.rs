//! Backward: the gradients of the input and of the weights, a few rows at a time.

use super::conv::{Conv, Scratch, Source};
use crate::gather::{Gather, WindowClass};
use crate::matrix::{Matrix, PackedGrads, PairScratch};
use crate::norm::NormGrad;
use crate::padded::Padded;
use crate::simd::{
    Accumulate, Ahead, Depthwise, DepthwiseGrad, Level, Lines, LoadRows, MaskedAdd, OuterProduct,
    Pair, Product, Tap, Term,
};
use crate::spec::Precision;
use crate::stored::Stored;
use crate::window::Windows;

/// The gradient of the raw result of a block, computed as it is needed: an affine function of a gradient `g` and of
/// the result `y` itself.
#[derive(Clone, Copy)]
pub(crate) struct ResultGrad<'a> {
    g: &'a [f32],
    g_scale: &'a [f32],
    y: Stored<'a>,
    y_scale: &'a [f32],
    shift: &'a [f32],
}

impl<'a> ResultGrad<'a> {
    /// Through a batch norm, with `g_scale` instead of its own.
    pub(crate) fn new(norm: &'a NormGrad, g: &'a [f32], g_scale: &'a [f32], y: Stored<'a>) -> Self {
        Self { g, g_scale, y, y_scale: &norm.y_scale, shift: &norm.shift }
    }

    /// The values that [`ResultGrad::fill`] reads, as far as they exist.
    fn reads(self, c: usize, from: usize, pixels: usize) -> [&'a [f32]; 2] {
        let range = from * c..(from + pixels) * c;
        [Stored::Values(self.g), self.y].map(|values| values.words(range.clone()))
    }

    /// Pixels `from..from + pixels` into `out`.
    pub(crate) fn fill(self, level: Level, c: usize, from: usize, pixels: usize, out: &mut [f32]) {
        let range = from * c..(from + pixels) * c;
        let g = (&self.g[range.clone()], self.g_scale);
        let (terms, rounded): (&[_], &[_]) = match self.y.part(range) {
            Stored::Values(y) => (&[g, (y, self.y_scale)], &[]),
            Stored::Rounded(y) => (&[g], &[(y, self.y_scale)]),
        };
        level.run(Accumulate { out, add: false, terms, rounded, shift: self.shift, pixels, c });
    }
}

impl Conv {
    /// From the gradient of the result: adds that of the loaded image (`[h, w, cp]`, without border) to `d_image`, or
    /// overwrites it if `fresh`, and adds those of the weights. `ahead` is as in [`Conv::forward`].
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn backward(
        &self,
        image: &Padded,
        scratch: &mut Scratch,
        grad: ResultGrad<'_>,
        fresh: bool,
        mut d_image: Option<&mut [f32]>,
        mut grads: Option<&mut PackedGrads>,
        ahead: [&[f32]; 2],
    ) {
        let depthwise = matches!(self.gather, Gather::Depthwise { .. });
        let fresh_grads = grads.as_deref_mut().is_some_and(PackedGrads::start);
        let Scratch { gathered, d, d_gathered, rounded, d_image: other, pairs, .. } = scratch;
        // These reach every pixel, and may overwrite.
        let overwrite = fresh && (depthwise && self.block.stride == (1, 1) || self.has_windows());
        if let (Some(d_image), true) = (&mut d_image, fresh && !overwrite) {
            d_image.fill(0.0);
        }
        let pixel_pairs = match self.precision {
            Precision::Bf16 if self.has_windows() && grads.is_some() => {
                image.pair_pixels(self.level, self.block.stride.1, pairs)
            }
            _ => &[],
        };
        for row in (0..self.oh).step_by(self.rows()) {
            let rows = self.rows().min(self.oh - row);
            let pixels = rows * self.ow;
            let ahead = self.ahead_back(ahead, grad, row, rows);
            grad.fill(self.level, self.block.cout, row * self.ow, pixels, d);
            if let Some(grads) = &mut grads {
                let add = row > 0 || !fresh_grads;
                if self.has_windows() {
                    let place = (image, row, rows);
                    let to = (&mut grads.values[..], add);
                    match self.precision {
                        Precision::F32 => {
                            let d = (&d[..], self.block.cout);
                            self.outer_products_of_windows(place, &image.data, d, 1, to);
                        }
                        Precision::Bf16 => {
                            let d = &d[..pixels * self.block.cout];
                            let d = rounded.lines(self.level, d, self.ow, self.block.cout);
                            self.outer_products_of_windows(place, pixel_pairs, d, 2, to);
                        }
                    }
                } else {
                    self.gather_image(image, row, rows, gathered);
                    self.outer_products(gathered, d, pixels, &mut grads.values, add, rounded);
                }
            }
            match (&self.gather, &mut d_image) {
                (Gather::Depthwise { .. }, _) => {
                    let (at, line) = (d_gathered.at(row as isize, 0), d_gathered.row());
                    self.multiply_back(d, &mut d_gathered.data[at..], line, rows, rounded, ahead);
                }
                (Gather::Windows(_), Some(_)) => {
                    let (first, dst_row) = (d_gathered.at(row as isize, 0), d_gathered.row());
                    self.level.run(LoadRows {
                        x: &d[..],
                        affine: None,
                        relu: false,
                        dst: &mut d_gathered.data[first..],
                        dst_row,
                        rows,
                        width: self.ow,
                        c: self.block.cout,
                        cp: d_gathered.cp,
                    });
                }
                (Gather::Average, Some(d_image)) => {
                    let line = d_gathered.row();
                    self.multiply_back(d, &mut d_gathered.data, line, rows, rounded, ahead);
                    self.spread(d_gathered, row, pixels, d_image);
                }
                (Gather::Average | Gather::Windows(_), None) => {}
                (Gather::Pixel, _) => unreachable!("has a backward pass of its own"),
            }
        }
        if let (Gather::Windows(classes), Some(d_image)) = (&self.gather, &mut d_image) {
            let pairs = match self.precision {
                Precision::F32 => &[],
                Precision::Bf16 => d_gathered.round(self.level, pairs),
            };
            if fresh {
                self.windows_back(classes, d_gathered, pairs, d_image, ahead);
            } else {
                self.windows_back(classes, d_gathered, pairs, other, ahead);
                let (width, c) = (self.h * self.w, self.level.pad(self.block.cin));
                self.level.run(MaskedAdd {
                    dst: d_image,
                    add: true,
                    d: other,
                    r: None,
                    r_row: 0,
                    rows: 1,
                    width,
                    c,
                    cp: c,
                });
            }
        }
        if let Gather::Depthwise { kernel, dilation, stride, .. } = &self.gather {
            if let Some(grads) = grads {
                let pad = self.pad as isize;
                let grad = DepthwiseGrad {
                    src: &image.data,
                    first: image.at(-pad, -pad),
                    tap_row: dilation * image.row(),
                    tap: dilation * image.cp,
                    pixel: stride * image.cp,
                    row: stride * image.row(),
                    d: &d_gathered.data,
                    d_first: d_gathered.at(0, 0),
                    d_row: d_gathered.row(),
                    size: (self.oh, self.ow),
                    kernel: *kernel,
                    cp: self.kp,
                    channels: self.block.cin,
                    grad: &mut grads.values[self.matrix_grads()..],
                    add: !fresh_grads,
                };
                self.level.depthwise_grad(grad);
            }
            if let Some(d_image) = d_image {
                self.depthwise_back(d_gathered, d_image, !overwrite);
            }
        }
    }

    /// The backward pass of a pointwise convolution, from the gradient of the result: adds the gradients of the weights,
    /// and that of the dense image `x`, added to `dx` if it is paired with true.
    pub(crate) fn backward_pointwise(
        &self,
        x: &[f32],
        scratch: &mut Scratch,
        grad: ResultGrad<'_>,
        mut dx: Option<(&mut [f32], bool)>,
        mut grads: Option<&mut PackedGrads>,
        ahead: [&[f32]; 2],
    ) {
        let fresh_grads = grads.as_deref_mut().is_some_and(PackedGrads::start);
        let Scratch { gathered, d, d_gathered, rounded, .. } = scratch;
        let (c, line) = (self.block.cin, d_gathered.row());
        for row in (0..self.oh).step_by(self.rows()) {
            let rows = self.rows().min(self.oh - row);
            let pixels = rows * self.ow;
            let ahead = self.ahead_back(ahead, grad, row, rows);
            grad.fill(self.level, self.block.cout, row * self.ow, pixels, d);
            if grads.is_some() || self.block.relu {
                self.gather(Source::Dense(x), row, rows, gathered);
            }
            if let Some(grads) = &mut grads {
                let add = row > 0 || !fresh_grads;
                self.outer_products(gathered, d, pixels, &mut grads.values, add, rounded);
            }
            if let Some((dx, add)) = &mut dx {
                self.multiply_back(d, &mut d_gathered.data, line, rows, rounded, ahead);
                self.level.run(MaskedAdd {
                    dst: &mut dx[row * self.ow * c..],
                    add: *add,
                    d: &d_gathered.data,
                    r: self.block.relu.then_some(&gathered[..]),
                    r_row: line,
                    rows,
                    width: self.ow,
                    c,
                    cp: self.kp,
                });
            }
        }
    }

    /// The gradients of the matrices from a chunk of gathered pixels and the gradient `d` of their result, added to
    /// `grads` if `add`.
    fn outer_products(
        &self,
        gathered: &[f32],
        d: &[f32],
        pixels: usize,
        grads: &mut [f32],
        add: bool,
        rounded: &mut PairScratch,
    ) {
        for matrix in &self.matrices {
            let product = OuterProduct {
                a: &gathered[matrix.rows.0..],
                lda: self.kp,
                line: (pixels, 0),
                d: &d[matrix.columns.0..],
                ldd: self.block.cout,
                w: &mut grads[matrix.grads.clone()],
                ldw: matrix.np,
                add,
                rows: pixels,
                k: matrix.rows.1,
                n: matrix.columns.1,
            };
            match self.precision {
                Precision::F32 => self.level.outer_product(product),
                Precision::Bf16 => rounded.outer_product(self.level, product),
            }
        }
    }

    /// `rows` rows of the gradient of the gathered pixels, `line` values apart.
    fn multiply_back(
        &self,
        d: &[f32],
        d_gathered: &mut [f32],
        line: usize,
        rows: usize,
        rounded: &mut PairScratch,
        mut ahead: Ahead<'_>,
    ) {
        for Matrix { rows: (value, k), columns: (channel, n), kp, transposed, .. } in &self.matrices
        {
            // The padding of the gathered values is left untouched: nothing that depends on it is kept.
            let product = Product {
                a: &d[*channel..],
                lda: self.block.cout,
                taps: &[Tap::ALL],
                k: *n,
                b: &[],
                ldb: *kp,
                c: &mut d_gathered[*value..],
                ldc: self.kp,
                lines: Lines { width: self.ow, read: self.ow * self.block.cout, written: line },
                rows: rows * self.ow,
                n: *k,
                ahead: std::mem::take(&mut ahead),
            };
            transposed.multiply(self.level, product, rounded);
        }
    }

    /// Like [`Conv::outer_products`], for `rows` rows of windows of an image, from row `row` of the result on. A term of the
    /// image, `a`, and one of the gradient, `d` with stride `ldd`, is of one pixel or a pair. If a line ends with half a pair,
    /// the other half has a gradient of zero; that of the image is whatever pixel follows.
    fn outer_products_of_windows<T: Term>(
        &self,
        (image, row, rows): (&Padded, usize, usize),
        a: &[T],
        (d, ldd): (&[T], usize),
        pixels_per_term: usize,
        (grads, add): (&mut [f32], bool),
    ) {
        let width = self.ow.div_ceil(pixels_per_term);
        for matrix in &self.matrices {
            let Some(taps) = &matrix.taps else { continue };
            let windows = self.windows(taps, image, &[], row);
            let places = windows.places(image.cp, 0, self.block.cin, true);
            let grads = grads[matrix.grads.clone()].chunks_mut(places.k * matrix.np.max(1));
            for (tap, w) in places.taps().iter().zip(grads) {
                let (from, to) = (tap.lines.0.min(rows), tap.lines.1.min(rows));
                if from >= to {
                    if !add {
                        w.fill(0.0);
                    }
                    continue;
                }
                self.level.outer_product(OuterProduct {
                    a: &a[places.first + tap.at + from * places.line..],
                    lda: places.step * pixels_per_term,
                    line: (width, places.line),
                    d: &d[from * width * ldd + matrix.columns.0..],
                    ldd,
                    w,
                    ldw: matrix.np,
                    add,
                    rows: (to - from) * width,
                    k: places.k,
                    n: matrix.columns.1,
                });
            }
        }
    }

    /// The data gradient of windows: `d`, the gradient of the result, to `d_image`, which is overwritten.
    fn windows_back(
        &self,
        classes: &[WindowClass],
        d: &Padded,
        pairs: &[Pair],
        d_image: &mut [f32],
        ahead: [&[f32]; 2],
    ) {
        let (cp, (sh, sw)) = (self.level.pad(self.block.cin), self.block.stride);
        let mut ahead = Ahead::new([ahead[0], ahead[1], &[], &[]]);
        for WindowClass { first: (top, left), taps, channels, weights } in classes {
            if *top >= self.h || *left >= self.w {
                continue;
            }
            let (height, width) = ((self.h - top).div_ceil(sh), (self.w - left).div_ceil(sw));
            let product = Product {
                a: &[],
                lda: 0,
                taps: &[],
                k: 0,
                b: &[],
                ldb: cp,
                c: &mut d_image[(top * self.w + left) * cp..],
                ldc: sw * cp,
                lines: Lines { width, read: 0, written: sh * self.w * cp },
                rows: height * width,
                n: self.block.cin,
                ahead: std::mem::take(&mut ahead),
            };
            let (first, stride, channels) = ((0, 0), (1, 1), *channels);
            let windows = Windows { image: d, pairs, taps, first, stride, channels };
            weights.multiply_windows(self.level, windows, product);
        }
    }

    /// Adds the gradient of averages to that of the pixels of their windows.
    fn spread(&self, d: &Padded, y: usize, pixels: usize, d_image: &mut [f32]) {
        let (cin, cp) = (self.block.cin, self.kp);
        for (pixel, d) in d.data.chunks_exact(cp).take(pixels).enumerate() {
            for (y, x) in self.window(y, pixel) {
                let to = (y as usize * self.w + x as usize) * cp;
                d_image[to..to + cin].iter_mut().zip(d).for_each(|(to, d)| *to += 0.25 * d);
            }
        }
    }

    /// The data gradient of the depthwise convolution.
    fn depthwise_back(&self, d: &Padded, d_image: &mut [f32], add: bool) {
        let (Gather::Depthwise { classes, stride, .. }, cp) = (&self.gather, self.kp) else {
            return;
        };
        for class in classes {
            let (top, left) = class.first;
            if top >= self.h || left >= self.w {
                continue;
            }
            let conv = Depthwise {
                src: &d.data,
                first: d.at(class.from.0, class.from.1),
                tap_row: class.step * d.row(),
                tap: class.step * cp,
                pixel: cp,
                row: d.row(),
                weights: &class.weights,
                kernel: class.kernel,
                cp,
                channels: self.block.cin,
                out: &mut d_image[(top * self.w + left) * cp..],
                out_pixel: stride * cp,
                out_row: stride * self.w * cp,
                rows: (self.h - top).div_ceil(*stride),
                count: (self.w - left).div_ceil(*stride),
                add,
            };
            self.level.depthwise(conv);
        }
    }

    /// The values that a backward pass reads after `rows` rows from `row` on: as many of its own, and their part of `ahead`.
    fn ahead_back<'a>(
        &self,
        ahead: [&'a [f32]; 2],
        grad: ResultGrad<'a>,
        row: usize,
        rows: usize,
    ) -> Ahead<'a> {
        let [first, second] = self.share(ahead, row, rows);
        let [g, y] = grad.reads(self.block.cout, (row + rows) * self.ow, rows * self.ow);
        Ahead::new([first, second, g, y])
    }
}
