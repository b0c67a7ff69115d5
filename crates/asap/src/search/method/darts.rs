//! DARTS (Liu et al. 2019): T = 1, nothing is pruned, the operations with the largest alphas are kept at the end.

use asap_core::{Adam, MixingTables, Pruned};
use asap_data::Batch;

use super::{Clock, Method, Step};
use crate::search::learner::Learner;
use crate::settings::config::Config;
use asap_net::pass::Mode;
use asap_net::steps::NonFinite;

/// The temperature at which phi is a plain softmax.
pub(super) const TEMPERATURE: f64 = 1.0;
/// Length of the step of the finite difference, relative to the gradient (DARTS `_hessian_vector_product`).
const DIFFERENCE: f64 = 0.01;
/// The normal cell has collapsed when it has this many skip connections (DARTS+, criterion 1).
const SKIPS: usize = 2;

/// DARTS and its variants.
pub(super) struct Darts {
    adam: Adam,
    second_order: bool,
    early_stopping: bool,
    /// Epochs in which alpha does not move.
    warmup: usize,
}

impl Darts {
    /// The gradient for alpha at the current weights.
    pub(super) fn first_order(adam: Adam) -> Self {
        Self { adam, second_order: false, early_stopping: false, warmup: 0 }
    }

    /// The gradient for alpha at the weights after one more step.
    pub(super) fn second_order(adam: Adam) -> Self {
        Self { second_order: true, ..Self::first_order(adam) }
    }

    /// DARTS+ (Liang et al. 2019): ends when the normal cell has two skip connections.
    pub(super) fn early_stopping(adam: Adam) -> Self {
        Self { early_stopping: true, ..Self::first_order(adam) }
    }

    /// PC-DARTS (Xu et al. 2020): on a part of the channels, with edge weights that are learned along with alpha, neither of
    /// which moves in the first epochs. The network does the first ([`asap_core::SearchSpace::partial`]), the architecture
    /// the second ([`asap_core::EdgePolicy::Normalize`]).
    pub(super) fn partial(config: &Config, adam: Adam) -> Self {
        let warmup = config.pc_darts.warmup * config.search.epochs as f64;
        Self { warmup: warmup.round() as usize, ..Self::first_order(adam) }
    }
}

impl Method for Darts {
    fn moves(&self, clock: &Clock) -> bool {
        clock.epoch >= self.warmup
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let gradients = if self.second_order {
            unrolled_gradients(learner, step, valid)?
        } else {
            learner.mixing_gradients(valid, &learner.mixing(TEMPERATURE))?.1
        };
        learner.architecture.step(&gradients, TEMPERATURE, &self.adam);
        Ok(Vec::new())
    }

    fn is_over(&self, learner: &Learner) -> bool {
        if !self.early_stopping {
            return false;
        }
        // Before alpha has moved the first candidate of every edge would be the choice.
        let logits = learner.architecture.operation_logits();
        let moved = logits.iter().flatten().flatten().any(|logit| *logit != 0.0);
        moved && learner.architecture.derive().genotype.cells()[0].skip_count() >= SKIPS
    }
}

/// The gradient of `L_valid(w - xi dL_train/dw, alpha)` for the mixing weights (DARTS, eqs. 6 to 8).
///
/// xi is the learning rate of the weights, and the look-ahead step has the momentum and weight decay of the real one.
/// The product with the Hessian is a finite difference between weights moved slightly in both directions.
fn unrolled_gradients(
    learner: &Learner,
    step: &Step<'_>,
    valid: &Batch,
) -> Result<MixingTables, NonFinite> {
    let mixing = learner.mixing(TEMPERATURE);
    let gradients =
        |parameters: &_, batch, mode| learner.differentiate(parameters, batch, &mixing, mode);
    let weights = &learner.parameters;
    let (_, _, descent) = gradients(weights, step.train, Mode::Weights)?;
    let ahead = step.sgd.look_ahead(weights, descent, step.learning_rate);
    let (_, mut direct, direction) = gradients(&ahead, valid, Mode::Weights)?;
    let epsilon = DIFFERENCE / asap_net::optimizer::global_norm(&direction);
    let (_, plus, _) =
        gradients(&weights.moved(&direction, epsilon), step.train, Mode::Architecture)?;
    let (_, minus, _) =
        gradients(&weights.moved(&direction, -epsilon), step.train, Mode::Architecture)?;
    for ((direct, plus), minus) in direct.iter_mut().zip(&plus).zip(&minus) {
        for ((direct, plus), minus) in direct.iter_mut().zip(plus).zip(minus) {
            for ((direct, plus), minus) in direct.iter_mut().zip(plus).zip(minus) {
                *direct -= step.learning_rate * (plus - minus) / (2.0 * epsilon);
            }
        }
    }
    Ok(direct)
}

#[cfg(test)]
mod tests {
    use asap_core::{EdgePolicy, Family, NetworkShape, Operation, SearchSpace, Stem};
    use asap_net::engine::Engine;
    use asap_net::optimizer::Sgd;
    use burn::tensor::Device;

    use super::*;

    fn batch(seed: usize) -> Batch {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
        let labels = (0..24).map(|i| ((i + seed) % 3) as u16).collect();
        Batch { images: (0..24 * 64).map(value).collect(), labels, shape: [24, 8, 8, 1] }
    }

    /// Against the bilevel objective itself, differentiated numerically (DARTS, eq. 5).
    #[test]
    fn the_second_order_gradient_is_that_of_the_bilevel_objective() {
        let shape = NetworkShape {
            channels: 4,
            cells: 2,
            height: 8,
            width: 8,
            in_channels: 1,
            classes: 3,
            stem: Stem::Small,
        };
        let candidates = vec![Operation::SkipConnect, Operation::SepConv3x3];
        let space = SearchSpace::new(Family::Darts, 1, candidates).unwrap();
        let (policy, device) = (EdgePolicy::Strength, Device::flex());
        let engine = Engine::new(&device);
        let mut learner = Learner::new(&shape, &space, policy, engine, &device, 4).unwrap();
        let (train, valid) = (batch(1), batch(2));
        let sgd = Sgd { gradient_clip: f64::INFINITY, ..Sgd::default() };
        // Some momentum, which is part of the look-ahead step.
        for _ in 0..5 {
            learner.weight_step(&train, &learner.mixing(1.0), &sgd, 0.05).unwrap();
        }
        let learning_rate = 0.1;
        let clock = Clock { epoch: 0, step: 0, steps: 1, alpha_steps: 0 };
        let step = Step { clock, train: &train, sgd: &sgd, learning_rate };
        let second = unrolled_gradients(&learner, &step, &valid).unwrap();
        let first = learner.mixing_gradients(&valid, &learner.mixing(1.0)).unwrap().1;

        let objective = |mixing: &MixingTables| {
            let gradients = |parameters: &_, batch, mode| {
                learner.differentiate(parameters, batch, mixing, mode).unwrap()
            };
            let (_, _, descent) = gradients(&learner.parameters, &train, Mode::Weights);
            let ahead = sgd.look_ahead(&learner.parameters, descent, learning_rate);
            let (score, _, _) = gradients(&ahead, &valid, Mode::Architecture);
            score.loss / score.images as f64
        };
        const H: f64 = 2e-3;
        let (mut second_error, mut first_error, mut size) = (0.0, 0.0, 0.0);
        // In the last cell, a reduction: no ReLU follows whose kinks would spoil the numeric derivative.
        for (edge, candidate) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let moved = |by: f64| {
                let mut mixing = learner.mixing(1.0);
                mixing[1][edge][candidate] += by;
                objective(&mixing)
            };
            let numeric = (moved(H) - moved(-H)) / (2.0 * H);
            second_error += (second[1][edge][candidate] - numeric).powi(2);
            first_error += (first[1][edge][candidate] - numeric).powi(2);
            size += numeric.powi(2);
        }
        assert!(second_error.sqrt() < 0.05 * size.sqrt(), "{second_error} {size}");
        assert!(first_error > 10.0 * second_error, "the second order matters here: {first_error}");
    }
}
