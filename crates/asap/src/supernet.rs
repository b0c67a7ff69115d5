//! The search network: cells whose edges mix all the operations still alive (ASAP section 3.1).

use asap_core::{
    Architecture, CellKind, Edge, Gene, Genotype, Operation, Pruned, SearchSpace, reduction_cells,
};
use burn::tensor::{Device, Tensor};

use crate::error::Error;
use crate::layers::{Candidate, Head, MixedEdge, Norm, Preprocess, Stem};
use crate::ops::{self, Mixing};
use crate::parameters::Parameters;
use crate::pass::Pass;

/// Size of a search network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupernetConfig {
    /// Channels C of the first cells; they double at each reduction.
    pub channels: usize,
    /// Number of cells.
    pub cells: usize,
    /// Channels of the images.
    pub image_channels: usize,
    /// Height and width of the images, in pixels.
    pub image_size: [usize; 2],
    /// Number of classes.
    pub classes: usize,
}

/// One cell: two preprocessed inputs, then nodes that sum mixed edges.
#[derive(Clone, Debug)]
struct Cell {
    kind: CellKind,
    preprocess: [Preprocess; 2],
    /// The alive edges into each node.
    nodes: Vec<Vec<MixedEdge>>,
}

/// The search network. Its tensors live in [`Parameters`]; it holds only operations still alive.
#[derive(Clone, Debug)]
pub struct Supernet {
    space: SearchSpace,
    stem: Stem,
    cells: Vec<Cell>,
    head: Head,
}

impl Supernet {
    /// Builds the network with every candidate alive, and its parameters on `device`.
    ///
    /// # Errors
    /// When a size is zero, or the images are too small for the reductions.
    pub fn new(
        config: &SupernetConfig,
        space: &SearchSpace,
        device: &Device,
        seed: u64,
    ) -> Result<(Self, Parameters), Error> {
        check(config)?;
        let mut parameters = Parameters::new(device.clone(), seed);
        let stem_channels = 3 * config.channels;
        let stem = Stem::new(&mut parameters, [config.image_channels, stem_channels]);
        let reductions: Vec<usize> = reduction_cells(config.cells).collect();
        let [mut before, mut last] = [stem_channels; 2];
        let mut channels = config.channels;
        let mut halve = false;
        let mut cells = Vec::with_capacity(config.cells);
        for i in 0..config.cells {
            let reduction = reductions.contains(&i);
            if reduction {
                channels *= 2;
            }
            let kind = if reduction { CellKind::Reduction } else { CellKind::Normal };
            let path = format!("cells.{i}");
            cells.push(Cell::new(
                &mut parameters,
                &path,
                kind,
                space,
                [before, last, channels],
                halve,
            ));
            (before, last) = (last, space.nodes * channels);
            halve = reduction;
        }
        let head = Head::new(&mut parameters, last, config.classes);
        Ok((Self { space: space.clone(), stem, cells, head }, parameters))
    }

    /// Images `[n, h, w, c]` to logits `[n, classes]`.
    ///
    /// `mixing` holds the mixing weights of normal and reduction cells (see [`mixing_tensor`]).
    pub fn forward(&self, pass: &Pass, images: Tensor<4>, mixing: &[Mixing; 2]) -> Tensor<2> {
        let stem = ops::stem(pass, &self.stem, images);
        let [mut before, mut last] = [stem.clone(), stem];
        for cell in &self.cells {
            let mixing = &mixing[cell.kind as usize];
            let output = cell.forward(pass, [before, last.clone()], mixing);
            (before, last) = (last, output);
        }
        ops::head(pass, &self.head, last)
    }

    /// Removes pruned operations and edges, with their weights and optimizer state.
    pub fn prune(&mut self, parameters: &mut Parameters, pruned: &[Pruned]) {
        for removed in pruned {
            let cells = self.cells.iter_mut().filter(|cell| cell.kind == removed.kind);
            for edges in cells.flat_map(|cell| &mut cell.nodes) {
                let offset = removed.edge * self.space.candidates.len();
                let Some(at) = edges.iter().position(|edge| edge.offset == offset) else {
                    continue;
                };
                let edge = &mut edges[at];
                match removed.operation {
                    Some(operation) => {
                        edge.candidates.retain(|candidate| candidate.operation != operation);
                        parameters.remove(&operation_path(&edge.path, operation));
                    }
                    None => {
                        parameters.remove(&edge.path);
                        edges.remove(at);
                    }
                }
            }
        }
    }

    /// Removes whatever `architecture` no longer has alive; how a checkpoint is brought back.
    pub fn prune_to(&mut self, parameters: &mut Parameters, architecture: &Architecture) {
        self.retain(parameters, |kind, edge, candidate| {
            architecture.edge_is_alive(kind, edge.index)
                && architecture.is_alive(kind, edge.index, candidate)
        });
    }

    /// Removes whatever is not in `genotype`.
    pub fn keep(&mut self, parameters: &mut Parameters, genotype: &Genotype) {
        let candidates = self.space.candidates.clone();
        self.retain(parameters, |kind, edge, candidate| {
            let gene = Gene { operation: candidates[candidate], input: edge.input };
            genotype.cell(kind).nodes[edge.node].contains(&gene)
        });
    }

    /// Removes each operation for which `alive` says no.
    pub fn retain(
        &mut self,
        parameters: &mut Parameters,
        alive: impl Fn(CellKind, Edge, usize) -> bool,
    ) {
        let mut dead = Vec::new();
        for kind in CellKind::ALL {
            for edge in self.space.edges() {
                let removed = |operation| Pruned {
                    kind,
                    edge: edge.index,
                    node: edge.node,
                    input: edge.input,
                    operation,
                };
                let operations = self.space.candidates.iter().enumerate();
                let gone: Vec<Pruned> = operations
                    .filter(|&(candidate, _)| !alive(kind, edge, candidate))
                    .map(|(_, &operation)| removed(Some(operation)))
                    .collect();
                if gone.len() == self.space.candidates.len() {
                    dead.push(removed(None));
                } else {
                    dead.extend(gone);
                }
            }
        }
        self.prune(parameters, &dead);
    }
}

impl Cell {
    fn new(
        parameters: &mut Parameters,
        path: &str,
        kind: CellKind,
        space: &SearchSpace,
        [before, last, channels]: [usize; 3],
        halve: bool,
    ) -> Self {
        let mut input = |i: usize, c_in, halve| {
            let path = format!("{path}.preprocess{i}");
            Preprocess::new(parameters, &path, [c_in, channels], halve, false)
        };
        let preprocess = [input(0, before, halve), input(1, last, false)];
        let mut nodes = vec![Vec::new(); space.nodes];
        for edge in space.edges() {
            let stride = edge.stride(kind);
            let path = format!("{path}.edges.{}", edge.index);
            let candidates = space
                .candidates
                .iter()
                .copied()
                .enumerate()
                .map(|(index, operation)| {
                    let path = operation_path(&path, operation);
                    let size = [channels, stride];
                    Candidate::new(parameters, &path, (index, operation), size, Norm::Search)
                })
                .collect();
            let offset = edge.index * space.candidates.len();
            let input = edge.input;
            nodes[edge.node].push(MixedEdge { path, offset, input, stride, candidates });
        }
        Self { kind, preprocess, nodes }
    }

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
        ops::concat(pass, states.split_off(2))
    }
}

fn operation_path(edge: &str, operation: Operation) -> String {
    format!("{edge}.{operation}")
}

/// The mixing weights of one kind of cell as a tensor, `[edges * candidates]`.
pub fn mixing_tensor(
    architecture: &Architecture,
    kind: CellKind,
    temperature: f64,
    device: &Device,
) -> Mixing {
    let weights = architecture.mixing_weights(kind, temperature);
    let flat: Vec<f32> = weights.iter().flatten().map(|&w| w as f32).collect();
    Tensor::from_floats(flat.as_slice(), device)
}

fn check(config: &SupernetConfig) -> Result<(), Error> {
    let positive = [
        ("network.channels", config.channels),
        ("network.cells", config.cells),
        ("image channels", config.image_channels),
        ("classes", config.classes),
        ("image height", config.image_size[0]),
        ("image width", config.image_size[1]),
    ];
    match positive.into_iter().find(|&(_, value)| value == 0) {
        Some((name, _)) => Err(Error::Network(format!("{name}: expected at least 1, found 0"))),
        None => Ok(()),
    }
}
