//! ASAP by evidence: operations compete on equal terms, and one is pruned as soon as the evidence against it allows
//! (Claim 1 with the measured variance). There is no temperature: what is left is weighted evenly, and pruning alone ends the mixture.
//!
//! What is compared on a batch of the validation half:
//! - `even`: the gradients of the loss for the mixing weights, all operations trained together and weighted evenly (eqs. 2 and 4);
//! - `paths`: the losses of single paths, each step on the weights training one, drawn so that all operations get the same share.

use asap_core::{Architecture, Evidence, Genotype, MixingTables, NetworkShape, Pruned, Sureness};
use asap_data::Batch;
use rand::seq::SliceRandom;

use super::anneal::path;
use super::cost::{self, CostTerm};
use super::{Clock, Method, Step, Turns, generator};
use crate::error::Error;
use crate::search::learner::Learner;
use crate::settings::config::{Config, Relaxation};
use asap_net::steps::{NonFinite, StepScore};

/// Compares operations on equal terms, and prunes by evidence.
pub(super) struct ByEvidence {
    seed: u64,
    delta: f64,
    turns: Turns,
    /// True to compare single paths, false to follow the gradients of the even mixture.
    paths: bool,
    /// The most paths that are compared, and the number that share the operations evenly.
    count: usize,
    evidence: Evidence,
    cost: Option<CostTerm>,
    /// True if what is compared is shuffled, for the placebo.
    shuffled: bool,
}

impl ByEvidence {
    pub(super) fn new(
        config: &Config,
        steps: usize,
        trained: &NetworkShape,
        shuffled: bool,
    ) -> Result<Self, Error> {
        let turns = Turns {
            first: config.search.warmup * config.search.epochs as f64,
            every: config.alpha.every,
        };
        Ok(Self {
            seed: config.seed,
            delta: config.annealing.delta,
            turns,
            paths: config.search.relaxation == Relaxation::Paths,
            count: config.network.candidates.len().max(2),
            evidence: turns.evidence(config, steps)?,
            cost: CostTerm::new(config, trained)?,
            shuffled,
        })
    }

    /// The number of paths in which every remaining operation of an edge that all paths have has its turn.
    fn compared(&self, architecture: &Architecture) -> usize {
        let kinds = architecture.space().kinds().iter().map(|&kind| architecture.cell(kind));
        let choices =
            kinds.flat_map(|cell| cell.operations.iter().chain(cell.inputs.iter().flatten()));
        let open = choices.filter(|choice| !choice.is_decided());
        open.map(|choice| choice.alive_count()).max().unwrap_or(1).min(self.count).max(2)
    }

    /// Adds the losses of some paths on a batch to the evidence.
    fn compare_paths(
        &mut self,
        learner: &Learner,
        clock: &Clock,
        valid: &Batch,
    ) -> Result<(), NonFinite> {
        let architecture = &learner.architecture;
        let mut random = generator(self.seed, clock, "paths of alpha");
        let paths = architecture.draw_paths(self.compared(architecture), &mut random);
        let mut losses = Vec::with_capacity(paths.len());
        for path in &paths {
            losses.push(learner.try_out(valid, path)?.mean_loss().unwrap_or(0.0));
        }
        if self.shuffled {
            losses.shuffle(&mut random);
        }
        if let Some(cost) = &self.cost {
            losses.iter_mut().zip(&paths).for_each(|(loss, path)| *loss += cost.loss(path));
        }
        self.evidence.observe_paths(architecture, &paths, &losses);
        Ok(())
    }

    /// Adds the gradients of the even mixture on a batch to the evidence.
    fn follow_gradients(
        &mut self,
        learner: &Learner,
        clock: &Clock,
        valid: &Batch,
    ) -> Result<(), NonFinite> {
        let architecture = &learner.architecture;
        let even = learner.mixing(f64::INFINITY);
        let (_, gradients) = learner.mixing_gradients(valid, &even)?;
        let mut gradients = architecture.choice_gradients(&gradients, f64::INFINITY);
        if self.shuffled {
            gradients.shuffle(architecture, &mut generator(self.seed, clock, "placebo"));
        }
        if let Some(cost) = &self.cost {
            cost.add_gradients(&mut gradients, architecture, f64::INFINITY);
        }
        self.evidence.observe_gradients(architecture, &gradients);
        Ok(())
    }
}

impl Method for ByEvidence {
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
        let mixing = match self.paths {
            true => path(learner, &step.clock, self.seed, self.count),
            false => learner.mixing(f64::INFINITY),
        };
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        match self.paths {
            true => self.compare_paths(learner, &step.clock, valid)?,
            false => self.follow_gradients(learner, &step.clock, valid)?,
        }
        self.evidence.place_logits(&mut learner.architecture);
        let pruned = self.evidence.prune(&mut learner.architecture, self.delta);
        learner.remove(&pruned);
        Ok(pruned)
    }

    /// The cell that would be chosen now, if cells were trained; else what is left of the mixture.
    fn mixing(&self, learner: &Learner, _: &Clock) -> MixingTables {
        if !self.paths {
            return learner.mixing(f64::INFINITY);
        }
        learner.one_hot(&learner.architecture.derive().genotype)
    }

    fn sureness(&self, learner: &Learner, cell: &Genotype) -> Vec<Sureness> {
        self.evidence.sureness(&learner.architecture, cell)
    }

    fn state(&self) -> serde_json::Value {
        cost::state(&self.evidence, self.cost.as_ref())
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.evidence = cost::restored(state, self.cost.as_mut())?;
        Ok(())
    }
}
