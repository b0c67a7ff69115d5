//! The data sets known by name: their files, their usual places, and the ways to get them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::cache::{cache_folder, variable};
use crate::cifar::{CIFAR10, CIFAR10_PYTHON, CIFAR100, CIFAR100_PYTHON, Form};
use crate::published::Published;
use crate::{DataError, idx};

/// A data set that this crate knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetName {
    /// 5,000 + 1,000 images of Fashion-MNIST, built into the program.
    Embedded,
    /// Fashion-MNIST: 60,000 + 10,000 grey images of clothes, 28x28, 10 classes.
    FashionMnist,
    /// CIFAR-10: 50,000 + 10,000 colour images, 32x32, 10 classes.
    #[serde(rename = "cifar10")]
    Cifar10,
    /// CIFAR-100: 50,000 + 10,000 colour images, 32x32, 100 classes.
    #[serde(rename = "cifar100")]
    Cifar100,
}

/// A data set known by name, and the place where it was found.
#[derive(Clone, Debug, Serialize)]
pub struct KnownDataset {
    /// Its name.
    pub name: DatasetName,
    /// Its content and format.
    pub form: &'static str,
    /// Its files.
    pub files: Vec<String>,
    /// The first of the usual places with its files; `None` for the embedded images too.
    pub found_at: Option<PathBuf>,
    /// The way to get it.
    pub remedy: &'static str,
}

/// What was found of a known data set.
pub(crate) enum Found {
    /// Its files.
    Files(Published),
    /// The published archive.
    Archive(PathBuf),
}

impl Found {
    /// The folder of the files, or the archive.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Files(files) => files.folder(),
            Self::Archive(archive) => archive,
        }
    }
}

/// All data sets known by name, with the usual places searched.
pub fn known() -> Vec<KnownDataset> {
    let known = |name: DatasetName| KnownDataset {
        name,
        form: name.form(),
        files: name.files(),
        found_at: name.find(&name.places(None)).map(|found| found.path().to_owned()),
        remedy: name.remedy(),
    };
    DatasetName::ALL.into_iter().map(known).collect()
}

impl DatasetName {
    /// Every data set, in listing order.
    pub const ALL: [Self; 4] = [Self::Embedded, Self::FashionMnist, Self::Cifar10, Self::Cifar100];

    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    /// All names, separated by commas.
    pub(crate) fn choices() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    const fn form(self) -> &'static str {
        match self {
            Self::Embedded => {
                "built in: 5,000 + 1,000 images of Fashion-MNIST, 28x28 grey, 10 classes"
            }
            Self::FashionMnist => {
                "IDX files, plain or gzipped: 60,000 + 10,000 images, 28x28 grey, 10 classes"
            }
            Self::Cifar10 => {
                "binary or Python files, or their archives: 50,000 + 10,000 images, 32x32 colour, 10 classes"
            }
            Self::Cifar100 => {
                "binary or Python files, or their archives: 50,000 + 10,000 images, 32x32 colour, 100 classes"
            }
        }
    }

    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Embedded => "always available",
            Self::FashionMnist => {
                "`apt-get install dataset-fashion-mnist` on Debian, or give its folder with --data-dir, or in ASAP_DATA_DIR"
            }
            Self::Cifar10 => {
                "download cifar-10-binary.tar.gz or cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) and give its folder with --data-dir, or in ASAP_DATA_DIR"
            }
            Self::Cifar100 => {
                "download cifar-100-binary.tar.gz or cifar-100-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) and give its folder with --data-dir, or in ASAP_DATA_DIR"
            }
        }
    }

    /// Its CIFAR formats, if it has any; the first is listed.
    fn cifar(self) -> Option<[&'static Form; 2]> {
        match self {
            Self::Cifar10 => Some([&CIFAR10, &CIFAR10_PYTHON]),
            Self::Cifar100 => Some([&CIFAR100, &CIFAR100_PYTHON]),
            Self::Embedded | Self::FashionMnist => None,
        }
    }

    pub(crate) fn files(self) -> Vec<String> {
        match (self, self.cifar()) {
            (_, Some([form, _])) => {
                form.train.iter().chain([&form.test, &form.names]).map(|f| f.to_string()).collect()
            }
            (Self::FashionMnist, _) => {
                idx::FILES.as_flattened().iter().map(|file| format!("{file}[.gz]")).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Folders to search, in order: the given one, or the usual ones.
    pub(crate) fn places(self, data_dir: Option<&Path>) -> Vec<PathBuf> {
        let both = |folder: PathBuf| [folder.join(self.as_str()), folder];
        if let Some(folder) = data_dir {
            return both(folder.to_owned()).into();
        }
        let mut places: Vec<PathBuf> =
            variable("ASAP_DATA_DIR").into_iter().flat_map(both).collect();
        places.push(Path::new("data").join(self.as_str()));
        places.extend(cache_folder().map(|cache| cache.join(self.as_str())));
        places.push(Path::new("/usr/share/datasets").join(self.as_str()));
        places
    }

    /// The files of this data set, or its published archive, in the first place that has any.
    pub(crate) fn find(self, places: &[PathBuf]) -> Option<Found> {
        places.iter().find_map(|place| match (self, self.cifar()) {
            (_, Some(forms)) => {
                let files = |form: &'static Form| Some(Published::Cifar(form, form.find(place)?));
                let archive = || {
                    let mut archives = forms.iter().map(|form| place.join(form.archive));
                    archives.find(|archive| archive.is_file())
                };
                let files = forms.into_iter().find_map(files).map(Found::Files);
                files.or_else(|| archive().map(Found::Archive))
            }
            (Self::FashionMnist, _) => {
                let inner = place.join("FashionMNIST/raw");
                let folder = [place.clone(), inner].into_iter().find(|place| idx::is_in(place))?;
                Some(Found::Files(Published::Idx(folder)))
            }
            _ => None,
        })
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DatasetName {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        found.ok_or_else(|| {
            DataError::argument("data set", format!("one of {}", Self::choices()), text)
        })
    }
}
