//! Neural architecture search that anyone can afford (ASAP: Architecture Search, Anneal and Prune).
//!
//! The library reads in the data's order: configuration, data set and loader, supernet, search,
//! genotype, network, training, run folder.

mod backbone;
pub mod bench;
pub mod chart;
pub mod checkpoint;
pub mod compare;
pub mod config;
pub mod device;
pub mod error;
pub mod evaluation;
pub mod export;
mod fused;
pub mod jobs;
pub mod layers;
pub mod learner;
pub mod memory;
pub mod method;
pub mod network;
pub mod ops;
pub mod optimizer;
pub mod overview;
mod pace;
pub mod parameters;
pub mod pass;
pub mod planned;
pub mod record;
pub mod report;
pub mod run;
pub mod run_folder;
pub mod search;
pub mod settings;
pub mod spread;
pub mod steps;
pub mod supernet;
mod tensor_file;
mod tensorboard;
pub mod train;
pub mod trained;
pub mod transfer;

pub use config::Config;
pub use device::DeviceName;
pub use error::Error;
pub use evaluation::Evaluation;
pub use learner::Learner;
pub use method::MethodName;
pub use record::Outcome;
pub use record::{Event, Observer, SearchResult, TrainResult};
pub use run_folder::RunFolder;
pub use search::Search;
pub use settings::{Layers, Preset};
pub use train::Training;
pub use trained::TrainedNetwork;
