//! A genotype as a value, and its rules.

use std::fmt;

use crate::error::Error;
use crate::space::{CellKind, Ending, Family, MAX_NODES, Operation, Output};

/// The result of a search: one cell of each kind of a family.
///
/// `Display` writes the notation of the family, [`FromStr`](std::str::FromStr) reads every notation in use, and serde
/// gives JSON.
///
/// | family | `Display` | JSON |
/// |---|---|---|
/// | DARTS | the Python form of its code, `Genotype(normal=[('sep_conv_3x3', 0), ...], ...)` | `{"normal": [["sep_conv_3x3", 0], ...], "normal_concat": [2, 3, 4, 5], "reduce": ...}` |
/// | NAS-Bench-201 | the string of its code, `\|nor_conv_3x3~0\|+\|...` | `{"space": "nas-bench-201", "cell": "\|nor_conv_3x3~0\|+\|..."}` |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Genotype {
    family: Family,
    cells: Vec<CellGenotype>,
}

/// One cell: each node is the sum of its operations. States are numbered as in a
/// [`SearchSpace`](crate::SearchSpace): first the cell's inputs, then its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CellGenotype {
    /// The operations of each node.
    pub nodes: Vec<Vec<Gene>>,
    /// The states that form the output: those that are concatenated, or the last node.
    pub output: Vec<usize>,
}

/// An operation and the state it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gene {
    /// The operation.
    pub operation: Operation,
    /// The state it reads.
    pub input: usize,
}

/// The location of an error inside a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Nodes,
    Node(usize),
    /// A gene by its position in [`CellGenotype::genes`], and its node.
    Gene(usize, usize),
    Output,
    OutputEntry(usize),
}

impl Genotype {
    /// A checked genotype: one cell for each of [`Family::kinds`], in that order.
    ///
    /// # Errors
    /// [`Error::Cell`] unless each cell has 1 to [`MAX_NODES`] nodes, the operations belong to the family and read earlier
    /// states, each node has as many as the family requires (with [`Ending::EveryEdge`] one for each earlier state, in
    /// order), and the output takes one or more existing states, none twice; for a reduction cell no inputs, which are
    /// twice as large; for [`Output::LastNode`] the last node.
    pub fn new(family: Family, cells: Vec<CellGenotype>) -> Result<Self, Error> {
        let kinds = family.kinds();
        if cells.len() != kinds.len() {
            let reason = format!("{} cells; expected {} for {family}", cells.len(), kinds.len());
            return Err(Error::Cell { place: "genotype".to_owned(), reason });
        }
        for (&kind, cell) in kinds.iter().zip(&cells) {
            check(family, kind, cell).map_err(|(place, reason)| fault(kind, place, reason))?;
        }
        Ok(Self { family, cells })
    }

    /// The family of the cells.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The cells in the order of [`Family::kinds`].
    pub fn cells(&self) -> &[CellGenotype] {
        &self.cells
    }

    /// The cell of a kind.
    ///
    /// # Panics
    /// If the family has no such cells.
    pub fn cell(&self, kind: CellKind) -> &CellGenotype {
        &self.cells[self.family.kind_index(kind)]
    }

    /// The cells with their kinds.
    pub fn kinds(&self) -> impl Iterator<Item = (CellKind, &CellGenotype)> {
        self.family.kinds().iter().copied().zip(&self.cells)
    }

    /// Number of skip connections in all cells; a search that collapses chooses little else.
    pub fn skip_count(&self) -> usize {
        self.cells.iter().map(CellGenotype::skip_count).sum()
    }

    /// Number of poolings in all cells.
    pub fn pool_count(&self) -> usize {
        self.cells.iter().map(CellGenotype::pool_count).sum()
    }
}

impl CellGenotype {
    /// The genes with the node that each feeds, in order.
    pub fn genes(&self) -> impl Iterator<Item = (usize, Gene)> + '_ {
        let nodes = self.nodes.iter().enumerate();
        nodes.flat_map(|(node, genes)| genes.iter().map(move |&gene| (node, gene)))
    }

    /// Number of nodes that are always zero, since all their inputs are `none`.
    pub fn zero_nodes(&self) -> usize {
        let is_zero =
            |genes: &&Vec<Gene>| genes.iter().all(|gene| gene.operation == Operation::None);
        self.nodes.iter().filter(is_zero).count()
    }

    /// Number of skip connections.
    pub fn skip_count(&self) -> usize {
        let genes = self.genes();
        genes.filter(|(_, gene)| gene.operation == Operation::SkipConnect).count()
    }

    /// Number of poolings.
    pub fn pool_count(&self) -> usize {
        self.genes().filter(|(_, gene)| gene.operation.is_pool()).count()
    }
}

/// Writes `('sep_conv_3x3', 0)`.
impl fmt::Display for Gene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "('{}', {})", self.operation, self.input)
    }
}

type Checked = Result<(), (Place, String)>;

/// Checks a cell of a kind.
pub(super) fn check(family: Family, kind: CellKind, cell: &CellGenotype) -> Checked {
    let count = cell.nodes.len();
    if !(1..=MAX_NODES).contains(&count) {
        let reason = format!("{count} nodes; expected 1 to {MAX_NODES}");
        return Err((Place::Nodes, reason));
    }
    let mut first = 0;
    for (node, genes) in cell.nodes.iter().enumerate() {
        check_node(family, node, genes, first)?;
        first += genes.len();
    }
    check_output(family, kind, cell)
}

/// Checks a node whose first gene is number `first` of the cell.
fn check_node(family: Family, node: usize, genes: &[Gene], first: usize) -> Checked {
    let state = family.inputs() + node;
    for (index, gene) in genes.iter().enumerate() {
        let fault = |reason| Err((Place::Gene(first + index, node), reason));
        if let Err(error) = family.operation(gene.operation.name()) {
            return fault(error.to_string());
        }
        if gene.input >= state {
            return fault(format!(
                "{} of state {state} reads state {}; expected an earlier one, 0 to {}",
                gene.operation,
                gene.input,
                state - 1
            ));
        }
        if family.ending() == Ending::EveryEdge && gene.input != index {
            return fault(format!(
                "{} of state {state} reads state {}; expected state {index}, each earlier state once and in order",
                gene.operation, gene.input
            ));
        }
    }
    let (expected, note) = match family.ending() {
        Ending::Inputs(count) => (count, ""),
        Ending::EveryEdge => (state, ", one for each earlier state"),
    };
    if genes.len() != expected {
        let reason = format!("{} operations; expected {expected}{note}", genes.len());
        return Err((Place::Node(node), reason));
    }
    Ok(())
}

fn check_output(family: Family, kind: CellKind, cell: &CellGenotype) -> Checked {
    let (inputs, output) = (family.inputs(), &cell.output);
    let states = inputs + cell.nodes.len();
    if output.is_empty() {
        let reason = "no states; expected those whose channels form the output".to_owned();
        return Err((Place::Output, reason));
    }
    for (index, &state) in output.iter().enumerate() {
        let fault = |reason| Err((Place::OutputEntry(index), reason));
        if state >= states {
            return fault(format!("state {state} does not exist; expected 0 to {}", states - 1));
        }
        if output[..index].contains(&state) {
            return fault(format!("state {state} is listed twice; expected each state once"));
        }
    }
    if family.output() == Output::LastNode && *output != [states - 1] {
        let reason = format!("{output:?}; expected the last node, [{}]", states - 1);
        return Err((Place::Output, reason));
    }
    if kind == CellKind::Reduction
        && let Some(index) = output.iter().position(|&state| state < inputs)
    {
        let reason = format!(
            "state {} is an input of the cell and twice as large as the nodes; expected nodes, {inputs} or more",
            output[index]
        );
        return Err((Place::OutputEntry(index), reason));
    }
    Ok(())
}

/// An error with the name of its location.
pub(super) fn fault(kind: CellKind, place: Place, reason: String) -> Error {
    let place = match place {
        Place::Nodes => format!("{kind} cell"),
        Place::Node(node) | Place::Gene(_, node) => format!("{kind} cell, node {node}"),
        Place::Output | Place::OutputEntry(_) => format!("{kind} cell, concat"),
    };
    Error::Cell { place, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKIP: Operation = Operation::SkipConnect;

    fn gene(operation: Operation, input: usize) -> Gene {
        Gene { operation, input }
    }

    fn darts(nodes: Vec<Vec<Gene>>, output: &[usize]) -> Result<Genotype, Error> {
        let sound = CellGenotype { nodes: vec![vec![gene(SKIP, 0); 2]], output: vec![2] };
        let cell = CellGenotype { nodes, output: output.to_vec() };
        Genotype::new(Family::Darts, vec![cell, sound])
    }

    fn nas_bench_201(nodes: Vec<Vec<Gene>>, output: &[usize]) -> Result<Genotype, Error> {
        Genotype::new(Family::NasBench201, vec![CellGenotype { nodes, output: output.to_vec() }])
    }

    fn refusal(found: Result<Genotype, Error>) -> String {
        found.unwrap_err().to_string()
    }

    #[test]
    fn a_cell_without_nodes_or_output_is_refused() {
        let node = || vec![gene(SKIP, 0); 2];
        assert_eq!(refusal(darts(vec![], &[0])), "normal cell: 0 nodes; expected 1 to 64");
        assert!(refusal(darts(vec![node()], &[])).starts_with("normal cell, concat: no states"));
        assert!(refusal(darts(vec![node()], &[3])).contains("state 3 does not exist"));
        assert!(darts(vec![node(); MAX_NODES + 1], &[2]).is_err());
        assert!(darts(vec![node()], &[0, 2]).is_ok());
    }

    #[test]
    fn a_node_has_as_many_operations_as_its_family_asks_for() {
        assert_eq!(
            refusal(darts(vec![vec![gene(SKIP, 0); 3]], &[2])),
            "normal cell, node 0: 3 operations; expected 2"
        );
        let (first, second) = (vec![gene(SKIP, 0)], vec![gene(SKIP, 0), gene(SKIP, 1)]);
        assert!(nas_bench_201(vec![first.clone(), second], &[2]).is_ok());
        assert_eq!(
            refusal(nas_bench_201(vec![first.clone(), first.clone()], &[2])),
            "normal cell, node 1: 1 operations; expected 2, one for each earlier state"
        );
        let twice = vec![gene(SKIP, 0), gene(SKIP, 0)];
        assert!(
            refusal(nas_bench_201(vec![first, twice], &[2])).contains("expected state 1, each")
        );
    }

    #[test]
    fn operations_and_outputs_are_those_of_the_family() {
        let strange = vec![gene(Operation::NorConv1x1, 0); 2];
        assert!(refusal(darts(vec![strange], &[2])).contains("unknown operation `nor_conv_1x1`"));
        let error = refusal(nas_bench_201(vec![vec![gene(SKIP, 0)]], &[0]));
        assert_eq!(error, "normal cell, concat: [0]; expected the last node, [1]");
        let error = refusal(Genotype::new(Family::NasBench201, vec![]));
        assert_eq!(error, "genotype: 0 cells; expected 1 for nas-bench-201");
    }
}
