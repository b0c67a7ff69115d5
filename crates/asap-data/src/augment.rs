//! Random changes of a training image: shifted crop, mirror image, cutout.

use rand::{Rng, RngExt};

use crate::DataError;

/// Which random changes are made to a training image.
///
/// As in the DARTS code (`_data_transforms_cifar10`), in this order: crop, flip, normalisation, cutout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augment {
    /// Pixels of black border on every side, out of which a crop of the original size is taken; 0 for no crop.
    pub pad: usize,
    /// Whether half of the images are mirrored left to right.
    pub flip: bool,
    /// Side of the square around a random pixel that is set to the mean, in pixels.
    pub cutout: Option<usize>,
}

impl Augment {
    /// No change, for validation and test.
    pub const fn none() -> Self {
        Self { pad: 0, flip: false, cutout: None }
    }

    /// Pad 4, flip: the augmentation of a search.
    pub const fn search() -> Self {
        Self { pad: 4, flip: true, cutout: None }
    }

    /// Refuses changes that could wipe out the whole image.
    pub(crate) fn check(&self, height: usize, width: usize) -> Result<(), DataError> {
        let side = height.min(width);
        if self.pad >= side {
            let expected = format!("a padding below the image side, at most {} here", side - 1);
            return Err(DataError::argument("augment.pad", expected, self.pad));
        }
        match self.cutout {
            Some(cutout) if !(1..=side).contains(&cutout) => {
                let expected = format!(
                    "a square of 1 to {side} pixels; half the side, {}, is usual",
                    side.div_ceil(2)
                );
                Err(DataError::argument("augment.cutout", expected, cutout))
            }
            _ => Ok(()),
        }
    }

    /// Draws the changes for one image and writes it, normalised by `tables`, to `out` (both `[h, w, c]`).
    pub(crate) fn apply(
        &self,
        image: &[u8],
        [height, width, channels]: [usize; 3],
        tables: &[[f32; 256]],
        random: &mut impl Rng,
        out: &mut [f32],
    ) {
        let mut draw = |limit: usize| if limit > 1 { random.random_range(0..limit) } else { 0 };
        let (down, right) = (draw(2 * self.pad + 1), draw(2 * self.pad + 1));
        let mirrored = self.flip && draw(2) == 1;
        // Of a row or column, the source inside the image; `None` in the border.
        let source = |at: usize, shift: usize, size: usize| {
            (at + shift).checked_sub(self.pad).filter(|&s| s < size)
        };
        for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
            let from_y = source(y, down, height);
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let from_x = source(if mirrored { width - 1 - x } else { x }, right, width);
                let from = from_y.zip(from_x).map(|(y, x)| (y * width + x) * channels);
                for (c, value) in pixel.iter_mut().enumerate() {
                    let byte = from.map_or(0, |start| image[start + c]);
                    *value = tables[c][usize::from(byte)];
                }
            }
        }
        if let Some(side) = self.cutout {
            let (rows, columns) =
                (span(draw(height), side, height), span(draw(width), side, width));
            for y in rows {
                out[(y * width + columns.start) * channels..(y * width + columns.end) * channels]
                    .fill(0.0);
            }
        }
    }
}

/// The part inside `0..size` of `side` pixels around `centre`.
fn span(centre: usize, side: usize, size: usize) -> std::ops::Range<usize> {
    centre.saturating_sub(side / 2)..(centre + side - side / 2).min(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, generator};
    use std::collections::BTreeMap;

    const SHAPE: [usize; 3] = [3, 4, 2];

    /// Normalisation as the tests read it: the byte itself, shifted so that 0 is no possible value.
    fn tables() -> Vec<[f32; 256]> {
        vec![std::array::from_fn(|v| v as f32 + 1.0); 2]
    }

    fn image() -> Vec<u8> {
        (1..=24).collect()
    }

    fn run(augment: Augment, seed: u64) -> Vec<f32> {
        let mut out = vec![f32::NAN; 24];
        augment.apply(
            &image(),
            SHAPE,
            &tables(),
            &mut generator(seed, Stream::Augment, 0, 0),
            &mut out,
        );
        out
    }

    /// How often each of the `expected` results comes in many runs; any other result fails.
    fn count(augment: Augment, expected: &[Vec<f32>]) -> Vec<usize> {
        let position = |out| expected.iter().position(|e| *e == out).expect("a possible result");
        let counts = (0..3000).map(|seed| position(run(augment, seed))).fold(
            BTreeMap::new(),
            |mut counts, at| {
                *counts.entry(at).or_insert(0) += 1;
                counts
            },
        );
        (0..expected.len()).map(|i| counts.get(&i).copied().unwrap_or(0)).collect()
    }

    /// Pads, crops and mirrors by copying into a larger image.
    fn naive_crop(pad: usize, down: usize, right: usize, mirrored: bool) -> Vec<f32> {
        let [h, w, c] = SHAPE;
        let mut padded = vec![vec![vec![0u8; c]; w + 2 * pad]; h + 2 * pad];
        for (i, pixel) in image().chunks(c).enumerate() {
            padded[pad + i / w][pad + i % w] = pixel.to_vec();
        }
        let rows = padded[down..down + h].iter().map(|row| {
            let mut row = row[right..right + w].to_vec();
            if mirrored {
                row.reverse();
            }
            row.concat()
        });
        rows.collect::<Vec<_>>().concat().into_iter().map(|byte| f32::from(byte) + 1.0).collect()
    }

    #[test]
    fn none_only_normalises() {
        assert_eq!(
            run(Augment::none(), 0),
            image().iter().map(|&b| f32::from(b) + 1.0).collect::<Vec<_>>()
        );
    }

    #[test]
    fn crops_and_mirrors_come_equally_often() {
        let mut expected = Vec::new();
        for down in 0..=2 {
            for right in 0..=2 {
                expected.extend([false, true].map(|mirrored| naive_crop(1, down, right, mirrored)));
            }
        }
        let counts = count(Augment { pad: 1, flip: true, cutout: None }, &expected);
        assert!(counts.iter().all(|n| (110..230).contains(n)), "3000 runs, 18 results: {counts:?}");
        let counts = count(
            Augment { pad: 0, flip: true, cutout: None },
            &[naive_crop(0, 0, 0, false), naive_crop(0, 0, 0, true)],
        );
        assert!(counts.iter().all(|n| (1350..1650).contains(n)), "{counts:?}");
    }

    #[test]
    fn cutout_is_a_square_around_any_pixel() {
        for side in 1..=3usize {
            let mut expected = Vec::new();
            for (centre_y, centre_x) in (0..3i64).flat_map(|y| (0..4i64).map(move |x| (y, x))) {
                let inside = |at: i64, centre: i64| {
                    let start = centre - side as i64 / 2;
                    (start..start + side as i64).contains(&at)
                };
                let mut out = run(Augment::none(), 0);
                for (i, value) in out.iter_mut().enumerate() {
                    let (y, x) = (i as i64 / 8, i as i64 / 2 % 4);
                    if inside(y, centre_y) && inside(x, centre_x) {
                        *value = 0.0;
                    }
                }
                expected.push(out);
            }
            let counts = count(Augment { pad: 0, flip: false, cutout: Some(side) }, &expected);
            assert_eq!(counts.iter().sum::<usize>(), 3000);
            if side == 1 {
                assert!(
                    counts.iter().all(|n| (190..310).contains(n)),
                    "3000 runs, 12 results: {counts:?}"
                );
            }
        }
    }

    #[test]
    fn refuses_to_wipe_out_images() {
        let refusal =
            |pad, cutout| Augment { pad, flip: false, cutout }.check(4, 6).unwrap_err().to_string();
        assert!(refusal(4, None).contains("at most 3 here, found 4"));
        assert!(refusal(0, Some(5)).contains("1 to 4 pixels; half the side, 2, is usual, found 5"));
        assert!(refusal(0, Some(0)).contains("augment.cutout"));
        assert!(Augment::search().check(5, 5).is_ok());
        assert!(Augment::none().check(1, 1).is_ok());
    }
}
