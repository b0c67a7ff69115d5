//! Pruning of a plan: removed operations leave the layers, and the caller learns the positions of their parameters.

use super::{Body, MixedEdge, Plan, Step};
use crate::{Architecture, CellKind, Genotype, Pruned, SearchSpace};

impl Plan {
    /// Removes pruned operations and edges. Returns the positions of their parameters.
    pub fn prune(&mut self, pruned: &[Pruned]) -> Vec<usize> {
        self.retain(|kind, row, edge, candidate| {
            let operation = edge.candidates[candidate].operation;
            !pruned.iter().any(|removed| {
                (removed.kind, removed.edge.index) == (kind, row)
                    && removed.operation.is_none_or(|removed| removed == operation)
            })
        })
    }

    /// Removes everything that is not alive in an architecture, to restore a checkpoint.
    pub fn prune_to(&mut self, architecture: &Architecture) -> Vec<usize> {
        self.retain(|kind, row, edge, candidate| {
            architecture.is_alive(kind, row, edge.candidates[candidate].index)
        })
    }

    /// Removes everything that is not in a genotype of the space.
    pub fn keep(&mut self, space: &SearchSpace, genotype: &Genotype) -> Vec<usize> {
        let edges: Vec<_> = space.edges().collect();
        self.retain(|kind, row, edge, candidate| {
            let operation = edge.candidates[candidate].operation;
            genotype.cell(kind).genes().any(|(node, gene)| {
                (node, gene.input, gene.operation) == (edges[row].node, edges[row].input, operation)
            })
        })
    }

    /// Removes each operation for which `alive` is false, given its kind of cell, its edge's row, the edge, and its place
    /// on it; and each edge that has none left.
    fn retain(&mut self, alive: impl Fn(CellKind, usize, &MixedEdge, usize) -> bool) -> Vec<usize> {
        let mut dead = Vec::new();
        for layer in &mut self.layers {
            let Body::Node(node) = &mut layer.body else { continue };
            let kind = node.kind;
            for edge in &mut node.edges {
                let Some(row) = edge.row else { continue };
                let alive: Vec<bool> =
                    (0..edge.candidates.len()).map(|i| alive(kind, row, edge, i)).collect();
                let mut alive = alive.into_iter();
                edge.candidates.retain(|candidate| {
                    let stays = alive.next().expect("as many as candidates");
                    if !stays {
                        dead.extend(
                            candidate.steps.iter().flat_map(|step: &Step| step.parameters.clone()),
                        );
                    }
                    stays
                });
            }
            node.edges.retain(|edge| !edge.candidates.is_empty());
        }
        dead
    }
}
