//! All the choices of a search: the operations of every edge and, if wanted, the inputs of every node.

use serde::{Deserialize, Serialize};

use super::choice::Choice;
use super::edge_policy::EdgePolicy;
use super::found::{NonFinite, Pruned};
use super::schedule::ThresholdPolicy;
use crate::space::{CellKind, Edge, MixingTables, SearchSpace};

/// The choices of every cell kind, from all candidates at the start to a genotype at the end.
///
/// An edge's output is the sum of its operations, each times its *mixing weight*: the weight of the edge among the
/// inputs of its node (1 under [`EdgePolicy::Strength`]) times the probability of the operation (eq. 2).
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    space: SearchSpace,
    policy: EdgePolicy,
    /// In the order of [`SearchSpace::kinds`].
    cells: Vec<CellChoices>,
}

/// The choices of one cell kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellChoices {
    /// The operations of each edge, in the order of [`SearchSpace::edges`].
    pub operations: Vec<Choice>,
    /// The inputs of each node; `None` under [`EdgePolicy::Strength`], and under [`EdgePolicy::Anneal`] for a node
    /// that keeps all of its inputs.
    pub inputs: Vec<Option<Choice>>,
}

impl Architecture {
    /// Every candidate on every edge, all logits 0.
    pub fn new(space: SearchSpace, policy: EdgePolicy) -> Self {
        let cell = CellChoices {
            operations: vec![Choice::new(space.candidates.len(), 1); space.edge_count()],
            inputs: (0..space.nodes)
                .map(|node| policy.choice_of_inputs(space.inputs_of(node), space.family.ending()))
                .collect(),
        };
        let cells = vec![cell; space.kinds().len()];
        Self { space, policy, cells }
    }

    /// The search space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// The rule that reduces each node to the inputs that it keeps.
    pub fn policy(&self) -> EdgePolicy {
        self.policy
    }

    /// The choices of a cell kind.
    ///
    /// # Panics
    /// If the space has no such cells; the same holds for all functions that take a kind.
    pub fn cell(&self, kind: CellKind) -> &CellChoices {
        &self.cells[self.space.family.kind_index(kind)]
    }

    pub(crate) fn cell_mut(&mut self, kind: CellKind) -> &mut CellChoices {
        &mut self.cells[self.space.family.kind_index(kind)]
    }

    /// [`Architecture::mixing_weights`] of every kind.
    pub fn mixing_tables(&self, temperature: f64) -> MixingTables {
        self.space.kinds().iter().map(|&kind| self.mixing_weights(kind, temperature)).collect()
    }

    /// The factor of each operation's output, `[edge][candidate]`; 0 for the pruned.
    pub fn mixing_weights(&self, kind: CellKind, temperature: f64) -> Vec<Vec<f64>> {
        let cell = self.cell(kind);
        let inputs = cell.input_weights(&self.space, temperature);
        self.space
            .edges()
            .map(|edge| {
                let mut weights = cell.operations[edge.index].weights(temperature);
                weights.iter_mut().for_each(|w| *w *= inputs[edge.node][edge.input]);
                weights
            })
            .collect()
    }

    /// True if an operation is alive: neither it nor its edge has been pruned.
    pub fn is_alive(&self, kind: CellKind, edge: usize, candidate: usize) -> bool {
        self.edge_is_alive(kind, edge) && self.cell(kind).operations[edge].is_alive(candidate)
    }

    /// True if an edge is alive.
    pub fn edge_is_alive(&self, kind: CellKind, edge: usize) -> bool {
        let edge = self.space.edges().nth(edge).expect("an edge of the space");
        self.cell(kind).has_input(edge.node, edge.input)
    }

    /// The live operations of an edge, as positions among the candidates; none if the edge is gone.
    pub fn alive_operations(&self, kind: CellKind, edge: usize) -> Vec<usize> {
        match self.edge_is_alive(kind, edge) {
            true => self.cell(kind).operations[edge].alive().collect(),
            false => Vec::new(),
        }
    }

    /// The live edges of a cell kind.
    pub fn alive_edges(&self, kind: CellKind) -> impl Iterator<Item = Edge> + '_ {
        let cell = self.cell(kind);
        let edges = self.space.edges();
        edges.filter(move |edge| cell.has_input(edge.node, edge.input))
    }

    /// Lines 7 to 9 of Algorithm 1 on every choice, with the threshold of time `t`; returns what was removed.
    ///
    /// Each choice is compared with the threshold for the number of candidates it started with. An edge that loses its
    /// place among the inputs of its node is removed with all its operations.
    pub fn prune(&mut self, temperature: f64, policy: &ThresholdPolicy, t: f64) -> Vec<Pruned> {
        self.prune_each(|_, _, choice| choice.prune_ln(temperature, policy.ln_at(t, choice.len())))
    }

    /// What is below the threshold: edges, and operations of all edges, also of those that are below it themselves.
    pub fn below(&self, temperature: f64, policy: &ThresholdPolicy, t: f64) -> Vec<Pruned> {
        self.clone().prune_each(|_, _, choice| {
            choice.clone().prune_ln(temperature, policy.ln_at(t, choice.len()))
        })
    }

    /// Calls `prune`, which returns the candidates that it removes, on every choice: the inputs of each node if they are
    /// annealed, then the operations of the edges that are left.
    pub(super) fn prune_each(
        &mut self,
        mut prune: impl FnMut(CellKind, Site, &mut Choice) -> Vec<usize>,
    ) -> Vec<Pruned> {
        let mut pruned = Vec::new();
        let annealed = self.policy == EdgePolicy::Anneal;
        let edges: Vec<_> = self.space.edges().collect();
        for (&kind, cell) in self.space.kinds().iter().zip(&mut self.cells) {
            for (node, choice) in cell.inputs.iter_mut().enumerate() {
                let Some(choice) = choice.as_mut().filter(|_| annealed) else { continue };
                for input in prune(kind, Site::Inputs(node), choice) {
                    let edge = edges[self.space.edge_index(node, input)];
                    pruned.push(Pruned { kind, edge, operation: None });
                }
            }
            for &edge in &edges {
                if cell.has_input(edge.node, edge.input) {
                    let gone =
                        prune(kind, Site::Operations(edge.index), &mut cell.operations[edge.index]);
                    let operations = gone.into_iter().map(|gone| self.space.candidates[gone]);
                    pruned.extend(operations.map(|o| Pruned { kind, edge, operation: Some(o) }));
                }
            }
        }
        pruned
    }

    /// Removes the edges and operations that `is_gone` names, by the edge's number and the operation's position, as far as each choice keeps
    /// what it must; of too many the first stay. Returns them.
    pub(crate) fn prune_where(
        &mut self,
        is_gone: impl Fn(CellKind, usize, Option<usize>) -> bool,
    ) -> Vec<Pruned> {
        let space = self.space.clone();
        self.prune_each(|kind, site, choice| {
            let is_gone = |candidate: &usize| match site {
                Site::Inputs(node) => is_gone(kind, space.edge_index(node, *candidate), None),
                Site::Operations(edge) => is_gone(kind, edge, Some(*candidate)),
            };
            let doomed: Vec<usize> = choice.alive().filter(is_gone).collect();
            doomed.into_iter().rev().filter(|&candidate| choice.remove(candidate)).collect()
        })
    }

    /// The choice to which a candidate belongs, and its position there.
    pub(super) fn locate(&self, pruned: &Pruned) -> (Site, usize) {
        let position = |operation| {
            let mut candidates = self.space.candidates.iter();
            candidates.position(|&c| c == operation).expect("a candidate of the space")
        };
        match pruned.operation {
            Some(operation) => (Site::Operations(pruned.edge.index), position(operation)),
            None => (Site::Inputs(pruned.edge.node), pruned.edge.input),
        }
    }

    /// This architecture without an operation, or without an edge.
    pub fn without(mut self, pruned: &Pruned) -> Self {
        let (site, candidate) = self.locate(pruned);
        if let Some(choice) = self.cell_mut(pruned.kind).choice_mut(site) {
            choice.remove(candidate);
        }
        self
    }

    /// The strongest other candidate of the same choice, if one is left.
    pub fn rival(&self, pruned: &Pruned) -> Option<Pruned> {
        let (site, candidate) = self.locate(pruned);
        let ranked = self.cell(pruned.kind).choice(site)?.ranked();
        let other = ranked.into_iter().find(|other| *other != candidate)?;
        Some(match site {
            Site::Operations(_) => {
                Pruned { operation: Some(self.space.candidates[other]), ..*pruned }
            }
            Site::Inputs(node) => {
                let edge = self.space.edges().nth(self.space.edge_index(node, other))?;
                Pruned { edge, ..*pruned }
            }
        })
    }

    /// True if nothing is left to choose: one operation on every live edge and, when inputs are annealed, no input too many.
    pub fn is_decided(&self) -> bool {
        self.space.kinds().iter().zip(&self.cells).all(|(&kind, cell)| {
            let open = |inputs: &Choice| self.policy == EdgePolicy::Anneal && !inputs.is_decided();
            !cell.inputs.iter().flatten().any(open)
                && self.alive_edges(kind).all(|edge| cell.operations[edge.index].is_decided())
        })
    }

    /// Number of live operations in a cell kind.
    pub fn alive_count(&self, kind: CellKind) -> usize {
        self.alive_edges(kind)
            .map(|edge| self.cell(kind).operations[edge.index].alive_count())
            .sum()
    }

    /// Number of operations of a cell kind at the start: 98 in the paper's space.
    pub fn total_count(&self) -> usize {
        self.space.edge_count() * self.space.candidates.len()
    }

    /// The fraction of operations of all kinds that are gone (Fig. 3).
    pub fn sparsity(&self) -> f64 {
        let kinds = self.space.kinds();
        kinds.iter().map(|&kind| self.cell_sparsity(kind)).sum::<f64>() / kinds.len() as f64
    }

    /// The fraction of operations of one kind that are gone.
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
        self.space.kinds().iter().zip(&self.cells).find_map(|(&kind, cell)| {
            self.alive_edges(kind).find_map(|edge| {
                let found = |operation, value| NonFinite { kind, edge, operation, value };
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

/// A choice in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// Of the inputs of a node.
    Inputs(usize),
    /// Of the operations of an edge.
    Operations(usize),
}

impl CellChoices {
    /// The choice of a site; `None` for the inputs of a node that does not choose.
    pub(super) fn choice(&self, site: Site) -> Option<&Choice> {
        match site {
            Site::Inputs(node) => self.inputs[node].as_ref(),
            Site::Operations(edge) => self.operations.get(edge),
        }
    }

    pub(super) fn choice_mut(&mut self, site: Site) -> Option<&mut Choice> {
        match site {
            Site::Inputs(node) => self.inputs[node].as_mut(),
            Site::Operations(edge) => self.operations.get_mut(edge),
        }
    }

    /// The sites of open or decided choices: nodes that choose, and live edges.
    pub(super) fn sites(&self, space: &SearchSpace) -> Vec<Site> {
        let nodes = (0..self.inputs.len()).filter(|&node| self.inputs[node].is_some());
        let edges = space.edges().filter(|edge| self.has_input(edge.node, edge.input));
        nodes.map(Site::Inputs).chain(edges.map(|edge| Site::Operations(edge.index))).collect()
    }

    pub(crate) fn has_input(&self, node: usize, input: usize) -> bool {
        self.inputs[node].as_ref().is_none_or(|inputs| inputs.is_alive(input))
    }

    /// The weight of every edge, `[node][input]`.
    pub(crate) fn input_weights(&self, space: &SearchSpace, temperature: f64) -> Vec<Vec<f64>> {
        let weights = self.inputs.iter().enumerate().map(|(node, choice)| match choice {
            Some(choice) => choice.weights(temperature),
            None => vec![1.0; space.inputs_of(node)],
        });
        weights.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adam, Family};

    fn full(policy: EdgePolicy) -> Architecture {
        Architecture::new(SearchSpace::default(), policy)
    }

    /// Numbers between -1 and 1 without any pattern, the same at every call.
    fn upstream(salt: usize) -> MixingTables {
        let number = |kind: usize, edge: usize, candidate: usize| {
            ((salt * 197 + kind * 101 + edge * 7 + candidate) as f64 * 12.9898).sin()
        };
        let cell =
            |kind| (0..14).map(|edge| (0..7).map(|c| number(kind, edge, c)).collect()).collect();
        vec![cell(0), cell(1)]
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
        architecture.cells[0].inputs[1].as_mut().unwrap().descend(&[0.0, 3.0, 0.0], 1.0);
        let pruned = architecture.prune(1.0, &ThresholdPolicy::default(), 0.0);
        let names: Vec<_> = pruned.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["normal 3<-1 (the whole edge)"]);
        let edge = pruned[0].edge.index;
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
            let node = architecture.cells[0].inputs[3].as_mut().unwrap();
            node.descend(&[0.0, 0.0, 0.0, 0.0, -logit], 1.0);
            architecture.prune(1.0, &ThresholdPolicy::default(), 0.0).len()
        };
        // of five inputs, 0.4 / 5 = 0.08 lies between probabilities of 0.084 and 0.070
        assert_eq!((prune(-1.0), prune(-1.2)), (0, 1));
    }

    #[test]
    fn equal_edges_are_pruned_equally() {
        let mut architecture = full(EdgePolicy::Strength);
        let gradients = vec![vec![vec![-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]; 14]; 2];
        let mut pruned = Vec::new();
        while pruned.is_empty() {
            architecture.step(&gradients, 0.2, &Adam { lr: 0.01, ..Adam::default() });
            pruned = architecture.prune(0.2, &ThresholdPolicy::default(), 0.0);
        }
        let of_edge = |kind, edge| -> Vec<_> {
            let same = pruned.iter().filter(|p| p.kind == kind && p.edge.index == edge);
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
                for &kind in kept.space.kinds() {
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
        assert_eq!((found.kind, found.edge.node), (CellKind::Reduction, 1));
        let text = found.to_string();
        assert!(
            text.starts_with("the logit of reduction 3<-0") && text.ends_with("is NaN"),
            "{text}"
        );
    }

    #[test]
    fn of_nas_bench_201_every_edge_stays_under_any_policy() {
        let adam = Adam { lr: 0.03, ..Adam::default() };
        for policy in EdgePolicy::ALL {
            let mut architecture = Architecture::new(SearchSpace::of(Family::NasBench201), policy);
            let inputs = &architecture.cell(CellKind::Normal).inputs;
            assert!(inputs.iter().all(|i| i.is_some() == (policy == EdgePolicy::Normalize)));
            assert_eq!((architecture.total_count(), architecture.sparsity()), (24, 0.0));
            let mut pruned = Vec::new();
            for step in 0..400 {
                let temperature = 1.3 * 0.99_f64.powi(step);
                let mut salt = f64::from(step / 20) * 197.0;
                let gradients = architecture.space().tables(|| {
                    salt += 1.0;
                    (salt * 12.9898).sin()
                });
                architecture.step(&gradients, temperature, &adam);
                pruned.extend(architecture.prune(temperature, &ThresholdPolicy::default(), 0.0));
            }
            assert!(architecture.is_decided(), "{policy}");
            assert_eq!((pruned.len(), architecture.sparsity()), (18, 0.75));
            assert!(pruned.iter().all(|p| p.operation.is_some()));
            let first = pruned.iter().find(|p| p.edge.index == 5).unwrap().to_string();
            assert!(first.starts_with("normal 3<-2 "), "{first}");
            let derived = architecture.derive();
            assert!(derived.fallback.is_empty());
            assert_eq!(derived.genotype.cell(CellKind::Normal).genes().count(), 6);
        }
    }

    #[test]
    fn an_unknown_policy_lists_the_choices() {
        let error = "cut".parse::<EdgePolicy>().unwrap_err().to_string();
        assert!(error.contains("strength, anneal"));
    }
}
