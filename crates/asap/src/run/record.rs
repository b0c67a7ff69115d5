//! The records of searches and trainings: their images, epochs and results, and their events.

use asap_core::{Design, Genotype, MixingTables, Pruned, SURE, Sureness};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::settings::MethodName;
use crate::settings::config::LimitsConfig;
use asap_net::evaluation::Evaluation;

/// The images of a run, in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DataSummary {
    /// Name of the data set.
    pub name: String,
    /// Height, width and channels of an image.
    pub image: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Images that train the weights.
    pub train_images: usize,
    /// Images that train alpha in a search, or that only validate a training.
    pub valid_images: usize,
    /// Images of the test set.
    #[serde(default)]
    pub test_images: usize,
    /// Per-channel mean of the images that train the weights, of values in [0, 1].
    pub mean: Vec<f32>,
    /// Per-channel standard deviation of the same values.
    pub std: Vec<f32>,
}

impl DataSummary {
    /// True if these are the same images, wherever they are.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        Self { name: other.name.clone(), ..self.clone() } == *other
    }
}

/// Key numbers of a search before its first step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SearchOutline {
    /// The images.
    #[serde(skip)]
    pub data: DataSummary,
    /// Weights of the search network.
    pub weights: usize,
    /// Steps per epoch.
    pub steps_per_epoch: usize,
    /// Largest number of epochs.
    pub epochs: usize,
    /// Classes whose images are all in one half: they train the weights or alpha, and not both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes_in_one_half: Vec<String>,
    /// Epochs in which only the weights move.
    pub grace_epochs: usize,
    /// Effective learning rate of alpha.
    pub alpha_lr: f64,
    /// Estimated memory of the search at its start, in MiB; pruning lowers it.
    pub memory_estimate_mb: f64,
}

/// Key numbers of a training before its first step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainOutline {
    /// The images.
    #[serde(skip)]
    pub data: DataSummary,
    /// Weights of the network, without an auxiliary head.
    pub params: u64,
    /// Multiply-adds of inference on one image.
    pub multiply_adds: u64,
    /// Steps per epoch.
    pub steps_per_epoch: usize,
    /// Images that an epoch leaves out, different ones each time, since they do not fill a batch.
    pub images_left_out: usize,
    /// Number of epochs.
    pub epochs: usize,
    /// Estimated memory of the training, in MiB.
    pub memory_estimate_mb: f64,
}

/// One line of `events.jsonl`: an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EpochRecord {
    /// Epoch, from 0.
    pub epoch: usize,
    /// T of the epoch (eq. 9).
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
    /// The same for the reduction cell, if the space has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_reduce: Option<f64>,
    /// Live operations of the normal and the reduction cell together.
    pub alive_ops: usize,
    /// 1 minus the fraction of live operations.
    pub sparsity: f64,
    /// Largest difference between two alphas of one edge, a measure of how far alpha has moved.
    pub alpha_spread: f64,
    /// Seconds of the epoch.
    pub epoch_seconds: f64,
    /// Largest resident memory so far, in MiB; absent if the system does not report it.
    pub peak_rss_mb: Option<f64>,
    /// Resident memory after the epoch, in MiB; it falls as operations are pruned.
    pub rss_mb: Option<f64>,
    /// The operations pruned in the epoch.
    pub pruned: Vec<String>,
    /// Probabilities of the operations of each edge, `[kind][edge][candidate]`.
    pub probabilities: MixingTables,
}

/// A line of `events.jsonl` as named numbers, for curves.
pub trait Curves {
    /// The epoch, from 0.
    fn epoch(&self) -> usize;

    /// The values to draw over the epochs, each named `group/name`; unknown ones are left out.
    fn values(&self) -> Vec<(&'static str, f64)>;
}

impl Curves for EpochRecord {
    fn epoch(&self) -> usize {
        self.epoch
    }

    fn values(&self) -> Vec<(&'static str, f64)> {
        let mut values = vec![
            ("accuracy/validation", self.valid_accuracy),
            ("accuracy/training", self.train_accuracy),
            ("loss/validation", self.valid_loss),
            ("loss/training", self.train_loss),
            ("annealing/temperature", self.temperature),
            ("annealing/threshold", self.threshold),
            ("operations/alive", self.alive_ops as f64),
            ("operations/sparsity", self.sparsity),
            ("entropy/normal cell", self.entropy_normal),
            ("alpha/largest distance", self.alpha_spread),
            ("learning rate/weights", self.lr),
            ("learning rate/alpha", self.alpha_lr),
            ("epoch/seconds", self.epoch_seconds),
        ];
        values.extend(self.entropy_reduce.map(|entropy| ("entropy/reduction cell", entropy)));
        values.extend(self.rss_mb.map(|rss| ("epoch/memory in MiB", rss)));
        values
    }
}

/// Validation accuracies of the search network at its last step and of the derived network with the same weights.
///
/// Both with recomputed batch norm statistics; their difference is the error that the relaxation hides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RelaxationGap {
    /// Accuracy of the search network.
    pub search: f64,
    /// Accuracy of the derived network.
    pub derived: f64,
}

/// The result of a search; its `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SearchResult {
    /// Version of asap that wrote it.
    pub version: String,
    /// Seed of the search.
    pub seed: u64,
    /// The method.
    #[serde(default)]
    pub method: MethodName,
    /// The images.
    pub data: DataSummary,
    /// The one final cell.
    pub genotype: Genotype,
    /// True if annealing made every choice.
    pub decided_by_annealing: bool,
    /// How sure each choice of the cell is, by the evidence of the search; empty for methods that gather none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Sureness>,
    /// Choices that were still open at the end and were decided by the largest probability.
    pub fallback: Vec<String>,
    /// Number of epochs; the last one may be incomplete.
    pub epochs: usize,
    /// Steps on alpha.
    pub alpha_steps: usize,
    /// Seconds of search.
    pub seconds: f64,
    /// Validation accuracy of the search network at its end; none if every cell is trained alone.
    pub valid_accuracy: Option<f64>,
    /// The same after everything that is not in the genotype is removed, or that of the cell's own training.
    pub derived_valid_accuracy: Option<f64>,
    /// Both again, with recomputed statistics.
    #[serde(default)]
    pub relaxation_gap: Option<RelaxationGap>,
    /// Weights that remain in the search network.
    pub weights: usize,
    /// Largest resident memory in MiB.
    pub peak_rss_mb: Option<f64>,
    /// Warnings to consider before trusting the cell.
    pub warnings: Vec<String>,
}

impl SearchResult {
    /// Number of sure choices, and of all choices with evidence.
    pub fn sure_choices(&self) -> (usize, usize) {
        (self.choices.iter().filter(|choice| choice.sure >= SURE).count(), self.choices.len())
    }

    /// How the choices were made, in words.
    pub fn decisions(&self) -> String {
        let open = self.fallback.len();
        match self.sure_choices() {
            (_, 0) if self.decided_by_annealing => "every choice made by annealing".to_owned(),
            (_, 0) if open == 0 => format!("made by {}", self.method),
            (_, 0) => format!("{open} choices made by largest probability"),
            (sure, all) => format!(
                "{sure} of {all} choices are at least {:.0} % sure; {open} were still open and went to the best candidate",
                100.0 * SURE
            ),
        }
    }

    /// The validation accuracies in words, if the method measures any.
    pub fn accuracies(&self) -> Option<String> {
        let percent = |accuracy: f64| format!("{:.2} %", 100.0 * accuracy);
        let cell = percent(self.derived_valid_accuracy?);
        Some(match self.valid_accuracy {
            Some(whole) => format!("{} (search network), {cell} (final cell only)", percent(whole)),
            None => format!("{cell} (short training of the cell)"),
        })
    }
}

/// One line of `events.jsonl` of a training: an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainRecord {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Number of epochs as planned during this one.
    #[serde(default)]
    pub epochs: usize,
    /// Learning rate in the middle of the epoch.
    pub lr: f64,
    /// Probability of drop-path.
    pub drop_path: f64,
    /// Mean cross entropy of the steps.
    pub train_loss: f64,
    /// Accuracy of the steps, on augmented images.
    pub train_accuracy: f64,
    /// Mean cross entropy on the validation images, if there are any.
    pub valid_loss: Option<f64>,
    /// Accuracy on the validation images, if there are any.
    pub valid_accuracy: Option<f64>,
    /// Seconds of the epoch.
    pub epoch_seconds: f64,
    /// Largest resident memory so far, in MiB; absent if the system does not report it.
    pub peak_rss_mb: Option<f64>,
}

impl Curves for TrainRecord {
    fn epoch(&self) -> usize {
        self.epoch
    }

    fn values(&self) -> Vec<(&'static str, f64)> {
        let known = [
            ("accuracy/validation", self.valid_accuracy),
            ("accuracy/training", Some(self.train_accuracy)),
            ("loss/validation", self.valid_loss),
            ("loss/training", Some(self.train_loss)),
            ("learning rate/weights", Some(self.lr)),
            ("drop-path/probability", Some(self.drop_path)),
            ("epoch/seconds", Some(self.epoch_seconds)),
            ("epoch/memory in MiB", self.peak_rss_mb),
        ];
        known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The result of a training; its `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainResult {
    /// Version of asap that wrote it.
    pub version: String,
    /// Seed of the training.
    pub seed: u64,
    /// The images.
    pub data: DataSummary,
    /// What the network is built of: a genotype, or the name of a plain network.
    #[serde(rename = "genotype")]
    pub design: Design,
    /// Number of trained weights, without those of the auxiliary head.
    pub params: usize,
    /// Multiply-adds of inference on one image.
    pub multiply_adds: u64,
    /// The limits that it keeps.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Median milliseconds from the bytes of one image to its logits, if they are limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Number of epochs.
    pub epochs: usize,
    /// Seconds of training.
    pub seconds: f64,
    /// The test error after the last epoch, with the last weights; absent without test images.
    pub test: Option<Evaluation>,
    /// Accuracy on the validation images after the last epoch, if there are any.
    pub valid_accuracy: Option<f64>,
    /// The best epoch on the validation images, from 0, and its accuracy there.
    pub best: Option<(usize, f64)>,
    /// Largest resident memory in MiB.
    pub peak_rss_mb: Option<f64>,
    /// Warnings to consider before trusting the numbers.
    pub warnings: Vec<String>,
}

impl TrainResult {
    /// The size of the network beside its limits, as text.
    pub fn network(&self) -> String {
        let LimitsConfig { multiply_adds, weights, latency_ms, latency_threads, memory_mb, .. } =
            self.limits;
        let millions = |count: u64| format!("{:.1} M", count as f64 / 1e6);
        let of = |limit: u64, text: String| {
            if limit > 0 { format!(" of {text}") } else { String::new() }
        };
        let mut text = format!(
            "{}{} weights, {}{} multiply-adds",
            self.params,
            of(weights, weights.to_string()),
            millions(self.multiply_adds),
            of(multiply_adds, millions(multiply_adds)),
        );
        if let Some(latency) = self.latency_ms {
            let plural = if latency_threads == 1 { "" } else { "s" };
            text +=
                &format!(", {latency:.2} of {latency_ms} ms with {latency_threads} thread{plural}");
        }
        if let Some(peak) = self.peak_rss_mb.filter(|_| memory_mb > 0) {
            text += &format!(", {peak:.0} of {memory_mb} MiB to train");
        }
        text
    }
}

/// The end of a run that can be stopped.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// The run is complete.
    Finished(Box<T>),
    /// The run was asked to stop; a checkpoint is in its sink.
    Stopped,
}

/// An event of a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// One of several runs starts.
    Begin(&'a str),
    /// A message for the user.
    Note(&'a str),
    /// A step of a search is complete.
    Step(StepReport<'a>),
    /// An epoch of a search is complete.
    Epoch(&'a EpochRecord),
    /// A step of a training is complete.
    TrainStep(TrainStep),
    /// An epoch of a training is complete.
    TrainEpoch(&'a TrainRecord),
    /// A checkpoint is in the sink.
    Checkpoint,
}

/// The state of a search after a step.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StepReport<'a> {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Largest number of epochs.
    pub epochs: usize,
    /// Completed steps of the epoch.
    pub step: usize,
    /// Steps per epoch.
    pub steps: usize,
    /// T of the epoch.
    pub temperature: f64,
    /// Live operations of both cells.
    pub alive_ops: usize,
    /// Accuracy of the epoch's steps so far.
    pub train_accuracy: f64,
    /// The operations pruned in the step.
    pub pruned: &'a [Pruned],
}

/// The state of a training after a step.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TrainStep {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Number of epochs.
    pub epochs: usize,
    /// Completed steps of the epoch.
    pub step: usize,
    /// Steps per epoch.
    pub steps: usize,
    /// Learning rate of the step.
    pub lr: f64,
    /// Mean cross entropy of the epoch's steps so far.
    pub train_loss: f64,
    /// Accuracy of the epoch's steps so far.
    pub train_accuracy: f64,
}

/// A receiver of events; the library itself prints nothing.
pub trait Observer: Send {
    /// Called for each event.
    fn on_event(&mut self, event: Event<'_>);
}

/// An observer that does nothing.
impl Observer for () {
    fn on_event(&mut self, _: Event<'_>) {}
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

/// A JSON file of a value.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("plain data is JSON");
    text.push(b'\n');
    text
}

/// The records in a file of events, up to an incomplete line.
pub(crate) fn records<T: DeserializeOwned>(events: &[u8]) -> Vec<T> {
    let lines = events.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map_while(|line| serde_json::from_slice(line).ok()).collect()
}
