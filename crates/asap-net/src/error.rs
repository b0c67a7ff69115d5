//! Errors of building, loading or running a network.

use std::io;
use std::path::{Path, PathBuf};

/// An error of this crate. None of them concerns the computation; a number that is not finite is a [`crate::steps::NonFinite`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A genotype, a space or a size is invalid.
    #[error(transparent)]
    Core(#[from] asap_core::Error),
    /// Images could not be read, or do not fit.
    #[error(transparent)]
    Data(#[from] asap_data::DataError),
    /// The program was built without the requested device.
    #[error(
        "device `{device}` is not built into this program; expected `cpu`; \
         build with `cargo build --release --features {device}` to get it"
    )]
    DeviceNotBuilt {
        /// The requested device.
        device: &'static str,
    },
    /// The machine does not have the requested device.
    #[error(
        "device `{device}`: found no GPU with a driver for it (on Linux, `vulkaninfo --summary`, `nvidia-smi` or `rocminfo` list them); \
         install the GPU's driver, or leave out --device to use the CPU"
    )]
    DeviceNotFound {
        /// The requested device.
        device: &'static str,
    },
    /// Network and images do not match.
    #[error("{0}")]
    Network(String),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The attempted action.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file does not have the expected contents.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem and its remedy.
        problem: String,
    },
    /// Saved tensors do not fit the network.
    #[error(
        "the saved tensors do not fit the network; missing: {}; unexpected: {}; with a different shape: {}",
        list(missing),
        list(unexpected),
        list(misshaped)
    )]
    TensorMismatch {
        /// In the network but not in the file.
        missing: Vec<String>,
        /// In the file but not in the network.
        unexpected: Vec<String>,
        /// In both, with different shapes.
        misshaped: Vec<String>,
    },
}

impl Error {
    /// True for an error in what was given, false for one of the system while something was written to a place that exists.
    pub fn is_usage(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound};
        match self {
            Self::Io { action, source, .. } => {
                *action == "read" || matches!(source.kind(), NotADirectory | NotFound)
            }
            _ => true,
        }
    }

    /// Adds the attempted action and the path to an I/O error.
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
