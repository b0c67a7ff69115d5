//! Image files: header and pixels.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::DataError;
use crate::guard::guarded;
use crate::pixels::{check_channels, check_size, convert, resize};

/// File extensions of images, in lower case.
pub const IMAGE_ENDINGS: [&str; 11] =
    ["png", "jpg", "jpeg", "jfif", "gif", "webp", "bmp", "ppm", "pgm", "tif", "tiff"];

/// The warning about images that lose their colour.
pub(crate) const MADE_GREY: &str =
    "colour images were converted to grey, because one channel was requested";

/// Largest side that the JPEG format knows.
const MAX_JPEG_SIDE: usize = 65_535;

/// An encoded image: a file, or bytes in memory with a name for messages.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Option<Arc<[u8]>>,
}

trait Input: BufRead + Seek {}
impl<T: BufRead + Seek> Input for T {}

impl Encoded {
    pub(crate) fn file(path: PathBuf) -> Self {
        Self { path, bytes: None }
    }

    fn open(&self) -> Result<Box<dyn Input + '_>, DataError> {
        if let Some(bytes) = &self.bytes {
            return Ok(Box::new(Cursor::new(&bytes[..])));
        }
        // A named pipe would wait for ever.
        let kind = std::fs::metadata(&self.path).map_err(|e| DataError::io(&self.path, e))?;
        if !kind.is_file() {
            return Err(self.fault("a folder, a pipe or a device"));
        }
        let file = File::open(&self.path).map_err(|e| DataError::io(&self.path, e))?;
        Ok(Box::new(BufReader::new(file)))
    }

    fn fault(&self, found: impl Into<String>) -> DataError {
        DataError::Image { path: self.path.clone(), found: found.into() }
    }

    /// A panic of a decoder is an error like others.
    fn guarded<R>(&self, read: impl FnOnce(&Self) -> Result<R, DataError>) -> Result<R, DataError> {
        let outcome = guarded(|| read(self));
        outcome.unwrap_or_else(|| Err(self.fault("a damaged file (its decoder gave up)")))
    }

    fn unreadable(&self, error: &ImageError) -> DataError {
        self.fault(format!("something else or a damaged file ({error})"))
    }

    fn decoder(&self) -> Result<impl ImageDecoder + '_, DataError> {
        let reader = ImageReader::new(self.open()?)
            .with_guessed_format()
            .map_err(|e| DataError::io(&self.path, e))?;
        reader.into_decoder().map_err(|e| self.unreadable(&e))
    }
}

/// True if a file begins like an image that can be read.
pub(crate) fn looks_like_image(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut start = Vec::new();
    let read = file.take(16).read_to_end(&mut start);
    read.is_ok() && image::guess_format(&start).is_ok_and(|format| format.reading_enabled())
}

/// Reads an image file as bytes `[height, width, channels]`, resized if necessary.
///
/// The content decides on the format: PNG, JPEG, WebP, BMP, TIFF, PPM, PGM, or the first frame of a GIF. 1 channel is grey
/// (ITU-R 601 luma), 3 are colour. Transparent pixels are laid on white, 16-bit values are reduced to 8, and the EXIF
/// orientation is applied.
///
/// # Errors
/// A file that cannot be read or decoded completely, or takes more than 512 MiB; channels other than 1 or 3; a side of 0 or above
/// 4096.
pub fn read_image(path: &Path, shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
    read_picture(path, shape).map(|picture| picture.bytes)
}

/// An image file that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// `[height, width, channels]`.
    pub bytes: Vec<u8>,
    /// True if a pixel was not opaque.
    pub transparent: bool,
    /// The bits of its largest value, if its values have 16.
    pub bits: Option<u32>,
}

/// The same as [`read_image`], with what was found on the way.
///
/// # Errors
/// As [`read_image`].
pub fn read_picture(path: &Path, shape: [usize; 3]) -> Result<Picture, DataError> {
    picture(&Encoded::file(path.to_owned()), shape)
}

/// The same for an image that may be in memory.
pub(crate) fn picture(
    encoded: &Encoded,
    [height, width, channels]: [usize; 3],
) -> Result<Picture, DataError> {
    check_size(height, width)?;
    check_channels(channels)?;
    let mut image = encoded.guarded(decode)?;
    check_range(encoded, &image)?;
    let bits = used_bits(&image);
    let transparent = lay_on_white(&mut image);
    let (found_width, found_height) = (image.width() as usize, image.height() as usize);
    let bytes = if image.color().has_color() {
        convert(image.into_rgb8().into_raw(), 3, channels)
    } else {
        convert(image.into_luma8().into_raw(), 1, channels)
    };
    let bytes = resize(&bytes, [found_height, found_width, channels], height, width);
    Ok(Picture { bytes, transparent, bits })
}

/// Refuses floating-point values that are not from 0 to 1.
fn check_range(encoded: &Encoded, image: &DynamicImage) -> Result<(), DataError> {
    let values = match image {
        DynamicImage::ImageRgb32F(image) => image.as_raw(),
        DynamicImage::ImageRgba32F(image) => image.as_raw(),
        _ => return Ok(()),
    };
    match values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        Some(value) => {
            Err(encoded.fault(format!("floating-point values outside 0 to 1, such as {value}")))
        }
        None => Ok(()),
    }
}

/// The bits of the largest value of an image of 16 bits, alpha aside.
fn used_bits(image: &DynamicImage) -> Option<u32> {
    let (values, channels, colours) = match image {
        DynamicImage::ImageLuma16(image) => (image.as_raw(), 1, 1),
        DynamicImage::ImageLumaA16(image) => (image.as_raw(), 2, 1),
        DynamicImage::ImageRgb16(image) => (image.as_raw(), 3, 3),
        DynamicImage::ImageRgba16(image) => (image.as_raw(), 4, 3),
        _ => return None,
    };
    let largest = values.chunks_exact(channels).flat_map(|pixel| &pixel[..colours]).max()?;
    Some(u16::BITS - largest.leading_zeros())
}

/// Lays an image on white; true if any pixel was not opaque.
fn lay_on_white(image: &mut DynamicImage) -> bool {
    if !image.color().has_alpha() {
        return false;
    }
    let grey = !image.color().has_color();
    let mut pixels = image.to_rgba8();
    let transparent = pixels.pixels().any(|pixel| pixel.0[3] < u8::MAX);
    if !transparent {
        return false;
    }
    for image::Rgba([colours @ .., alpha]) in pixels.pixels_mut() {
        let over = u32::from(*alpha);
        for colour in colours {
            *colour = ((u32::from(*colour) * over + 255 * (255 - over) + 127) / 255) as u8;
        }
        *alpha = u8::MAX;
    }
    let laid = DynamicImage::from(pixels);
    *image = if grey { laid.into_luma8().into() } else { laid };
    true
}

/// The header of an image file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) grey: bool,
}

/// Bits that an image of 16 bits uses if nearly nothing of it is left in 8 bits.
pub const FEW_BITS: u32 = 12;

/// Reads the header of an image file; height and width are those after EXIF orientation.
pub(crate) fn header(encoded: &Encoded) -> Result<Header, DataError> {
    encoded.guarded(header_of)
}

fn header_of(encoded: &Encoded) -> Result<Header, DataError> {
    let mut decoder = encoded.decoder()?;
    let (mut width, mut height) = decoder.dimensions();
    if matches!(
        orientation(&mut decoder),
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    ) {
        (width, height) = (height, width);
    }
    if width == 0 || height == 0 {
        return Err(encoded.fault(format!("one of {height}x{width} pixels")));
    }
    Ok(Header {
        height: height as usize,
        width: width as usize,
        grey: !decoder.color_type().has_color(),
    })
}

fn decode(encoded: &Encoded) -> Result<DynamicImage, DataError> {
    let mut decoder = encoded.decoder()?;
    let orientation = orientation(&mut decoder);
    let mut limits = Limits::default();
    let allowed = limits.reserve(decoder.total_bytes()).and_then(|()| decoder.set_limits(limits));
    allowed.map_err(|e| encoded.unreadable(&e))?;
    let mut image = match jpeg(encoded)? {
        Some(image) => image,
        None => DynamicImage::from_decoder(decoder).map_err(|e| encoded.unreadable(&e))?,
    };
    image.apply_orientation(orientation);
    Ok(image)
}

/// The pixels of a JPEG file; `None` for another one. A file that ends too early is refused, where other decoders fill the rest with
/// grey; only the two bytes of the end marker may be missing (and, unnoticed, a part of the last row of blocks).
fn jpeg(encoded: &Encoded) -> Result<Option<DynamicImage>, DataError> {
    let mut file = encoded.open()?;
    let mut bytes = vec![0; 2];
    if file.read_exact(&mut bytes).is_err() || bytes != [0xff, 0xd8] {
        return Ok(None);
    }
    file.read_to_end(&mut bytes).map_err(|e| DataError::io(&encoded.path, e))?;
    let fault = |found: &dyn std::fmt::Display| {
        encoded.fault(format!("an incomplete or damaged JPEG file ({found})"))
    };
    let side = MAX_JPEG_SIDE;
    let options = DecoderOptions::default().set_strict_mode(true);
    let options = options.set_max_width(side).set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes), options);
    if decoder.decode_headers().is_err() {
        // Padding between the headers is harmless; others read what they can.
        return Ok(None);
    }
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let colours = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(decoder.options().jpeg_set_out_colorspace(colours));
    let pixels = decoder.decode().map_err(|e| fault(&e))?;
    let sides = decoder.dimensions().map(|(width, height)| (width as u32, height as u32));
    let image = sides.and_then(|(width, height)| match grey {
        true => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        false => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    });
    image.map(Some).ok_or_else(|| fault(&"without pixels"))
}

/// The EXIF orientation; none if the EXIF data are damaged.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma, Rgb, Rgba};
    use proptest::prelude::*;

    fn header(path: &Path) -> Result<Header, DataError> {
        super::header(&Encoded::file(path.to_owned()))
    }

    /// An animation whose second frame has another size, found by fuzzing.
    #[test]
    fn an_image_that_its_decoder_panics_at_is_damaged() {
        const HEX: &str = "52494646cc00000057454250565038580a00000012000000030000030000414e494d06000000000000000000414ee6464200000000000000000003000003000000000002414c50480a000000010750b288084444ff0356503820180000023001009d012a0400040001402625a400037000fefd376800414e4d465600000000000000000003000003000000000002414c50480a000000010750b288084444ff03565038202c0000003001009d012a0000040001402625a000037000fefb2e4bff88ba7bc0352ffffcf4cfffc127fff049f8c80000";
        let bytes: Vec<u8> = (0..HEX.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&HEX[i..i + 2], 16).unwrap())
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.webp");
        std::fs::write(&path, bytes).unwrap();
        let error = read_image(&path, [4, 4, 3]).unwrap_err().to_string();
        assert!(error.contains("a damaged file (its decoder gave up)"), "{error}");
    }

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
        let white = Picture { bytes: vec![255; 6], transparent: true, bits: None };
        assert_eq!(
            read_picture(&path, [2, 1, 3]).unwrap(),
            white,
            "nothing is seen of the colours"
        );
        ImageBuffer::from_pixel(1, 1, Rgba([10u8, 20, 255, 51])).save(&path).unwrap();
        assert_eq!(
            read_image(&path, [1, 1, 3]).unwrap(),
            [206, 208, 255],
            "a fifth of the colours"
        );
        ImageBuffer::from_pixel(1, 1, Rgba([10u8, 20, 255, 255])).save(&path).unwrap();
        assert!(!read_picture(&path, [1, 1, 3]).unwrap().transparent);

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
    fn reads_any_format_and_palette() {
        let dir = tempfile::tempdir().unwrap();
        let colours = [[250u8, 10, 20], [30, 240, 10], [0, 0, 0], [255, 255, 255]];
        let image = ImageBuffer::from_fn(2, 2, |x, y| Rgb(colours[(y * 2 + x) as usize]));
        for ending in IMAGE_ENDINGS {
            let path = dir.path().join(format!("a.{ending}"));
            if ending == "pgm" {
                DynamicImage::from(image.clone()).into_luma8().save(&path).unwrap();
            } else if ending.starts_with('j') {
                continue; // not exact
            } else if ending.starts_with("ti") {
                image.save_with_format(&path, image::ImageFormat::Tiff).unwrap();
            } else {
                image.save(&path).unwrap();
            }
            assert_eq!(header(&path).unwrap().grey, ending == "pgm", "{ending}");
            if ending != "pgm" {
                assert_eq!(read_image(&path, [2, 2, 3]).unwrap(), colours.concat(), "{ending}");
                // (299 * 250 + 587 * 10 + 114 * 20) / 1000 = 82.9
                assert_eq!(read_image(&path, [2, 2, 1]).unwrap(), [83, 151, 0, 255], "{ending}");
            }
        }
        let path = dir.path().join("grey with alpha.png");
        ImageBuffer::from_pixel(1, 1, image::LumaA([90u8, 3])).save(&path).unwrap();
        assert!(header(&path).unwrap().grey);
        assert_eq!(read_image(&path, [1, 1, 3]).unwrap(), [253; 3]);
        ImageBuffer::from_pixel(1, 1, Rgb([257u16 * 9, 257 * 200, 0])).save(&path).unwrap();
        assert_eq!(read_image(&path, [1, 1, 3]).unwrap(), [9, 200, 0]);
    }

    #[test]
    fn floating_point_values_are_from_0_to_1() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tiff");
        let with = |value: f32| {
            ImageBuffer::from_pixel(1, 1, Rgb([0.0, 1.0, value])).save(&path).unwrap();
            read_image(&path, [1, 1, 3]).map_err(|error| error.to_string())
        };
        assert_eq!(with(0.2), Ok(vec![0, 255, 51]));
        let error = with(200.0).unwrap_err();
        assert!(error.contains("floating-point values outside 0 to 1, such as 200"), "{error}");
    }

    /// Found by the fuzzer, in PNM and GIF.
    #[test]
    fn an_image_without_pixels_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ppm");
        std::fs::write(&path, "P3\n0 2\n255\n").unwrap();
        assert!(matches!(header(&path), Err(DataError::Image { .. })));
    }

    #[test]
    fn the_bits_that_16_bit_images_use_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let bits = || read_picture(&path, [1, 1, 1]).unwrap().bits;
        ImageBuffer::from_pixel(1, 1, Luma([4095u16])).save(&path).unwrap();
        assert_eq!(bits(), Some(12));
        ImageBuffer::from_pixel(1, 1, Rgba([0u16, 255, 3, u16::MAX])).save(&path).unwrap();
        assert_eq!(bits(), Some(8), "alpha aside");
        ImageBuffer::from_pixel(1, 1, Luma([200u8])).save(&path).unwrap();
        assert_eq!(bits(), None);
    }

    #[test]
    fn a_jpeg_may_lack_its_end_marker_and_not_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        let image = ImageBuffer::from_fn(40, 80, |x, y| Rgb([(x * y) as u8, (x * 6) as u8, 9]));
        image.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_image(&path, [80, 40, 3])
        };
        let whole = read(&bytes).unwrap();
        assert!(read(&bytes[..bytes.len() - 2]).unwrap() == whole);
        for cut in [bytes.len() / 2, bytes.len() * 3 / 4] {
            let found = read(&bytes[..cut]).map(|_| ()).map_err(|error| error.to_string());
            assert!(found.as_ref().is_err_and(|text| text.contains("JPEG")), "{cut}: {found:?}");
        }
    }

    /// A JPEG of 16 x 8, black but for the top left quarter, with this EXIF orientation.
    fn turned(path: &Path, orientation: u8) {
        let white = |x, y| if x < 8 && y < 4 { 255u8 } else { 0 };
        let image = ImageBuffer::from_fn(16, 8, |x, y| Luma([white(x, y)]));
        image.save_with_format(path, image::ImageFormat::Jpeg).unwrap();
        let jpeg = std::fs::read(path).unwrap();
        let tag = [1, 18, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
        let exif = [b"Exif\0\0MM\0*\0\0\0\x08\0\x01", &tag[..], &[0; 4]].concat();
        let marker = [0xff, 0xe1, 0, exif.len() as u8 + 2];
        std::fs::write(path, [&jpeg[..2], &marker, &exif, &jpeg[2..]].concat()).unwrap();
    }

    #[test]
    fn exif_orientation_is_applied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        // Where the white quarter of the upright picture is: (right, below). Orientation 9 does not exist.
        let corners = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0), (1, 0), (1, 1), (0, 1), (0, 0)];
        for (orientation, (right, below)) in (1..).zip(corners) {
            turned(&path, orientation);
            let (height, width) = if (5..=8).contains(&orientation) { (16, 8) } else { (8, 16) };
            assert_eq!(header(&path).unwrap(), Header { height, width, grey: true });
            let pixels = read_image(&path, [height, width, 1]).unwrap();
            for (i, &value) in pixels.iter().enumerate() {
                let (y, x) = (i / width, i % width);
                let white = (2 * x / width, 2 * y / height) == (right, below);
                // JPEG is not exact, least beside the edge.
                assert_eq!(value > 127, white, "{orientation}: {x} {y} is {value}");
            }
        }
    }

    #[test]
    fn a_picture_that_fills_the_memory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ppm");
        std::fs::write(&path, "P6 60000 60000 255\n").unwrap();
        let text = read_image(&path, [8, 8, 3]).unwrap_err().to_string();
        assert!(text.contains("PPM or PGM image, found") && text.contains("imit"), "{text}");
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
        fn damaged_files_are_read_or_refused(ending in 0..IMAGE_ENDINGS.len() - 1, at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(format!("a.{}", IMAGE_ENDINGS[ending]));
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
}
