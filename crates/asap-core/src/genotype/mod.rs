//! What a search finds: two operations per node of a normal and of a reduction cell.

pub mod draw;
mod layout;
mod parse;
pub mod published;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::space::MAX_NODES;
use crate::{CellKind, Error, Operation};

/// A pair of cells, the result of a search.
///
/// `Display` writes the Python form of the DARTS code, [`FromStr`](std::str::FromStr) reads every form in use, and
/// serde gives the JSON `{"normal": [["sep_conv_3x3", 0], ...], "normal_concat": [2, 3, 4, 5], "reduce": ...}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Flat", try_from = "Flat")]
pub struct Genotype {
    /// The cell that keeps the size of the feature map.
    pub normal: CellGenotype,
    /// The cell that halves it.
    pub reduce: CellGenotype,
}

/// One cell: each node is the sum of two operations, the output the concatenation of some states.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CellGenotype {
    /// The two operations of each node.
    pub nodes: Vec<[Gene; 2]>,
    /// The states whose channels make the output.
    pub concat: Vec<usize>,
}

/// An operation and the state it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gene {
    /// The operation.
    pub operation: Operation,
    /// The state it reads: 0 and 1 are the cell's inputs, `2 + j` is node `j`.
    pub input: usize,
}

/// The place of a fault inside a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Nodes,
    Gene(usize),
    Concat,
    ConcatEntry(usize),
}

impl Genotype {
    /// A checked pair of cells.
    ///
    /// # Errors
    /// [`Error::Cell`] if the reduction cell's output takes one of the cell's inputs, which are twice as large.
    pub fn new(normal: CellGenotype, reduce: CellGenotype) -> Result<Self, Error> {
        match check_reduction(&reduce.concat) {
            Err((place, reason)) => Err(fault("reduction cell", place, reason)),
            Ok(()) => Ok(Self { normal, reduce }),
        }
    }

    /// The cell of a kind.
    pub fn cell(&self, kind: CellKind) -> &CellGenotype {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => &self.reduce,
        }
    }

    /// Number of skip connections in both cells; a search that collapses chooses little else.
    pub fn skip_count(&self) -> usize {
        CellKind::ALL.map(|kind| self.cell(kind).skip_count()).iter().sum()
    }

    /// Number of poolings in both cells.
    pub fn pool_count(&self) -> usize {
        CellKind::ALL.map(|kind| self.cell(kind).pool_count()).iter().sum()
    }
}

impl CellGenotype {
    /// A checked cell.
    ///
    /// # Errors
    /// [`Error::Cell`] unless there are 1 to [`MAX_NODES`] nodes, each node reads earlier states only, and the output
    /// takes one or more states that exist.
    pub fn new(nodes: Vec<[Gene; 2]>, concat: Vec<usize>) -> Result<Self, Error> {
        match check_cell(nodes.as_flattened(), &concat) {
            Err((place, reason)) => Err(fault("cell", place, reason)),
            Ok(()) => Ok(Self { nodes, concat }),
        }
    }

    /// The genes with the node that each feeds, in order.
    pub fn genes(&self) -> impl Iterator<Item = (usize, Gene)> + '_ {
        let nodes = self.nodes.iter().enumerate();
        nodes.flat_map(|(node, genes)| genes.map(|gene| (node, gene)))
    }

    /// How many times wider the output is than a node: the number of states in `concat`.
    pub fn multiplier(&self) -> usize {
        self.concat.len()
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

/// Checks the genes of a cell, two per node, and the states of its output.
pub(crate) fn check_cell(genes: &[Gene], concat: &[usize]) -> Result<(), (Place, String)> {
    let nodes = genes.len() / 2;
    if !genes.len().is_multiple_of(2) {
        let reason = format!("{} operations; expected two for each node", genes.len());
        return Err((Place::Nodes, reason));
    }
    if !(1..=MAX_NODES).contains(&nodes) {
        let reason = format!("{nodes} nodes; expected 1 to {MAX_NODES}");
        return Err((Place::Nodes, reason));
    }
    for (index, gene) in genes.iter().enumerate() {
        let state = 2 + index / 2;
        if gene.input >= state {
            let reason = format!(
                "{} of state {state} reads state {}; expected an earlier one, 0 to {}",
                gene.operation,
                gene.input,
                state - 1
            );
            return Err((Place::Gene(index), reason));
        }
    }
    if concat.is_empty() {
        let reason = "no states; expected those whose channels make the output".to_owned();
        return Err((Place::Concat, reason));
    }
    for (index, &state) in concat.iter().enumerate() {
        if state >= 2 + nodes {
            let reason = format!("state {state} does not exist; expected 0 to {}", 1 + nodes);
            return Err((Place::ConcatEntry(index), reason));
        }
        if concat[..index].contains(&state) {
            let reason = format!("state {state} is listed twice; expected each state once");
            return Err((Place::ConcatEntry(index), reason));
        }
    }
    Ok(())
}

/// Checks that a reduction cell's output does not take the cell's inputs.
pub(crate) fn check_reduction(concat: &[usize]) -> Result<(), (Place, String)> {
    match concat.iter().position(|&state| state < 2) {
        None => Ok(()),
        Some(index) => {
            let reason = format!(
                "state {} is an input of the cell and twice as large as the nodes; expected nodes, 2 or more",
                concat[index]
            );
            Err((Place::ConcatEntry(index), reason))
        }
    }
}

fn fault(cell: &str, place: Place, reason: String) -> Error {
    let place = match place {
        Place::Nodes => cell.to_owned(),
        Place::Gene(index) => format!("{cell}, node {}", index / 2),
        Place::Concat | Place::ConcatEntry(_) => format!("{cell}, concat"),
    };
    Error::Cell { place, reason }
}

impl fmt::Display for Genotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Genotype(normal={}, normal_concat={:?}, reduce={}, reduce_concat={:?})",
            Python(&self.normal),
            self.normal.concat,
            Python(&self.reduce),
            self.reduce.concat
        )
    }
}

/// Writes the genes of a cell as a Python list of tuples.
struct Python<'a>(&'a CellGenotype);

impl fmt::Display for Python<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let genes: Vec<_> = self.0.genes().map(|(_, gene)| gene.to_string()).collect();
        write!(f, "[{}]", genes.join(", "))
    }
}

/// Writes `('sep_conv_3x3', 0)`.
impl fmt::Display for Gene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "('{}', {})", self.operation, self.input)
    }
}

/// The shape of a genotype in JSON: all genes of a cell in one list, as in the Python form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flat {
    normal: Vec<(Operation, usize)>,
    normal_concat: Vec<usize>,
    reduce: Vec<(Operation, usize)>,
    reduce_concat: Vec<usize>,
}

impl From<Genotype> for Flat {
    fn from(genotype: Genotype) -> Self {
        let pairs = |cell: &CellGenotype| {
            cell.genes().map(|(_, gene)| (gene.operation, gene.input)).collect()
        };
        Self {
            normal: pairs(&genotype.normal),
            reduce: pairs(&genotype.reduce),
            normal_concat: genotype.normal.concat,
            reduce_concat: genotype.reduce.concat,
        }
    }
}

impl TryFrom<Flat> for Genotype {
    type Error = Error;

    fn try_from(flat: Flat) -> Result<Self, Error> {
        let cell = |name, pairs: Vec<(Operation, usize)>, concat: Vec<usize>| {
            let genes: Vec<_> =
                pairs.into_iter().map(|(operation, input)| Gene { operation, input }).collect();
            match check_cell(&genes, &concat) {
                Err((place, reason)) => Err(fault(name, place, reason)),
                Ok(()) => Ok(CellGenotype { nodes: genes.as_chunks().0.to_vec(), concat }),
            }
        };
        Self::new(
            cell("normal cell", flat.normal, flat.normal_concat)?,
            cell("reduction cell", flat.reduce, flat.reduce_concat)?,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublishedCell;

    #[test]
    fn the_python_form_is_that_of_darts() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        assert_eq!(
            asap.to_string(),
            "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), \
             ('skip_connect', 0), ('skip_connect', 2), ('skip_connect', 1), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], \
             reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 1), \
             ('skip_connect', 2), ('max_pool_3x3', 0), ('skip_connect', 2)], reduce_concat=[2, 3, 4, 5])"
        );
        assert_eq!((asap.skip_count(), asap.pool_count()), (7, 4));
    }

    #[test]
    fn json_holds_pairs_and_is_checked_on_reading() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let json = serde_json::to_string(&asap).unwrap();
        assert!(json.starts_with(
            r#"{"normal":[["sep_conv_3x3",0],["sep_conv_3x3",1],["sep_conv_3x3",1],["skip_connect",0],"#
        ));
        assert!(json.contains(r#""normal_concat":[2,3,4,5],"reduce":[["avg_pool_3x3",0],"#));
        assert_eq!(serde_json::from_str::<Genotype>(&json).unwrap(), asap);
        let broken = |from: &str, to: &str| {
            serde_json::from_str::<Genotype>(&json.replacen(from, to, 1)).unwrap_err().to_string()
        };
        let error = broken(r#"["sep_conv_3x3",1]"#, r#"["sep_conv_3x3",7]"#);
        assert!(error.contains("normal cell, node 0") && error.contains("state 7"), "{error}");
        let error = broken(r#""reduce_concat":[2"#, r#""reduce_concat":[0"#);
        assert!(error.contains("reduction cell, concat"), "{error}");
        assert!(broken(r#"["sep_conv_3x3",0],"#, "").contains("7 operations"));
    }

    #[test]
    fn a_cell_without_nodes_or_output_is_refused() {
        let gene = Gene { operation: Operation::SkipConnect, input: 0 };
        assert!(CellGenotype::new(vec![], vec![0]).is_err());
        assert!(CellGenotype::new(vec![[gene; 2]], vec![]).is_err());
        assert!(CellGenotype::new(vec![[gene; 2]], vec![3]).is_err());
        assert!(CellGenotype::new(vec![[gene; 2]; MAX_NODES + 1], vec![2]).is_err());
        CellGenotype::new(vec![[gene; 2]], vec![0, 2]).unwrap();
    }
}
