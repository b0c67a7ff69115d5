//! What differs between ASAP and its rivals: a [`Method`] says what happens at a step and at the end of an epoch.
//! The loop, the records, checkpoints and the ending are [`crate::Search`]'s, the same for all.

mod anneal;
mod darts;
mod enas;
mod p_darts;
mod pruning;
mod random;
mod snas;
mod xnas;

use std::fmt;
use std::str::FromStr;

use asap_core::{Derived, EdgePolicy, Pruned};
use asap_data::Batch;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::search::learner::{Learner, MixingTables};
use crate::settings::config::Config;
use asap_net::optimizer::Sgd;
use asap_net::parameters::fnv1a;
use asap_net::steps::{NonFinite, Score};

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Steps on the architecture made so far.
    pub alpha_steps: usize,
}

/// What a step works with.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Where the search stands.
    pub clock: Clock,
    /// A batch of the training half.
    pub train: &'a Batch,
    /// The optimizer of the weights.
    pub sgd: &'a Sgd,
    /// Its rate.
    pub learning_rate: f64,
}

/// A search method.
pub trait Method {
    /// The temperature at which probabilities are read; at 1 they are the plain softmax.
    fn temperature(&self, _: &Clock) -> f64 {
        1.0
    }

    /// The probability below which an operation falls; 0 where nothing falls by a threshold.
    fn threshold(&self, _: &Clock, _candidates: usize) -> f64 {
        0.0
    }

    /// Number of cells of the search network in an epoch, of those that the configuration asks for.
    fn cells(&self, _epoch: usize, cells: usize) -> usize {
        cells
    }

    /// Whether the architecture moves in this epoch; if not, no batch of the validation half is drawn.
    fn moves(&self, _: &Clock) -> bool {
        true
    }

    /// A step on the weights.
    ///
    /// # Errors
    /// When a number is not finite.
    fn weight_step(&mut self, learner: &mut Learner, step: &Step<'_>) -> Result<Score, NonFinite> {
        let mixing = learner.mixing(self.temperature(&step.clock));
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    /// A step on the architecture with a batch of the validation half, after that on the weights; returns what
    /// it removed.
    ///
    /// # Errors
    /// When a number is not finite.
    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite>;

    /// What happens after the last step of an epoch; returns what it removed.
    fn end_epoch(&mut self, _: &mut Learner, _: &Clock) -> Vec<Pruned> {
        Vec::new()
    }

    /// What happens once an epoch is validated.
    fn validated(&mut self, _: &mut Learner, _: &Clock, _accuracy: f64) {}

    /// The mixing weights with which an epoch is validated.
    fn mixing(&self, learner: &Learner, clock: &Clock) -> MixingTables {
        learner.mixing(self.temperature(clock))
    }

    /// Whether the search is over, asked before each epoch.
    fn is_over(&self, learner: &Learner) -> bool {
        learner.architecture.is_decided()
    }

    /// The cell that the search has found.
    fn derive(&self, learner: &Learner) -> Derived {
        learner.architecture.derive()
    }

    /// What a checkpoint must hold beside learner and clock.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Brings back what [`Method::state`] gave.
    ///
    /// # Errors
    /// When it is not such a state.
    fn restore(&mut self, _: serde_json::Value) -> Result<(), serde_json::Error> {
        Ok(())
    }
}

/// The methods by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MethodName {
    /// Anneal and prune (Algorithm 1), with the schedule of section 4.1.
    #[default]
    Asap,
    /// The same with the schedule and thresholds of Theorem 2.
    AsapPac,
    /// DARTS, first order: T = 1, nothing pruned, a cut at the end.
    Darts,
    /// DARTS, second order: the gradient looks a step of the weights ahead.
    Darts2nd,
    /// DARTS that stops when the normal cell has two skip connections.
    DartsPlus,
    /// DARTS on a part of the channels, with edge normalization.
    PcDarts,
    /// DARTS in stages, with deeper networks and fewer operations.
    PDarts,
    /// The smallest alphas are pruned to a planned sparsity (equation 13).
    Magnitude,
    /// The same for the smallest accumulated gradients of alpha.
    AccumulatedGradient,
    /// Relaxed architectures are sampled by Gumbel noise.
    Snas,
    /// Exponentiated gradients and wipeout.
    Xnas,
    /// A controller samples cells and learns by REINFORCE.
    Enas,
    /// One cell drawn at random; no search.
    Random,
    /// The best of a few random cells, trained within the same budget.
    RandomTrained,
}

impl MethodName {
    /// Every method.
    pub const ALL: [Self; 14] = [
        Self::Asap,
        Self::AsapPac,
        Self::Darts,
        Self::Darts2nd,
        Self::DartsPlus,
        Self::PcDarts,
        Self::PDarts,
        Self::Magnitude,
        Self::AccumulatedGradient,
        Self::Snas,
        Self::Xnas,
        Self::Enas,
        Self::Random,
        Self::RandomTrained,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asap => "asap",
            Self::AsapPac => "asap-pac",
            Self::Darts => "darts",
            Self::Darts2nd => "darts-2nd",
            Self::DartsPlus => "darts+",
            Self::PcDarts => "pc-darts",
            Self::PDarts => "p-darts",
            Self::Magnitude => "magnitude",
            Self::AccumulatedGradient => "accumulated-gradient",
            Self::Snas => "snas",
            Self::Xnas => "xnas",
            Self::Enas => "enas",
            Self::Random => "random",
            Self::RandomTrained => "random-trained",
        }
    }

    /// The method with the settings of a configuration, for epochs of `steps` steps on the architecture.
    ///
    /// # Errors
    /// When the configuration's space makes no sense.
    pub fn build(self, config: &Config, steps: usize) -> Result<Box<dyn Method>, Error> {
        let (adam, space) = (config.adam(steps), config.space()?);
        Ok(match self {
            Self::Asap => Box::new(anneal::Anneal::exponential(config, adam)),
            Self::AsapPac => Box::new(anneal::Anneal::pac(config, adam)),
            Self::Darts => Box::new(darts::Darts::first_order(adam)),
            Self::Darts2nd => Box::new(darts::Darts::second_order(adam)),
            Self::DartsPlus => Box::new(darts::Darts::early_stopping(adam)),
            Self::PcDarts => Box::new(darts::Darts::partial(config, adam)),
            Self::PDarts => Box::new(p_darts::PDarts::new(config, adam)),
            Self::Magnitude => Box::new(pruning::Pruning::magnitude(config, adam)),
            Self::AccumulatedGradient => {
                Box::new(pruning::Pruning::accumulated_gradient(config, adam))
            }
            Self::Snas => Box::new(snas::Snas::new(config, adam)),
            Self::Xnas => Box::new(xnas::Xnas::new(config, steps)),
            Self::Enas => Box::new(enas::Enas::new(config, &space)?),
            Self::Random => Box::new(random::Random::untrained(config, &space)),
            Self::RandomTrained => Box::new(random::Random::trained(config, &space)),
        })
    }

    /// Whether operations see a part of the channels only.
    pub fn is_partial(self) -> bool {
        self == Self::PcDarts
    }

    /// How the method comes down to two inputs of a node: only annealing can be told.
    pub fn edge_policy(self, config: &Config) -> EdgePolicy {
        match self {
            Self::Asap | Self::AsapPac => config.search.edge_policy,
            Self::PcDarts => EdgePolicy::Normalize,
            _ => EdgePolicy::Strength,
        }
    }

    /// Whether annealing is meant to make every choice before the search ends.
    pub fn anneals(self) -> bool {
        matches!(self, Self::Asap | Self::AsapPac)
    }

    /// Whether an alpha of each operation is trained.
    pub fn has_alpha(self) -> bool {
        !matches!(self, Self::Enas | Self::Random | Self::RandomTrained)
    }

    /// Whether the network at the end of the search holds the weights of the cell that was found.
    pub fn shares_weights(self) -> bool {
        !matches!(self, Self::Random | Self::RandomTrained)
    }
}

/// Random numbers of one step and purpose.
fn generator(seed: u64, clock: &Clock, purpose: &str) -> ChaCha8Rng {
    let mut random = seeded(seed, purpose);
    // A step draws far fewer numbers than this leaves it.
    random.set_word_pos((clock.alpha_steps as u128) << 32);
    random
}

/// Random numbers of one purpose.
fn seeded(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(fnv1a(purpose));
    random
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for MethodName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|method| method.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::Config(format!("unknown method `{text}`; choose one of {names}"))
        })
    }
}

impl TryFrom<String> for MethodName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<MethodName> for String {
    fn from(method: MethodName) -> Self {
        method.name().to_owned()
    }
}
