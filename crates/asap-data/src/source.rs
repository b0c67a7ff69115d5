//! Data sets by name or path.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::cifar::{CIFAR10, CIFAR100};
use crate::embedded::{self, FASHION_CLASSES};
use crate::picture::{MADE_GREY, check_channels, check_size};
use crate::{DataError, DatasetName, Splits, folder, idx, stratified_halves};

/// Reads a data set: a named one from `data_dir` or the usual places, or the one at a path.
///
/// The usual places are `$ASAP_DATA_DIR/<name>`, `$ASAP_DATA_DIR`, `./data/<name>`, `~/.cache/asap/<name>` and
/// `/usr/share/datasets/<name>`. A path leads to a folder with IDX files, CIFAR files, or one folder of images per
/// class. `data_dir` is ignored for paths and for the embedded images.
///
/// # Errors
/// A missing data set, a broken file, or options out of range; see [`DataError`].
pub fn load(
    spec: &DataSpec,
    data_dir: Option<&Path>,
    options: &LoadOptions,
) -> Result<Splits, DataError> {
    options.check()?;
    let mut splits = match spec {
        DataSpec::Named(name) => load_named(*name, data_dir)?,
        DataSpec::Path(path) => load_path(path, options)?,
    };
    if options.channels == Some(1) && splits.train.channels() == 3 {
        splits.warnings.push(MADE_GREY.into());
    }
    splits.map(|data| {
        let data = match options.choose(data.labels(), data.classes().len()) {
            Some(chosen) => data.subset(&chosen)?,
            None => data,
        };
        let (height, width) = options.size.unwrap_or((data.height(), data.width()));
        let channels = options.channels.unwrap_or(data.channels());
        data.with_image_shape([height, width, channels])
    })
}

/// A data set, by name or by path.
///
/// As text: `embedded`, `fashion-mnist`, `cifar10`, `cifar100`; anything else is a path, `./cifar10` for example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSpec {
    /// A data set by name.
    Named(DatasetName),
    /// A folder, or one of the files of a known format.
    Path(PathBuf),
}

/// Options for reading a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// Height and width to resize to; by default the size in the files, for a folder of images the most common one.
    pub size: Option<(usize, usize)>,
    /// 1 to read all images in grey, 3 in colour; by default as they are, a folder with any colour image in colour.
    pub channels: Option<usize>,
    /// Seed of the split and of the selection for `limit`.
    pub seed: u64,
    /// Fraction of a folder without `train/` and `test/` that becomes the test set, in `0..1`.
    pub test_fraction: f64,
    /// Skip undecodable image files with a warning instead of failing.
    pub skip_corrupt: bool,
    /// Largest number of images per part; a stratified selection, by seed.
    pub limit: Option<usize>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            size: None,
            channels: None,
            seed: 0,
            test_fraction: 0.2,
            skip_corrupt: false,
            limit: None,
        }
    }
}

fn load_named(name: DatasetName, data_dir: Option<&Path>) -> Result<Splits, DataError> {
    if name == DatasetName::Embedded {
        return embedded::read();
    }
    let places = name.places(data_dir);
    let Some(found) = name.find(&places) else {
        let (expected, remedy) = (name.files().join(", "), name.remedy().to_owned());
        return Err(DataError::NotFound { name, expected, tried: places, remedy });
    };
    match name.cifar() {
        Some(form) => form.read(&found, name.to_string()),
        None => {
            idx::read(&found, name.to_string(), Some(FASHION_CLASSES.map(String::from).to_vec()))
        }
    }
}

fn load_path(path: &Path, options: &LoadOptions) -> Result<Splits, DataError> {
    if !path.exists() {
        return Err(DataError::Unknown { given: path.display().to_string() });
    }
    // A file stands for its folder, which holds the other files of the data set.
    let folder = if path.is_file() { path.parent().unwrap_or(path) } else { path };
    let name = path.display().to_string();
    if idx::is_in(folder) {
        return idx::read(folder, name, None);
    }
    if let Some((form, found)) =
        [CIFAR10, CIFAR100].into_iter().find_map(|form| form.find(folder).map(|f| (form, f)))
    {
        return form.read(&found, name);
    }
    if path.is_file() {
        let expected = "a folder, or an IDX or binary CIFAR file with its published name";
        return Err(DataError::format(
            path,
            expected,
            "another file",
            "give the folder of the data set",
        ));
    }
    folder::read(path, options)
}

impl LoadOptions {
    fn check(&self) -> Result<(), DataError> {
        if let Some((height, width)) = self.size {
            check_size(height, width)?;
        }
        if let Some(channels) = self.channels {
            check_channels(channels)?;
        }
        if !(0.0..1.0).contains(&self.test_fraction) {
            return Err(DataError::argument(
                "test_fraction",
                "a number from 0 to less than 1",
                self.test_fraction,
            ));
        }
        match self.limit {
            Some(0) => Err(DataError::argument("limit", "at least 1 image", 0)),
            _ => Ok(()),
        }
    }

    /// The sorted images within the limit; `None` for all of them.
    pub(crate) fn choose(&self, labels: &[u16], classes: usize) -> Option<Vec<usize>> {
        let limit = self.limit.filter(|&limit| limit < labels.len())?;
        let fraction = limit as f64 / labels.len() as f64;
        Some(stratified_halves(labels, classes, fraction, self.seed).0)
    }
}

impl FromStr for DataSpec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        if text.trim().is_empty() {
            return Err(DataError::Unknown { given: text.into() });
        }
        Ok(text.parse().map_or_else(|_| Self::Path(text.into()), Self::Named))
    }
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}
