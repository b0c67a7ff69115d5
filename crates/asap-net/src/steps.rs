//! A step on the weights of any network, and its evaluation.

use std::fmt;

use asap_data::Batch;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::engine::Mixing;
use crate::network::Network;
use crate::optimizer::Sgd;
use crate::parameters::Parameters;
use crate::pass::{DropPath, Mode, Pass};
use crate::team::{Joint, Numbers, Received, Team};

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
/// # Errors
/// If the loss or a gradient is not finite; nothing is changed then.
pub fn descend(
    network: &Network,
    parameters: &mut Parameters,
    mixing: &[Mixing],
    batch: &Batch,
    descent: &Descent,
    team: &Team,
) -> Result<Score, NonFinite> {
    on_worker(|| descend_here(network, parameters, mixing, batch, descent, team))
}

/// Runs `step` on a worker thread, which then takes part in the parallel loops of its layers: a thread outside the
/// pool would go to sleep in each of them.
pub fn on_worker<R: Send>(step: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| step())
}

fn descend_here(
    network: &Network,
    parameters: &mut Parameters,
    mixing: &[Mixing],
    batch: &Batch,
    descent: &Descent,
    team: &Team,
) -> Result<Score, NonFinite> {
    let Descent { sgd, learning_rate, key, drop_path, label_smoothing, auxiliary_weight } =
        *descent;
    let ((score, auxiliary), (gradients, statistics)) = team.join(batch, |part, first| {
        let drop_path = drop_path.map(|drop_path| DropPath { first, ..drop_path });
        let pass = Pass::new(parameters, Mode::Weights)
            .with_drop_path(drop_path)
            .with_whole_batch(team.whole_batch());
        let logits = network.forward(&pass, images(part, parameters.device()), mixing);
        let (mut loss, score) = cross_entropy(logits.main, part, label_smoothing);
        let mut of_auxiliary = Score::default();
        if let Some(auxiliary) = logits.auxiliary {
            let (auxiliary, score) = cross_entropy(auxiliary, part, label_smoothing);
            (loss, of_auxiliary) = (loss + auxiliary * auxiliary_weight, score);
        }
        ((score, of_auxiliary), pass.finish(&mut loss.backward()))
    });
    finite("the loss of the step on the weights", score.loss, key)?;
    finite("the loss of the auxiliary head", auxiliary.loss, key)?;
    let norm = sgd.step(parameters, gradients, learning_rate);
    finite("the norm of the weights' gradients", norm, key)?;
    statistics.apply(parameters);
    Ok(score)
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
    let images = batch.labels.len();
    let labels: Vec<i64> = batch.labels.iter().map(|&label| i64::from(label)).collect();
    let labels = TensorData::new(labels, [images, 1]);
    let labels = Tensor::<2, Int>::from_data(labels, &logits.device());
    let log_probabilities = log_softmax(logits, 1);
    let picked = log_probabilities.clone().gather(1, labels);
    let mean = log_probabilities.clone().mean();
    let host: Vec<f32> = log_probabilities.without_autodiff().into_data().iter::<f32>().collect();
    let classes = host.len() / images.max(1);
    let mut score = Score { images, ..Score::default() };
    for (row, &label) in host.chunks(classes.max(1)).zip(&batch.labels) {
        let label = usize::from(label);
        score.loss -= f64::from(row[label]);
        score.correct += usize::from(row.iter().all(|&other| other <= row[label]));
    }
    let loss = match smoothing {
        0.0 => picked.mean(),
        _ => picked.mean() * (1.0 - smoothing) + mean * smoothing,
    };
    (loss.neg(), score)
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
