//! A search over a data set: the loop of Algorithm 1 and of its rivals, and its records.

pub mod bench;
mod ending;
mod epochs;
pub mod learner;
pub mod method;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use asap_core::{
    Architecture, Choice, CosineLearningRate, Genotype, MixingTables, NetworkShape,
    evaluation_cost, search_cost,
};
use asap_data::{
    Augment, DataError, Dataset, Loader, Normalization, Splits, normalization_of,
    stratified_halves, stratified_parts_of,
};
use asap_net::engine::Engine;
use asap_net::steps::Score;
use asap_net::team::Alone;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::memory::{self, Footprint};
use crate::run::driver;
use crate::run::epochs::{Batches, Position};
use crate::run::record::{DataSummary, Observer, Outcome, SearchOutline, SearchResult};
use crate::run::sink::Sink;
use crate::run::speed;
use crate::search::learner::Learner;
use crate::search::method::{Clock, Method};
use crate::settings::config::{Config, Interval};

/// A search: a learner, the two halves of the training set, and its position.
pub struct Search {
    config: Config,
    data: DataSummary,
    learner: Learner,
    train: Loader,
    /// Augmented batches of the validation half, for the steps on alpha.
    alpha: Loader,
    /// The validation half without augmentation, for the accuracy.
    valid: Loader,
    classes_in_one_half: Vec<String>,
    method: Box<dyn Method>,
    /// Learning rate of alpha.
    alpha_lr: f64,
    position: Position,
    /// Steps on alpha so far.
    alpha_steps: usize,
    /// The prunings of the epoch so far, as text.
    pruned: Vec<String>,
}

impl Search {
    /// Prepares a search of `config` on the training images of `splits`.
    ///
    /// A validation set that comes with the data is not touched: the search splits the training set into two
    /// equal parts, stratified by class.
    ///
    /// # Errors
    /// If configuration and data do not fit.
    pub fn new(mut config: Config, splits: Splits) -> Result<Self, Error> {
        let device = config.device.open()?;
        let whole = splits.train.image_shape();
        let data = Arc::new(splits.train.with_image_shape(config.search.image(whole))?);
        let (labels, classes) = (data.labels(), data.classes().len());
        let (kept, seed) = (1.0 - config.search.held_out, config.search.held_out_seed);
        let (used, _) = stratified_halves(labels, classes, kept, seed);
        let (train, valid) = stratified_parts_of(&used, labels, classes, 0.5, config.seed);
        if train.is_empty() || valid.is_empty() {
            return Err(Error::Config(format!(
                "{}: expected at least 2 images of a class to split into halves, found {} images in total",
                splits.name,
                data.len()
            )));
        }
        let has = |half: &[usize], class: usize| {
            half.iter().any(|&i| usize::from(data.labels()[i]) == class)
        };
        let classes_in_one_half = (0..data.classes().len())
            .filter(|&class| has(&train, class) != has(&valid, class))
            .map(|class| data.classes()[class].clone())
            .collect();
        let normalization = normalization_of(&data, &train)?;
        let summary = DataSummary {
            name: splits.name,
            image: data.image_shape(),
            classes: data.classes().to_vec(),
            train_images: train.len(),
            valid_images: valid.len(),
            test_images: splits.test.as_ref().map_or(0, Dataset::len),
            mean: normalization.mean.clone(),
            std: normalization.std.clone(),
        };
        let loader = |indices: &[usize], augment, stream, shuffle| {
            loader(&data, indices, &config, augment, &normalization, stream, shuffle)
        };
        let augment = config.augment.changes(data.height().min(data.width()));
        let train_loader = loader(&train, augment, 0, true)?;
        let alpha_loader = loader(&valid, augment, 1, true)?;
        let valid_loader = loader(&valid, Augment::none(), 1, false)?;
        config.search.epochs = config.search_epochs(train_loader.batches_per_epoch());
        let steps = alpha_loader.batches_per_epoch().min(train_loader.batches_per_epoch());
        let trained = config.train.shape(whole, summary.classes.len());
        let method = method::build(config.search.method, &config, steps, &trained)?;
        let shape = NetworkShape {
            cells: method.cells(0, config.network.cells),
            ..config.network.shape(summary.image, summary.classes.len())
        };
        let policy = config.search.method.edge_policy(config.search.edge_policy);
        let architecture = Architecture::new(config.space()?, policy);
        config.batch_of(config.search.batch, valid.len())?;
        let batch = config.batch_of(config.search.batch, train.len())?;
        memory::check(config.device, config.limits.memory_mb, "search.batch", batch, |batch| {
            memory_mb(&config, &architecture, &summary, config.part_of(batch))
        })?;
        let mut learner = Learner::new(
            &shape,
            architecture.space(),
            policy,
            Engine::with_precision(&device, config.precision()),
            &device,
            config.seed,
        )?;
        learner.set_team(config.team(Arc::new(Alone)));
        Ok(Self {
            method,
            alpha_lr: config.alpha_lr(steps),
            data: summary,
            learner,
            train: train_loader,
            alpha: alpha_loader,
            valid: valid_loader,
            classes_in_one_half,
            position: Position::default(),
            alpha_steps: 0,
            pruned: Vec::new(),
            config,
        })
    }

    /// A summary of the search's images.
    pub fn data(&self) -> &DataSummary {
        &self.data
    }

    /// The learner, for measuring.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// Steps per epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.train.batches_per_epoch()
    }

    /// Largest number of epochs.
    pub fn epochs(&self) -> usize {
        self.config.search.epochs
    }

    /// Epochs in which only the weights move.
    pub fn grace_epochs(&self) -> usize {
        let moves = |&epoch: &usize| self.method.moves(&Clock { epoch, ..self.clock() });
        (0..self.epochs()).take_while(|epoch| !moves(epoch)).count()
    }

    /// Estimated seconds of an epoch here while nothing is pruned, to plan `seconds`. It makes some steps: at least
    /// three, and more until a second is over, or a twentieth of `seconds` if that is less.
    ///
    /// # Errors
    /// If a number is not finite.
    pub fn seconds_per_epoch(mut self, seconds: f64) -> Result<f64, Error> {
        // Alpha may begin to move in the middle of an epoch; a whole one with its steps is measured.
        let begins_with_alpha = |&epoch: &usize| {
            let clock = Clock { epoch, step: 0, ..self.clock() };
            self.method.moves(&clock) && self.method.is_due(&clock)
        };
        let whole = (0..self.epochs()).find(begins_with_alpha);
        self.position.epoch = whole.unwrap_or_else(|| self.grace_epochs());
        speed::seconds_per_epoch(self, seconds)
    }

    /// Estimated memory of the search at its start, in MiB; pruning lowers it.
    pub fn memory_estimate_mb(&self) -> f64 {
        let batch = self.config.search.batch.min(self.data.train_images);
        let part = self.config.part_of(batch);
        memory_mb(&self.config, &self.learner.architecture, &self.data, part)
    }

    /// Key numbers of the search before it starts.
    pub fn outline(&self) -> SearchOutline {
        SearchOutline {
            data: self.data.clone(),
            weights: self.learner.parameters.weight_count(),
            steps_per_epoch: self.steps_per_epoch(),
            epochs: self.epochs(),
            classes_in_one_half: self.classes_in_one_half.clone(),
            grace_epochs: self.grace_epochs(),
            alpha_lr: self.alpha_lr,
            memory_estimate_mb: self.memory_estimate_mb(),
        }
    }

    /// Searches to the end, or until `stop` is set.
    ///
    /// # Errors
    /// If a number is no longer finite or the sink cannot be written; the last good checkpoint stays.
    pub fn run(
        &mut self,
        sink: &mut dyn Sink,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<SearchResult>, Error> {
        driver::run(self, sink, observer, stop)
    }

    /// Continues from the checkpoint of an earlier run in the same sink, like [`Search::run`]; events written after the
    /// checkpoint are dropped.
    ///
    /// # Errors
    /// If there is no checkpoint, or it does not fit this search; and those of [`Search::run`].
    pub fn resume(
        &mut self,
        sink: &mut dyn Sink,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<SearchResult>, Error> {
        driver::resume(self, sink, observer, stop)
    }

    fn clock(&self) -> Clock {
        Clock {
            epoch: self.position.epoch,
            step: self.position.step,
            steps: self.steps_per_epoch(),
            alpha_steps: self.alpha_steps,
        }
    }

    fn learning_rate(&self, clock: &Clock) -> f64 {
        let epoch = match self.config.search.schedule {
            Interval::Epoch => clock.epoch as f64,
            Interval::Step => clock.epochs(),
        };
        let training = self.method.training(clock.epoch, self.epochs());
        CosineLearningRate {
            initial: self.config.weights.lr,
            minimum: self.config.weights.lr_min,
            epochs: training.len(),
        }
        .at(epoch - training.start as f64)
    }

    fn alive_ops(&self) -> usize {
        let architecture = &self.learner.architecture;
        architecture.space().kinds().iter().map(|&kind| architecture.alive_count(kind)).sum()
    }

    /// Scores the search network on images of the validation half.
    fn score(&self, batches: Batches<'_>, mixing: &MixingTables) -> Result<Score, DataError> {
        let mut score = Score::default();
        for batch in batches {
            score.add(self.learner.evaluate(&batch?, mixing));
        }
        Ok(score)
    }

    fn alpha_spread(&self) -> f64 {
        let spread = |choice: &Choice| {
            let logits = choice.logits();
            let largest = logits.iter().copied().fold(f64::MIN, f64::max);
            largest - logits.iter().copied().fold(f64::MAX, f64::min)
        };
        let architecture = &self.learner.architecture;
        let kinds = architecture.space().kinds().iter();
        let choices = kinds.flat_map(|&kind| &architecture.cell(kind).operations);
        choices.map(spread).fold(0.0, f64::max)
    }
}

/// Random paths of which the largest stands for all in an estimate of memory.
const PATHS_OF_ESTIMATE: usize = 50;

fn loader(
    data: &Arc<Dataset>,
    indices: &[usize],
    config: &Config,
    augment: Augment,
    normalization: &Normalization,
    stream: u64,
    shuffle: bool,
) -> Result<Loader, Error> {
    let seed = config.seed.wrapping_mul(2).wrapping_add(stream);
    let (data, indices) = (Arc::clone(data), indices.to_vec());
    let batch = config.search.batch;
    let normalization = normalization.clone();
    let loader = Loader::new(data, indices, batch, augment, normalization, seed, shuffle)?;
    // A smaller last batch could not be shared by the workers.
    Ok(loader.drop_last(shuffle && config.workers > 1))
}

/// Estimated memory of a search at its start, in MiB, with `batch` images per step.
fn memory_mb(
    config: &Config,
    architecture: &Architecture,
    data: &DataSummary,
    batch: usize,
) -> f64 {
    let shape = config.network.shape(data.image, data.classes.len());
    let mut cost = search_cost(architecture, &shape).unwrap_or_default();
    if config.samples_paths() {
        let mut random = ChaCha8Rng::seed_from_u64(config.seed);
        let space = architecture.space();
        let paths = (0..PATHS_OF_ESTIMATE).map(|_| Genotype::random(space, &mut random));
        let of_path = |path| evaluation_cost(&path, &shape).unwrap_or_default().activations;
        cost.activations = paths.map(of_path).max().unwrap_or(cost.activations);
    }
    let family = architecture.space().family;
    Footprint::of_search(family, config.samples_paths(), config.precision()).mb(&cost, batch)
}
