//! All the choices of a search: the operations of every edge and, if wanted, the inputs of every node.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{CellKind, Choice, Edge, Error, Operation, SearchSpace, ThresholdPolicy};

/// The choices of both cell kinds, from all candidates at the start to a genotype at the end.
///
/// An edge's output is the sum of its operations, each times its *mixing weight*: the weight of the edge among the
/// inputs of its node (1 under [`EdgePolicy::Strength`]) times the probability of the operation (eq. 2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawArchitecture")]
pub struct Architecture {
    space: SearchSpace,
    policy: EdgePolicy,
    normal: CellChoices,
    reduction: CellChoices,
}

/// How a node comes down to two incoming edges, which the paper leaves open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgePolicy {
    /// A cut at the end, as in DARTS: the two edges whose surviving operation has the largest logit (where several
    /// operations survive: whose best one has the largest probability).
    #[default]
    Strength,
    /// Annealed and pruned like the operations: a [`Choice`] per node that keeps two of its inputs.
    Anneal,
    /// Weighted against each other by a softmax that is learned with alpha, and cut at the end to the two edges whose
    /// weight times the probability of their best operation is largest (the edge normalization of PC-DARTS).
    Normalize,
}

/// The choices of one cell kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellChoices {
    /// The operations of each edge, in the order of [`SearchSpace::edges`].
    pub operations: Vec<Choice>,
    /// The inputs of each node; `None` under [`EdgePolicy::Strength`], and under [`EdgePolicy::Anneal`] for the node
    /// that has only two.
    pub inputs: Vec<Option<Choice>>,
}

/// What a pruning step removed. Displayed as `normal 3<-0 sep_conv_3x3`, both ends of the edge as states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// The cell kind.
    pub kind: CellKind,
    /// The edge, in the order of [`SearchSpace::edges`].
    pub edge: usize,
    /// The node the edge feeds, from 0.
    pub node: usize,
    /// The state the edge reads.
    pub input: usize,
    /// The operation; `None` when the whole edge went.
    pub operation: Option<Operation>,
}

/// A logit that is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NonFinite {
    /// The cell kind.
    pub kind: CellKind,
    /// The node, from 0.
    pub node: usize,
    /// The state that the logit's edge reads.
    pub input: usize,
    /// The operation it belongs to; `None` for the weight of the whole edge.
    pub operation: Option<Operation>,
    /// The value.
    pub value: f64,
}

impl Architecture {
    /// Every candidate on every edge, all logits 0.
    pub fn new(space: SearchSpace, policy: EdgePolicy) -> Self {
        let cell = CellChoices {
            operations: vec![Choice::new(space.candidates.len(), 1); space.edge_count()],
            inputs: (0..space.nodes).map(|node| policy.choice_of_inputs(node)).collect(),
        };
        Self { space, policy, normal: cell.clone(), reduction: cell }
    }

    /// The search space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// How nodes come down to two inputs.
    pub fn policy(&self) -> EdgePolicy {
        self.policy
    }

    /// The choices of a cell kind.
    pub fn cell(&self, kind: CellKind) -> &CellChoices {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => &self.reduction,
        }
    }

    pub(crate) fn cell_mut(&mut self, kind: CellKind) -> &mut CellChoices {
        match kind {
            CellKind::Normal => &mut self.normal,
            CellKind::Reduction => &mut self.reduction,
        }
    }

    /// What each operation's output is multiplied by, `[edge][candidate]`; 0 for the pruned.
    pub fn mixing_weights(&self, kind: CellKind, temperature: f64) -> Vec<Vec<f64>> {
        let cell = self.cell(kind);
        let inputs = cell.input_weights(temperature);
        self.space
            .edges()
            .map(|edge| {
                let mut weights = cell.operations[edge.index].weights(temperature);
                weights.iter_mut().for_each(|w| *w *= inputs[edge.node][edge.input]);
                weights
            })
            .collect()
    }

    /// Whether an operation is left: neither it nor its edge has been pruned.
    pub fn is_alive(&self, kind: CellKind, edge: usize, candidate: usize) -> bool {
        self.edge_is_alive(kind, edge) && self.cell(kind).operations[edge].is_alive(candidate)
    }

    /// Whether an edge is left.
    pub fn edge_is_alive(&self, kind: CellKind, edge: usize) -> bool {
        let edge = self.space.edges().nth(edge).expect("an edge of the space");
        self.cell(kind).has_input(edge.node, edge.input)
    }

    /// The operations left on an edge, as positions among the candidates; none when the edge is gone.
    pub fn alive_operations(&self, kind: CellKind, edge: usize) -> Vec<usize> {
        match self.edge_is_alive(kind, edge) {
            true => self.cell(kind).operations[edge].alive().collect(),
            false => Vec::new(),
        }
    }

    /// The edges of a cell kind that are left.
    pub fn alive_edges(&self, kind: CellKind) -> impl Iterator<Item = Edge> + '_ {
        let cell = self.cell(kind);
        let edges = self.space.edges();
        edges.filter(move |edge| cell.has_input(edge.node, edge.input))
    }

    /// Lines 7 to 9 of Algorithm 1 on every choice, with the threshold of time `t`; returns what was removed.
    ///
    /// Each choice is compared with the threshold for the number of candidates it began with. An edge that loses its
    /// place among the inputs of its node goes with all its operations.
    pub fn prune(&mut self, temperature: f64, policy: &ThresholdPolicy, t: f64) -> Vec<Pruned> {
        let mut pruned = Vec::new();
        let annealed = self.policy == EdgePolicy::Anneal;
        let edges: Vec<_> = self.space.edges().collect();
        let candidates = self.space.candidates.clone();
        for kind in CellKind::ALL {
            let cell = self.cell_mut(kind);
            let removed = |edge: &Edge, operation| Pruned::new(kind, edge, operation);
            for (node, choice) in cell.inputs.iter_mut().enumerate() {
                let Some(choice) = choice.as_mut().filter(|_| annealed) else { continue };
                for input in choice.prune_ln(temperature, policy.ln_at(t, choice.len())) {
                    let edge = edges.iter().find(|edge| edge.node == node && edge.input == input);
                    pruned.extend(edge.map(|edge| removed(edge, None)));
                }
            }
            for edge in &edges {
                if cell.has_input(edge.node, edge.input) {
                    let ln_threshold = policy.ln_at(t, candidates.len());
                    let gone = cell.operations[edge.index].prune_ln(temperature, ln_threshold);
                    pruned.extend(gone.into_iter().map(|o| removed(edge, Some(candidates[o]))));
                }
            }
        }
        pruned
    }

    /// Whether nothing is left to choose: one operation on every edge left and, when inputs are annealed, two per node.
    pub fn is_decided(&self) -> bool {
        CellKind::ALL.into_iter().all(|kind| {
            let cell = self.cell(kind);
            let open = |inputs: &Choice| self.policy == EdgePolicy::Anneal && !inputs.is_decided();
            !cell.inputs.iter().flatten().any(open)
                && self.alive_edges(kind).all(|edge| cell.operations[edge.index].is_decided())
        })
    }

    /// Number of operations left in a cell kind.
    pub fn alive_count(&self, kind: CellKind) -> usize {
        self.alive_edges(kind)
            .map(|edge| self.cell(kind).operations[edge.index].alive_count())
            .sum()
    }

    /// Number of operations of a cell kind at the start: 98 in the paper's space.
    pub fn total_count(&self) -> usize {
        self.space.edge_count() * self.space.candidates.len()
    }

    /// The share of operations of both kinds that are gone (Fig. 3).
    pub fn sparsity(&self) -> f64 {
        CellKind::ALL.map(|kind| self.cell_sparsity(kind)).iter().sum::<f64>() / 2.0
    }

    /// The share of operations of one kind that are gone.
    pub fn cell_sparsity(&self, kind: CellKind) -> f64 {
        1.0 - self.alive_count(kind) as f64 / self.total_count() as f64
    }

    /// The normalized entropy averaged over all edges of a cell kind (Fig. 7); an edge that is gone counts as 0.
    pub fn entropy(&self, kind: CellKind, temperature: f64) -> f64 {
        let sum: f64 = self
            .alive_edges(kind)
            .map(|edge| self.cell(kind).operations[edge.index].normalized_entropy(temperature))
            .sum();
        sum / self.space.edge_count() as f64
    }

    /// The first logit that is NaN or infinite.
    pub fn first_non_finite(&self) -> Option<NonFinite> {
        CellKind::ALL.into_iter().find_map(|kind| {
            let cell = self.cell(kind);
            self.alive_edges(kind).find_map(|edge| {
                let found = |operation, value| NonFinite {
                    kind,
                    node: edge.node,
                    input: edge.input,
                    operation,
                    value,
                };
                let choice = &cell.operations[edge.index];
                let of_edge = cell.inputs[edge.node].as_ref();
                of_edge
                    .map(|inputs| found(None, inputs.logits()[edge.input]))
                    .into_iter()
                    .chain(choice.alive().map(|candidate| {
                        found(Some(self.space.candidates[candidate]), choice.logits()[candidate])
                    }))
                    .find(|logit| !logit.value.is_finite())
            })
        })
    }
}

impl CellChoices {
    pub(crate) fn has_input(&self, node: usize, input: usize) -> bool {
        self.inputs[node].as_ref().is_none_or(|inputs| inputs.is_alive(input))
    }

    /// The weight of every edge, `[node][input]`.
    pub(crate) fn input_weights(&self, temperature: f64) -> Vec<Vec<f64>> {
        let weights = self.inputs.iter().enumerate().map(|(node, choice)| match choice {
            Some(choice) => choice.weights(temperature),
            None => vec![1.0; 2 + node],
        });
        weights.collect()
    }
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
    fn choice_of_inputs(self, node: usize) -> Option<Choice> {
        match self {
            EdgePolicy::Strength => None,
            EdgePolicy::Anneal => (node > 0).then(|| Choice::new(2 + node, 2)),
            EdgePolicy::Normalize => Some(Choice::new(2 + node, 1)),
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

impl Pruned {
    /// An operation of an edge, or with `None` the whole edge.
    pub fn new(kind: CellKind, edge: &Edge, operation: Option<Operation>) -> Self {
        Self { kind, edge: edge.index, node: edge.node, input: edge.input, operation }
    }
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_edge(f, self.kind, self.node, self.input)?;
        match self.operation {
            Some(operation) => write!(f, " {operation}"),
            None => f.write_str(" (the whole edge)"),
        }
    }
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the logit of ")?;
        write_edge(f, self.kind, self.node, self.input)?;
        if let Some(operation) = self.operation {
            write!(f, " {operation}")?;
        }
        write!(f, " is {}", self.value)
    }
}

pub(crate) fn write_edge(
    f: &mut fmt::Formatter<'_>,
    kind: CellKind,
    node: usize,
    input: usize,
) -> fmt::Result {
    write!(f, "{kind} {}<-{input}", 2 + node)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArchitecture {
    space: SearchSpace,
    policy: EdgePolicy,
    normal: CellChoices,
    reduction: CellChoices,
}

impl TryFrom<RawArchitecture> for Architecture {
    type Error = Error;

    fn try_from(raw: RawArchitecture) -> Result<Self, Error> {
        let expected = Self::new(raw.space, raw.policy);
        for (kind, cell) in CellKind::ALL.into_iter().zip([&raw.normal, &raw.reduction]) {
            let shape = |cell: &CellChoices| {
                let of = |choice: &Choice| (choice.len(), choice.keep());
                let operations: Vec<_> = cell.operations.iter().map(of).collect();
                let inputs: Vec<_> = cell.inputs.iter().map(|c| c.as_ref().map(of)).collect();
                (operations, inputs)
            };
            if shape(cell) != shape(expected.cell(kind)) {
                return Err(Error::value(
                    kind.name(),
                    "a set of choices of another shape",
                    format!(
                        "one choice of 1 from {} operations for each of {} edges, and of inputs as policy `{}` has them",
                        expected.space.candidates.len(),
                        expected.space.edge_count(),
                        expected.policy
                    ),
                ));
            }
        }
        Ok(Self {
            space: expected.space,
            policy: expected.policy,
            normal: raw.normal,
            reduction: raw.reduction,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Adam;

    fn full(policy: EdgePolicy) -> Architecture {
        Architecture::new(SearchSpace::default(), policy)
    }

    /// Numbers between -1 and 1 without any pattern, the same at every call.
    fn upstream(salt: usize) -> [Vec<Vec<f64>>; 2] {
        let number = |kind: usize, edge: usize, candidate: usize| {
            ((salt * 197 + kind * 101 + edge * 7 + candidate) as f64 * 12.9898).sin()
        };
        [0, 1].map(|kind| {
            (0..14).map(|edge| (0..7).map(|c| number(kind, edge, c)).collect()).collect()
        })
    }

    #[test]
    fn at_the_start_everything_is_alive_and_equal() {
        for policy in EdgePolicy::ALL {
            let architecture = full(policy);
            assert_eq!(architecture.total_count(), 98);
            assert_eq!(architecture.alive_count(CellKind::Reduction), 98);
            assert_eq!(architecture.sparsity(), 0.0);
            assert!((architecture.entropy(CellKind::Normal, 1.3) - 1.0).abs() < 1e-12);
            assert!(!architecture.is_decided());
        }
        let weights = full(EdgePolicy::Strength).mixing_weights(CellKind::Normal, 1.3);
        assert!(weights.iter().flatten().all(|w| (w - 1.0 / 7.0).abs() < 1e-15));
        let weights = full(EdgePolicy::Anneal).mixing_weights(CellKind::Normal, 1.3);
        for edge in SearchSpace::default().edges() {
            let expected = 2.0 / (2.0 + edge.node as f64) / 7.0;
            assert!(weights[edge.index].iter().all(|w| (w - expected).abs() < 1e-15));
        }
    }

    #[test]
    fn an_edge_goes_with_all_its_operations() {
        let mut architecture = full(EdgePolicy::Anneal);
        architecture.normal.inputs[1].as_mut().unwrap().descend(&[0.0, 3.0, 0.0], 1.0);
        let pruned = architecture.prune(1.0, &ThresholdPolicy::default(), 0.0);
        let names: Vec<_> = pruned.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["normal 3<-1 (the whole edge)"]);
        let edge = pruned[0].edge;
        assert_eq!(edge, architecture.space().edge_index(1, 1));
        assert!(!architecture.edge_is_alive(CellKind::Normal, edge));
        assert!(architecture.edge_is_alive(CellKind::Reduction, edge));
        assert!(!architecture.is_alive(CellKind::Normal, edge, 0));
        assert!(architecture.alive_operations(CellKind::Normal, edge).is_empty());
        assert_eq!(architecture.mixing_weights(CellKind::Normal, 1.0)[edge], [0.0; 7]);
        assert_eq!(architecture.alive_count(CellKind::Normal), 91);
        assert!((architecture.sparsity() - 3.5 / 98.0).abs() < 1e-15);
        assert!((architecture.cell_sparsity(CellKind::Normal) - 7.0 / 98.0).abs() < 1e-15);
    }

    #[test]
    fn an_input_falls_below_the_threshold_for_the_inputs_of_its_node() {
        let prune = |logit: f64| {
            let mut architecture = full(EdgePolicy::Anneal);
            let node = architecture.normal.inputs[3].as_mut().unwrap();
            node.descend(&[0.0, 0.0, 0.0, 0.0, -logit], 1.0);
            architecture.prune(1.0, &ThresholdPolicy::default(), 0.0).len()
        };
        // of five inputs, 0.4 / 5 = 0.08 lies between probabilities of 0.084 and 0.070
        assert_eq!((prune(-1.0), prune(-1.2)), (0, 1));
    }

    #[test]
    fn equal_edges_are_pruned_equally() {
        let mut architecture = full(EdgePolicy::Strength);
        let gradients = [0, 1].map(|_| vec![vec![-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]; 14]);
        let mut pruned = Vec::new();
        while pruned.is_empty() {
            architecture.step(&gradients, 0.2, &Adam { lr: 0.01, ..Adam::default() });
            pruned = architecture.prune(0.2, &ThresholdPolicy::default(), 0.0);
        }
        let of_edge = |kind, edge| -> Vec<_> {
            let same = pruned.iter().filter(|p| p.kind == kind && p.edge == edge);
            same.map(|p| p.operation).collect()
        };
        let first = of_edge(CellKind::Normal, 0);
        assert!(!first.is_empty());
        for edge in 0..14 {
            assert_eq!(of_edge(CellKind::Normal, edge), first);
            assert_eq!(of_edge(CellKind::Reduction, edge), first);
        }
    }

    #[test]
    fn any_sequence_of_steps_cuts_and_reloads_keeps_everything_in_step() {
        let adam = Adam { lr: 0.03, ..Adam::default() };
        for policy in EdgePolicy::ALL {
            let (mut kept, mut reloaded) = (full(policy), full(policy));
            let mut removed = 0;
            for step in 0..400 {
                let temperature = 1.3 * 0.99_f64.powi(step);
                for architecture in [&mut kept, &mut reloaded] {
                    architecture.step(&upstream(step as usize / 20), temperature, &adam);
                }
                let pruned = kept.prune(temperature, &ThresholdPolicy::default(), 0.0);
                assert_eq!(reloaded.prune(temperature, &ThresholdPolicy::default(), 0.0), pruned);
                removed += pruned.len();
                let json = serde_json::to_string(&reloaded).unwrap();
                reloaded = serde_json::from_str(&json).unwrap();
                assert_eq!(reloaded, kept);
                for kind in CellKind::ALL {
                    let weights = kept.mixing_weights(kind, temperature);
                    let positive = weights.iter().flatten().filter(|w| **w > 0.0).count();
                    assert_eq!(positive, kept.alive_count(kind));
                }
            }
            assert!(removed > 50 && kept.is_decided(), "{policy}: {removed} removed");
            let kept_edges = if policy == EdgePolicy::Anneal { 8 } else { 14 };
            assert_eq!(kept.alive_count(CellKind::Normal), kept_edges);
            assert_eq!(kept.entropy(CellKind::Normal, 0.1), 0.0);
            assert!(kept.derive().fallback.is_empty());
        }
    }

    #[test]
    fn a_nan_is_found_and_named() {
        let mut architecture = full(EdgePolicy::Anneal);
        assert_eq!(architecture.first_non_finite(), None);
        let mut gradients = upstream(0);
        gradients[1][4][2] = f64::NAN;
        architecture.step(&gradients, 1.0, &Adam::default());
        let found = architecture.first_non_finite().unwrap();
        assert_eq!((found.kind, found.node), (CellKind::Reduction, 1));
        let text = found.to_string();
        assert!(
            text.starts_with("the logit of reduction 3<-0") && text.ends_with("is NaN"),
            "{text}"
        );
    }

    #[test]
    fn a_checkpoint_of_another_space_is_refused() {
        let json = serde_json::to_string(&full(EdgePolicy::Anneal)).unwrap();
        let error =
            serde_json::from_str::<Architecture>(&json.replace("\"anneal\"", "\"strength\""));
        assert!(error.unwrap_err().to_string().contains("another shape"));
        let error = "cut".parse::<EdgePolicy>().unwrap_err().to_string();
        assert!(error.contains("strength, anneal"));
    }
}
