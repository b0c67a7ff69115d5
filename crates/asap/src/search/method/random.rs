//! Random search: a cell drawn at random, or the best of a few that shared the budget of training.

use asap_core::{Derived, Genotype, MixingTables, Pruned, SearchSpace};
use asap_data::Batch;
use serde::{Deserialize, Serialize};

use super::{Clock, Method, Step, seeded};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, Score};

/// Number of candidates that share the epochs, if there are enough epochs.
const TRAINED: usize = 4;

/// Cells drawn at random.
pub(super) struct Random {
    epochs: usize,
    cells: Vec<Genotype>,
    best: Option<Best>,
}

/// The best candidate so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Best {
    candidate: usize,
    accuracy: f64,
}

impl Random {
    /// One cell, and no search.
    pub(super) fn untrained(config: &Config, space: &SearchSpace) -> Self {
        Self::draw(config, space, 1, 0)
    }

    /// Cells that are trained one after the other, each from fresh weights in its share of the epochs.
    pub(super) fn trained(config: &Config, space: &SearchSpace) -> Self {
        let epochs = config.search.epochs;
        Self::draw(config, space, TRAINED.min(epochs), epochs)
    }

    fn draw(config: &Config, space: &SearchSpace, count: usize, epochs: usize) -> Self {
        let mut random = seeded(config.seed, "cells");
        let cells = (0..count).map(|_| Genotype::random(space, &mut random)).collect();
        Self { epochs, cells, best: None }
    }

    /// The candidate that an epoch trains.
    fn candidate(&self, epoch: usize) -> usize {
        epoch * self.cells.len() / self.epochs.max(1)
    }
}

impl Method for Random {
    fn moves(&self, _: &Clock) -> bool {
        false
    }

    fn weight_step(&mut self, learner: &mut Learner, step: &Step<'_>) -> Result<Score, NonFinite> {
        let mixing = self.mixing(learner, &step.clock);
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        _: &mut Learner,
        _: &Step<'_>,
        _: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        Ok(Vec::new())
    }

    fn validated(&mut self, learner: &mut Learner, clock: &Clock, accuracy: f64) {
        let candidate = self.candidate(clock.epoch);
        if clock.epoch + 1 < self.epochs && self.candidate(clock.epoch + 1) == candidate {
            return;
        }
        if self.best.is_none_or(|best| accuracy > best.accuracy) {
            self.best = Some(Best { candidate, accuracy });
        }
        learner.reset();
    }

    fn mixing(&self, learner: &Learner, clock: &Clock) -> MixingTables {
        let cell = &self.cells[self.candidate(clock.epoch).min(self.cells.len() - 1)];
        learner.architecture.space().one_hot(cell).expect("the cells are of the space")
    }

    fn is_over(&self, _: &Learner) -> bool {
        self.epochs == 0
    }

    fn derive(&self, _: &Learner) -> Derived {
        let best = self.best.map_or(0, |best| best.candidate);
        Derived { genotype: self.cells[best].clone(), fallback: Vec::new() }
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(self.best).expect("numbers are JSON")
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.best = serde_json::from_value(state)?;
        Ok(())
    }
}
