//! A search space as a value, and its edges.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::family::{CellKind, Family};
use super::operation::Operation;
use crate::error::Error;

/// The largest number of nodes in a cell; beyond it the quadratic number of edges is a mistake.
pub const MAX_NODES: usize = 64;

/// A number for every candidate of a search, `[kind][edge][candidate]`: kinds in the order of [`Family::kinds`], edges
/// in that of [`SearchSpace::edges`].
pub type MixingTables = Vec<Vec<Vec<f64>>>;

/// Cells of a family with `nodes` nodes, each fed by every earlier state over a mixed operation.
///
/// The states of a cell are numbered: first its inputs, then its nodes. The paper's space is [`SearchSpace::default`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSpace")]
pub struct SearchSpace {
    /// The family of the cells. In JSON it is left out for DARTS.
    #[serde(skip_serializing_if = "Family::is_default")]
    pub family: Family,
    /// Number of nodes in a cell, 4 in the paper.
    pub nodes: usize,
    /// The operations that compete on each edge, 7 in the paper.
    pub candidates: Vec<Operation>,
    /// The number of equal parts of the channels: an operation sees the first part, and the others pass the edge by (the
    /// partial channel connections of PC-DARTS). At 1 it sees all of them.
    pub partial: usize,
}

/// A connection inside a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// Position in the list of edges: by node, then by input.
    pub index: usize,
    /// The node it feeds, from 0.
    pub node: usize,
    /// The state it reads.
    pub input: usize,
    /// The state of the node.
    pub state: usize,
}

impl SearchSpace {
    /// A checked space in which operations see all channels.
    ///
    /// # Errors
    /// [`Error::Value`] unless there are 1 to [`MAX_NODES`] nodes and one or more candidates, all from the family and none
    /// twice.
    pub fn new(family: Family, nodes: usize, candidates: Vec<Operation>) -> Result<Self, Error> {
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
            if !family.operations().contains(operation) {
                let names: Vec<_> = family.operations().iter().map(|known| known.name()).collect();
                return Err(Error::value(
                    "candidates",
                    format!("a list with {operation}"),
                    format!("operations of {family}: {}", names.join(", ")),
                ));
            }
        }
        Ok(Self { family, nodes, candidates, partial: all_channels() })
    }

    /// The default space of a family: for DARTS the paper's 4 nodes and 7 candidates.
    pub fn of(family: Family) -> Self {
        let candidates = family.candidates().to_vec();
        Self { family, nodes: family.default_nodes(), candidates, partial: all_channels() }
    }

    /// The same space with partial channel connections.
    ///
    /// # Panics
    /// If `partial` is 0.
    pub fn with_partial(self, partial: usize) -> Self {
        assert!(partial > 0, "channels have at least one part");
        Self { partial, ..self }
    }

    /// The kinds of cell that are searched.
    pub fn kinds(&self) -> &'static [CellKind] {
        self.family.kinds()
    }

    /// Number of states that come from outside the cell.
    pub fn inputs(&self) -> usize {
        self.family.inputs()
    }

    /// Number of states: inputs and nodes.
    pub fn states(&self) -> usize {
        self.inputs() + self.nodes
    }

    /// The states that form the output of a cell.
    pub fn output_states(&self) -> Vec<usize> {
        self.family.output_states(self.nodes)
    }

    /// The edges of a cell, by node and then by input.
    pub fn edges(&self) -> impl Iterator<Item = Edge> + use<> {
        let inputs = self.inputs();
        (0..self.nodes)
            .map(move |node| (node, inputs + node))
            .flat_map(|(node, state)| (0..state).map(move |input| (node, input, state)))
            .enumerate()
            .map(|(index, (node, input, state))| Edge { index, node, input, state })
    }

    /// Number of edges of a cell: 14 in the paper, 6 in NAS-Bench-201.
    pub fn edge_count(&self) -> usize {
        self.edge_index(self.nodes, 0)
    }

    /// Number of states that can feed `node`.
    pub fn inputs_of(&self, node: usize) -> usize {
        self.inputs() + node
    }

    /// Position of the edge from state `input` to `node` in [`SearchSpace::edges`].
    pub fn edge_index(&self, node: usize, input: usize) -> usize {
        // nodes 0, 1, ... have n, n + 1, ... edges: the sum over the nodes before this one
        node * (2 * self.inputs() + node).saturating_sub(1) / 2 + input
    }

    /// Tables of the space's shape, filled in order.
    pub fn tables(&self, mut number: impl FnMut() -> f64) -> MixingTables {
        let mut edge = || (0..self.candidates.len()).map(|_| number()).collect();
        let mut cell = || (0..self.edge_count()).map(|_| edge()).collect();
        self.kinds().iter().map(|_| cell()).collect()
    }
}

impl Default for SearchSpace {
    /// The paper's space: 4 nodes and 7 candidates.
    fn default() -> Self {
        Self::of(Family::default())
    }
}

/// Writes both ends as states: `3<-0`.
impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}<-{}", self.state, self.input)
    }
}

fn all_channels() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpace {
    #[serde(default)]
    family: Family,
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
        Ok(Self::new(raw.family, raw.nodes, raw.candidates)?.with_partial(raw.partial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_know_their_index_in_the_papers_14_and_in_the_6_of_nas_bench_201() {
        for (family, count, last) in
            [(Family::Darts, 14, (3, 4, 5)), (Family::NasBench201, 6, (2, 2, 3))]
        {
            let space = SearchSpace::of(family);
            let edges: Vec<_> = space.edges().collect();
            assert_eq!((edges.len(), space.edge_count()), (count, count));
            for (index, edge) in edges.iter().enumerate() {
                assert_eq!(edge.index, index);
                assert_eq!(space.edge_index(edge.node, edge.input), index);
                assert!(edge.input < space.inputs_of(edge.node));
            }
            let end = edges[count - 1];
            assert_eq!((end.node, end.input, end.state), last);
            assert_eq!(space.states(), end.state + 1);
        }
    }

    #[test]
    fn the_output_is_all_nodes_or_the_last_one() {
        assert_eq!(SearchSpace::of(Family::Darts).output_states(), [2, 3, 4, 5]);
        assert_eq!(SearchSpace::of(Family::NasBench201).output_states(), [3]);
    }

    #[test]
    fn a_space_without_choice_or_with_doubles_or_strangers_is_refused() {
        let new = |nodes, candidates| SearchSpace::new(Family::Darts, nodes, candidates);
        let skip = Operation::SkipConnect;
        assert!(new(0, vec![skip]).is_err());
        assert!(new(MAX_NODES + 1, vec![skip]).is_err());
        assert!(new(4, vec![]).is_err());
        let error = new(4, vec![skip, skip]).unwrap_err();
        assert!(error.to_string().contains("skip_connect twice"));
        let error = new(4, vec![Operation::NorConv3x3]).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "`candidates` is a list with nor_conv_3x3; expected operations of darts: none, "
            ),
            "{error}"
        );
        let json = r#"{"nodes":0,"candidates":["none"]}"#;
        assert!(serde_json::from_str::<SearchSpace>(json).is_err());
    }

    #[test]
    fn json_names_the_family_unless_it_is_darts_and_old_json_reads() {
        let darts = r#"{"nodes":1,"candidates":["skip_connect"],"partial":1}"#;
        let space = SearchSpace::new(Family::Darts, 1, vec![Operation::SkipConnect]).unwrap();
        assert_eq!(serde_json::to_string(&space).unwrap(), darts);
        assert_eq!(serde_json::from_str::<SearchSpace>(darts).unwrap(), space);
        let without_partial = r#"{"nodes":1,"candidates":["skip_connect"]}"#;
        assert_eq!(serde_json::from_str::<SearchSpace>(without_partial).unwrap(), space);

        let space = SearchSpace::of(Family::NasBench201);
        let json = serde_json::to_string(&space).unwrap();
        assert_eq!(
            json,
            r#"{"family":"nas-bench-201","nodes":3,"candidates":["skip_connect","nor_conv_1x1","nor_conv_3x3","avg_pool_3x3"],"partial":1}"#
        );
        assert_eq!(serde_json::from_str::<SearchSpace>(&json).unwrap(), space);
    }

    #[test]
    fn tables_have_a_number_for_each_candidate() {
        let mut count = 0.0;
        let tables = SearchSpace::of(Family::NasBench201).tables(|| {
            count += 1.0;
            count
        });
        assert_eq!((tables.len(), tables[0].len(), tables[0][5].len()), (1, 6, 4));
        assert_eq!(tables[0][5][3], 24.0);
    }
}
