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
    /// What the final says of the search, as a sentence; nothing if there was none, or nothing to compare it with.
    ///
    /// A difference counts if it is larger than chance makes it between as many networks that are equally good, at 5 %: the candidates'
    /// errors are taken for independent, which makes this cautious, since they are measured on the same images.
    pub fn verdict(&self) -> Option<String> {
        let is_found = |name: &str| name.starts_with("search-");
        let (found, others): (Vec<_>, Vec<_>) =
            self.candidates.iter().partition(|candidate| is_found(&candidate.name));
        let other = Candidate::best(others.iter().copied())?;
        let Some(found) = Candidate::best(found) else {
            let left = self.left_out.iter().find(|left| is_found(&left.name))?;
            return Some(format!(
                "{} won with {:.2} %, without the cell found, which could not be compared: {}",
                self.winner,
                100.0 * self.candidates.iter().find(|c| c.name == self.winner)?.accuracy,
                left.reason
            ));
        };
        let found_won = is_found(&self.winner);
        let (first, second) = if found_won { (found, other) } else { (other, found) };
        let images = first.held_out.min(second.held_out) as f64;
        let variance = |candidate: &Candidate| candidate.accuracy * (1.0 - candidate.accuracy);
        let error = ((variance(first) + variance(second)) / images).sqrt();
        let z = (first.accuracy - second.accuracy).abs() / error;
        let chance = others.len() as f64 * libm::erfc(z / std::f64::consts::SQRT_2);
        let meaning = match chance < 0.05 {
            // Earlier versions did not note how many.
            _ if images == 0.0 => "of an unknown number of images.".to_owned(),
            true if found_won => "the search found the better network.".to_owned(),
            true => "here the search was not worth its time.".to_owned(),
            false => format!("too close to call with {images} held-out images."),
        };
        let [first_accuracy, second_accuracy] = [first, second].map(|c| 100.0 * c.accuracy);
        let [first, second] = [first, second].map(|candidate| match is_found(&candidate.name) {
            true => "the best cell found",
            false => candidate.name.as_str(),
        });
        Some(format!(
            "{first} won with {first_accuracy:.2} %, ahead of {second} with {second_accuracy:.2} %: {meaning}"
        ))
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
    /// The number of these images.
    #[serde(default)]
    pub held_out: usize,
}

impl Candidate {
    /// The one with the best accuracy; the first of equals.
    pub(crate) fn best<'a>(all: impl IntoIterator<Item = &'a Self>) -> Option<&'a Self> {
        let better = |best: &'a Self, other: &'a Self| match other.accuracy > best.accuracy {
            true => other,
            false => best,
        };
        all.into_iter().reduce(better)
    }
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

impl Truth {
    /// The chance in words; as a simulation finds it, it is never 0.
    pub fn chance(&self) -> String {
        match self.chance {
            chance if chance < 1e-4 => "< 0.01 %".to_owned(),
            chance => format!("{:.2} %", 100.0 * chance),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, accuracy: f64) -> Candidate {
        Candidate {
            name: name.to_owned(),
            folder: String::new(),
            design: Design::Plain("resnet-9".parse().unwrap()),
            params: 1,
            multiply_adds: 1,
            epochs: 1,
            seconds: 1.0,
            accuracy,
            held_out: 500,
        }
    }

    #[test]
    fn a_verdict_says_no_more_than_the_images_do() {
        let verdict = |found: Option<f64>, other: f64, left_out: &[&str]| {
            let mut candidates = vec![candidate("resnet-9", other), candidate("ASAP", 0.5)];
            candidates.extend(found.map(|accuracy| candidate("search-0", accuracy)));
            let winner = Candidate::best(&candidates).unwrap().name.clone();
            let left_out = left_out
                .iter()
                .map(|name| LeftOut { name: (*name).to_owned(), reason: "too heavy".to_owned() });
            let left_out = left_out.collect();
            Final { candidates, winner, left_out, ..Final::default() }.verdict()
        };
        // 500 images tell 80 from 90 %, and not 88 from 90.
        let text = verdict(Some(0.8), 0.9, &[]).unwrap();
        assert!(
            text.contains("resnet-9 won with 90.00 %, ahead of the best cell found with 80.00 %")
        );
        assert!(text.ends_with("the search was not worth its time."), "{text}");
        let text = verdict(Some(0.88), 0.9, &[]).unwrap();
        assert!(text.ends_with("too close to call with 500 held-out images."), "{text}");
        let text = verdict(Some(0.9), 0.8, &[]).unwrap();
        assert!(text.starts_with("the best cell found won"), "{text}");
        assert!(text.ends_with("the search found the better network."), "{text}");
        assert!(verdict(Some(0.9), 0.9, &[]).unwrap().contains("too close to call"), "equals");
        assert!(verdict(None, 0.9, &["search-0"]).unwrap().ends_with("too heavy"));
        // The first of equals is named, as it is the one that is trained.
        let text = verdict(Some(0.4), 0.5, &[]).unwrap();
        assert!(text.starts_with("resnet-9 won with 50.00 %"), "{text}");
        assert_eq!(verdict(None, 0.9, &[]), None);
    }
}
