//! A step on the weights of any network, and its evaluation.

use std::fmt;

use asap_data::Batch;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::device::is_host;
use crate::engine::Mixing;
use crate::evaluation::predicted;
use crate::network::Network;
use crate::optimizer::Sgd;
use crate::parameters::Parameters;
use crate::pass::{DropPath, Mode, Pass};
use crate::team::{Joint, Numbers, Received, Team, on_worker};

/// The largest number of images that go through a network together in inference, and the number of parts of smaller
/// batches. Neither may depend on the number of threads, otherwise the last digit of a logit would.
const TOGETHER: usize = 4;
const TASKS: usize = 8;

/// Loss and number of correct predictions of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Sum of the images' cross entropies.
    pub loss: f64,
    /// Images whose largest logit is the label's.
    pub correct: usize,
    /// Images.
    pub images: usize,
}

/// The score of a step on the weights. It may still be on the device, which can begin the next step while nobody waits for it.
#[derive(Clone, Debug)]
pub enum StepScore {
    /// On the host; every number was finite.
    Read(Score),
    /// On the device.
    Unread {
        /// Sum of the losses, correct predictions, sum of the auxiliary head's losses, norm of the gradients: `[4]`.
        numbers: Box<Tensor<1>>,
        /// Images of the batch.
        images: usize,
        /// The configuration key to lower if a number is not finite.
        key: &'static str,
    },
}

impl StepScore {
    /// The score on the host.
    ///
    /// # Errors
    /// If a number is not finite; the weights have taken the step all the same.
    pub fn read(self) -> Result<Score, NonFinite> {
        Self::read_all(vec![self])
    }

    /// The sum of some scores, read from the device together.
    ///
    /// # Errors
    /// Those of [`StepScore::read`], for the first of them.
    pub fn read_all(scores: Vec<Self>) -> Result<Score, NonFinite> {
        let (mut sum, mut unread, mut of) = (Score::default(), Vec::new(), Vec::new());
        for score in scores {
            match score {
                Self::Read(score) => sum.add(score),
                Self::Unread { numbers, images, key } => {
                    unread.push(*numbers);
                    of.push((images, key));
                }
            }
        }
        if unread.is_empty() {
            return Ok(sum);
        }
        let numbers: Vec<f32> = Tensor::cat(unread, 0).into_data().iter::<f32>().collect();
        for (numbers, (images, key)) in numbers.chunks_exact(4).zip(of) {
            let [loss, correct, auxiliary, norm] =
                std::array::from_fn(|which| f64::from(numbers[which]));
            check(loss, auxiliary, key)?;
            finite(NORM, norm, key)?;
            sum.add(Score { loss, correct: correct as usize, images });
        }
        Ok(sum)
    }
}

const NORM: &str = "the norm of the weights' gradients";

fn check(loss: f64, auxiliary: f64, key: &'static str) -> Result<(), NonFinite> {
    finite("the loss of the step on the weights", loss, key)?;
    finite("the loss of the auxiliary head", auxiliary, key)
}

/// A number that must be finite but is not.
#[derive(Clone, Debug, PartialEq)]
pub struct NonFinite {
    /// The number's description.
    pub what: String,
    /// NaN or an infinity.
    pub value: f64,
    /// The configuration key to lower.
    pub key: &'static str,
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}; a smaller {} usually helps", self.what, self.value, self.key)
    }
}

impl std::error::Error for NonFinite {}

/// The settings of a descent step on the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// The optimizer.
    pub sgd: Sgd,
    /// Its rate.
    pub learning_rate: f64,
    /// The configuration key of the rate, for errors.
    pub key: &'static str,
    /// Operations that drop out.
    pub drop_path: Option<DropPath>,
    /// Fraction of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Weight of the auxiliary head's loss.
    pub auxiliary_weight: f64,
}

impl Descent {
    /// Descent on the plain cross entropy, as in a search.
    pub fn plain(sgd: Sgd, learning_rate: f64) -> Self {
        Self {
            sgd,
            learning_rate,
            key: "weights.lr",
            drop_path: None,
            label_smoothing: 0.0,
            auxiliary_weight: 0.0,
        }
    }
}

/// A descent step on the weights of any network; the score is that of its classifier. `mixing` is as in
/// [`Network::forward`].
///
/// The host waits for the score on the CPU, and where several workers join theirs; other devices go on without it.
///
/// # Errors
/// If the loss or a gradient is not finite; nothing is changed then. Of a score that is still on the device, [`StepScore::read`] tells.
pub fn descend(
    network: &Network,
    parameters: &mut Parameters,
    mixing: &[Mixing],
    batch: &Batch,
    descent: &Descent,
    team: &Team,
) -> Result<StepScore, NonFinite> {
    on_worker(|| {
        if is_host(parameters.device()) || team.parts() > 1 {
            descend_together(network, parameters, mixing, batch, descent, team).map(StepScore::Read)
        } else {
            Ok(descend_unread(network, parameters, mixing, batch, descent))
        }
    })
}

fn descend_together(
    network: &Network,
    parameters: &mut Parameters,
    mixing: &[Mixing],
    batch: &Batch,
    descent: &Descent,
    team: &Team,
) -> Result<Score, NonFinite> {
    let Descent { sgd, learning_rate, key, drop_path, .. } = *descent;
    let ((score, auxiliary), (gradients, statistics)) = team.join(batch, |part, first| {
        let drop_path = drop_path.map(|drop_path| DropPath { first, ..drop_path });
        let pass = Pass::new(parameters, Mode::Weights)
            .with_drop_path(drop_path)
            .with_whole_batch(team.whole_batch());
        let Losses { total, main, auxiliary } =
            losses(network, &pass, images(part, parameters.device()), mixing, part, descent);
        let scores = (main.score(part), auxiliary.map(|losses| losses.score(part)));
        let scores = (scores.0, scores.1.unwrap_or_default());
        (scores, pass.finish(&mut total.backward()))
    });
    check(score.loss, auxiliary.loss, key)?;
    let norm = sgd.step(parameters, gradients, learning_rate);
    finite(NORM, norm, key)?;
    statistics.apply(parameters);
    Ok(score)
}

fn descend_unread(
    network: &Network,
    parameters: &mut Parameters,
    mixing: &[Mixing],
    batch: &Batch,
    descent: &Descent,
) -> StepScore {
    let Descent { sgd, learning_rate, key, drop_path, .. } = *descent;
    let pass = Pass::new(parameters, Mode::Weights).with_drop_path(drop_path);
    let input = images(batch, parameters.device());
    let Losses { total, main, auxiliary } = losses(network, &pass, input, mixing, batch, descent);
    let [loss, correct] = main.unread();
    let auxiliary = auxiliary.map(|losses| losses.unread()[0].clone());
    let auxiliary = auxiliary.unwrap_or_else(|| loss.zeros_like());
    let (gradients, statistics) = pass.finish(&mut total.backward());
    let norm = sgd.step_unread(parameters, gradients, learning_rate);
    statistics.apply(parameters);
    let numbers = Box::new(Tensor::cat(vec![loss, correct, auxiliary, norm], 0));
    StepScore::Unread { numbers, images: batch.labels.len(), key }
}

/// The losses of a step on the weights.
struct Losses {
    /// What is descended on.
    total: Tensor<1>,
    main: Predictions,
    auxiliary: Option<Predictions>,
}

fn losses(
    network: &Network,
    pass: &Pass<'_>,
    images: Tensor<4>,
    mixing: &[Mixing],
    batch: &Batch,
    descent: &Descent,
) -> Losses {
    let logits = network.forward(pass, images, mixing);
    let main = Predictions::new(logits.main, batch);
    let mut total = main.loss(descent.label_smoothing);
    let auxiliary = logits.auxiliary.map(|logits| Predictions::new(logits, batch));
    if let Some(auxiliary) = &auxiliary {
        total = total + auxiliary.loss(descent.label_smoothing) * descent.auxiliary_weight;
    }
    Losses { total, main, auxiliary }
}

/// Scores any network on a batch, with running statistics.
pub fn evaluate(
    network: &Network,
    parameters: &Parameters,
    mixing: &[Mixing],
    batch: &Batch,
) -> Score {
    cross_entropy(infer(network, parameters, mixing, batch), batch, 0.0).1
}

/// The logits of each image of a batch, with running statistics: one row per image.
pub(crate) fn logits(
    network: &Network,
    parameters: &Parameters,
    mixing: &[Mixing],
    batch: &Batch,
) -> Vec<Vec<f32>> {
    let logits = infer(network, parameters, mixing, batch);
    let classes = logits.dims()[1];
    let flat: Vec<f32> = logits.into_data().iter::<f32>().collect();
    flat.chunks(classes.max(1)).map(<[f32]>::to_vec).collect()
}

/// Inference, a few images at a time if the engine is faster that way.
fn infer(
    network: &Network,
    parameters: &Parameters,
    mixing: &[Mixing],
    batch: &Batch,
) -> Tensor<2> {
    on_worker(|| {
        let device = parameters.device();
        let forward =
            |images| network.forward(&Pass::new(parameters, Mode::Evaluation), images, mixing).main;
        let [n, h, w, c] = batch.shape;
        if !network.engine().prefers_few_images() || n == 0 {
            return forward(images(batch, device));
        }
        let together = n.div_ceil(TASKS).min(TOGETHER);
        let parts = batch.images.par_chunks(together * h * w * c).map(|part| {
            let part = TensorData::new(part.to_vec(), [part.len() / (h * w * c), h, w, c]);
            forward(Tensor::from_data(part, device))
        });
        Tensor::cat(parts.collect(), 0)
    })
}

/// The images of a batch as a tensor `[n, h, w, c]`.
pub fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(batch.images.clone(), batch.shape), device)
}

/// The mean loss with smoothed labels as a tensor, and the score, without smoothing, on the host.
pub fn cross_entropy(logits: Tensor<2>, batch: &Batch, smoothing: f64) -> (Tensor<1>, Score) {
    let predictions = Predictions::new(logits, batch);
    (predictions.loss(smoothing), predictions.score(batch))
}

/// The predictions for a batch.
struct Predictions {
    /// Of every class, `[images, classes]`.
    log_probabilities: Tensor<2>,
    /// Of the labels, `[images, 1]`.
    of_labels: Tensor<2>,
}

impl Predictions {
    fn new(logits: Tensor<2>, batch: &Batch) -> Self {
        let labels: Vec<i64> = batch.labels.iter().map(|&label| i64::from(label)).collect();
        let labels = TensorData::new(labels, [batch.labels.len(), 1]);
        let labels = Tensor::<2, Int>::from_data(labels, &logits.device());
        let log_probabilities = log_softmax(logits, 1);
        let of_labels = log_probabilities.clone().gather(1, labels);
        Self { log_probabilities, of_labels }
    }

    /// The mean cross entropy, `[1]`, with a fraction of the target spread over all classes.
    fn loss(&self, smoothing: f64) -> Tensor<1> {
        let of_labels = self.of_labels.clone().mean();
        let loss = match smoothing {
            0.0 => of_labels,
            _ => of_labels * (1.0 - smoothing) + self.log_probabilities.clone().mean() * smoothing,
        };
        loss.neg()
    }

    /// The score, on the host.
    fn score(&self, batch: &Batch) -> Score {
        let images = batch.labels.len();
        let host = self.log_probabilities.clone().without_autodiff().into_data();
        let host: Vec<f32> = host.iter::<f32>().collect();
        let classes = host.len() / images.max(1);
        let mut score = Score { images, ..Score::default() };
        for (row, &label) in host.chunks(classes.max(1)).zip(&batch.labels) {
            let label = usize::from(label);
            score.loss -= f64::from(row[label]);
            score.correct += usize::from(predicted(row) == label);
        }
        score
    }

    /// The same on the device: the sum of the losses, and the number of correct predictions. It counts every class of the
    /// largest probability as predicted.
    fn unread(&self) -> [Tensor<1>; 2] {
        let of_labels = self.of_labels.clone().without_autodiff();
        let largest = self.log_probabilities.clone().without_autodiff().max_dim(1);
        let correct = of_labels.clone().greater_equal(largest).float().sum();
        [of_labels.sum().neg(), correct]
    }
}

impl Joint for Score {
    fn plus(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    fn times(self, _: f32) -> Self {
        self
    }

    fn send(&self, to: &mut Numbers) {
        let numbers = [self.loss, self.correct as f64, self.images as f64];
        to.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }

    fn receive(&self, from: &mut Received<'_>) -> Self {
        let (loss, correct, images) = (from.double(), from.double(), from.double());
        Self { loss, correct: correct as usize, images: images as usize }
    }
}

impl Score {
    /// Adds the score of another batch.
    pub fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.correct += other.correct;
        self.images += other.images;
    }

    /// Mean loss per image, if there are any.
    pub fn mean_loss(&self) -> Option<f64> {
        (self.images > 0).then(|| self.loss / self.images as f64)
    }

    /// Fraction of the images that are classified correctly, if there are any.
    pub fn accuracy(&self) -> Option<f64> {
        (self.images > 0).then(|| self.correct as f64 / self.images as f64)
    }
}

/// Returns an error unless the number is finite.
pub fn finite(what: &str, value: f64, key: &'static str) -> Result<(), NonFinite> {
    if value.is_finite() {
        return Ok(());
    }
    Err(NonFinite { what: what.to_owned(), value, key })
}

#[cfg(test)]
pub(crate) mod tests {
    use asap_core::plan::Plan;
    use asap_core::{NetworkShape, PublishedCell, Stem};

    use super::*;
    use crate::engine::Engine;
    use crate::parameters::host;

    /// A network with everything that has batch norms, and images for it.
    pub(crate) fn network() -> (Network, Parameters, Batch) {
        let cell = PublishedCell::find("ASAP").expect("a published cell").genotype();
        let (channels, cells, side, in_channels) = (4, 3, 16, 3);
        let (height, width, classes, stem) = (side, side, 5, Stem::Small);
        let shape = NetworkShape { channels, cells, height, width, in_channels, classes, stem };
        let plan = Plan::of(&cell.into(), &shape, true).expect("a valid shape");
        let network = Network::new(plan, Engine::new(&Device::flex()));
        let parameters = network.parameters(&Device::flex(), 1);
        let value = |i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0 + (i % 4) as f32 * 0.3;
        let batch = Batch {
            images: (0..16 * side * side * 3).map(value).collect(),
            labels: (0..16).map(|i| i % 5).collect(),
            shape: [16, side, side, 3],
        };
        (network, parameters, batch)
    }

    fn descent(gradient_clip: f64) -> Descent {
        let sgd = Sgd { nesterov: true, gradient_clip, ..Sgd::default() };
        let drop_path = DropPath { probability: 0.2, seed: 1, step: 3, first: 0 };
        Descent {
            drop_path: Some(drop_path),
            label_smoothing: 0.1,
            auxiliary_weight: 0.4,
            ..Descent::plain(sgd, 0.05)
        }
    }

    #[test]
    fn a_network_that_says_the_same_of_every_class_is_right_by_chance_only() {
        let (_, _, batch) = network();
        let logits = Tensor::zeros([16, 5], &Device::flex());
        let (_, score) = cross_entropy(logits, &batch, 0.0);
        assert_eq!((score.correct, score.images), (4, 16), "the images of the first class");
    }

    #[test]
    fn a_step_that_nobody_waits_for_is_the_same_step() {
        let (network, start, batch) = network();
        // One limit that matters and one that does not.
        for gradient_clip in [0.5, f64::INFINITY] {
            let (descent, team) = (descent(gradient_clip), Team::default());
            let (mut waited, mut went_on) = (start.clone(), start.clone());
            let (mut expected, mut unread) = (Score::default(), Vec::new());
            for _ in 0..3 {
                let score = descend(&network, &mut waited, &[], &batch, &descent, &team);
                expected.add(score.unwrap().read().unwrap());
                unread.push(descend_unread(&network, &mut went_on, &[], &batch, &descent));
                assert!(matches!(unread.last(), Some(StepScore::Unread { images: 16, .. })));
            }
            let found = StepScore::read_all(unread).unwrap();
            assert_eq!((found.correct, found.images), (expected.correct, 48));
            assert!((found.loss - expected.loss).abs() < 1e-4 * expected.loss);
            for ((_, one), (_, other)) in waited.iter().zip(went_on.iter()) {
                let [one, other] = [one, other].map(|p| host(&p.value));
                let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5 + 1e-4 * a.abs();
                assert!(one.iter().zip(&other).all(close), "{gradient_clip}");
            }
        }
    }

    #[test]
    fn an_unread_number_that_is_not_finite_is_told_when_it_is_read() {
        let (network, mut parameters, mut batch) = network();
        let good = descend_unread(&network, &mut parameters, &[], &batch, &descent(5.0));
        batch.images[7] = f32::NAN;
        let bad = descend_unread(&network, &mut parameters, &[], &batch, &descent(5.0));
        good.clone().read().unwrap();
        let error = StepScore::read_all(vec![good, bad]).unwrap_err().to_string();
        assert!(error.contains("loss") && error.contains("weights.lr"), "{error}");
    }
}
