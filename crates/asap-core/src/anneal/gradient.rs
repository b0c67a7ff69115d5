//! From the gradient for the mixing weights to a step of the logits.

use rand::Rng;
use rand::seq::SliceRandom;

use super::architecture::Architecture;
use super::choice::Choice;
use crate::numeric::adam::Adam;
use crate::space::{CellKind, MixingTables, SearchSpace};

/// The gradient of the loss for the weight of every candidate of every choice: of the operations of an edge, and of the
/// inputs of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceGradients {
    /// For the operations.
    pub operations: MixingTables,
    /// For the inputs of the nodes, `[kind][node][input]`.
    pub inputs: Vec<Vec<Vec<f64>>>,
}

/// The gradient of the loss for every logit; 0 for pruned operations and decided choices.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitGradients {
    /// For the operations.
    pub operations: MixingTables,
    /// For the inputs of the nodes, `[kind][node][input]`; 0 for a node that does not choose.
    pub inputs: Vec<Vec<Vec<f64>>>,
}

impl ChoiceGradients {
    /// The gradients of each choice in random order among its remaining candidates: as large as before, but without any
    /// information. A search that follows them is the control of one that follows the true ones.
    ///
    /// # Panics
    /// If they are not those of such an architecture.
    pub fn shuffle(&mut self, architecture: &Architecture, random: &mut impl Rng) {
        let kinds = architecture.space().kinds().iter().map(|&kind| architecture.cell(kind));
        for ((cell, operations), inputs) in kinds.zip(&mut self.operations).zip(&mut self.inputs) {
            for (choice, gradients) in cell.operations.iter().zip(operations) {
                shuffle(choice, gradients, random);
            }
            for (choice, gradients) in cell.inputs.iter().zip(inputs) {
                if let Some(choice) = choice {
                    shuffle(choice, gradients, random);
                }
            }
        }
    }

    /// Adds other gradients, times a factor.
    ///
    /// # Panics
    /// If their shape is different.
    pub fn add(&mut self, other: &Self, factor: f64) {
        add(&mut self.operations, &other.operations, factor);
        add(&mut self.inputs, &other.inputs, factor);
    }
}

impl LogitGradients {
    /// Zeros.
    pub(crate) fn zeros(space: &SearchSpace) -> Self {
        let inputs: Vec<_> =
            (0..space.nodes).map(|node| vec![0.0; space.inputs_of(node)]).collect();
        Self { operations: space.tables(|| 0.0), inputs: vec![inputs; space.kinds().len()] }
    }

    /// Adds other gradients, times a factor.
    pub(crate) fn add(&mut self, other: &Self, factor: f64) {
        add(&mut self.operations, &other.operations, factor);
        add(&mut self.inputs, &other.inputs, factor);
    }
}

fn add(ours: &mut MixingTables, theirs: &MixingTables, factor: f64) {
    let shape = |table: &MixingTables| -> Vec<Vec<usize>> {
        table.iter().map(|cell| cell.iter().map(Vec::len).collect()).collect()
    };
    assert_eq!(shape(ours), shape(theirs), "gradients of the same choices");
    for (ours, theirs) in ours.iter_mut().flatten().zip(theirs.iter().flatten()) {
        ours.iter_mut().zip(theirs).for_each(|(our, their)| *our += factor * their);
    }
}

fn shuffle(choice: &Choice, gradients: &mut [f64], random: &mut impl Rng) {
    let mut alive: Vec<f64> = choice.alive().map(|candidate| gradients[candidate]).collect();
    alive.shuffle(random);
    choice.alive().zip(alive).for_each(|(candidate, gradient)| gradients[candidate] = gradient);
}

impl Architecture {
    /// The gradients for the weights of every choice's candidates, from those for [`Architecture::mixing_weights`] at the
    /// same temperature.
    ///
    /// Entries of pruned operations have no effect.
    ///
    /// # Panics
    /// If the gradients have a different shape.
    pub fn choice_gradients(
        &self,
        mixing_gradients: &MixingTables,
        temperature: f64,
    ) -> ChoiceGradients {
        let kinds = self.space().kinds();
        assert_eq!(mixing_gradients.len(), kinds.len(), "one table of gradients per kind");
        let of_kind = |(&kind, gradients): (&CellKind, &Vec<Vec<f64>>)| {
            assert_eq!(
                gradients.len(),
                self.space().edge_count(),
                "one list of gradients per edge"
            );
            let cell = self.cell(kind);
            let weights = cell.input_weights(self.space(), temperature);
            let mut inputs: Vec<_> = weights.iter().map(|node| vec![0.0; node.len()]).collect();
            let mut operations: Vec<_> = gradients.iter().map(|g| vec![0.0; g.len()]).collect();
            for edge in self.alive_edges(kind) {
                let choice = &cell.operations[edge.index];
                let gradient = &gradients[edge.index];
                let phi = choice.weights(temperature);
                inputs[edge.node][edge.input] =
                    choice.alive().map(|candidate| phi[candidate] * gradient[candidate]).sum();
                let weight = weights[edge.node][edge.input];
                operations[edge.index] = gradient.iter().map(|g| g * weight).collect();
            }
            (operations, inputs)
        };
        let (operations, inputs) = kinds.iter().zip(mixing_gradients).map(of_kind).unzip();
        ChoiceGradients { operations, inputs }
    }

    /// The gradient for the logits from that for [`Architecture::mixing_weights`] at the same temperature.
    ///
    /// # Panics
    /// If the gradients have a different shape.
    pub fn logit_gradients(
        &self,
        mixing_gradients: &MixingTables,
        temperature: f64,
    ) -> LogitGradients {
        self.through_softmax(&self.choice_gradients(mixing_gradients, temperature), temperature)
    }

    /// The gradients for the logits from those for the weights of the choices' candidates (eq. 4).
    pub fn through_softmax(&self, gradients: &ChoiceGradients, temperature: f64) -> LogitGradients {
        let of_kind = |(k, &kind): (usize, &CellKind)| {
            let cell = self.cell(kind);
            let mut operations: Vec<_> =
                gradients.operations[k].iter().map(|g| vec![0.0; g.len()]).collect();
            for edge in self.alive_edges(kind) {
                operations[edge.index] = cell.operations[edge.index]
                    .logit_gradient(&gradients.operations[k][edge.index], temperature);
            }
            let inputs = cell.inputs.iter().zip(&gradients.inputs[k]);
            let inputs = inputs.map(|(choice, gradient)| match choice {
                Some(choice) => choice.logit_gradient(gradient, temperature),
                None => vec![0.0; gradient.len()],
            });
            (operations, inputs.collect())
        };
        let (operations, inputs) = self.space().kinds().iter().enumerate().map(of_kind).unzip();
        LogitGradients { operations, inputs }
    }

    /// One Adam step on every logit, line 6 of Algorithm 1.
    ///
    /// `mixing_gradients` as in [`Architecture::logit_gradients`].
    ///
    /// # Panics
    /// If the gradients have a different shape.
    pub fn step(&mut self, mixing_gradients: &MixingTables, temperature: f64, adam: &Adam) {
        self.step_logits(&self.logit_gradients(mixing_gradients, temperature), adam);
    }

    /// One step of plain gradient descent on every logit, as eq. 4 is written.
    ///
    /// # Panics
    /// If the gradients have a different shape.
    pub fn descend_logits(&mut self, gradients: &LogitGradients, rate: f64) {
        self.move_logits(gradients, |choice, gradient| choice.descend(gradient, rate));
    }

    /// One Adam step on every logit along given gradients; pruned operations and decided choices do not move.
    ///
    /// # Panics
    /// If the gradients have a different shape.
    pub fn step_logits(&mut self, gradients: &LogitGradients, adam: &Adam) {
        self.move_logits(gradients, |choice, gradient| choice.step(gradient, adam));
    }

    fn move_logits(&mut self, gradients: &LogitGradients, step: impl Fn(&mut Choice, &[f64])) {
        for (index, &kind) in self.space().kinds().iter().enumerate() {
            let alive: Vec<_> = self.alive_edges(kind).collect();
            let operations = &gradients.operations[index];
            assert_eq!(
                operations.len(),
                self.space().edge_count(),
                "one list of gradients per edge"
            );
            let cell = self.cell_mut(kind);
            for edge in alive {
                step(&mut cell.operations[edge.index], &operations[edge.index]);
            }
            let inputs = &gradients.inputs[index];
            assert_eq!(inputs.len(), cell.inputs.len(), "one list of gradients per node");
            for (choice, gradient) in cell.inputs.iter_mut().zip(inputs) {
                if let Some(choice) = choice {
                    step(choice, gradient);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{EdgePolicy, SearchSpace};

    /// Numbers between -1 and 1 without any pattern.
    fn upstream(salt: usize) -> MixingTables {
        let number = |i: usize| ((salt * 197 + i) as f64 * 12.9898).sin();
        let cell = |kind: usize| {
            let edge = |e: usize| (0..7).map(|c| number(kind * 101 + e * 7 + c)).collect();
            (0..14).map(edge).collect()
        };
        vec![cell(0), cell(1)]
    }

    fn moved(policy: EdgePolicy) -> Architecture {
        let mut architecture = Architecture::new(SearchSpace::default(), policy);
        for salt in 2..6 {
            architecture.step(&upstream(salt), 0.6, &Adam { lr: 0.05, ..Adam::default() });
        }
        let cell = architecture.cell_mut(CellKind::Reduction);
        cell.operations[3].remove(2);
        if let Some(inputs) = &mut cell.inputs[2] {
            inputs.remove(1);
        }
        architecture
    }

    #[test]
    fn shuffled_gradients_are_the_same_numbers_in_an_order_that_says_nothing() {
        let architecture = moved(EdgePolicy::Anneal);
        let gradients = architecture.choice_gradients(&upstream(1), 0.6);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut sums = vec![0.0; 7];
        let sorted = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(f64::total_cmp);
            values
        };
        const TIMES: u32 = 4000;
        for _ in 0..TIMES {
            let mut shuffled = gradients.clone();
            shuffled.shuffle(&architecture, &mut random);
            for (before, after) in [
                (&gradients.operations, &shuffled.operations),
                (&gradients.inputs, &shuffled.inputs),
            ] {
                for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
                    assert_eq!(sorted(before), sorted(after));
                }
            }
            let gone = |gradients: &ChoiceGradients| gradients.operations[1][3][2];
            assert_eq!(gone(&shuffled), gone(&gradients), "a pruned operation takes no part");
            sums.iter_mut().zip(&shuffled.operations[0][5]).for_each(|(sum, g)| *sum += g);
        }
        let row = &gradients.operations[0][5];
        let mean = row.iter().sum::<f64>() / 7.0;
        let largest = row.iter().map(|g| (g - mean).abs()).fold(0.0, f64::max);
        for sum in sums {
            assert!((sum / f64::from(TIMES) - mean).abs() < 0.1 * largest, "{sum}");
        }
    }

    #[test]
    fn the_gradients_are_those_of_finite_differences_with_and_without_noise() {
        let (temperature, h) = (0.6, 1e-6);
        let gradients = upstream(1);
        let noise = upstream(9);
        let loss = |architecture: &Architecture| -> f64 {
            let weights = architecture.mixing_tables(temperature).into_iter().flatten().flatten();
            weights.zip(gradients.iter().flatten().flatten()).map(|(w, g)| w * g).sum()
        };
        for (policy, noisy) in EdgePolicy::ALL.into_iter().flat_map(|p| [(p, false), (p, true)]) {
            let start = moved(policy);
            let shown = |a: &Architecture| if noisy { a.perturbed(&noise) } else { a.clone() };
            let found = shown(&start).logit_gradients(&gradients, temperature);
            type Pick = fn(&mut Architecture, usize) -> Option<&mut Choice>;
            let picks: [(Pick, &Vec<Vec<f64>>); 2] = [
                (
                    |a, i| a.cell_mut(CellKind::Reduction).operations.get_mut(i),
                    &found.operations[1],
                ),
                (
                    |a, i| a.cell_mut(CellKind::Reduction).inputs.get_mut(i)?.as_mut(),
                    &found.inputs[1],
                ),
            ];
            for (pick, index, found) in
                picks.iter().flat_map(|(p, f)| f.iter().enumerate().map(move |(i, f)| (p, i, f)))
            {
                let Some(choice) = pick(&mut start.clone(), index).cloned() else { continue };
                for candidate in choice.alive() {
                    let shifted = |by: f64| {
                        let mut other = start.clone();
                        let mut gradient = vec![0.0; choice.len()];
                        gradient[candidate] = -by;
                        pick(&mut other, index).unwrap().descend(&gradient, 1.0);
                        loss(&shown(&other))
                    };
                    let numeric = (shifted(h) - shifted(-h)) / (2.0 * h);
                    let gap = (found[candidate] - numeric).abs();
                    assert!(
                        gap < 1e-7,
                        "{policy} {noisy} {index} {candidate}: {found:?} {numeric}"
                    );
                }
            }
            assert_eq!(found.operations[1][3][2], 0.0);
        }
    }

    #[test]
    fn a_step_follows_the_gradients_and_leaves_the_pruned() {
        let start = moved(EdgePolicy::Anneal);
        let adam = Adam { lr: 0.05, ..Adam::default() };
        let mut stepped = start.clone();
        stepped.step(&upstream(1), 0.6, &adam);
        let gradients = start.logit_gradients(&upstream(1), 0.6);
        for (index, &kind) in start.space().kinds().iter().enumerate() {
            for edge in start.space().edges() {
                let mut choice = start.cell(kind).operations[edge.index].clone();
                if start.edge_is_alive(kind, edge.index) {
                    choice.step(&gradients.operations[index][edge.index], &adam);
                }
                assert_eq!(stepped.cell(kind).operations[edge.index], choice);
            }
            let mut node = start.cell(kind).inputs[3].clone().unwrap();
            node.step(&gradients.inputs[index][3], &adam);
            assert_eq!(stepped.cell(kind).inputs[3].as_ref(), Some(&node));
        }
        assert_ne!(stepped, start);
    }
}
