//! Images in memory, as bytes `[height, width, channels]`: their limits, grey and colour, and resizing.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::DataError;
use crate::operation::luma;

/// Largest height or width of an image in memory.
pub(crate) const MAX_SIDE: u32 = 4096;

/// Converts between 1 channel (grey) and 3 (colour).
pub(crate) fn convert(image: Vec<u8>, from: usize, to: usize) -> Vec<u8> {
    match (from, to) {
        (3, 1) => image.as_chunks::<3>().0.iter().map(|&colour| luma(colour)).collect(),
        (1, 3) => image.iter().flat_map(|&value| [value; 3]).collect(),
        _ => image,
    }
}

/// Resizes an image `[h, w, c]` by linear interpolation, antialiased when it shrinks. In whole numbers, so that every processor gives the
/// same bytes.
pub(crate) fn resize(image: &[u8], [h, w, c]: [usize; 3], height: usize, width: usize) -> Vec<u8> {
    if (h, w) == (height, width) {
        return image.to_vec();
    }
    let pixel = match c {
        1 => PixelType::U8,
        3 => PixelType::U8x3,
        _ => {
            let plane = |channel: usize| -> Vec<u8> {
                image.iter().skip(channel).step_by(c).copied().collect()
            };
            let planes: Vec<_> =
                (0..c).map(|channel| resize(&plane(channel), [h, w, 1], height, width)).collect();
            return (0..height * width)
                .flat_map(|at| planes.iter().map(move |plane| plane[at]))
                .collect();
        }
    };
    let mut out = Image::new(width as u32, height as u32, pixel);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    ImageRef::new(w as u32, h as u32, image, pixel)
        .map_err(|error| error.to_string())
        .and_then(|from| {
            Resizer::new().resize(&from, &mut out, &options).map_err(|error| error.to_string())
        })
        .expect("sides above 0 and as many bytes as they say");
    out.into_vec()
}

/// A buffer of zeros for `count` images of a shape.
///
/// # Errors
/// Not enough memory.
pub(crate) fn buffer(count: usize, shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let size = shape.iter().fold(count, |size, &side| size.saturating_mul(side));
    if bytes.try_reserve_exact(size).is_err() {
        let expected = format!(
            "a size at which {count} images fit into memory, or a lower limit on their number"
        );
        return Err(DataError::argument("size", expected, format!("{}x{}", shape[0], shape[1])));
    }
    bytes.resize(size, 0);
    Ok(bytes)
}

/// Refuses a target size out of range.
pub(crate) fn check_size(height: usize, width: usize) -> Result<(), DataError> {
    let allowed = 1..=MAX_SIDE as usize;
    if allowed.contains(&height) && allowed.contains(&width) {
        return Ok(());
    }
    Err(DataError::argument(
        "size",
        format!("sides of 1 to {MAX_SIDE} pixels"),
        format!("{height}x{width}"),
    ))
}

/// Refuses a number of channels other than 1 and 3.
pub(crate) fn check_channels(channels: usize) -> Result<(), DataError> {
    match channels {
        1 | 3 => Ok(()),
        _ => Err(DataError::argument("channels", "1 (grey) or 3 (colour)", channels)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_beyond_all_memory_is_an_error() {
        let text = buffer(usize::MAX / 4, [4096, 4096, 3]).unwrap_err().to_string();
        assert!(text.contains("fit into memory") && text.contains("found 4096x4096"), "{text}");
        assert_eq!(buffer(2, [1, 2, 3]).unwrap(), [0; 12]);
    }

    #[test]
    fn resize_keeps_channels_apart() {
        // Halving averages; a border between two halves stays where it is.
        let image: Vec<u8> =
            (0..4 * 4).flat_map(|i| [if i % 4 < 2 { 0 } else { 200 }, 50]).collect();
        let half = resize(&image, [4, 4, 2], 2, 2);
        assert!(half.iter().skip(1).step_by(2).all(|&v| v == 50), "{half:?}");
        assert!(half[0] < 60 && half[2] > 140 && half[0] == half[4], "{half:?}");
        assert_eq!(resize(&[9; 6], [3, 2, 1], 7, 5), [9; 35]);
    }
}
