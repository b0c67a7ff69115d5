//! PR-DARTS (Laube and Zell 2019, "Prune and Replace NAS", arXiv 1906.07528): few operations compete on an edge at a time, and those
//! that are pruned make room for relatives of those that stay.
//!
//! The published search morphs convolutions (kernel, dilation, depth, width) in a large space. Ours is what is left of it among the
//! candidates of a space: a convolution's relatives are those one morph away, or two where the step between them is no candidate, and
//! dilated ones may be reached from separable ones, too.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::anneal::architecture::Architecture;
use crate::anneal::choice::Choice;
use crate::numeric::draw::weighted;
use crate::space::{CellKind, Edge, Operation, SearchSpace};

/// The operations that were alive on every edge at some time, `[kind][edge][candidate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacements {
    tried: Vec<Vec<Vec<bool>>>,
}

/// An operation that takes the place of a pruned one, and the one from which it takes its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The cell kind.
    pub kind: CellKind,
    /// The edge.
    pub edge: Edge,
    /// The new operation.
    pub operation: Operation,
    /// The convolution of the same edge to which it is related.
    pub parent: Operation,
}

impl Operation {
    /// The convolutions one morph away: kernels one size larger or smaller, or one step between dilated and separable.
    fn relatives(self) -> &'static [Self] {
        match self {
            Self::SepConv3x3 => &[Self::SepConv5x5, Self::DilConv3x3],
            Self::SepConv5x5 => &[Self::SepConv3x3, Self::SepConv7x7, Self::DilConv5x5],
            Self::SepConv7x7 => &[Self::SepConv5x5],
            Self::DilConv3x3 => &[Self::DilConv5x5, Self::SepConv3x3],
            Self::DilConv5x5 => &[Self::DilConv3x3, Self::SepConv5x5],
            Self::NorConv1x1 => &[Self::NorConv3x3],
            Self::NorConv3x3 => &[Self::NorConv1x1],
            _ => &[],
        }
    }
}

impl Replacements {
    /// Leaves on every edge the operations with which the published search begins, pools and identity, and one convolution, the
    /// first; all logits 0.
    pub fn begin(architecture: &mut Architecture) -> Self {
        let space = architecture.space().clone();
        let first = space.candidates.iter().position(|candidate| is_convolution(*candidate));
        let alive: Vec<usize> = (0..space.candidates.len())
            .filter(|&c| Some(c) == first || !is_convolution(space.candidates[c]))
            .collect();
        let mut of_edge = vec![false; space.candidates.len()];
        alive.iter().for_each(|&candidate| of_edge[candidate] = true);
        for &kind in space.kinds() {
            for choice in &mut architecture.cell_mut(kind).operations {
                *choice = only(&space, &alive);
            }
        }
        Self { tried: vec![vec![of_edge; space.edge_count()]; space.kinds().len()] }
    }

    /// Prunes the `drop` least probable operations of every edge and puts up to `add` relatives of its convolutions in their place; then
    /// every logit is 0 again. While there is anything to add, the most probable convolution of an edge stays.
    ///
    /// The parent of each is drawn from the remaining convolutions by their probabilities; a relative that the edge has never had comes
    /// before one that it lost.
    pub fn replace(
        &mut self,
        architecture: &mut Architecture,
        drop: usize,
        add: usize,
        random: &mut impl Rng,
    ) -> Vec<Replacement> {
        let space = architecture.space().clone();
        let mut replacements = Vec::new();
        for (k, &kind) in space.kinds().iter().enumerate() {
            for edge in space.edges() {
                let choice = &mut architecture.cell_mut(kind).operations[edge.index];
                let probabilities = choice.probabilities(1.0);
                let mut alive = survivors(&space, choice, drop, add > 0);
                let parents: Vec<usize> = (alive.iter().copied())
                    .filter(|&c| is_convolution(space.candidates[c]))
                    .collect();
                for _ in 0..add {
                    let tried = &mut self.tried[k][edge.index];
                    let Some((parent, child)) =
                        heir(&space, &parents, &alive, &probabilities, tried, random)
                    else {
                        break;
                    };
                    tried[child] = true;
                    alive.push(child);
                    let [operation, parent] = [child, parent].map(|c| space.candidates[c]);
                    replacements.push(Replacement { kind, edge, operation, parent });
                }
                *choice = only(&space, &alive);
            }
        }
        replacements
    }
}

fn is_convolution(operation: Operation) -> bool {
    !operation.relatives().is_empty()
}

/// A choice between some of the candidates.
fn only(space: &SearchSpace, alive: &[usize]) -> Choice {
    let mut choice = Choice::new(space.candidates.len(), 1);
    let others = (0..space.candidates.len()).filter(|candidate| !alive.contains(candidate));
    for candidate in others {
        choice.remove(candidate);
    }
    choice
}

/// What is left of a choice without its `drop` least probable operations; at least half of them, and the most probable convolution if it
/// is protected.
fn survivors(space: &SearchSpace, choice: &Choice, drop: usize, protects: bool) -> Vec<usize> {
    let ranked = choice.ranked();
    let best = ranked.iter().copied().find(|&c| protects && is_convolution(space.candidates[c]));
    let goes = |candidate: &&usize| Some(**candidate) != best;
    let gone: Vec<usize> =
        ranked.iter().rev().filter(goes).take(drop.min(ranked.len() / 2)).copied().collect();
    ranked.into_iter().filter(|candidate| !gone.contains(candidate)).collect()
}

/// A parent and a relative of it that may be added, drawn by the parent's probability; nothing if no parent has one.
fn heir(
    space: &SearchSpace,
    parents: &[usize],
    alive: &[usize],
    probabilities: &[f64],
    tried: &[bool],
    random: &mut impl Rng,
) -> Option<(usize, usize)> {
    let children = |parent: usize, again: bool| -> Vec<usize> {
        let relatives = space.candidates[parent].relatives();
        let known =
            (0..space.candidates.len()).filter(|&c| relatives.contains(&space.candidates[c]));
        known.filter(|c| !alive.contains(c) && tried[*c] == again).collect()
    };
    [false, true].into_iter().find_map(|again| {
        let fertile: Vec<usize> =
            parents.iter().copied().filter(|&p| !children(p, again).is_empty()).collect();
        let weights: Vec<f64> = fertile.iter().map(|&parent| probabilities[parent]).collect();
        let drawn = weighted(&weights, random).map(|k| fertile[k]);
        let parent = drawn.or(fertile.last().copied())?;
        let children = children(parent, again);
        Some((parent, children[random.random_range(0..children.len())]))
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{EdgePolicy, Family};

    fn names(architecture: &Architecture, kind: CellKind, edge: usize) -> Vec<&'static str> {
        let alive = architecture.alive_operations(kind, edge).into_iter();
        alive.map(|c| architecture.space().candidates[c].name()).collect()
    }

    /// Logits that rank the candidates as given, best first.
    fn rank(architecture: &mut Architecture, order: &[&str]) {
        let space = architecture.space().clone();
        let logit = |candidate: &Operation| {
            let place = order.iter().position(|name| *name == candidate.name());
            place.map_or(-9.0, |place| -(place as f64))
        };
        let logits: Vec<f64> = space.candidates.iter().map(logit).collect();
        for &kind in space.kinds() {
            architecture.cell_mut(kind).operations.iter_mut().for_each(|c| c.place(&logits));
        }
    }

    #[test]
    fn relatives_replace_what_is_pruned_and_the_best_convolution_stays() {
        let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Strength);
        let mut replacements = Replacements::begin(&mut architecture);
        let first = ["max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3"];
        assert_eq!(names(&architecture, CellKind::Normal, 5), first);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        // The convolution is last and stays all the same.
        rank(&mut architecture, &first);
        let added = replacements.replace(&mut architecture, 2, 2, &mut random);
        assert_eq!(added.len(), 2 * 14 * 2);
        assert!(added.iter().all(|one| one.parent == Operation::SepConv3x3));
        for kind in [CellKind::Normal, CellKind::Reduction] {
            for edge in 0..14 {
                let expected = ["max_pool_3x3", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3"];
                assert_eq!(names(&architecture, kind, edge), expected);
                let choice = &architecture.cell(kind).operations[edge];
                assert!(choice.alive().all(|c| choice.logits()[c] == 0.0), "starts anew");
            }
        }
        // What the edge never had comes first: dil_conv_5x5 from either of its relatives; then what it lost.
        rank(&mut architecture, &["dil_conv_3x3", "sep_conv_5x5", "max_pool_3x3"]);
        let added = replacements.replace(&mut architecture, 2, 2, &mut random);
        assert!(added.chunks(2).all(|pair| pair[0].operation == Operation::DilConv5x5));
        assert!(added.chunks(2).all(|pair| pair[1].operation == Operation::SepConv3x3));
        // In the end nothing is protected, and one operation per drop goes.
        rank(&mut architecture, &["dil_conv_5x5", "sep_conv_5x5", "dil_conv_3x3"]);
        assert!(replacements.replace(&mut architecture, 2, 0, &mut random).is_empty());
        assert_eq!(names(&architecture, CellKind::Normal, 0), ["sep_conv_5x5", "dil_conv_5x5"]);
        assert!(replacements.replace(&mut architecture, 9, 0, &mut random).is_empty());
        assert_eq!(architecture.alive_count(CellKind::Normal), 14);
    }

    #[test]
    fn spaces_without_relatives_only_prune() {
        let candidates = vec![Operation::SkipConnect, Operation::AvgPool3x3];
        let space = SearchSpace::new(Family::NasBench201, 3, candidates).unwrap();
        let mut architecture = Architecture::new(space, EdgePolicy::Strength);
        let mut replacements = Replacements::begin(&mut architecture);
        assert_eq!(architecture.alive_count(CellKind::Normal), 12);
        let random = &mut ChaCha8Rng::seed_from_u64(1);
        assert!(replacements.replace(&mut architecture, 1, 2, random).is_empty());
        assert_eq!(architecture.alive_count(CellKind::Normal), 6);
        // And all of NAS-Bench-201 has two convolutions.
        let space = SearchSpace::of(Family::NasBench201);
        let mut architecture = Architecture::new(space, EdgePolicy::Strength);
        let mut replacements = Replacements::begin(&mut architecture);
        let added = replacements.replace(&mut architecture, 1, 1, random);
        assert!(added.len() == 6 && added.iter().all(|one| one.parent != one.operation));
    }
}
