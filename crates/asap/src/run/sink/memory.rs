//! Memory as the destination of a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use asap_core::Genotype;
use asap_net::trained::NetworkCard;
use asap_net::{DeviceName, TrainedNetwork};
use serde::de::DeserializeOwned;

use super::{Sink, Stored, TensorFile, Tensors};
use crate::error::Error;
use crate::run::folder::{EVENTS, GENOTYPE_JSON, RESULT, WEIGHTS};
use crate::run::record::{Record, records};

/// The files of a run in memory: for searches and trainings that leave nothing on disk.
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

    /// The cell that was found, or that is trained.
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
    /// If no training has finished here, or the device is not built into the program.
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
