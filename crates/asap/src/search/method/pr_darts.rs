//! PR-DARTS (Laube and Zell 2019, "Prune and Replace NAS", arXiv 1906.07528; "PC-DARTS (Laube)" in the ASAP paper): DARTS on few
//! operations at a time; in cycles the worst are pruned, and relatives of the best convolutions take their place.
//!
//! As published (the authors' code): the operations at the start, ranking by the softmax of alpha, the protected convolution, parents drawn
//! by that softmax, relatives that are new to an edge first, inherited weights, alpha that rests at the beginning of a cycle, and alpha,
//! momentum and learning rate that start anew with each. Ours: relatives are the candidates of the space (see [`Replacements`]), of
//! which there are too few for more than two cycles with replacements (published: five), two operations are dropped in the first, too,
//! and alpha has the settings of the configuration.

use std::ops::Range;

use asap_core::{Adam, Pruned, Replacements};
use asap_data::Batch;

use super::darts::TEMPERATURE;
use super::{Clock, Method, Step, generator};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, StepScore};

/// The part of a search between two replacements.
struct Cycle {
    /// Its epochs, out of 60.
    epochs: usize,
    /// The fraction of them in which alpha rests.
    rest: f64,
    /// Operations that are dropped from every edge at its end, and those that are added.
    drop: usize,
    add: usize,
}

const CYCLES: [Cycle; 5] = [
    Cycle { epochs: 15, rest: 1.0 / 3.0, drop: 2, add: 2 },
    Cycle { epochs: 15, rest: 1.0 / 3.0, drop: 2, add: 2 },
    Cycle { epochs: 10, rest: 0.3, drop: 1, add: 0 },
    Cycle { epochs: 10, rest: 0.3, drop: 1, add: 0 },
    // The cell is derived from the two operations that compete in the last one.
    Cycle { epochs: 10, rest: 0.3, drop: 0, add: 0 },
];
const EPOCHS: usize = 60;

/// Cycles of pruning and replacing.
pub(super) struct PrDarts {
    seed: u64,
    epochs: usize,
    adam: Adam,
    /// None before the first step.
    replacements: Option<Replacements>,
}

impl PrDarts {
    pub(super) fn new(config: &Config, adam: Adam) -> Self {
        Self { seed: config.seed, epochs: config.search.epochs, adam, replacements: None }
    }

    /// The epochs of a cycle, out of all `epochs`.
    fn span(cycle: usize, epochs: usize) -> Range<usize> {
        let first = |cycle: usize| {
            let before: usize = CYCLES[..cycle].iter().map(|cycle| cycle.epochs).sum();
            (before * epochs + EPOCHS / 2) / EPOCHS
        };
        first(cycle)..first(cycle + 1)
    }

    /// The cycle of an epoch.
    fn cycle(epoch: usize, epochs: usize) -> usize {
        let all = 0..CYCLES.len();
        all.rev().find(|&cycle| Self::span(cycle, epochs).contains(&epoch)).unwrap_or(0)
    }
}

impl Method for PrDarts {
    fn training(&self, epoch: usize, epochs: usize) -> Range<usize> {
        Self::span(Self::cycle(epoch, epochs), epochs)
    }

    fn moves(&self, clock: &Clock) -> bool {
        let cycle = Self::cycle(clock.epoch, self.epochs);
        let span = Self::span(cycle, self.epochs);
        (clock.epoch - span.start) as f64 >= (CYCLES[cycle].rest * span.len() as f64).floor()
    }

    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        if self.replacements.is_none() {
            self.replacements = Some(Replacements::begin(&mut learner.architecture));
            learner.remove_dead();
        }
        let mixing = learner.mixing(TEMPERATURE);
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        _: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let (_, gradients) = learner.mixing_gradients(valid, &learner.mixing(TEMPERATURE))?;
        learner.architecture.step(&gradients, TEMPERATURE, &self.adam);
        Ok(Vec::new())
    }

    /// After the last epoch of a cycle, once it is validated.
    fn validated(&mut self, learner: &mut Learner, clock: &Clock, _: f64) {
        let next = clock.epoch + 1;
        let (from, to) = (Self::cycle(clock.epoch, self.epochs), Self::cycle(next, self.epochs));
        if next >= self.epochs {
            return;
        }
        let Some(replacements) = &mut self.replacements else { return };
        let mut random = generator(self.seed, clock, "replacements");
        // A short search may skip a cycle.
        for cycle in &CYCLES[from..to] {
            let Cycle { drop, add, .. } = *cycle;
            let added = replacements.replace(&mut learner.architecture, drop, add, &mut random);
            learner.replace(&added);
        }
    }

    fn is_over(&self, _: &Learner) -> bool {
        false
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.replacements).expect("a table is JSON")
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.replacements = serde_json::from_value(state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_divide_the_epochs_and_none_is_lost() {
        for epochs in [1, 2, 3, 5, 7, 24, 60, 100] {
            let mut cycles: Vec<usize> =
                (0..epochs).map(|epoch| PrDarts::cycle(epoch, epochs)).collect();
            assert!(cycles.is_sorted());
            for (epoch, &cycle) in cycles.iter().enumerate() {
                assert!(PrDarts::span(cycle, epochs).contains(&epoch));
            }
            cycles.dedup();
            assert!(epochs < 24 || cycles == [0, 1, 2, 3, 4], "{epochs}: {cycles:?}");
        }
        assert_eq!(PrDarts::span(2, 60), 30..40);
    }
}
