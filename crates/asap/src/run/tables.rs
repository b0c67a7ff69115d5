//! The results of commands with several runs.

use asap_core::{Design, Genotype};
use serde::{Deserialize, Serialize};

use crate::run::record::{SearchResult, TrainResult};
use crate::run::spread::Spread;
use crate::settings::MethodName;
use crate::tabular::{Standing, Tabular};

/// The result of searches and of the trainings of their cells; its `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunResult {
    /// Version of asap that wrote it.
    pub version: String,
    /// Each search with the trainings of its cell.
    pub searches: Vec<SearchAndTrainings>,
    /// The runs that are neither done nor failed: those of other shards, or of later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Test error over all trainings, with their last weights.
    pub error: Option<Spread>,
    /// Standard deviation of the mean errors of the searches.
    pub search_deviation: Option<f64>,
    /// Standard deviation of the errors of trainings of one cell.
    pub training_deviation: Option<f64>,
    /// Seconds of everything together, reading of images and reports included.
    pub seconds: f64,
    /// Seconds that it was allowed to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// The final, and the trainings of its winner.
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Final>,
}

impl RunResult {
    /// Folder and result of every training, those of the final's candidates aside.
    pub fn trainings(&self) -> Vec<&(String, TrainResult)> {
        let of_searches = self.searches.iter().flat_map(|search| &search.trainings);
        of_searches.chain(self.outcome.iter().flat_map(|outcome| &outcome.trainings)).collect()
    }
}

/// A final between the cells found and simpler answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Final {
    /// Why nothing was searched or compared, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The candidates; none if there was nothing to choose from.
    pub candidates: Vec<Candidate>,
    /// Those that could not be trained within the time and the limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// The name of the best one.
    pub winner: String,
    /// Folder and result of each training of the winner.
    pub trainings: Vec<(String, TrainResult)>,
    /// The same for smaller networks of its design.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smaller: Vec<(String, TrainResult)>,
}

impl Final {
    /// What the final says of the search, as a sentence; nothing if a cell found won.
    pub fn verdict(&self) -> Option<String> {
        let of = |name: &str| self.candidates.iter().find(|candidate| candidate.name == name);
        let winner = of(&self.winner)?;
        let is_found = |name: &str| name.starts_with("search-");
        let found = self.candidates.iter().filter(|c| is_found(&c.name));
        let Some(best) = found.map(|candidate| candidate.accuracy).reduce(f64::max) else {
            let found = self.left_out.iter().find(|left| is_found(&left.name))?;
            return Some(format!(
                "{} won with {:.2} %, without the cell found, which could not be compared: {}",
                winner.name,
                100.0 * winner.accuracy,
                found.reason
            ));
        };
        (!is_found(&winner.name)).then(|| {
            format!(
                "{} won with {:.2} %, before the best cell found with {:.2} %: here the search was not worth its time.",
                winner.name,
                100.0 * winner.accuracy,
                100.0 * best
            )
        })
    }
}

/// A candidate of a final that could not be trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// Its name, as in [`Candidate`].
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// A candidate of a final, trained shortly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Candidate {
    /// Its name: the folder of a search, a published cell, a plain network, or `random`.
    pub name: String,
    /// The folder of its short training inside the run's.
    pub folder: String,
    /// What it is built of.
    #[serde(rename = "genotype")]
    pub design: Design,
    /// Trained weights.
    pub params: usize,
    /// Multiply-adds of inference on one image.
    pub multiply_adds: u64,
    /// Epochs of the short training.
    pub epochs: usize,
    /// Its seconds.
    pub seconds: f64,
    /// Accuracy on held-out training images after its last epoch.
    pub accuracy: f64,
}

/// A search with the trainings of its cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SearchAndTrainings {
    /// Its folder inside the run's.
    pub folder: String,
    /// The search.
    pub search: SearchResult,
    /// Folder and result of each training of its cell; none if a final decides what is trained.
    pub trainings: Vec<(String, TrainResult)>,
}

/// The table of a transfer; its `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TransferTable {
    /// Version of asap that wrote it.
    pub version: String,
    /// One row for each cell and data set.
    pub rows: Vec<TransferRow>,
    /// The runs that are neither done nor failed: those of other shards, or of later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A cell on a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TransferRow {
    /// The cell's name.
    pub cell: String,
    /// The data set.
    pub data: String,
    /// Trained weights.
    pub params: Option<usize>,
    /// Multiply-adds of inference on one image.
    pub multiply_adds: Option<u64>,
    /// Test error over the seeds, with the last weights.
    pub error: Option<Spread>,
    /// Mean seconds of a training.
    pub seconds: Option<f64>,
    /// Trainings that failed, with the reason.
    pub failures: Vec<String>,
}

/// The table of a comparison of methods; its `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Version of asap that wrote it.
    pub version: String,
    /// The table of true accuracies in which the cells are looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TabularSummary>,
    /// One row for each method.
    pub rows: Vec<ComparisonRow>,
    /// The runs that are neither done nor failed: those of other shards, or of later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A table of true accuracies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TabularSummary {
    /// The column of the accuracies.
    pub column: String,
    /// Number of cells of the searched space in it.
    pub cells: usize,
    /// Their mean accuracy.
    pub mean: f64,
}

impl TabularSummary {
    pub(crate) fn of(table: &Tabular) -> Self {
        Self { column: table.column().to_owned(), cells: table.len(), mean: table.mean() }
    }
}

/// The cells of a method in a table of true accuracies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Truth {
    /// The cell of each seed; `None` if the table does not have it.
    pub cells: Vec<Option<Standing>>,
    /// Accuracy over the seeds.
    pub accuracy: Spread,
    /// Fraction of all cells that are less accurate.
    pub percentile: Spread,
    /// The same among the cells of no more multiply-adds than the one that was found.
    pub percentile_of_cost: Spread,
    /// The chance that as many random cells are as accurate on average.
    pub chance: f64,
}

/// A method over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComparisonRow {
    /// The method.
    pub method: MethodName,
    /// Test error of the trained networks, with the last weights.
    pub error: Option<Spread>,
    /// Weights of the trained networks.
    pub params: Option<Spread>,
    /// Multiply-adds of inference on one image.
    pub multiply_adds: Option<Spread>,
    /// Seconds of search.
    pub search_seconds: Option<Spread>,
    /// Largest resident memory of a search in MiB.
    pub search_peak_mb: Option<f64>,
    /// Validation accuracy of the search network at its last step, with recomputed statistics.
    pub search_accuracy: Option<Spread>,
    /// The same for the derived network with the same weights.
    pub derived_accuracy: Option<Spread>,
    /// Fraction of operations that the search itself removed.
    pub sparsity: Option<Spread>,
    /// True accuracies of the cells found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<Truth>,
    /// Searches and trainings that failed, with the reason.
    pub failures: Vec<String>,
}

/// The result of searches on a table; its `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueryTable {
    /// Version of asap that wrote it.
    pub version: String,
    /// The table and the column by which cells are judged.
    pub table: TabularSummary,
    /// The column that the searches saw.
    pub asked: String,
    /// Cells that each search asked for.
    pub evaluations: usize,
    /// One row for each method.
    pub rows: Vec<QueryRow>,
}

/// A method over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueryRow {
    /// The method.
    pub method: MethodName,
    /// Judged accuracy of the cells found.
    pub accuracy: Spread,
    /// Fraction of all cells that are less accurate.
    pub percentile: Spread,
    /// The accuracy that the searches saw of them.
    pub asked: Spread,
    /// Mean accuracy minus that of random search, if that was compared, and the probability of a difference as large if both were the same
    /// (two-sided permutation test).
    pub against_random: Option<(f64, f64)>,
    /// Judged accuracy of the best cell so far, after each evaluation.
    pub curve: Vec<Spread>,
    /// The cell found with each seed.
    pub found: Vec<Found>,
}

impl QueryRow {
    /// The comparison with random search in words: `+0.21 (p < 0.0001)`, in points.
    pub fn against_random(&self) -> String {
        match self.against_random {
            None => "-".to_owned(),
            Some((difference, p)) if p < 1e-4 => format!("{:+.2} (p < 0.0001)", 100.0 * difference),
            Some((difference, p)) => format!("{:+.2} (p = {p:.4})", 100.0 * difference),
        }
    }
}

/// A cell that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// The cell.
    pub genotype: Genotype,
    /// Its judged accuracy.
    pub accuracy: f64,
    /// The accuracy that the search saw.
    pub asked: f64,
}
