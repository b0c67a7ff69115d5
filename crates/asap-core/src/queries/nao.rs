//! Neural architecture optimization (NAO, Luo, Tian, Qin, Chen and Liu 2018, arXiv 1808.07233): cells become vectors, in whose space an
//! accuracy can be climbed.

mod backward;
mod layout;
mod model;
mod sequence;

use std::collections::{HashSet, VecDeque};

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::genotype::Genotype;
use crate::space::SearchSpace;

pub use model::NaoModel;

/// Fractions of the evaluations for the random cells of the beginning, and for each later round: 600, then 200 and 200 of 1,000.
const FIRST: f64 = 0.6;
const ROUND: f64 = 0.2;

/// Rounds of evaluations, after each of which the model learns from all cells so far and improves the best ones.
///
/// As published: the encoder (an LSTM whose normalised outputs, and their normalised mean, represent a cell), the predictor on that mean, the
/// decoder with attention, the joint loss, the swapped inputs of nodes as further examples, steps of growing length along the predictor's
/// gradient until there are enough new cells, and the rounds. Ours: an input and its operation are one token in place of two, an LSTM of
/// 16 units in place of 32 to 96 and fewer passes over fewer cells, a node's inputs that differ, and random cells where steps give
/// too few new ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nao {
    evaluations: usize,
    waiting: VecDeque<Genotype>,
    evaluated: Vec<(Genotype, f64)>,
    model: NaoModel,
}

impl Nao {
    pub(super) fn new(
        space: &SearchSpace,
        evaluations: usize,
        seed: u64,
        random: &mut impl Rng,
    ) -> Self {
        let first = ((FIRST * evaluations as f64).round() as usize).max(1);
        let mut waiting: VecDeque<Genotype> = VecDeque::new();
        fill(&mut waiting, &[], first, space, random);
        let (evaluated, model) = (Vec::new(), NaoModel::new(space, seed));
        Self { evaluations, waiting, evaluated, model }
    }

    pub(super) fn ask(&self) -> Genotype {
        self.waiting.front().expect("a round follows the last").clone()
    }

    pub(super) fn tell(
        &mut self,
        space: &SearchSpace,
        cell: &Genotype,
        accuracy: f64,
        random: &mut impl Rng,
    ) {
        self.evaluated.push((cell.clone(), accuracy));
        self.waiting.pop_front();
        if !self.waiting.is_empty() {
            return;
        }
        let count = ((ROUND * self.evaluations as f64).round() as usize).max(1);
        // What follows the last evaluation is not asked for.
        if self.evaluated.len() < self.evaluations {
            self.model.fit(space, &self.evaluated, random);
            self.waiting = self.model.propose(space, &self.evaluated, count).into();
        }
        fill(&mut self.waiting, &self.evaluated, count, space, random);
    }
}

/// Adds random cells until there are `count`, new ones as long as they are easily found.
fn fill(
    waiting: &mut VecDeque<Genotype>,
    evaluated: &[(Genotype, f64)],
    count: usize,
    space: &SearchSpace,
    random: &mut impl Rng,
) {
    const TRIES: usize = 20;
    let mut known: HashSet<Genotype> = evaluated.iter().map(|(cell, _)| cell.clone()).collect();
    known.extend(waiting.iter().cloned());
    while waiting.len() < count {
        let mut cell = Genotype::random(space, random);
        for _ in 0..TRIES {
            if !known.contains(&cell) {
                break;
            }
            cell = Genotype::random(space, random);
        }
        known.insert(cell.clone());
        waiting.push_back(cell);
    }
}
