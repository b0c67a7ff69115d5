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
    /// The edges see the first of so many parts of the channels.
    partial: usize,
    /// The states that are the output, side by side.
    concat: Vec<usize>,
    /// Channels of the output.
    output_channels: usize,
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
    /// Stacks `shape.cells` cells whose edges see one of `partial` parts of the channels; `nodes` makes the edges into each node of a cell, and `concat` names
    /// the states of its output.
    ///
    /// # Errors
    /// When a number is zero.
    pub(crate) fn new(
        parameters: &mut Parameters,
        shape: &NetworkShape,
        affine: bool,
        partial: usize,
        nodes: impl Fn(&mut Parameters, &CellPlan<'_>) -> Vec<Vec<MixedEdge>>,
        concat: impl Fn(CellKind) -> Vec<usize>,
    ) -> Result<Self, Error> {
        check(shape)?;
        let stem = Stem::new(parameters, shape.stem, [shape.in_channels, shape.channels]);
        let reductions: Vec<usize> = reduction_cells(shape.cells).collect();
        let (stem_channels, mut halve) = match shape.stem {
            StemKind::Small => (3 * shape.channels, false),
            StemKind::Large => (shape.channels, true),
        };
        let [mut before, mut last] = [stem_channels; 2];
        let mut channels = shape.channels;
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
            let output_channels = concat.len() * channels;
            (before, last) = (last, output_channels);
            halve = reduction;
            cells.push(Cell { kind, preprocess, nodes, partial, concat, output_channels });
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
        self.forward_tapped(pass, images, mixing, None).0
    }

    /// The same, and the output of cell `tap`.
    pub(crate) fn forward_tapped(
        &self,
        pass: &Pass,
        images: Tensor<4>,
        mixing: &[Mixing; 2],
        tap: Option<usize>,
    ) -> (Tensor<2>, Option<Tensor<4>>) {
        let needed = self.needed(tap);
        let [mut before, mut last] = ops::stem(pass, &self.stem, images).map(Some);
        let mut tapped = None;
        for (i, cell) in self.cells.iter().enumerate() {
            let mut output = None;
            if needed[2 + i] {
                let mixing = &mixing[cell.kind as usize];
                output = Some(cell.forward(pass, [before, last.clone()], mixing));
            }
            if tap == Some(i) {
                tapped.clone_from(&output);
            }
            (before, last) = (last, output);
        }
        (ops::head(pass, &self.head, last.expect("the last cell is needed")), tapped)
    }

    /// Whether the result depends on the first and second input of the first cell, and on each cell's
    /// output. What it does not depend on must not be computed: no backward would take it off the graph.
    fn needed(&self, tap: Option<usize>) -> Vec<bool> {
        let mut needed = vec![false; 2 + self.cells.len()];
        for output in [Some(self.cells.len() - 1), tap].into_iter().flatten() {
            needed[2 + output] = true;
        }
        for (i, cell) in self.cells.iter().enumerate().rev() {
            if needed[2 + i] {
                let states = cell.needed();
                needed[i] |= states[0];
                needed[i + 1] |= states[1];
            }
        }
        needed
    }

    /// Channels of the output of a cell.
    pub(crate) fn output_channels(&self, cell: usize) -> usize {
        self.cells[cell].output_channels
    }
}

impl Cell {
    /// The output for the two inputs; one that the output does not depend on may be missing.
    fn forward(&self, pass: &Pass, inputs: [Option<Tensor<4>>; 2], mixing: &Mixing) -> Tensor<4> {
        let needed = self.needed();
        let mut states: Vec<Option<Tensor<4>>> = inputs
            .into_iter()
            .zip(&self.preprocess)
            .zip(&needed)
            .map(|((x, layer), needed)| Some(ops::preprocess(pass, layer, x.filter(|_| *needed)?)))
            .collect();
        for (edges, needed) in self.nodes.iter().zip(&needed[2..]) {
            let node = needed.then(|| match self.partial {
                1 => self.counting(edges).fold(None, |partial, edge| {
                    ops::mixed_edge(pass, edge, computed(&states, edge.input), mixing, partial)
                }),
                parts => {
                    let edges = edges.iter().map(|edge| (edge, computed(&states, edge.input)));
                    ops::partial_node(pass, edges, parts, mixing)
                }
            });
            states.push(node.flatten());
        }
        let output = self.concat.iter().map(|&state| computed(&states, state).clone()).collect();
        ops::reclaim(pass, states.into_iter().flatten());
        ops::concat(pass, output)
    }

    /// The edges into a node that count: of those that add nothing only a first one, which gives the shape. With
    /// partial channels every edge adds what passes it by.
    fn counting<'a>(&self, edges: &'a [MixedEdge]) -> impl Iterator<Item = &'a MixedEdge> {
        let all = self.partial > 1;
        let counts = move |&(i, edge): &(usize, &MixedEdge)| all || i == 0 || !edge.is_zero();
        edges.iter().enumerate().filter(counts).map(|(_, edge)| edge)
    }

    /// Whether the output depends on each state.
    fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; 2 + self.nodes.len()];
        for &state in &self.concat {
            needed[state] = true;
        }
        for (node, edges) in self.nodes.iter().enumerate().rev() {
            if needed[2 + node] {
                self.counting(edges).for_each(|edge| needed[edge.input] = true);
            }
        }
        needed
    }
}

fn computed(states: &[Option<Tensor<4>>], state: usize) -> &Tensor<4> {
    states[state].as_ref().expect("a state that is needed has an operation and was computed")
}

fn check(shape: &NetworkShape) -> Result<(), Error> {
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
