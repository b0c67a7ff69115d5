//! Raw results of convolutions as they are kept for later passes: [`Stored`].

use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use crate::simd::{Level, RoundRows, Widen};
use crate::spec::Precision;

/// An image as it is kept: words of a buffer that are values, or pairs of values rounded to bf16, which halves what
/// goes to memory and back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) words: &'a [f32],
    pub(crate) precision: Precision,
}

/// Words that hold `len` values of an image. Rounded ones are written in whole vectors, wherever they begin.
pub(crate) fn words(precision: Precision, len: usize) -> usize {
    match precision {
        Precision::F32 => len,
        Precision::Bf16 => len / 2 + 8,
    }
}

/// See [`Stored::scratch`].
pub(crate) fn scratch(precision: Precision, len: usize) -> usize {
    match precision {
        Precision::F32 => 0,
        Precision::Bf16 => len,
    }
}

/// Keeps values as number `first` and following of `words`, rounded to bf16.
pub(crate) fn keep_rounded(level: Level, values: &[f32], words: &mut [f32], first: usize) {
    let (k, row) = (values.len(), level.pad(values.len()));
    let out = &mut cast_slice_mut(words)[first..];
    level.round(RoundRows { x: values, ldx: k, rows: 1, k, out, row });
}

impl<'a> Stored<'a> {
    /// Values as they are.
    pub(crate) fn values(words: &'a [f32]) -> Self {
        Self { words, precision: Precision::F32 }
    }

    /// Some of the values, in `scratch` if they were rounded.
    pub(crate) fn get<'b>(
        self,
        level: Level,
        range: Range<usize>,
        scratch: &'b mut [f32],
    ) -> &'b [f32]
    where
        'a: 'b,
    {
        match self.precision {
            Precision::F32 => &self.words[range],
            Precision::Bf16 => {
                let out = &mut scratch[..range.len()];
                let halves = &cast_slice(self.words)[range];
                level.run(Widen { halves, out });
                out
            }
        }
    }

    /// The words of some of the values, as far as they exist.
    pub(crate) fn words_of(self, range: Range<usize>) -> &'a [f32] {
        let range = match self.precision {
            Precision::F32 => range,
            Precision::Bf16 => range.start / 2..range.end.div_ceil(2),
        };
        let end = range.end.min(self.words.len());
        &self.words[range.start.min(end)..end]
    }

    /// Scratch that [`Stored::get`] needs for `len` values.
    pub(crate) fn scratch(self, len: usize) -> usize {
        scratch(self.precision, len)
    }
}
