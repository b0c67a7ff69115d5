//! The entries of folders, without what systems put there.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::picture::{IMAGE_ENDINGS, looks_like_image};

/// The parts of a data set, and the names of their folders, in any case.
pub(crate) const TRAIN: usize = 0;
pub(crate) const VALID: usize = 1;
pub(crate) const TEST: usize = 2;
const PARTS: [&[&str]; 3] = [
    &["train", "training", "training_set", "train_images"],
    &["valid", "val", "validation", "dev", "val_images", "valid_images"],
    &["test", "testing", "test_set", "test_images"],
];

/// The file in an unpacked archive that says how many files there are, and how many entries were left out; it is in no listing.
pub(crate) const MADE: &str = ".asap-unpacked";

/// Folders and files that archives, file managers and network storage leave behind.
const LITTER: [&str; 8] = [
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "Thumbs.db",
    "desktop.ini",
];

/// True if a name is hidden (it begins with a dot), or that of something that a system made, such as `__MACOSX` and `@eaDir`.
pub fn is_litter(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || LITTER.iter().any(|litter| name == *litter)
}

/// The entries of a folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Sorted by name.
    pub(crate) kept: Vec<PathBuf>,
    /// Hidden ones, and those that systems make.
    pub(crate) litter: Vec<PathBuf>,
}

impl Listing {
    pub(crate) fn of(folder: &Path) -> Result<Self, DataError> {
        let fail = |error| DataError::io(folder, error);
        let paths: Result<Vec<PathBuf>, _> =
            fs::read_dir(folder).map_err(fail)?.map(|e| e.map(|e| e.path())).collect();
        let mut paths = paths.map_err(fail)?;
        paths.retain(|path| path.file_name().is_none_or(|name| name != MADE));
        paths.sort();
        let (litter, kept) =
            paths.into_iter().partition(|path| is_litter(path.file_name().unwrap_or_default()));
        Ok(Self { kept, litter })
    }
}

/// The part of a data set that a folder of this name holds: [`TRAIN`], [`VALID`] or [`TEST`].
pub(crate) fn part_of(name: &str) -> Option<usize> {
    PARTS.iter().position(|names| names.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

/// True for a file with an image's extension, or with none if it begins like an image.
pub fn is_image(path: &Path) -> bool {
    let known = match path.extension() {
        Some(ending) => {
            let ending = ending.to_string_lossy().to_lowercase();
            IMAGE_ENDINGS.contains(&ending.as_str())
        }
        None => path.is_file() && looks_like_image(path),
    };
    known && !path.is_dir()
}
