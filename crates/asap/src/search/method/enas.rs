//! ENAS (Pham et al. 2018): an LSTM controller samples cells, all of which share the weights of the search network, and
//! REINFORCE makes cells with a high validation accuracy likelier.
//!
//! As in the ENAS code for convolutional cells: a cell is sampled for each batch of the training half, the reward is the accuracy on one
//! batch of the other half with that batch's statistics, ten samples make a step of the controller, and the result is the best of ten
//! cells sampled at the end, each judged by one batch. Ours: steps of the controller alternate with those of the weights, where the code
//! lets 30 of them follow each epoch of 281 batches, about as many samples.
//!
//! The bounds on the controller's logits ([`ControllerSettings`]) keep every operation of the seven between 6 and 29 % likely: it cannot
//! collapse to one cell, nor learn much. The published one cannot either.

use asap_core::{
    CellKind, Controller, ControllerSettings, Derived, Genotype, MixingTables, Pruned, Sample,
    SearchSpace,
};
use asap_data::Batch;
use serde::{Deserialize, Serialize};

use super::{Clock, Method, Step, generator};
use crate::error::Error;
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, StepScore};

/// Samples of which the gradients are averaged for a step of the controller, and from which the cell is chosen in the end.
const TOGETHER: usize = 10;

/// A controller and its seed.
pub(super) struct Enas {
    seed: u64,
    state: State,
}

#[derive(Serialize, Deserialize)]
struct State {
    controller: Controller,
    /// Samples since the last step of the controller, and those of that step, with their rewards.
    samples: Vec<(Sample, f64)>,
    before: Vec<(Sample, f64)>,
}

impl Enas {
    pub(super) fn new(config: &Config, space: &SearchSpace) -> Result<Self, Error> {
        let settings = ControllerSettings::default();
        let controller = Controller::with_settings(space, settings, config.seed)?;
        let state = State { controller, samples: Vec::new(), before: Vec::new() };
        Ok(Self { seed: config.seed, state })
    }

    /// The cell with the highest reward of the last [`TOGETHER`], the first of equals; before there are any, the likeliest one.
    fn best(&self) -> Genotype {
        let State { controller, samples, before } = &self.state;
        let last = before.iter().chain(samples).rev().take(TOGETHER);
        let best = last.reduce(|best, other| if other.1 >= best.1 { other } else { best });
        best.map_or_else(|| controller.likeliest(), |(sample, _)| sample.genotype.clone())
    }
}

impl Method for Enas {
    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        let mut random = generator(self.seed, &step.clock, "weights");
        let sample = self.state.controller.sample(&mut random);
        let mixing = learner.one_hot(&sample.genotype);
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let State { controller, samples, before } = &mut self.state;
        let sample = controller.sample(&mut generator(self.seed, &step.clock, "controller"));
        let score = learner.try_out(valid, &learner.one_hot(&sample.genotype))?;
        samples.push((sample, score.accuracy().unwrap_or(0.0)));
        if samples.len() == TOGETHER {
            controller.reinforce(samples).expect("accuracies are finite");
            *before = std::mem::take(samples);
        }
        Ok(Vec::new())
    }

    fn mixing(&self, learner: &Learner, _: &Clock) -> MixingTables {
        learner.one_hot(&self.best())
    }

    fn entropy(&self, learner: &Learner, clock: &Clock, kind: CellKind) -> f64 {
        let mut random = generator(self.seed, clock, "entropy");
        let kinds = self.state.controller.operation_entropies(TOGETHER, &mut random);
        kinds[learner.architecture.space().family.kind_index(kind)]
    }

    fn derive(&self, _: &Learner) -> Derived {
        Derived { genotype: self.best(), fallback: Vec::new() }
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.state).expect("a controller is JSON")
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.state = serde_json::from_value(state)?;
        Ok(())
    }
}
