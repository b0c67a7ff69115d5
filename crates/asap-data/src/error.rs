//! Errors in data: each says where, what was expected, what was found, and how to fix it.

use std::path::{Path, PathBuf};

/// The image formats that are read.
pub(crate) const FORMATS: &str = "PNG, JPEG, GIF, WebP, BMP, TIFF, PPM or PGM";

/// An error while reading or batching data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Neither the name of a data set nor a path that exists.
    #[error(
        "`{given}` is neither a known data set nor an existing path: expected {known}, or the path of a folder, an archive or a data file; check the spelling"
    )]
    Unknown {
        /// The text that was given.
        given: String,
        /// The known names.
        known: String,
    },
    /// A named data set that is in none of the usual places.
    #[error("{name} not found: expected {expected} in one of {}; {remedy}", list(tried))]
    NotFound {
        /// The data set.
        name: &'static str,
        /// The files that make it up.
        expected: String,
        /// The folders that were tried, in order.
        tried: Vec<PathBuf>,
        /// The way to get it.
        remedy: String,
    },
    /// A file or folder that the operating system could not read.
    #[error("cannot read {path}: {source}; check that it exists and that you may read it")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file that the operating system could not write.
    #[error("cannot write {path}: {source}; free space there or choose another place")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file or folder of the wrong format.
    #[error("{path}: expected {expected}, found {found}; {remedy}")]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// The expected content.
        expected: String,
        /// The actual content.
        found: String,
        /// The way to fix it.
        remedy: String,
    },
    /// A file that ends too early.
    #[error(
        "{path} is truncated: expected {expected} bytes, found {found}; download the file again"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Number of bytes that its header or format implies, after decompression.
        expected: u64,
        /// Number of bytes in the file.
        found: u64,
    },
    /// Different numbers of images and labels.
    #[error(
        "{images} and {labels} do not match: expected as many labels as images, \
         found {image_count} images and {label_count} labels; download both again from the same source"
    )]
    CountMismatch {
        /// The image file.
        images: PathBuf,
        /// Number of images.
        image_count: usize,
        /// The label file.
        labels: PathBuf,
        /// Number of labels.
        label_count: usize,
    },
    /// A label outside `0..classes`.
    #[error("{path}: expected labels from 0 to {}, found label {label} at index {index}; {remedy}", classes - 1)]
    Label {
        /// The label file or folder.
        path: PathBuf,
        /// Position of the first bad label.
        index: usize,
        /// The bad label.
        label: u16,
        /// Number of classes.
        classes: usize,
        /// The way to fix it.
        remedy: String,
    },
    /// A class without training images.
    #[error(
        "{path}: expected at least one image per class, found none of class `{class}`; {remedy}"
    )]
    EmptyClass {
        /// The file or folder.
        path: PathBuf,
        /// Name of the class.
        class: String,
        /// The way to fix it.
        remedy: String,
    },
    /// An image file that cannot be decoded.
    #[error(
        "{path}: expected a {FORMATS} image, found {found}; remove or replace the file, or skip unreadable images \
         (--set data.skip_corrupt=true; for evaluate, predict and data convert: --skip-corrupt)"
    )]
    Image {
        /// The file.
        path: PathBuf,
        /// The decoder's finding.
        found: String,
    },
    /// Something in an archive, which is unpacked in the user's cache.
    #[error(
        "{archive}: {fault} (it was unpacked there; correct the archive, or unpack it yourself and give the folder)"
    )]
    InArchive {
        /// The archive.
        archive: PathBuf,
        /// What is wrong in it.
        fault: Box<DataError>,
    },
    /// An argument out of range.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// Name of the value.
        name: &'static str,
        /// The allowed values.
        expected: String,
        /// The given value.
        found: String,
    },
}

impl DataError {
    /// An operating system error at `path`.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// A file that cannot be written.
    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    /// An argument out of range.
    pub(crate) fn argument(
        name: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Argument { name, expected: expected.into(), found: found.to_string() }
    }

    /// A file or folder of the wrong format.
    pub(crate) fn format(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Format {
            path: path.to_owned(),
            expected: expected.into(),
            found: found.into(),
            remedy: remedy.into(),
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}
