//! The search network: cells whose edges mix all the operations still alive (ASAP section 3.1).

use asap_core::{
    Architecture, CellKind, Edge, Gene, Genotype, NetworkShape, Operation, Pruned, SearchSpace,
};
use burn::tensor::{Device, Tensor};

use crate::backbone::{Backbone, CellPlan};
use crate::error::Error;
use crate::layers::{Candidate, MixedEdge, Norm};
use crate::ops::Mixing;
use crate::parameters::Parameters;
use crate::pass::Pass;

/// The search network. Its tensors live in [`Parameters`]; it holds only operations still alive.
#[derive(Clone, Debug)]
pub struct Supernet {
    space: SearchSpace,
    backbone: Backbone,
}

impl Supernet {
    /// Builds the network with every candidate alive, and its parameters on `device`.
    ///
    /// # Errors
    /// When a number of `shape` is zero, or its channels do not fall into [`SearchSpace::partial`] equal parts.
    pub fn new(
        shape: &NetworkShape,
        space: &SearchSpace,
        device: &Device,
        seed: u64,
    ) -> Result<(Self, Parameters), Error> {
        if !shape.channels.is_multiple_of(space.partial) {
            return Err(Error::Network(format!(
                "channels: expected a multiple of {}, since operations see one of so many parts, found {}",
                space.partial, shape.channels
            )));
        }
        let mut parameters = Parameters::new(device.clone(), seed);
        let backbone = Backbone::new(
            &mut parameters,
            shape,
            false,
            space.partial,
            |parameters, plan| mixed_nodes(parameters, plan, space),
            |_| (2..2 + space.nodes).collect(),
        )?;
        Ok((Self { space: space.clone(), backbone }, parameters))
    }

    /// Images `[n, h, w, c]` to logits `[n, classes]`.
    ///
    /// `mixing` holds the mixing weights of normal and reduction cells (see [`mixing_tensor`]).
    pub fn forward(&self, pass: &Pass, images: Tensor<4>, mixing: &[Mixing; 2]) -> Tensor<2> {
        self.backbone.forward(pass, images, mixing)
    }

    /// Removes pruned operations and edges, with their weights and optimizer state.
    pub fn prune(&mut self, parameters: &mut Parameters, pruned: &[Pruned]) {
        for removed in pruned {
            let cells = self.backbone.cells.iter_mut().filter(|cell| cell.kind == removed.kind);
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
                let removed = |operation| Pruned::new(kind, &edge, operation);
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

/// Every candidate on every edge into the nodes of a cell.
fn mixed_nodes(
    parameters: &mut Parameters,
    plan: &CellPlan<'_>,
    space: &SearchSpace,
) -> Vec<Vec<MixedEdge>> {
    let mut nodes = vec![Vec::new(); space.nodes];
    for edge in space.edges() {
        let stride = edge.stride(plan.kind);
        let path = format!("{}.edges.{}", plan.path, edge.index);
        let candidates = space
            .candidates
            .iter()
            .copied()
            .enumerate()
            .map(|(index, operation)| {
                let path = operation_path(&path, operation);
                let size = [plan.channels / space.partial, stride];
                Candidate::new(parameters, &path, (index, operation), size, Norm::Search)
            })
            .collect();
        let offset = edge.index * space.candidates.len();
        nodes[edge.node].push(MixedEdge { path, offset, input: edge.input, stride, candidates });
    }
    nodes
}

fn operation_path(edge: &str, operation: Operation) -> String {
    format!("{edge}.{operation}")
}

/// The mixing weights of one kind of cell, `[edge][candidate]`, as a tensor `[edges * candidates]`.
pub fn mixing_tensor(weights: &[Vec<f64>], device: &Device) -> Mixing {
    let flat: Vec<f32> = weights.iter().flatten().map(|&w| w as f32).collect();
    Tensor::from_floats(flat.as_slice(), device)
}
