//! Networks of `asap-core` made to run: layers and engines on Burn, parameters, passes, steps, and trained networks with
//! their exports.
//!
//! This crate knows no search, no run folder and no configuration file.

pub mod device;
pub mod engine;
pub mod error;
pub mod evaluation;
#[cfg(feature = "export")]
pub mod export;
pub mod files;
pub mod morph;
pub mod network;
pub mod optimizer;
pub mod parameters;
pub mod pass;
pub mod steps;
pub mod team;
pub mod tensor_file;
pub mod trained;

pub use asap_kernels::Precision;
pub use device::DeviceName;
pub use engine::Engine;
pub use error::Error;
pub use evaluation::Evaluation;
pub use network::Network;
pub use parameters::Parameters;
pub use team::Team;
pub use trained::TrainedNetwork;
