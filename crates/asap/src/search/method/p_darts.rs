//! P-DARTS (Chen et al. 2019): DARTS in three stages. From stage to stage the network is deeper and fewer operations
//! remain, alpha and weights start from scratch, and skip connections drop out more often, so that they do not win only
//! by being short.
//!
//! The unit of dropout is the whole output of a skip connection on an edge in a step; the published code drops single
//! values.

use std::ops::Range;

use asap_core::{Adam, Derived, MixingTables, Operation, Pruned};
use asap_data::Batch;
use rand::RngExt;

use super::darts::TEMPERATURE;
use super::{Clock, Method, Step, generator, part};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, StepScore};

/// Depth of a stage's network, out of the 17 cells of the last.
const DEPTHS: [usize; 3] = [5, 11, 17];
/// Number of operations at the start of a stage, out of the 8 of the first (`none` is one of them).
const OPERATIONS: [usize; 3] = [8, 5, 3];
/// Probability that a skip connection drops out at the start of a stage.
const DROP: [f64; 3] = [0.0, 0.4, 0.7];
/// Rate at which that probability decays once alpha moves, per epoch out of a stage's 25.
const DROP_DECAY: f64 = 0.2;
/// Fraction of a stage's epochs in which alpha does not move.
const WARMUP: f64 = 0.4;
/// Largest number of skip connections in the normal cell.
const SKIPS: usize = 2;

/// Three stages.
pub(super) struct PDarts {
    seed: u64,
    epochs: usize,
    candidates: usize,
    cells: usize,
    adam: Adam,
}

impl PDarts {
    pub(super) fn new(config: &Config, adam: Adam) -> Self {
        Self {
            seed: config.seed,
            epochs: config.search.epochs,
            candidates: config.network.candidates.len(),
            cells: config.network.cells,
            adam,
        }
    }

    fn stage(&self, epoch: usize) -> usize {
        (epoch * DEPTHS.len() / self.epochs).min(DEPTHS.len() - 1)
    }

    /// The epochs of the stage so far, those of it in which alpha rests, and all of it.
    fn place(&self, epoch: usize) -> [usize; 3] {
        let stage = part(epoch, DEPTHS.len(), self.epochs);
        [epoch - stage.start, (WARMUP * stage.len() as f64) as usize, stage.len()]
    }

    /// True if an epoch is the last of its stage, and another stage follows.
    fn ends_stage(&self, epoch: usize) -> bool {
        epoch + 1 < self.epochs && self.stage(epoch + 1) > self.stage(epoch)
    }

    /// The fraction of a stage's dropout in an epoch: it falls while alpha rests, and again from the whole once alpha moves, as in the
    /// authors' `train_search.py`.
    fn decay(&self, epoch: usize) -> f64 {
        let [done, rest, all] = self.place(epoch);
        match done < rest {
            true => (all - done - 1) as f64 / all as f64,
            false => (-25.0 * DROP_DECAY * (done - rest) as f64 / all as f64).exp(),
        }
    }

    /// Number of operations on each edge in a stage.
    fn operations(&self, stage: usize) -> usize {
        (self.candidates * OPERATIONS[stage]).div_ceil(OPERATIONS[0])
    }

    /// The factor of each operation's mixing weight in a step: 0 for a skip connection that drops out.
    fn factors(&self, learner: &Learner, clock: &Clock, purpose: &str) -> MixingTables {
        let drop = DROP[self.stage(clock.epoch)] * self.decay(clock.epoch);
        let mut random = generator(self.seed, clock, purpose);
        let mut factor = |operation: &Operation| match operation {
            Operation::SkipConnect if random.random::<f64>() < drop => 0.0,
            Operation::SkipConnect => 1.0 / (1.0 - drop),
            _ => 1.0,
        };
        let space = learner.architecture.space();
        let mut all = space.candidates.iter().cycle();
        space.tables(|| factor(all.next().expect("a space has candidates")))
    }
}

impl Method for PDarts {
    fn cells(&self, epoch: usize, cells: usize) -> usize {
        // At least three, so that there is a normal cell, if the last stage has that many.
        (cells * DEPTHS[self.stage(epoch)]).div_ceil(DEPTHS[2]).max(3).min(cells)
    }

    /// Each stage trains fresh weights.
    fn training(&self, epoch: usize, epochs: usize) -> Range<usize> {
        part(epoch, DEPTHS.len(), epochs)
    }

    fn moves(&self, clock: &Clock) -> bool {
        let [done, rest, _] = self.place(clock.epoch);
        done >= rest
    }

    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        let mut mixing = learner.mixing(TEMPERATURE);
        multiply(&mut mixing, &self.factors(learner, &step.clock, "weights"));
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let factors = self.factors(learner, &step.clock, "alpha");
        let mut mixing = learner.mixing(TEMPERATURE);
        multiply(&mut mixing, &factors);
        let (_, mut gradients) = learner.mixing_gradients(valid, &mixing)?;
        multiply(&mut gradients, &factors);
        learner.architecture.step(&gradients, TEMPERATURE, &self.adam);
        Ok(Vec::new())
    }

    fn end_epoch(&mut self, learner: &mut Learner, clock: &Clock) -> Vec<Pruned> {
        if !self.ends_stage(clock.epoch) {
            return Vec::new();
        }
        let count = self.operations(self.stage(clock.epoch + 1));
        let pruned = learner.architecture.keep_largest(count);
        learner.remove(&pruned);
        pruned
    }

    fn validated(&mut self, learner: &mut Learner, clock: &Clock, _: f64) {
        if self.ends_stage(clock.epoch) {
            learner.architecture.restart();
            learner.restart(self.cells(clock.epoch + 1, self.cells));
        }
    }

    fn is_over(&self, _: &Learner) -> bool {
        false
    }

    fn derive(&self, learner: &Learner) -> Derived {
        learner.architecture.derive_with_skips(SKIPS)
    }
}

fn multiply(tables: &mut MixingTables, factors: &MixingTables) {
    let rows = tables.iter_mut().flatten().zip(factors.iter().flatten());
    for (row, factors) in rows {
        row.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_rests_in_two_fifths_of_every_stage_and_moves_in_each() {
        let moving = |epochs: usize| -> Vec<usize> {
            let method = PDarts { seed: 0, epochs, candidates: 7, cells: 8, adam: Adam::default() };
            let moves = |&epoch: &usize| {
                let [done, rest, _] = method.place(epoch);
                done >= rest
            };
            let mut stages = vec![0; DEPTHS.len()];
            (0..epochs).filter(moves).for_each(|epoch| stages[method.stage(epoch)] += 1);
            stages
        };
        assert_eq!(moving(75), [15, 15, 15], "as published");
        assert_eq!(moving(15), [3, 3, 3]);
        assert_eq!(moving(10), [3, 2, 2]);
        assert_eq!(moving(4), [2, 1, 1]);
        let method = PDarts { seed: 0, epochs: 75, candidates: 7, cells: 8, adam: Adam::default() };
        assert_eq!((method.decay(25), method.decay(35)), (0.96, 1.0));
    }
}
