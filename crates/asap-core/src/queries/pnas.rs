//! Progressive search (Liu et al. 2018, "Progressive Neural Architecture Search", arXiv 1712.00559): from cells in which one node is chosen to
//! whole ones, guided by a model that predicts accuracies.

use std::collections::{HashSet, VecDeque};

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::surrogate::{Surrogate, features};
use crate::genotype::{Gene, Genotype};
use crate::space::{Ending, Operation, SearchSpace};

/// The most extensions among which the model chooses; more are drawn at random.
const EXTENSIONS: usize = 4096;

/// Every cell has its first nodes chosen, and the others are skip connections from the first states. All cells with one node are evaluated (or as
/// many as there is time for); then a model is fitted to everything evaluated so far, each cell of the level is extended by every choice of
/// the next node, and those that the model likes best are evaluated in turn.
///
/// As published: the levels, the extension of all cells of the level before, and an ensemble of 5 models that are fitted by the absolute error.
/// Ours: a node takes the place of a block; both kinds of cell grow together; of more than 4,096 extensions as many are drawn; the evaluations are
/// divided evenly among the levels, where the paper takes 136 and then 256 for each; models are perceptrons on one-hot cells in place
/// of those on mean embeddings; a cell without its last nodes has skip connections in their place, so that every cell is one of the space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pnas {
    seed: u64,
    /// Evaluations that are left.
    left: usize,
    /// Nodes that are chosen in the cells of this level.
    level: usize,
    waiting: VecDeque<Genotype>,
    /// The cells of this level that were evaluated.
    beam: Vec<Genotype>,
    evaluated: Vec<(Genotype, f64)>,
}

impl Pnas {
    pub(super) fn new(
        space: &SearchSpace,
        evaluations: usize,
        seed: u64,
        random: &mut impl Rng,
    ) -> Self {
        let start = Self {
            seed,
            left: evaluations,
            level: 0,
            waiting: VecDeque::new(),
            beam: vec![unchosen(space)],
            evaluated: Vec::new(),
        };
        start.next_level(space, random)
    }

    pub(super) fn ask(&self, space: &SearchSpace, random: &mut impl Rng) -> Genotype {
        self.waiting.front().cloned().unwrap_or_else(|| Genotype::random(space, random))
    }

    pub(super) fn tell(
        &mut self,
        space: &SearchSpace,
        cell: &Genotype,
        accuracy: f64,
        random: &mut impl Rng,
    ) {
        self.evaluated.push((cell.clone(), accuracy));
        self.left = self.left.saturating_sub(1);
        if self.waiting.pop_front().is_some() {
            self.beam.push(cell.clone());
        }
        if self.waiting.is_empty() && self.left > 0 {
            *self = self.clone().next_level(space, random);
        }
    }

    /// Fills the queue with extensions of the cells of this level; after the last one with random cells.
    fn next_level(mut self, space: &SearchSpace, random: &mut impl Rng) -> Self {
        if self.level == space.nodes {
            self.waiting.push_back(Genotype::random(space, random));
            return self;
        }
        let known: HashSet<&Genotype> = self.evaluated.iter().map(|(cell, _)| cell).collect();
        let mut extended = extensions(space, &self.beam, self.level, random);
        extended.retain(|cell| !known.contains(cell));
        if self.evaluated.is_empty() {
            extended.shuffle(random);
        } else {
            let model = Surrogate::fit(space, &self.evaluated, self.seed);
            let mut rated: Vec<(f64, Genotype)> = extended
                .into_iter()
                .map(|cell| (model.predict(&features(space, &cell)), cell))
                .collect();
            rated.sort_by(|(one, _), (other, _)| other.total_cmp(one));
            extended = rated.into_iter().map(|(_, cell)| cell).collect();
        }
        let quota = self.left.div_ceil(space.nodes - self.level);
        extended.truncate(quota);
        self.level += 1;
        self.beam.clear();
        self.waiting = extended.into();
        // Everything was evaluated before, as in a space of few cells.
        if self.waiting.is_empty() {
            self.beam = self.evaluated.iter().map(|(cell, _)| cell.clone()).collect();
            return self.next_level(space, random);
        }
        self
    }
}

/// The cell in which nothing is chosen yet.
fn unchosen(space: &SearchSpace) -> Genotype {
    let skip = Operation::SkipConnect;
    let operation = if space.candidates.contains(&skip) { skip } else { space.candidates[0] };
    let node = |node: usize| {
        let inputs = match space.family.ending() {
            Ending::EveryEdge => space.inputs_of(node),
            Ending::Inputs(count) => count,
        };
        (0..inputs).map(|input| Gene { operation, input }).collect()
    };
    space.assemble(node)
}

/// Each cell with every choice of a node, in all kinds of cell; drawn at random, in any order and each once, if there are too many.
fn extensions(
    space: &SearchSpace,
    cells: &[Genotype],
    node: usize,
    random: &mut impl Rng,
) -> Vec<Genotype> {
    let choices = choices(space, node);
    let kinds = space.kinds().len() as u32;
    let of_cell = choices.len().saturating_pow(kinds);
    let extended = |cell: &Genotype, mut number: usize| {
        let mut cells = cell.cells().to_vec();
        for cell in &mut cells {
            cell.nodes[node].clone_from(&choices[number % choices.len()]);
            number /= choices.len();
        }
        Genotype::new(space.family, cells).expect("an extended cell is sound")
    };
    if cells.len().saturating_mul(of_cell) <= EXTENSIONS {
        let all = cells.iter().flat_map(|cell| (0..of_cell).map(move |number| (cell, number)));
        let mut seen = HashSet::new();
        return all
            .map(|(cell, number)| extended(cell, number))
            .filter(|cell| seen.insert(cell.clone()))
            .collect();
    }
    let mut seen = HashSet::new();
    (0..EXTENSIONS)
        .map(|_| {
            let cell = &cells[random.random_range(0..cells.len())];
            extended(cell, random.random_range(0..of_cell))
        })
        .filter(|cell| seen.insert(cell.clone()))
        .collect()
}

/// Everything that a node can be.
fn choices(space: &SearchSpace, node: usize) -> Vec<Vec<Gene>> {
    let states = space.inputs_of(node);
    let inputs: Vec<Vec<usize>> = match space.family.ending() {
        Ending::EveryEdge => vec![(0..states).collect()],
        Ending::Inputs(count) => subsets(states, count),
    };
    let mut choices = Vec::new();
    for inputs in inputs {
        let mut begun: Vec<Vec<Gene>> = vec![Vec::new()];
        for input in inputs {
            let longer = begun.iter().flat_map(|genes| {
                let gene = |&operation: &Operation| Gene { operation, input };
                space.candidates.iter().map(move |one| [genes.as_slice(), &[gene(one)]].concat())
            });
            begun = longer.collect();
        }
        choices.extend(begun);
    }
    choices
}

/// The subsets of so many of the first `states` numbers, in ascending order.
fn subsets(states: usize, count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let with_last = |last: usize| {
        subsets(last, count - 1).into_iter().map(move |mut some| {
            some.push(last);
            some
        })
    };
    (count - 1..states).flat_map(with_last).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Family;

    #[test]
    fn a_node_can_be_every_combination_of_inputs_and_operations() {
        let darts = SearchSpace::default();
        // Two of four states, and seven operations for each.
        assert_eq!(choices(&darts, 2).len(), 6 * 49);
        let bench = SearchSpace::of(Family::NasBench201);
        let operations = bench.candidates.len();
        assert_eq!(choices(&bench, 2).len(), operations.pow(3));
        for space in [darts, bench] {
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let cells = extensions(&space, &[unchosen(&space)], 0, &mut random);
            let different: HashSet<_> = cells.iter().collect();
            assert_eq!(different.len(), cells.len());
            cells.iter().for_each(|cell| drop(space.one_hot(cell).unwrap()));
        }
    }

    #[test]
    fn levels_share_the_evaluations_and_grow_by_a_node() {
        let space = SearchSpace::of(Family::NasBench201);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut pnas = Pnas::new(&space, 60, 1, &mut random);
        let mut levels = Vec::new();
        for _ in 0..60 {
            let cell = pnas.ask(&space, &mut random);
            levels.push(pnas.level);
            let free = unchosen(&space);
            let rest = |cell: &Genotype| cell.cells()[0].nodes[pnas.level..].to_vec();
            assert_eq!(rest(&cell), rest(&free), "later nodes are not chosen yet");
            let accuracy = 0.9 - 0.1 * cell.skip_count() as f64;
            pnas.tell(&space, &cell, accuracy, &mut random);
        }
        let count = |level| levels.iter().filter(|one| **one == level).count();
        // There is one cell for each operation of the first edge.
        let first = space.candidates.len();
        let rest = 60 - first;
        assert_eq!([1, 2, 3].map(count), [first, rest.div_ceil(2), rest / 2]);
    }
}
