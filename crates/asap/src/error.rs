//! What can go wrong in a run.

use std::io;
use std::path::{Path, PathBuf};

use asap_core::CellKind;

use crate::device::DeviceName;

/// An error of this crate; [`Error::is_usage`] tells the user's faults from the run's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration key, value or file is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// A data set could not be read, or does not fit.
    #[error(transparent)]
    Data(#[from] asap_data::DataError),
    /// The search space makes no sense.
    #[error("search space: {0}")]
    Space(String),
    /// The program was built without the device that was asked for.
    #[error(
        "device `{device}` is not built into this program; expected `cpu`; \
         build with `cargo build --release --features {device}` to get it"
    )]
    DeviceNotBuilt {
        /// The device asked for.
        device: DeviceName,
    },
    /// The images are too small for the network.
    #[error("{0}")]
    Network(String),
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
    /// Saved tensors do not fit the network.
    #[error(
        "the saved tensors do not fit the network; missing: {}; unexpected: {}; of another shape: {}",
        list(missing),
        list(unexpected),
        list(misshaped)
    )]
    TensorMismatch {
        /// In the network and not in the file.
        missing: Vec<String>,
        /// In the file and not in the network.
        unexpected: Vec<String>,
        /// In both, with different shapes.
        misshaped: Vec<String>,
    },
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
    /// A cell lost every edge into a node; a bug of ours if it ever shows.
    #[error("the {kind} cell has no operation left on the way into node {node}")]
    EmptyNode {
        /// Which cell.
        kind: CellKind,
        /// Which node.
        node: usize,
    },
}

impl Error {
    /// Whether the fault lies in usage, configuration or data (exit code 2), not in the run (1).
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::NonFinite { .. } | Self::EmptyNode { .. })
    }

    /// Wraps an I/O error with what was tried on which path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => "none".to_owned(),
        n if n <= SHOWN => names.join(", "),
        n => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
    }
}
