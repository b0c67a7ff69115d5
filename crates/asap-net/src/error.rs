//! What can go wrong when a network is built, loaded or run.

use std::io;
use std::path::{Path, PathBuf};

/// An error of this crate. All of them are faults of what was given, none of the computation; a number that is not
/// finite is a [`crate::steps::NonFinite`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A genotype, a space or a size makes no sense.
    #[error(transparent)]
    Core(#[from] asap_core::Error),
    /// Images could not be read, or do not fit.
    #[error(transparent)]
    Data(#[from] asap_data::DataError),
    /// The program was built without the device that was asked for.
    #[error(
        "device `{device}` is not built into this program; expected `cpu`; \
         build with `cargo build --release --features {device}` to get it"
    )]
    DeviceNotBuilt {
        /// The device asked for.
        device: &'static str,
    },
    /// Network and images do not fit each other.
    #[error("{0}")]
    Network(String),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file does not hold what was expected.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
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
}

impl Error {
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
