//! What differs between ASAP and its rivals: a [`Method`] says what happens at a step and at the end of an epoch.
//! The loop, the records, checkpoints and the ending are [`crate::Search`]'s, the same for all.

mod anneal;
mod darts;

use std::fmt;
use std::str::FromStr;

use asap_core::{Derived, EdgePolicy, Pruned};
use asap_data::Batch;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Error;
use crate::learner::{Learner, MixingTables};
use crate::optimizer::Sgd;
use crate::steps::{NonFinite, Score};

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Most epochs.
    pub epochs: usize,
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
    /// The temperature at which probabilities are read.
    fn temperature(&self, clock: &Clock) -> f64;

    /// The probability below which an operation falls; 0 where nothing falls by a threshold.
    fn threshold(&self, _: &Clock, _candidates: usize) -> f64 {
        0.0
    }

    /// Whether the architecture moves in this epoch; if not, no batch of the validation half is drawn.
    fn moves(&self, clock: &Clock) -> bool;

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
}

impl MethodName {
    /// Every method.
    pub const ALL: [Self; 5] =
        [Self::Asap, Self::AsapPac, Self::Darts, Self::Darts2nd, Self::DartsPlus];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asap => "asap",
            Self::AsapPac => "asap-pac",
            Self::Darts => "darts",
            Self::Darts2nd => "darts-2nd",
            Self::DartsPlus => "darts+",
        }
    }

    /// The method with the settings of a configuration, for epochs of `steps` steps on the architecture.
    pub fn build(self, config: &Config, steps: usize) -> Box<dyn Method> {
        let adam = config.adam(steps);
        match self {
            Self::Asap => Box::new(anneal::Anneal::exponential(config, adam)),
            Self::AsapPac => Box::new(anneal::Anneal::pac(config, adam)),
            Self::Darts => Box::new(darts::Darts::first_order(adam)),
            Self::Darts2nd => Box::new(darts::Darts::second_order(adam)),
            Self::DartsPlus => Box::new(darts::Darts::early_stopping(adam)),
        }
    }

    /// How the method comes down to two inputs of a node: only annealing can be told.
    pub fn edge_policy(self, config: &Config) -> EdgePolicy {
        match self {
            Self::Asap | Self::AsapPac => config.search.edge_policy,
            _ => EdgePolicy::Strength,
        }
    }

    /// Whether choices are meant to be open when the search ends.
    pub fn cuts_at_the_end(self) -> bool {
        !matches!(self, Self::Asap | Self::AsapPac)
    }
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
