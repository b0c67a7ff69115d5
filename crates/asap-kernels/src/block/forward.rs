//! Forward: the result of a convolution, a few rows at a time.

use rayon::prelude::*;

use super::conv::{Conv, Scratch, Source};
use crate::matrix::{Matrix, PairScratch};
use crate::simd::{Ahead, Lines, Moments, Pair, Product, Tap};
use crate::spec::Precision;
use crate::stored::{keep_rounded, words};

impl Conv {
    /// The result for an image, dense (or rounded, in the words of [`Stored`](crate::stored::Stored)), and its moments
    /// (mean and sum of squared deviations), separate for each of [`Conv::group`] pixels. The values to be read next,
    /// `ahead`, come to the cache meanwhile.
    pub(crate) fn forward(
        &self,
        source: Source<'_>,
        scratch: &mut Scratch,
        y: &mut [f32],
        mut moments: Option<(&mut [f32], &mut [f32])>,
        ahead: [&[f32]; 2],
    ) {
        let (cout, precision) = (self.block.cout, self.precision);
        let Scratch { gathered, y: chunk, rounded, pairs, .. } = scratch;
        let pairs = match (source, precision) {
            (Source::Image(image), Precision::Bf16) if self.has_windows() => {
                image.round(self.level, pairs)
            }
            _ => &[],
        };
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
            self.rows_of(source, pairs, row, rows, gathered, result, rounded, ahead);
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

    /// The result for an image whose rows are distributed over `tasks` threads or more.
    pub(crate) fn infer(&self, source: Source<'_>, y: &mut [f32], tasks: usize) {
        let rows = self.rows().min(self.oh.div_ceil(tasks));
        let gathered = if self.has_windows() { 0 } else { rows };
        let room = gathered * self.ow * self.kp;
        let scratch = || (self.buffers.buffer(room), self.pair_scratch(gathered));
        let chunks = y.par_chunks_mut(rows * self.ow * self.block.cout).enumerate();
        chunks.for_each_init(scratch, |(gathered, rounded), (chunk, y)| {
            let row = chunk * rows;
            let rows = rows.min(self.oh - row);
            self.rows_of(source, &[], row, rows, gathered, y, rounded, Ahead::default());
        });
    }

    /// `rows` rows of the result from row `row` on.
    #[allow(clippy::too_many_arguments)]
    fn rows_of(
        &self,
        source: Source<'_>,
        pairs: &[Pair],
        row: usize,
        rows: usize,
        gathered: &mut [f32],
        y: &mut [f32],
        rounded: &mut PairScratch,
        mut ahead: Ahead<'_>,
    ) {
        if !self.has_windows() {
            self.gather(source, row, rows, gathered);
        }
        for Matrix { taps, rows: (first, k), columns: (channel, n), np, weights, .. } in
            &self.matrices
        {
            let product = Product {
                a: gathered.get(*first..).unwrap_or_default(),
                lda: self.kp,
                taps: &[Tap::ALL],
                k: *k,
                b: &[],
                ldb: *np,
                c: &mut y[*channel..],
                ldc: self.block.cout,
                lines: Lines {
                    written: self.ow * self.block.cout,
                    read: self.ow * self.kp,
                    width: self.ow,
                },
                rows: rows * self.ow,
                n: *n,
                ahead: std::mem::take(&mut ahead),
            };
            match (source, taps) {
                (Source::Image(image), Some(taps)) => {
                    let windows = self.windows(taps, image, pairs, row);
                    weights.multiply_windows(self.level, windows, product);
                }
                _ => weights.multiply(self.level, product, rounded),
            }
        }
    }
}
