//! The folder of a command with several runs: their common settings, and their plan.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::run::driver::with_threads;
use crate::run::folder::{Place, RunFolder};
use crate::run::record::Observer;
use crate::settings::config::Config;

/// The runs of a command.
pub trait Plan: Clone + Serialize + DeserializeOwned + Sync {
    /// The file with the plan, in the command's folder.
    const FILE: &'static str;
    /// The command, as typed by a user.
    const COMMAND: &'static str;
    /// Remedy for a folder without such a file.
    const REMEDY: &'static str = "";

    /// Refuses a plan with nothing to do, with duplicates, or without the images that all of it needs.
    ///
    /// # Errors
    /// Names the problem.
    fn check(&self, config: &Config, observer: &mut dyn Observer) -> Result<(), Error>;
}

/// A plan in its folder.
pub struct Planned<P> {
    pub(crate) folder: RunFolder,
    pub(crate) config: Config,
    pub(crate) plan: P,
    /// The time at which this process began with it.
    pub(crate) started: Instant,
}

impl<P: Plan> Planned<P> {
    /// Creates the folder.
    ///
    /// # Errors
    /// If the plan is refused, or the folder is in use.
    pub fn create(
        place: &Place,
        config: &Config,
        plan: P,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        with_threads(config.threads, || plan.check(config, observer))??;
        let written = |folder: &mut RunFolder| folder.write_json(P::FILE, &plan);
        let (folder, _lock) = RunFolder::create_locked(place, config, written)?;
        Ok(Self { folder, config: config.clone(), plan, started })
    }

    /// Opens the folder of an earlier run of the command.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let started = Instant::now();
        let (folder, config) = RunFolder::open(path)?;
        let plan = folder.read_json(P::FILE)?.ok_or_else(|| Error::RunFolder {
            path: path.to_owned(),
            problem: format!(
                "expected the folder of {}, found no {} in it{}",
                P::COMMAND,
                P::FILE,
                P::REMEDY
            ),
        })?;
        Ok(Self { folder, config, plan, started })
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The settings that the runs share.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same with a different number of threads, if one is given.
    pub fn with_threads(mut self, threads: Option<usize>) -> Self {
        self.config.threads = threads.unwrap_or(self.config.threads);
        self
    }

    /// The folder of one of the runs.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Refuses empty lists; each comes with a name for its items.
pub(crate) fn at_least_one<const N: usize>(lists: [(&str, bool); N]) -> Result<(), Error> {
    match lists.into_iter().find(|(_, empty)| *empty) {
        Some((what, _)) => Err(Error::Config(format!("expected at least one {what}, found none"))),
        None => Ok(()),
    }
}
