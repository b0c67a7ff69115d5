//! Data sets in the files that their authors published: those of MNIST's form (IDX), of CIFAR's and of SVHN's.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::cifar::{FORMS, Form};
use crate::{DataError, Splits, idx, mat};

/// A data set in published files, and the folder that they are in.
#[derive(Clone)]
pub(crate) enum Published {
    Idx(PathBuf),
    Cifar(&'static Form, PathBuf),
    Svhn(PathBuf),
}

impl Published {
    /// Those in a folder, or in the folders in it that downloads make.
    pub(crate) fn all_in(folder: &Path) -> Vec<Self> {
        let idx = idx::places(folder).into_iter().map(Self::Idx);
        let cifar = FORMS.iter().filter_map(|form| Some(Self::Cifar(form, form.find(folder)?)));
        idx.chain(cifar).chain(mat::find(folder).map(Self::Svhn)).collect()
    }

    /// The only one there, if there is any.
    ///
    /// # Errors
    /// Several.
    pub(crate) fn only_in(folder: &Path) -> Result<Option<Self>, DataError> {
        let mut all = Self::all_in(folder);
        if all.len() > 1 {
            let found: Vec<_> = all.iter().map(ToString::to_string).collect();
            let remedy = "give the folder of one of them";
            return Err(DataError::format(folder, "one data set", found.join(", "), remedy));
        }
        Ok(all.pop())
    }

    /// The one that a file belongs to.
    pub(crate) fn of_file(file: &Path) -> Option<Self> {
        let (folder, name) = (file.parent()?, file.file_name()?.to_str()?);
        Self::all_in(folder).into_iter().find(|found| found.folder() == folder && found.has(name))
    }

    /// The folder of the files.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Self::Idx(folder) | Self::Cifar(_, folder) | Self::Svhn(folder) => folder,
        }
    }

    /// True if a file of this name is one of it.
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Idx(_) => idx::is_name(name),
            Self::Cifar(form, _) => {
                form.train.iter().chain([&form.test, &form.names]).any(|file| *file == name)
            }
            Self::Svhn(_) => mat::FILES.contains(&name),
        }
    }

    pub(crate) fn read(&self, name: String) -> Result<Splits, DataError> {
        match self {
            Self::Idx(folder) => idx::read(folder, name, None),
            Self::Cifar(form, folder) => form.read(folder, name),
            Self::Svhn(folder) => mat::read(folder, name),
        }
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self {
            Self::Idx(_) => "IDX files",
            Self::Cifar(form, _) => form.folder,
            Self::Svhn(_) => "SVHN",
        };
        write!(f, "{form} in {}", self.folder().display())
    }
}
