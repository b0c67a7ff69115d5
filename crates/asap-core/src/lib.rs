//! The method of ASAP (Architecture Search, Anneal and Prune) without tensors.
//!
//! In the order of the data flow: an [`Operation`] is one of the candidates of an edge in a [`SearchSpace`], whose cells
//! belong to a [`Family`]; a [`Choice`] anneals and prunes the candidates of one edge; an [`Architecture`] holds the
//! choices of all cells and derives a [`Genotype`]. The rivals' mathematics is here too: [`SparsitySchedule`] and
//! [`Architecture::prune_smallest`], [`Architecture::perturbed`] (SNAS), [`ExponentiatedGradient`] (XNAS), [`SparseScales`]
//! (DSO-NAS), [`importance_gradient`] (PARSEC), [`Replacements`] (PR-DARTS) and [`Controller`] (ENAS), and [`Query`], the searches that ask for accuracies. Everything is a plain value: nothing here reads a file or a clock, or prints.

pub mod anneal;
mod error;
pub mod genotype;
mod numeric;
pub mod plan;
pub mod queries;
pub mod rivals;
pub mod space;

pub use anneal::algorithm::{Annealed, Annealing, Removal, anneal_and_prune};
pub use anneal::architecture::{Architecture, CellChoices};
pub use anneal::certainty::Prior;
pub use anneal::choice::Choice;
pub use anneal::derive::{Derived, Fallback};
pub use anneal::edge_policy::EdgePolicy;
pub use anneal::evidence::ChoiceEvidence;
pub use anneal::found::{NonFinite, Pruned};
pub use anneal::gradient::{ChoiceGradients, LogitGradients};
pub use anneal::paths::{Evidence, SURE, Sureness};
pub use anneal::schedule::{
    CosineLearningRate, GRACE_TEMPERATURE, Pac, PowerCosineLearningRate, TemperatureSchedule,
    ThresholdPolicy,
};
pub use error::Error;
pub use genotype::draw::{dot, svg};
pub use genotype::published::PublishedCell;
pub use genotype::{CellGenotype, Gene, Genotype};
pub use numeric::adam::Adam;
pub use plan::OperationCosts;
pub use plan::cost::{Cost, NetworkShape, Stem, auxiliary_cost, evaluation_cost, search_cost};
pub use plan::design::{Design, PlainNetwork};
pub use queries::{EvolutionSettings, NaoModel, Query};
pub use rivals::controller::{Controller, ControllerSettings, Sample};
pub use rivals::dso::{ProximalStep, SparseScales};
pub use rivals::parsec::{SampledPath, importance_gradient};
pub use rivals::replace::{Replacement, Replacements};
pub use rivals::sampled::gumbel_noise;
pub use rivals::sparsity::SparsitySchedule;
pub use rivals::xnas::ExponentiatedGradient;
pub use space::{
    CellKind, Edge, Ending, Family, MixingTables, Operation, OperationKind, Output, SearchSpace,
    Stacking, reduction_cells,
};
