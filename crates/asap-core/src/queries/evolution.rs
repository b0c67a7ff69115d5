//! Regularized evolution (Real, Aggarwal, Huang, Le 2019, "Regularized Evolution for Image Classifier Architecture Search",
//! arXiv 1802.01548, Algorithm 1), by which AmoebaNet was found.

use std::collections::VecDeque;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::genotype::{CellGenotype, Genotype};
use crate::space::{Ending, SearchSpace};

/// The constants of [`Evolution`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvolutionSettings {
    /// Cells that are alive (P).
    pub population: usize,
    /// Cells of which the best becomes the parent (S).
    pub tournament: usize,
}

/// P = 10 and S = 3, of NAS-Bench-201's comparison (Dong and Yang 2020, arXiv 2001.00326, section 5); AmoebaNet was found with P = 100 and
/// S = 25 among 20,000 evaluations.
impl Default for EvolutionSettings {
    fn default() -> Self {
        Self { population: 10, tournament: 3 }
    }
}

impl EvolutionSettings {
    /// Checks the constants.
    ///
    /// # Errors
    /// [`Error::Value`] unless both are at least 1 and the tournament is not larger than the population.
    pub fn check(&self) -> Result<(), Error> {
        if self.population == 0 {
            return Err(Error::value("query.population", 0, "at least 1"));
        }
        if !(1..=self.population).contains(&self.tournament) {
            let expected = format!("1 to the population, {}", self.population);
            return Err(Error::value("query.tournament", self.tournament, expected));
        }
        Ok(())
    }
}

/// A population that ages: the first P cells are random; then the best of S cells, drawn with replacement, has a mutated child, which takes
/// the place of the oldest cell, however good that is.
///
/// A mutation changes one thing, as published: the operation of a gene (op mutation) or the state that it reads (hidden state mutation), in a
/// cell, node and gene drawn uniformly. Ours: the new value always differs from the old one, the published identity mutation is left out,
/// since an evaluation here gives the same number again, and the inputs of a node stay different. Where every edge has an operation, there is
/// only the first kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evolution {
    settings: EvolutionSettings,
    /// From the oldest to the youngest.
    alive: VecDeque<(Genotype, f64)>,
}

impl Evolution {
    pub(super) fn new(settings: EvolutionSettings) -> Result<Self, Error> {
        settings.check()?;
        Ok(Self { settings, alive: VecDeque::new() })
    }

    pub(super) fn ask(&self, space: &SearchSpace, random: &mut impl Rng) -> Genotype {
        if self.alive.len() < self.settings.population {
            return Genotype::random(space, random);
        }
        let mut draw = || &self.alive[random.random_range(0..self.alive.len())];
        let mut parent = draw();
        for _ in 1..self.settings.tournament {
            let other = draw();
            if other.1 > parent.1 {
                parent = other;
            }
        }
        mutated(space, &parent.0, random)
    }

    pub(super) fn tell(&mut self, cell: &Genotype, accuracy: f64) {
        self.alive.push_back((cell.clone(), accuracy));
        if self.alive.len() > self.settings.population {
            self.alive.pop_front();
        }
    }
}

/// The same genotype but for one operation, or one input.
fn mutated(space: &SearchSpace, parent: &Genotype, random: &mut impl Rng) -> Genotype {
    let mut cells = parent.cells().to_vec();
    let of = random.random_range(0..cells.len());
    let CellGenotype { nodes, .. } = &mut cells[of];
    // The inputs that a node could read instead of one of its own.
    let others = |node: usize, inputs: &[usize]| -> Vec<usize> {
        (0..space.inputs_of(node)).filter(|state| !inputs.contains(state)).collect()
    };
    let choosable: Vec<(usize, Vec<usize>)> = match space.family.ending() {
        Ending::EveryEdge => Vec::new(),
        Ending::Inputs(_) => {
            let inputs = nodes.iter().map(|genes| genes.iter().map(|gene| gene.input));
            let inputs = inputs.map(Iterator::collect::<Vec<_>>).enumerate();
            let others = inputs.map(|(node, inputs)| (node, others(node, &inputs)));
            others.filter(|(_, others)| !others.is_empty()).collect()
        }
    };
    let of_operation = space.candidates.len() > 1;
    if !choosable.is_empty() && (!of_operation || random.random::<bool>()) {
        let (node, others) = &choosable[random.random_range(0..choosable.len())];
        let genes = &mut nodes[*node];
        let gene = random.random_range(0..genes.len());
        genes[gene].input = others[random.random_range(0..others.len())];
        genes.sort_by_key(|gene| gene.input);
    } else if of_operation {
        let node = random.random_range(0..nodes.len());
        let genes = &mut nodes[node];
        let gene = random.random_range(0..genes.len());
        let gene = &mut genes[gene];
        let others: Vec<_> =
            space.candidates.iter().filter(|&&operation| operation != gene.operation).collect();
        gene.operation = *others[random.random_range(0..others.len())];
    }
    Genotype::new(parent.family(), cells).expect("a mutated cell is sound")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Family;

    #[test]
    fn a_mutation_changes_one_thing_and_stays_in_the_space() {
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let (mut operations, mut inputs) = (0_i32, 0_i32);
            let parent = Genotype::random(&space, &mut random);
            let mut children = HashSet::new();
            for _ in 0..2000 {
                let child = mutated(&space, &parent, &mut random);
                space.one_hot(&child).unwrap();
                let genes = |cell: &Genotype| -> Vec<_> {
                    cell.cells()
                        .iter()
                        .flat_map(|cell| cell.genes())
                        .map(|(_, gene)| gene)
                        .collect()
                };
                let (old, new) = (genes(&parent), genes(&child));
                let different = old.iter().zip(&new).filter(|(old, new)| old != new).count();
                if old.iter().map(|gene| gene.input).eq(new.iter().map(|gene| gene.input)) {
                    assert_eq!(different, 1);
                    operations += 1;
                } else {
                    // A new input may swap the two genes of its node.
                    assert!((1..=2).contains(&different));
                    let multiset = |genes: &[crate::Gene]| {
                        let mut names: Vec<_> = genes.iter().map(|gene| gene.operation).collect();
                        names.sort_unstable();
                        names
                    };
                    assert_eq!(multiset(&old), multiset(&new));
                    inputs += 1;
                }
                children.insert(child);
            }
            match space.family.ending() {
                // Six edges, and each operation but the own one.
                Ending::EveryEdge => {
                    assert_eq!(inputs, 0);
                    assert_eq!(children.len(), 6 * (space.candidates.len() - 1));
                }
                // Half of each; the standard deviation is 22.
                Ending::Inputs(_) => assert!(operations.abs_diff(inputs) < 200, "{operations}"),
            }
        }
    }

    #[test]
    fn the_oldest_dies_however_good_it_is_and_the_best_of_a_tournament_is_the_parent() {
        let space = SearchSpace::of(Family::NasBench201);
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let settings = EvolutionSettings { population: 3, tournament: 3 };
        let mut evolution = Evolution::new(settings).unwrap();
        let cells: Vec<_> = (0..4).map(|_| Genotype::random(&space, &mut random)).collect();
        for (cell, accuracy) in cells.iter().zip([0.9, 0.1, 0.5, 0.2]) {
            evolution.tell(cell, accuracy);
        }
        assert_eq!(
            evolution.alive.iter().map(|(_, accuracy)| *accuracy).collect::<Vec<_>>(),
            [0.1, 0.5, 0.2]
        );
        let near = |a: &Genotype, b: &Genotype| {
            let genes = a.cells()[0].genes().zip(b.cells()[0].genes());
            genes.filter(|(a, b)| a != b).count() == 1
        };
        // Drawn with replacement, the best of three takes part in 19 of 27 tournaments.
        let children: Vec<_> = (0..500).map(|_| evolution.ask(&space, &mut random)).collect();
        let of_best = children.iter().filter(|child| near(child, &cells[2])).count();
        assert!((300..420).contains(&of_best), "{of_best}");
        assert!(!children.iter().any(|child| near(child, &cells[0])), "it is dead");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for (population, tournament) in [(0, 0), (5, 0), (5, 6)] {
            assert!(EvolutionSettings { population, tournament }.check().is_err());
        }
    }
}
