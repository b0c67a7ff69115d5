//! Sampled architectures: Gumbel noise on the logits (SNAS), random genotypes, and a genotype as mixing weights.

use rand::{Rng, RngExt};

use crate::{Architecture, CellGenotype, CellKind, Choice, Error, Gene, Genotype, SearchSpace};

impl Architecture {
    /// A copy whose operations' logits have noise added, `[normal, reduction][edge][candidate]`.
    ///
    /// With Gumbel noise, see [`gumbel_noise`], the copy is a sample as SNAS draws it (Xie et al. 2019): its
    /// [`Architecture::mixing_weights`] are the concrete distribution `softmax((alpha + G) / T)` over the operations
    /// left, and its [`Architecture::logit_gradients`] are the gradients for the logits of the original, which
    /// [`Architecture::step_logits`] follows. What is pruned or decided stays as it is: a weight of exactly 0 or 1.
    ///
    /// ```
    /// use asap_core::{Adam, Architecture, EdgePolicy, SearchSpace};
    ///
    /// let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Strength);
    /// let noise = [0, 1].map(|_| vec![vec![0.3; 7]; 14]);
    /// let sample = architecture.perturbed(&noise);
    /// // run the network with sample.mixing_weights(kind, 1.0); it gives the gradient for them
    /// let mixing_gradients = [0, 1].map(|_| vec![vec![0.1; 7]; 14]);
    /// let gradients = sample.logit_gradients(&mixing_gradients, 1.0);
    /// architecture.step_logits(&gradients, &Adam::default());
    /// ```
    ///
    /// # Panics
    /// If the noise has another shape.
    #[must_use]
    pub fn perturbed(&self, noise: &[Vec<Vec<f64>>; 2]) -> Self {
        let mut copy = self.clone();
        for (kind, noise) in CellKind::ALL.into_iter().zip(noise) {
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
    /// A copy with noise added to the logits of the candidates left; a decided choice stays as it is.
    ///
    /// # Panics
    /// If `noise` has not one entry per candidate.
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
    /// A cell pair drawn uniformly: two different inputs for each node, and for each an operation of the space.
    pub fn random(space: &SearchSpace, rng: &mut impl Rng) -> Self {
        let [normal, reduce] = CellKind::ALL.map(|_| {
            let nodes = (0..space.nodes).map(|node| {
                let inputs = space.inputs_of(node);
                let first = rng.random_range(0..inputs);
                let second = (first + rng.random_range(1..inputs)) % inputs;
                let mut pair = [first, second];
                pair.sort_unstable();
                pair.map(|input| {
                    let operation = space.candidates[rng.random_range(0..space.candidates.len())];
                    Gene { operation, input }
                })
            });
            CellGenotype { nodes: nodes.collect(), concat: space.concat() }
        });
        Self { normal, reduce }
    }
}

impl SearchSpace {
    /// The states that make a cell's output in a search: every node.
    pub(crate) fn concat(&self) -> Vec<usize> {
        (2..2 + self.nodes).collect()
    }

    /// The mixing weights that make the search network compute a genotype, `[normal, reduction][edge][candidate]`.
    ///
    /// 1 for each operation of the genotype and exactly 0 elsewhere; 2 where a node has the same operation on the same
    /// input twice.
    ///
    /// # Errors
    /// [`Error::Cell`] if the genotype has another number of nodes, an operation that is no candidate, or an output of
    /// anything but all nodes in order.
    pub fn one_hot(&self, genotype: &Genotype) -> Result<[Vec<Vec<f64>>; 2], Error> {
        let of_kind = |kind: CellKind| {
            let cell = genotype.cell(kind);
            let fault = |part: &str, reason| {
                Err(Error::Cell { place: format!("{kind} cell{part}"), reason })
            };
            if cell.nodes.len() != self.nodes {
                let found = cell.nodes.len();
                let reason = format!("{found} nodes; the search space has {}", self.nodes);
                return fault("", reason);
            }
            if cell.concat != self.concat() {
                let (found, expected) = (&cell.concat, self.concat());
                let reason = format!("{found:?}; the search space joins all nodes, {expected:?}");
                return fault(", concat", reason);
            }
            let mut weights = vec![vec![0.0; self.candidates.len()]; self.edge_count()];
            for (node, gene) in cell.genes() {
                let Some(candidate) = self.candidates.iter().position(|&c| c == gene.operation)
                else {
                    let names: Vec<_> = self.candidates.iter().map(|c| c.name()).collect();
                    let reason = format!(
                        "{} is no candidate of the search space; expected one of: {}",
                        gene.operation,
                        names.join(", ")
                    );
                    return fault(&format!(", node {node}"), reason);
                };
                weights[self.edge_index(node, gene.input)][candidate] += 1.0;
            }
            Ok(weights)
        };
        Ok([of_kind(CellKind::Normal)?, of_kind(CellKind::Reduction)?])
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{Operation, PublishedCell};

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
    fn random_genotypes_are_legal_and_cover_the_space() {
        let space = SearchSpace::default();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut seen = [0, 1].map(|_| vec![vec![0.0; 7]; 14]);
        for _ in 0..3000 {
            let genotype = Genotype::random(&space, &mut rng);
            for kind in CellKind::ALL {
                let cell = genotype.cell(kind);
                CellGenotype::new(cell.nodes.clone(), cell.concat.clone()).unwrap();
                assert!(cell.nodes.iter().all(|[a, b]| a.input < b.input));
                let weights = &space.one_hot(&genotype).unwrap()[kind as usize];
                for (seen, weight) in
                    seen[kind as usize].iter_mut().flatten().zip(weights.iter().flatten())
                {
                    *seen += weight;
                }
            }
        }
        for (edge, seen) in space.edges().zip(&seen[1]) {
            let expected = 3000.0 * 2.0 / (2.0 + edge.node as f64) / 7.0;
            // four standard deviations
            let slack = 4.0 * expected.sqrt();
            assert!(seen.iter().all(|s| (s - expected).abs() < slack), "{edge:?} {seen:?}");
        }
        let again = |seed| Genotype::random(&space, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(again(7), again(7));
        assert_ne!(again(7), again(8));
    }

    #[test]
    fn a_genotype_is_ones_on_its_operations_and_zeros_elsewhere() {
        let space = SearchSpace::default();
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let weights = space.one_hot(&asap).unwrap();
        for kind in CellKind::ALL {
            let mut found = vec![Vec::new(); 4];
            for edge in space.edges() {
                for (candidate, &weight) in weights[kind as usize][edge.index].iter().enumerate() {
                    let operation = space.candidates[candidate];
                    assert!(weight == 0.0 || weight == 1.0);
                    if weight == 1.0 {
                        found[edge.node].push(Gene { operation, input: edge.input });
                    }
                }
            }
            let mut expected = asap.cell(kind).nodes.clone();
            expected.iter_mut().for_each(|pair| pair.sort_by_key(|gene| gene.input));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_genotype_outside_the_space_is_refused() {
        let space = SearchSpace::default();
        let refused = |space: &SearchSpace, genotype: &Genotype| {
            space.one_hot(genotype).unwrap_err().to_string()
        };
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let small = SearchSpace::new(3, space.candidates.clone()).unwrap();
        assert_eq!(refused(&small, &asap), "normal cell: 4 nodes; the search space has 3");
        let skips = SearchSpace::new(4, vec![Operation::SkipConnect]).unwrap();
        assert_eq!(
            refused(&skips, &asap),
            "normal cell, node 0: sep_conv_3x3 is no candidate of the search space; expected one of: skip_connect"
        );
        let mut other = asap.clone();
        other.reduce.concat = vec![3, 4, 5];
        assert!(refused(&space, &other).starts_with("reduction cell, concat: [3, 4, 5]; "));
        let mut double = asap;
        double.normal.nodes[0] = [double.normal.nodes[0][0]; 2];
        let weights = space.one_hot(&double).unwrap();
        assert_eq!(weights[0][..2].concat().iter().sum::<f64>(), 2.0);
    }
}
