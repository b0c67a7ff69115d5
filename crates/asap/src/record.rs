//! What a search tells: its images, its epochs, its result, and events while it goes on.

use asap_core::{Genotype, Pruned};
use serde::{Deserialize, Serialize};

/// What a search knows of its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Name of the data set.
    pub name: String,
    /// Height, width and channels of an image.
    pub image: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Images that train the weights.
    pub train_images: usize,
    /// Images that train alpha.
    pub valid_images: usize,
    /// Per-channel mean of the training half, of values in [0, 1].
    pub mean: Vec<f32>,
    /// Per-channel standard deviation of the training half.
    pub std: Vec<f32>,
}

/// One line of `events.jsonl`: an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 0.
    pub epoch: usize,
    /// T of the epoch (equation 9).
    pub temperature: f64,
    /// Theta for the operations of an edge.
    pub threshold: f64,
    /// Learning rate of the weights.
    pub lr: f64,
    /// Learning rate of alpha; 0 in grace epochs.
    pub alpha_lr: f64,
    /// Mean loss of the steps on the weights.
    pub train_loss: f64,
    /// Accuracy of the steps on the weights.
    pub train_accuracy: f64,
    /// Mean loss on the validation half after the epoch.
    pub valid_loss: f64,
    /// Accuracy on the validation half after the epoch.
    pub valid_accuracy: f64,
    /// Mean entropy of phi over the edges of the normal cell, divided by ln N.
    pub entropy_normal: f64,
    /// The same of the reduction cell.
    pub entropy_reduce: f64,
    /// Alive operations of the normal and the reduction cell together.
    pub alive_ops: usize,
    /// 1 minus the share of alive operations.
    pub sparsity: f64,
    /// Largest distance between two alphas of one edge: how far alpha has moved.
    pub alpha_spread: f64,
    /// Seconds of the epoch.
    pub epoch_seconds: f64,
    /// Largest resident memory so far, in MiB; absent where the system does not tell.
    pub peak_rss_mb: Option<f64>,
    /// Resident memory after the epoch, in MiB; it falls as operations are pruned.
    pub rss_mb: Option<f64>,
    /// What was pruned in the epoch.
    pub pruned: Vec<String>,
    /// Probabilities of the operations of each edge, `[normal, reduce][edge][candidate]`.
    pub probabilities: [Vec<Vec<f64>>; 2],
}

/// What a search came to; `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// Version of asap that wrote it.
    pub version: String,
    /// Seed of the search.
    pub seed: u64,
    /// The images.
    pub data: DataSummary,
    /// The one final cell.
    pub genotype: Genotype,
    /// Whether annealing made every choice.
    pub decided_by_annealing: bool,
    /// Choices that were still open at the end and fell to the largest probability.
    pub fallback: Vec<String>,
    /// Epochs, the last one perhaps cut short.
    pub epochs: usize,
    /// Steps on alpha.
    pub alpha_steps: usize,
    /// Seconds of search.
    pub seconds: f64,
    /// Validation accuracy of the search network at its end.
    pub valid_accuracy: f64,
    /// The same after everything that is not in the genotype is cut away.
    pub derived_valid_accuracy: f64,
    /// Weights left in the search network.
    pub weights: usize,
    /// Largest resident memory in MiB.
    pub peak_rss_mb: Option<f64>,
    /// What a user should know before trusting the cell.
    pub warnings: Vec<String>,
}

/// What a search tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was made.
    Step(StepReport<'a>),
    /// An epoch is complete.
    Epoch(&'a EpochRecord),
    /// A checkpoint is on the disk.
    Checkpoint,
}

/// Where a search stands after a step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport<'a> {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Most epochs.
    pub epochs: usize,
    /// Steps of the epoch made.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// T of the epoch.
    pub temperature: f64,
    /// Alive operations of both cells.
    pub alive_ops: usize,
    /// Accuracy of the epoch's steps so far.
    pub train_accuracy: f64,
    /// What the step pruned.
    pub pruned: &'a [Pruned],
}

/// Is told what happens; the library itself prints nothing.
pub trait Observer {
    /// Called for each event.
    fn on_event(&mut self, event: Event<'_>);
}

/// An observer that does nothing.
impl Observer for () {
    fn on_event(&mut self, _: Event<'_>) {}
}
