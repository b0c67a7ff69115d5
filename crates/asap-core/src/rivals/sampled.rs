//! Sampled architectures: Gumbel noise on the logits (SNAS), and random genotypes.

use rand::{Rng, RngExt};

use crate::anneal::architecture::Architecture;
use crate::anneal::choice::Choice;
use crate::genotype::{Gene, Genotype};
use crate::space::{Ending, MixingTables, SearchSpace};

impl Architecture {
    /// A copy whose operations' logits have noise added.
    ///
    /// With Gumbel noise, see [`gumbel_noise`], the copy is a sample as SNAS draws it (Xie et al. 2019): its
    /// [`Architecture::mixing_weights`] are the concrete distribution `softmax((alpha + G) / T)` over the operations
    /// remaining, and its [`Architecture::logit_gradients`] are the gradients for the logits of the original, which
    /// [`Architecture::step_logits`] follows. Pruned operations and decided choices keep a weight of exactly 0 or 1.
    ///
    /// ```
    /// use asap_core::{Adam, Architecture, EdgePolicy, SearchSpace};
    ///
    /// let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Strength);
    /// let noise = architecture.space().tables(|| 0.3);
    /// let sample = architecture.perturbed(&noise);
    /// // run the network with sample.mixing_tables(1.0); it gives the gradient for them
    /// let mixing_gradients = architecture.space().tables(|| 0.1);
    /// let gradients = sample.logit_gradients(&mixing_gradients, 1.0);
    /// architecture.step_logits(&gradients, &Adam::default());
    /// ```
    ///
    /// # Panics
    /// If the noise has a different shape.
    #[must_use]
    pub fn perturbed(&self, noise: &MixingTables) -> Self {
        let mut copy = self.clone();
        let kinds = self.space().kinds();
        assert_eq!(noise.len(), kinds.len(), "one table of noise per kind");
        for (&kind, noise) in kinds.iter().zip(noise) {
            let operations = &mut copy.cell_mut(kind).operations;
            assert_eq!(noise.len(), operations.len(), "one list of noise per edge");
            for (choice, noise) in operations.iter_mut().zip(noise) {
                *choice = choice.perturbed(noise);
            }
        }
        copy
    }
}

impl Choice {
    /// A copy with noise added to the logits of the remaining candidates; a decided choice stays as it is.
    ///
    /// # Panics
    /// If `noise` does not have one entry per candidate.
    #[must_use]
    pub fn perturbed(&self, noise: &[f64]) -> Self {
        let mut copy = self.clone();
        copy.descend(noise, -1.0);
        copy
    }
}

/// A draw from the standard Gumbel distribution, `-ln(-ln u)`, from a uniform draw `u` from 0 to 1.
///
/// Finite at the ends too, where `u` counts as the nearest number inside.
pub fn gumbel_noise(u: f64) -> f64 {
    -(-u.clamp(f64::MIN_POSITIVE, 1.0 - f64::EPSILON / 2.0).ln()).ln()
}

impl Genotype {
    /// A genotype drawn uniformly from a space: the inputs that each node keeps, and for each an operation.
    pub fn random(space: &SearchSpace, rng: &mut impl Rng) -> Self {
        space.assemble(|node| {
            let states = space.inputs_of(node);
            let inputs = match space.family.ending() {
                Ending::EveryEdge => (0..states).collect(),
                Ending::Inputs(count) => random_inputs(states, count, rng),
            };
            let gene = |input| {
                let operation = space.candidates[rng.random_range(0..space.candidates.len())];
                Gene { operation, input }
            };
            inputs.into_iter().map(gene).collect()
        })
    }
}

/// Different states in ascending order.
fn random_inputs(states: usize, count: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut left: Vec<_> = (0..states).collect();
    let mut taken: Vec<_> = (0..count)
        .map(|_| {
            let index = rng.random_range(0..left.len());
            left.rotate_left(index);
            left.remove(0)
        })
        .collect();
    taken.sort_unstable();
    taken
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Family;

    #[test]
    fn sampled_weights_are_the_concrete_distribution_over_those_left() {
        let mut choice = Choice::new(4, 1);
        choice.descend(&[-0.3, 0.2, -0.9, -0.1], 1.0);
        choice.remove(1);
        let noise = [0.5, 9.0, -0.4, 1.5];
        let energy = |logit: f64, noise: f64| ((logit + noise) / 0.7_f64).exp();
        let energies = [energy(0.3, 0.5), 0.0, energy(0.9, -0.4), energy(0.1, 1.5)];
        let sum: f64 = energies.iter().sum();
        for (weight, energy) in choice.perturbed(&noise).weights(0.7).iter().zip(energies) {
            assert!((weight - energy / sum).abs() < 1e-15);
        }
        choice.remove(0);
        choice.remove(3);
        assert_eq!(choice.perturbed(&noise).weights(0.7), [0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn the_largest_sample_is_a_candidate_with_its_probability() {
        let mut choice = Choice::new(3, 1);
        choice.descend(&[-1.0, 0.0, 0.5], 1.0);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut wins = [0.0; 3];
        for _ in 0..20_000 {
            let noise = [0, 1, 2].map(|_| gumbel_noise(rng.random()));
            wins[choice.perturbed(&noise).best()] += 1.0 / 20_000.0;
        }
        for (wins, phi) in wins.iter().zip(choice.probabilities(1.0)) {
            assert!((wins - phi).abs() < 0.015, "{wins} {phi}");
        }
        assert!([0.0, 1.0].map(gumbel_noise).iter().all(|noise| noise.is_finite()));
    }

    #[test]
    fn random_genotypes_cover_the_space() {
        for (family, kept) in [(Family::Darts, 2.0), (Family::NasBench201, f64::INFINITY)] {
            let space = SearchSpace::of(family);
            let mut rng = ChaCha8Rng::seed_from_u64(2);
            let mut seen = space.tables(|| 0.0);
            for _ in 0..3000 {
                let genotype = Genotype::random(&space, &mut rng);
                for (_, cell) in genotype.kinds() {
                    let ascending =
                        |genes: &Vec<Gene>| genes.is_sorted_by(|a, b| a.input < b.input);
                    assert!(cell.nodes.iter().all(ascending));
                }
                let weights = space.one_hot(&genotype).unwrap();
                let seen = seen.iter_mut().flatten().flatten();
                seen.zip(weights.iter().flatten().flatten()).for_each(|(seen, w)| *seen += w);
            }
            for cell in &seen {
                for (edge, seen) in space.edges().zip(cell) {
                    let share = (kept / edge.state as f64).min(1.0);
                    let expected = 3000.0 * share / space.candidates.len() as f64;
                    // four standard deviations
                    let slack = 4.0 * expected.sqrt();
                    assert!(seen.iter().all(|s| (s - expected).abs() < slack), "{edge:?} {seen:?}");
                }
            }
        }
        let space = SearchSpace::default();
        let again = |seed| Genotype::random(&space, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(again(7), again(7));
        assert_ne!(again(7), again(8));
    }
}
