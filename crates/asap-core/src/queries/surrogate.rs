//! A model that predicts the accuracy of a cell: an ensemble of small networks, fitted to the cells evaluated so far.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::genotype::Genotype;
use crate::numeric::adam::{Adam, Moments};
use crate::space::SearchSpace;

/// Networks of the ensemble, each from other weights (PNAS: 5).
const MEMBERS: u64 = 5;
/// Hidden units of each.
const HIDDEN: usize = 32;
/// Steps over all cells.
const STEPS: usize = 200;
const ADAM: Adam = Adam::published(0.01);

/// The positions of ones in the one-hot table of a cell: an operation on an edge each.
pub(super) fn features(space: &SearchSpace, cell: &Genotype) -> Vec<usize> {
    let operations = space.candidates.len();
    let mut ones = Vec::new();
    for (kind, cell) in cell.cells().iter().enumerate() {
        for (node, gene) in cell.genes() {
            let edge = kind * space.edge_count() + space.edge_index(node, gene.input);
            let operation = space.candidates.iter().position(|one| *one == gene.operation);
            ones.extend(operation.map(|operation| edge * operations + operation));
        }
    }
    ones
}

/// Number of features of the cells of a space.
fn width(space: &SearchSpace) -> usize {
    space.kinds().len() * space.edge_count() * space.candidates.len()
}

/// An ensemble; a prediction is the mean over its members.
pub(super) struct Surrogate {
    members: Vec<Network>,
    mean: f64,
    deviation: f64,
}

impl Surrogate {
    /// Fits the ensemble to cells with their accuracies, by the mean absolute error.
    pub(super) fn fit(space: &SearchSpace, evaluated: &[(Genotype, f64)], seed: u64) -> Self {
        let count = evaluated.len().max(1) as f64;
        let mean = evaluated.iter().map(|(_, accuracy)| accuracy).sum::<f64>() / count;
        let squares = evaluated.iter().map(|(_, accuracy)| (accuracy - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt().max(1e-9);
        let examples: Vec<(Vec<usize>, f64)> = evaluated
            .iter()
            .map(|(cell, accuracy)| (features(space, cell), (accuracy - mean) / deviation))
            .collect();
        let member = |member| {
            let mut network = Network::new(width(space), seed, member);
            network.fit(&examples);
            network
        };
        Self { members: (0..MEMBERS).map(member).collect(), mean, deviation }
    }

    /// The predicted accuracy of a cell with these features.
    pub(super) fn predict(&self, features: &[usize]) -> f64 {
        let sum: f64 = self.members.iter().map(|member| member.forward(features).1).sum();
        self.mean + self.deviation * sum / self.members.len() as f64
    }
}

/// One layer of rectified units on one-hot features, and a linear output.
struct Network {
    /// For each feature its weight for each unit, then the biases of the units, their weights for the output, and its bias.
    parameters: Vec<f64>,
    width: usize,
}

impl Network {
    fn new(width: usize, seed: u64, member: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(member);
        let count = (width + 2) * HIDDEN + 1;
        let scale = 1.0 / (HIDDEN as f64).sqrt();
        let parameters = (0..count).map(|_| scale * (2.0 * random.random::<f64>() - 1.0)).collect();
        Self { parameters, width }
    }

    /// The hidden units and the output.
    fn forward(&self, features: &[usize]) -> ([f64; HIDDEN], f64) {
        let row = |index: usize| &self.parameters[index * HIDDEN..(index + 1) * HIDDEN];
        let mut units = [0.0; HIDDEN];
        units.copy_from_slice(row(self.width));
        for &feature in features {
            units.iter_mut().zip(row(feature)).for_each(|(unit, weight)| *unit += weight);
        }
        units.iter_mut().for_each(|unit| *unit = unit.max(0.0));
        let out = units.iter().zip(row(self.width + 1)).map(|(unit, weight)| unit * weight);
        (units, out.sum::<f64>() + self.parameters[(self.width + 2) * HIDDEN])
    }

    fn fit(&mut self, examples: &[(Vec<usize>, f64)]) {
        let mut moments = Moments::new(self.parameters.len());
        for _ in 0..STEPS {
            let gradient = self.gradient(examples);
            moments.step(&ADAM, &mut self.parameters, &gradient, |_| true);
        }
    }

    /// The gradient of the mean absolute error.
    fn gradient(&self, examples: &[(Vec<usize>, f64)]) -> Vec<f64> {
        let mut gradient = vec![0.0; self.parameters.len()];
        let (biases, weights) = (self.width * HIDDEN, (self.width + 1) * HIDDEN);
        for (features, wanted) in examples {
            let (units, out) = self.forward(features);
            let d = (out - wanted).signum() / examples.len() as f64;
            gradient[weights + HIDDEN] += d;
            for (unit, value) in units.into_iter().enumerate() {
                gradient[weights + unit] += d * value;
                if value > 0.0 {
                    let d = d * self.parameters[weights + unit];
                    gradient[biases + unit] += d;
                    features.iter().for_each(|feature| gradient[feature * HIDDEN + unit] += d);
                }
            }
        }
        gradient
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let network = Network::new(6, 1, 0);
        let examples = vec![(vec![0, 3, 5], 2.0), (vec![1, 3], -1.0), (vec![], 0.5)];
        let error = |network: &Network| {
            let error =
                examples.iter().map(|(ones, wanted)| (network.forward(ones).1 - wanted).abs());
            error.sum::<f64>() / 3.0
        };
        for (k, found) in network.gradient(&examples).into_iter().enumerate() {
            let at = |step: f64| {
                let mut parameters = network.parameters.clone();
                parameters[k] += step;
                error(&Network { parameters, width: 6 })
            };
            let expected = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((found - expected).abs() < 1e-5, "{k}: {found} {expected}");
        }
    }

    #[test]
    fn it_orders_cells_that_it_has_not_seen() {
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let truth = |cell: &Genotype| 0.9 - 0.02 * cell.skip_count() as f64;
            let mut draw = |count: usize| -> Vec<(Genotype, f64)> {
                let cells = (0..count).map(|_| Genotype::random(&space, &mut random));
                cells.map(|cell| (cell.clone(), truth(&cell))).collect()
            };
            let surrogate = Surrogate::fit(&space, &draw(200), 2);
            let (mut right, mut pairs) = (0, 0);
            for pair in draw(400).chunks(2) {
                let [one, other] = [0, 1].map(|i| surrogate.predict(&features(&space, &pair[i].0)));
                if pair[0].1 != pair[1].1 {
                    pairs += 1;
                    right += usize::from((one > other) == (pair[0].1 > pair[1].1));
                }
            }
            assert!(10 * right > 8 * pairs, "{family}: {right} of {pairs}");
        }
    }
}
