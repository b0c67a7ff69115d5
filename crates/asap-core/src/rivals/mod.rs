//! The mathematics of the rival methods.

pub mod controller;
mod lstm;
pub mod sampled;
pub mod sparsity;
mod stages;
pub mod xnas;
