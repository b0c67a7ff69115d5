//! The mathematics of the rival methods.

pub mod controller;
pub mod dso;
pub mod parsec;
pub mod replace;
pub mod sampled;
pub mod sparsity;
mod stages;
pub mod xnas;
