//! Integration tests of the library: against PyTorch's numbers, and whole searches and trainings.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "wgpu")]
mod gpu;
mod learner;
mod methods;
mod planted;
mod search;
mod sinks;
mod small;
mod train;
