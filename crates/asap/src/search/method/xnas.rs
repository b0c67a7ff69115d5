//! XNAS (Nayman et al. 2019): operations are experts, weighted by exponentiated gradients and wiped out when they can
//! no longer win.

use asap_core::{ExponentiatedGradient, Pruned};
use asap_data::Batch;

use super::{Method, Step};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::NonFinite;

/// The temperature at which the logits are the logarithms of the experts' weights.
const TEMPERATURE: f64 = 1.0;
/// The bound of the rewards after scaling.
const BOUND: f64 = 1.0;

/// Exponentiated gradients.
pub(super) struct Xnas {
    update: ExponentiatedGradient,
}

impl Xnas {
    /// For epochs of `steps` steps.
    pub(super) fn new(config: &Config, steps: usize) -> Self {
        let candidates = config.network.candidates.len().max(2);
        let steps = (config.search.epochs * steps) as u64;
        Self { update: ExponentiatedGradient::for_steps(candidates, BOUND, steps) }
    }
}

impl Method for Xnas {
    /// The rewards of a step are scaled so that the largest is at the bound, which the paper leaves open.
    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let (_, mut gradients) = learner.mixing_gradients(valid, &learner.mixing(TEMPERATURE))?;
        let all = || gradients.iter().flatten().flatten();
        let largest = all().fold(0.0, |largest: f64, gradient| largest.max(gradient.abs()));
        if largest > 0.0 {
            gradients.iter_mut().flatten().flatten().for_each(|g| *g *= BOUND / largest);
        }
        let time = step.clock.alpha_steps as u64 + 1;
        let pruned = learner.architecture.exponentiate(&gradients, &self.update, time);
        learner.remove(&pruned);
        Ok(pruned)
    }
}
