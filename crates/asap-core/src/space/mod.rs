//! The search space: which edges a cell has and which operations compete on each.

pub mod operation;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Operation};

/// The largest number of nodes in a cell; beyond it the quadratic number of edges is a mistake.
pub const MAX_NODES: usize = 64;

/// A cell with two inputs and `nodes` nodes, each fed by every earlier state over a mixed operation.
///
/// States are numbered 0 and 1 for the cell's inputs and `2 + j` for node `j`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSpace")]
pub struct SearchSpace {
    /// Number of nodes in a cell, 4 in the paper.
    pub nodes: usize,
    /// The operations that compete on each edge, 7 in the paper.
    pub candidates: Vec<Operation>,
    /// An operation sees the first of so many equal parts of the channels, and the others pass the edge by (the
    /// partial channel connections of PC-DARTS); 1: it sees them all.
    #[serde(default = "all_channels")]
    pub partial: usize,
}

/// The two kinds of cell; each has its own architecture weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellKind {
    /// Keeps the size of the feature map.
    Normal,
    /// Halves the feature map: edges from the cell's inputs have stride 2.
    Reduction,
}

/// A connection inside a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// Position in the list of edges: by node, then by input.
    pub index: usize,
    /// The node it feeds, from 0.
    pub node: usize,
    /// The state it reads: 0 and 1 are the cell's inputs, `2 + j` is node `j`.
    pub input: usize,
}

impl SearchSpace {
    /// A checked space.
    ///
    /// # Errors
    /// [`Error::Value`] unless there are 1 to [`MAX_NODES`] nodes and one or more candidates, none twice.
    pub fn new(nodes: usize, candidates: Vec<Operation>) -> Result<Self, Error> {
        if !(1..=MAX_NODES).contains(&nodes) {
            return Err(Error::value("nodes", nodes, format!("1 to {MAX_NODES}")));
        }
        if candidates.is_empty() {
            return Err(Error::value("candidates", "empty", "one or more operations"));
        }
        for (index, operation) in candidates.iter().enumerate() {
            if candidates[..index].contains(operation) {
                return Err(Error::value(
                    "candidates",
                    format!("a list with {operation} twice"),
                    "each operation once",
                ));
            }
        }
        Ok(Self { nodes, candidates, partial: all_channels() })
    }

    /// The same space with partial channel connections.
    ///
    /// # Panics
    /// If `partial` is 0.
    pub fn with_partial(self, partial: usize) -> Self {
        assert!(partial > 0, "channels have at least one part");
        Self { partial, ..self }
    }

    /// The edges of a cell, by node and then by input.
    pub fn edges(&self) -> impl Iterator<Item = Edge> + use<> {
        (0..self.nodes)
            .flat_map(|node| (0..2 + node).map(move |input| (node, input)))
            .enumerate()
            .map(|(index, (node, input))| Edge { index, node, input })
    }

    /// Number of edges of a cell: 14 with 4 nodes.
    pub fn edge_count(&self) -> usize {
        self.edge_index(self.nodes, 0)
    }

    /// Number of states that can feed `node`.
    pub fn inputs_of(&self, node: usize) -> usize {
        2 + node
    }

    /// Position of the edge from state `input` to `node` in [`SearchSpace::edges`].
    pub fn edge_index(&self, node: usize, input: usize) -> usize {
        // node 0 has 2 edges, node 1 has 3, ...: the sum over the nodes before this one
        node * (node + 3) / 2 + input
    }
}

impl Default for SearchSpace {
    /// The paper's space: 4 nodes and 7 candidates.
    fn default() -> Self {
        Self { nodes: 4, candidates: Operation::CANDIDATES.to_vec(), partial: all_channels() }
    }
}

fn all_channels() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpace {
    nodes: usize,
    candidates: Vec<Operation>,
    #[serde(default = "all_channels")]
    partial: usize,
}

impl TryFrom<RawSpace> for SearchSpace {
    type Error = Error;

    fn try_from(raw: RawSpace) -> Result<Self, Error> {
        if raw.partial == 0 {
            return Err(Error::value("partial", 0, "1 or more"));
        }
        Ok(Self::new(raw.nodes, raw.candidates)?.with_partial(raw.partial))
    }
}

impl CellKind {
    /// Both kinds; `kind as usize` is the position here.
    pub const ALL: [CellKind; 2] = [CellKind::Normal, CellKind::Reduction];

    /// "normal" or "reduction".
    pub fn name(self) -> &'static str {
        match self {
            CellKind::Normal => "normal",
            CellKind::Reduction => "reduction",
        }
    }

    /// The kind of cell number `cell` in a network of `cells` cells, see [`reduction_cells`].
    pub fn of_cell(cell: usize, cells: usize) -> Self {
        if reduction_cells(cells).any(|reduction| reduction == cell) {
            CellKind::Reduction
        } else {
            CellKind::Normal
        }
    }
}

impl fmt::Display for CellKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Edge {
    /// The stride of its operations: 2 on the edges from the inputs of a reduction cell, else 1.
    pub fn stride(&self, kind: CellKind) -> usize {
        stride(kind, self.input)
    }
}

/// The stride of an operation that reads state `input` in a cell of this kind.
pub fn stride(kind: CellKind, input: usize) -> usize {
    match kind {
        CellKind::Reduction if input < 2 => 2,
        _ => 1,
    }
}

/// The reduction cells of a network of `cells` cells, counted from 0: `cells / 3` and `2 * cells / 3` as in DARTS.
///
/// DARTS would make every cell of a network of one or two cells a reduction cell, and no normal cell would be left to
/// search. Here one cell is a normal cell, and the second of two cells is the reduction cell.
pub fn reduction_cells(cells: usize) -> impl Iterator<Item = usize> {
    let (first, second) = match cells {
        0 | 1 => (None, None),
        2 => (None, Some(1)),
        _ => (Some(cells / 3), Some(2 * cells / 3)),
    };
    first.into_iter().chain(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_cell_has_14_edges_and_each_knows_its_index() {
        let space = SearchSpace::default();
        let edges: Vec<_> = space.edges().collect();
        assert_eq!(edges.len(), 14);
        assert_eq!(space.edge_count(), 14);
        for (index, edge) in edges.iter().enumerate() {
            assert_eq!(edge.index, index);
            assert_eq!(space.edge_index(edge.node, edge.input), index);
            assert!(edge.input < space.inputs_of(edge.node));
        }
        assert_eq!((edges[13].node, edges[13].input), (3, 4));
    }

    #[test]
    fn only_edges_from_the_inputs_of_a_reduction_cell_have_stride_2() {
        let strided =
            |kind| SearchSpace::default().edges().filter(|edge| edge.stride(kind) == 2).count();
        assert_eq!(strided(CellKind::Normal), 0);
        assert_eq!(strided(CellKind::Reduction), 8);
    }

    #[test]
    fn reductions_stand_at_one_and_two_thirds() {
        let at = |cells| reduction_cells(cells).collect::<Vec<_>>();
        assert_eq!(at(20), [6, 13]);
        assert_eq!(at(14), [4, 9]);
        assert_eq!(at(8), [2, 5]);
        assert_eq!(at(3), [1, 2]);
        assert_eq!(at(2), [1]);
        assert!(at(1).is_empty() && at(0).is_empty());
        assert_eq!(CellKind::of_cell(5, 8), CellKind::Reduction);
        assert_eq!(CellKind::of_cell(4, 8), CellKind::Normal);
    }

    #[test]
    fn a_space_without_choice_or_with_doubles_is_refused() {
        let skip = Operation::SkipConnect;
        assert!(SearchSpace::new(0, vec![skip]).is_err());
        assert!(SearchSpace::new(MAX_NODES + 1, vec![skip]).is_err());
        assert!(SearchSpace::new(4, vec![]).is_err());
        let error = SearchSpace::new(4, vec![skip, skip]).unwrap_err();
        assert!(error.to_string().contains("skip_connect twice"));
        let json = r#"{"nodes":0,"candidates":["none"]}"#;
        assert!(serde_json::from_str::<SearchSpace>(json).is_err());
    }
}
