//! Data sets by name or path.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::catalogue::Found;
use crate::embedded::{self, FASHION_CLASSES};
use crate::listing::Listing;
use crate::picture::MADE_GREY;
use crate::published::Published;
use crate::text::counted;
use crate::{
    DataError, DatasetName, LoadOptions, Splits, archive, folder, hub, idx, list, npz, packed,
};

/// Folders that hold nothing but one folder are followed this deep.
const DEEPEST: usize = 4;

/// Reads a data set: a named one from `data_dir` or the usual places, or the one at a path.
///
/// The usual places are `$ASAP_DATA_DIR/<name>`, `$ASAP_DATA_DIR`, `./data/<name>`, `<name>` in [`crate::cache_folder`]
/// and `/usr/share/datasets/<name>`. A path leads to a folder of images per class, a list of images with labels (CSV), IDX files, CIFAR in
/// its binary or Python form, SVHN, a NumPy archive (NPZ), Parquet files, a packed data set ([`crate::pack`]), or an archive of any of these
/// (tar, tar.gz, zip). `data_dir` is ignored for paths and for the embedded images.
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
        DataSpec::Named(name) => load_named(*name, data_dir, options)?,
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

fn load_named(
    name: DatasetName,
    data_dir: Option<&Path>,
    options: &LoadOptions,
) -> Result<Splits, DataError> {
    if name == DatasetName::Embedded {
        return embedded::read();
    }
    let places = name.places(data_dir);
    let Some(found) = name.find(&places) else {
        let (expected, remedy) = (name.files().join(", "), name.remedy().to_owned());
        return Err(DataError::NotFound { name: name.as_str(), expected, tried: places, remedy });
    };
    let mut splits = match (&found, name) {
        (Found::Archive(archive), _) => load_path(archive, options)?,
        (Found::Files(files), DatasetName::FashionMnist) => {
            let classes = FASHION_CLASSES.map(String::from).to_vec();
            idx::read(files.folder(), name.to_string(), Some(classes))?
        }
        (Found::Files(files), _) => files.read(name.to_string())?,
    };
    let found = found.path();
    splits.name = name.to_string();
    if Path::new(name.as_str()).is_dir() && !found.starts_with(name.as_str()) {
        splits.warnings.push(format!(
            "took the data set {name} in {}; the folder ./{name} here is another one: --data ./{name} takes it",
            found.display()
        ));
    }
    Ok(splits)
}

fn load_path(path: &Path, options: &LoadOptions) -> Result<Splits, DataError> {
    if !path.exists() {
        return Err(DataError::Unknown {
            given: path.display().to_string(),
            known: DatasetName::choices(),
        });
    }
    let name = path.display().to_string();
    let splits = if path.is_dir() {
        load_folder(path, options, DEEPEST)?
    } else if archive::is_archive(path) {
        let (folder, left_out) = archive::unpacked(path, options.cache.as_deref())?;
        let in_archive =
            |fault| DataError::InArchive { archive: path.to_owned(), fault: Box::new(fault) };
        let mut splits = load_folder(&folder, options, DEEPEST).map_err(in_archive)?;
        splits.warnings.push(format!("the archive is unpacked in {}", folder.display()));
        if left_out > 0 {
            splits.warnings.push(format!(
                "left out {} in the archive (links or devices); unpack it yourself to have links followed",
                counted(left_out, "special file")
            ));
        }
        splits
    } else {
        load_file(path, options)?
    };
    Ok(Splits { name, ..splits })
}

fn load_file(path: &Path, options: &LoadOptions) -> Result<Splits, DataError> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if packed::is_packed(path) {
        return packed::read(path, options);
    }
    match ending.as_str() {
        "npz" => return npz::read(path),
        "parquet" => return hub::read(path, &[path.to_owned()], options),
        _ => {}
    }
    // The published file of a data set stands for all of them.
    if let Some(files) = Published::of_file(path) {
        return files.read(files.folder().display().to_string());
    }
    if list::is_list(path) {
        return list::read(path)?.images(options, Vec::new())?.read(path, options);
    }
    let expected = "a folder, a list of images with labels (.csv, .tsv, .txt), an archive (.tar, .tar.gz, .zip), .npz, .parquet, a packed \
                    data set, or a published file of MNIST's, CIFAR's or SVHN's form";
    Err(DataError::format(path, expected, "another file", "give the folder of the data set"))
}

fn load_folder(folder: &Path, options: &LoadOptions, deepest: usize) -> Result<Splits, DataError> {
    if let Some(files) = Published::only_in(folder)? {
        return files.read(folder.display().to_string());
    }
    let parquet = hub::find(folder);
    if !parquet.is_empty() {
        let mut splits = hub::read(folder, &parquet, options)?;
        splits.warnings.extend(hub::beside(folder));
        return Ok(splits);
    }
    let entries = Listing::of(folder)?.kept;
    let packages: Vec<&PathBuf> =
        entries.iter().filter(|path| path.extension().is_some_and(|e| e == "npz")).collect();
    if let ([only], false) = (&packages[..], entries.iter().any(|path| path.is_dir())) {
        return npz::read(only);
    }
    if let Some(inner) = folder::only_folder(folder).filter(|_| deepest > 0) {
        let mut splits = load_folder(&inner, options, deepest - 1)?;
        splits
            .warnings
            .push(format!("the images are in {}, the only folder there", inner.display()));
        return Ok(splits);
    }
    folder::read(folder, options)
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
