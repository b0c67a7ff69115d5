//! Pruning to a planned sparsity (section 4.4 of the paper): DARTS in which the operations with the smallest score are
//! removed, epoch by epoch, according to eq. 13.

use asap_core::{Adam, MixingTables, Pruned, SearchSpace, SparsitySchedule};
use asap_data::Batch;

use super::{Clock, Method, Step};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::NonFinite;

/// The temperature at which phi is a plain softmax.
const TEMPERATURE: f64 = 1.0;

/// Prunes by magnitude, or by accumulated gradients.
pub(super) struct Pruning {
    adam: Adam,
    schedule: SparsitySchedule,
    /// Sums of the absolute gradients of each alpha; `None` if alpha itself is the score.
    accumulated: Option<MixingTables>,
}

impl Pruning {
    /// Removes the operations with the smallest alphas.
    pub(super) fn magnitude(config: &Config, adam: Adam) -> Self {
        let epochs = config.search.epochs as f64;
        let candidates = config.network.candidates.len() as f64;
        let schedule = SparsitySchedule {
            initial: 0.0,
            last: 1.0 - 1.0 / candidates,
            start: config.pruning.start * epochs,
            end: config.pruning.end * epochs,
            power: config.pruning.power,
        };
        Self { adam, schedule, accumulated: None }
    }

    /// Removes the operations whose alphas had the smallest gradients so far.
    pub(super) fn accumulated_gradient(config: &Config, space: &SearchSpace, adam: Adam) -> Self {
        let accumulated = Some(space.tables(|| 0.0));
        Self { accumulated, ..Self::magnitude(config, adam) }
    }
}

impl Method for Pruning {
    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        _: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let (_, gradients) = learner.mixing_gradients(valid, &learner.mixing(TEMPERATURE))?;
        let gradients = learner.architecture.logit_gradients(&gradients, TEMPERATURE);
        if let Some(accumulated) = &mut self.accumulated {
            let sums = accumulated.iter_mut().flatten().flatten();
            for (sum, gradient) in sums.zip(gradients.operations.iter().flatten().flatten()) {
                *sum += gradient.abs();
            }
        }
        learner.architecture.step_logits(&gradients, &self.adam);
        Ok(Vec::new())
    }

    fn end_epoch(&mut self, learner: &mut Learner, clock: &Clock) -> Vec<Pruned> {
        let scores =
            self.accumulated.clone().unwrap_or_else(|| learner.architecture.operation_logits());
        let sparsity = self.schedule.at((clock.epoch + 1) as f64);
        let pruned = learner.architecture.prune_smallest(sparsity, &scores);
        learner.remove(&pruned);
        pruned
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.accumulated).expect("numbers are JSON")
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.accumulated = serde_json::from_value(state)?;
        Ok(())
    }
}
