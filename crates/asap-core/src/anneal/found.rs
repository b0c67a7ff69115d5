//! Single operations of a search by name: pruned ones, and those with a logit that is not finite.

use std::fmt;

use crate::space::{CellKind, Edge, Operation};

/// An operation that was pruned. Displayed as `normal 3<-0 sep_conv_3x3`, both ends of the edge as states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The cell kind.
    pub kind: CellKind,
    /// The edge.
    pub edge: Edge,
    /// The operation; `None` if the whole edge was pruned.
    pub operation: Option<Operation>,
}

/// A logit that is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NonFinite {
    /// The cell kind.
    pub kind: CellKind,
    /// The edge.
    pub edge: Edge,
    /// The operation it belongs to; `None` for the weight of the whole edge.
    pub operation: Option<Operation>,
    /// The value.
    pub value: f64,
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.edge)?;
        match self.operation {
            Some(operation) => write!(f, " {operation}"),
            None => f.write_str(" (the whole edge)"),
        }
    }
}

impl NonFinite {
    /// The logit, without its value.
    pub fn what(&self) -> String {
        let operation = self.operation.map_or(String::new(), |operation| format!(" {operation}"));
        format!("the logit of {} {}{operation}", self.kind, self.edge)
    }
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.what(), self.value)
    }
}
