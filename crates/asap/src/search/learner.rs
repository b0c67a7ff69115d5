//! A search network with its architecture: the parts of the steps of a search, and the two steps of an iteration of Algorithm 1 as timed
//! by `asap bench`.

use asap_core::plan::Plan;
use asap_core::{
    Adam, Annealed, Architecture, EdgePolicy, Genotype, MixingTables, NetworkShape, Pruned,
    Replacement, SearchSpace, ThresholdPolicy,
};
use asap_data::Batch;
use asap_net::engine::{Engine, Mixing};
use asap_net::morph;
use asap_net::network::{Network, mixing_tensors};
use asap_net::optimizer::Sgd;
use asap_net::parameters::{Parameters, WeightGradients};
use asap_net::pass::{Mode, Pass};
use asap_net::steps::{
    Descent, NonFinite, Score, StepScore, cross_entropy, descend, evaluate, finite, images,
};
use asap_net::team::Team;
use burn::tensor::{Device, Gradients};

use crate::error::Error;

/// A search network in training: weights and alpha.
pub struct Learner {
    /// The network with the remaining operations.
    pub network: Network,
    /// Its tensors.
    pub parameters: Parameters,
    /// Alpha, and the live operations.
    pub architecture: Architecture,
    shape: NetworkShape,
    device: Device,
    seed: u64,
    team: Team,
}

impl Learner {
    /// A fresh search network with all alphas at zero.
    ///
    /// # Errors
    /// Those of [`Plan::search`].
    pub fn new(
        shape: &NetworkShape,
        space: &SearchSpace,
        policy: EdgePolicy,
        engine: Engine,
        device: &Device,
        seed: u64,
    ) -> Result<Self, Error> {
        let network = Network::new(Plan::search(space, shape)?, engine);
        let parameters = network.parameters(device, seed);
        let architecture = Architecture::new(space.clone(), policy);
        let (device, team) = (device.clone(), Team::default());
        Ok(Self { network, parameters, architecture, shape: *shape, device, seed, team })
    }

    /// The workers of every step.
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// The same, to set them.
    pub fn set_team(&mut self, team: Team) {
        self.team = team;
    }

    /// Resets to fresh weights and every operation; alpha stays.
    pub fn reset(&mut self) {
        let plan = Plan::search(self.architecture.space(), &self.shape);
        let plan = plan.expect("such a network was built before");
        self.network = Network::new(plan, self.network.engine().clone());
        self.parameters = self.network.parameters(&self.device, self.seed);
    }

    /// Restarts with this many cells: fresh weights for the live operations of the architecture, which stays as it is.
    pub fn restart(&mut self, cells: usize) {
        self.shape.cells = cells;
        self.reset();
        self.remove_dead();
    }

    /// Removes from the network what is not alive in the architecture.
    pub fn remove_dead(&mut self) {
        self.network.prune_to(&mut self.parameters, &self.architecture);
    }

    /// Brings the network to an architecture in which operations have taken the place of others. They begin with what fits of their
    /// parents' weights, the others keep theirs; no momentum is left.
    pub fn replace(&mut self, replacements: &[Replacement]) {
        let before = self.parameters.values();
        self.reset();
        self.remove_dead();
        morph::inherit(&self.network, &mut self.parameters, &before, replacements)
            .expect("a network's own tensors fit");
    }

    /// The size of the network.
    pub fn shape(&self) -> &NetworkShape {
        &self.shape
    }

    /// The mixing weights at a temperature (eq. 2).
    pub fn mixing(&self, temperature: f64) -> MixingTables {
        self.architecture.mixing_tables(temperature)
    }

    /// The mixing weights of a cell: 1 for its operations and 0 elsewhere.
    ///
    /// # Panics
    /// If the cell is not one of the space.
    pub fn one_hot(&self, cell: &Genotype) -> MixingTables {
        self.architecture.space().one_hot(cell).expect("the cell is of the space")
    }

    /// Line 4 of Algorithm 1: a descent step on the weights.
    ///
    /// # Errors
    /// If the loss or a gradient is not finite; nothing is changed then.
    pub fn weight_step(
        &mut self,
        batch: &Batch,
        mixing: &MixingTables,
        sgd: &Sgd,
        learning_rate: f64,
    ) -> Result<StepScore, NonFinite> {
        let mixing = self.tensors(mixing);
        let descent = Descent::plain(*sgd, learning_rate);
        descend(&self.network, &mut self.parameters, &mixing, batch, &descent, &self.team)
    }

    /// Line 6 of Algorithm 1: a descent step on alpha. Weights and statistics stay as they are.
    ///
    /// # Errors
    /// If the loss or a gradient is not finite; nothing is changed then.
    pub fn alpha_step(
        &mut self,
        batch: &Batch,
        temperature: f64,
        adam: &Adam,
    ) -> Result<Score, NonFinite> {
        let (score, gradients) = self.mixing_gradients(batch, &self.mixing(temperature))?;
        self.architecture.step(&gradients, temperature, adam);
        Ok(score)
    }

    /// The score of a batch, and the gradient of its loss for the mixing weights. Nothing changes.
    ///
    /// # Errors
    /// If the loss or a gradient is not finite.
    pub fn mixing_gradients(
        &self,
        batch: &Batch,
        mixing: &MixingTables,
    ) -> Result<(Score, MixingTables), NonFinite> {
        let (score, gradients, _) =
            self.differentiate(&self.parameters, batch, mixing, Mode::Architecture)?;
        Ok((score, gradients))
    }

    /// The score of a batch and the gradients of its loss, with weights other than the learner's own: for the
    /// mixing weights and, in [`Mode::Weights`], for the weights. Nothing changes.
    ///
    /// # Errors
    /// If the loss or a gradient for a mixing weight is not finite.
    pub fn differentiate(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        mixing: &MixingTables,
        mode: Mode,
    ) -> Result<(Score, MixingTables, WeightGradients), NonFinite> {
        let key = "alpha.lr";
        let mixing = self.tensors(mixing).into_iter().map(Mixing::tracked);
        let mixing: Vec<Mixing> = mixing.collect();
        let (score, (tables, weights)) = self.team.join(batch, |part, _| {
            let pass = Pass::new(parameters, mode).with_whole_batch(self.team.whole_batch());
            let logits = self.network.forward(&pass, images(part, &self.device), &mixing).main;
            let (loss, score) = cross_entropy(logits, part, 0.0);
            let mut gradients = loss.backward();
            let tables: MixingTables = mixing.iter().map(|m| self.table(m, &gradients)).collect();
            (score, (tables, pass.finish(&mut gradients).0))
        });
        finite("the loss of the step on alpha", score.loss, key)?;
        let space = self.architecture.space();
        for (kind, rows) in space.kinds().iter().zip(&tables) {
            for (edge, row) in rows.iter().enumerate() {
                for (operation, &value) in space.candidates.iter().zip(row) {
                    let what = format!("the gradient of alpha, {kind} edge {edge} {operation},");
                    finite(&what, value, key)?;
                }
            }
        }
        Ok((score, tables, weights))
    }

    /// The gradients for the mixing weights of a kind of cell, edge by edge; zeros if the network has no cell of it.
    fn table(&self, mixing: &Mixing, gradients: &Gradients) -> Vec<Vec<f64>> {
        let candidates = self.architecture.space().candidates.len();
        let flat: Vec<f32> = match mixing.tensor().grad(gradients) {
            Some(gradient) => gradient.into_data().iter::<f32>().collect(),
            None => vec![0.0; mixing.tensor().dims()[0]],
        };
        let rows = flat.chunks(candidates);
        rows.map(|row| row.iter().copied().map(f64::from).collect()).collect()
    }

    /// Sets the running statistics to their means over some batches; the weights stay as they are.
    ///
    /// # Errors
    /// If a loss is not finite.
    pub fn recompute_statistics(
        &mut self,
        batches: impl Iterator<Item = Batch>,
        mixing: &MixingTables,
    ) -> Result<(), NonFinite> {
        let mixing = self.tensors(mixing);
        for (count, batch) in (1u16..).zip(batches) {
            let (score, statistics) = self.team.join(&batch, |part, _| {
                let pass = self.pass(Mode::Weights);
                let logits = self.network.forward(&pass, images(part, &self.device), &mixing).main;
                let (loss, score) = cross_entropy(logits, part, 0.0);
                // Taken backwards, since a graph that is not would stay in memory.
                (score, pass.finish(&mut loss.backward()).1)
            });
            finite("the loss", score.loss, "weights.lr")?;
            statistics.blend(&mut self.parameters, 1.0 / f32::from(count));
        }
        Ok(())
    }

    /// Removes pruned operations from the network, with their weights and optimizer state.
    pub fn remove(&mut self, pruned: &[Pruned]) {
        self.network.prune(&mut self.parameters, pruned);
    }

    /// Removes everything but a cell of the space; the weights stay as they are.
    pub fn keep(&mut self, genotype: &Genotype) {
        self.network.keep(&mut self.parameters, self.architecture.space(), genotype);
    }

    /// Scores a batch with the batch's own statistics: for an architecture that the running ones do not fit.
    ///
    /// # Errors
    /// If the loss is not finite.
    pub fn try_out(&self, batch: &Batch, mixing: &MixingTables) -> Result<Score, NonFinite> {
        let mixing = self.tensors(mixing);
        let score = self.team.join(batch, |part, _| {
            let pass = self.pass(Mode::Architecture);
            let logits = self.network.forward(&pass, images(part, &self.device), &mixing).main;
            cross_entropy(logits, part, 0.0).1
        });
        finite("the loss of a sampled architecture", score.loss, "weights.lr")?;
        Ok(score)
    }

    /// Scores a batch with running statistics.
    pub fn evaluate(&self, batch: &Batch, mixing: &MixingTables) -> Score {
        evaluate(&self.network, &self.parameters, &self.tensors(mixing), batch)
    }

    /// Mixing weights of 1 everywhere: the derived network, once everything else is removed.
    pub fn unmixed(&self) -> MixingTables {
        self.architecture.space().tables(|| 1.0)
    }

    /// A pass over a worker's part of a batch.
    fn pass(&self, mode: Mode) -> Pass<'_> {
        Pass::new(&self.parameters, mode).with_whole_batch(self.team.whole_batch())
    }

    fn tensors(&self, mixing: &MixingTables) -> Vec<Mixing> {
        mixing_tensors(mixing, &self.device)
    }
}

/// Operations below the threshold also leave the network.
impl Annealed for Learner {
    type Pruned = Pruned;

    fn prune_below(
        &mut self,
        threshold: &ThresholdPolicy,
        temperature: f64,
        time: f64,
    ) -> Vec<Pruned> {
        let pruned = self.architecture.prune_below(threshold, temperature, time);
        self.remove(&pruned);
        pruned
    }

    fn is_decided(&self) -> bool {
        self.architecture.is_decided()
    }
}
