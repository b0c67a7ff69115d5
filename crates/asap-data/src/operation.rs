//! The operations of AutoAugment on the bytes of one image, byte for byte those of Pillow.

use std::fmt;

/// The value of pixels from outside the image: mid-grey, as in the paper's code for ImageNet.
const FILL: u8 = 128;

/// Cosine and sine of level * 30/9 degrees; literals, because maths libraries differ between machines.
const ROTATIONS: [(f64, f64); 10] = [
    (1.0, 0.0),
    (0.998308158271268, 0.058144828910476),
    (0.993238357741943, 0.116092914125230),
    (0.984807753012208, 0.173648177666930),
    (0.973044870579824, 0.230615870742440),
    (0.957989512315489, 0.286803232711014),
    (0.939692620785908, 0.342020143325669),
    (0.918216106880274, 0.396079766039157),
    (0.893632640323412, 0.448799180200462),
    (0.866025403784439, 0.5),
];

/// One of the 14 operations that the published policies use, of the 16 in Table 6 of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

impl Operation {
    /// Changes an image `[h, w, c]` with 1 or 3 channels by a level from 0 to 9, the other way round if `negative`.
    ///
    /// The levels span the ranges of torchvision's `AutoAugment`: shear to 0.3, translation to 150/331 of the side,
    /// rotation to 30 degrees, factors from 0.1 to 1.9, 8 to 4 bits, thresholds from 255 to 0.
    pub(crate) fn apply(self, level: u8, negative: bool, image: &mut [u8], shape: [usize; 3]) {
        let [height, width, channels] = shape;
        let signed = if negative { -f64::from(level) } else { f64::from(level) };
        let factor = (10.0 + signed) as f32 / 10.0;
        let pixels = |side: usize| {
            let pixels = (150 * side * usize::from(level) / (331 * 9)) as f64;
            pixels.copysign(signed)
        };
        match self {
            Self::ShearX => affine(image, shape, [1.0, signed / 30.0, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY => affine(image, shape, [1.0, 0.0, 0.0, signed / 30.0, 1.0, 0.0]),
            Self::TranslateX => affine(image, shape, [1.0, 0.0, pixels(width), 0.0, 1.0, 0.0]),
            Self::TranslateY => affine(image, shape, [1.0, 0.0, 0.0, 0.0, 1.0, pixels(height)]),
            Self::Rotate => {
                let (cos, sin) = ROTATIONS[usize::from(level)];
                let sin = -sin.copysign(signed);
                let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
                let (right, down) = (-x * cos - y * sin + x, x * sin - y * cos + y);
                affine(image, shape, [cos, sin, right, -sin, cos, down]);
            }
            Self::Brightness => map(image, 1, |_, _| table(|v| blend(0, v, factor))),
            Self::Color => saturate(image, channels, factor),
            Self::Contrast => {
                let mean = mean(image, channels);
                map(image, 1, |_, _| table(|v| blend(mean, v, factor)));
            }
            Self::Sharpness => sharpen(image, shape, factor),
            Self::Posterize => {
                let dropped = (8 * u32::from(level) + 9) / 18; // level * 4/9, rounded
                map(image, 1, |_, _| table(|v| v >> dropped << dropped));
            }
            Self::Solarize => {
                let threshold = 255 * (9 - u32::from(level)); // in ninths
                map(image, 1, |_, _| table(|v| if 9 * u32::from(v) < threshold { v } else { !v }));
            }
            Self::AutoContrast => map(image, channels, stretch),
            Self::Equalize => map(image, channels, equalize),
            Self::Invert => image.iter_mut().for_each(|v| *v = !*v),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Luma of a colour: ITU-R 601 in 16-bit fixed point.
pub(crate) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

/// Takes the pixel for (x, y) from (ax + by + c, dx + ey + f), the nearest one, in 16.16 fixed point.
fn affine(image: &mut [u8], [height, width, channels]: [usize; 3], matrix: [f64; 6]) {
    let fixed = |value: f64| (value * 65_536.0 + 0.5).floor() as i64;
    let [a, b, c, d, e, f] = matrix;
    // Coordinates are those of pixel centres.
    let (right, down) = (fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5));
    let [a, b, d, e] = [a, b, d, e].map(fixed);
    let source = image.to_vec();
    for (y, row) in (0..).zip(image.chunks_exact_mut(width * channels)) {
        for (x, pixel) in (0..).zip(row.chunks_exact_mut(channels)) {
            let from_x = usize::try_from((right + a * x + b * y) >> 16).ok();
            let from_y = usize::try_from((down + d * x + e * y) >> 16).ok();
            match (from_x.filter(|&x| x < width), from_y.filter(|&y| y < height)) {
                (Some(x), Some(y)) => {
                    pixel.copy_from_slice(&source[(y * width + x) * channels..][..channels]);
                }
                _ => pixel.fill(FILL),
            }
        }
    }
}

/// Interpolates from `from` at factor 0 to `to` at factor 1, and beyond.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

fn table(value: impl Fn(u8) -> u8) -> [u8; 256] {
    std::array::from_fn(|v| value(v as u8))
}

/// Maps every channel through a table that `make` derives from its histogram and number of pixels.
fn map(image: &mut [u8], channels: usize, make: impl Fn(&[usize; 256], usize) -> [u8; 256]) {
    for channel in 0..channels {
        let mut histogram = [0; 256];
        for &value in image.iter().skip(channel).step_by(channels) {
            histogram[usize::from(value)] += 1;
        }
        let table = make(&histogram, image.len() / channels);
        for value in image.iter_mut().skip(channel).step_by(channels) {
            *value = table[usize::from(*value)];
        }
    }
}

/// Stretches the occurring values to 0..=255.
fn stretch(histogram: &[usize; 256], _pixels: usize) -> [u8; 256] {
    let low = histogram.iter().position(|&n| n > 0).unwrap_or(0);
    let high = histogram.iter().rposition(|&n| n > 0).unwrap_or(0);
    if low == high {
        return table(|v| v);
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    table(|v| (f64::from(v) * scale + offset) as u8)
}

/// Makes all values roughly equally frequent.
fn equalize(histogram: &[usize; 256], pixels: usize) -> [u8; 256] {
    let last = histogram.iter().rev().find(|&&n| n > 0).unwrap_or(&0);
    let step = (pixels - last) / 255;
    if step == 0 {
        return table(|v| v);
    }
    let mut sum = step / 2;
    histogram.map(|n| {
        let value = (sum / step).min(255) as u8;
        sum += n;
        value
    })
}

/// Mean brightness, rounded.
fn mean(image: &[u8], channels: usize) -> u8 {
    let (count, sum): (u64, u64) = match image.as_chunks::<3>() {
        (colours, []) if channels == 3 => {
            (colours.len() as u64, colours.iter().map(|&c| u64::from(luma(c))).sum())
        }
        _ => (image.len() as u64, image.iter().map(|&v| u64::from(v)).sum()),
    };
    ((2 * sum + count) / (2 * count)) as u8
}

/// Blends between grey (factor 0) and the colour (factor 1), and beyond; grey images stay as they are.
fn saturate(image: &mut [u8], channels: usize, factor: f32) {
    if channels == 3 {
        for colour in image.as_chunks_mut::<3>().0 {
            let grey = luma(*colour);
            *colour = colour.map(|v| blend(grey, v, factor));
        }
    }
}

/// Blends between the smoothed image (factor 0) and the image (factor 1), and beyond; the border stays as it is.
fn sharpen(image: &mut [u8], [height, width, channels]: [usize; 3], factor: f32) {
    let (stride, source) = (width * channels, image.to_vec());
    for y in 1..height.saturating_sub(1) {
        for x in channels..stride.saturating_sub(channels) {
            let at = y * stride + x;
            let rows = [at - stride, at, at + stride];
            let around: u32 = rows
                .iter()
                .flat_map(|&at| [at - channels, at, at + channels])
                .map(|at| u32::from(source[at]))
                .sum();
            let smooth = (around + 4 * u32::from(source[at]) + 6) / 13;
            image[at] = blend(smooth as u8, source[at], factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Crc;

    /// Made by Pillow, see `tests/goldens/make_augment.py`.
    const GOLDEN: &str = include_str!("../tests/goldens/operations.txt");

    const ALL: [Operation; 14] = [
        Operation::ShearX,
        Operation::ShearY,
        Operation::TranslateX,
        Operation::TranslateY,
        Operation::Rotate,
        Operation::Brightness,
        Operation::Color,
        Operation::Contrast,
        Operation::Sharpness,
        Operation::Posterize,
        Operation::Solarize,
        Operation::AutoContrast,
        Operation::Equalize,
        Operation::Invert,
    ];

    /// The image of a name like `7x5x3-40-150`: height, width, channels, smallest value, number of values.
    fn image(name: &str) -> (Vec<u8>, [usize; 3]) {
        let numbers: Vec<usize> = name.split(['x', '-']).map(|n| n.parse().unwrap()).collect();
        let [height, width, channels, low, count] = numbers[..] else { panic!("{name}") };
        let bytes = (0..height * width * channels).map(|i| {
            let (y, x, c) = (i / channels / width, i / channels % width, i % channels);
            (low + (x * x * 5 + y * 11 + c * 29 + x * y * 7 % 23) % count) as u8
        });
        (bytes.collect(), [height, width, channels])
    }

    #[test]
    fn every_operation_at_every_level_is_pillows() {
        let mut lines = GOLDEN.lines().filter(|line| !line.starts_with('#'));
        let names: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let mut seen = Vec::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let operation = *ALL.iter().find(|o| o.to_string() == words[0]).unwrap();
            let level: i8 = words[1].parse().unwrap();
            for (name, expected) in names.iter().zip(&words[2..]) {
                let (mut bytes, shape) = image(name);
                operation.apply(level.unsigned_abs(), level < 0, &mut bytes, shape);
                let mut crc = Crc::new();
                crc.update(&bytes);
                assert_eq!(format!("{:08x}", crc.sum()), **expected, "{line}: {name} {bytes:?}");
            }
            assert_eq!(words.len(), names.len() + 2);
            seen.push(operation);
        }
        let count = |operation| seen.iter().filter(|&&o| o == operation).count();
        assert_eq!(ALL.map(count), [19, 19, 19, 19, 19, 19, 19, 19, 19, 10, 10, 1, 1, 1]);
    }

    #[test]
    fn what_leaves_the_image_is_grey() {
        let mut bytes = vec![1, 2, 3, 4, 5, 6];
        Operation::TranslateX.apply(9, false, &mut bytes, [1, 6, 1]);
        assert_eq!(bytes, [3, 4, 5, 6, 128, 128]);
        Operation::TranslateX.apply(5, true, &mut bytes, [1, 6, 1]);
        assert_eq!(bytes, [128, 3, 4, 5, 6, 128]);
    }
}
