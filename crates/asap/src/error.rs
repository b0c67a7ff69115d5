//! What can go wrong in a run.

use std::io;
use std::path::{Path, PathBuf};

use asap_net::steps::NonFinite;

/// An error of this crate; [`Error::is_usage`] tells the user's faults from the run's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration key, value or file is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// A data set could not be read, or does not fit.
    #[error(transparent)]
    Data(#[from] asap_data::DataError),
    /// A genotype, a space or a size makes no sense.
    #[error(transparent)]
    Core(#[from] asap_core::Error),
    /// A network could not be built, loaded or used.
    #[error(transparent)]
    Net(#[from] asap_net::Error),
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The run folder cannot be used.
    #[error("{}: {problem}", path.display())]
    RunFolder {
        /// The folder or the file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A run without a folder cannot go on.
    #[error("the run cannot go on: {0}")]
    Run(String),
    /// The worker threads could not be started.
    #[error("cannot start the worker threads: {0}; a smaller number of threads may help")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A loss, gradient or alpha is NaN or infinite.
    #[error(
        "{what} is {value} at epoch {epoch}, step {step}; the last good checkpoint stays in the run \
         folder; a smaller learning rate (`--set {key}=...`) usually helps"
    )]
    NonFinite {
        /// Which number.
        what: String,
        /// What it was.
        value: f64,
        /// Epoch, from 0.
        epoch: usize,
        /// Step in the epoch, from 0.
        step: usize,
        /// The configuration key to lower.
        key: &'static str,
    },
}

impl Error {
    /// Whether the fault lies in usage, configuration or data (exit code 2), not in the run (1).
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::NonFinite { .. })
    }

    /// A number that is not finite, at its epoch and step.
    pub(crate) fn non_finite(number: NonFinite, epoch: usize, step: usize) -> Self {
        let NonFinite { what, value, key } = number;
        Self::NonFinite { what, value, epoch, step, key }
    }

    /// Wraps an I/O error with what was tried on which path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
