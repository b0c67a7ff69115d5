//! The result of a search: the operations of each cell, their notations, and pictures of them.

mod cells;
mod darts;
pub mod draw;
mod layout;
mod nas_bench_201;
mod notation;
mod one_hot;
pub mod published;
mod value;

pub use cells::{CellGenotype, Gene, Genotype};
