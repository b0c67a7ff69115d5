//! One forward (and backward) pass over a network: its tracked tensors and its statistics.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use asap_core::plan::{MixedEdge, Step};
use asap_kernels::WholeBatch;
use burn::tensor::{Gradients, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::parameters::{ParameterId, Parameters, WeightGradients, fnv1a};
use crate::team::{Joint, Numbers, Received};

/// Fraction of the batch's statistics that enters the running ones.
const STATISTICS_MOMENTUM: f32 = 0.1;

/// The purpose of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A step on the weights: they are tracked, and running statistics follow the batch.
    Weights,
    /// A step on alpha: weights are constants, and nothing in the network changes.
    Architecture,
    /// Inference: running statistics, no gradients.
    Evaluation,
}

/// Mean and variance of one batch, for the running statistics.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    mean: Tensor<1>,
    /// Biased, as used in the normalisation.
    variance: Tensor<1>,
    count: usize,
}

/// Scheduled drop-path: operations other than the identity drop out, image by image.
///
/// The rest of an operation is divided by the probability of staying (DARTS `drop_path`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropPath {
    /// Probability of dropping out.
    pub probability: f64,
    /// Decides, together with `step` and the operation's name, which operations drop out.
    pub seed: u64,
    /// Number of the step.
    pub step: u64,
    /// Place of the pass's first image in the batch, of which it may see a part.
    pub first: usize,
}

impl DropPath {
    /// The weight of each image of a batch in the operation at `path`: 0 if it drops out, otherwise
    /// 1 / (1 - probability).
    ///
    /// Image `i` of a batch gets draw `i` of a stream of its own for (seed, step, path), whatever the size of the batch.
    pub(crate) fn image_weights(&self, path: &str, images: usize) -> Vec<f32> {
        let mut key = [0; 32];
        let words = [self.seed, self.step, fnv1a(path)];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(key);
        let kept = (1.0 / (1.0 - self.probability)) as f32;
        let mut weight = || if rng.random::<f64>() < self.probability { 0.0 } else { kept };
        (0..self.first + images).map(|_| weight()).skip(self.first).collect()
    }
}

/// Parameters seen through the purpose of a pass.
pub struct Pass<'a> {
    parameters: &'a Parameters,
    mode: Mode,
    drop_path: Option<DropPath>,
    whole: Option<Arc<dyn WholeBatch>>,
    tracked: RefCell<HashMap<ParameterId, Tensor<1>>>,
    statistics: RefCell<Vec<(ParameterId, ParameterId, BatchStatistics)>>,
}

/// The parameters of a batch norm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    /// Running mean.
    pub(crate) mean: ParameterId,
    /// Running variance, unbiased.
    pub(crate) variance: ParameterId,
    /// Gamma and beta; absent inside search cells.
    pub(crate) affine: Option<[ParameterId; 2]>,
}

impl Norm {
    /// The parameters of a step of [`asap_core::plan::Primitive::BatchNorm`].
    pub(crate) fn of(step: &Step) -> Self {
        let first = step.parameters.start;
        let affine = (step.parameters.len() == 4).then_some([first + 2, first + 3]);
        Self { mean: first, variance: first + 1, affine }
    }
}

impl<'a> Pass<'a> {
    /// A pass over `parameters`.
    pub fn new(parameters: &'a Parameters, mode: Mode) -> Self {
        let (tracked, statistics) = Default::default();
        Self { parameters, mode, drop_path: None, whole: None, tracked, statistics }
    }

    /// The same pass over a part of a batch whose batch norms are those of all of it.
    pub fn with_whole_batch(self, whole: Option<Arc<dyn WholeBatch>>) -> Self {
        Self { whole, ..self }
    }

    /// The same pass with operations that drop out, if it trains the weights; a pass for another
    /// purpose drops nothing.
    ///
    /// # Panics
    /// If the probability is not in `[0, 1)`.
    pub fn with_drop_path(self, drop_path: Option<DropPath>) -> Self {
        if let Some(DropPath { probability, .. }) = drop_path {
            let valid = (0.0..1.0).contains(&probability);
            assert!(valid, "drop-path: expected a probability in [0, 1), found {probability}");
        }
        let drop_path = drop_path.filter(|d| self.mode == Mode::Weights && d.probability > 0.0);
        Self { drop_path, ..self }
    }

    /// Factors of drop-path for each image of the edge's sum; `None` if the edge stays whole.
    pub fn image_weights(&self, edge: &MixedEdge, images: usize) -> Option<Vec<f32>> {
        let drop_path = self.drop_path.filter(|_| edge.drops())?;
        Some(drop_path.image_weights(&edge.name, images))
    }

    /// The batch of which this pass sees a part, if its batch norms are those of all of it.
    pub(crate) fn whole(&self) -> Option<&Arc<dyn WholeBatch>> {
        self.whole.as_ref()
    }

    /// The purpose of the pass.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// A parameter in its logical shape; tracked if this pass trains the weights.
    pub fn weight<const D: usize>(&self, id: ParameterId) -> Tensor<D> {
        let parameter = self.parameters.get(id);
        let shape: [usize; D] = parameter.shape.clone().try_into().expect("rank of the layer");
        self.flat(id).reshape(shape)
    }

    /// A parameter as it is stored, `[elements]`.
    pub fn flat(&self, id: ParameterId) -> Tensor<1> {
        let value = &self.parameters.get(id).value;
        if self.mode != Mode::Weights {
            return value.clone();
        }
        let track = || value.clone().autodiff().require_grad();
        self.tracked.borrow_mut().entry(id).or_insert_with(track).clone()
    }

    /// Running mean and variance of a batch norm.
    pub(crate) fn running(&self, norm: &Norm) -> (Tensor<1>, Tensor<1>) {
        (
            self.parameters.get(norm.mean).value.clone(),
            self.parameters.get(norm.variance).value.clone(),
        )
    }

    /// Records a batch's statistics (biased variance over `count` values each).
    ///
    /// Only a pass that trains the weights keeps them.
    pub(crate) fn observe(&self, norm: &Norm, mean: Tensor<1>, variance: Tensor<1>, count: usize) {
        if self.mode == Mode::Weights {
            let statistics = BatchStatistics {
                mean: mean.without_autodiff(),
                variance: variance.without_autodiff(),
                count,
            };
            self.statistics.borrow_mut().push((norm.mean, norm.variance, statistics));
        }
    }

    /// The same with the statistics on the host.
    pub(crate) fn observe_host(&self, norm: &Norm, mean: &[f32], variance: &[f32], count: usize) {
        if self.mode == Mode::Weights {
            let device = self.parameters.device();
            let tensor = |values: &[f32]| Tensor::from_floats(values, device);
            self.observe(norm, tensor(mean), tensor(variance), count);
        }
    }

    /// Identifies the values of the parameters, see [`Parameters::revision`].
    pub(crate) fn revision(&self) -> u64 {
        self.parameters.revision()
    }

    /// Ends the pass: the gradient of each weight that took part, and the update of the statistics.
    pub fn finish(self, gradients: &mut Gradients) -> (WeightGradients, StatisticsUpdate) {
        let mut tracked = self.tracked.into_inner();
        let weights = self
            .parameters
            .iter()
            .filter_map(|(id, _)| Some((id, tracked.remove(&id)?.grad_remove(gradients)?)))
            .collect();
        (weights, StatisticsUpdate(self.statistics.into_inner()))
    }
}

/// The statistics of one pass, or their means over the parts of a batch, to be applied once its step is known to be valid.
pub struct StatisticsUpdate(Vec<(ParameterId, ParameterId, BatchStatistics)>);

impl Joint for StatisticsUpdate {
    fn plus(self, other: Self) -> Self {
        let sum = |(own, other): ((_, _, BatchStatistics), (_, _, BatchStatistics))| {
            let BatchStatistics { mean, variance, count } = own.2;
            let (mean, variance) = (mean.plus(other.2.mean), variance.plus(other.2.variance));
            (own.0, own.1, BatchStatistics { mean, variance, count })
        };
        Self(self.0.into_iter().zip(other.0).map(sum).collect())
    }

    fn times(self, factor: f32) -> Self {
        let scaled = |(mean_id, variance_id, batch): (_, _, BatchStatistics)| {
            let BatchStatistics { mean, variance, count } = batch;
            let (mean, variance) = (mean.times(factor), variance.times(factor));
            (mean_id, variance_id, BatchStatistics { mean, variance, count })
        };
        Self(self.0.into_iter().map(scaled).collect())
    }

    fn send(&self, to: &mut Numbers) {
        for (_, _, batch) in &self.0 {
            batch.mean.send(to);
            batch.variance.send(to);
        }
    }

    fn receive(&self, from: &mut Received<'_>) -> Self {
        let received = |(mean_id, variance_id, batch): &(_, _, BatchStatistics)| {
            let (mean, variance) = (batch.mean.receive(from), batch.variance.receive(from));
            (*mean_id, *variance_id, BatchStatistics { mean, variance, count: batch.count })
        };
        Self(self.0.iter().map(received).collect())
    }
}

impl StatisticsUpdate {
    /// Moves the running statistics a tenth of the way towards the batch's, as in PyTorch.
    pub fn apply(self, parameters: &mut Parameters) {
        self.blend(parameters, STATISTICS_MOMENTUM);
    }

    /// The same for a different fraction of the way; the variance is the unbiased one.
    pub fn blend(self, parameters: &mut Parameters, share: f32) {
        for (mean_id, variance_id, batch) in self.0 {
            let unbias = batch.count as f32 / (batch.count.max(2) - 1) as f32;
            let mut blend = |id, new: Tensor<1>| {
                let old = parameters.get(id).value.clone();
                let value = old * (1.0 - share) + new * share;
                parameters.set(id, value);
            };
            blend(mean_id, batch.mean);
            blend(variance_id, batch.variance * unbias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drops_out_depends_on_seed_step_path_and_image_only() {
        let drop_path = DropPath { probability: 0.3, seed: 1, step: 2, first: 0 };
        let weights = drop_path.image_weights("cells.0.ops.1", 20_000);
        assert_eq!(drop_path.image_weights("cells.0.ops.1", 500), weights[..500]);
        assert_ne!(drop_path.image_weights("cells.0.ops.2", 20_000), weights);
        for other in [DropPath { seed: 2, ..drop_path }, DropPath { step: 3, ..drop_path }] {
            assert_ne!(other.image_weights("cells.0.ops.1", 20_000), weights);
        }
        // six standard deviations of the mean
        let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
        assert!((mean - 1.0).abs() < 6.0 * (0.3 / 0.7 / 20_000.0_f64).sqrt(), "{mean}");
    }

    #[test]
    #[should_panic(expected = "expected a probability in [0, 1), found 1")]
    fn a_probability_of_one_leaves_nothing() {
        let plan = asap_core::plan::Plan {
            family: asap_core::Family::Darts,
            layers: Vec::new(),
            parameters: Vec::new(),
            logits: 0,
            auxiliary: None,
        };
        let parameters = Parameters::new(&plan, &burn::tensor::Device::flex(), 0);
        let drop_path = DropPath { probability: 1.0, seed: 0, step: 0, first: 0 };
        let _ = Pass::new(&parameters, Mode::Weights).with_drop_path(Some(drop_path));
    }
}
