//! The data sets that are known by name: their files, the places where they are looked for, and how to get them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::cifar::{CIFAR10, CIFAR100, Form};
use crate::{DataError, idx};

/// A data set that this crate knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetName {
    /// The 5,000 + 1,000 images of Fashion-MNIST inside the program.
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

/// A data set that can be read by name, and where it was found.
#[derive(Clone, Debug, Serialize)]
pub struct KnownDataset {
    /// The name to give.
    pub name: DatasetName,
    /// What it holds and in which form.
    pub form: &'static str,
    /// The files that are read.
    pub files: Vec<String>,
    /// The folder among the usual places that has them; none for the embedded images.
    pub found_at: Option<PathBuf>,
    /// How to get it where it was not found.
    pub remedy: &'static str,
}

/// All named data sets, looked for in the usual places.
pub fn known() -> Vec<KnownDataset> {
    let known = |name: DatasetName| KnownDataset {
        name,
        form: name.form(),
        files: name.files(),
        found_at: name.find(&name.places(None)),
        remedy: name.remedy(),
    };
    DatasetName::ALL.into_iter().map(known).collect()
}

impl DatasetName {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Embedded, Self::FashionMnist, Self::Cifar10, Self::Cifar100];

    /// The name as it is given and shown.
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
                "5,000 + 1,000 images of Fashion-MNIST inside the program, 28x28 grey, 10 classes"
            }
            Self::FashionMnist => {
                "IDX files, compressed or not: 60,000 + 10,000 images, 28x28 grey, 10 classes"
            }
            Self::Cifar10 => "binary form: 50,000 + 10,000 images, 32x32 colour, 10 classes",
            Self::Cifar100 => "binary form: 50,000 + 10,000 images, 32x32 colour, 100 classes",
        }
    }

    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Embedded => "it is always there",
            Self::FashionMnist => {
                "`apt-get install dataset-fashion-mnist` on Debian, or give its folder with --data-dir"
            }
            Self::Cifar10 => {
                "extract cifar-10-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) and give its folder with --data-dir"
            }
            Self::Cifar100 => {
                "extract cifar-100-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) and give its folder with --data-dir"
            }
        }
    }

    /// The CIFAR form that it has, if any.
    pub(crate) const fn cifar(self) -> Option<Form> {
        match self {
            Self::Cifar10 => Some(CIFAR10),
            Self::Cifar100 => Some(CIFAR100),
            Self::Embedded | Self::FashionMnist => None,
        }
    }

    pub(crate) fn files(self) -> Vec<String> {
        match (self, self.cifar()) {
            (_, Some(form)) => {
                form.train.iter().chain([&form.test, &form.names]).map(|f| f.to_string()).collect()
            }
            (Self::FashionMnist, _) => {
                idx::FILES.as_flattened().iter().map(|file| format!("{file}[.gz]")).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Folders to look into, in order: the one given, or the usual ones.
    pub(crate) fn places(self, data_dir: Option<&Path>) -> Vec<PathBuf> {
        let both = |folder: PathBuf| [folder.join(self.as_str()), folder];
        if let Some(folder) = data_dir {
            return both(folder.to_owned()).into();
        }
        let variable =
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut places: Vec<PathBuf> =
            variable("ASAP_DATA_DIR").into_iter().flat_map(both).collect();
        places.push(Path::new("data").join(self.as_str()));
        places.extend(variable("HOME").map(|home| home.join(".cache/asap").join(self.as_str())));
        places.push(Path::new("/usr/share/datasets").join(self.as_str()));
        places
    }

    /// The first place with files of the data set.
    pub(crate) fn find(self, places: &[PathBuf]) -> Option<PathBuf> {
        places.iter().find_map(|place| match (self, self.cifar()) {
            (_, Some(form)) => form.find(place),
            (Self::FashionMnist, _) => Some(place.clone()).filter(|place| idx::is_in(place)),
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
