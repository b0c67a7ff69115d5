//! Searches by queries ([`Query`]): cells are trained one after the other, each from fresh weights in its share of the epochs, and their
//! validation accuracies tell the search what to try next.

use std::ops::Range;

use asap_core::{Derived, Genotype, MixingTables, Query, SearchSpace};
use serde::{Deserialize, Serialize};

use super::{Clock, Method, Step, part};
use crate::error::Error;
use crate::search::learner::Learner;
use crate::settings::MethodName;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, StepScore};

/// Epochs of each cell, unless the number of cells is given.
const EPOCHS: usize = 2;

/// The search of a method that queries, for so many evaluations.
///
/// # Errors
/// If its settings are refused.
pub(crate) fn query(
    method: MethodName,
    config: &Config,
    space: &SearchSpace,
    evaluations: usize,
) -> Result<Query, Error> {
    let seed = config.seed;
    Ok(match method {
        MethodName::Evolution => Query::evolution(space, config.query.evolution(), seed)?,
        MethodName::Pnas => Query::pnas(space, evaluations, seed),
        MethodName::Nao => Query::nao(space, evaluations, seed),
        MethodName::Nasnet => Query::nasnet(space, seed),
        _ => Query::random(space, seed),
    })
}

/// A search by queries, and the cell in training.
pub(super) struct Queried {
    epochs: usize,
    evaluations: usize,
    state: State,
}

#[derive(Serialize, Deserialize)]
struct State {
    query: Query,
    cell: Genotype,
    evaluated: Vec<Evaluated>,
}

/// A cell that was trained, and its validation accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Evaluated {
    cell: Genotype,
    accuracy: f64,
}

impl Queried {
    pub(super) fn new(
        method: MethodName,
        config: &Config,
        space: &SearchSpace,
    ) -> Result<Self, Error> {
        let epochs = config.search.epochs;
        let evaluations = match config.query.evaluations {
            0 => epochs.div_ceil(EPOCHS),
            evaluations => evaluations.min(epochs),
        };
        let query = query(method, config, space, evaluations)?;
        let state = State { cell: query.ask(), query, evaluated: Vec::new() };
        Ok(Self { epochs, evaluations, state })
    }

    /// The number of the cell that an epoch trains.
    fn turn(&self, epoch: usize) -> usize {
        epoch * self.evaluations / self.epochs.max(1)
    }
}

impl Method for Queried {
    fn moves(&self, _: &Clock) -> bool {
        false
    }

    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        let mixing = self.mixing(learner, &step.clock);
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn training(&self, epoch: usize, epochs: usize) -> Range<usize> {
        part(epoch, self.evaluations, epochs)
    }

    fn validated(&mut self, learner: &mut Learner, clock: &Clock, accuracy: f64) {
        if self.turn(clock.epoch + 1) == self.turn(clock.epoch) {
            return;
        }
        let State { query, cell, evaluated } = &mut self.state;
        query.tell(cell, accuracy).expect("an accuracy is finite");
        let next = query.ask();
        let cell = std::mem::replace(cell, next);
        evaluated.push(Evaluated { cell, accuracy });
        learner.reset();
    }

    fn mixing(&self, learner: &Learner, _: &Clock) -> MixingTables {
        learner.one_hot(&self.state.cell)
    }

    fn is_over(&self, _: &Learner) -> bool {
        false
    }

    fn derive(&self, _: &Learner) -> Derived {
        let best = self.state.query.best().map_or(&self.state.cell, |(cell, _)| cell);
        Derived { genotype: best.clone(), fallback: Vec::new() }
    }

    fn accuracy(&self) -> Option<f64> {
        self.state.query.best().map(|(_, accuracy)| accuracy)
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.state).expect("a query is JSON")
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.state = serde_json::from_value(state)?;
        Ok(())
    }

    fn evaluated(&self) -> Option<serde_json::Value> {
        Some(serde_json::to_value(&self.state.evaluated).expect("cells are JSON"))
    }
}
