//! Random changes to a training image: crop, flip, AutoAugment, random erasing, cutout.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::{DataError, Policy};

/// Attempts to find a rectangle that fits the image, as in the code of Zhong et al.
const ERASE_ATTEMPTS: usize = 100;

/// The pixels around an image before a crop of its size is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Border {
    /// Zeros, as in the DARTS code.
    #[default]
    Black,
    /// The image reflected at its first and last pixels, which do not come twice (PyTorch `ReflectionPad2d`).
    Reflect,
}

impl Border {
    /// The row or column of an image of this size that is seen at `at` of the image with its border; none of a black border.
    fn source(self, at: usize, pad: usize, size: usize) -> Option<usize> {
        match (at.checked_sub(pad), self) {
            (Some(inside), _) if inside < size => Some(inside),
            (_, Self::Black) => None,
            (Some(beyond), Self::Reflect) => Some(2 * (size - 1) - beyond),
            (None, Self::Reflect) => Some(pad - at),
        }
    }
}

/// Random changes made to a training image.
///
/// As in the DARTS code (`_data_transforms_cifar10`), in this order: crop, flip, AutoAugment, erasing, normalization,
/// cutout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Width in pixels of a border, from which a crop of the original size is taken; 0 for no crop.
    pub pad: usize,
    /// Pixels of the border.
    pub border: Border,
    /// Mirror half of the images left to right.
    pub flip: bool,
    /// AutoAugment policy, for images with 1 or 3 channels.
    pub auto: Option<Policy>,
    /// Probability that a random rectangle is filled with random bytes, `0..=1`.
    ///
    /// Random erasing (Zhong et al. 2017, arXiv 1708.04896): 2 to 33 % of the image, height to width 0.3 to 1/0.3. The
    /// paper's default is random bytes rather than the mean; the mean is what `cutout` does.
    pub erase: f64,
    /// Side of the square around a random pixel that is set to the mean, in pixels.
    pub cutout: Option<usize>,
}

impl Augment {
    /// No changes, for validation and test.
    pub const fn none() -> Self {
        Self { pad: 0, border: Border::Black, flip: false, auto: None, erase: 0.0, cutout: None }
    }

    /// Pad 4, flip: the augmentation of a search.
    pub const fn search() -> Self {
        Self { pad: 4, flip: true, ..Self::none() }
    }

    /// Refuses changes that could erase a whole image `[h, w, c]`, or that it does not support.
    pub(crate) fn check(&self, [height, width, channels]: [usize; 3]) -> Result<(), DataError> {
        let side = height.min(width);
        if self.pad >= side {
            let expected = format!("a padding smaller than the image, at most {}", side - 1);
            return Err(DataError::argument("augment.pad", expected, self.pad));
        }
        if let Some(policy) = self.auto.filter(|_| !matches!(channels, 1 | 3)) {
            let expected =
                format!("no policy for images with {channels} channels; policies need 1 or 3");
            return Err(DataError::argument("augment.auto_augment", expected, policy));
        }
        if !(0.0..=1.0).contains(&self.erase) {
            return Err(DataError::argument(
                "augment.random_erasing",
                "a probability from 0 to 1",
                self.erase,
            ));
        }
        match self.cutout {
            Some(cutout) if !(1..=side).contains(&cutout) => {
                let expected = format!(
                    "a square with a side of 1 to {side} pixels; half the image, {}, is usual",
                    side.div_ceil(2)
                );
                Err(DataError::argument("augment.cutout", expected, cutout))
            }
            _ => Ok(()),
        }
    }

    /// The crop at (`down`, `right`), in the size of the image, of the image in its border.
    fn crop(
        &self,
        image: &[u8],
        [height, width, channels]: [usize; 3],
        [down, right]: [usize; 2],
    ) -> Vec<u8> {
        let pad = self.pad;
        if pad == 0 {
            return image.to_vec();
        }
        // First column that is not of the border, in the image and in the crop, and the number of such columns.
        let (from_x, to_x) = (right.saturating_sub(pad), pad.saturating_sub(right));
        let inside = width - from_x - to_x;
        let mut out = vec![0; image.len()];
        for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
            let Some(from) = self.border.source(y + down, pad, height) else { continue };
            let from = &image[from * width * channels..][..width * channels];
            row[to_x * channels..][..inside * channels]
                .copy_from_slice(&from[from_x * channels..][..inside * channels]);
            for x in (0..to_x).chain(to_x + inside..width) {
                let Some(column) = self.border.source(x + right, pad, width) else { continue };
                row[x * channels..][..channels]
                    .copy_from_slice(&from[column * channels..][..channels]);
            }
        }
        out
    }

    /// Draws the changes for one image and writes it, normalized by `tables`, to `out` (both `[h, w, c]`).
    pub(crate) fn apply(
        &self,
        image: &[u8],
        shape @ [height, width, channels]: [usize; 3],
        tables: &[[f32; 256]],
        random: &mut impl Rng,
        out: &mut [f32],
    ) {
        let [down, right] = [(); 2].map(|()| draw(random, 2 * self.pad + 1));
        let mirrored = self.flip && draw(random, 2) == 1;
        let mut image = self.crop(image, shape, [down, right]);
        if mirrored {
            mirror(&mut image, shape);
        }
        if let Some(policy) = self.auto {
            policy.apply(&mut image, shape, random);
        }
        if self.erase > 0.0 && random.random_bool(self.erase) {
            erase(&mut image, shape, random);
        }
        for (pixel, values) in image.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
            for ((byte, value), table) in pixel.iter().zip(values).zip(tables) {
                *value = table[usize::from(*byte)];
            }
        }
        if let Some(side) = self.cutout {
            let rows = span(draw(random, height), side, height);
            let columns = span(draw(random, width), side, width);
            for y in rows {
                out[(y * width + columns.start) * channels..(y * width + columns.end) * channels]
                    .fill(0.0);
            }
        }
    }
}

fn draw(random: &mut impl Rng, limit: usize) -> usize {
    if limit > 1 { random.random_range(0..limit) } else { 0 }
}

/// Mirrors left to right.
fn mirror(image: &mut [u8], [_, width, channels]: [usize; 3]) {
    for row in image.chunks_exact_mut(width * channels) {
        for x in 0..width / 2 {
            let (left, right) = row.split_at_mut((width - 1 - x) * channels);
            left[x * channels..][..channels].swap_with_slice(&mut right[..channels]);
        }
    }
}

/// Fills a random rectangle with random bytes; does nothing if none fits, as in an image of a few pixels.
fn erase(image: &mut [u8], [height, width, channels]: [usize; 3], random: &mut impl Rng) {
    for _ in 0..ERASE_ATTEMPTS {
        let area = random.random_range(0.02..0.33) * (height * width) as f64;
        let aspect: f64 = random.random_range(0.3..1.0 / 0.3);
        let [tall, wide] = [area * aspect, area / aspect].map(|side| side.sqrt().round() as usize);
        if (1..height).contains(&tall) && (1..width).contains(&wide) {
            let (top, left) = (draw(random, height - tall + 1), draw(random, width - wide + 1));
            for row in image.chunks_exact_mut(width * channels).skip(top).take(tall) {
                random.fill_bytes(&mut row[left * channels..(left + wide) * channels]);
            }
            return;
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
        crop_of(&padded, down, right, mirrored)
    }

    /// Cuts an image of the usual size out of a larger one.
    fn crop_of(padded: &[Vec<Vec<u8>>], down: usize, right: usize, mirrored: bool) -> Vec<f32> {
        let [h, w, _] = SHAPE;
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
        let counts = count(Augment { pad: 1, flip: true, ..Augment::none() }, &expected);
        assert!(counts.iter().all(|n| (110..230).contains(n)), "3000 runs, 18 results: {counts:?}");
        let counts = count(
            Augment { flip: true, ..Augment::none() },
            &[naive_crop(0, 0, 0, false), naive_crop(0, 0, 0, true)],
        );
        assert!(counts.iter().all(|n| (1350..1650).contains(n)), "{counts:?}");
    }

    /// The reflected rows and columns are written out; Python: `numpy.pad(image, 2, mode="reflect")`.
    #[test]
    fn a_border_can_reflect_the_image() {
        let pixels: Vec<Vec<u8>> = image().chunks(2).map(<[u8]>::to_vec).collect();
        let rows = [2usize, 1, 0, 1, 2, 1, 0];
        let columns = [2usize, 1, 0, 1, 2, 3, 2, 1];
        let row = |y: &usize| columns.iter().map(|x| pixels[y * 4 + x].clone()).collect();
        let padded: Vec<Vec<Vec<u8>>> = rows.iter().map(row).collect();
        // The crops at the top and at the bottom are the same, with so few rows.
        let places = (0..=3).flat_map(|down| (0..=4).map(move |right| (down, right)));
        let expected: Vec<_> =
            places.map(|(down, right)| crop_of(&padded, down, right, false)).collect();
        let augment = Augment { pad: 2, border: Border::Reflect, ..Augment::none() };
        let counts = count(augment, &expected);
        assert!(counts[..5].iter().all(|n| (180..300).contains(n)), "{counts:?}");
        assert!(counts[5..].iter().all(|n| (80..165).contains(n)), "{counts:?}");
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
            let counts = count(Augment { cutout: Some(side), ..Augment::none() }, &expected);
            assert_eq!(counts.iter().sum::<usize>(), 3000);
            if side == 1 {
                assert!(
                    counts.iter().all(|n| (190..310).contains(n)),
                    "3000 runs, 12 results: {counts:?}"
                );
            }
        }
    }

    /// AutoAugment changes the cropped and mirrored bytes, and cutout what comes out of it.
    #[test]
    fn auto_augment_stands_between_flip_and_cutout() {
        let shape = [8, 9, 3];
        let image: Vec<u8> = (0..216u8).map(|i| i.wrapping_mul(37)).collect();
        let augment =
            Augment { pad: 2, flip: true, auto: Some(Policy::Cifar10), ..Augment::none() };
        let tables = vec![std::array::from_fn(|v| v as f32 + 1.0); 3];
        let mut changed = 0;
        for seed in 0..200 {
            let run = |augment: Augment| {
                let mut out = vec![f32::NAN; 216];
                let mut random = generator(seed, Stream::Augment, 0, 0);
                augment.apply(&image, shape, &tables, &mut random, &mut out);
                (out, random)
            };
            let (plain, mut random) = run(Augment { auto: None, ..augment });
            let mut bytes: Vec<u8> = plain.iter().map(|v| (*v - 1.0) as u8).collect();
            Policy::Cifar10.apply(&mut bytes, shape, &mut random);
            let expected: Vec<f32> = bytes.iter().map(|&b| f32::from(b) + 1.0).collect();
            let (found, _) = run(augment);
            assert_eq!(found, expected);
            changed += usize::from(found != plain);
            let (cut, _) = run(Augment { cutout: Some(3), ..augment });
            assert!(cut.iter().zip(&found).all(|(cut, found)| *cut == 0.0 || cut == found));
            assert!((4 * 3..=9 * 3).contains(&cut.iter().filter(|v| **v == 0.0).count()));
        }
        assert!(changed > 100, "{changed} of 200");
    }

    #[test]
    fn erasing_fills_rectangles_of_the_right_size() {
        let shape @ [height, width, _] = [40, 60, 1];
        let tables = [std::array::from_fn(|v| v as f32)];
        let augment = Augment { erase: 0.25, ..Augment::none() };
        let (mut erased, mut areas, mut values) = (0, Vec::new(), BTreeMap::new());
        for seed in 0..4000 {
            let mut out = vec![f32::NAN; height * width];
            let mut random = generator(seed, Stream::Augment, 0, 0);
            augment.apply(&vec![7; height * width], shape, &tables, &mut random, &mut out);
            let changed: Vec<usize> = (0..out.len()).filter(|&i| out[i] != 7.0).collect();
            if changed.is_empty() {
                continue;
            }
            erased += 1;
            for &i in &changed {
                *values.entry(out[i] as u8).or_insert(0) += 1;
            }
            // A random byte may be 7 too, so the sides are the extremes.
            let side = |of: fn(usize) -> usize| {
                let ends = changed.iter().map(|&i| of(i));
                ends.clone().max().unwrap() - ends.min().unwrap() + 1
            };
            let (tall, wide) = (side(|i| i / 60), side(|i| i % 60));
            assert!(changed.len() * 10 > tall * wide * 9, "a full rectangle");
            let (area, aspect) = ((tall * wide) as f64 / 2400.0, tall as f64 / wide as f64);
            assert!((0.015..0.35).contains(&area), "{tall}x{wide}");
            assert!((0.25..3.9).contains(&aspect), "{tall}x{wide}");
            areas.push(area);
        }
        assert!((860..1140).contains(&erased), "4000 runs at 0.25: {erased}");
        let mean = areas.iter().sum::<f64>() / areas.len() as f64;
        assert!(
            (0.15..0.19).contains(&mean),
            "uniform from 0.02 to 0.33, the largest do not always fit: {mean}"
        );
        assert_eq!(values.len(), 255, "all bytes but the 7 that is not seen");
        let mut tiny = [f32::NAN];
        let always = Augment { erase: 1.0, ..Augment::none() };
        always.apply(&[9], [1, 1, 1], &tables, &mut generator(0, Stream::Augment, 0, 0), &mut tiny);
        assert_eq!(tiny, [9.0]);
    }

    /// The promise that a seed gives the same bytes in later versions and on other machines, too.
    #[test]
    fn golden_bytes() {
        let shape = [12, 9, 3];
        let image: Vec<u8> = (0..324u16).map(|i| (i * 7 % 251) as u8).collect();
        let tables = vec![std::array::from_fn(|v| v as f32 + 1.0); 3];
        let sums = [Policy::Cifar10, Policy::Svhn, Policy::ImageNet].map(|policy| {
            let auto = Some(policy);
            let augment = Augment {
                pad: 2,
                flip: true,
                auto,
                erase: 0.5,
                cutout: Some(3),
                ..Augment::none()
            };
            let mut crc = flate2::Crc::new();
            for seed in 0..100 {
                let mut out = [f32::NAN; 324];
                let mut random = generator(seed, Stream::Augment, 3, 5);
                augment.apply(&image, shape, &tables, &mut random, &mut out);
                crc.update(&out.map(|v| (v - 1.0) as u8));
            }
            crc.sum()
        });
        assert_eq!(sums, [0x5e59_f13e, 0x461c_5639, 0x841f_1077]);
    }

    #[test]
    fn refuses_to_wipe_out_images() {
        let refuse = |augment: Augment| augment.check([4, 6, 2]).unwrap_err().to_string();
        let refusal = |pad, cutout| refuse(Augment { pad, cutout, ..Augment::none() });
        assert!(refusal(4, None).contains("smaller than the image, at most 3, found 4"));
        assert!(
            refusal(0, Some(5)).contains("1 to 4 pixels; half the image, 2, is usual, found 5")
        );
        assert!(refusal(0, Some(0)).contains("augment.cutout"));
        let text = refuse(Augment { auto: Some(Policy::Svhn), ..Augment::none() });
        assert!(
            text.contains("images with 2 channels; policies need 1 or 3, found svhn"),
            "{text}"
        );
        for erase in [-0.1, 1.1, f64::NAN] {
            let text = refuse(Augment { erase, ..Augment::none() });
            assert!(text.contains("augment.random_erasing: expected a probability"), "{text}");
        }
        assert!(Augment::search().check([5, 5, 1]).is_ok());
        assert!(Augment::none().check([1, 1, 1]).is_ok());
    }
}
