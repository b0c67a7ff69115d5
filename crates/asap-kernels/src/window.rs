//! Windows of a padded image, which a full convolution multiplies in place.

use crate::padded::Padded;
use crate::simd::{Pair, Tap};

/// Largest number of taps of a full convolution.
const MOST: usize = 9;

/// The taps of a full convolution, each (down, right) of its pixel, in the order of rows and columns.
#[derive(Debug)]
pub(crate) struct Taps {
    pub(crate) all: Vec<(isize, isize)>,
    /// Number of taps side by side: all taps are runs of this length.
    run: usize,
}

/// Lines of windows of a padded image.
#[derive(Clone, Copy)]
pub(crate) struct Windows<'a> {
    pub(crate) image: &'a Padded,
    /// The image in pairs, if pairs are multiplied: see [`Padded::round`].
    pub(crate) pairs: &'a [Pair],
    pub(crate) taps: &'a Taps,
    /// The pixel of the first window.
    pub(crate) first: (isize, isize),
    /// Pixels from one window to the next, down and right.
    pub(crate) stride: (usize, usize),
    /// First channel, and their number.
    pub(crate) channels: (usize, usize),
}

/// The positions of the terms of windows in an image.
pub(crate) struct Places {
    /// The first tap of the first window.
    pub(crate) first: usize,
    taps: [Tap; MOST],
    count: usize,
    /// Terms of a tap, or of taps that lie side by side.
    pub(crate) k: usize,
    /// Distance from a window to the next in its line.
    pub(crate) step: usize,
    /// Distance from a line of windows to the next.
    pub(crate) line: usize,
}

impl Taps {
    /// Sorts the taps.
    pub(crate) fn new(mut all: Vec<(isize, isize)>) -> Self {
        all.sort_unstable();
        let is_run = |taps: &[(isize, isize)]| {
            taps.windows(2).all(|pair| pair[1] == (pair[0].0, pair[0].1 + 1))
        };
        let fits = |run: &usize| all.len().is_multiple_of(*run) && all.chunks(*run).all(is_run);
        let run = (1..=all.len()).rev().find(fits).unwrap_or(1);
        Self { all, run }
    }
}

impl Windows<'_> {
    /// The terms if pixels are `pitch` apart: `k` from term `channel` on at each tap.
    ///
    /// Whole pixels side by side are as good as one tap, and are treated as one if `joined`, at the price of the border
    /// left and right.
    pub(crate) fn places(&self, pitch: usize, channel: usize, k: usize, joined: bool) -> Places {
        let (image, (y, x)) = (self.image, self.first);
        let at = |(down, right): (isize, isize)| image.pixel(y + down, x + right);
        let run = if joined && k == pitch { self.taps.run } else { 1 };
        let first = self.taps.all.first().map_or(0, |tap| at(*tap));
        let (mut taps, mut count) = ([Tap::default(); MOST], 0);
        for (place, tap) in taps.iter_mut().zip(self.taps.all.iter().step_by(run)) {
            *place = Tap {
                at: (at(*tap) - first) * pitch,
                lines: inside(self.first.0 + tap.0, self.stride.0, image.h),
                columns: match run {
                    1 => inside(self.first.1 + tap.1, self.stride.1, image.w),
                    _ => Tap::ALL.columns,
                },
            };
            count += 1;
        }
        let (down, right) = self.stride;
        let (step, line) = (right * pitch, down * image.width() * pitch);
        Places { first: first * pitch + channel, taps, count, k: k * run, step, line }
    }
}

/// The windows whose tap is in the image, if that of the first is at `first` and there are `size` positions.
fn inside(first: isize, stride: usize, size: usize) -> (usize, usize) {
    let window = |place: isize| (place - first).max(0).cast_unsigned().div_ceil(stride);
    (window(0), window(size as isize))
}

impl Places {
    /// From the first tap of a window on.
    pub(crate) fn taps(&self) -> &[Tap] {
        &self.taps[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Buffers;

    #[test]
    fn taps_side_by_side_are_one_where_pixels_have_no_padding() {
        let taps = Taps::new((0..9).map(|i| (i / 3 - 1, i % 3 - 1)).collect());
        let image = Padded::new(&Buffers::new(), 4, 5, 1, 8);
        let windows = Windows {
            image: &image,
            pairs: &[],
            taps: &taps,
            first: (2, 0),
            stride: (2, 2),
            channels: (0, 8),
        };
        let whole = windows.places(8, 0, 8, true);
        let at = |places: &Places| places.taps().iter().map(|tap| tap.at).collect::<Vec<_>>();
        assert_eq!((whole.first, whole.k, at(&whole)), (2 * 7 * 8, 24, vec![0, 56, 112]));
        // Of rows 2, 4, 6 of four, those with a row above, with themselves and with a row below.
        let lines = whole.taps().iter().map(|tap| tap.lines);
        assert_eq!(lines.collect::<Vec<_>>(), [(0, 2), (0, 1), (0, 1)]);
        assert_eq!((whole.step, whole.line), (16, 2 * 7 * 8));
        let part = windows.places(8, 1, 7, true);
        assert_eq!((part.first, part.k, part.taps().len()), (2 * 7 * 8 + 1, 7, 9));
        assert_eq!(at(&part)[..4], [0, 8, 16, 56]);
        // Of columns 0, 2, 4 of five, those with a column to the left, with themselves and with a column to the right.
        let apart = windows.places(8, 0, 8, false);
        let columns = apart.taps()[..3].iter().map(|tap| tap.columns);
        assert_eq!(columns.collect::<Vec<_>>(), [(1, 3), (0, 3), (0, 2)]);
    }

    #[test]
    fn runs_are_as_long_as_all_taps_allow() {
        let run = |taps: &[(isize, isize)]| Taps::new(taps.to_vec()).run;
        assert_eq!(run(&[(0, -1), (0, 0), (0, 1)]), 3);
        assert_eq!(run(&[(-1, 0), (0, 0), (1, 0)]), 1);
        assert_eq!(run(&[(0, 1), (1, 1), (0, 0), (1, 0)]), 2);
        assert_eq!(run(&[(0, 0), (0, 1), (1, 0)]), 1);
        assert_eq!(run(&[]), 1);
    }
}
