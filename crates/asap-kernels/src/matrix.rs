//! The weights of a convolution as the kernels read them, and their gradients.

use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::buffers::{Buffer, Buffers};
use crate::simd::{Level, Lines, OuterProduct, Pair, PairRows, Product, RoundRows, Term};
use crate::spec::Precision;
use crate::window::{Places, Taps, Windows};

/// Number of packed gradients that a task adds.
const PART: usize = 4096;

/// Number of rows (or columns) of a matrix that a task packs (or unpacks): few enough for the first-level cache to hold
/// a line of each.
const BLOCK: usize = 16;

/// Weights from some of the gathered values to some of the output channels.
#[derive(Debug)]
pub(crate) struct Matrix {
    /// Its index among the parameters of the block: `[columns, cin, taps]`.
    pub(crate) part: usize,
    /// The taps, if the convolution reads windows. Otherwise it reads gathered values.
    pub(crate) taps: Option<Taps>,
    /// First gathered value, and their number.
    pub(crate) rows: (usize, usize),
    /// First output channel, and their number.
    pub(crate) columns: (usize, usize),
    /// Both numbers padded to whole vectors.
    pub(crate) kp: usize,
    pub(crate) np: usize,
    /// The range of its gradient in [`PackedGrads`].
    pub(crate) grads: Range<usize>,
    /// `[rows, np]`.
    pub(crate) weights: Factor,
    /// `[columns, kp]`; windows have theirs in [`Gather`](crate::gather::Gather).
    pub(crate) transposed: Factor,
}

/// The right side of a product.
#[derive(Debug)]
pub(crate) enum Factor {
    Values(Vec<f32>),
    /// Neighbouring rows in pairs.
    Pairs(Vec<Pair>),
}

/// Scratch for a chunk of pixels rounded to bf16.
#[derive(Debug)]
pub(crate) struct PairScratch([Buffer; 2]);

impl Matrix {
    /// Packs parameters `[columns, cin, taps]`.
    pub(crate) fn pack(&mut self, level: Level, precision: Precision, params: &[f32], cin: usize) {
        let (taps, n) = (self.rows.1 / cin, self.columns.1);
        let value = |tap, channel, column| params[(column * cin + channel) * taps + tap];
        self.weights = Factor::pack(level, precision, [taps, cin, n], value);
        if self.taps.is_none() {
            let value = |_, column, channel| value(0, channel, column);
            self.transposed = Factor::pack(level, precision, [1, n, cin], value);
        }
    }

    /// The inverse of [`Matrix::pack`], for gradients.
    pub(crate) fn unpack(&self, packed: &[f32], cin: usize, grads: &mut [f32]) {
        let k = self.rows.1;
        let blocks = grads[..self.columns.1 * k].par_chunks_mut(BLOCK * k.max(1)).enumerate();
        blocks.for_each(|(block, grads)| {
            for (row, packed) in packed.chunks_exact(self.np.max(1)).enumerate() {
                let at = row % cin * (k / cin) + row / cin;
                for (grads, value) in grads.chunks_exact_mut(k).zip(&packed[block * BLOCK..]) {
                    grads[at] = *value;
                }
            }
        });
    }
}

impl Factor {
    /// Packs `[taps, terms, columns]`.
    pub(crate) fn pack(
        level: Level,
        precision: Precision,
        [taps, terms, columns]: [usize; 3],
        value: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let row = level.pad(columns);
        // A tap has whole pairs.
        let rows = match precision {
            Precision::F32 => terms,
            Precision::Bf16 => terms.next_multiple_of(2),
        };
        let mut values = vec![0.0; taps * rows * row];
        let all = values.par_chunks_mut((rows * row).max(1)).enumerate();
        all.for_each(|(tap, values)| {
            let blocks = values.par_chunks_mut(BLOCK * row).enumerate();
            blocks.for_each(|(block, values)| {
                for column in 0..columns {
                    let rows = values.chunks_exact_mut(row).zip(block * BLOCK..terms);
                    rows.for_each(|(to, term)| to[column] = value(tap, term, column));
                }
            });
        });
        Self::new(level, precision, values, row)
    }

    /// A factor with rows of stride `row`.
    fn new(level: Level, precision: Precision, values: Vec<f32>, row: usize) -> Self {
        match precision {
            Precision::F32 => Self::Values(values),
            Precision::Bf16 => {
                let rows = values.len() / row.max(1);
                let mut out = vec![0; rows.div_ceil(2) * row];
                level.round(PairRows {
                    x: &values,
                    ldx: row,
                    rows,
                    step: 2,
                    distance: 1,
                    n: row,
                    out: &mut out,
                    row,
                });
                Self::Pairs(out)
            }
        }
    }

    /// Runs a product with this as its `b`.
    pub(crate) fn multiply(
        &self,
        level: Level,
        product: Product<'_>,
        PairScratch([rounded, _]): &mut PairScratch,
    ) {
        match self {
            Self::Values(b) => level.product(Product { b, ..product }),
            Self::Pairs(b) => {
                let Product { a, lda, taps, k, ldb, c, ldc, lines, rows, n, ahead, .. } = product;
                let out = cast_slice_mut(rounded);
                // Rows of whole pairs are one long row; a last value alone needs a zero beside it.
                let row = if k.is_multiple_of(2) && lda.is_multiple_of(2) {
                    let k = (rows.max(1) - 1) * lda + k;
                    level.round(RoundRows { x: a, ldx: k, rows: 1, k, out, row: level.pad(k) });
                    lda
                } else {
                    let row = whole(level, k);
                    level.round(RoundRows { x: a, ldx: lda, rows, k, out, row });
                    row
                };
                let (a, lda, k) = (cast_slice(rounded), row / 2, k.div_ceil(2));
                let lines = Lines { read: lines.width * lda, ..lines };
                level.product(Product { a, lda, taps, k, b, ldb, c, ldc, lines, rows, n, ahead });
            }
        }
    }
}

impl Factor {
    /// Runs a product with this as its `b`, and windows as its `a`.
    pub(crate) fn multiply_windows(
        &self,
        level: Level,
        windows: Windows<'_>,
        product: Product<'_>,
    ) {
        let ((first, count), cp) = (windows.channels, windows.image.cp);
        match self {
            Self::Values(b) => {
                let places = windows.places(cp, first, count, false);
                multiply_at(level, &windows.image.data, b, &places, product);
            }
            Self::Pairs(b) => {
                let places = windows.places(cp.div_ceil(2), first / 2, count.div_ceil(2), false);
                multiply_at(level, windows.pairs, b, &places, product);
            }
        }
    }
}

/// Runs a product with these factors.
fn multiply_at<T: Term>(level: Level, a: &[T], b: &[T], places: &Places, product: Product<'_>) {
    let Product { ldb, c, ldc, lines, rows, n, ahead, .. } = product;
    let (taps, k, lda) = (places.taps(), places.k, places.step);
    let (a, lines) = (&a[places.first..], Lines { read: places.line, ..lines });
    level.product(Product { a, lda, taps, k, b, ldb, c, ldc, lines, rows, n, ahead });
}

impl PairScratch {
    /// Scratch for chunks of this many pixels, of at most `k` values.
    pub(crate) fn new(
        buffers: &Buffers,
        level: Level,
        precision: Precision,
        pixels: usize,
        k: usize,
    ) -> Self {
        let room = match precision {
            Precision::F32 => 0,
            Precision::Bf16 => pixels.div_ceil(2) * whole(level, k) + level.lanes(),
        };
        Self([buffers.buffer(room), buffers.buffer(room)])
    }

    /// Rounds lines of `width` pixels of `n` values to pairs of neighbouring pixels, a last one alone with zeros, and
    /// returns them with their stride.
    pub(crate) fn lines(
        &mut self,
        level: Level,
        x: &[f32],
        width: usize,
        n: usize,
    ) -> (&[Pair], usize) {
        let row = whole(level, n);
        // Lines of whole pairs are one long line.
        let rows = if width.is_multiple_of(2) { x.len() / n.max(1) } else { width };
        let out: &mut [Pair] = cast_slice_mut(&mut self.0[0]);
        let lines = x.chunks(rows * n).zip(out.chunks_mut(rows.div_ceil(2) * row));
        lines.for_each(|(x, out)| {
            level.round(PairRows { x, ldx: n, rows, step: 2, distance: 1, n, out, row });
        });
        (cast_slice(&self.0[0]), row)
    }

    /// Runs an outer product on pairs of neighbouring pixels.
    pub(crate) fn outer_product(&mut self, level: Level, product: OuterProduct<'_>) {
        let OuterProduct { a, lda, d, ldd, w, ldw, add, rows, k, n, .. } = product;
        let mut pair = |x, ldx, n, which: usize| {
            let row = whole(level, n);
            let out = cast_slice_mut(&mut self.0[which]);
            level.round(PairRows { x, ldx, rows, step: 2, distance: 1, n, out, row });
            row
        };
        let (lda, ldd) = (pair(a, lda, k, 0), pair(d, ldd, n, 1));
        let [a, d] = self.0.each_ref().map(|pairs| cast_slice::<f32, Pair>(pairs));
        let rows = rows.div_ceil(2);
        let line = (rows.max(1), 0);
        level.outer_product(OuterProduct { a, lda, line, d, ldd, w, ldw, add, rows, k, n });
    }
}

/// Values padded to whole vectors and to pairs.
fn whole(level: Level, values: usize) -> usize {
    level.pad(values).next_multiple_of(2)
}

/// Gradients of the weights of a block, in the packed layout.
#[derive(Debug)]
pub(crate) struct PackedGrads {
    /// Those of each matrix, one after the other, then `[kernel, kernel, cp]` of a depthwise convolution.
    pub(crate) values: Buffer,
    /// True while they hold nothing.
    pub(crate) fresh: bool,
}

impl PackedGrads {
    /// Starts an image; returns true for the first one, which writes rather than adds.
    pub(crate) fn start(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// Adds others, in order.
    pub(crate) fn add(&mut self, others: &[&Self]) {
        self.values.par_chunks_mut(PART).enumerate().for_each(|(part, to)| {
            for other in others {
                to.iter_mut().zip(&other.values[part * PART..]).for_each(|(to, from)| *to += from);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Ahead, Tap};

    /// Whole numbers from -4 to 4: bf16 can hold them, and `f32` any sum of this few products.
    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7 + i / 5 + seed) % 9) as f32 - 4.0).collect()
    }

    #[test]
    fn products_in_bf16_are_exact_on_small_whole_numbers() {
        let buffers = Buffers::new();
        for level in Level::with_and_without_bf16() {
            for (rows, k, gap, n) in sizes() {
                let (lda, np) = (k + gap, level.pad(n));
                let (a, b) = (numbers(rows * lda, 1), numbers(k * np, 2));
                let factor = Factor::new(level, Precision::Bf16, b.clone(), np);
                let mut scratch =
                    PairScratch::new(&buffers, level, Precision::Bf16, rows, lda.max(np));
                let mut c = vec![7.0; rows * n];
                let (ahead, lines, taps) =
                    (Ahead::default(), Lines { width: rows, read: 0, written: 0 }, &[Tap::ALL][..]);
                let (a, c, b) = (&a[..], &mut c[..], &b[..]);
                let product =
                    Product { a, lda, taps, k, b: &[], ldb: np, c, ldc: n, lines, rows, n, ahead };
                factor.multiply(level, product, &mut scratch);
                for (i, found) in c.iter().enumerate() {
                    let (row, column) = (i / n, i % n);
                    let expected: f32 = (0..k).map(|k| a[row * lda + k] * b[k * np + column]).sum();
                    assert_eq!(*found, expected, "{level}, {rows} x {k} x {n}, {gap}: {i}");
                }
            }
        }
    }

    #[test]
    fn outer_products_in_bf16_are_exact_on_small_whole_numbers() {
        let buffers = Buffers::new();
        for level in Level::with_and_without_bf16() {
            for (rows, k, gap, n) in sizes().filter(|size| size.1 > 0) {
                let (lda, ldd, ldw) = (k + gap, n + gap, level.pad(n));
                let (a, d) = (numbers(rows * lda, 3), numbers(rows * ldd, 4));
                let mut scratch =
                    PairScratch::new(&buffers, level, Precision::Bf16, rows, lda.max(ldd));
                let mut w = vec![1.0; k * ldw];
                let (a, d) = (&a[..], &d[..]);
                let line = (rows, 0);
                let product =
                    OuterProduct { a, lda, line, d, ldd, w: &mut w, ldw, add: true, rows, k, n };
                scratch.outer_product(level, product);
                for (i, found) in w.iter().enumerate().filter(|(i, _)| i % ldw < n) {
                    let (row, column) = (i / ldw, i % ldw);
                    let products = (0..rows).map(|i| a[i * lda + row] * d[i * ldd + column]);
                    let expected = 1.0 + products.sum::<f32>();
                    assert_eq!(*found, expected, "{level}, {rows} x {k} x {n}, {gap}: {i}");
                }
            }
        }
    }

    /// Rows, terms and columns of a product, and the gap between rows; none, odd and even, with and without a half
    /// vector at the end, and larger than a block of tiles.
    fn sizes() -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let with = |rows| [0, 1, 2, 5, 16, 36].map(|k| (rows, k));
        let rows = [1, 2, 3, 7, 8, 13].into_iter().flat_map(with);
        let with = |(rows, k)| {
            [(0, 1), (1, 16), (2, 20), (0, 33), (1, 0)].map(|(gap, n)| (rows, k, gap, n))
        };
        let large = [(70, 80, 8, 100), (67, 74, 0, 32), (600, 40, 0, 16), (48, 144, 4, 48)];
        rows.flat_map(with).chain(large)
    }
}
