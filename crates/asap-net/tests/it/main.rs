//! Integration tests of networks: against PyTorch's numbers, on both engines, and in what other tools read.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod cells;
mod drop_path;
mod engines;
#[cfg(feature = "export")]
mod export;
mod goldens;
mod inherit;
mod networks;
mod partial;
mod small;
mod trained;
