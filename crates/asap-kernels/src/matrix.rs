//! The weights of a convolution as the kernels read them, and their gradients.

use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::buffers::Buffer;
use crate::simd::{Level, OuterProduct, Pair, PairRows, Product, RoundRows};
use crate::spec::Precision;

/// Values of packed gradients that a task adds.
const PART: usize = 4096;

/// Weights from some of the gathered values to some of the output channels.
#[derive(Debug)]
pub(crate) struct Matrix {
    /// Which of the parameters of the block it is: `[columns, cin, taps]`.
    pub(crate) part: usize,
    /// First gathered value, and how many.
    pub(crate) rows: (usize, usize),
    /// First output channel, and how many.
    pub(crate) columns: (usize, usize),
    /// Both numbers padded to whole vectors.
    pub(crate) kp: usize,
    pub(crate) np: usize,
    /// Where its gradient is in [`PackedGrads`].
    pub(crate) grads: Range<usize>,
    /// `[rows, np]`.
    pub(crate) weights: Factor,
    /// `[columns, kp]`.
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
pub(crate) struct Rounded([Buffer; 2]);

impl Matrix {
    /// Packs parameters `[columns, cin, taps]`.
    pub(crate) fn pack(&mut self, level: Level, precision: Precision, params: &[f32], cin: usize) {
        let (k, n) = (self.rows.1, self.columns.1);
        let (mut weights, mut transposed) = (vec![0.0; k * self.np], vec![0.0; n * self.kp]);
        for row in 0..k {
            let at = row % cin * (k / cin) + row / cin;
            for column in 0..n {
                weights[row * self.np + column] = params[column * k + at];
                transposed[column * self.kp + row] = params[column * k + at];
            }
        }
        self.weights = Factor::new(level, precision, weights, self.np);
        self.transposed = Factor::new(level, precision, transposed, self.kp);
    }

    /// The inverse of [`Matrix::pack`], for gradients.
    pub(crate) fn unpack(&self, packed: &[f32], cin: usize, grads: &mut [f32]) {
        let k = self.rows.1;
        for (row, packed) in packed.chunks_exact(self.np.max(1)).enumerate() {
            let at = row % cin * (k / cin) + row / cin;
            for (column, grad) in packed[..self.columns.1].iter().enumerate() {
                grads[column * k + at] = *grad;
            }
        }
    }
}

impl Factor {
    /// Of rows of stride `row`.
    fn new(level: Level, precision: Precision, values: Vec<f32>, row: usize) -> Self {
        match precision {
            Precision::F32 => Self::Values(values),
            Precision::Bf16 => {
                let rows = values.len() / row.max(1);
                let mut out = vec![0; rows.div_ceil(2) * row];
                level.round(PairRows { x: &values, ldx: row, rows, n: row, out: &mut out, row });
                Self::Pairs(out)
            }
        }
    }

    /// Runs a product whose `b` this is.
    pub(crate) fn multiply(
        &self,
        level: Level,
        product: Product<'_>,
        Rounded([rounded, _]): &mut Rounded,
    ) {
        match self {
            Self::Values(b) => level.product(Product { b, ..product }),
            Self::Pairs(b) => {
                let Product { a, lda, ldb, c, ldc, line, rows, k, n, ahead, .. } = product;
                let out = cast_slice_mut(rounded);
                // Rows of whole pairs are one long row; a last value alone wants a zero beside it.
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
                level.product(Product { a, lda, b, ldb, c, ldc, line, rows, k, n, ahead });
            }
        }
    }
}

impl Rounded {
    /// For chunks of so many pixels, of at most `k` values.
    pub(crate) fn new(level: Level, precision: Precision, pixels: usize, k: usize) -> Self {
        let room = match precision {
            Precision::F32 => 0,
            Precision::Bf16 => pixels.div_ceil(2) * whole(level, k) + level.lanes(),
        };
        Self([Buffer::new(room), Buffer::new(room)])
    }

    /// Runs an outer product on pairs of neighbouring pixels.
    pub(crate) fn outer_product(&mut self, level: Level, product: OuterProduct<'_>) {
        let OuterProduct { a, lda, d, ldd, w, ldw, add, rows, k, n } = product;
        let mut pair = |x, ldx, n, which: usize| {
            let row = whole(level, n);
            let out = cast_slice_mut(&mut self.0[which]);
            level.round(PairRows { x, ldx, rows, n, out, row });
            row
        };
        let (lda, ldd) = (pair(a, lda, k, 0), pair(d, ldd, n, 1));
        let [a, d] = self.0.each_ref().map(|pairs| cast_slice::<f32, Pair>(pairs));
        let rows = rows.div_ceil(2);
        level.outer_product(OuterProduct { a, lda, d, ldd, w, ldw, add, rows, k, n });
    }
}

/// Values padded to whole vectors and to pairs.
fn whole(level: Level, values: usize) -> usize {
    level.pad(values).next_multiple_of(2)
}

/// Gradients of the weights of a block, in the packed layout.
#[derive(Debug)]
pub(crate) struct PackedGrads {
    /// Of each matrix, one after the other, then `[kernel, kernel, cp]` of a depthwise convolution.
    pub(crate) values: Buffer,
    /// Whether they hold nothing yet.
    pub(crate) fresh: bool,
}

impl PackedGrads {
    /// Begins an image; whether it is the first, which writes rather than adds.
    pub(crate) fn start(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// Adds others, in their order.
    pub(crate) fn add(&mut self, others: &[&Self]) {
        self.values.par_chunks_mut(PART).enumerate().for_each(|(part, to)| {
            for other in others {
                to.iter_mut().zip(&other.values[part * PART..]).for_each(|(to, from)| *to += from);
            }
        });
    }
}
