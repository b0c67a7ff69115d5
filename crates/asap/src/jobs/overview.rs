//! The current state of the runs under a folder, for a page that follows them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use asap_core::Design;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::jobs::PLANS;
use crate::run::folder::{CONFIG, EVENTS, GENOTYPE_JSON, RESULT, RunFolder};
use crate::run::record::{Curves, EpochRecord, SearchResult, TrainRecord, TrainResult};

/// Number of folder levels below the first one that are searched.
const DEPTH: usize = 4;

/// The contents of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A search.
    Search,
    /// A training.
    Training,
    /// Several runs, in subfolders.
    Several,
}

/// The current state of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its folder, relative to the one that was searched; parts separated by `/`.
    pub path: String,
    /// Its kind.
    pub kind: Kind,
    /// True if it has a result.
    pub finished: bool,
    /// The search method.
    pub method: String,
    /// The images.
    pub data: String,
    /// The seed.
    pub seed: u64,
    /// Number of completed epochs.
    pub epochs: usize,
    /// Largest number of epochs.
    pub of: usize,
    /// Validation accuracy of the last epoch.
    pub accuracy: Option<f64>,
    /// Test error of a training.
    pub test_error: Option<f64>,
    /// Time of the last change, in seconds since 1970.
    pub changed: u64,
    /// The reason, if it cannot be read.
    pub problem: Option<String>,
}

/// Values of a curve: epoch, from 1, and value.
pub type Points = Vec<(usize, f64)>;

/// The runs at and under `root`, by path.
///
/// # Errors
/// If `root` is not a readable folder.
pub fn runs(root: &Path) -> Result<Vec<RunSummary>, Error> {
    fs::read_dir(root).map_err(Error::io("read", root))?;
    let mut folders = Vec::new();
    find(root, DEPTH, &mut folders);
    folders.sort();
    Ok(folders.iter().map(|folder| summary(root, folder)).collect())
}

/// The curves of a run by name.
///
/// # Errors
/// If its events cannot be read.
pub fn curves(folder: &Path) -> Result<BTreeMap<String, Points>, Error> {
    let (folder, _) = RunFolder::open(folder)?;
    let mut curves = BTreeMap::<String, Points>::new();
    for event in folder.events::<Value>()? {
        let Some((epoch, values)) = values(event) else { continue };
        for (name, value) in values {
            curves.entry(name.to_owned()).or_default().push((epoch.saturating_add(1), value));
        }
    }
    Ok(curves)
}

fn values(event: Value) -> Option<(usize, Vec<(&'static str, f64)>)> {
    if event.get("temperature").is_some() {
        let record: EpochRecord = serde_json::from_value(event).ok()?;
        return Some((record.epoch(), record.values()));
    }
    let record: TrainRecord = serde_json::from_value(event).ok()?;
    Some((record.epoch(), record.values()))
}

fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if folder.join(CONFIG).is_file() {
        found.push(folder.to_owned());
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|_| depth > 0) {
        // A link may lead anywhere, including in circles.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), depth - 1, found);
        }
    }
}

fn summary(root: &Path, path: &Path) -> RunSummary {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    let mut summary = RunSummary {
        path: if parts.is_empty() { ".".to_owned() } else { parts.join("/") },
        kind: Kind::Search,
        finished: path.join(RESULT).exists(),
        method: String::new(),
        data: String::new(),
        seed: 0,
        epochs: 0,
        of: 0,
        accuracy: None,
        test_error: None,
        changed: [EVENTS, RESULT, CONFIG]
            .iter()
            .map(|name| changed(&path.join(name)))
            .max()
            .unwrap_or(0),
        problem: None,
    };
    if let Err(error) = read(path, &mut summary) {
        summary.problem = Some(error.to_string());
    }
    summary
}

fn read(path: &Path, summary: &mut RunSummary) -> Result<(), Error> {
    let (folder, config) = RunFolder::open(path)?;
    summary.method = config.search.method.to_string();
    summary.data.clone_from(&config.data.source);
    summary.seed = config.seed;
    if let Some((plan, _)) = PLANS.iter().find(|(plan, _)| folder.file(plan).exists()) {
        summary.kind = Kind::Several;
        // What the runs differ in is not in their common configuration.
        let plan = folder.read_json::<Value>(plan)?.unwrap_or_default();
        let listed = |key| {
            let values = plan.get(key)?.as_array()?.iter().map(Value::as_str);
            values.collect::<Option<Vec<_>>>().map(|values| values.join(", "))
        };
        summary.method = listed("methods").unwrap_or(std::mem::take(&mut summary.method));
        summary.data = listed("data").unwrap_or(std::mem::take(&mut summary.data));
        // A table is written after each run, and names those that are missing.
        let result = folder.read_json::<Value>(RESULT)?;
        let missing = result.as_ref().and_then(|result| result.get("missing")?.as_array());
        summary.finished &= missing.is_none_or(Vec::is_empty);
        return Ok(());
    }
    let events: Vec<Value> = folder.events()?;
    let searched = match events.first() {
        Some(event) => event.get("temperature").is_some(),
        // A training knows its cell from the start.
        None => summary.finished || !folder.file(GENOTYPE_JSON).exists(),
    };
    summary.epochs = events.len();
    summary.accuracy = events.last().and_then(|event| event.get("valid_accuracy")?.as_f64());
    if searched {
        summary.of = config.search.epochs;
        if let Some(result) = folder.read_json::<SearchResult>(RESULT)? {
            summary.accuracy = result.derived_valid_accuracy;
        }
    } else {
        let planned = events.last().and_then(|event| event.get("epochs")?.as_u64());
        (summary.kind, summary.of) =
            (Kind::Training, planned.map_or(config.train.epochs, |planned| planned as usize));
        summary.method = match folder.read_json::<Design>(GENOTYPE_JSON)? {
            Some(Design::Plain(network)) => network.to_string(),
            _ => "a cell".to_owned(),
        };
        let result = folder.read_json::<TrainResult>(RESULT)?;
        summary.test_error = result.and_then(|result| Some(result.test?.error));
    }
    Ok(())
}

fn changed(file: &Path) -> u64 {
    let time = fs::metadata(file).and_then(|data| data.modified()).ok();
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::{Layers, Preset};

    #[test]
    fn several_runs_are_finished_when_none_is_missing() {
        let here = tempfile::tempdir().expect("a folder");
        let config = Layers::preset(Preset::Quick).resolve().expect("a preset");
        let folder = RunFolder::create(&here.path().join("several"), &config).expect("a run");
        let write = |name, value| folder.write_json(name, &value).expect("a file");
        let found = || runs(here.path()).expect("a folder").swap_remove(0);

        write("compare.json", json!({ "methods": ["darts", "enas"], "seeds": [0, 1] }));
        let summary = found();
        assert_eq!((summary.kind, summary.finished), (Kind::Several, false));
        assert_eq!((&*summary.method, &*summary.data), ("darts, enas", &*config.data.source));
        write(RESULT, json!({ "rows": [], "missing": ["enas, seed 1"] }));
        assert!(!found().finished, "of a table that is written after each run");
        write(RESULT, json!({ "rows": [], "missing": [] }));
        assert!(found().finished);
    }
}
