//! ASAP with single paths: each step on the weights trains one path through the remaining operations, drawn so that all of
//! them get the same share, and each step on alpha compares the losses of some paths on the same images. An operation is
//! pruned as soon as the evidence against it allows (Claim 1 with the measured variance).

use asap_core::{
    Architecture, Derived, Evidence, MixingTables, NetworkShape, Pruned, Sureness, evaluation_cost,
};
use asap_data::Batch;
use rand::seq::SliceRandom;

use super::anneal::path;
use super::{Clock, Method, Step, Turns, generator};
use crate::error::Error;
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, Score};

/// Samples paths, and prunes by evidence.
pub(super) struct Paths {
    seed: u64,
    delta: f64,
    turns: Turns,
    /// Number of paths that are compared, and that share the operations evenly.
    count: usize,
    evidence: Evidence,
    /// What half the multiply-adds are worth, and the network in which they are counted.
    cost: f64,
    trained: NetworkShape,
    /// True if the losses are shuffled, for the placebo.
    shuffled: bool,
}

impl Paths {
    pub(super) fn new(
        config: &Config,
        steps: usize,
        trained: NetworkShape,
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
            count: config.network.candidates.len().max(2),
            evidence: turns.evidence(config, steps)?,
            cost: config.search.cost,
            trained,
            shuffled,
        })
    }

    /// What the multiply-adds of a path add to its loss.
    fn cost(&self, architecture: &Architecture, path: &MixingTables) -> f64 {
        if self.cost == 0.0 {
            return 0.0;
        }
        let genotype = architecture.space().genotype(path);
        let cost = evaluation_cost(&genotype, &self.trained).expect("a network for the space");
        self.cost * (cost.multiply_adds as f64).log2()
    }

    /// The number of paths in which every remaining operation has its turn.
    fn count(&self, architecture: &Architecture) -> usize {
        let kinds = architecture.space().kinds().iter().map(|&kind| architecture.cell(kind));
        let choices =
            kinds.flat_map(|cell| cell.operations.iter().chain(cell.inputs.iter().flatten()));
        let open = choices.filter(|choice| !choice.is_decided());
        open.map(|choice| choice.alive_count()).max().unwrap_or(1).min(self.count).max(2)
    }
}

impl Method for Paths {
    fn moves(&self, clock: &Clock) -> bool {
        self.turns.moves(clock)
    }

    fn weight_step(&mut self, learner: &mut Learner, step: &Step<'_>) -> Result<Score, NonFinite> {
        let path = path(learner, &step.clock, self.seed, self.count);
        learner.weight_step(step.train, &path, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        if !self.turns.is_due(&step.clock) {
            return Ok(Vec::new());
        }
        let mut random = generator(self.seed, &step.clock, "paths of alpha");
        let paths = learner.architecture.draw_paths(self.count(&learner.architecture), &mut random);
        let mut losses = Vec::with_capacity(paths.len());
        for path in &paths {
            losses.push(learner.try_out(valid, path)?.mean_loss().unwrap_or(0.0));
        }
        if self.shuffled {
            losses.shuffle(&mut random);
        }
        for (loss, path) in losses.iter_mut().zip(&paths) {
            *loss += self.cost(&learner.architecture, path);
        }
        self.evidence.observe_paths(&learner.architecture, &paths, &losses);
        self.evidence.place_logits(&mut learner.architecture);
        let pruned = self.evidence.prune(&mut learner.architecture, self.delta);
        learner.remove(&pruned);
        Ok(pruned)
    }

    /// The cell that would be chosen now.
    fn mixing(&self, learner: &Learner, _: &Clock) -> MixingTables {
        let Derived { genotype, .. } = learner.architecture.derive();
        learner.architecture.space().one_hot(&genotype).expect("the cell is of the space")
    }

    fn sureness(&self, learner: &Learner) -> Vec<Sureness> {
        self.evidence.sureness(&learner.architecture)
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.evidence).expect("numbers are JSON")
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.evidence = serde_json::from_value(state)?;
        Ok(())
    }
}
