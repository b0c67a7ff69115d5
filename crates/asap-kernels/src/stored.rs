//! Raw results of convolutions, kept for later passes: [`Stored`].

use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use crate::simd::{Bf16, Level, RoundRows};
use crate::spec::Precision;

/// A stored image.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored<'a> {
    Values(&'a [f32]),
    /// Rounded, which halves the memory traffic.
    Rounded(&'a [Bf16]),
}

/// Number of `f32` words that hold `len` values of an image. Rounded ones are written in whole vectors, so there
/// is room for the rest of a last one, of at most 16 lanes.
pub(crate) fn words(precision: Precision, len: usize) -> usize {
    match precision {
        Precision::F32 => len,
        Precision::Bf16 => len / 2 + 8,
    }
}

/// Stores values rounded, from position `first` of `words` on.
pub(crate) fn keep_rounded(level: Level, values: &[f32], words: &mut [f32], first: usize) {
    let (k, row) = (values.len(), level.pad(values.len()));
    let out = &mut cast_slice_mut(words)[first..];
    level.round(RoundRows { x: values, ldx: k, rows: 1, k, out, row });
}

impl<'a> Stored<'a> {
    /// An image from its words.
    pub(crate) fn new(precision: Precision, words: &'a [f32]) -> Self {
        match precision {
            Precision::F32 => Self::Values(words),
            Precision::Bf16 => Self::Rounded(cast_slice(words)),
        }
    }

    /// Some of the values.
    pub(crate) fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::Values(values) => Self::Values(&values[range]),
            Self::Rounded(values) => Self::Rounded(&values[range]),
        }
    }

    /// The words of some of the values of a whole image, as far as they exist.
    pub(crate) fn words(self, range: Range<usize>) -> &'a [f32] {
        let (words, range): (&[f32], _) = match self {
            Self::Values(values) => (values, range),
            Self::Rounded(values) => (cast_slice(values), range.start / 2..range.end.div_ceil(2)),
        };
        let end = range.end.min(words.len());
        &words[range.start.min(end)..end]
    }
}
