//! NAONet-WS (Luo et al. 2018, arXiv 1808.07233): neural architecture optimization of cells that share the weights of the search
//! network.
//!
//! As published (the authors' PyTorch code): each step trains a cell drawn evenly from a pool; five times in a search every cell of it is
//! judged by one validation batch, with that batch's statistics; the model learns from these, and the better half of the pool and
//! cells improved by the model are the next. Ours: the size of the pool, 600 or what lets a cell have eight steps before it is judged again; judging goes
//! along with the last steps of each fifth; and of the last pool the best cell is the result, where the published search trains the best five
//! from scratch first.

use asap_core::{Derived, Genotype, MixingTables, NaoModel, Pruned, SearchSpace};
use asap_data::Batch;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{Clock, Method, Step, generator, seeded};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, StepScore};

/// Times that the pool is judged.
const ROUNDS: usize = 5;
/// The largest pool, and the steps on the weights for each cell of it in a round (published: 35).
const POOL: usize = 600;
const STEPS: usize = 8;

/// A pool of cells, and the model of their accuracies.
pub(super) struct NaonetWs {
    seed: u64,
    /// Steps of an epoch, of a round (the last one may have more), and of the search.
    per_epoch: usize,
    round: usize,
    steps: usize,
    state: State,
}

#[derive(Serialize, Deserialize)]
struct State {
    model: NaoModel,
    /// Best first, as far as they were judged before.
    pool: Vec<Genotype>,
    /// Those of the pool that were judged in this round, with their accuracies.
    judged: Vec<(Genotype, f64)>,
    /// The best of the last round that is complete.
    best: Option<Genotype>,
}

impl NaonetWs {
    /// For epochs of `steps` steps.
    pub(super) fn new(config: &Config, space: &SearchSpace, steps: usize) -> Self {
        let per_epoch = steps.max(1);
        let steps = config.search.epochs * per_epoch;
        let round = (steps / ROUNDS).max(1);
        let mut random = seeded(config.seed, "pool");
        let size = (round / STEPS).clamp(1, POOL);
        let state = State {
            model: NaoModel::new(space, config.seed),
            pool: (0..size).map(|_| Genotype::random(space, &mut random)).collect(),
            judged: Vec::new(),
            best: None,
        };
        Self { seed: config.seed, per_epoch, round, steps, state }
    }

    /// The step after the last of a clock's round.
    fn end_of_round(&self, clock: &Clock) -> usize {
        let round = self.made(clock) / self.round + 1;
        if round >= ROUNDS { self.steps } else { round * self.round }
    }

    /// Steps before that of a clock. A training half with a batch more than the other has no place for it.
    fn made(&self, clock: &Clock) -> usize {
        clock.epoch * self.per_epoch + clock.step.min(self.per_epoch - 1)
    }

    /// The pool of the next round: the better half, improved cells, and random ones if these are too few.
    fn next_pool(&mut self, space: &SearchSpace, clock: &Clock) {
        let mut random = generator(self.seed, clock, "pool");
        let goes_on = self.end_of_round(clock) < self.steps;
        let State { model, pool, judged, best } = &mut self.state;
        judged.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        *best = judged.first().map(|(cell, _)| cell.clone());
        let size = pool.len();
        if goes_on {
            model.fit(space, judged, &mut random);
            *pool = judged.iter().take(size.div_ceil(2)).map(|(cell, _)| cell.clone()).collect();
            pool.extend(model.propose(space, judged, size - pool.len()));
            let missing = size - pool.len();
            pool.extend((0..missing).map(|_| Genotype::random(space, &mut random)));
        }
        judged.clear();
    }

    fn best(&self) -> &Genotype {
        let judged = self.state.judged.iter();
        let of_round = judged.reduce(|best, other| if other.1 > best.1 { other } else { best });
        let best = self.state.best.as_ref();
        best.or(of_round.map(|(cell, _)| cell)).unwrap_or(&self.state.pool[0])
    }
}

impl Method for NaonetWs {
    fn moves(&self, clock: &Clock) -> bool {
        let begin = clock.epoch * self.per_epoch;
        let first = |end: usize| end.saturating_sub(self.state.pool.len());
        (1..=ROUNDS).any(|round| {
            let end = if round == ROUNDS { self.steps } else { round * self.round };
            first(end) < begin + self.per_epoch && begin < end
        })
    }

    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        let mut random = generator(self.seed, &step.clock, "weights");
        let cell = &self.state.pool[random.random_range(0..self.state.pool.len())];
        let mixing = learner.one_hot(cell);
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let left = self.end_of_round(&step.clock) - self.made(&step.clock);
        if left > self.state.pool.len() {
            return Ok(Vec::new());
        }
        if let Some(cell) = self.state.pool.get(self.state.judged.len()) {
            let score = learner.try_out(valid, &learner.one_hot(cell))?;
            self.state.judged.push((cell.clone(), score.accuracy().unwrap_or(0.0)));
        }
        if left == 1 {
            let space = learner.architecture.space().clone();
            self.next_pool(&space, &step.clock);
        }
        Ok(Vec::new())
    }

    fn mixing(&self, learner: &Learner, _: &Clock) -> MixingTables {
        learner.one_hot(self.best())
    }

    fn is_over(&self, _: &Learner) -> bool {
        false
    }

    fn derive(&self, _: &Learner) -> Derived {
        Derived { genotype: self.best().clone(), fallback: Vec::new() }
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.state).expect("a model is JSON")
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        self.state = serde_json::from_value(state)?;
        Ok(())
    }
}
