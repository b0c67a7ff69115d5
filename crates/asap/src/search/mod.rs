//! A search over a data set: the loop of Algorithm 1 and of its rivals, and its records.

pub mod bench;
mod ending;
pub mod learner;
pub mod method;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use asap_core::{
    CellKind, Choice, CosineLearningRate, MixingTables, NetworkShape, Pruned, Stem, search_cost,
};
use asap_data::{
    Augment, Batch, Dataset, Loader, Normalization, Splits, normalization, stratified_halves,
};
use asap_net::engine::Engine;
use asap_net::parameters::NamedValues;
use asap_net::steps::{NonFinite, Score};

use crate::error::Error;
#[cfg(feature = "report")]
use crate::report;
use crate::run::checkpoint::{Progress, State};
use crate::run::driver::{self, Epochs, Position};
use crate::run::folder::{GENOTYPE_JSON, GENOTYPE_TEXT, RunFolder};
use crate::run::memory::{activations_mb, peak_rss_mb, rss_mb};
use crate::run::record::{
    DataSummary, EpochRecord, Event, Observer, Outcome, SearchOutline, SearchResult, StepReport,
};
use crate::run::sink::{Sink, Tensors};
use crate::search::learner::Learner;
use crate::search::method::{Clock, Method, Step};
use crate::settings::config::Config;

/// A search: a learner, the two halves of the training set, and where it stands.
pub struct Search {
    config: Config,
    data: DataSummary,
    learner: Learner,
    train: Loader,
    /// Augmented batches of the validation half, for the steps on alpha.
    alpha: Loader,
    /// The validation half as it is, for the accuracy.
    valid: Loader,
    method: Box<dyn Method>,
    /// Learning rate of alpha.
    alpha_lr: f64,
    position: Position,
    /// Steps on alpha so far.
    alpha_steps: usize,
    /// What the epoch has pruned so far, in words.
    pruned: Vec<String>,
}

impl Search {
    /// Prepares a search of `config` on the training images of `splits`.
    ///
    /// A validation set of the data's own is not touched: the search splits the training set in two
    /// equal parts, stratified by class.
    ///
    /// # Errors
    /// When configuration and data do not fit.
    pub fn new(config: Config, splits: Splits) -> Result<Self, Error> {
        let device = config.device.open()?;
        let data = Arc::new(splits.train);
        let (train, valid) =
            stratified_halves(data.labels(), data.classes().len(), 0.5, config.seed);
        if train.is_empty() || valid.is_empty() {
            return Err(Error::Config(format!(
                "{}: expected at least 2 images of a class to split in halves, found {} images in all",
                splits.name,
                data.len()
            )));
        }
        let normalization = normalization(&data.subset(&train)?);
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
        let steps = alpha_loader.batches_per_epoch().min(train_loader.batches_per_epoch());
        let method = method::build(config.search.method, &config, steps)?;
        let shape = NetworkShape {
            cells: method.cells(0, config.network.cells),
            ..network_shape(&config, &summary)
        };
        let learner = Learner::new(
            &shape,
            &config.space()?,
            config.search.method.edge_policy(config.search.edge_policy),
            Engine::with_precision(&device, config.precision),
            &device,
            config.seed,
        )?;
        Ok(Self {
            method,
            alpha_lr: config.alpha_lr(steps),
            data: summary,
            learner,
            train: train_loader,
            alpha: alpha_loader,
            valid: valid_loader,
            position: Position::default(),
            alpha_steps: 0,
            pruned: Vec::new(),
            config,
        })
    }

    /// What the search knows of its images.
    pub fn data(&self) -> &DataSummary {
        &self.data
    }

    /// The learner, for measuring.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.train.batches_per_epoch()
    }

    /// Most epochs.
    pub fn epochs(&self) -> usize {
        self.config.search.epochs
    }

    /// Epochs in which only the weights move.
    pub fn grace_epochs(&self) -> usize {
        let moves = |&epoch: &usize| self.method.moves(&Clock { epoch, ..self.clock() });
        (0..self.epochs()).take_while(|epoch| !moves(epoch)).count()
    }

    /// About how long an epoch takes here while nothing is pruned, in seconds. A few steps are made for it.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn seconds_per_epoch(mut self) -> Result<f64, Error> {
        self.position.epoch = self.grace_epochs();
        driver::seconds_per_epoch(self)
    }

    /// About how much memory the search needs at its start, in MiB; pruning lowers it.
    pub fn memory_estimate_mb(&self) -> f64 {
        let shape = network_shape(&self.config, &self.data);
        let cost = search_cost(&self.learner.architecture, &shape).unwrap_or_default();
        activations_mb(&cost, self.config.search.batch.min(self.data.train_images))
    }

    /// The search as it will be, in numbers.
    pub fn outline(&self) -> SearchOutline {
        SearchOutline {
            data: self.data.clone(),
            weights: self.learner.parameters.weight_count(),
            steps_per_epoch: self.steps_per_epoch(),
            epochs: self.epochs(),
            grace_epochs: self.grace_epochs(),
            alpha_lr: self.alpha_lr,
            memory_estimate_mb: self.memory_estimate_mb(),
        }
    }

    /// Searches to the end, or until `stop` is set.
    ///
    /// # Errors
    /// When a number is no longer finite or the sink refuses; the last good checkpoint stays.
    pub fn run(
        &mut self,
        sink: &mut dyn Sink,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<SearchResult>, Error> {
        driver::run(self, sink, observer, stop)
    }

    /// Goes on from the checkpoint of an earlier run in the same sink, as [`Search::run`] does; events written after the
    /// checkpoint are dropped.
    ///
    /// # Errors
    /// When there is no checkpoint, it does not fit this search, or as of [`Search::run`].
    pub fn resume(
        &mut self,
        sink: &mut dyn Sink,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<SearchResult>, Error> {
        driver::resume(self, sink, observer, stop)
    }

    fn clock(&self) -> Clock {
        Clock { epoch: self.position.epoch, alpha_steps: self.alpha_steps }
    }

    fn at_this_step(&self, error: NonFinite) -> Error {
        self.position.error(error)
    }

    fn learning_rate(&self, epoch: usize) -> f64 {
        CosineLearningRate {
            initial: self.config.weights.lr,
            minimum: self.config.weights.lr_min,
            epochs: self.epochs(),
        }
        .at(epoch as f64)
    }

    fn alive_ops(&self) -> usize {
        let architecture = &self.learner.architecture;
        architecture.space().kinds().iter().map(|&kind| architecture.alive_count(kind)).sum()
    }

    /// Scores the search network on images of the validation half.
    fn score(&self, batches: &mut dyn Iterator<Item = Batch>, mixing: &MixingTables) -> Score {
        let mut score = Score::default();
        for batch in batches {
            score.add(self.learner.evaluate(&batch, mixing));
        }
        score
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

/// A step of a search that was made.
pub(crate) struct Made {
    /// Where the search stood before it.
    clock: Clock,
    /// What it pruned.
    pruned: Vec<Pruned>,
}

impl Epochs for Search {
    type State = State;
    type Record = EpochRecord;
    type Step = Made;
    type Result = SearchResult;

    const RATE_KEY: &'static str = "weights.lr";
    const VALIDATION: &'static str = "the validation half";

    fn threads(&self) -> usize {
        self.config.threads
    }

    fn position(&self) -> &Position {
        &self.position
    }

    fn position_mut(&mut self) -> &mut Position {
        &mut self.position
    }

    fn checkpoint_minutes(&self) -> f64 {
        self.config.search.checkpoint_minutes
    }

    fn goes_on(&self) -> bool {
        self.position.epoch < self.epochs() && !self.method.is_over(&self.learner)
    }

    fn train(&self) -> &Loader {
        &self.train
    }

    /// The steps on alpha.
    fn companions(&self) -> Option<&Loader> {
        self.method.moves(&self.clock()).then_some(&self.alpha)
    }

    fn step(&mut self, train: &Batch, valid: Option<&Batch>) -> Result<Made, NonFinite> {
        let clock = self.clock();
        let sgd = self.config.sgd();
        let step = Step { clock, train, sgd: &sgd, learning_rate: self.learning_rate(clock.epoch) };
        self.position.train.add(self.method.weight_step(&mut self.learner, &step)?);
        let mut pruned = Vec::new();
        if let Some(valid) = valid {
            pruned = self.method.architecture_step(&mut self.learner, &step, valid)?;
            self.alpha_steps += 1;
        }
        if self.position.step + 1 == self.steps_per_epoch() {
            pruned.extend(self.method.end_epoch(&mut self.learner, &clock));
        }
        let step = self.position.step;
        self.pruned.extend(pruned.iter().map(|pruned| format!("step {step}: {pruned}")));
        Ok(Made { clock, pruned })
    }

    fn step_event<'a>(&'a self, made: &'a Made) -> Event<'a> {
        Event::Step(StepReport {
            epoch: self.position.epoch,
            epochs: self.epochs(),
            step: self.position.step,
            steps: self.steps_per_epoch(),
            temperature: self.method.temperature(&made.clock),
            alive_ops: self.alive_ops(),
            train_accuracy: self.position.train.accuracy().unwrap_or(0.0),
            pruned: &made.pruned,
        })
    }

    fn cuts_epoch_short(&self) -> bool {
        self.learner.architecture.is_decided()
    }

    fn validation(&self) -> Option<&Loader> {
        Some(&self.valid)
    }

    fn validate(&self, batches: &mut dyn Iterator<Item = Batch>) -> Score {
        self.score(batches, &self.method.mixing(&self.learner, &self.clock()))
    }

    fn trim(&self) {
        self.learner.network.engine().trim();
    }

    fn record(&self, valid: Option<Score>) -> EpochRecord {
        let Position { epoch, train, epoch_seconds, .. } = self.position;
        let valid = valid.unwrap_or_default();
        let clock = self.clock();
        let temperature = self.method.temperature(&clock);
        let architecture = &self.learner.architecture;
        let candidates = architecture.space().candidates.len();
        EpochRecord {
            epoch,
            temperature,
            threshold: self.method.threshold(&clock, candidates),
            lr: self.learning_rate(epoch),
            alpha_lr: if self.method.moves(&clock) { self.alpha_lr } else { 0.0 },
            train_loss: train.mean_loss().unwrap_or(0.0),
            train_accuracy: train.accuracy().unwrap_or(0.0),
            valid_loss: valid.mean_loss().unwrap_or(0.0),
            valid_accuracy: valid.accuracy().unwrap_or(0.0),
            entropy_normal: architecture.entropy(CellKind::Normal, temperature),
            entropy_reduce: (architecture.space().kinds().contains(&CellKind::Reduction))
                .then(|| architecture.entropy(CellKind::Reduction, temperature)),
            alive_ops: self.alive_ops(),
            sparsity: architecture.sparsity(),
            alpha_spread: self.alpha_spread(),
            epoch_seconds,
            peak_rss_mb: peak_rss_mb(),
            rss_mb: rss_mb(),
            pruned: self.pruned.clone(),
            probabilities: (architecture.space().kinds().iter())
                .map(|&kind| {
                    let choices = architecture.cell(kind).operations.iter();
                    choices.map(|choice| choice.probabilities(temperature)).collect()
                })
                .collect(),
        }
    }

    fn epoch_event(record: &EpochRecord) -> Event<'_> {
        Event::Epoch(record)
    }

    fn close(&mut self, record: &EpochRecord, _: &mut dyn Sink) -> Result<(), Error> {
        let clock = self.clock();
        self.method.validated(&mut self.learner, &clock, record.valid_accuracy);
        self.pruned.clear();
        Ok(())
    }

    fn state(&self) -> (State, NamedValues) {
        let Position { epoch, step, train, epoch_seconds, seconds } = self.position;
        let pruned = self.pruned.clone();
        let alpha_steps = self.alpha_steps;
        let state = State {
            data: self.data.clone(),
            progress: Progress { epoch, step, alpha_steps, train, pruned, epoch_seconds, seconds },
            architecture: self.learner.architecture.clone(),
            method: self.method.state(),
        };
        (state, self.learner.parameters.to_named())
    }

    fn restore(
        &mut self,
        Tensors { header: state, values }: Tensors<State>,
        refuse: &dyn Fn(&str) -> Error,
    ) -> Result<(), Error> {
        let fresh = &self.learner.architecture;
        if state.architecture.space() != fresh.space()
            || state.architecture.policy() != fresh.policy()
        {
            return Err(refuse(
                "the checkpoint is of another search space than config.toml; \
                 put the original config.toml back",
            ));
        }
        if state.data != self.data {
            return Err(refuse(
                "expected the images that the search began with, found others (their number, \
                 classes, size or mean has changed); put them back, or start a new search",
            ));
        }
        self.learner.architecture = state.architecture;
        let Progress { epoch, step, alpha_steps, train, pruned, epoch_seconds, seconds } =
            state.progress;
        let cells = |epoch| self.method.cells(epoch, self.config.network.cells);
        if cells(epoch) == cells(0) {
            let Learner { network, parameters, architecture, .. } = &mut self.learner;
            network.prune_to(parameters, architecture);
        } else {
            self.learner.restart(cells(epoch));
        }
        self.learner.parameters.load_named(&values)?;
        self.position = Position { epoch, step, train, epoch_seconds, seconds };
        (self.alpha_steps, self.pruned) = (alpha_steps, pruned);
        self.method.restore(state.method).map_err(|error| {
            refuse(&format!(
                "expected a checkpoint of this method ({error}); start the search anew"
            ))
        })
    }

    fn finish(
        &mut self,
        last: Option<&EpochRecord>,
        sink: &mut dyn Sink,
    ) -> Result<SearchResult, Error> {
        let result = self.end(last.map_or(0.0, |record| record.valid_accuracy))?;
        sink.write_json(GENOTYPE_JSON, &result.genotype)?;
        sink.write(GENOTYPE_TEXT, format!("{}\n", result.genotype).as_bytes())?;
        Ok(result)
    }

    fn publish(&self, folder: &RunFolder, result: Option<&SearchResult>) -> Result<(), Error> {
        if let Some(result) = result {
            ending::publish(folder, &result.genotype)?;
        }
        #[cfg(feature = "report")]
        report::write(folder, &self.data, &self.config, result)?;
        Ok(())
    }
}

/// The size of the search network that a configuration gives on some images.
fn network_shape(config: &Config, data: &DataSummary) -> NetworkShape {
    let [height, width, in_channels] = data.image;
    NetworkShape {
        channels: config.network.channels,
        cells: config.network.cells,
        height,
        width,
        in_channels,
        classes: data.classes.len(),
        stem: Stem::Small,
    }
}

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
    Ok(Loader::new(data, indices, batch, augment, normalization, seed, shuffle)?)
}
