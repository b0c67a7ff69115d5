//! One image file: its header, its pixels, and resizing.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::imageops::{FilterType, resize as resize_plane};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageReader};

use crate::DataError;

/// Largest height or width of an image in memory.
pub(crate) const MAX_SIDE: u32 = 4096;

/// Reads a PNG or JPEG file as bytes `[height, width, channels]`, resized where its size differs.
///
/// 1 channel is grey (colours are weighted by brightness), 3 are colours. Transparency is dropped and 16-bit values are
/// reduced to 8.
///
/// # Errors
/// A file that cannot be read or decoded; other than 1 or 3 channels; a side of 0 or above 4096.
pub fn read_image(
    path: &Path,
    [height, width, channels]: [usize; 3],
) -> Result<Vec<u8>, DataError> {
    check_size(height, width)?;
    let image = DynamicImage::from_decoder(decoder(path)?).map_err(|e| unreadable(path, &e))?;
    let (found_width, found_height) = (image.width() as usize, image.height() as usize);
    let bytes = match channels {
        1 => image.into_luma8().into_raw(),
        3 => image.into_rgb8().into_raw(),
        _ => return Err(DataError::argument("channels", "1 (grey) or 3 (colour)", channels)),
    };
    Ok(resize(&bytes, [found_height, found_width, channels], height, width))
}

/// What the header of an image file says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) grey: bool,
}

/// Reads the header of a PNG or JPEG file.
pub(crate) fn header(path: &Path) -> Result<Header, DataError> {
    let decoder = decoder(path)?;
    let (width, height) = decoder.dimensions();
    Ok(Header {
        height: height as usize,
        width: width as usize,
        grey: !decoder.color_type().has_color(),
    })
}

/// Resizes an image `[h, w, c]`: linear interpolation, over all the pixels that fall together where it shrinks.
pub(crate) fn resize(image: &[u8], [h, w, c]: [usize; 3], height: usize, width: usize) -> Vec<u8> {
    if (h, w) == (height, width) {
        return image.to_vec();
    }
    let mut out = vec![0; height * width * c];
    for channel in 0..c {
        let plane = GrayImage::from_fn(w as u32, h as u32, |x, y| {
            image::Luma([image[(y as usize * w + x as usize) * c + channel]])
        });
        let plane = resize_plane(&plane, width as u32, height as u32, FilterType::Triangle);
        for (value, &byte) in out.iter_mut().skip(channel).step_by(c).zip(plane.as_raw()) {
            *value = byte;
        }
    }
    out
}

/// Zeros for `count` images of a shape.
///
/// # Errors
/// Not enough memory.
pub(crate) fn buffer(count: usize, shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let size = shape.iter().fold(count, |size, &side| size.saturating_mul(side));
    if bytes.try_reserve_exact(size).is_err() {
        let expected = format!(
            "a size at which {count} images fit into memory; a limit of their number helps too"
        );
        return Err(DataError::argument("size", expected, format!("{}x{}", shape[0], shape[1])));
    }
    bytes.resize(size, 0);
    Ok(bytes)
}

/// Refuses a size to resize to that makes no sense.
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

fn decoder(path: &Path) -> Result<impl ImageDecoder + use<>, DataError> {
    let file = File::open(path).map_err(|e| DataError::io(path, e))?;
    let reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(|e| DataError::io(path, e))?;
    reader.into_decoder().map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &ImageError) -> DataError {
    DataError::Image {
        path: path.to_owned(),
        found: format!("something else or a damaged one ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma, Rgb, Rgba};
    use proptest::prelude::*;

    #[test]
    fn reads_any_colour_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let grey = |path: &Path| header(path).unwrap().grey;

        ImageBuffer::from_fn(2, 1, |x, _| Luma([x as u16 * 0x0101 * 200])).save(&path).unwrap();
        assert_eq!(header(&path).unwrap(), Header { height: 1, width: 2, grey: true });
        assert_eq!(read_image(&path, [1, 2, 1]).unwrap(), [0, 200]);
        assert_eq!(read_image(&path, [1, 2, 3]).unwrap(), [0, 0, 0, 200, 200, 200]);

        ImageBuffer::from_fn(1, 2, |_, y| Rgba([10, 20, 30 + y as u8, 0])).save(&path).unwrap();
        assert!(!grey(&path));
        assert_eq!(read_image(&path, [2, 1, 3]).unwrap(), [10, 20, 30, 10, 20, 31]);

        let path = dir.path().join("a jpeg with another ending.png");
        let jpeg = ImageBuffer::from_pixel(8, 8, Rgb([200u8, 100, 50]));
        jpeg.save_with_format(&path, image::ImageFormat::Jpeg).unwrap();
        let bytes = read_image(&path, [8, 8, 3]).unwrap();
        assert!(
            bytes.chunks(3).all(|p| p.iter().zip([200, 100, 50]).all(|(&a, b)| a.abs_diff(b) < 6)),
            "{bytes:?}"
        );
    }

    #[test]
    fn refuses_other_things() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.png");
        std::fs::write(&text, "no image").unwrap();
        assert!(matches!(header(&text), Err(DataError::Image { path, .. }) if path == text));
        let good = dir.path().join("good.png");
        ImageBuffer::from_pixel(50, 50, Luma([7u8])).save(&good).unwrap();
        let bytes = std::fs::read(&good).unwrap();
        std::fs::write(&text, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(read_image(&text, [1, 1, 1]), Err(DataError::Image { .. })));
        assert!(matches!(
            read_image(&dir.path().join("none.png"), [1, 1, 1]),
            Err(DataError::Io { .. })
        ));
        assert!(matches!(
            read_image(&good, [0, 1, 1]),
            Err(DataError::Argument { name: "size", .. })
        ));
        assert!(matches!(
            read_image(&good, [1, 1, 2]),
            Err(DataError::Argument { name: "channels", .. })
        ));
    }

    #[test]
    fn a_size_beyond_all_memory_is_an_error() {
        let text = buffer(usize::MAX / 4, [4096, 4096, 3]).unwrap_err().to_string();
        assert!(text.contains("fit into memory") && text.contains("found 4096x4096"), "{text}");
        assert_eq!(buffer(2, [1, 2, 3]).unwrap(), [0; 12]);
    }

    #[test]
    fn an_image_without_pixels_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        ImageBuffer::from_pixel(8, 8, Rgb([1u8, 2, 3])).save(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        bytes[frame + 7..frame + 9].fill(0);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(header(&path), Err(DataError::Image { .. })));
        assert!(matches!(read_image(&path, [8, 8, 3]), Err(DataError::Image { .. })));
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(jpeg in any::<bool>(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(if jpeg { "a.jpg" } else { "a.png" });
            ImageBuffer::from_fn(9, 7, |x, y| Rgb([x as u8 * 20, y as u8 * 30, 7])).save(&path).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut.index(bytes.len()) / 4);
            std::fs::write(&path, bytes).unwrap();
            let _ = header(&path);
            if let Ok(pixels) = read_image(&path, [5, 4, 3]) {
                prop_assert_eq!(pixels.len(), 60);
            }
        }
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
