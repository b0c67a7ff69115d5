//! The state of a search that its checkpoint holds besides the tensors.

use asap_core::Architecture;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::run::folder::CHECKPOINT;
use crate::run::record::DataSummary;
use crate::run::sink::{Sink, Tensors};
use asap_net::parameters::NamedValues;
use asap_net::steps::Score;
use asap_net::tensor_file::Header;

/// The state of a search without the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The images of the search.
    pub data: DataSummary,
    /// Its progress.
    pub progress: Progress,
    /// Alpha, its optimizer's state and the live operations.
    pub architecture: Architecture,
    /// The state that the method keeps between steps.
    #[serde(default)]
    pub method: serde_json::Value,
}

impl Header for State {
    const KIND: &'static str = "search";
    const REMEDY: &'static str = "give the folder of a search, or start a new search";
}

/// The progress of a search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Current epoch, from 0.
    pub epoch: usize,
    /// Completed steps of that epoch.
    pub step: usize,
    /// Steps on alpha so far.
    pub alpha_steps: usize,
    /// Scores of the epoch's steps on the weights.
    pub train: Score,
    /// The prunings of the epoch so far, as text.
    pub pruned: Vec<String>,
    /// Seconds of the epoch so far.
    pub epoch_seconds: f64,
    /// Seconds of the search so far.
    pub seconds: f64,
}

/// Reads the checkpoint of a search.
///
/// # Errors
/// If it does not exist, is damaged, or was written by another version.
pub fn load(sink: &dyn Sink) -> Result<(State, NamedValues), Error> {
    let Tensors { header, values } = sink.load_tensors(CHECKPOINT)?;
    Ok((header, values))
}
