//! The weights of a convolution as the kernels read them, and their gradients.

use std::ops::Range;

use rayon::prelude::*;

use crate::buffers::Buffer;

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
    pub(crate) weights: Vec<f32>,
    /// `[columns, kp]`.
    pub(crate) transposed: Vec<f32>,
}

impl Matrix {
    /// Packs parameters `[columns, cin, taps]`.
    pub(crate) fn pack(&mut self, params: &[f32], cin: usize) {
        let k = self.rows.1;
        for row in 0..k {
            let at = row % cin * (k / cin) + row / cin;
            for column in 0..self.columns.1 {
                self.weights[row * self.np + column] = params[column * k + at];
                self.transposed[column * self.kp + row] = params[column * k + at];
            }
        }
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
