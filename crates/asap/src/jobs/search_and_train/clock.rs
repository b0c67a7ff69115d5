//! The time of a run.

use std::path::Path;
use std::time::Instant;

use asap_net::tensor_file;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::jobs::fit;
use crate::run::folder::{self as run_folder, RunFolder};

/// The seconds spent until the last search or training ended.
const SPENT: &str = "spent.json";

/// The time that a run has spent.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Spent {
    seconds: f64,
}

/// The time of a run, over all the processes that worked on it.
pub(super) struct Clock {
    started: Instant,
    /// Seconds that earlier processes spent.
    earlier: f64,
}

impl Clock {
    /// That of the run in this folder, on which this process has worked since `started`.
    pub(super) fn resumed(folder: &RunFolder, started: Instant) -> Result<Self, Error> {
        let noted: Spent = folder.read_json(SPENT)?.unwrap_or_default();
        Ok(Self { started, earlier: noted.seconds + seconds_of_unfinished(folder.path()) })
    }

    /// Seconds so far.
    pub(super) fn seconds(&self) -> f64 {
        self.earlier + self.started.elapsed().as_secs_f64()
    }

    /// Seconds that are left for trainings, of these.
    pub(super) fn left_of(&self, seconds: f64) -> f64 {
        seconds * (1.0 - fit::REST) - self.seconds()
    }

    /// Keeps the seconds so far for a process that resumes the run. What a search or a training that is not finished has spent is in its events
    /// and its checkpoint.
    pub(super) fn note(&self, folder: &RunFolder) -> Result<(), Error> {
        let seconds = self.seconds() - seconds_of_unfinished(folder.path());
        folder.write_json(SPENT, &Spent { seconds })
    }
}

/// Seconds of the runs under a folder that have no result yet, as far as their events and checkpoints tell.
fn seconds_of_unfinished(folder: &Path) -> f64 {
    #[derive(Deserialize)]
    struct Epoch {
        epoch_seconds: f64,
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return 0.0 };
    let inside = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let of_run = |path: &Path| -> f64 {
        let Ok((run, _)) = RunFolder::open(path) else { return 0.0 };
        if run.file(run_folder::RESULT).exists() {
            return 0.0;
        }
        let epochs: Vec<Epoch> = run.events().unwrap_or_default();
        let of_epochs: f64 = epochs.iter().map(|epoch| epoch.epoch_seconds).sum();
        // It may have been written in the middle of an epoch.
        let checkpoint = tensor_file::state(&run.file(run_folder::CHECKPOINT));
        let seconds = checkpoint.and_then(|state| state.pointer("/progress/seconds")?.as_f64());
        seconds.unwrap_or(0.0).max(of_epochs)
    };
    inside.map(|path| of_run(&path) + seconds_of_unfinished(&path)).sum()
}

#[cfg(test)]
mod tests {
    use asap_net::parameters::NamedValues;
    use asap_net::tensor_file::Header;

    use super::*;
    use crate::settings::{Layers, Preset};

    #[derive(Serialize, Deserialize)]
    struct State {
        progress: Spent,
    }

    impl Header for State {
        const KIND: &'static str = "training";
        const REMEDY: &'static str = "";
    }

    #[test]
    fn a_run_without_a_result_counts_as_far_as_events_and_checkpoint_tell() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Layers::preset(Preset::Quick).resolve().expect("a preset");
        let path = folder.path().join("candidates/one");
        let run = RunFolder::create(&path, &config).expect("a run");
        let seconds = || seconds_of_unfinished(folder.path());
        let checkpoint = |seconds| {
            let state = State { progress: Spent { seconds } };
            tensor_file::save(&run.file(run_folder::CHECKPOINT), &state, &NamedValues::new())
                .expect("a checkpoint");
        };
        let events = "{\"epoch_seconds\":10.0}\n{\"epoch_seconds\":12.0}\n";
        run.write(run_folder::EVENTS, events.as_bytes()).expect("events");
        assert_eq!(seconds(), 22.0);
        checkpoint(29.5);
        assert_eq!(seconds(), 29.5, "stopped in its third epoch");
        checkpoint(10.0);
        assert_eq!(seconds(), 22.0, "killed before the second checkpoint");
        run.write(run_folder::RESULT, b"{}").expect("a result");
        assert_eq!(seconds(), 0.0);
    }
}
