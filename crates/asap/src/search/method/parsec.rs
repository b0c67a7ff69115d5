//! PARSEC (Casale, Gordon and Fusi 2019, "Probabilistic Neural Architecture Search", arXiv 1902.05116): cells are drawn from a
//! distribution, and importance-weighted Monte Carlo moves it towards those under which the validation half is likely.
//!
//! As published: the independent distributions over inputs and operations, 16 cells per step, their weights (the likelihood of a batch
//! under each, relative to the sum), no temperature and no entropy term, and the most probable cell as the result. Ours, since the text leaves it
//! open or we could not check it: Adam with alpha's settings, one drawn cell in each step on the weights, and inputs of a node that differ. The
//! likelihoods of a batch are so far apart that mostly one cell has nearly all the weight.

use asap_core::{Adam, MixingTables, Pruned, importance_gradient};
use asap_data::Batch;

use super::{Clock, Method, Step, generator};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, StepScore};

/// Cells of a step on the distribution.
const CELLS: usize = 16;

/// A distribution over cells: the probabilities of the architecture at T = 1.
pub(super) struct Parsec {
    seed: u64,
    adam: Adam,
}

impl Parsec {
    pub(super) fn new(config: &Config, adam: Adam) -> Self {
        Self { seed: config.seed, adam }
    }
}

impl Method for Parsec {
    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        let mut random = generator(self.seed, &step.clock, "weights");
        let path = learner.architecture.sample_path(&mut random);
        learner.weight_step(step.train, &path.mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let mut random = generator(self.seed, &step.clock, "alpha");
        let draw = |_| learner.architecture.sample_path(&mut random);
        let paths: Vec<_> = (0..CELLS).map(draw).collect();
        let mut losses = Vec::new();
        for path in &paths {
            losses.push(learner.try_out(valid, &path.mixing)?.loss);
        }
        let gradient = importance_gradient(learner.architecture.space(), &paths, &losses);
        learner.architecture.step_logits(&gradient, &self.adam);
        Ok(Vec::new())
    }

    /// The most probable cell.
    fn mixing(&self, learner: &Learner, _: &Clock) -> MixingTables {
        learner.one_hot(&learner.architecture.derive().genotype)
    }
}
