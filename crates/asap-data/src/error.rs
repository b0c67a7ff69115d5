//! What can be wrong with data: every error says where, what was expected, what was found, and the remedy.

use std::path::{Path, PathBuf};

use crate::DatasetName;
use crate::picture::FORMATS;

/// Anything that keeps data from being read or batched.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Neither the name of a data set nor a path that exists.
    #[error(
        "no data set and no path `{given}`: expected {}, or the path of a folder that exists; check the spelling",
        DatasetName::choices()
    )]
    Unknown {
        /// The text that was given.
        given: String,
    },
    /// A named data set lies in none of the places where it was looked for.
    #[error("{name} was not found: expected {expected} in one of {}; {remedy}", list(tried))]
    NotFound {
        /// The data set.
        name: DatasetName,
        /// The files that make it.
        expected: String,
        /// The folders that were tried, in order.
        tried: Vec<PathBuf>,
        /// How to get it.
        remedy: String,
    },
    /// The operating system refused to read a file or folder.
    #[error("cannot read {path}: {source}; expected a file or folder that exists and may be read")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder is not of the form that it should have.
    #[error("{path}: expected {expected}, found {found}; {remedy}")]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
        /// What to do about it.
        remedy: String,
    },
    /// A file ends too early.
    #[error("{path} is cut off: expected {expected} bytes, found {found}; fetch the file again")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that its header or form announces (after decompression).
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Images and labels do not pair up.
    #[error(
        "{images} and {labels} do not belong together: expected as many labels as images, \
         found {image_count} images and {label_count} labels; fetch both again from one source"
    )]
    CountMismatch {
        /// The file of the images.
        images: PathBuf,
        /// Number of images.
        image_count: usize,
        /// The file of the labels.
        labels: PathBuf,
        /// Number of labels.
        label_count: usize,
    },
    /// A label outside `0..classes`.
    #[error("{path}: expected labels from 0 to {}, found label {label} at index {index}; {remedy}", classes - 1)]
    Label {
        /// The file or folder of the labels.
        path: PathBuf,
        /// Position of the first bad label.
        index: usize,
        /// The bad label.
        label: u16,
        /// Number of classes.
        classes: usize,
        /// What to do about it.
        remedy: String,
    },
    /// A class of the training images without a single image.
    #[error(
        "{path}: expected at least one image of every class, found none of class `{class}`; {remedy}"
    )]
    EmptyClass {
        /// The file or folder.
        path: PathBuf,
        /// Name of the class.
        class: String,
        /// What to do about it.
        remedy: String,
    },
    /// An image file that cannot be decoded.
    #[error(
        "{path}: expected a {FORMATS} image, found {found}; remove or replace the file, or let unreadable images be skipped"
    )]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder met.
        found: String,
    },
    /// A value handed to this crate that makes no sense.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// Name of the value.
        name: &'static str,
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl DataError {
    /// An error of the operating system at `path`.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// A value that makes no sense.
    pub(crate) fn argument(
        name: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Argument { name, expected: expected.into(), found: found.to_string() }
    }

    /// A file or folder of the wrong form.
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
