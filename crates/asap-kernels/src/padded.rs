//! The scratch image that convolutions read: [`Padded`].

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use crate::buffers::{Buffer, Buffers};
use crate::simd::{Affine, Level, LoadRows, Pair, PairRows, RoundRows, Value};
use crate::stored::Stored;

/// An image with a border of zeros and its channels padded to whole vectors: scratch that many convolutions read.
#[derive(Debug)]
pub(crate) struct Padded {
    pub(crate) data: Buffer,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) pad: usize,
    pub(crate) cp: usize,
}

impl Padded {
    pub(crate) fn new(buffers: &Buffers, h: usize, w: usize, pad: usize, cp: usize) -> Self {
        let data = buffers.buffer((h + 2 * pad) * (w + 2 * pad) * cp);
        let mut image = Self { data, h, w, pad, cp };
        // Only the border: the interior is always written as a whole.
        let (row, side, top) = (image.row(), pad * cp, image.at(0, 0) - pad * cp);
        let bottom = image.data.len() - top;
        image.data[..top].fill(0.0);
        image.data[bottom..].fill(0.0);
        for line in image.data[top..bottom].chunks_exact_mut(row.max(1)) {
            line[..side].fill(0.0);
            line[row - side..].fill(0.0);
        }
        image
    }

    /// Distance between rows.
    pub(crate) fn row(&self) -> usize {
        self.width() * self.cp
    }

    /// Offset of a pixel; those of the border have coordinates below zero or beyond the size.
    pub(crate) fn at(&self, y: isize, x: isize) -> usize {
        self.pixel(y, x) * self.cp
    }

    /// Number of a pixel, including the border.
    pub(crate) fn pixel(&self, y: isize, x: isize) -> usize {
        let (y, x) = (y + self.pad as isize, x + self.pad as isize);
        debug_assert!(y >= 0 && x >= 0, "pixel outside the border");
        y as usize * self.width() + x as usize
    }

    /// Pixels of a row, including the border.
    pub(crate) fn width(&self) -> usize {
        self.w + 2 * self.pad
    }

    /// Words of `f32` for an image of this many values, its pixels of `cp`, in pairs.
    pub(crate) fn pair_words(level: Level, len: usize, cp: usize) -> usize {
        len / cp.max(1) * cp.div_ceil(2) + level.lanes()
    }

    /// Rounds the image, including its border, to pairs of neighbouring channels; the last of an odd number has a zero.
    pub(crate) fn round<'a>(&self, level: Level, words: &'a mut [f32]) -> &'a [Pair] {
        let (x, cp, out) = (&self.data[..], self.cp, cast_slice_mut(&mut *words));
        if cp.is_multiple_of(2) {
            let k = x.len();
            level.round(RoundRows { x, ldx: k, rows: 1, k, out, row: level.pad(k) });
        } else {
            level.round(RoundRows { x, ldx: cp, rows: x.len() / cp, k: cp, out, row: cp + 1 });
        }
        cast_slice(words)
    }

    /// Rounds the image, including its border, to pairs of each pixel with the one `distance` pixels further on.
    pub(crate) fn pair_pixels<'a>(
        &self,
        level: Level,
        distance: usize,
        words: &'a mut [f32],
    ) -> &'a [Pair] {
        let (x, cp, out) = (&self.data[..], self.cp, cast_slice_mut(&mut *words));
        let rows = x.len() / cp;
        level.round(PairRows { x, ldx: cp, rows, step: 1, distance, n: cp, out, row: cp });
        &cast_slice(words)[..x.len()]
    }

    /// The interior from its first pixel on.
    pub(crate) fn interior(&self) -> &[f32] {
        &self.data[self.at(0, 0)..]
    }

    /// Fills the interior with `relu(affine(x))`, `x` dense with `c` channels.
    pub(crate) fn load(
        &mut self,
        level: Level,
        x: Stored<'_>,
        c: usize,
        affine: Option<Affine<'_>>,
        relu: bool,
    ) {
        match x {
            Stored::Values(x) => self.load_values(level, x, c, affine, relu),
            Stored::Rounded(x) => self.load_values(level, x, c, affine, relu),
        }
    }

    fn load_values<T: Value>(
        &mut self,
        level: Level,
        x: &[T],
        c: usize,
        affine: Option<Affine<'_>>,
        relu: bool,
    ) {
        let (first, dst_row, rows, width, cp) =
            (self.at(0, 0), self.row(), self.h, self.w, self.cp);
        level.run(LoadRows {
            x,
            affine,
            relu,
            dst: &mut self.data[first..],
            dst_row,
            rows,
            width,
            c,
            cp,
        });
    }
}
