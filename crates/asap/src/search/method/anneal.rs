//! ASAP: anneal and prune (Algorithm 1), with the schedule of section 4.1 or that of Theorem 2.

use asap_core::{Adam, Annealing, Pac, Pruned, TemperatureSchedule, ThresholdPolicy};
use asap_data::Batch;

use super::{Clock, Method, Step, generator};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::NonFinite;

/// Anneals and prunes.
pub(super) struct Anneal {
    annealing: Annealing,
    /// First epoch in which alpha moves.
    first: usize,
    time: Time,
    adam: Adam,
    /// The seed of shuffled gradients, for the placebo.
    shuffled: Option<u64>,
}

/// The time on which the schedules depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    Epochs,
    AlphaSteps,
}

impl Anneal {
    /// Eq. 9 and a fixed threshold.
    pub(super) fn exponential(config: &Config, adam: Adam) -> Self {
        let (annealing, first) = (config.annealing(), config.grace_epochs());
        Self { annealing, first, time: Time::Epochs, adam, shuffled: None }
    }

    /// The same with gradients that say nothing.
    pub(super) fn placebo(config: &Config, adam: Adam) -> Self {
        Self { shuffled: Some(config.seed), ..Self::exponential(config, adam) }
    }

    /// Eqs. 5 to 8, after the same number of grace epochs.
    ///
    /// A step of Adam moves an alpha by about its rate, whatever the gradient: eta L is that rate.
    pub(super) fn pac(config: &Config, adam: Adam) -> Self {
        let fraction = config.annealing.threshold;
        let pac = Pac {
            eta: adam.lr,
            bound: 1.0,
            candidates: config.network.candidates.len(),
            delta: config.annealing.delta,
            fraction,
        };
        let annealing = Annealing {
            temperature: TemperatureSchedule::Pac(pac),
            threshold: ThresholdPolicy::Pac { fraction },
            grace: f64::INFINITY,
        };
        Self {
            annealing,
            first: config.grace_epochs(),
            time: Time::AlphaSteps,
            adam,
            shuffled: None,
        }
    }

    fn time(&self, clock: &Clock) -> f64 {
        match self.time {
            Time::Epochs => clock.epoch as f64,
            Time::AlphaSteps => (clock.alpha_steps + 1) as f64,
        }
    }
}

impl Method for Anneal {
    fn temperature(&self, clock: &Clock) -> f64 {
        self.annealing.temperature.at(self.time(clock))
    }

    fn threshold(&self, clock: &Clock, candidates: usize) -> f64 {
        self.annealing.threshold.at(self.time(clock), candidates)
    }

    fn moves(&self, clock: &Clock) -> bool {
        clock.epoch >= self.first
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        self.annealing.anneal(learner, self.time(&step.clock), |learner, temperature| {
            let mixing = learner.mixing(temperature);
            let (_, gradients) = learner.mixing_gradients(valid, &mixing)?;
            let mut gradients = learner.architecture.logit_gradients(&gradients, temperature);
            if let Some(seed) = self.shuffled {
                let mut random = generator(seed, &step.clock, "placebo");
                gradients.shuffle(&learner.architecture, &mut random);
            }
            learner.architecture.step_logits(&gradients, &self.adam);
            Ok(())
        })
    }
}
