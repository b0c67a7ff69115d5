//! Networks of `asap-core` made to run: layers and engines on Burn, parameters, passes, steps, and trained networks with
//! their exports.
//!
//! This crate knows no search, no run folder and no configuration file.

mod backbone;
pub mod device;
pub mod error;
pub mod evaluation;
pub mod export;
pub mod files;
mod fused;
pub mod layers;
pub mod network;
pub mod ops;
pub mod optimizer;
pub mod parameters;
pub mod pass;
pub mod steps;
pub mod supernet;
pub mod tensor_file;
pub mod trained;

pub use asap_kernels::Precision;
pub use device::DeviceName;
pub use error::Error;
pub use evaluation::Evaluation;
pub use trained::TrainedNetwork;
