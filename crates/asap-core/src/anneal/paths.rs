//! Single paths through the search network, and the evidence that their losses give on every choice.
//!
//! A path is a cell that can still be chosen: one remaining operation on every edge that a node keeps. Where eq. 2 mixes
//! all operations, the losses of paths compare the operations as they will be used, one at a time.

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, Site};
use super::certainty::Prior;
use super::choice::Choice;
use super::edge_policy::EdgePolicy;
use super::evidence::ChoiceEvidence;
use super::found::Pruned;
use super::gradient::ChoiceGradients;
use crate::genotype::Genotype;
use crate::space::{CellKind, MixingTables};

/// The evidence on every choice of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// In the order of [`SearchSpace::kinds`](crate::SearchSpace::kinds).
    cells: Vec<CellEvidence>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CellEvidence {
    operations: Vec<ChoiceEvidence>,
    inputs: Vec<Option<ChoiceEvidence>>,
}

/// How far apart the candidates of each sort of choice are.
#[derive(Clone, Copy)]
struct Priors {
    inputs: Prior,
    operations: Prior,
}

/// How sure a choice is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sureness {
    /// The choice: an edge, or a node and its inputs. Displayed with states.
    pub choice: String,
    /// What was chosen.
    pub chosen: String,
    /// The probability that a search with another seed makes the same choice, from 0 to 1.
    pub sure: f64,
    /// What could most likely take its place, if anything is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rival: Option<String>,
    /// Factor on the number of observations that would make it 95 % sure, if the lead stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<f64>,
}

/// The certainty at which a choice counts as sure.
pub const SURE: f64 = 0.95;

impl Architecture {
    /// Paths through the remaining operations, as mixing weights of 1 and 0. Every remaining input of a node, and every
    /// remaining operation of an edge, is in as many of them as any other, as far as their numbers allow.
    pub fn draw_paths(&self, count: usize, random: &mut impl Rng) -> Vec<MixingTables> {
        let mut paths = vec![self.space().tables(|| 0.0); count];
        for (k, &kind) in self.space().kinds().iter().enumerate() {
            let cell = self.cell(kind);
            let mut operations: Vec<Turns> = (cell.operations.iter())
                .map(|choice| Turns::new(choice.alive().collect(), random))
                .collect();
            for (node, choice) in cell.inputs.iter().enumerate() {
                let all = self.space().inputs_of(node);
                // Weights of inputs that only add up to 1 choose none.
                let chosen = choice.as_ref().filter(|_| self.policy() == EdgePolicy::Anneal);
                let (alive, keep) = match chosen {
                    Some(choice) => (choice.alive().collect(), choice.keep()),
                    None => ((0..all).collect(), all),
                };
                let mut inputs = Turns::new(alive, random);
                for path in &mut paths {
                    for _ in 0..keep {
                        let edge = self.space().edge_index(node, inputs.next());
                        path[k][edge][operations[edge].next()] = 1.0;
                    }
                }
            }
        }
        paths
    }
}

/// Items that take turns, in random order.
struct Turns {
    items: Vec<usize>,
    next: usize,
}

impl Turns {
    fn new(mut items: Vec<usize>, random: &mut impl Rng) -> Self {
        items.shuffle(random);
        Self { items, next: 0 }
    }

    fn next(&mut self) -> usize {
        let item = self.items[self.next % self.items.len()];
        self.next += 1;
        item
    }
}

impl Evidence {
    /// No evidence yet on the choices of an architecture; `memory` as for [`ChoiceEvidence::new`].
    pub fn new(architecture: &Architecture, memory: f64) -> Self {
        let fresh = |choice: &Choice| ChoiceEvidence::new(choice.len(), memory);
        let of_kind = |&kind: &CellKind| {
            let cell = architecture.cell(kind);
            CellEvidence {
                operations: cell.operations.iter().map(fresh).collect(),
                inputs: cell.inputs.iter().map(|choice| choice.as_ref().map(fresh)).collect(),
            }
        };
        Self { cells: architecture.space().kinds().iter().map(of_kind).collect() }
    }

    /// Adds the losses of some paths on the same images.
    ///
    /// # Panics
    /// If there is not one loss per path.
    pub fn observe_paths(
        &mut self,
        architecture: &Architecture,
        paths: &[MixingTables],
        losses: &[f64],
    ) {
        assert_eq!(paths.len(), losses.len(), "one loss per path");
        self.forget();
        let count = losses.len() as f64;
        if count < 2.0 {
            return;
        }
        let mean = losses.iter().sum::<f64>() / count;
        let inflation = count / (count - 1.0);
        let space = architecture.space();
        for (path, loss) in paths.iter().zip(losses) {
            for ((&kind, cell), path) in space.kinds().iter().zip(&mut self.cells).zip(path) {
                let choices = architecture.cell(kind);
                for edge in architecture.alive_edges(kind) {
                    let Some(operation) = path[edge.index].iter().position(|w| *w != 0.0) else {
                        continue;
                    };
                    let observe = |evidence: &mut ChoiceEvidence, choice: &Choice, candidate| {
                        if !choice.is_decided() {
                            evidence.observe(candidate, loss - mean, inflation);
                        }
                    };
                    let operations = &mut cell.operations[edge.index];
                    observe(operations, &choices.operations[edge.index], operation);
                    if let (Some(inputs), Some(choice)) =
                        (&mut cell.inputs[edge.node], &choices.inputs[edge.node])
                    {
                        observe(inputs, choice, edge.input);
                    }
                }
            }
        }
    }

    /// Adds the gradients of a step for the weights of every choice's candidates; shapes as those of
    /// [`ChoiceGradients`].
    ///
    /// # Panics
    /// If the gradients have a different shape.
    pub fn observe_gradients(&mut self, architecture: &Architecture, gradients: &ChoiceGradients) {
        self.forget();
        for (k, &kind) in architecture.space().kinds().iter().enumerate() {
            let (choices, cell) = (architecture.cell(kind), &mut self.cells[k]);
            for site in choices.sites(architecture.space()) {
                let seen = match site {
                    Site::Inputs(node) => &gradients.inputs[k][node],
                    Site::Operations(edge) => &gradients.operations[k][edge],
                };
                if let (Some(evidence), Some(choice)) = (cell.of_mut(site), choices.choice(site)) {
                    evidence.observe_all(choice, seen);
                }
            }
        }
    }

    fn forget(&mut self) {
        for cell in &mut self.cells {
            let all = cell.operations.iter_mut().chain(cell.inputs.iter_mut().flatten());
            all.for_each(ChoiceEvidence::forget);
        }
    }

    /// Prunes what the evidence allows, so that at most `delta` of the choices lose a candidate that belongs to the best:
    /// lines 7 to 9 of Algorithm 1 with a threshold that is measured.
    pub fn prune(&mut self, architecture: &mut Architecture, delta: f64) -> Vec<Pruned> {
        let family = architecture.space().family;
        architecture.prune_each(|kind, site, choice| {
            let evidence = self.cells[family.kind_index(kind)].of_mut(site);
            evidence.map_or_else(Vec::new, |e| e.prune(choice, delta))
        })
    }

    /// True if the evidence allows the removal of an operation, or of a whole edge.
    pub fn allows(&self, architecture: &Architecture, pruned: &Pruned, delta: f64) -> bool {
        let (site, candidate) = architecture.locate(pruned);
        let cell = &self.cells[architecture.space().family.kind_index(pruned.kind)];
        let both = cell.of(site).zip(architecture.cell(pruned.kind).choice(site));
        both.is_none_or(|(evidence, choice)| evidence.allows(choice, candidate, delta))
    }

    /// Removes candidates from an architecture, and records how sure that was.
    pub fn remove(&mut self, architecture: &mut Architecture, pruned: &[Pruned]) {
        let family = architecture.space().family;
        for pruned in pruned {
            let (site, candidate) = architecture.locate(pruned);
            let evidence = self.cells[family.kind_index(pruned.kind)].of_mut(site);
            let choice = architecture.cell_mut(pruned.kind).choice_mut(site);
            if let (Some(evidence), Some(choice)) = (evidence, choice) {
                evidence.remove(choice, candidate);
            }
        }
    }

    /// Places the logits of an architecture where the evidence says: [`ChoiceEvidence::logits`].
    pub fn place_logits(&self, architecture: &mut Architecture) {
        let space = architecture.space().clone();
        for (&kind, cell) in space.kinds().iter().zip(&self.cells) {
            let choices = architecture.cell_mut(kind);
            for site in choices.sites(&space) {
                if let (Some(choice), Some(evidence)) = (choices.choice_mut(site), cell.of(site)) {
                    let logits = evidence.logits(choice);
                    choice.place(&logits);
                }
            }
        }
    }

    /// How far apart operations are, and inputs.
    fn priors(&self, architecture: &Architecture) -> Priors {
        let (mut inputs, mut operations) = (Vec::new(), Vec::new());
        for (&kind, cell) in architecture.space().kinds().iter().zip(&self.cells) {
            let choices = architecture.cell(kind);
            for site in choices.sites(architecture.space()) {
                let of_kind = match site {
                    Site::Inputs(_) => &mut inputs,
                    Site::Operations(_) => &mut operations,
                };
                of_kind.extend(choices.choice(site).zip(cell.of(site)));
            }
        }
        Priors { inputs: Prior::of(inputs), operations: Prior::of(operations) }
    }

    /// How sure each choice is that made a cell of the architecture, in the order of the cell. Where something else than evidence made it, as
    /// the logits of a mixture do, it may be one that the evidence is against.
    pub fn sureness(&self, architecture: &Architecture, cell: &Genotype) -> Vec<Sureness> {
        let space = architecture.space();
        let priors = self.priors(architecture);
        let mut all = Vec::new();
        let made = cell.cells();
        for ((&kind, cell), made) in space.kinds().iter().zip(&self.cells).zip(made) {
            let choices = architecture.cell(kind);
            for (node, genes) in made.nodes.iter().enumerate() {
                let of_node = || space.edges().filter(|edge| edge.node == node);
                let state = of_node().next().map_or(node, |edge| edge.state);
                if architecture.policy() == EdgePolicy::Anneal
                    && let (Some(choice), Some(evidence)) =
                        (&choices.inputs[node], &cell.inputs[node])
                {
                    let kept: Vec<usize> = genes.iter().map(|gene| gene.input).collect();
                    let name = format!("{kind} {state}, inputs");
                    let of = |input: usize| input.to_string();
                    all.push(Sureness::new(name, &kept, of, evidence, choice, priors.inputs));
                }
                for gene in genes {
                    let Some(edge) = of_node().find(|edge| edge.input == gene.input) else {
                        continue;
                    };
                    let choice = &choices.operations[edge.index];
                    let chosen = space.candidates.iter().position(|one| *one == gene.operation);
                    let Some(chosen) = chosen.filter(|_| choice.len() > 1) else { continue };
                    let evidence = &cell.operations[edge.index];
                    let name = format!("{kind} {edge}");
                    let of = |candidate: usize| space.candidates[candidate].to_string();
                    let prior = priors.operations;
                    all.push(Sureness::new(name, &[chosen], of, evidence, choice, prior));
                }
            }
        }
        all
    }
}

impl CellEvidence {
    fn of(&self, site: Site) -> Option<&ChoiceEvidence> {
        match site {
            Site::Inputs(node) => self.inputs[node].as_ref(),
            Site::Operations(edge) => self.operations.get(edge),
        }
    }

    fn of_mut(&mut self, site: Site) -> Option<&mut ChoiceEvidence> {
        match site {
            Site::Inputs(node) => self.inputs[node].as_mut(),
            Site::Operations(edge) => self.operations.get_mut(edge),
        }
    }
}

impl Sureness {
    fn new(
        name: String,
        kept: &[usize],
        of: impl Fn(usize) -> String,
        evidence: &ChoiceEvidence,
        choice: &Choice,
        prior: Prior,
    ) -> Self {
        let sure = evidence.sureness(choice, kept, prior);
        let missing = (sure < SURE).then(|| evidence.missing(choice, kept, prior, SURE)).flatten();
        let chosen = kept.iter().map(|&candidate| of(candidate)).collect::<Vec<_>>().join(",");
        let rival = evidence.runner_up(choice, kept).map(of);
        Self { choice: name, chosen, sure, rival, missing }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{Edge, EdgePolicy, Family, SearchSpace};

    fn fresh(family: Family) -> Architecture {
        Architecture::new(SearchSpace::of(family), EdgePolicy::Anneal)
    }

    #[test]
    fn a_path_is_a_cell_and_everything_has_its_turn() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for family in Family::ALL {
            let mut architecture = fresh(family);
            let candidates = architecture.space().candidates.clone();
            let edge = architecture.space().edges().next().unwrap();
            let gone = Pruned { kind: family.kinds()[0], edge, operation: Some(candidates[1]) };
            Evidence::new(&architecture, 1.0).remove(&mut architecture, &[gone]);
            let count = 420;
            let paths = architecture.draw_paths(count, &mut random);
            let mut drawn = architecture.space().tables(|| 0.0);
            for path in &paths {
                for (drawn, path) in drawn.iter_mut().flatten().zip(path.iter().flatten()) {
                    drawn.iter_mut().zip(path).for_each(|(sum, weight)| *sum += weight);
                }
                for (k, &kind) in architecture.space().kinds().iter().enumerate() {
                    for node in 0..architecture.space().nodes {
                        let choice = &architecture.cell(kind).inputs[node];
                        let inputs = architecture.space().inputs_of(node);
                        let expected = choice.as_ref().map_or(inputs, Choice::keep) as f64;
                        let edges = architecture.space().edges().filter(|edge| edge.node == node);
                        let sum: f64 = edges.flat_map(|edge| &path[k][edge.index]).sum();
                        assert_eq!(sum, expected, "{kind} {node}");
                    }
                }
            }
            assert_eq!(drawn[0][0][1], 0.0, "it was pruned");
            for edge in architecture.space().edges() {
                let alive = architecture.alive_operations(family.kinds()[0], edge.index);
                let counts: Vec<f64> = alive.iter().map(|&c| drawn[0][edge.index][c]).collect();
                let least = counts.iter().copied().fold(f64::INFINITY, f64::min);
                assert!(counts.iter().all(|count| count - least <= 1.0), "{counts:?}");
            }
        }
    }

    /// A network whose loss is a sum over its operations, and the search that must find the least.
    #[test]
    fn the_planted_cell_is_found_and_without_a_difference_nothing_is() {
        for (family, planted) in Family::ALL.into_iter().flat_map(|f| [(f, true), (f, false)]) {
            let mut architecture = fresh(family);
            let mut evidence = Evidence::new(&architecture, f64::INFINITY);
            let mut random = ChaCha8Rng::seed_from_u64(7);
            // input 0 is the worst of a node; candidate 2 is the best of an edge
            let edges: Vec<Edge> = architecture.space().edges().collect();
            let part = |edge: &Edge, candidate: usize| {
                let of_input = if edge.input == 0 { 0.2 } else { 0.0 };
                if candidate == 2 { of_input } else { of_input + 0.2 }
            };
            for _ in 0..4000 {
                let paths = architecture.draw_paths(8, &mut random);
                let noise = (random.next_u32() % 1000) as f64;
                let losses: Vec<f64> = paths
                    .iter()
                    .map(|path| {
                        let parts = path.iter().flat_map(|kind| {
                            edges.iter().flat_map(move |edge| {
                                let weights = kind[edge.index].iter().enumerate();
                                weights.map(move |(c, weight)| weight * part(edge, c))
                            })
                        });
                        let own = (random.next_u32() % 1000) as f64 / 1000.0;
                        noise + own + if planted { parts.sum::<f64>() } else { 0.0 }
                    })
                    .collect();
                evidence.observe_paths(&architecture, &paths, &losses);
                evidence.place_logits(&mut architecture);
                evidence.prune(&mut architecture, 0.1);
            }
            let cell = architecture.derive().genotype;
            let sureness = evidence.sureness(&architecture, &cell);
            if !planted {
                assert!(architecture.sparsity() < 0.05, "{}", architecture.sparsity());
                let sure = sureness.iter().filter(|choice| choice.sure >= SURE).count();
                assert!(2 * sure < sureness.len(), "{sure} of {}", sureness.len());
                continue;
            }
            // of the inputs other than the first none is better than another, so nobody can be sure of them
            let operations = sureness.iter().filter(|choice| !choice.choice.contains("inputs"));
            assert!(operations.into_iter().all(|choice| choice.sure > SURE), "{sureness:?}");
            for (_, cell) in architecture.derive().genotype.kinds() {
                for (node, gene) in cell.genes() {
                    assert_eq!(gene.operation, architecture.space().candidates[2]);
                    let avoidable = architecture.space().inputs_of(node) > 2;
                    let chooses = architecture.cell(CellKind::Normal).inputs[node].is_some();
                    assert!(gene.input > 0 || !(avoidable && chooses));
                }
            }
        }
    }
}
