//! Errors of a run.

use std::io;
use std::path::{Path, PathBuf};

use asap_net::steps::NonFinite;

use crate::duration::duration;

/// An error of this crate; [`Error::is_usage`] distinguishes user errors from failures of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration key, value or file is invalid.
    #[error("configuration: {0}")]
    Config(String),
    /// A data set could not be read, or does not fit.
    #[error(transparent)]
    Data(#[from] asap_data::DataError),
    /// A genotype, a space or a size is invalid.
    #[error(transparent)]
    Core(#[from] asap_core::Error),
    /// A network could not be built, loaded or used.
    #[error(transparent)]
    Net(#[from] asap_net::Error),
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The attempted action.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The time is too short for what is to be done in it.
    #[error(
        "time: expected at least {} for {least} here, found {} left for it; give more time, or fewer images with data.limit",
        duration(expected.max(1.0)),
        duration(found.max(0.0))
    )]
    TooShort {
        /// The least that must be done.
        least: &'static str,
        /// The seconds that it takes.
        expected: f64,
        /// The seconds that there are.
        found: f64,
    },
    /// The run folder cannot be used.
    #[error("{}: {problem}", path.display())]
    RunFolder {
        /// The folder or the file in it.
        path: PathBuf,
        /// The problem and its remedy.
        problem: String,
    },
    /// A run in several processes cannot continue on one of them.
    #[error("{0}")]
    Rank(String),
    /// A run without a folder cannot continue.
    #[error("the run cannot continue: {0}")]
    Run(String),
    /// The worker threads could not be started.
    #[error("cannot start the worker threads: {0}; fewer threads may help")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A loss, gradient or alpha is NaN or infinite.
    #[error(
        "{what} is {value} at epoch {}, step {}; the last good checkpoint stays in the run folder; a smaller \
         learning rate (`--set {key}=...`) usually helps",
        epoch + 1,
        step + 1
    )]
    NonFinite {
        /// The number's description.
        what: String,
        /// The value.
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
    /// True for an error in usage, configuration or data (exit code 2), false for a failure of the run (1).
    pub fn is_usage(&self) -> bool {
        match self {
            // Folders are created before anything runs in them.
            Self::Io { action, .. } => ["read", "create"].contains(action),
            Self::Net(error) => error.is_usage(),
            Self::NonFinite { .. } | Self::Rank(_) | Self::Run(_) | Self::Threads(_) => false,
            _ => true,
        }
    }

    /// A number that is not finite, at its epoch and step.
    pub(crate) fn non_finite(number: NonFinite, epoch: usize, step: usize) -> Self {
        let NonFinite { what, value, key } = number;
        Self::NonFinite { what, value, epoch, step, key }
    }

    /// Adds the attempted action and the path to an I/O error.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
