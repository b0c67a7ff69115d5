//! Integration tests of networks: against PyTorch's numbers, on both engines, and in what other tools read.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod export;
mod goldens;
mod networks;
