//! Data sets by name or path.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::cifar::{CIFAR10, CIFAR100};
use crate::embedded::{self, FASHION_CLASSES};
use crate::picture::MADE_GREY;
use crate::{DataError, DatasetName, LoadOptions, Splits, folder, idx};

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

fn load_named(name: DatasetName, data_dir: Option<&Path>) -> Result<Splits, DataError> {
    if name == DatasetName::Embedded {
        return embedded::read();
    }
    let places = name.places(data_dir);
    let Some(found) = name.find(&places) else {
        let (expected, remedy) = (name.files().join(", "), name.remedy().to_owned());
        return Err(DataError::NotFound { name: name.as_str(), expected, tried: places, remedy });
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
        return Err(DataError::Unknown {
            given: path.display().to_string(),
            known: DatasetName::choices(),
        });
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

impl FromStr for DataSpec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        if text.trim().is_empty() {
            return Err(DataError::Unknown { given: text.into(), known: DatasetName::choices() });
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
