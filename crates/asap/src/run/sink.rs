//! Where a run leaves what it makes: its folder, or memory.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use asap_core::Genotype;
use asap_net::parameters::NamedValues;
use asap_net::tensor_file::{self, Header};
use asap_net::trained::NetworkCard;
use asap_net::{DeviceName, TrainedNetwork};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::run::folder::{EVENTS, GENOTYPE_JSON, Lock, RESULT, RunFolder, WEIGHTS};
use crate::run::record::Curves;

/// A place for the files of a run: a [`RunFolder`], or [`Memory`].
pub trait Sink: Send {
    /// Keeps others out until the lock is dropped.
    ///
    /// # Errors
    /// When another process works here.
    fn lock(&self) -> Result<Option<Lock>, Error> {
        Ok(None)
    }

    /// Replaces a file as a whole.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error>;

    /// Reads a file, if it is there.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Appends the record of an epoch to the events.
    ///
    /// # Errors
    /// When it cannot be written.
    fn append_event(&mut self, record: &dyn Record) -> Result<(), Error>;

    /// Replaces all events.
    ///
    /// # Errors
    /// When they cannot be written.
    fn replace_events(&mut self, records: &[&dyn Record]) -> Result<(), Error>;

    /// Replaces a file of tensors as a whole.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save_tensors(&mut self, name: &str, tensors: Arc<dyn TensorFile>) -> Result<(), Error>;

    /// Where a file of tensors is, should it exist.
    fn tensors(&self, name: &str) -> Stored;

    /// The folder, if this is one; reports and pictures are for folders only.
    fn folder(&self) -> Option<&RunFolder> {
        None
    }
}

/// A line of events: one epoch.
pub trait Record: Curves {
    /// The line, as JSON.
    fn json(&self) -> String;
}

impl<T: Serialize + Curves> Record for T {
    fn json(&self) -> String {
        serde_json::to_string(self).expect("plain data is JSON")
    }
}

/// Tensors with what belongs to them: a checkpoint, or a trained network.
#[derive(Clone, Debug)]
pub struct Tensors<H> {
    /// What the tensors are of.
    pub header: H,
    /// The tensors by name.
    pub values: NamedValues,
}

/// [`Tensors`] of any kind, as a sink keeps them.
pub trait TensorFile: Any + Send + Sync {
    /// Writes them to a file.
    ///
    /// # Errors
    /// When the disk refuses.
    fn save(&self, path: &Path) -> Result<(), Error>;
}

impl<H: Header + Send + Sync + 'static> TensorFile for Tensors<H> {
    fn save(&self, path: &Path) -> Result<(), Error> {
        Ok(tensor_file::save(path, &self.header, &self.values)?)
    }
}

/// Where a file of tensors is.
#[non_exhaustive]
pub enum Stored {
    /// On the disk.
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
    /// When it cannot be written.
    pub fn write_json(&mut self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        self.write(name, &json(value))
    }

    /// Reads the events; a line that a crash cut short at the end is left out.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn events<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        Ok(self.read(EVENTS)?.map_or_else(Vec::new, |bytes| records(&bytes)))
    }

    /// Reads a file of tensors.
    ///
    /// # Errors
    /// When there is none, it is damaged, or of another kind.
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

    /// The error of a run here that cannot go on.
    pub(crate) fn refuse(&self, problem: impl Into<String>) -> Error {
        let problem = problem.into();
        match self.folder() {
            Some(folder) => Error::RunFolder { path: folder.path().to_owned(), problem },
            None => Error::Run(problem),
        }
    }
}

/// A JSON file of a value.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("plain data is JSON");
    text.push(b'\n');
    text
}

/// The records of a file of events, up to a line that is cut short.
pub(crate) fn records<T: DeserializeOwned>(events: &[u8]) -> Vec<T> {
    let lines = events.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map_while(|line| serde_json::from_slice(line).ok()).collect()
}

/// The files of a run in memory: for searches and trainings that leave nothing on the disk.
#[derive(Clone, Default)]
pub struct Memory {
    files: BTreeMap<String, Vec<u8>>,
    tensors: BTreeMap<String, Arc<dyn TensorFile>>,
}

impl Memory {
    /// Memory without a run.
    pub fn new() -> Self {
        Self::default()
    }

    /// The records of the epochs so far.
    pub fn events<T: DeserializeOwned>(&self) -> Vec<T> {
        self.files.get(EVENTS).map_or_else(Vec::new, |bytes| records(bytes))
    }

    /// The cell that was found, or is trained.
    pub fn genotype(&self) -> Option<Genotype> {
        serde_json::from_slice(self.files.get(GENOTYPE_JSON)?).ok()
    }

    /// The result: a [`crate::SearchResult`] or a [`crate::TrainResult`].
    pub fn result<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.files.get(RESULT)?).ok()
    }

    /// The trained network.
    ///
    /// # Errors
    /// When no training was finished here, or the device is not built into the program.
    pub fn trained(&self, device: DeviceName) -> Result<TrainedNetwork, Error> {
        let sink: &dyn Sink = self;
        let Tensors { header, values } = sink.load_tensors::<NetworkCard>(WEIGHTS)?;
        Ok(TrainedNetwork::new(header, values, &device.open()?)?)
    }
}

impl Sink for Memory {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.files.get(name).cloned())
    }

    fn append_event(&mut self, record: &dyn Record) -> Result<(), Error> {
        let events = self.files.entry(EVENTS.to_owned()).or_default();
        events.extend(record.json().into_bytes());
        events.push(b'\n');
        Ok(())
    }

    fn replace_events(&mut self, records: &[&dyn Record]) -> Result<(), Error> {
        self.files.remove(EVENTS);
        records.iter().try_for_each(|record| self.append_event(*record))
    }

    fn save_tensors(&mut self, name: &str, tensors: Arc<dyn TensorFile>) -> Result<(), Error> {
        self.tensors.insert(name.to_owned(), tensors);
        Ok(())
    }

    fn tensors(&self, name: &str) -> Stored {
        self.tensors.get(name).map_or(Stored::Missing, |found| Stored::Memory(Arc::clone(found)))
    }
}
