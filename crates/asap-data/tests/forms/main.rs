//! Every form of a data set in which people get them, read through the public interface.
//!
//! `make.py` makes the fixtures beside this file: the binary forms, as other programs write them. Folders, lists, archives and IDX files are
//! made by the tests. All images are those of [`pixels`].

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod archives;
mod folders;
mod lists;
mod packed;
mod published;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use asap_data::{DataError, DataSpec, Dataset, LoadOptions, Splits, load};
use image::{DynamicImage, ImageFormat, RgbImage};

/// Height, width and channels of small images; no two are the same.
const SMALL: [usize; 3] = [5, 7, 3];

/// The pixel in row 1 and column 2 of every image.
const ODD: [u8; 3] = [250, 240, 230];

/// Image `seed`: one colour, but for one pixel, so that a flip, a transpose or another order of channels is seen.
fn pixels([height, width, channels]: [usize; 3], seed: u8) -> Vec<u8> {
    let mut image = [seed, seed + 50, seed + 100][..channels].repeat(height * width);
    image[(width + 2) * channels..][..channels].copy_from_slice(&ODD[..channels]);
    image
}

/// A small image as a file of this format.
fn encoded(seed: u8, format: ImageFormat) -> Vec<u8> {
    let [height, width, _] = SMALL;
    let image = RgbImage::from_raw(width as u32, height as u32, pixels(SMALL, seed)).unwrap();
    let mut file = Cursor::new(Vec::new());
    DynamicImage::from(image).write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/forms").join(name)
}

/// Checks every image of a part, by its seed, and its label.
fn check(data: &Dataset, shape: [usize; 3], expected: &[(u8, u16)]) {
    assert_eq!(data.image_shape(), shape);
    assert_eq!(data.labels(), expected.iter().map(|image| image.1).collect::<Vec<_>>());
    let [_, width, channels] = shape;
    for (index, &(seed, _)) in expected.iter().enumerate() {
        let image = data.image(index).unwrap();
        let at = |y: usize, x: usize| &image[(y * width + x) * channels..][..channels];
        assert_eq!(at(1, 2), &ODD[..channels], "image {index}");
        assert_eq!(at(2, 1), &[seed, seed + 50, seed + 100][..channels], "image {index}");
        assert!(*image == *pixels(shape, seed), "image {index} is not that of seed {seed}");
    }
}

/// Checks that two data sets have the same parts with the same images, labels and classes.
fn check_same(found: &Splits, expected: &Splits) {
    let names = |splits: &Splits| splits.parts().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for ((name, found), (_, expected)) in found.parts().zip(expected.parts()) {
        assert!(found == expected, "{name}");
    }
}

/// All images in training unless the data set says otherwise.
fn whole() -> LoadOptions {
    LoadOptions { test_fraction: 0.0, ..LoadOptions::default() }
}

fn read(path: &Path, options: &LoadOptions) -> Result<Splits, DataError> {
    load(&DataSpec::Path(path.to_owned()), None, options)
}

/// The error of a data set that must not be read.
#[track_caller]
fn refusal(path: &Path) -> String {
    match read(path, &whole()) {
        Ok(splits) => panic!("{} was read: {} images", path.display(), splits.train.len()),
        Err(error) => error.to_string(),
    }
}

/// Asserts that an error says all this.
#[track_caller]
fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

/// A folder of a test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A copy of a folder.
    fn copy(from: &Path) -> Self {
        let folder = Self::new();
        copy(from, folder.path());
        folder
    }

    /// Small images, by their names and seeds.
    fn of(images: &[(&str, u8)]) -> Self {
        let folder = Self::new();
        images.iter().for_each(|&(name, seed)| folder.image(name, seed));
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A small image, losslessly, whatever its name.
    fn image(&self, name: &str, seed: u8) {
        self.write(name, encoded(seed, ImageFormat::Png));
    }

    fn read(&self) -> Splits {
        read(self.path(), &whole()).unwrap()
    }

    fn error(&self) -> String {
        refusal(self.path())
    }

    /// Ends a file after this fraction of it.
    fn cut(&self, name: &str, part: f64) {
        let bytes = fs::read(self.path().join(name)).unwrap();
        self.write(name, &bytes[..(bytes.len() as f64 * part) as usize]);
    }

    /// Replaces the only occurrence of some bytes.
    fn replace(&self, name: &str, from: &[u8], to: &[u8]) {
        let bytes = fs::read(self.path().join(name)).unwrap();
        let found: Vec<usize> =
            (0..bytes.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
        assert_eq!(found.len(), 1, "{name}");
        self.write(name, [&bytes[..found[0]], to, &bytes[found[0] + from.len()..]].concat());
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The content of one of the fixtures' archives.
fn unpacked(archive: &str) -> Folder {
    let folder = Folder::new();
    let file = flate2::read::GzDecoder::new(fs::File::open(fixture(archive)).unwrap());
    tar::Archive::new(file).unpack(folder.path()).unwrap();
    folder
}
