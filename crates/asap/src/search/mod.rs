//! A search over a data set: the loop of Algorithm 1 and of its rivals, and its records.

pub mod bench;
mod ending;
pub mod learner;
pub mod method;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use asap_core::{CellKind, Choice, CosineLearningRate, NetworkShape, Stem, search_cost};
use asap_data::{
    Augment, Dataset, Loader, Normalization, Splits, normalization, stratified_halves,
};
use asap_kernels::buffers;

use crate::error::Error;
use crate::report;
use crate::run::checkpoint::{self, Progress, State};
use crate::run::folder::{self as run_folder, RunFolder};
use crate::run::memory::{activations_mb, peak_rss_mb, rss_mb};
use crate::run::pace::Pace;
use crate::run::record::{
    DataSummary, EpochRecord, Event, Observer, Outcome, SearchResult, StepReport,
};
use crate::search::learner::{Learner, MixingTables};
use crate::search::method::{Clock, Method, Step};
use crate::settings::config::Config;
use asap_net::steps::{NonFinite, Score, finite};
use asap_net::tensor_file;

/// Steps from which the time of an epoch is told.
const TIMED_STEPS: usize = 3;

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
    progress: Progress,
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
            config.search.method.edge_policy(&config),
            &device,
            config.seed,
        )?
        .with_precision(config.precision);
        Ok(Self {
            method,
            alpha_lr: config.alpha_lr(steps),
            data: summary,
            learner,
            train: train_loader,
            alpha: alpha_loader,
            valid: valid_loader,
            progress: Progress::default(),
            config,
        })
    }

    /// Brings back the state of a run's checkpoint, and drops events written after it.
    ///
    /// # Errors
    /// When there is no checkpoint, or it does not fit this search.
    pub fn restore(&mut self, folder: &RunFolder) -> Result<(), Error> {
        let (state, tensors) = checkpoint::load(folder)?;
        let refuse = |problem: &str| {
            Err(Error::RunFolder { path: folder.path().to_owned(), problem: problem.to_owned() })
        };
        let fresh = &self.learner.architecture;
        if state.architecture.space() != fresh.space()
            || state.architecture.policy() != fresh.policy()
        {
            return refuse(
                "the checkpoint is of another search space than config.toml; \
                 put the original config.toml back",
            );
        }
        if state.data != self.data {
            return refuse(
                "expected the images that the search began with, found others (their number, \
                 classes, size or mean has changed); put them back, or start a new search",
            );
        }
        self.learner.architecture = state.architecture;
        let cells = |epoch| self.method.cells(epoch, self.config.network.cells);
        if cells(state.progress.epoch) == cells(0) {
            let Learner { supernet, parameters, architecture, .. } = &mut self.learner;
            supernet.prune_to(parameters, architecture);
        } else {
            self.learner.restart(cells(state.progress.epoch));
        }
        self.learner.parameters.load_named(&tensors)?;
        self.progress = state.progress;
        self.method.restore(state.method).map_err(|error| Error::RunFolder {
            path: folder.path().to_owned(),
            problem: format!(
                "expected a checkpoint of this method ({error}); start the search anew"
            ),
        })?;
        folder.retain_events(|record: &EpochRecord| record.epoch < self.progress.epoch)
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

    /// About how long an epoch takes here while nothing is pruned, in seconds. A few steps are made for it, so that
    /// this search should not be run any more.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn seconds_per_epoch(mut self) -> Result<f64, Error> {
        let (epoch, sgd) = (self.grace_epochs(), self.config.sgd());
        let clock = Clock { epoch, ..self.clock() };
        let learning_rate = self.learning_rate(epoch);
        let batches = self.train.epoch(epoch).zip(self.alpha.epoch(epoch)).take(1 + TIMED_STEPS);
        let mut started = Instant::now();
        let mut steps = 0;
        for (made, (train, valid)) in batches.enumerate() {
            if made == 1 {
                // The first step takes its memory from the system.
                (started, steps) = (Instant::now(), 0);
            }
            let step = Step { clock, train: &train, sgd: &sgd, learning_rate };
            let outcome = self.method.weight_step(&mut self.learner, &step);
            outcome.map_err(|error| self.at_this_step(error))?;
            let outcome = self.method.architecture_step(&mut self.learner, &step, &valid);
            outcome.map_err(|error| self.at_this_step(error))?;
            steps += 1;
        }
        let step = started.elapsed().as_secs_f64() / f64::from(steps.max(1));
        let mixing = self.method.mixing(&self.learner, &clock);
        let started = Instant::now();
        if let Some(batch) = self.valid.epoch(0).next() {
            self.learner.evaluate(&batch, &mixing);
        }
        let inference = started.elapsed().as_secs_f64();
        Ok(step * self.steps_per_epoch() as f64 + inference * self.valid.batches_per_epoch() as f64)
    }

    /// About how much memory the search needs at its start, in MiB; pruning lowers it.
    pub fn memory_estimate_mb(&self) -> f64 {
        let shape = network_shape(&self.config, &self.data);
        let cost = search_cost(&self.learner.architecture, &shape).unwrap_or_default();
        activations_mb(&cost, self.config.search.batch.min(self.data.train_images))
    }

    /// Effective learning rate of alpha.
    pub fn alpha_lr(&self) -> f64 {
        self.alpha_lr
    }

    /// Searches to the end, or until `stop` is set.
    ///
    /// # Errors
    /// When a number is no longer finite or the disk refuses; the last good checkpoint stays.
    pub fn run(
        &mut self,
        folder: &RunFolder,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<SearchResult>, Error> {
        let _lock = folder.lock()?;
        if self.progress.epoch == 0 && self.progress.step == 0 {
            self.save(folder)?;
        }
        // An epoch that was broken off is brought to its end first.
        while self.progress.step > 0
            || self.progress.epoch < self.epochs() && !self.method.is_over(&self.learner)
        {
            if !self.epoch(folder, observer, stop)? {
                self.save(folder)?;
                observer.on_event(Event::Checkpoint);
                return Ok(Outcome::Stopped);
            }
            let record = self.record()?;
            buffers::trim();
            folder.append_event(&record)?;
            observer.on_event(Event::Epoch(&record));
            let clock = self.clock();
            self.method.validated(&mut self.learner, &clock, record.valid_accuracy);
            self.progress = Progress {
                epoch: self.progress.epoch + 1,
                alpha_steps: self.progress.alpha_steps,
                seconds: self.progress.seconds,
                ..Progress::default()
            };
            self.save(folder)?;
            observer.on_event(Event::Checkpoint);
            report::write(folder, &self.data, &self.config, None)?;
        }
        let records: Vec<EpochRecord> = folder.events()?;
        let result = self.finish(records.last().map_or(0.0, |record| record.valid_accuracy))?;
        self.write_result(folder, &result)?;
        Ok(Outcome::Finished(Box::new(result)))
    }

    /// The steps of an epoch; false if asked to stop before its end.
    fn epoch(
        &mut self,
        folder: &RunFolder,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<bool, Error> {
        let (epoch, first) = (self.progress.epoch, self.progress.step);
        let lr = self.learning_rate(epoch);
        let sgd = self.config.sgd();
        let steps = self.steps_per_epoch();
        let moves = self.method.moves(&self.clock());
        let mut alpha_batches = moves.then(|| self.alpha.epoch_from(epoch, first));
        let mut pace = Pace::new(self.config.search.checkpoint_minutes);
        for batch in self.train.epoch_from(epoch, first) {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let clock = self.clock();
            let step = Step { clock, train: &batch, sgd: &sgd, learning_rate: lr };
            let score = self.method.weight_step(&mut self.learner, &step);
            self.progress.train.add(score.map_err(|error| self.at_this_step(error))?);
            let mut pruned = Vec::new();
            if let Some(valid) = alpha_batches.as_mut().and_then(Iterator::next) {
                let outcome = self.method.architecture_step(&mut self.learner, &step, &valid);
                pruned = outcome.map_err(|error| self.at_this_step(error))?;
                self.progress.alpha_steps += 1;
            }
            let made = self.progress.step + 1;
            if made == steps {
                pruned.extend(self.method.end_epoch(&mut self.learner, &clock));
            }
            let told = pruned.iter().map(|p| format!("step {}: {p}", self.progress.step));
            self.progress.pruned.extend(told);
            self.progress.step = made;
            let seconds = pace.lap();
            self.progress.epoch_seconds += seconds;
            self.progress.seconds += seconds;
            observer.on_event(Event::Step(StepReport {
                epoch,
                epochs: self.epochs(),
                step: made,
                steps,
                temperature: self.method.temperature(&clock),
                alive_ops: self.alive_ops(),
                train_accuracy: self.progress.train.accuracy().unwrap_or(0.0),
                pruned: &pruned,
            }));
            if self.learner.architecture.is_decided() {
                break;
            }
            if pace.checkpoint_is_due() {
                self.save(folder)?;
                observer.on_event(Event::Checkpoint);
                pace.checkpoint_written();
            }
        }
        Ok(true)
    }

    fn clock(&self) -> Clock {
        let Progress { epoch, alpha_steps, .. } = self.progress;
        Clock { epoch, alpha_steps }
    }

    fn at_this_step(&self, error: NonFinite) -> Error {
        Error::non_finite(error, self.progress.epoch, self.progress.step)
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
        CellKind::ALL.map(|kind| self.learner.architecture.alive_count(kind)).iter().sum()
    }

    /// Scores the search network on the validation half.
    fn validate(&self, mixing: &MixingTables) -> Score {
        let mut score = Score::default();
        for batch in self.valid.epoch(0) {
            score.add(self.learner.evaluate(&batch, mixing));
        }
        score
    }

    /// Closes an epoch: measures it on the validation half.
    fn record(&mut self) -> Result<EpochRecord, Error> {
        let started = Instant::now();
        let valid = self.validate(&self.method.mixing(&self.learner, &self.clock()));
        let finite = finite("the loss on the validation half", valid.loss, "weights.lr");
        finite.map_err(|error| self.at_this_step(error))?;
        let seconds = started.elapsed().as_secs_f64();
        self.progress.epoch_seconds += seconds;
        self.progress.seconds += seconds;
        let Progress { epoch, train, pruned, epoch_seconds, .. } = &self.progress;
        let clock = self.clock();
        let temperature = self.method.temperature(&clock);
        let architecture = &self.learner.architecture;
        let candidates = architecture.space().candidates.len();
        Ok(EpochRecord {
            epoch: *epoch,
            temperature,
            threshold: self.method.threshold(&clock, candidates),
            lr: self.learning_rate(*epoch),
            alpha_lr: if self.method.moves(&clock) { self.alpha_lr } else { 0.0 },
            train_loss: train.mean_loss().unwrap_or(0.0),
            train_accuracy: train.accuracy().unwrap_or(0.0),
            valid_loss: valid.mean_loss().unwrap_or(0.0),
            valid_accuracy: valid.accuracy().unwrap_or(0.0),
            entropy_normal: architecture.entropy(CellKind::Normal, temperature),
            entropy_reduce: architecture.entropy(CellKind::Reduction, temperature),
            alive_ops: self.alive_ops(),
            sparsity: architecture.sparsity(),
            alpha_spread: self.alpha_spread(),
            epoch_seconds: *epoch_seconds,
            peak_rss_mb: peak_rss_mb(),
            rss_mb: rss_mb(),
            pruned: pruned.clone(),
            probabilities: CellKind::ALL.map(|kind| {
                let choices = architecture.cell(kind).operations.iter();
                choices.map(|choice| choice.probabilities(temperature)).collect()
            }),
        })
    }

    fn alpha_spread(&self) -> f64 {
        let spread = |choice: &Choice| {
            let logits = choice.logits();
            let largest = logits.iter().copied().fold(f64::MIN, f64::max);
            largest - logits.iter().copied().fold(f64::MAX, f64::min)
        };
        let architecture = &self.learner.architecture;
        let choices =
            CellKind::ALL.into_iter().flat_map(|kind| &architecture.cell(kind).operations);
        choices.map(spread).fold(0.0, f64::max)
    }

    fn save(&self, folder: &RunFolder) -> Result<(), Error> {
        let state = State {
            data: self.data.clone(),
            progress: self.progress.clone(),
            architecture: self.learner.architecture.clone(),
            method: self.method.state(),
        };
        let tensors = self.learner.parameters.to_named();
        tensor_file::check_finite(&tensors, "weights.lr").map_err(|e| self.at_this_step(e))?;
        Ok(tensor_file::save(&folder.file(run_folder::CHECKPOINT), &state, &tensors)?)
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
