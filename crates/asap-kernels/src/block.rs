//! A convolution of one image after another: gather the taps of a few rows, multiply by the weights, and the same
//! backwards. The gather is a depthwise convolution, or for a full convolution a copy (im2col); what it yields stays
//! in the first-level cache and is computed again in the backward pass instead of kept.

use rayon::prelude::*;

use crate::buffers::Buffer;
use crate::gather::{Gather, depthwise};
use crate::matrix::{Factor, Matrix, PackedGrads, PairScratch};
use crate::norm::NormGrad;
use crate::padded::Padded;
use crate::simd::{
    Accumulate, Ahead, Depthwise, DepthwiseGrad, Level, LoadRows, MaskedAdd, Moments, OuterProduct,
    Product,
};
use crate::spec::{Block, ConvKind, Precision};
use crate::stored::{Stored, keep_rounded, words};

/// Pixels that are gathered before they are multiplied: enough to make a product worth while, few enough for the
/// first-level cache.
const CHUNK: usize = 64;

/// A block on images of a given size, with its weights packed for the kernels.
#[derive(Debug)]
pub(crate) struct Conv {
    pub(crate) block: Block,
    level: Level,
    precision: Precision,
    /// Size of the input and of the output.
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
    /// Border that the gather reads.
    pub(crate) pad: usize,
    gather: Gather,
    /// Values gathered per pixel, padded to whole vectors.
    kp: usize,
    /// What gathered values are multiplied by: one matrix, or those of the two halves of a factorized reduce.
    matrices: Vec<Matrix>,
}

/// An image that a convolution reads.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Loaded, with ReLU and border as the convolution needs them.
    Image(&'a Padded),
    /// As the caller has it, for a pointwise convolution.
    Dense(&'a [f32]),
}

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
    /// Through a batch norm, with `g_scale` in the place of its own.
    pub(crate) fn new(norm: &'a NormGrad, g: &'a [f32], g_scale: &'a [f32], y: Stored<'a>) -> Self {
        Self { g, g_scale, y, y_scale: &norm.y_scale, shift: &norm.shift }
    }

    /// What [`ResultGrad::fill`] reads, as far as it exists.
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

/// Scratch of a block.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Gathered pixels of a chunk, `[pixels, kp]`.
    gathered: Buffer,
    /// Gradient of the result of a chunk, `[pixels, cout]`.
    d: Buffer,
    /// Gradient of the gathered pixels: of the image, with a border, if depthwise; else of a chunk.
    d_gathered: Padded,
    /// The result of a chunk, where it is not kept as it is.
    y: Buffer,
    rounded: PairScratch,
}

impl Conv {
    pub(crate) fn new(
        level: Level,
        precision: Precision,
        block: Block,
        [h, w]: [usize; 2],
        params: &[&[f32]],
    ) -> Self {
        let (cin, cout) = (block.cin, block.cout);
        let cp = level.pad(cin);
        let (oh, ow) = (h.div_ceil(block.stride.0), w.div_ceil(block.stride.1));
        let (gather, pad, k) = match block.conv {
            ConvKind::Separable { kernel, dilation } => {
                let gather = depthwise(params[0], cin, cp, kernel, dilation, block.stride.0);
                (gather, dilation * (kernel - 1) / 2, cin)
            }
            ConvKind::Full { kernel: (kh, kw) } => {
                let (down, right) = ((kh as isize - 1) / 2, (kw as isize - 1) / 2);
                let taps = (0..kh as isize)
                    .flat_map(|i| (0..kw as isize).map(move |j| (i - down, j - right)));
                (Gather::Copy { taps: taps.collect() }, down.max(right) as usize, kh * kw * cin)
            }
            ConvKind::Reduce => (Gather::Copy { taps: vec![(0, 0), (1, 1)] }, 1, 2 * cin),
        };
        let half = cout.div_ceil(2);
        let extents = match block.conv {
            ConvKind::Reduce => {
                vec![(0, (0, cin), (0, half)), (1, (cin, cin), (half, cout - half))]
            }
            ConvKind::Separable { .. } => vec![(1, (0, k), (0, cout))],
            ConvKind::Full { .. } => vec![(0, (0, k), (0, cout))],
        };
        let mut used = 0;
        let matrices = extents.into_iter().map(|(part, rows, columns)| {
            let (kp, np) = (level.pad(rows.1), level.pad(columns.1));
            let grads = used..used + rows.1 * np;
            used = grads.end;
            let [weights, transposed] = [const { Factor::Values(vec![]) }; 2];
            let mut matrix = Matrix { part, rows, columns, kp, np, grads, weights, transposed };
            matrix.pack(level, precision, params[part], cin);
            matrix
        });
        let matrices = matrices.collect();
        let kp = level.pad(k);
        Self { block, level, precision, h, w, oh, ow, pad, gather, kp, matrices }
    }

    /// Number of values of a dense image of the result.
    pub(crate) fn out_len(&self) -> usize {
        self.oh * self.ow * self.block.cout
    }

    /// Rows of a chunk.
    fn rows(&self) -> usize {
        (CHUNK / self.ow.max(1)).clamp(1, self.oh.max(1))
    }

    pub(crate) fn scratch(&self) -> Scratch {
        let pixels = self.rows() * self.ow;
        let d_gathered = match self.gather {
            Gather::Depthwise { .. } => Padded::new(self.oh, self.ow, self.pad, self.kp),
            Gather::Copy { .. } => Padded::new(self.rows(), self.ow, 0, self.kp),
        };
        Scratch {
            gathered: Buffer::new(pixels * self.kp),
            // One more vector: that of the last channels may reach beyond the last pixel.
            d: Buffer::new(pixels * self.block.cout + self.level.lanes()),
            d_gathered,
            y: Buffer::new(match self.precision {
                Precision::F32 => 0,
                Precision::Bf16 => pixels * self.block.cout,
            }),
            rounded: self.pair_scratch(pixels),
        }
    }

    fn pair_scratch(&self, pixels: usize) -> PairScratch {
        PairScratch::new(self.level, self.precision, pixels, self.kp.max(self.block.cout))
    }

    /// Room for the gradients of some images; none unless they are wanted.
    pub(crate) fn packed_grads(&self, wanted: bool) -> PackedGrads {
        let depthwise = match &self.gather {
            Gather::Depthwise { weights, .. } => weights.len(),
            Gather::Copy { .. } => 0,
        };
        let room = if wanted { self.matrix_grads() + depthwise } else { 0 };
        PackedGrads { values: Buffer::new(room), fresh: true }
    }

    /// How many packed gradients belong to matrices; those of a depthwise convolution follow.
    fn matrix_grads(&self) -> usize {
        self.matrices.last().map_or(0, |matrix| matrix.grads.end)
    }

    /// Packed gradients as those of the parameters, in their layout.
    pub(crate) fn unpack(&self, packed: &PackedGrads) -> Vec<Vec<f32>> {
        let shapes = self.block.weight_shapes();
        let mut grads: Vec<Vec<f32>> =
            shapes.iter().map(|s| vec![0.0; s.iter().product()]).collect();
        if let Gather::Depthwise { kernel, .. } = self.gather {
            let (taps, cp) = (kernel * kernel, self.kp);
            let packed = &packed.values[self.matrix_grads()..];
            for (i, grad) in grads[0].iter_mut().enumerate() {
                *grad = packed[i % taps * cp + i / taps];
            }
        }
        for matrix in &self.matrices {
            let packed = &packed.values[matrix.grads.clone()];
            matrix.unpack(packed, self.block.cin, &mut grads[matrix.part]);
        }
        grads
    }

    /// Whether the convolution goes pixel by pixel (1x1, stride 1), and so needs no loaded image.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.block.conv == ConvKind::Full { kernel: (1, 1) } && self.block.stride == (1, 1)
    }

    /// Gathers `rows` rows of the result from row `y` on.
    fn gather(&self, source: Source<'_>, y: usize, rows: usize, gathered: &mut [f32]) {
        match source {
            Source::Image(image) => self.gather_image(image, y, rows, gathered),
            Source::Dense(x) => {
                let (width, c) = (rows * self.ow, self.block.cin);
                self.level.run(LoadRows {
                    x: &x[y * self.ow * c..],
                    affine: None,
                    relu: self.block.relu,
                    dst: gathered,
                    dst_row: width * self.kp,
                    rows: 1,
                    width,
                    c,
                    cp: self.kp,
                });
            }
        }
    }

    /// As [`Conv::gather`], from a loaded image.
    fn gather_image(&self, image: &Padded, y: usize, rows: usize, gathered: &mut [f32]) {
        let (ow, kp) = (self.ow, self.kp);
        match &self.gather {
            Gather::Depthwise { kernel, dilation, stride, weights, .. } => {
                let pad = self.pad as isize;
                let conv = Depthwise {
                    src: &image.data,
                    first: image.at((y * stride) as isize - pad, -pad),
                    tap_row: dilation * image.row(),
                    tap: dilation * image.cp,
                    pixel: stride * image.cp,
                    row: stride * image.row(),
                    weights,
                    kernel: (*kernel, *kernel),
                    cp: kp,
                    channels: self.block.cin,
                    out: gathered,
                    out_pixel: kp,
                    out_row: ow * kp,
                    rows,
                    count: ow,
                    add: false,
                };
                self.level.depthwise(conv);
            }
            Gather::Copy { taps } => {
                for (pixel, out) in gathered[..rows * ow * kp].chunks_exact_mut(kp).enumerate() {
                    let (iy, ix) = self.corner(y, pixel);
                    for ((down, right), out) in
                        taps.iter().zip(out.chunks_exact_mut(self.block.cin))
                    {
                        let from = image.at(iy + down, ix + right);
                        out.copy_from_slice(&image.data[from..from + out.len()]);
                    }
                }
            }
        }
    }

    /// The pixel of the input under pixel `pixel` of a chunk from row `y` on.
    fn corner(&self, y: usize, pixel: usize) -> (isize, isize) {
        let (sh, sw) = self.block.stride;
        (((y + pixel / self.ow) * sh) as isize, (pixel % self.ow * sw) as isize)
    }

    /// The part of `ahead` that falls to `rows` rows of the result from `row` on.
    fn share<'a>(&self, ahead: [&'a [f32]; 2], row: usize, rows: usize) -> [&'a [f32]; 2] {
        ahead.map(|all| &all[all.len() * row / self.oh..all.len() * (row + rows) / self.oh])
    }

    /// What a backward pass reads after `rows` rows from `row` on: as much of its own, and their part of `ahead`.
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

    /// How many neighbouring pixels of the result have moments of their own, to fill vectors.
    pub(crate) fn group(&self) -> usize {
        self.level.group(self.block.cout, self.ow)
    }

    /// The result for an image, dense (or rounded, in the words of [`Stored`]), and its moments (mean and sum of squared
    /// deviations), apart for each of [`Conv::group`] pixels. What is read next, `ahead`, comes to the cache meanwhile.
    pub(crate) fn forward(
        &self,
        source: Source<'_>,
        scratch: &mut Scratch,
        y: &mut [f32],
        mut moments: Option<(&mut [f32], &mut [f32])>,
        ahead: [&[f32]; 2],
    ) {
        let (cout, precision) = (self.block.cout, self.precision);
        let Scratch { gathered, y: chunk, rounded, .. } = scratch;
        for row in (0..self.oh).step_by(self.rows()) {
            let rows = self.rows().min(self.oh - row);
            let (from, len) = (row * self.ow * cout, rows * self.ow * cout);
            let pixels = rows * self.ow;
            let [first, second] = self.share(ahead, row, rows);
            // The result goes to memory that no cache holds yet.
            let (result, after) = match precision {
                Precision::F32 => {
                    let (before, after) = y.split_at_mut(from + len);
                    (&mut before[from..], after)
                }
                Precision::Bf16 => (&mut chunk[..len], &mut y[(from + len) / 2..]),
            };
            let after = &after[..after.len().min(words(precision, len))];
            let ahead = Ahead::new([first, second, after, &[]]);
            self.rows_of(source, row, rows, gathered, result, rounded, ahead);
            if let Some((mean, m2)) = &mut moments {
                let y = &*result;
                let (group, count) = (self.group(), row * self.ow);
                let (pixels, c, count) = (pixels / group, cout * group, count / group);
                self.level.run(Moments { y, pixels, c, count, mean, m2 });
            }
            if precision == Precision::Bf16 {
                keep_rounded(self.level, &chunk[..len], y, from);
            }
        }
    }

    /// The result for an image whose rows are shared out to `tasks` threads or more.
    pub(crate) fn infer(&self, source: Source<'_>, y: &mut [f32], tasks: usize) {
        let rows = self.rows().min(self.oh.div_ceil(tasks));
        let scratch = || (Buffer::new(rows * self.ow * self.kp), self.pair_scratch(rows * self.ow));
        let chunks = y.par_chunks_mut(rows * self.ow * self.block.cout).enumerate();
        chunks.for_each_init(scratch, |(gathered, rounded), (chunk, y)| {
            let row = chunk * rows;
            let rows = rows.min(self.oh - row);
            self.rows_of(source, row, rows, gathered, y, rounded, Ahead::default());
        });
    }

    /// `rows` rows of the result from row `row` on.
    #[allow(clippy::too_many_arguments)]
    fn rows_of(
        &self,
        source: Source<'_>,
        row: usize,
        rows: usize,
        gathered: &mut [f32],
        y: &mut [f32],
        rounded: &mut PairScratch,
        mut ahead: Ahead<'_>,
    ) {
        self.gather(source, row, rows, gathered);
        for Matrix { rows: (first, k), columns: (channel, n), np, weights, .. } in &self.matrices {
            let product = Product {
                a: &gathered[*first..],
                lda: self.kp,
                b: &[],
                ldb: *np,
                c: &mut y[*channel..],
                ldc: self.block.cout,
                line: (self.ow, 0),
                rows: rows * self.ow,
                k: *k,
                n: *n,
                ahead: std::mem::take(&mut ahead),
            };
            weights.multiply(self.level, product, rounded);
        }
    }

    /// From the gradient of the result: that of the loaded image (`[h, w, cp]`, without border), added to `d_image`
    /// unless `fresh`, and those of the weights, added. `ahead` is as in [`Conv::forward`].
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
        let Scratch { gathered, d, d_gathered, rounded, .. } = scratch;
        // A depthwise convolution of stride 1 reaches every pixel, and can overwrite.
        let overwrite = fresh && depthwise && self.block.stride == (1, 1);
        if let (Some(d_image), true) = (&mut d_image, fresh && !overwrite) {
            d_image.fill(0.0);
        }
        for row in (0..self.oh).step_by(self.rows()) {
            let rows = self.rows().min(self.oh - row);
            let pixels = rows * self.ow;
            let ahead = self.ahead_back(ahead, grad, row, rows);
            grad.fill(self.level, self.block.cout, row * self.ow, pixels, d);
            if let Some(grads) = &mut grads {
                self.gather_image(image, row, rows, gathered);
                let add = row > 0 || !fresh_grads;
                self.outer_products(gathered, d, pixels, &mut grads.values, add, rounded);
            }
            match (&self.gather, &mut d_image) {
                (Gather::Depthwise { .. }, _) => {
                    let (at, line) = (d_gathered.at(row as isize, 0), d_gathered.row());
                    self.multiply_back(d, &mut d_gathered.data[at..], line, rows, rounded, ahead);
                }
                (Gather::Copy { taps }, Some(d_image)) => {
                    let line = d_gathered.row();
                    self.multiply_back(d, &mut d_gathered.data, line, rows, rounded, ahead);
                    self.scatter(taps, d_gathered, row, pixels, d_image);
                }
                (Gather::Copy { .. }, None) => {}
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

    /// The backward pass of a pointwise convolution: from the gradient of the result to those of the weights, added,
    /// and of the dense image `x`, added to `dx` if it is paired with true.
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
        let gap = line - self.ow * self.kp;
        for Matrix { rows: (value, k), columns: (channel, n), kp, transposed, .. } in &self.matrices
        {
            // The padding of the gathered values is left as it is: nothing that depends on it is kept.
            let product = Product {
                a: &d[*channel..],
                lda: self.block.cout,
                b: &[],
                ldb: *kp,
                c: &mut d_gathered[*value..],
                ldc: self.kp,
                line: (self.ow, gap),
                rows: rows * self.ow,
                k: *n,
                n: *k,
                ahead: std::mem::take(&mut ahead),
            };
            transposed.multiply(self.level, product, rounded);
        }
    }

    /// Adds the gradient of gathered pixels to those of the image that they were copied from.
    fn scatter(
        &self,
        taps: &[(isize, isize)],
        d: &Padded,
        y: usize,
        pixels: usize,
        d_image: &mut [f32],
    ) {
        let (cin, cp) = (self.block.cin, self.level.pad(self.block.cin));
        for (pixel, d) in d.data.chunks_exact(self.kp).take(pixels).enumerate() {
            let (iy, ix) = self.corner(y, pixel);
            for ((down, right), d) in taps.iter().zip(d.chunks_exact(cin)) {
                let (iy, ix) = (iy + down, ix + right);
                if (0..self.h as isize).contains(&iy) && (0..self.w as isize).contains(&ix) {
                    let to = (iy as usize * self.w + ix as usize) * cp;
                    d_image[to..to + cin].iter_mut().zip(d).for_each(|(to, d)| *to += d);
                }
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
}
