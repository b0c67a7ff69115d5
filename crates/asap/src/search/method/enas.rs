//! ENAS (Pham et al. 2018): an LSTM controller samples cells, all of which share the weights of the search network, and
//! REINFORCE makes cells with a high validation accuracy likelier.

use asap_core::{Controller, ControllerSettings, Derived, MixingTables, Pruned, SearchSpace};
use asap_data::Batch;

use super::{Clock, Method, Step, generator};
use crate::error::Error;
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, Score};

/// Learning rate of the published micro search, ten times that of the recurrent one: here the controller takes only one
/// step per batch.
const RATE: f64 = 3.5e-3;

/// A controller and its seed.
pub(super) struct Enas {
    seed: u64,
    controller: Controller,
}

impl Enas {
    pub(super) fn new(config: &Config, space: &SearchSpace) -> Result<Self, Error> {
        let mut settings = ControllerSettings::default();
        settings.adam.lr = RATE;
        let controller = Controller::with_settings(space, settings, config.seed)?;
        Ok(Self { seed: config.seed, controller })
    }

    fn one_hot(learner: &Learner, genotype: &asap_core::Genotype) -> MixingTables {
        let space = learner.architecture.space();
        space.one_hot(genotype).expect("the controller samples from the space")
    }
}

impl Method for Enas {
    fn weight_step(&mut self, learner: &mut Learner, step: &Step<'_>) -> Result<Score, NonFinite> {
        let sample = self.controller.sample(&mut generator(self.seed, &step.clock, "weights"));
        let mixing = Self::one_hot(learner, &sample.genotype);
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let sample = self.controller.sample(&mut generator(self.seed, &step.clock, "controller"));
        let score = learner.try_out(valid, &Self::one_hot(learner, &sample.genotype))?;
        let reward = score.accuracy().unwrap_or(0.0);
        self.controller.reinforce(&sample, reward).expect("an accuracy is finite");
        Ok(Vec::new())
    }

    fn mixing(&self, learner: &Learner, _: &Clock) -> MixingTables {
        Self::one_hot(learner, &self.controller.likeliest())
    }

    fn derive(&self, _: &Learner) -> Derived {
        Derived { genotype: self.controller.likeliest(), fallback: Vec::new() }
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.controller).expect("a controller is JSON")
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.controller = serde_json::from_value(state)?;
        Ok(())
    }
}
