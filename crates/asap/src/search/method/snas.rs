//! SNAS (Xie et al. 2019): each step samples relaxed architectures with Gumbel noise, and T is annealed.

use asap_core::{Adam, MixingTables, Pruned, SearchSpace, TemperatureSchedule, gumbel_noise};
use asap_data::Batch;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Clock, Method, Step, generator};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, StepScore};

/// Sampled mixing weights.
pub(super) struct Snas {
    seed: u64,
    temperature: TemperatureSchedule,
    adam: Adam,
}

impl Snas {
    pub(super) fn new(config: &Config, adam: Adam) -> Self {
        Self { seed: config.seed, temperature: config.annealing().temperature, adam }
    }

    fn noise(&self, space: &SearchSpace, mut random: ChaCha8Rng) -> MixingTables {
        space.tables(|| gumbel_noise(random.random()))
    }
}

impl Method for Snas {
    fn temperature(&self, clock: &Clock) -> f64 {
        self.temperature.at(clock.epoch as f64)
    }

    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        let random = generator(self.seed, &step.clock, "weights");
        let sample =
            learner.architecture.perturbed(&self.noise(learner.architecture.space(), random));
        let temperature = self.temperature(&step.clock);
        let mixing = sample.mixing_tables(temperature);
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let random = generator(self.seed, &step.clock, "alpha");
        let sample =
            learner.architecture.perturbed(&self.noise(learner.architecture.space(), random));
        let temperature = self.temperature(&step.clock);
        let mixing = sample.mixing_tables(temperature);
        let (_, gradients) = learner.mixing_gradients(valid, &mixing)?;
        let gradients = sample.logit_gradients(&gradients, temperature);
        learner.architecture.step_logits(&gradients, &self.adam);
        Ok(Vec::new())
    }
}
