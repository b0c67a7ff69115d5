//! The two steps of an iteration of Algorithm 1 on a search network: what the search runs and what
//! `asap bench` times.

use asap_core::{
    Adam, Architecture, CellKind, EdgePolicy, NetworkShape, Pruned, SearchSpace, ThresholdPolicy,
};
use asap_data::Batch;
use asap_kernels::Precision;
use burn::tensor::{Device, Tensor};

use crate::error::Error;
use asap_net::optimizer::Sgd;
use asap_net::parameters::Parameters;
use asap_net::pass::{Mode, Pass, WeightGradients};
use asap_net::steps::{
    Descent, NonFinite, Score, cross_entropy, descend, evaluate, finite, images, on_worker,
};
use asap_net::supernet::{Supernet, mixing_tensor};

/// A search network in training: weights and alpha.
pub struct Learner {
    /// The network: which operations are left.
    pub supernet: Supernet,
    /// Its tensors.
    pub parameters: Parameters,
    /// Alpha, and which operations are alive.
    pub architecture: Architecture,
    shape: NetworkShape,
    device: Device,
    seed: u64,
}

/// What the output of each operation is multiplied by, or the gradient of a loss for that:
/// `[normal, reduction][edge][candidate]`.
pub type MixingTables = [Vec<Vec<f64>>; 2];

impl Learner {
    /// A fresh search network with all alphas at zero.
    ///
    /// # Errors
    /// When a size is zero.
    pub fn new(
        shape: &NetworkShape,
        space: &SearchSpace,
        policy: EdgePolicy,
        device: &Device,
        seed: u64,
    ) -> Result<Self, Error> {
        let (supernet, parameters) = Supernet::new(shape, space, device, seed)?;
        let architecture = Architecture::new(space.clone(), policy);
        Ok(Self { supernet, parameters, architecture, shape: *shape, device: device.clone(), seed })
    }

    /// The same network, with another precision of its steps.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { parameters: self.parameters.with_precision(precision), ..self }
    }

    /// Goes back to fresh weights and every operation; alpha stays.
    pub fn reset(&mut self) {
        let space = self.architecture.space();
        let fresh = Supernet::new(&self.shape, space, &self.device, self.seed);
        let (supernet, parameters) = fresh.expect("such a network was built before");
        self.supernet = supernet;
        self.parameters = parameters.with_precision(self.parameters.precision());
    }

    /// Begins anew with so many cells: fresh weights of what the architecture has left, which stays as it is.
    pub fn restart(&mut self, cells: usize) {
        self.shape.cells = cells;
        self.reset();
        self.supernet.prune_to(&mut self.parameters, &self.architecture);
    }

    /// The mixing weights at a temperature (equation 2).
    pub fn mixing(&self, temperature: f64) -> MixingTables {
        CellKind::ALL.map(|kind| self.architecture.mixing_weights(kind, temperature))
    }

    /// Line 4 of Algorithm 1: a descent step on the weights.
    ///
    /// # Errors
    /// When the loss or a gradient is not finite; nothing is changed then.
    pub fn weight_step(
        &mut self,
        batch: &Batch,
        mixing: &MixingTables,
        sgd: &Sgd,
        learning_rate: f64,
    ) -> Result<Score, NonFinite> {
        let mixing = self.tensors(mixing);
        let Self { supernet, parameters, .. } = self;
        let descent = Descent::plain(*sgd, learning_rate);
        let forward = |pass: &Pass<'_>, images| supernet.forward(pass, images, &mixing).into();
        descend(parameters, batch, &descent, forward)
    }

    /// Lines 6 to 9 of Algorithm 1: a descent step on alpha, then pruning with the threshold of `time`.
    ///
    /// Weights and statistics stay as they are.
    ///
    /// # Errors
    /// When the loss or a gradient is not finite; nothing is changed then.
    pub fn alpha_step(
        &mut self,
        batch: &Batch,
        temperature: f64,
        adam: &Adam,
        threshold: &ThresholdPolicy,
        time: f64,
    ) -> Result<(Score, Vec<Pruned>), NonFinite> {
        let (score, gradients) = self.mixing_gradients(batch, &self.mixing(temperature))?;
        self.architecture.step(&gradients, temperature, adam);
        let pruned = self.architecture.prune(temperature, threshold, time);
        self.remove(&pruned);
        Ok((score, pruned))
    }

    /// The score of a batch, and the gradient of its loss for the mixing weights. Nothing changes.
    ///
    /// # Errors
    /// When the loss or a gradient is not finite.
    pub fn mixing_gradients(
        &self,
        batch: &Batch,
        mixing: &MixingTables,
    ) -> Result<(Score, MixingTables), NonFinite> {
        let (score, gradients, _) =
            self.differentiate(&self.parameters, batch, mixing, Mode::Architecture)?;
        Ok((score, gradients))
    }

    /// The score of a batch and the gradients of its loss, with other weights than the learner's own: for the
    /// mixing weights and, in [`Mode::Weights`], for the weights. Nothing changes.
    ///
    /// # Errors
    /// When the loss or a gradient for a mixing weight is not finite.
    pub fn differentiate(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        mixing: &MixingTables,
        mode: Mode,
    ) -> Result<(Score, MixingTables, WeightGradients), NonFinite> {
        on_worker(|| self.differentiate_here(parameters, batch, mixing, mode))
    }

    fn differentiate_here(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        mixing: &MixingTables,
        mode: Mode,
    ) -> Result<(Score, MixingTables, WeightGradients), NonFinite> {
        let key = "alpha.lr";
        let mixing = self.tensors(mixing).map(|m| m.autodiff().require_grad());
        let pass = Pass::new(parameters, mode);
        let logits = self.supernet.forward(&pass, images(batch, &self.device), &mixing);
        let (loss, score) = cross_entropy(logits, batch, 0.0);
        finite("the loss of the step on alpha", score.loss, key)?;
        let mut gradients = loss.backward();
        let candidates = self.architecture.space().candidates.len();
        let table = |mixing: &Tensor<1>| -> Vec<Vec<f64>> {
            // A kind of cell that the network does not have gets no gradient.
            let flat: Vec<f32> = match mixing.grad(&gradients) {
                Some(gradient) => gradient.into_data().iter::<f32>().collect(),
                None => vec![0.0; mixing.dims()[0]],
            };
            let rows = flat.chunks(candidates);
            rows.map(|row| row.iter().copied().map(f64::from).collect()).collect()
        };
        let tables = [table(&mixing[0]), table(&mixing[1])];
        for (kind, rows) in CellKind::ALL.iter().zip(&tables) {
            for (edge, row) in rows.iter().enumerate() {
                for (operation, &value) in self.architecture.space().candidates.iter().zip(row) {
                    let what = format!("the gradient of alpha, {kind} edge {edge} {operation},");
                    finite(&what, value, key)?;
                }
            }
        }
        let (weights, _) = pass.finish(&mut gradients);
        Ok((score, tables, weights))
    }

    /// Sets the running statistics to their means over some batches, the weights staying as they are.
    ///
    /// # Errors
    /// When a loss is not finite.
    pub fn recompute_statistics(
        &mut self,
        batches: impl Iterator<Item = Batch>,
        mixing: &MixingTables,
    ) -> Result<(), NonFinite> {
        let mixing = self.tensors(mixing);
        for (count, batch) in (1u16..).zip(batches) {
            let pass = Pass::new(&self.parameters, Mode::Weights);
            let logits = self.supernet.forward(&pass, images(&batch, &self.device), &mixing);
            let (loss, score) = cross_entropy(logits, &batch, 0.0);
            finite("the loss", score.loss, "weights.lr")?;
            // Taken backwards, since a graph that is not would stay in memory.
            let (_, statistics) = pass.finish(&mut loss.backward());
            statistics.blend(&mut self.parameters, 1.0 / f32::from(count));
        }
        Ok(())
    }

    /// Takes pruned operations out of the network, with their weights and optimizer state.
    pub fn remove(&mut self, pruned: &[Pruned]) {
        self.supernet.prune(&mut self.parameters, pruned);
    }

    /// Scores a batch with the batch's own statistics: for an architecture that the running ones do not fit.
    ///
    /// # Errors
    /// When the loss is not finite.
    pub fn try_out(&self, batch: &Batch, mixing: &MixingTables) -> Result<Score, NonFinite> {
        let pass = Pass::new(&self.parameters, Mode::Architecture);
        let mixing = self.tensors(mixing);
        let logits = self.supernet.forward(&pass, images(batch, &self.device), &mixing);
        let (_, score) = cross_entropy(logits, batch, 0.0);
        finite("the loss of a sampled architecture", score.loss, "weights.lr")?;
        Ok(score)
    }

    /// Scores a batch with running statistics.
    pub fn evaluate(&self, batch: &Batch, mixing: &MixingTables) -> Score {
        let mixing = self.tensors(mixing);
        evaluate(&self.parameters, batch, |pass, images| {
            self.supernet.forward(pass, images, &mixing)
        })
    }

    /// Mixing weights of 1 everywhere: the derived network, once everything else is cut away.
    pub fn unmixed(&self) -> MixingTables {
        let space = self.architecture.space();
        let ones = vec![vec![1.0; space.candidates.len()]; space.edge_count()];
        [ones.clone(), ones]
    }

    fn tensors(&self, mixing: &MixingTables) -> [Tensor<1>; 2] {
        [mixing_tensor(&mixing[0], &self.device), mixing_tensor(&mixing[1], &self.device)]
    }
}
