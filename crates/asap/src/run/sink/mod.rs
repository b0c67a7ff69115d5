//! The destination of a run's files: its folder, or memory.

mod folder;
mod memory;

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use asap_net::parameters::NamedValues;
use asap_net::tensor_file::{self, Header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::run::folder::{EVENTS, Lock, RunFolder};
use crate::run::record::{Record, json, records};

pub use self::memory::Memory;

/// A destination for the files of a run: a [`RunFolder`], or [`Memory`].
pub trait Sink: Send {
    /// Keeps others out until the lock is dropped.
    ///
    /// # Errors
    /// If another process works here.
    fn lock(&self) -> Result<Option<Lock>, Error> {
        Ok(None)
    }

    /// Replaces a file as a whole.
    ///
    /// # Errors
    /// If it cannot be written.
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error>;

    /// Reads a file, if it exists.
    ///
    /// # Errors
    /// If it exists but cannot be read.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Appends the record of an epoch to the events.
    ///
    /// # Errors
    /// If it cannot be written.
    fn append_event(&mut self, record: &dyn Record) -> Result<(), Error>;

    /// Replaces all events.
    ///
    /// # Errors
    /// If they cannot be written.
    fn replace_events(&mut self, records: &[&dyn Record]) -> Result<(), Error>;

    /// Replaces a file of tensors as a whole.
    ///
    /// # Errors
    /// If it cannot be written.
    fn save_tensors(&mut self, name: &str, tensors: Arc<dyn TensorFile>) -> Result<(), Error>;

    /// The location of a file of tensors, if it exists.
    fn tensors(&self, name: &str) -> Stored;

    /// The folder, if this is one; reports and pictures are only for folders.
    fn folder(&self) -> Option<&RunFolder> {
        None
    }
}

/// Tensors with the data that belongs to them: a checkpoint, or a trained network.
#[derive(Clone, Debug)]
pub struct Tensors<H> {
    /// The description of the tensors.
    pub header: H,
    /// The tensors by name.
    pub values: NamedValues,
}

/// [`Tensors`] of any kind, as stored in a sink.
pub trait TensorFile: Any + Send + Sync {
    /// Writes them to a file.
    ///
    /// # Errors
    /// If it cannot be written.
    fn save(&self, path: &Path) -> Result<(), Error>;
}

impl<H: Header + Send + Sync + 'static> TensorFile for Tensors<H> {
    fn save(&self, path: &Path) -> Result<(), Error> {
        Ok(tensor_file::save(path, &self.header, &self.values)?)
    }
}

/// The location of a file of tensors.
#[non_exhaustive]
pub enum Stored {
    /// On disk.
    File(PathBuf),
    /// In memory.
    Memory(Arc<dyn TensorFile>),
    /// Nowhere.
    Missing,
}

impl dyn Sink + '_ {
    /// Replaces a JSON file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_json(&mut self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        self.write(name, &json(value))
    }

    /// Reads the events; an incomplete last line, left by a crash, is skipped.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn events<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        Ok(self.read(EVENTS)?.map_or_else(Vec::new, |bytes| records(&bytes)))
    }

    /// Reads a file of tensors.
    ///
    /// # Errors
    /// If there are none, or they are damaged or of another kind.
    pub fn load_tensors<H: Header + Clone + Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> Result<Tensors<H>, Error> {
        let tensors = match self.tensors(name) {
            Stored::File(path) => {
                let (header, values) = tensor_file::load(&path)?;
                return Ok(Tensors { header, values });
            }
            Stored::Memory(tensors) => Some(tensors),
            Stored::Missing => None,
        };
        let tensors = tensors.as_deref().map(|tensors| tensors as &dyn Any);
        let found = if tensors.is_some() { "others" } else { "none" };
        tensors.and_then(|tensors| tensors.downcast_ref::<Tensors<H>>()).cloned().ok_or_else(|| {
            self.refuse(format!(
                "expected the tensors of a {}, found {found}; {}",
                H::KIND,
                H::REMEDY
            ))
        })
    }

    /// The error of a run here that cannot continue.
    pub(crate) fn refuse(&self, problem: impl Into<String>) -> Error {
        let problem = problem.into();
        match self.folder() {
            Some(folder) => Error::RunFolder { path: folder.path().to_owned(), problem },
            None => Error::Run(problem),
        }
    }
}
