//! DSO-NAS (Zhang et al. 2018, "You Only Search Once: Single Shot Neural Architecture Search via Direct Sparse Optimization",
//! arXiv 1811.01567): every operation is scaled by a factor of its own, and a sparse regularization drives factors to exactly 0.

use serde::{Deserialize, Serialize};

use crate::anneal::architecture::Architecture;
use crate::anneal::found::Pruned;
use crate::space::{MixingTables, SearchSpace};

/// The scaling factors, all 1 at the start, and their momentum.
///
/// They are the mixing weights themselves, without a softmax, and those of a kind of cell are shared by its cells ("share" in the paper).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseScales {
    factors: MixingTables,
    velocity: MixingTables,
}

/// The settings of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProximalStep {
    /// Learning rate, eta.
    pub rate: f64,
    /// Strength of the L1 regularization, gamma: a factor whose gradient stays smaller goes to 0.
    pub gamma: f64,
    /// Momentum, mu.
    pub momentum: f64,
}

impl SparseScales {
    /// All factors 1.
    pub fn new(space: &SearchSpace) -> Self {
        Self { factors: space.tables(|| 1.0), velocity: space.tables(|| 0.0) }
    }

    /// The factors; 0 for what is gone.
    pub fn factors(&self) -> &MixingTables {
        &self.factors
    }

    /// A step of the accelerated proximal gradient with the momentum of Nesterov (APG-NAG): with `z = factor - rate * gradient` and
    /// `S` the soft threshold by `rate * gamma`,
    ///
    /// `velocity <- S(z) - factor + momentum * velocity`, `factor <- max(0, S(z) + momentum * velocity)`.
    ///
    /// # Panics
    /// If the gradients have a different shape.
    pub fn step(&mut self, gradients: &MixingTables, step: &ProximalStep) {
        let numbers = |tables: &MixingTables| tables.iter().flatten().flatten().count();
        assert_eq!(numbers(gradients), numbers(&self.factors), "one gradient per factor");
        let velocities = self.velocity.iter_mut().flatten().flatten();
        let factors = self.factors.iter_mut().flatten().flatten();
        let gradients = gradients.iter().flatten().flatten();
        for ((factor, velocity), gradient) in factors.zip(velocities).zip(gradients) {
            let z = *factor - step.rate * gradient;
            let shrunk = z.signum() * (z.abs() - step.rate * step.gamma).max(0.0);
            *velocity = shrunk - *factor + step.momentum * *velocity;
            *factor = (shrunk + step.momentum * *velocity).max(0.0);
        }
    }

    /// Removes the operations whose factor is 0, and the edges that have no other, as far as every node keeps its inputs; returns them.
    /// They never come back.
    pub fn prune(&mut self, architecture: &mut Architecture) -> Vec<Pruned> {
        self.place(architecture);
        let factors = &self.factors;
        let space = architecture.space().clone();
        let of = |kind| &factors[space.family.kind_index(kind)];
        let pruned = architecture.prune_where(|kind, edge, operation| match operation {
            Some(operation) => of(kind)[edge][operation] == 0.0,
            None => of(kind)[edge].iter().all(|factor| *factor == 0.0),
        });
        for (k, &kind) in space.kinds().iter().enumerate() {
            for edge in 0..space.edge_count() {
                for operation in 0..space.candidates.len() {
                    if !architecture.is_alive(kind, edge, operation) {
                        self.factors[k][edge][operation] = 0.0;
                        self.velocity[k][edge][operation] = 0.0;
                    }
                }
            }
        }
        pruned
    }

    /// Sets the logits of an architecture so that they rank as the factors do: an operation by its own, an edge by its largest.
    pub fn place(&self, architecture: &mut Architecture) {
        let space = architecture.space().clone();
        for (k, &kind) in space.kinds().iter().enumerate() {
            let cell = architecture.cell_mut(kind);
            for (choice, factors) in cell.operations.iter_mut().zip(&self.factors[k]) {
                choice.place(factors);
            }
            for (node, choice) in cell.inputs.iter_mut().enumerate() {
                let Some(choice) = choice else { continue };
                let largest = |input| {
                    let of_edge = &self.factors[k][space.edge_index(node, input)];
                    of_edge.iter().copied().fold(0.0, f64::max)
                };
                let logits: Vec<f64> = (0..space.inputs_of(node)).map(largest).collect();
                choice.place(&logits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CellKind, EdgePolicy, Family};

    const STEP: ProximalStep = ProximalStep { rate: 0.1, gamma: 0.5, momentum: 0.9 };

    #[test]
    fn a_step_is_the_formula() {
        let space = SearchSpace::new(
            Family::NasBench201,
            1,
            Family::NasBench201.candidates()[..2].to_vec(),
        )
        .unwrap();
        let mut scales = SparseScales::new(&space);
        scales.step(&vec![vec![vec![2.0, -1.0]]], &STEP);
        // 1 - 0.2 - 0.05 = 0.75 and 1 + 0.1 - 0.05 = 1.05, with the velocities -0.25 and 0.05
        let close = |found: &[f64], expected: [f64; 2]| {
            found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12)
        };
        assert!(close(&scales.factors[0][0], [0.75 - 0.225, 1.05 + 0.045]));
        scales.step(&vec![vec![vec![0.0, 0.0]]], &STEP);
        // 0.525 - 0.05 = 0.475, velocity -0.05 - 0.225 = -0.275; 1.095 - 0.05 = 1.045, velocity -0.05 + 0.045 = -0.005
        assert!(close(&scales.factors[0][0], [0.475 - 0.2475, 1.045 - 0.0045]));
    }

    #[test]
    fn what_the_loss_does_not_hold_goes_to_0_and_stays_there() {
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            let mut scales = SparseScales::new(&space);
            let mut architecture = Architecture::new(space.clone(), EdgePolicy::Anneal);
            // Candidate 1 is needed on every edge, more than the regularization costs; the edges of the first input, too, by any.
            let gradients: MixingTables = (space.kinds().iter())
                .map(|_| vec![vec![0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0]; space.edge_count()])
                .map(|edges| {
                    edges.into_iter().map(|row| row[..space.candidates.len()].to_vec()).collect()
                })
                .collect();
            let mut pruned = Vec::new();
            for _ in 0..60 {
                scales.step(&gradients, &STEP);
                pruned.extend(scales.prune(&mut architecture));
            }
            let edges = space.kinds().len() * space.edge_count();
            assert_eq!(pruned.len(), edges * (space.candidates.len() - 1));
            assert!(pruned.iter().all(|pruned| pruned.operation.is_some()));
            for edge in scales.factors().iter().flatten() {
                assert!(edge[1] > 1.0 && edge.iter().filter(|factor| **factor > 0.0).count() == 1);
            }
            // Even if the loss wants it back.
            let wanted = space.tables(|| -5.0);
            for _ in 0..3 {
                scales.step(&wanted, &STEP);
                assert!(scales.prune(&mut architecture).is_empty());
            }
            assert!(scales.factors().iter().flatten().all(|edge| edge[0] == 0.0));
            let genotype = architecture.derive().genotype;
            let all = genotype.cells().iter().flat_map(|cell| cell.genes());
            let planted = space.candidates[1];
            assert!(all.into_iter().all(|(_, gene)| gene.operation == planted));
        }
    }

    #[test]
    fn an_edge_without_operations_goes_as_long_as_the_node_keeps_its_inputs() {
        let space = SearchSpace::default();
        let mut scales = SparseScales::new(&space);
        let mut architecture = Architecture::new(space, EdgePolicy::Anneal);
        // Edges 9 to 13 are those of the last node.
        for edge in 9..14 {
            scales.factors[0][edge].fill(0.0);
        }
        scales.factors[0][12][3] = 0.5;
        scales.prune(&mut architecture);
        let alive: Vec<usize> =
            architecture.alive_edges(CellKind::Normal).map(|edge| edge.index).collect();
        assert_eq!(alive, (0..10).chain([12]).collect::<Vec<_>>());
        let genotype = architecture.derive().genotype;
        let last = &genotype.cell(CellKind::Normal).nodes[3];
        assert_eq!(last.iter().map(|gene| gene.input).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(last[1].operation.name(), "sep_conv_3x3");
    }
}
