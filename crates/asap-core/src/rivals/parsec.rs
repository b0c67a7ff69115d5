//! PARSEC (Casale, Gordon and Fusi 2019, "Probabilistic Neural Architecture Search", arXiv 1902.05116): cells are drawn from a
//! distribution over cells, and the distribution moves towards those under which the validation data is likely.

use rand::Rng;

use crate::anneal::architecture::Architecture;
use crate::anneal::choice::Choice;
use crate::anneal::gradient::LogitGradients;
use crate::numeric::draw::weighted;
use crate::space::{MixingTables, SearchSpace};

/// A path drawn from the probabilities of an architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledPath {
    /// Mixing weights of 1 and 0.
    pub mixing: MixingTables,
    /// The gradient of the logarithm of its probability for the logits.
    ln_gradient: LogitGradients,
}

impl Architecture {
    /// Draws a path: for each node its inputs, one after the other and each at most once, and an operation for each, with their
    /// probabilities at T = 1.
    pub fn sample_path(&self, random: &mut impl Rng) -> SampledPath {
        let mut mixing = self.space().tables(|| 0.0);
        let mut ln_gradient = LogitGradients::zeros(self.space());
        for (k, &kind) in self.space().kinds().iter().enumerate() {
            let cell = self.cell(kind);
            for (node, choice) in cell.inputs.iter().enumerate() {
                let inputs: Vec<usize> = match choice {
                    Some(choice) => {
                        draw(choice, choice.keep(), &mut ln_gradient.inputs[k][node], random)
                    }
                    None => (0..self.space().inputs_of(node)).collect(),
                };
                for input in inputs {
                    let edge = self.space().edge_index(node, input);
                    let operations = &mut ln_gradient.operations[k][edge];
                    for operation in draw(&cell.operations[edge], 1, operations, random) {
                        mixing[k][edge][operation] = 1.0;
                    }
                }
            }
        }
        SampledPath { mixing, ln_gradient }
    }
}

/// Draws candidates without replacement, and adds the gradient of the logarithm of their probability.
fn draw(
    choice: &Choice,
    count: usize,
    ln_gradient: &mut [f64],
    random: &mut impl Rng,
) -> Vec<usize> {
    let mut rest = choice.probabilities(1.0);
    let mut drawn = Vec::new();
    for _ in 0..count {
        let sum: f64 = rest.iter().sum();
        let Some(candidate) = weighted(&rest, random) else { break };
        ln_gradient.iter_mut().zip(&rest).for_each(|(gradient, p)| *gradient -= p / sum);
        ln_gradient[candidate] += 1.0;
        rest[candidate] = 0.0;
        drawn.push(candidate);
    }
    drawn
}

/// The gradient to descend along for the logits, by importance-weighted Monte Carlo: each path counts by the likelihood of a batch under
/// it, relative to that of the others, `- sum_k w_k d ln p(path_k)` with `w = softmax(-losses)`. The losses are sums over the images.
///
/// # Panics
/// If there is not one loss per path, or a path is of another space.
pub fn importance_gradient(
    space: &SearchSpace,
    paths: &[SampledPath],
    losses: &[f64],
) -> LogitGradients {
    assert_eq!(paths.len(), losses.len(), "one loss per path");
    let smallest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let likelihoods = losses.iter().map(|loss| (smallest - loss).exp());
    let sum: f64 = likelihoods.clone().sum();
    let mut gradient = LogitGradients::zeros(space);
    for (path, likelihood) in paths.iter().zip(likelihoods) {
        gradient.add(&path.ln_gradient, -likelihood / sum);
    }
    gradient
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{Adam, EdgePolicy, Family};

    /// An architecture whose probabilities differ.
    fn uneven(family: Family) -> Architecture {
        let space = SearchSpace::new(family, 3, family.candidates()[..3].to_vec()).unwrap();
        let mut architecture = Architecture::new(space, EdgePolicy::Anneal);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..5 {
            let path = architecture.sample_path(&mut random);
            let gradient = importance_gradient(architecture.space(), &[path], &[1.0]);
            architecture.descend_logits(&gradient, 0.3);
        }
        architecture
    }

    #[test]
    fn the_mean_of_the_gradient_over_samples_is_0_and_paths_come_as_often_as_they_should() {
        for family in Family::ALL {
            let architecture = uneven(family);
            let mut random = ChaCha8Rng::seed_from_u64(2);
            let count = 4000;
            let mut mean = LogitGradients::zeros(architecture.space());
            let mut seen = architecture.space().tables(|| 0.0);
            for _ in 0..count {
                let path = architecture.sample_path(&mut random);
                mean.add(&path.ln_gradient, 1.0 / f64::from(count));
                for (seen, weight) in
                    seen.iter_mut().flatten().flatten().zip(path.mixing.iter().flatten().flatten())
                {
                    *seen += weight;
                }
                let cell = architecture.space().genotype(&path.mixing);
                architecture.space().one_hot(&cell).unwrap();
            }
            // Four standard errors of a mean of numbers up to 1.
            let of_inputs = mean.inputs.iter().flatten().flatten();
            for mean in mean.operations.iter().flatten().flatten().chain(of_inputs) {
                assert!(mean.abs() < 4.0 / f64::from(count).sqrt(), "{mean}");
            }
            // The first edge is always chosen, since the first node keeps both of its inputs.
            let first = &architecture.cell(family.kinds()[0]).operations[0];
            for (seen, p) in seen[0][0].iter().zip(first.probabilities(1.0)) {
                assert!((seen / f64::from(count) - p).abs() < 0.04, "{seen} {p}");
            }
        }
    }

    #[test]
    fn a_planted_operation_becomes_the_likeliest_everywhere() {
        for family in Family::ALL {
            let mut architecture = Architecture::new(SearchSpace::of(family), EdgePolicy::Anneal);
            let mut random = ChaCha8Rng::seed_from_u64(3);
            let adam = Adam { lr: 0.05, ..Adam::default() };
            for _ in 0..400 {
                let paths: Vec<_> =
                    (0..16).map(|_| architecture.sample_path(&mut random)).collect();
                let loss = |path: &SampledPath| {
                    let planted = path.mixing.iter().flatten().map(|edge| edge[2]);
                    -2.0 * planted.sum::<f64>()
                };
                let losses: Vec<_> = paths.iter().map(loss).collect();
                let gradient = importance_gradient(architecture.space(), &paths, &losses);
                architecture.step_logits(&gradient, &adam);
            }
            for (_, cell) in architecture.derive().genotype.kinds() {
                let planted = architecture.space().candidates[2];
                let right = cell.genes().filter(|(_, gene)| gene.operation == planted).count();
                assert!(10 * right >= 9 * cell.genes().count(), "{family}: {right}");
            }
        }
    }
}
