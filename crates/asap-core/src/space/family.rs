//! Families of cells: the rules that the search spaces and genotypes of one kind of search share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::operation::Operation;
use super::stacking::Stacking;
use crate::error::Error;

/// A family of cells.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Family {
    /// The cells of NASNet, DARTS and the paper: a normal and a reduction cell with two inputs and two operations per
    /// node.
    #[default]
    Darts,
    /// The cell of NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326): one input, an operation on every edge.
    NasBench201,
}

/// A kind of cell; each has its own architecture weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellKind {
    /// Keeps the size of the feature map.
    Normal,
    /// Halves the feature map: edges from the cell's inputs have stride 2.
    Reduction,
}

/// The output of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Nodes joined along the channels.
    Concat,
    /// The last node.
    LastNode,
}

/// The edges of a node that remain when a search ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Those from this many of the earlier states.
    Inputs(usize),
    /// All, with one operation on each.
    EveryEdge,
}

/// A row of the table of families.
struct Row {
    name: &'static str,
    kinds: &'static [CellKind],
    inputs: usize,
    nodes: usize,
    output: Output,
    ending: Ending,
    stacking: Stacking,
    pool_norm: bool,
    candidates: &'static [Operation],
    operations: &'static [Operation],
}

static DARTS: Row = Row {
    name: "darts",
    kinds: &[CellKind::Normal, CellKind::Reduction],
    inputs: 2,
    nodes: 4,
    output: Output::Concat,
    ending: Ending::Inputs(2),
    stacking: Stacking::Darts,
    pool_norm: true,
    candidates: &[
        Operation::MaxPool3x3,
        Operation::AvgPool3x3,
        Operation::SkipConnect,
        Operation::SepConv3x3,
        Operation::SepConv5x5,
        Operation::DilConv3x3,
        Operation::DilConv5x5,
    ],
    operations: &[
        Operation::None,
        Operation::MaxPool3x3,
        Operation::AvgPool3x3,
        Operation::SkipConnect,
        Operation::SepConv3x3,
        Operation::SepConv5x5,
        Operation::SepConv7x7,
        Operation::DilConv3x3,
        Operation::DilConv5x5,
        Operation::Conv7x1Then1x7,
    ],
};

static NAS_BENCH_201: Row = Row {
    name: "nas-bench-201",
    kinds: &[CellKind::Normal],
    inputs: 1,
    nodes: 3,
    output: Output::LastNode,
    ending: Ending::EveryEdge,
    stacking: Stacking::Stages,
    pool_norm: false,
    candidates: &[
        Operation::SkipConnect,
        Operation::NorConv1x1,
        Operation::NorConv3x3,
        Operation::AvgPool3x3,
    ],
    operations: &[
        Operation::None,
        Operation::SkipConnect,
        Operation::NorConv1x1,
        Operation::NorConv3x3,
        Operation::AvgPool3x3,
    ],
};

impl Family {
    /// Every family.
    pub const ALL: [Family; 2] = [Family::Darts, Family::NasBench201];

    fn row(self) -> &'static Row {
        match self {
            Family::Darts => &DARTS,
            Family::NasBench201 => &NAS_BENCH_201,
        }
    }

    /// "darts" or "nas-bench-201".
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The kinds of cell that are searched, in the order of tables and genotypes.
    pub fn kinds(self) -> &'static [CellKind] {
        self.row().kinds
    }

    /// The position of a kind in [`Family::kinds`].
    ///
    /// # Panics
    /// If the family has no such cells.
    pub fn kind_index(self, kind: CellKind) -> usize {
        let index = self.kinds().iter().position(|&own| own == kind);
        index.unwrap_or_else(|| panic!("the family {self} has no {kind} cells"))
    }

    /// Number of states that come from outside the cell.
    pub fn inputs(self) -> usize {
        self.row().inputs
    }

    /// The output of a cell.
    pub fn output(self) -> Output {
        self.row().output
    }

    /// The edges that remain when a search ends.
    pub fn ending(self) -> Ending {
        self.row().ending
    }

    /// The way in which cells make a network.
    pub fn stacking(self) -> Stacking {
        self.row().stacking
    }

    /// Number of nodes in a cell of the default search space.
    pub fn default_nodes(self) -> usize {
        self.row().nodes
    }

    /// The candidates of the default search space, in the order of its code: the paper's seven (section 3.1), or those
    /// of NAS-Bench-201 without `none`.
    pub fn candidates(self) -> &'static [Operation] {
        self.row().candidates
    }

    /// Every operation that a cell of the family may have.
    pub fn operations(self) -> &'static [Operation] {
        self.row().operations
    }

    /// The operation with this full or short name.
    ///
    /// # Errors
    /// [`Error::UnknownName`] that lists the operations of the family.
    pub fn operation(self, name: &str) -> Result<Operation, Error> {
        let known = self.operations().iter();
        known
            .clone()
            .copied()
            .find(|operation| operation.name() == name || operation.short() == name)
            .ok_or_else(|| Error::unknown("operation", name, known.map(|known| known.name())))
    }

    /// True if poolings of the search network have a batch norm.
    pub fn pool_norm(self) -> bool {
        self.row().pool_norm
    }

    /// The stride of an operation that reads state `input` in a cell of a kind: 2 on the inputs of a reduction cell.
    pub fn stride(self, kind: CellKind, input: usize) -> usize {
        match kind {
            CellKind::Reduction if input < self.inputs() => 2,
            _ => 1,
        }
    }

    /// The states that form the output of a cell in a search space with `nodes` nodes.
    pub fn output_states(self, nodes: usize) -> Vec<usize> {
        let states = self.inputs() + nodes;
        match self.output() {
            Output::Concat => (self.inputs()..states).collect(),
            Output::LastNode => vec![states - 1],
        }
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl CellKind {
    /// "normal" or "reduction".
    pub fn name(self) -> &'static str {
        match self {
            CellKind::Normal => "normal",
            CellKind::Reduction => "reduction",
        }
    }
}

impl fmt::Display for CellKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Reads a name.
///
/// # Errors
/// [`Error::UnknownName`] that lists the names.
impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|family| family.name() == text)
            .ok_or_else(|| Error::unknown("search space", text, Self::ALL.map(Self::name)))
    }
}

impl From<Family> for &'static str {
    fn from(family: Family) -> Self {
        family.name()
    }
}

impl TryFrom<String> for Family {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(operations: &[Operation]) -> String {
        operations.iter().map(|operation| operation.name()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_read_back_and_an_unknown_one_lists_the_choices() {
        for family in Family::ALL {
            assert_eq!(family.name().parse(), Ok(family));
            let json = serde_json::to_string(&family).unwrap();
            assert_eq!(json, format!("\"{family}\""));
            assert_eq!(serde_json::from_str::<Family>(&json).unwrap(), family);
        }
        let error = "nb201".parse::<Family>().unwrap_err().to_string();
        assert_eq!(error, "unknown search space `nb201`; choose one of: darts, nas-bench-201");
    }

    #[test]
    fn the_candidates_stand_in_the_order_of_the_code_that_defines_them() {
        assert_eq!(
            names(Family::Darts.candidates()),
            "max_pool_3x3 avg_pool_3x3 skip_connect sep_conv_3x3 sep_conv_5x5 dil_conv_3x3 dil_conv_5x5"
        );
        assert_eq!(
            names(Family::NasBench201.operations()),
            "none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3"
        );
        for family in Family::ALL {
            let allowed = |operation| family.operations().contains(operation);
            assert!(family.candidates().iter().all(allowed));
        }
    }

    #[test]
    fn an_operation_of_another_family_is_unknown() {
        assert_eq!(Family::NasBench201.operation("n3"), Ok(Operation::NorConv3x3));
        let error = Family::NasBench201.operation("sep_conv_3x3").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown operation `sep_conv_3x3`; choose one of: none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3"
        );
    }

    #[test]
    fn only_the_inputs_of_a_reduction_cell_are_read_with_stride_2() {
        let strides = [0, 1, 2].map(|input| Family::Darts.stride(CellKind::Reduction, input));
        assert_eq!(strides, [2, 2, 1]);
        assert_eq!(Family::Darts.stride(CellKind::Normal, 0), 1);
        assert_eq!(Family::NasBench201.stride(CellKind::Normal, 0), 1);
    }
}
