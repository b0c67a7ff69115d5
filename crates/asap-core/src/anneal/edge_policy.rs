//! The rule that selects the incoming edges of a node.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::choice::Choice;
use crate::error::Error;
use crate::space::Ending;

/// The rule that reduces a node to the number of incoming edges that its family keeps; the paper leaves it open.
///
/// With every edge kept, [`EdgePolicy::Strength`] and [`EdgePolicy::Anneal`] do nothing, and
/// [`EdgePolicy::Normalize`] weights the edges and cuts none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgePolicy {
    /// A cut at the end, as in DARTS: the edges whose surviving operation has the largest logit stay (if several
    /// operations survive, those whose best one has the largest probability).
    #[default]
    Strength,
    /// Annealed and pruned like the operations: a [`Choice`] per node that keeps some of its inputs.
    Anneal,
    /// Weighted against each other by a softmax that is learned with alpha, and cut at the end to the edges whose
    /// weight times the probability of their best operation is largest (the edge normalization of PC-DARTS).
    Normalize,
}

impl EdgePolicy {
    /// Every policy.
    pub const ALL: [EdgePolicy; 3] =
        [EdgePolicy::Strength, EdgePolicy::Anneal, EdgePolicy::Normalize];

    /// "strength", "anneal" or "normalize".
    pub fn name(self) -> &'static str {
        match self {
            EdgePolicy::Strength => "strength",
            EdgePolicy::Anneal => "anneal",
            EdgePolicy::Normalize => "normalize",
        }
    }

    /// The choice between the inputs of a node, if there is one.
    pub(super) fn choice_of_inputs(self, inputs: usize, ending: Ending) -> Option<Choice> {
        match (self, ending) {
            (EdgePolicy::Normalize, _) => Some(Choice::new(inputs, 1)),
            (EdgePolicy::Anneal, Ending::Inputs(kept)) if inputs > kept => {
                Some(Choice::new(inputs, kept))
            }
            _ => None,
        }
    }
}

impl fmt::Display for EdgePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for EdgePolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| Error::unknown("edge policy", text, Self::ALL.map(Self::name)))
    }
}
