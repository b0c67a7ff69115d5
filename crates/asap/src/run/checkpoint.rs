//! A search at rest: the state beside the tensors of its checkpoint.

use asap_core::Architecture;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::run::folder::CHECKPOINT;
use crate::run::record::DataSummary;
use crate::run::sink::{Sink, Tensors};
use asap_net::parameters::NamedValues;
use asap_net::steps::Score;
use asap_net::tensor_file::Header;

/// The state of a search but for the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The images that it is about.
    pub data: DataSummary,
    /// How far it is.
    pub progress: Progress,
    /// Alpha, its optimizer's state and the operations alive.
    pub architecture: Architecture,
    /// What the method carries from step to step.
    #[serde(default)]
    pub method: serde_json::Value,
}

impl Header for State {
    const KIND: &'static str = "search";
    const REMEDY: &'static str = "give the folder of a search, or start the search anew";
}

/// The progress of a search.
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

/// Reads the checkpoint of a search.
///
/// # Errors
/// When there is none, it is damaged, or another version wrote it.
pub fn load(sink: &dyn Sink) -> Result<(State, NamedValues), Error> {
    let Tensors { header, values } = sink.load_tensors(CHECKPOINT)?;
    Ok((header, values))
}
