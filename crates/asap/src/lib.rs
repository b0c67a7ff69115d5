//! Neural architecture search that anyone can afford (ASAP: Architecture Search, Anneal and Prune).
//!
//! The library reads in the data's order: configuration, data set and loader, supernet, search,
//! genotype, run folder.

mod backbone;
pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod device;
pub mod error;
mod fused;
pub mod layers;
pub mod memory;
pub mod network;
pub mod ops;
pub mod optimizer;
pub mod parameters;
pub mod pass;
pub mod record;
pub mod report;
pub mod run_folder;
pub mod search;
pub mod settings;
pub mod steps;
pub mod supernet;

pub use config::Config;
pub use device::DeviceName;
pub use error::Error;
pub use record::{Event, Observer, SearchResult};
pub use run_folder::RunFolder;
pub use search::{Outcome, Search};
pub use settings::{Layers, Preset};
