//! What the search network and the final network share: a stem, stacked cells, a classifier.

use asap_core::{CellKind, NetworkShape, Stem as StemKind, reduction_cells};
use burn::tensor::Tensor;

use crate::error::Error;
use crate::layers::{Head, MixedEdge, Preprocess, Stem};
use crate::ops::{self, Mixing};
use crate::parameters::Parameters;
use crate::pass::Pass;

/// Stem, cells and classifier. The tensors live in [`Parameters`].
#[derive(Clone, Debug)]
pub(crate) struct Backbone {
    stem: Stem,
    pub(crate) cells: Vec<Cell>,
    head: Head,
}

/// One cell: two preprocessed inputs, then nodes that sum edges.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) kind: CellKind,
    preprocess: [Preprocess; 2],
    /// The edges into each node.
    pub(crate) nodes: Vec<Vec<MixedEdge>>,
    /// The states that are the output, side by side.
    concat: Vec<usize>,
}

/// The nodes of a cell and the states that are its output, for a cell at `path` with `channels`.
pub(crate) struct CellPlan<'a> {
    /// Dotted path of the cell's parameters.
    pub(crate) path: &'a str,
    /// Kind of the cell.
    pub(crate) kind: CellKind,
    /// Channels of its nodes.
    pub(crate) channels: usize,
}

impl Backbone {
    /// Stacks `shape.cells` cells; `nodes` makes the edges into each node of a cell, and `concat` names
    /// the states of its output.
    ///
    /// # Errors
    /// When a number is zero, or the stem is not the small one.
    pub(crate) fn new(
        parameters: &mut Parameters,
        shape: &NetworkShape,
        affine: bool,
        nodes: impl Fn(&mut Parameters, &CellPlan<'_>) -> Vec<Vec<MixedEdge>>,
        concat: impl Fn(CellKind) -> Vec<usize>,
    ) -> Result<Self, Error> {
        check(shape)?;
        let stem_channels = 3 * shape.channels;
        let stem = Stem::new(parameters, [shape.in_channels, stem_channels]);
        let reductions: Vec<usize> = reduction_cells(shape.cells).collect();
        let [mut before, mut last] = [stem_channels; 2];
        let mut channels = shape.channels;
        let mut halve = false;
        let mut cells = Vec::with_capacity(shape.cells);
        for i in 0..shape.cells {
            let reduction = reductions.contains(&i);
            if reduction {
                channels *= 2;
            }
            let kind = if reduction { CellKind::Reduction } else { CellKind::Normal };
            let path = format!("cells.{i}");
            let mut input = |i: usize, c_in, halve| {
                let path = format!("{path}.preprocess{i}");
                Preprocess::new(parameters, &path, [c_in, channels], halve, affine)
            };
            let preprocess = [input(0, before, halve), input(1, last, false)];
            let nodes = nodes(parameters, &CellPlan { path: &path, kind, channels });
            let concat = concat(kind);
            (before, last) = (last, concat.len() * channels);
            halve = reduction;
            cells.push(Cell { kind, preprocess, nodes, concat });
        }
        let head = Head::new(parameters, last, shape.classes);
        Ok(Self { stem, cells, head })
    }

    /// Images `[n, h, w, c]` to logits `[n, classes]`; `mixing` holds the weights of each kind's edges.
    pub(crate) fn forward(
        &self,
        pass: &Pass,
        images: Tensor<4>,
        mixing: &[Mixing; 2],
    ) -> Tensor<2> {
        let stem = ops::stem(pass, &self.stem, images);
        let [mut before, mut last] = [stem.clone(), stem];
        for cell in &self.cells {
            let output = cell.forward(pass, [before, last.clone()], &mixing[cell.kind as usize]);
            (before, last) = (last, output);
        }
        ops::head(pass, &self.head, last)
    }
}

impl Cell {
    fn forward(&self, pass: &Pass, inputs: [Tensor<4>; 2], mixing: &Mixing) -> Tensor<4> {
        let [first, second] = &self.preprocess;
        let [before, last] = inputs;
        let mut states =
            vec![ops::preprocess(pass, first, before), ops::preprocess(pass, second, last)];
        for edges in &self.nodes {
            let node = edges.iter().fold(None, |partial, edge| {
                ops::mixed_edge(pass, edge, &states[edge.input], mixing, partial)
            });
            states.push(node.expect("a node keeps at least one operation"));
        }
        ops::concat(pass, self.concat.iter().map(|&state| states[state].clone()).collect())
    }
}

fn check(shape: &NetworkShape) -> Result<(), Error> {
    if shape.stem != StemKind::Small {
        return Err(Error::Network(
            "expected the small stem; the large one is not built yet".into(),
        ));
    }
    let positive = [
        ("channels", shape.channels),
        ("cells", shape.cells),
        ("image channels", shape.in_channels),
        ("classes", shape.classes),
        ("image height", shape.height),
        ("image width", shape.width),
    ];
    match positive.into_iter().find(|&(_, value)| value == 0) {
        Some((name, _)) => Err(Error::Network(format!("{name}: expected at least 1, found 0"))),
        None => Ok(()),
    }
}
