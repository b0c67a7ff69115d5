//! The search space: the edges of a cell and the operations that compete on each.

pub mod family;
pub mod operation;
mod search_space;
pub mod stacking;

pub use family::{CellKind, Ending, Family, Output};
pub use operation::{Operation, OperationKind};
pub use search_space::{Edge, MAX_NODES, MixingTables, SearchSpace};
pub use stacking::{Stacking, reduction_cells};
