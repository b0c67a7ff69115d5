//! DSO-NAS (Zhang et al. 2018, "You Only Search Once: Single Shot Neural Architecture Search via Direct Sparse Optimization",
//! arXiv 1811.01567; "YOSO" in the ASAP paper): operations are scaled by factors, and a proximal step with an L1 regularization makes
//! those 0 that the validation half does not hold.
//!
//! As published: factors shared by the cells of a kind, all 1 at the start, without a softmax; the first half of the search without them;
//! then steps on weights and factors in turn, on two halves of the training set; the step (APG-NAG, momentum 0.9) and the strength of the
//! regularization (0.001, the authors' code for CIFAR-10); removal at exactly 0, between epochs. Ours: this space of cells in place of
//! theirs, so that in the end a node keeps the inputs with the largest factors; and a rate that follows the length of the search.

use asap_core::{MixingTables, ProximalStep, Pruned, SearchSpace, SparseScales};
use asap_data::Batch;

use super::{Clock, Method, Step, Turns};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, StepScore};

const GAMMA: f64 = 1e-3;
const MOMENTUM: f64 = 0.9;
/// Fraction of the search that trains the weights only: 120 of 240 epochs.
const PRETRAINING: f64 = 0.5;
/// Fraction of the steps on factors in which one that nothing holds falls from 1 to 0: with rate 0.1, 1,009 of 120 epochs' 23,400.
const FALL: f64 = 1009.0 / 23_400.0;
/// The largest rate. The smallest of searches would need one at which factors jump.
const LARGEST_RATE: f64 = 1.0;

/// The factors of the operations.
pub(super) struct Dso {
    turns: Turns,
    step: ProximalStep,
    scales: SparseScales,
}

impl Dso {
    /// For epochs of `steps` steps.
    pub(super) fn new(config: &Config, space: &SearchSpace, steps: usize) -> Self {
        let first = PRETRAINING * config.search.epochs as f64;
        let on_factors = (config.search.epochs as f64 - first) * steps as f64;
        // Without a gradient a factor falls by rate * gamma / (1 - momentum) per step.
        let rate = (1.0 - MOMENTUM) / (GAMMA * FALL * on_factors.max(1.0));
        let step = ProximalStep { rate: rate.min(LARGEST_RATE), gamma: GAMMA, momentum: MOMENTUM };
        Self { turns: Turns { first, every: 1 }, step, scales: SparseScales::new(space) }
    }
}

impl Method for Dso {
    fn moves(&self, clock: &Clock) -> bool {
        self.turns.moves(clock)
    }

    fn is_due(&self, clock: &Clock) -> bool {
        self.turns.is_due(clock)
    }

    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        learner.weight_step(step.train, self.scales.factors(), step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        _: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let (_, gradients) = learner.mixing_gradients(valid, self.scales.factors())?;
        self.scales.step(&gradients, &self.step);
        self.scales.place(&mut learner.architecture);
        Ok(Vec::new())
    }

    fn end_epoch(&mut self, learner: &mut Learner, _: &Clock) -> Vec<Pruned> {
        let pruned = self.scales.prune(&mut learner.architecture);
        learner.remove(&pruned);
        pruned
    }

    fn mixing(&self, _: &Learner, _: &Clock) -> MixingTables {
        self.scales.factors().clone()
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.scales).expect("numbers are JSON")
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.scales = serde_json::from_value(state)?;
        Ok(())
    }
}
