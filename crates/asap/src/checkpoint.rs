//! A search at rest: one safetensors file with every tensor, and the rest as JSON in its header.

use std::collections::HashMap;
use std::fs;

use asap_core::Architecture;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::parameters::NamedValues;
use crate::record::DataSummary;
use crate::run_folder::{CHECKPOINT, RunFolder};
use crate::steps::Score;

/// Version of the file's form; another one is refused.
const FORMAT: u32 = 1;
/// Header keys.
const FORMAT_KEY: &str = "asap.format";
const STATE_KEY: &str = "asap.state";

/// Where a search stands; all of it but the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The images that it is about.
    pub data: DataSummary,
    /// How far it is.
    pub progress: Progress,
    /// Alpha, its optimizer's state and the operations alive.
    pub architecture: Architecture,
}

/// How far a search is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epoch that is going on, from 0.
    pub epoch: usize,
    /// Steps of that epoch already made.
    pub step: usize,
    /// Steps on alpha so far.
    pub alpha_steps: usize,
    /// Scores of the epoch's steps on the weights.
    pub train: Score,
    /// What the epoch has pruned so far, in words.
    pub pruned: Vec<String>,
    /// Seconds that the epoch has taken so far.
    pub epoch_seconds: f64,
    /// Seconds that the search has taken so far.
    pub seconds: f64,
}

/// Writes a checkpoint, replacing the last one only when it is complete.
///
/// # Errors
/// When the disk refuses.
pub fn save(folder: &RunFolder, state: &State, tensors: &NamedValues) -> Result<(), Error> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes);
        (name.as_str(), view.expect("shape and values agree"))
    });
    let state = serde_json::to_string(state).expect("plain data is JSON");
    let header =
        HashMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_string()), (STATE_KEY.to_owned(), state)]);
    let file = safetensors::serialize(views, Some(header)).expect("names are unique");
    folder.write(CHECKPOINT, &file)
}

/// Reads the checkpoint of a run.
///
/// # Errors
/// When there is none, it is damaged, or another version wrote it.
pub fn load(folder: &RunFolder) -> Result<(State, NamedValues), Error> {
    let path = folder.file(CHECKPOINT);
    let fault = |problem: String| Error::RunFolder { path: path.clone(), problem };
    let bytes = fs::read(&path).map_err(|error| {
        fault(format!("expected a checkpoint to resume from ({error}); start the search anew"))
    })?;
    let damaged = |error: &dyn std::fmt::Display| {
        fault(format!("expected a whole checkpoint ({error}); start the search anew"))
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
    let header = metadata.metadata().clone().unwrap_or_default();
    let found = header.get(FORMAT_KEY).map_or("none", String::as_str);
    if found != FORMAT.to_string() {
        return Err(fault(format!(
            "expected checkpoint format {FORMAT}, found {found}; \
             resume with the version of asap that wrote it"
        )));
    }
    let state = header.get(STATE_KEY).map_or("", String::as_str);
    let state = serde_json::from_str(state).map_err(|e| damaged(&e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e))?;
    let named = tensors.iter().map(|(name, view)| {
        let values =
            view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        (name.to_owned(), (view.shape().to_vec(), values))
    });
    Ok((state, named.collect()))
}
