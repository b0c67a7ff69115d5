//! A block on images of a given size: [`Conv`].

use crate::buffers::{Buffer, Buffers};
use crate::gather::{Gather, depthwise, window_classes};
use crate::matrix::{Factor, Matrix, PackedGrads, PairScratch};
use crate::padded::Padded;
use crate::simd::{Depthwise, Level, LoadRows, Pair};
use crate::spec::{Block, ConvKind, Precision};
use crate::window::{Taps, Windows};

/// Pixels that are gathered before they are multiplied: enough to make a product worthwhile, few enough for the
/// first-level cache.
const CHUNK: usize = 64;

/// Widest border of a loaded image: that of a depthwise convolution 5x5 of dilation 2.
const MOST_PAD: usize = 4;

/// A block on images of a given size, with its weights packed for the kernels.
#[derive(Debug)]
pub(crate) struct Conv {
    pub(crate) block: Block,
    pub(super) level: Level,
    pub(super) precision: Precision,
    pub(super) buffers: Buffers,
    /// Size of the input and of the output.
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
    /// Border that the gather reads.
    pub(crate) pad: usize,
    pub(super) gather: Gather,
    /// Values gathered per pixel, padded to whole vectors.
    pub(super) kp: usize,
    /// The factors of gathered values: one matrix, or those of the two halves of a factorized reduce.
    pub(super) matrices: Vec<Matrix>,
}

/// An image that a convolution reads.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Loaded, with ReLU and border as the convolution needs them.
    Image(&'a Padded),
    /// As given by the caller, for a pointwise convolution.
    Dense(&'a [f32]),
}

/// Scratch of a block.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Gathered pixels of a chunk, `[pixels, kp]`.
    pub(super) gathered: Buffer,
    /// Gradient of the result of a chunk, `[pixels, cout]`.
    pub(super) d: Buffer,
    /// Gradient of the gathered pixels: of the image, with a border, if depthwise; otherwise of a chunk. For windows, the
    /// gradient of the result of the image instead, with a border.
    pub(super) d_gathered: Padded,
    /// The gradient of an image by windows, if another is already there.
    pub(super) d_image: Buffer,
    /// An image in pairs, whose windows are multiplied.
    pub(super) pairs: Buffer,
    /// The result of a chunk, if it is not kept as it is.
    pub(super) y: Buffer,
    pub(super) rounded: PairScratch,
}

impl Conv {
    pub(crate) fn new(
        buffers: &Buffers,
        level: Level,
        precision: Precision,
        block: Block,
        [h, w]: [usize; 2],
        params: &[&[f32]],
    ) -> Self {
        let (cin, cout) = (block.cin, block.cout);
        let cp = level.pad(cin);
        let (oh, ow) = (h.div_ceil(block.stride.0), w.div_ceil(block.stride.1));
        let taps_of_windows: Vec<(isize, isize)> = match block.conv {
            ConvKind::Full { kernel: (kh, kw) } => {
                let (down, right) = ((kh as isize - 1) / 2, (kw as isize - 1) / 2);
                let rows = 0..kh as isize;
                rows.flat_map(|i| (0..kw as isize).map(move |j| (i - down, j - right))).collect()
            }
            ConvKind::Reduce => vec![(0, 0), (1, 1)],
            ConvKind::Separable { .. } | ConvKind::Average => vec![],
        };
        let (mut gather, pad, k) = match block.conv {
            ConvKind::Separable { kernel, dilation } => {
                let gather = depthwise(params[0], cin, cp, kernel, dilation, block.stride.0);
                (gather, dilation * (kernel - 1) / 2, cin)
            }
            ConvKind::Full { kernel: (kh, kw) } => {
                let gather = match (kh, kw, block.stride) {
                    (1, 1, (1, 1)) => Gather::Pixel,
                    _ => Gather::Windows(vec![]),
                };
                (gather, (kh.max(kw) - 1) / 2, kh * kw * cin)
            }
            ConvKind::Average => (Gather::Average, 0, cin),
            ConvKind::Reduce => (Gather::Windows(vec![]), 1, 2 * cin),
        };
        let half = cout.div_ceil(2);
        let extents = match block.conv {
            ConvKind::Reduce => {
                vec![(0, (0, cin), (0, half)), (1, (cin, cin), (half, cout - half))]
            }
            ConvKind::Separable { .. } => vec![(1, (0, k), (0, cout))],
            ConvKind::Full { .. } | ConvKind::Average => vec![(0, (0, k), (0, cout))],
        };
        let mut used = 0;
        let matrices = extents.into_iter().map(|(part, rows, columns)| {
            let (kp, np) = (level.pad(rows.1), level.pad(columns.1));
            let grads = used..used + rows.1 * np;
            used = grads.end;
            let [weights, transposed] = [const { Factor::Values(vec![]) }; 2];
            let taps = match (&gather, block.conv) {
                (Gather::Windows(_), ConvKind::Reduce) => {
                    Some(Taps::new(vec![taps_of_windows[part]]))
                }
                (Gather::Windows(_), _) => Some(Taps::new(taps_of_windows.clone())),
                _ => None,
            };
            let mut matrix =
                Matrix { part, taps, rows, columns, kp, np, grads, weights, transposed };
            matrix.pack(level, precision, params[part], cin);
            matrix
        });
        let matrices: Vec<Matrix> = matrices.collect();
        if let Gather::Windows(classes) = &mut gather {
            *classes = window_classes(level, precision, &block, &matrices, params);
        }
        let kp = level.pad(k);
        let buffers = buffers.clone();
        Self { block, level, precision, buffers, h, w, oh, ow, pad, gather, kp, matrices }
    }

    /// Number of values of a dense image of the result.
    pub(crate) fn out_len(&self) -> usize {
        self.oh * self.ow * self.block.cout
    }

    /// Rows of a chunk.
    pub(super) fn rows(&self) -> usize {
        (CHUNK / self.ow.max(1)).clamp(1, self.oh.max(1))
    }

    pub(crate) fn scratch(&self) -> Scratch {
        let pixels = self.rows() * self.ow;
        let d_gathered = match self.gather {
            Gather::Depthwise { .. } => {
                Padded::new(&self.buffers, self.oh, self.ow, self.pad, self.kp)
            }
            Gather::Average | Gather::Pixel => {
                Padded::new(&self.buffers, self.rows(), self.ow, 0, self.kp)
            }
            Gather::Windows(_) => {
                let cp = self.level.pad(self.block.cout);
                Padded::new(&self.buffers, self.oh, self.ow, self.pad, cp)
            }
        };
        let (cin, windows) = (self.level.pad(self.block.cin), self.has_windows());
        let pairs = match self.precision {
            Precision::Bf16 if windows => {
                // A pair for each value: see [`Padded::pair_pixels`].
                let border = 2 * MOST_PAD;
                let image = (self.h + border) * (self.w + border) * cin;
                image.max(Padded::pair_words(self.level, d_gathered.data.len(), d_gathered.cp))
            }
            _ => 0,
        };
        Scratch {
            gathered: self.buffers.buffer(if windows { 0 } else { pixels * self.kp }),
            // One more vector: that of the last channels may reach beyond the last pixel.
            d: self.buffers.buffer(pixels * self.block.cout + self.level.lanes()),
            d_gathered,
            d_image: self.buffers.buffer(if windows { self.h * self.w * cin } else { 0 }),
            pairs: self.buffers.buffer(pairs),
            y: self.buffers.buffer(match self.precision {
                Precision::F32 => 0,
                Precision::Bf16 => pixels * self.block.cout,
            }),
            rounded: self.pair_scratch(self.rows()),
        }
    }

    /// Scratch for some rows of the result.
    pub(super) fn pair_scratch(&self, rows: usize) -> PairScratch {
        let (pixels, k) = match self.gather {
            // Lines of whole pairs: see [`PairScratch::lines`].
            Gather::Windows(_) => (rows * self.ow.next_multiple_of(2), self.block.cout),
            _ => (rows * self.ow, self.kp.max(self.block.cout)),
        };
        PairScratch::new(&self.buffers, self.level, self.precision, pixels, k)
    }

    /// Room for the gradients of some images; none unless `wanted`.
    pub(crate) fn packed_grads(&self, wanted: bool) -> PackedGrads {
        let room = if wanted { self.grads_len() } else { 0 };
        PackedGrads { values: self.buffers.buffer(room), fresh: true }
    }

    /// Number of packed gradients.
    pub(crate) fn grads_len(&self) -> usize {
        let depthwise = match &self.gather {
            Gather::Depthwise { weights, .. } => weights.len(),
            Gather::Average | Gather::Pixel | Gather::Windows(_) => 0,
        };
        self.matrix_grads() + depthwise
    }

    /// Number of packed gradients that belong to matrices; those of a depthwise convolution follow.
    pub(super) fn matrix_grads(&self) -> usize {
        self.matrices.last().map_or(0, |matrix| matrix.grads.end)
    }

    /// Packed gradients in the layout of the parameters.
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

    /// True if the convolution goes pixel by pixel (1x1, stride 1), and so needs no loaded image.
    pub(crate) fn is_pointwise(&self) -> bool {
        matches!(self.gather, Gather::Pixel)
    }

    /// True if the convolution multiplies windows of a loaded image in place.
    pub(super) fn has_windows(&self) -> bool {
        matches!(self.gather, Gather::Windows(_))
    }

    /// The windows of a matrix from row `y` of the result on.
    pub(super) fn windows<'a>(
        &self,
        taps: &'a Taps,
        image: &'a Padded,
        pairs: &'a [Pair],
        y: usize,
    ) -> Windows<'a> {
        let stride = self.block.stride;
        let (first, channels) = (((y * stride.0) as isize, 0), (0, self.block.cin));
        Windows { image, pairs, taps, first, stride, channels }
    }

    /// Gathers `rows` rows of the result from row `y` on.
    pub(super) fn gather(&self, source: Source<'_>, y: usize, rows: usize, gathered: &mut [f32]) {
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

    /// Like [`Conv::gather`], from a loaded image.
    pub(super) fn gather_image(&self, image: &Padded, y: usize, rows: usize, gathered: &mut [f32]) {
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
            Gather::Average => {
                for (pixel, out) in gathered[..rows * ow * kp].chunks_exact_mut(kp).enumerate() {
                    let places = self.window(y, pixel).map(|(y, x)| image.at(y, x));
                    let [a, b, c, d] = places.map(|at| &image.data[at..][..kp]);
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = 0.25 * ((a[i] + b[i]) + (c[i] + d[i]));
                    }
                }
            }
            Gather::Pixel => unreachable!("pixels are read from a dense image"),
            Gather::Windows(_) => unreachable!("windows are multiplied in place"),
        }
    }

    /// The four pixels under pixel `pixel` of an average. A window that the border cuts off has its pixels twice or
    /// four times, which leaves the mean as it is.
    pub(super) fn window(&self, y: usize, pixel: usize) -> [(isize, isize); 4] {
        let (sh, sw) = self.block.stride;
        let (top, left) = (((y + pixel / self.ow) * sh) as isize, (pixel % self.ow * sw) as isize);
        let (bottom, right) =
            ((top + 1).min(self.h as isize - 1), (left + 1).min(self.w as isize - 1));
        [(top, left), (top, right), (bottom, left), (bottom, right)]
    }

    /// The part of `ahead` that falls to `rows` rows of the result from `row` on.
    pub(super) fn share<'a>(
        &self,
        ahead: [&'a [f32]; 2],
        row: usize,
        rows: usize,
    ) -> [&'a [f32]; 2] {
        ahead.map(|all| &all[all.len() * row / self.oh..all.len() * (row + rows) / self.oh])
    }

    /// Number of neighbouring pixels of the result that have moments of their own, to fill vectors.
    pub(crate) fn group(&self) -> usize {
        self.level.group(self.block.cout, self.ow)
    }
}
