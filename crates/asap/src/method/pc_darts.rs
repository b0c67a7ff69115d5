//! PC-DARTS (Xu et al. 2020): DARTS on a part of the channels, with weights of the edges that are learned beside alpha,
//! both at rest in the first epochs. The network does the first ([`SearchSpace::partial`](asap_core::SearchSpace)), the
//! architecture the second ([`EdgePolicy::Normalize`](asap_core::EdgePolicy)).

use asap_core::{Adam, Pruned};
use asap_data::Batch;

use super::darts::Darts;
use super::{Clock, Method, Step};
use crate::config::Config;
use crate::learner::Learner;
use crate::steps::NonFinite;

/// DARTS after a warm-up.
pub(super) struct PcDarts {
    darts: Darts,
    /// Epochs in which alpha rests.
    warmup: usize,
}

impl PcDarts {
    pub(super) fn new(config: &Config, adam: Adam) -> Self {
        let warmup = config.pc_darts.warmup * config.search.epochs as f64;
        Self { darts: Darts::first_order(adam), warmup: warmup.round() as usize }
    }
}

impl Method for PcDarts {
    fn moves(&self, clock: &Clock) -> bool {
        clock.epoch >= self.warmup
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        self.darts.architecture_step(learner, step, valid)
    }

    fn is_over(&self, _: &Learner) -> bool {
        false
    }
}
