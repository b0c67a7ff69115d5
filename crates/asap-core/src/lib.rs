//! The method of ASAP (Architecture Search, Anneal and Prune) without tensors.
//!
//! In the order of the data's way: an [`Operation`] is one of the candidates of an edge in a [`SearchSpace`]; a
//! [`Choice`] anneals and prunes the candidates of one edge; an [`Architecture`] holds the choices of both cells and
//! derives a [`Genotype`]. The rivals' mathematics is here too: [`SparsitySchedule`] and
//! [`Architecture::prune_smallest`], [`Architecture::perturbed`] (SNAS), [`ExponentiatedGradient`] (XNAS) and
//! [`Controller`] (ENAS). Everything is a plain value: nothing here reads a file or a clock, or prints.

pub mod algorithm;
pub mod architecture;
pub mod choice;
pub mod controller;
pub mod cost;
pub mod derive;
pub mod draw;
mod error;
pub mod genotype;
pub mod gradient;
mod layout;
mod lstm;
pub mod operation;
pub mod pac;
mod parse;
pub mod published;
pub mod sampled;
pub mod schedule;
pub mod space;
pub mod sparsity;
mod stages;
pub mod xnas;

pub use algorithm::{Annealing, Removal, anneal_and_prune};
pub use architecture::{Architecture, CellChoices, EdgePolicy, NonFinite, Pruned};
pub use choice::{Adam, Choice};
pub use controller::{Controller, ControllerSettings, Sample};
pub use cost::{Cost, NetworkShape, Stem, auxiliary_cost, evaluation_cost, search_cost};
pub use derive::{Derived, Fallback};
pub use draw::{dot, svg};
pub use error::Error;
pub use genotype::{CellGenotype, Gene, Genotype};
pub use gradient::LogitGradients;
pub use operation::{Operation, OperationKind};
pub use published::PublishedCell;
pub use sampled::gumbel_noise;
pub use schedule::{
    CosineLearningRate, GRACE_TEMPERATURE, Pac, PowerCosineLearningRate, TemperatureSchedule,
    ThresholdPolicy,
};
pub use space::{CellKind, Edge, SearchSpace, reduction_cells};
pub use sparsity::SparsitySchedule;
pub use xnas::ExponentiatedGradient;
