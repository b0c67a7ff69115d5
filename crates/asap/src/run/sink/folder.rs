//! A folder as the destination of a run.

use std::sync::Arc;

use super::{Sink, Stored, TensorFile};
use crate::error::Error;
#[cfg(feature = "tensorboard")]
use crate::run::folder::TENSORBOARD;
use crate::run::folder::{CHECKPOINT, EVENTS, Lock, RunFolder};
use crate::run::record::Record;
#[cfg(feature = "tensorboard")]
use crate::run::tensorboard;

impl Sink for RunFolder {
    fn lock(&self) -> Result<Option<Lock>, Error> {
        self.lock().map(Some)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        Self::write(self, name, bytes)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.read(name)
    }

    fn append_event(&mut self, record: &dyn Record) -> Result<(), Error> {
        Self::append_event(self, record)
    }

    fn replace_events(&mut self, records: &[&dyn Record]) -> Result<(), Error> {
        let text: String = records.iter().map(|record| record.json() + "\n").collect();
        Self::write(self, EVENTS, text.as_bytes())?;
        #[cfg(feature = "tensorboard")]
        {
            let mut bytes = tensorboard::header();
            records.iter().for_each(|record| bytes.extend(tensorboard::scalars(*record)));
            Self::write(self, TENSORBOARD, &bytes)?;
        }
        Ok(())
    }

    fn save_tensors(&mut self, name: &str, tensors: Arc<dyn TensorFile>) -> Result<(), Error> {
        if name == CHECKPOINT {
            self.keep_previous()?;
        }
        tensors.save(&self.file(name))
    }

    fn tensors(&self, name: &str) -> Stored {
        Stored::File(self.file(name))
    }

    fn folder(&self) -> Option<&RunFolder> {
        Some(self)
    }
}
