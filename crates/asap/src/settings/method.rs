//! The search methods by name, and the properties that a configuration needs of each.

use std::fmt;
use std::str::FromStr;

use asap_core::EdgePolicy;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The methods by name.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum MethodName {
    /// Anneal and prune (Algorithm 1), with the schedule of section 4.1.
    #[default]
    Asap,
    /// The same with the schedule and thresholds of Theorem 2.
    AsapPac,
    /// DARTS, first order: T = 1, nothing pruned, a cut at the end.
    Darts,
    /// DARTS, second order: the gradient looks one step of the weights ahead.
    Darts2nd,
    /// DARTS that stops when the normal cell has two skip connections.
    DartsPlus,
    /// DARTS on a part of the channels, with edge normalization.
    PcDarts,
    /// DARTS in stages, with deeper networks and fewer operations.
    PDarts,
    /// Prunes the smallest alphas to a planned sparsity (eq. 13).
    Magnitude,
    /// The same for the smallest accumulated gradients of alpha.
    AccumulatedGradient,
    /// Samples relaxed architectures with Gumbel noise.
    Snas,
    /// Exponentiated gradients and wipeout.
    Xnas,
    /// A controller samples cells and learns by REINFORCE.
    Enas,
    /// Factors of the operations, of which a sparse regularization makes most 0 (YOSO).
    DsoNas,
    /// A distribution over cells moves towards those under which the validation half is likely.
    Parsec,
    /// DARTS on few operations, of which the worst make room for relatives of the best (Laube and Zell).
    PrDarts,
    /// A model of cells as vectors improves a pool of cells that share weights.
    NaonetWs,
    /// Control: `asap` whose gradients for alpha, or losses of paths, are shuffled, so that they say nothing. A cost is added after it.
    Placebo,
    /// One cell drawn at random; no search.
    Random,
    /// Random search: the best of the cells drawn, each trained for a share of the epochs.
    RandomTrained,
    /// Regularized evolution: the best of a few has a mutated child, and the oldest dies (AmoebaNet).
    Evolution,
    /// Progressive search: cells grow node by node, guided by a model that predicts accuracies.
    Pnas,
    /// A model of cells as vectors, in whose space the best ones climb (neural architecture optimization).
    Nao,
    /// A controller that learns by proximal policy optimization from the accuracies of trained cells.
    Nasnet,
}

impl MethodName {
    /// Every method.
    pub const ALL: [Self; 23] = [
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
        Self::DsoNas,
        Self::Parsec,
        Self::PrDarts,
        Self::NaonetWs,
        Self::Placebo,
        Self::Random,
        Self::RandomTrained,
        Self::Evolution,
        Self::Pnas,
        Self::Nao,
        Self::Nasnet,
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
            Self::DsoNas => "dso-nas",
            Self::Parsec => "parsec",
            Self::PrDarts => "pr-darts",
            Self::NaonetWs => "naonet-ws",
            Self::Placebo => "placebo",
            Self::Random => "random",
            Self::RandomTrained => "random-trained",
            Self::Evolution => "evolution",
            Self::Pnas => "pnas",
            Self::Nao => "nao",
            Self::Nasnet => "nasnet",
        }
    }

    /// What it does, in a line, and its source, with what is ours.
    pub fn about(self) -> [&'static str; 2] {
        match self {
            Self::Asap => [
                "Anneals the choice between operations and prunes the losers (Algorithm 1)",
                "the paper; pruning by evidence and single paths are ours",
            ],
            Self::AsapPac => [
                "Algorithm 1 with the schedule and the thresholds of Theorem 2",
                "the paper; it needs far more steps than a search makes",
            ],
            Self::Darts => [
                "Gradient descent on alpha, first order; no pruning, discretized at the end",
                "Liu et al. 2019, arXiv 1806.09055",
            ],
            Self::Darts2nd => [
                "DARTS, second order: the gradient of alpha looks one weight step ahead",
                "Liu et al. 2019, arXiv 1806.09055",
            ],
            Self::DartsPlus => [
                "DARTS that stops when the normal cell has two skip connections",
                "Liang et al. 2019, arXiv 1909.06035",
            ],
            Self::PcDarts => [
                "DARTS with partial channel connections and edge normalization",
                "Xu et al. 2020, arXiv 1907.05737",
            ],
            Self::PDarts => [
                "DARTS in three stages, with deeper networks and fewer operations",
                "Chen et al. 2019, arXiv 1904.12760; skip connections drop out as a whole, ours",
            ],
            Self::Magnitude => [
                "DARTS that prunes the smallest alphas to a planned sparsity (eq. 13)",
                "the paper, section 4.4",
            ],
            Self::AccumulatedGradient => [
                "DARTS that prunes by the smallest accumulated gradients of alpha to the same sparsity",
                "the paper, section 4.4",
            ],
            Self::Snas => [
                "Samples relaxed architectures with Gumbel noise, annealed",
                "Xie et al. 2019, arXiv 1812.09926; alpha's steps on the other half, with noise of their own, are ours",
            ],
            Self::Xnas => [
                "Exponentiated gradient updates; operations that can no longer win are wiped out",
                "Nayman et al. 2019, arXiv 1906.08031",
            ],
            Self::Enas => [
                "A controller samples cells with shared weights and learns by REINFORCE",
                "Pham et al. 2018, arXiv 1802.03268; heads for inputs, no biases and alternating steps are ours",
            ],
            Self::DsoNas => [
                "Scaling factors of operations, most of which a sparsity penalty drives to 0",
                "Zhang et al. 2018, arXiv 1811.01567 (the paper's YOSO); space, rate and final inputs are ours",
            ],
            Self::Parsec => [
                "A distribution over cells, updated by the validation likelihood of sampled cells",
                "Casale et al. 2019, arXiv 1902.05116; Adam and one path per weight step are ours",
            ],
            Self::PrDarts => [
                "DARTS on few operations at a time; the worst are replaced by variants of the best",
                "Laube and Zell 2019, arXiv 1906.07528 (the paper's PC-DARTS); relatives within the space are ours",
            ],
            Self::NaonetWs => [
                "NAO with shared weights: an encoder-predictor-decoder improves a pool of cells",
                "Luo et al. 2018, arXiv 1808.07233; size of pool and final choice are ours",
            ],
            Self::Placebo => [
                "asap with its measurements shuffled: its cells reflect only chance and search.cost",
                "control, ours",
            ],
            Self::Random => ["One cell drawn at random; no search", "control"],
            Self::RandomTrained => [
                "The best of several random cells, each trained for an equal share of the epochs",
                "control",
            ],
            Self::Evolution => [
                "Regularized evolution: mutates the best of a sample, drops the oldest; trains every cell",
                "Real et al. 2019, arXiv 1802.01548 (AmoebaNet)",
            ],
            Self::Pnas => [
                "Grows cells node by node, guided by a surrogate of accuracy; trains every cell",
                "Liu et al. 2018, arXiv 1712.00559; the model and the levels' shares are ours",
            ],
            Self::Nao => [
                "Embeds cells and follows the gradient of predicted accuracy; trains every cell",
                "Luo et al. 2018, arXiv 1808.07233; a smaller model is ours",
            ],
            Self::Nasnet => [
                "An RNN controller trained by proximal policy optimization; trains every cell",
                "Zoph et al. 2018, arXiv 1707.07012; PPO's constants are not published",
            ],
        }
    }

    /// True if operations see only a part of the channels.
    pub fn is_partial(self) -> bool {
        self == Self::PcDarts
    }

    /// The rule that reduces the inputs of a node to those it keeps; annealing uses the `configured` one.
    pub fn edge_policy(self, configured: EdgePolicy) -> EdgePolicy {
        match self {
            Self::Asap | Self::AsapPac | Self::Placebo => configured,
            Self::PcDarts => EdgePolicy::Normalize,
            Self::DsoNas | Self::Parsec => EdgePolicy::Anneal,
            _ => EdgePolicy::Strength,
        }
    }

    /// True if annealing is meant to make every choice before the search ends.
    pub fn anneals(self) -> bool {
        matches!(self, Self::Asap | Self::AsapPac | Self::Placebo)
    }

    /// True if an alpha of each operation is trained, and a softmax of it mixes or draws them.
    pub fn has_alpha(self) -> bool {
        !matches!(self, Self::Enas | Self::NaonetWs | Self::DsoNas) && self.shares_weights()
    }

    /// True if every step computes a single path, never the mixture of all operations.
    pub(crate) fn samples_paths(self) -> bool {
        matches!(self, Self::Enas | Self::Parsec | Self::NaonetWs) || self.queries()
    }

    /// True if the method asks for the accuracy of one cell after another; [`Self::Random`] asks for none on images.
    pub fn queries(self) -> bool {
        matches!(
            self,
            Self::Random
                | Self::RandomTrained
                | Self::Evolution
                | Self::Pnas
                | Self::Nao
                | Self::Nasnet
        )
    }

    /// True if the network at the end of the search holds the weights of the cell that was found.
    pub fn shares_weights(self) -> bool {
        !self.queries()
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
            Error::Config(format!("unknown method `{text}`; choose one of: {names}"))
        })
    }
}

impl TryFrom<String> for MethodName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error| match error {
            Error::Config(fault) => fault,
            error => error.to_string(),
        })
    }
}

impl From<MethodName> for String {
    fn from(method: MethodName) -> Self {
        method.name().to_owned()
    }
}
