//! Random search without training: a cell drawn at random.

use asap_core::{Derived, Genotype, MixingTables, SearchSpace};

use super::{Clock, Method, seeded};
use crate::search::learner::Learner;
use crate::settings::config::Config;

/// A cell drawn at random.
pub(super) struct Random(Genotype);

impl Random {
    pub(super) fn new(config: &Config, space: &SearchSpace) -> Self {
        Self(Genotype::random(space, &mut seeded(config.seed, "cells")))
    }
}

impl Method for Random {
    fn moves(&self, _: &Clock) -> bool {
        false
    }

    fn mixing(&self, learner: &Learner, _: &Clock) -> MixingTables {
        learner.one_hot(&self.0)
    }

    fn is_over(&self, _: &Learner) -> bool {
        true
    }

    fn derive(&self, _: &Learner) -> Derived {
        Derived { genotype: self.0.clone(), fallback: Vec::new() }
    }
}
