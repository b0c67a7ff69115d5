//! The differences between ASAP and its rivals: a [`Method`] defines the actions at a step and at the end of an epoch.
//! The loop, the records, checkpoints and the ending belong to [`crate::Search`], the same for all.

mod anneal;
mod cost;
mod darts;
mod dso;
mod enas;
mod evidence;
mod naonet_ws;
mod p_darts;
mod parsec;
mod pr_darts;
mod pruning;
mod queried;
mod random;
mod snas;
mod xnas;

use std::ops::Range;

use asap_core::{
    Architecture, CellKind, Derived, Evidence, Genotype, MixingTables, NetworkShape, Pruned,
    Sureness,
};
use asap_data::Batch;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::search::learner::Learner;
use crate::settings::MethodName;
use crate::settings::config::Config;
pub(crate) use queried::query;

use asap_net::optimizer::Sgd;
use asap_net::parameters::fnv1a;
use asap_net::steps::{NonFinite, StepScore};

/// The time of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Completed steps of the epoch, and all of them.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Steps on the architecture so far.
    pub alpha_steps: usize,
}

impl Clock {
    /// Epochs so far, with the completed fraction of the current one.
    pub fn epochs(&self) -> f64 {
        self.epoch as f64 + self.step as f64 / self.steps.max(1) as f64
    }
}

/// When alpha moves: from a time on, at every so many steps on the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Turns {
    /// Time of the first step on alpha, in epochs.
    first: f64,
    /// Steps on the weights per step on alpha.
    every: usize,
}

impl Turns {
    /// True if alpha moves in the epoch of a clock.
    fn moves(&self, clock: &Clock) -> bool {
        (clock.epoch + 1) as f64 > self.first
    }

    /// True if alpha moves at the step of a clock.
    fn is_due(&self, clock: &Clock) -> bool {
        clock.epochs() >= self.first && clock.step.is_multiple_of(self.every)
    }

    /// No evidence yet on the choices of a search with these turns, for epochs of `steps` steps.
    fn evidence(&self, config: &Config, steps: usize) -> Result<Evidence, Error> {
        let policy = config.search.method.edge_policy(config.search.edge_policy);
        let epochs = config.search.epochs as f64 - self.first;
        let alpha_steps = epochs * steps as f64 / self.every as f64;
        let memory = config.annealing.memory * alpha_steps;
        Ok(Evidence::new(&Architecture::new(config.space()?, policy), memory))
    }
}

/// The inputs of a step.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The time of the search.
    pub clock: Clock,
    /// A batch of the training half.
    pub train: &'a Batch,
    /// The optimizer of the weights.
    pub sgd: &'a Sgd,
    /// Its rate.
    pub learning_rate: f64,
}

/// A search method.
pub trait Method: Send {
    /// The temperature at which probabilities are read; at 1 they are the plain softmax.
    fn temperature(&self, _: &Clock) -> f64 {
        1.0
    }

    /// The probability below which an operation is pruned; 0 if nothing is pruned by a threshold.
    fn threshold(&self, _: &Clock, _candidates: usize) -> f64 {
        0.0
    }

    /// Number of cells of the search network in an epoch, out of those that the configuration requests.
    fn cells(&self, _epoch: usize, cells: usize) -> usize {
        cells
    }

    /// The epochs over which the learning rate falls, out of all `epochs`: those of a training from fresh weights.
    fn training(&self, _epoch: usize, epochs: usize) -> Range<usize> {
        0..epochs
    }

    /// True if the architecture moves in this epoch; if not, no batch of the validation half is drawn.
    fn moves(&self, _: &Clock) -> bool {
        true
    }

    /// True if the architecture makes a step after that on the weights, in an epoch in which it moves.
    fn is_due(&self, _: &Clock) -> bool {
        true
    }

    /// A step on the weights.
    ///
    /// # Errors
    /// If a number is not finite.
    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        let mixing = learner.mixing(self.temperature(&step.clock));
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    /// A step on the architecture with a batch of the validation half, after that on the weights; returns the
    /// operations that it removed. Nothing by default, for methods without a step of their own.
    ///
    /// # Errors
    /// If a number is not finite.
    fn architecture_step(
        &mut self,
        _: &mut Learner,
        _: &Step<'_>,
        _: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        Ok(Vec::new())
    }

    /// Called after the last step of an epoch; returns the operations that it removed.
    fn end_epoch(&mut self, _: &mut Learner, _: &Clock) -> Vec<Pruned> {
        Vec::new()
    }

    /// Called once an epoch is validated.
    fn validated(&mut self, _: &mut Learner, _: &Clock, _accuracy: f64) {}

    /// The mixing weights with which an epoch is validated.
    fn mixing(&self, learner: &Learner, clock: &Clock) -> MixingTables {
        learner.mixing(self.temperature(clock))
    }

    /// The entropy of the choices of operations of a kind of cell, divided by that of the start (Fig. 7).
    fn entropy(&self, learner: &Learner, clock: &Clock, kind: CellKind) -> f64 {
        learner.architecture.entropy(kind, self.temperature(clock))
    }

    /// True if the search is over; asked before each epoch.
    fn is_over(&self, learner: &Learner) -> bool {
        learner.architecture.is_decided()
    }

    /// The cell that the search has found.
    fn derive(&self, learner: &Learner) -> Derived {
        learner.architecture.derive()
    }

    /// The validation accuracy that was measured of that cell alone, if it was.
    fn accuracy(&self) -> Option<f64> {
        None
    }

    /// How sure each choice is, if the method knows.
    fn sureness(&self, _: &Learner, _: &Genotype) -> Vec<Sureness> {
        Vec::new()
    }

    /// The cells that were evaluated one after the other, with their accuracies, if the method does that.
    fn evaluated(&self) -> Option<serde_json::Value> {
        None
    }

    /// The state that a checkpoint must hold besides learner and clock.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Restores a state returned by [`Method::state`].
    ///
    /// # Errors
    /// If it is not such a state.
    fn restore(&mut self, _: serde_json::Value) -> Result<(), serde_json::Error> {
        Ok(())
    }
}

/// The method with the settings of a configuration, for epochs of `steps` steps on the architecture and a cell that is to
/// be trained in a network of shape `trained`.
///
/// # Errors
/// If the configuration's space is invalid.
pub fn build(
    name: MethodName,
    config: &Config,
    steps: usize,
    trained: &NetworkShape,
) -> Result<Box<dyn Method>, Error> {
    let (adam, space) = (config.adam(steps), config.space()?);
    Ok(match name {
        MethodName::Asap | MethodName::Placebo if config.goes_by_evidence() => {
            let shuffled = name == MethodName::Placebo;
            Box::new(evidence::ByEvidence::new(config, steps, trained, shuffled)?)
        }
        MethodName::Asap => Box::new(anneal::Anneal::exponential(config, adam, steps, trained)?),
        MethodName::Placebo => Box::new(anneal::Anneal::placebo(config, adam, steps, trained)?),
        MethodName::AsapPac => Box::new(anneal::Anneal::pac(config, adam, steps, trained)?),
        MethodName::Darts => Box::new(darts::Darts::first_order(adam)),
        MethodName::Darts2nd => Box::new(darts::Darts::second_order(adam)),
        MethodName::DartsPlus => Box::new(darts::Darts::early_stopping(adam)),
        MethodName::PcDarts => Box::new(darts::Darts::partial(config, adam)),
        MethodName::PDarts => Box::new(p_darts::PDarts::new(config, adam)),
        MethodName::Magnitude => Box::new(pruning::Pruning::magnitude(config, adam)),
        MethodName::AccumulatedGradient => {
            Box::new(pruning::Pruning::accumulated_gradient(config, &space, adam))
        }
        MethodName::Snas => Box::new(snas::Snas::new(config, adam)),
        MethodName::Xnas => Box::new(xnas::Xnas::new(config, steps)),
        MethodName::Enas => Box::new(enas::Enas::new(config, &space)?),
        MethodName::DsoNas => Box::new(dso::Dso::new(config, &space, steps)),
        MethodName::Parsec => Box::new(parsec::Parsec::new(config, adam)),
        MethodName::PrDarts => Box::new(pr_darts::PrDarts::new(config, adam)),
        MethodName::NaonetWs => Box::new(naonet_ws::NaonetWs::new(config, &space, steps)),
        MethodName::Random => Box::new(random::Random::new(config, &space)),
        MethodName::RandomTrained
        | MethodName::Evolution
        | MethodName::Pnas
        | MethodName::Nao
        | MethodName::Nasnet => Box::new(queried::Queried::new(name, config, &space)?),
    })
}

/// The epochs of the part to which an epoch belongs, if all `epochs` are divided into so many equal parts.
fn part(epoch: usize, parts: usize, epochs: usize) -> Range<usize> {
    let first = |part: usize| (part * epochs).div_ceil(parts);
    let part = epoch * parts / epochs.max(1);
    first(part)..first(part + 1)
}

/// Random numbers for one step and purpose.
fn generator(seed: u64, clock: &Clock, purpose: &str) -> ChaCha8Rng {
    let mut random = seeded(seed, purpose);
    // A step draws far fewer numbers than this reserves for it.
    let number = clock.epoch * clock.steps + clock.step;
    random.set_word_pos((number as u128) << 32);
    random
}

/// Random numbers for one purpose.
fn seeded(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(fnv1a(purpose));
    random
}
