//! Training of an evaluation network (ASAP section 4.2): the loop, its records, and its ending.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use asap_core::{Cost, Genotype, NetworkShape, PowerCosineLearningRate, evaluation_cost};
use asap_data::{
    Augment, Dataset, Loader, Normalization, Splits, normalization, stratified_halves,
};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::report;
use crate::run::folder::{self as run_folder, RunFolder};
use crate::run::memory::{activations_mb, peak_rss_mb};
use crate::run::pace::Pace;
use crate::run::record::{
    DataSummary, Event, Observer, Outcome, TrainRecord, TrainResult, TrainStep,
};
use crate::settings::config::Config;
use asap_net::evaluation::Evaluation;
use asap_net::network::Network;
use asap_net::parameters::{NamedValues, Parameters};
use asap_net::pass::{DropPath, Pass};
use asap_net::steps::{Descent, NonFinite, Score, descend, evaluate, finite};
use asap_net::tensor_file::{self, Header};
use asap_net::trained::{self, NetworkCard, TrainedNetwork};

/// A training: a network, its images, and where it stands.
pub struct Training {
    config: Config,
    genotype: Genotype,
    shape: NetworkShape,
    cost: Cost,
    data: DataSummary,
    device: Device,
    network: Network,
    parameters: Parameters,
    rate: PowerCosineLearningRate,
    train: Loader,
    valid: Option<Loader>,
    test: Option<Dataset>,
    progress: Progress,
}

/// What stands beside the tensors in the checkpoint of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    data: DataSummary,
    genotype: Genotype,
    progress: Progress,
}

impl Header for State {
    const KIND: &'static str = "training";
    const REMEDY: &'static str = "give the folder of a training, or start the training anew";
}

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Epoch that is going on, from 0.
    epoch: usize,
    /// Steps of that epoch already made.
    step: usize,
    /// Scores of the epoch's steps.
    train: Score,
    /// Epoch with the best accuracy on the validation images, and that accuracy.
    best: Option<(usize, f64)>,
    /// Seconds that the epoch has taken so far.
    epoch_seconds: f64,
    /// Seconds that the training has taken so far.
    seconds: f64,
}

impl Training {
    /// Prepares the training of a cell on the images of `splits`.
    ///
    /// # Errors
    /// When configuration, cell and data do not fit.
    pub fn new(config: Config, genotype: Genotype, splits: Splits) -> Result<Self, Error> {
        let device = config.device.open()?;
        let Splits { name, train, valid, test, .. } = splits;
        let images = Arc::new(train);
        let share = if valid.is_some() { 0.0 } else { config.train.validation };
        let (used, held_out) =
            stratified_halves(images.labels(), images.classes().len(), 1.0 - share, config.seed);
        if used.is_empty() {
            return Err(Error::Config(format!(
                "train.validation: expected a share that leaves images to train on, found {share} of {}",
                images.len()
            )));
        }
        let normalization = normalization(&images.subset(&used)?);
        let data = DataSummary {
            name,
            image: images.image_shape(),
            classes: images.classes().to_vec(),
            train_images: used.len(),
            valid_images: valid.as_ref().map_or(held_out.len(), Dataset::len),
            test_images: test.as_ref().map_or(0, Dataset::len),
            mean: normalization.mean.clone(),
            std: normalization.std.clone(),
        };
        let [height, width, in_channels] = data.image;
        let shape = NetworkShape {
            channels: config.train.channels,
            cells: config.train.cells,
            height,
            width,
            in_channels,
            classes: data.classes.len(),
            stem: config.train.stem,
        };
        let cost = evaluation_cost(&genotype, &shape)?;
        let auxiliary = config.train.auxiliary_weight > 0.0;
        let (network, parameters) =
            Network::new(&genotype, &shape, auxiliary, &device, config.seed)?;
        let parameters = parameters.with_precision(config.precision);
        let loader = |images: Arc<Dataset>, indices, augment, shuffle| {
            let (batch, seed) = (config.train.batch, config.seed);
            let normalization = normalization.clone();
            Loader::new(images, indices, batch, augment, normalization, seed, shuffle)
        };
        let augment = config.train.augment.changes(height.min(width));
        // A last step of few images would disturb the batch norms.
        let train = loader(Arc::clone(&images), used, augment, true)?.drop_last(true);
        let valid = match valid {
            Some(valid) => {
                let all = (0..valid.len()).collect();
                Some(loader(Arc::new(valid), all, Augment::none(), false)?)
            }
            None if held_out.is_empty() => None,
            None => Some(loader(images, held_out, Augment::none(), false)?),
        };
        Ok(Self {
            rate: config.train.learning_rate(),
            config,
            genotype,
            shape,
            cost,
            data,
            device,
            network,
            parameters,
            train,
            valid,
            test,
            progress: Progress::default(),
        })
    }

    /// Begins with these values instead of random ones, where the network has such a tensor.
    ///
    /// # Errors
    /// When a tensor is of another shape.
    pub fn inherit(&mut self, values: &NamedValues) -> Result<usize, Error> {
        let mut own = self.parameters.values();
        let mut inherited = 0;
        for (name, value) in own.iter_mut() {
            if let Some(given) = values.get(name) {
                value.clone_from(given);
                inherited += 1;
            }
        }
        self.parameters.load_named(&own)?;
        Ok(inherited)
    }

    /// Brings back the state of a run's checkpoint, and drops events written after it.
    ///
    /// # Errors
    /// When there is no checkpoint, or it does not fit this training.
    pub fn restore(&mut self, folder: &RunFolder) -> Result<(), Error> {
        let (state, tensors) = tensor_file::load::<State>(&folder.file(run_folder::CHECKPOINT))?;
        let refuse = |problem: &str| {
            Err(Error::RunFolder { path: folder.path().to_owned(), problem: problem.to_owned() })
        };
        if state.genotype != self.genotype {
            return refuse(
                "the checkpoint is of another cell than genotype.json; put the original file back",
            );
        }
        if state.data != self.data {
            return refuse(
                "expected the images that the training began with, found others (their number, \
                 classes, size or mean has changed); put them back, or start a new training",
            );
        }
        self.parameters.load_named(&tensors)?;
        self.progress = state.progress;
        folder.retain_events(|record: &TrainRecord| record.epoch < self.progress.epoch)
    }

    /// What the training knows of its images.
    pub fn data(&self) -> &DataSummary {
        &self.data
    }

    /// Weights (without an auxiliary head) and multiply-adds of the network.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// The values of the network's tensors.
    pub fn weights(&self) -> NamedValues {
        self.parameters.values()
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.train.batches_per_epoch()
    }

    /// Number of epochs.
    pub fn epochs(&self) -> usize {
        self.config.train.epochs
    }

    /// About how much memory the training needs, in MiB.
    pub fn memory_estimate_mb(&self) -> f64 {
        activations_mb(&self.cost, self.config.train.batch.min(self.data.train_images))
    }

    /// Trains to the end, or until `stop` is set.
    ///
    /// # Errors
    /// When a number is no longer finite or the disk refuses; the last good checkpoint stays.
    pub fn run(
        &mut self,
        folder: &RunFolder,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<TrainResult>, Error> {
        let _lock = folder.lock()?;
        if self.progress.epoch == 0 && self.progress.step == 0 {
            folder.write_json(run_folder::GENOTYPE_JSON, &self.genotype)?;
            self.save(folder)?;
        }
        while self.progress.epoch < self.epochs() {
            if !self.epoch(folder, observer, stop)? {
                self.save(folder)?;
                observer.on_event(Event::Checkpoint);
                return Ok(Outcome::Stopped);
            }
            let record = self.record()?;
            folder.append_event(&record)?;
            observer.on_event(Event::TrainEpoch(&record));
            self.keep_best(folder, record.valid_accuracy)?;
            self.progress = Progress {
                epoch: self.progress.epoch + 1,
                best: self.progress.best,
                seconds: self.progress.seconds,
                ..Progress::default()
            };
            self.save(folder)?;
            observer.on_event(Event::Checkpoint);
            report::write_training(folder, &self.data, &self.config, &self.genotype, None)?;
        }
        let result = self.finish(folder)?;
        report::write_training(folder, &self.data, &self.config, &self.genotype, Some(&result))?;
        folder.write_json(run_folder::RESULT, &result)?;
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
        let (steps, settings) = (self.steps_per_epoch(), self.config.train.clone());
        let mut pace = Pace::new(settings.checkpoint_minutes);
        for batch in self.train.epoch_from(epoch, first) {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let made = epoch * steps + self.progress.step;
            let descent = Descent {
                sgd: settings.sgd(),
                learning_rate: self.rate.at(made as f64 / steps as f64),
                key: "train.lr",
                drop_path: Some(DropPath {
                    probability: settings.drop_path_at(epoch),
                    seed: self.config.seed,
                    step: made as u64,
                }),
                label_smoothing: settings.label_smoothing,
                auxiliary_weight: settings.auxiliary_weight,
            };
            let network = &self.network;
            let forward = |pass: &Pass<'_>, images| network.forward(pass, images);
            let score = descend(&mut self.parameters, &batch, &descent, forward);
            self.progress.train.add(score.map_err(|error| self.at_this_step(error))?);
            if settings.average > 0.0 {
                // The first steps are too far from the last ones to count as long.
                let young = (1.0 + made as f64) / (10.0 + made as f64);
                self.parameters.update_average(settings.average.min(young));
            }
            self.progress.step += 1;
            let seconds = pace.lap();
            self.progress.epoch_seconds += seconds;
            self.progress.seconds += seconds;
            observer.on_event(Event::TrainStep(TrainStep {
                epoch,
                epochs: self.epochs(),
                step: self.progress.step,
                steps,
                lr: descent.learning_rate,
                train_loss: self.progress.train.mean_loss().unwrap_or(0.0),
                train_accuracy: self.progress.train.accuracy().unwrap_or(0.0),
            }));
            if pace.checkpoint_is_due() {
                self.save(folder)?;
                observer.on_event(Event::Checkpoint);
                pace.checkpoint_written();
            }
        }
        Ok(true)
    }

    fn at_this_step(&self, error: NonFinite) -> Error {
        Error::non_finite(error, self.progress.epoch, self.progress.step)
    }

    /// Closes an epoch: measures it on the validation images.
    fn record(&mut self) -> Result<TrainRecord, Error> {
        let started = Instant::now();
        let valid = match &self.valid {
            Some(loader) => {
                let parameters = self.parameters.averaged();
                let mut score = Score::default();
                for batch in loader.epoch(0) {
                    let forward = |pass: &Pass<'_>, images| self.network.forward(pass, images).main;
                    score.add(evaluate(&parameters, &batch, forward));
                }
                let finite = finite("the loss on the validation images", score.loss, "train.lr");
                finite.map_err(|error| self.at_this_step(error))?;
                Some(score)
            }
            None => None,
        };
        let seconds = started.elapsed().as_secs_f64();
        self.progress.epoch_seconds += seconds;
        self.progress.seconds += seconds;
        let Progress { epoch, train, epoch_seconds, .. } = &self.progress;
        Ok(TrainRecord {
            epoch: *epoch,
            lr: self.rate.at(*epoch as f64),
            drop_path: self.config.train.drop_path_at(*epoch),
            train_loss: train.mean_loss().unwrap_or(0.0),
            train_accuracy: train.accuracy().unwrap_or(0.0),
            valid_loss: valid.and_then(|score| score.mean_loss()),
            valid_accuracy: valid.and_then(|score| score.accuracy()),
            epoch_seconds: *epoch_seconds,
            peak_rss_mb: peak_rss_mb(),
        })
    }

    fn keep_best(&mut self, folder: &RunFolder, accuracy: Option<f64>) -> Result<(), Error> {
        let Some(accuracy) = accuracy else { return Ok(()) };
        if self.progress.best.is_none_or(|(_, best)| accuracy > best) {
            self.progress.best = Some((self.progress.epoch, accuracy));
            let tensors = self.parameters.averaged().values();
            trained::save(&folder.file(run_folder::BEST), &self.card(), tensors)?;
        }
        Ok(())
    }

    /// What the network is, apart from its weights.
    fn card(&self) -> NetworkCard {
        NetworkCard {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            genotype: self.genotype.clone(),
            shape: self.shape,
            classes: self.data.classes.clone(),
            normalization: Normalization {
                mean: self.data.mean.clone(),
                std: self.data.std.clone(),
            },
            data: self.data.name.clone(),
        }
    }

    /// Writes the network, and measures it once on the test images.
    fn finish(&mut self, folder: &RunFolder) -> Result<TrainResult, Error> {
        let tensors = self.parameters.averaged().values();
        let trained = TrainedNetwork::new(self.card(), tensors, &self.device)?;
        trained.save(&folder.file(run_folder::WEIGHTS))?;
        let test: Option<Evaluation> =
            self.test.clone().map(|images| trained.evaluate(images)).transpose()?;
        let records: Vec<TrainRecord> = folder.events()?;
        let mut warnings = Vec::new();
        if test.is_none() {
            warnings.push(format!(
                "{} has no test images: no test error; measure one with asap evaluate",
                self.data.name
            ));
        }
        Ok(TrainResult {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: self.config.seed,
            data: self.data.clone(),
            genotype: self.genotype.clone(),
            params: self.cost.params as usize,
            multiply_adds: self.cost.multiply_adds,
            epochs: self.progress.epoch,
            seconds: self.progress.seconds,
            test,
            valid_accuracy: records.last().and_then(|record| record.valid_accuracy),
            best: self.progress.best,
            peak_rss_mb: peak_rss_mb(),
            warnings,
        })
    }

    fn save(&self, folder: &RunFolder) -> Result<(), Error> {
        let state = State {
            data: self.data.clone(),
            genotype: self.genotype.clone(),
            progress: self.progress.clone(),
        };
        let tensors = self.parameters.to_named();
        tensor_file::check_finite(&tensors, "train.lr").map_err(|e| self.at_this_step(e))?;
        Ok(tensor_file::save(&folder.file(run_folder::CHECKPOINT), &state, &tensors)?)
    }
}
