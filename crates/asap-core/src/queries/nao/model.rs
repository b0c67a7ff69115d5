//! Encoder, predictor and decoder.

use std::collections::HashSet;
use std::ops::Range;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::layout::{HIDDEN, Layout, UNITS, parameter_count};
use super::sequence::{Token, genotype, shuffled, spots, tokens};
use crate::error::Error;
use crate::genotype::Genotype;
use crate::numeric::adam::{Adam, Moments};
use crate::numeric::lstm::{LstmStep, lstm_step};
use crate::numeric::vector::{add_scaled, dot, largest, ln_softmax};
use crate::space::SearchSpace;

/// Weight of the predictor's squared error; the rest is that of the decoder's cross entropy (the published scripts).
pub(super) const OF_ACCURACY: f64 = 0.8;
/// Passes over the cells, cells of a step, and the rate of Adam (published: 1000, 100 and 0.001, for 1,000 cells).
const EPOCHS: usize = 150;
const BATCH: usize = 20;
const ADAM: Adam = Adam::published(0.01);
/// The fraction of the cells that are improved, the best (100 of 1,000), and the longest step along the gradient (the published scripts).
const IMPROVED: f64 = 0.1;
const LONGEST: usize = 50;

/// A model of cells: an encoder to vectors, a predictor of their accuracy, and a decoder back to cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct NaoModel {
    states: usize,
    operations: usize,
    pub(super) parameters: Vec<f64>,
    #[serde(flatten)]
    moments: Moments,
}

/// An encoded cell.
pub(super) struct Encoded {
    pub(super) steps: Vec<LstmStep>,
    pub(super) outputs: Vec<Vec<f64>>,
    pub(super) norms: Vec<f64>,
    pub(super) vector: Vec<f64>,
    pub(super) norm: f64,
}

/// A step of the decoder.
pub(super) struct Decoded {
    pub(super) lstm: LstmStep,
    /// The token that was read; none at the start.
    pub(super) read: Option<Token>,
    /// The shares of the encoder's outputs.
    pub(super) attention: Vec<f64>,
    /// Their sum, and the state.
    pub(super) joined: Vec<f64>,
    pub(super) out: Vec<f64>,
    /// None if there is no choice of the input.
    pub(super) inputs: Option<Vec<f64>>,
    pub(super) operations: Vec<f64>,
    pub(super) chosen: Token,
}

impl NaoModel {
    /// A fresh model; weights uniform in -0.1 to 0.1.
    pub fn new(space: &SearchSpace, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (states, operations) = (space.states(), space.candidates.len());
        let count = parameter_count(states, operations);
        Self {
            states,
            operations,
            parameters: (0..count).map(|_| 0.2 * random.random::<f64>() - 0.1).collect(),
            moments: Moments::new(count),
        }
    }

    /// Learns from cells with their accuracies, on from what it knows.
    pub fn fit(
        &mut self,
        space: &SearchSpace,
        evaluated: &[(Genotype, f64)],
        random: &mut impl Rng,
    ) {
        let accuracies = || evaluated.iter().map(|(_, accuracy)| *accuracy);
        let lowest = accuracies().fold(f64::INFINITY, f64::min);
        let range = accuracies().fold(f64::NEG_INFINITY, f64::max) - lowest;
        let target = |accuracy: f64| if range > 0.0 { (accuracy - lowest) / range } else { 0.5 };
        let mut order: Vec<usize> = (0..evaluated.len()).collect();
        for _ in 0..EPOCHS {
            order.shuffle(random);
            for batch in order.chunks(BATCH) {
                let mut gradient = vec![0.0; self.parameters.len()];
                for &index in batch {
                    let (cell, accuracy) = &evaluated[index];
                    let tokens = shuffled(tokens(space, cell), space, random);
                    let of_cell = self.gradient(space, &tokens, target(*accuracy));
                    add_scaled(&mut gradient, &of_cell, 1.0 / batch.len() as f64);
                }
                self.moments.step(&ADAM, &mut self.parameters, &gradient, |_| true);
            }
        }
    }

    /// Up to `count` cells that were not evaluated: the best ones, moved along the gradient of the predicted accuracy by steps that grow
    /// until what they decode to is new.
    pub fn propose(
        &self,
        space: &SearchSpace,
        evaluated: &[(Genotype, f64)],
        count: usize,
    ) -> Vec<Genotype> {
        let mut known: HashSet<Genotype> = evaluated.iter().map(|(cell, _)| cell.clone()).collect();
        let mut best: Vec<&(Genotype, f64)> = evaluated.iter().collect();
        best.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        best.truncate((IMPROVED * evaluated.len() as f64).ceil() as usize);
        let seeds: Vec<Encoded> =
            best.iter().map(|(cell, _)| self.encode(&tokens(space, cell))).collect();
        let mut proposed = Vec::new();
        for length in 1..=LONGEST {
            for seed in &seeds {
                if proposed.len() == count {
                    return proposed;
                }
                let cell = self.improved(space, seed, length as f64);
                if known.insert(cell.clone()) {
                    proposed.push(cell);
                }
            }
        }
        proposed
    }

    /// The predicted accuracy of a cell, from 0 for the least accurate known to 1 for the most.
    pub fn predict(&self, space: &SearchSpace, cell: &Genotype) -> f64 {
        self.accuracy(&self.encode(&tokens(space, cell)).vector).1
    }

    pub(super) fn at(&self, part: Range<usize>) -> &[f64] {
        &self.parameters[part]
    }

    pub(super) fn layout(&self) -> Layout {
        Layout { states: self.states, operations: self.operations }
    }

    pub(super) fn embedding(&self, token: Option<Token>) -> Vec<f64> {
        let layout = self.layout();
        match token {
            None => self.at(layout.start()).to_vec(),
            Some([input, operation]) => {
                [self.at(layout.of_input(input)), self.at(layout.of_operation(operation))].concat()
            }
        }
    }

    pub(super) fn encode(&self, tokens: &[Token]) -> Encoded {
        let mut state = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
        let weights = self.at(self.layout().encoder());
        let (mut steps, mut outputs, mut norms) = (Vec::new(), Vec::new(), Vec::new());
        for &token in tokens {
            let step = lstm_step(weights, &self.embedding(Some(token)), &state.0, &state.1);
            state = (step.hidden.clone(), step.cell.clone());
            let (output, norm) = normalised(&step.hidden);
            steps.push(step);
            outputs.push(output);
            norms.push(norm);
        }
        let (vector, norm) = normalised(&mean(&outputs));
        Encoded { steps, outputs, norms, vector, norm }
    }

    /// The units of the predictor, and the predicted accuracy.
    pub(super) fn accuracy(&self, vector: &[f64]) -> (Vec<f64>, f64) {
        let layout = self.layout();
        let rows = self.at(layout.units()).chunks_exact(HIDDEN + 1);
        let unit = |row: &[f64]| (dot(&row[..HIDDEN], vector) + row[HIDDEN]).max(0.0);
        let units: Vec<f64> = rows.map(unit).collect();
        let last = self.at(layout.accuracy());
        let score = dot(&last[..UNITS], &units) + last[UNITS];
        (units, 1.0 / (1.0 + (-score).exp()))
    }

    /// Decodes a cell; `choose` gets the place and the logarithms of the probabilities.
    pub(super) fn decode(
        &self,
        space: &SearchSpace,
        outputs: &[Vec<f64>],
        vector: &[f64],
        mut choose: impl FnMut(usize, Option<&[f64]>, &[f64]) -> Token,
    ) -> Vec<Decoded> {
        let layout = self.layout();
        let weights = self.at(layout.decoder());
        let mut state = (vector.to_vec(), vector.to_vec());
        let mut read = None;
        let mut decoded: Vec<Decoded> = Vec::new();
        for (place, spot) in spots(space).into_iter().enumerate() {
            let lstm = lstm_step(weights, &self.embedding(read), &state.0, &state.1);
            state = (lstm.hidden.clone(), lstm.cell.clone());
            let scores: Vec<f64> = outputs.iter().map(|output| dot(output, &lstm.hidden)).collect();
            let attention: Vec<f64> = ln_softmax(&scores).iter().map(|ln| ln.exp()).collect();
            let mut joined = vec![0.0; HIDDEN];
            for (output, share) in outputs.iter().zip(&attention) {
                add_scaled(&mut joined, output, *share);
            }
            joined.extend(&lstm.hidden);
            let rows = self.at(layout.joined()).chunks_exact(2 * HIDDEN);
            let out: Vec<f64> = rows.map(|row| dot(row, &joined).tanh()).collect();
            let scores = |head: Range<usize>| -> Vec<f64> {
                self.at(head).chunks_exact(HIDDEN).map(|row| dot(row, &out)).collect()
            };
            let inputs = spot.input.is_none().then(|| {
                let mut scores = scores(layout.inputs());
                scores[space.inputs_of(spot.node)..].fill(f64::NEG_INFINITY);
                let taken = decoded.iter().rev().take(spot.turn);
                taken.for_each(|step| scores[step.chosen[0]] = f64::NEG_INFINITY);
                ln_softmax(&scores)
            });
            let operations = ln_softmax(&scores(layout.operations()));
            let chosen = choose(place, inputs.as_deref(), &operations);
            let step = Decoded { lstm, read, attention, joined, out, inputs, operations, chosen };
            read = Some(chosen);
            decoded.push(step);
        }
        decoded
    }

    /// The likeliest cell at the end of a step along the gradient of the predicted accuracy.
    fn improved(&self, space: &SearchSpace, seed: &Encoded, length: f64) -> Genotype {
        let mut upward = vec![0.0; HIDDEN];
        let (units, accuracy) = self.accuracy(&seed.vector);
        self.accuracy_backward(
            &seed.vector,
            &units,
            accuracy * (1.0 - accuracy),
            &mut upward,
            &mut vec![0.0; self.parameters.len()],
        );
        let of_mean = through_norm(&upward, &seed.vector, seed.norm);
        let count = seed.outputs.len() as f64;
        let moved: Vec<Vec<f64>> = (seed.outputs.iter())
            .map(|output| {
                let mut output = output.clone();
                add_scaled(&mut output, &of_mean, length / count);
                normalised(&output).0
            })
            .collect();
        let vector = normalised(&mean(&moved)).0;
        let spots = spots(space);
        let steps = self.decode(space, &moved, &vector, |place, inputs, operations| {
            [inputs.map_or(spots[place].input.unwrap_or(0), largest), largest(operations)]
        });
        genotype(space, &steps.iter().map(|step| step.chosen).collect::<Vec<_>>())
    }
}

fn mean(vectors: &[Vec<f64>]) -> Vec<f64> {
    let mut mean = vec![0.0; HIDDEN];
    vectors.iter().for_each(|vector| add_scaled(&mut mean, vector, 1.0 / vectors.len() as f64));
    mean
}

/// A vector of length 1, and its length before.
fn normalised(vector: &[f64]) -> (Vec<f64>, f64) {
    let norm = dot(vector, vector).sqrt().max(1e-12);
    (vector.iter().map(|value| value / norm).collect(), norm)
}

/// The gradient before a normalisation from that after it.
pub(super) fn through_norm(d: &[f64], unit: &[f64], norm: f64) -> Vec<f64> {
    let along = dot(d, unit);
    d.iter().zip(unit).map(|(d, unit)| (d - along * unit) / norm).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    states: usize,
    operations: usize,
    parameters: Vec<f64>,
    first_moment: Vec<f64>,
    second_moment: Vec<f64>,
    steps: u64,
}

impl TryFrom<Raw> for NaoModel {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self, Error> {
        let Raw { states, operations, parameters, first_moment, second_moment, steps } = raw;
        let count = parameter_count(states.min(1024), operations.min(1024));
        if parameters.len() != count {
            let expected = format!("{count} numbers for this space");
            let found = format!("{} numbers", parameters.len());
            return Err(Error::value("parameters", found, expected));
        }
        let moments = Moments::load(first_moment, second_moment, steps, count)?;
        Ok(Self { states, operations, parameters, moments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        for family in Family::ALL {
            let space = SearchSpace::new(family, 2, family.candidates()[..3].to_vec()).unwrap();
            let mut model = NaoModel::new(&space, 1);
            model.parameters.iter_mut().for_each(|parameter| *parameter *= 4.0);
            let cell = Genotype::random(&space, &mut ChaCha8Rng::seed_from_u64(2));
            let tokens = tokens(&space, &cell);
            let loss = |model: &NaoModel| {
                let encoded = model.encode(&tokens);
                let error = (model.accuracy(&encoded.vector).1 - 0.9).powi(2);
                let choose = |place: usize, _: Option<&[f64]>, _: &[f64]| tokens[place];
                let decoded = model.decode(&space, &encoded.outputs, &encoded.vector, choose);
                let of_step = |step: &Decoded| {
                    let of_input = step.inputs.as_ref().map_or(0.0, |ln| ln[step.chosen[0]]);
                    -of_input - step.operations[step.chosen[1]]
                };
                let entropy = decoded.iter().map(of_step).sum::<f64>() / decoded.len() as f64;
                OF_ACCURACY * error + (1.0 - OF_ACCURACY) * entropy
            };
            let gradient = model.gradient(&space, &tokens, 0.9);
            for part in 0..10 {
                let range = model.layout().part(part);
                let largest = gradient[range].iter().map(|g| g.abs()).fold(0.0, f64::max);
                let idle = part == 8 && family == Family::NasBench201;
                assert!((largest > 1e-5) != idle, "{family}, part {part}: {largest}");
            }
            for k in (0..gradient.len()).step_by(7) {
                let at = |by: f64| {
                    let mut other = model.clone();
                    other.parameters[k] += by;
                    loss(&other)
                };
                let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((gradient[k] - expected).abs() < 1e-7, "{k}: {} {expected}", gradient[k]);
            }
        }
    }

    /// Cells are the better the fewer skip connections they have.
    #[test]
    fn it_orders_cells_returns_them_from_their_vectors_and_improves_them() {
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let truth = |cell: &Genotype| 0.9 - 0.02 * cell.skip_count() as f64;
            let mut draw = |count: usize| -> Vec<(Genotype, f64)> {
                let cells = (0..count).map(|_| Genotype::random(&space, &mut random));
                cells.map(|cell| (cell.clone(), truth(&cell))).collect()
            };
            let (known, pairs) = (draw(100), draw(400));
            let mut model = NaoModel::new(&space, 2);
            model.fit(&space, &known, &mut ChaCha8Rng::seed_from_u64(3));
            let (mut right, mut different) = (0, 0);
            for pair in pairs.chunks(2).filter(|pair| pair[0].1 != pair[1].1) {
                let [one, other] = [0, 1].map(|i| model.predict(&space, &pair[i].0));
                different += 1;
                right += usize::from((one > other) == (pair[0].1 > pair[1].1));
            }
            assert!(10 * right > 7 * different, "{family}: {right} of {different}");
            let mean = |cells: &[f64]| cells.iter().sum::<f64>() / cells.len() as f64;
            let proposed = model.propose(&space, &known, 20);
            assert!(proposed.len() > 5, "{family}: {}", proposed.len());
            assert!(proposed.iter().all(|cell| known.iter().all(|(old, _)| old != cell)));
            let [new, old]: [Vec<f64>; 2] = [
                proposed.iter().map(truth).collect(),
                known.iter().map(|(_, accuracy)| *accuracy).collect(),
            ];
            assert!(mean(&new) > mean(&old) + 0.01, "{family}: {} {}", mean(&new), mean(&old));
            let copy = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
            assert_eq!(model, copy);
        }
    }

    #[test]
    fn sequences_are_cells_and_back() {
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            let mut random = ChaCha8Rng::seed_from_u64(5);
            for _ in 0..50 {
                let cell = Genotype::random(&space, &mut random);
                let sequence = shuffled(tokens(&space, &cell), &space, &mut random);
                assert_eq!(sequence.len(), spots(&space).len());
                assert_eq!(genotype(&space, &sequence), cell);
            }
        }
    }
}
