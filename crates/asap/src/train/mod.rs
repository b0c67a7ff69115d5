//! Training of an evaluation network (ASAP section 4.2): the loop, its records, and its ending.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use asap_core::plan::Plan;
use asap_core::{Cost, Genotype, NetworkShape, PowerCosineLearningRate};
use asap_data::{
    Augment, Batch, Dataset, Loader, Normalization, Splits, normalization, stratified_halves,
};
use asap_net::engine::Engine;
use asap_net::evaluation::Evaluation;
use asap_net::network::Network;
use asap_net::parameters::{NamedValues, Parameters};
use asap_net::pass::DropPath;
use asap_net::steps::{Descent, NonFinite, Score, descend, evaluate};
use asap_net::tensor_file::Header;
use asap_net::trained::{NetworkCard, TrainedNetwork};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::error::Error;
#[cfg(feature = "report")]
use crate::report;
use crate::run::driver::{self, Epochs, Position};
use crate::run::folder::{BEST, GENOTYPE_JSON, RunFolder, WEIGHTS};
use crate::run::memory::{activations_mb, peak_rss_mb};
use crate::run::record::{
    DataSummary, Event, Observer, Outcome, TrainOutline, TrainRecord, TrainResult, TrainStep,
};
use crate::run::sink::{Sink, Tensors};
use crate::settings::config::Config;

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
    position: Position,
    /// Epoch with the best accuracy on the validation images, and that accuracy.
    best: Option<(usize, f64)>,
}

/// The state of a training beside the tensors of its checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    data: DataSummary,
    genotype: Genotype,
    progress: Progress,
}

impl Header for State {
    const KIND: &'static str = "training";
    const REMEDY: &'static str = "give the folder of a training, or start the training anew";
}

/// The progress of a training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
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
        let auxiliary = config.train.auxiliary_weight > 0.0;
        let plan = Plan::evaluation(&genotype, &shape, auxiliary)?;
        let cost = plan.cost();
        let network = Network::new(plan, Engine::with_precision(&device, config.precision));
        let parameters = network.parameters(&device, config.seed);
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
            position: Position::default(),
            best: None,
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

    /// The training as it will be, in numbers.
    pub fn outline(&self) -> TrainOutline {
        TrainOutline {
            data: self.data.clone(),
            params: self.cost.params,
            multiply_adds: self.cost.multiply_adds,
            steps_per_epoch: self.steps_per_epoch(),
            epochs: self.epochs(),
            memory_estimate_mb: self.memory_estimate_mb(),
        }
    }

    /// About how long an epoch takes here, in seconds. A few steps are made for it.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn seconds_per_epoch(self) -> Result<f64, Error> {
        driver::seconds_per_epoch(self)
    }

    /// Trains to the end, or until `stop` is set.
    ///
    /// # Errors
    /// When a number is no longer finite or the sink refuses; the last good checkpoint stays.
    pub fn run(
        &mut self,
        sink: &mut dyn Sink,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<TrainResult>, Error> {
        driver::run(self, sink, observer, stop)
    }

    /// Goes on from the checkpoint of an earlier run in the same sink, as [`Training::run`] does; events written after
    /// the checkpoint are dropped.
    ///
    /// # Errors
    /// When there is no checkpoint, it does not fit this training, or as of [`Training::run`].
    pub fn resume(
        &mut self,
        sink: &mut dyn Sink,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<TrainResult>, Error> {
        driver::resume(self, sink, observer, stop)
    }

    /// The network as it is.
    fn trained(&self) -> Result<TrainedNetwork, Error> {
        let tensors = self.parameters.averaged().values();
        Ok(TrainedNetwork::new(self.card(), tensors, &self.device)?)
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
}

/// A file of a trained network.
fn file(network: &TrainedNetwork) -> Arc<Tensors<NetworkCard>> {
    Arc::new(Tensors { header: network.card().clone(), values: network.values() })
}

impl Epochs for Training {
    type State = State;
    type Record = TrainRecord;
    /// The learning rate.
    type Step = f64;
    type Result = TrainResult;

    const RATE_KEY: &'static str = "train.lr";
    const VALIDATION: &'static str = "the validation images";

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
        self.config.train.checkpoint_minutes
    }

    fn goes_on(&self) -> bool {
        self.position.epoch < self.epochs()
    }

    fn begin(&self, sink: &mut dyn Sink) -> Result<(), Error> {
        sink.write_json(GENOTYPE_JSON, &self.genotype)
    }

    fn train(&self) -> &Loader {
        &self.train
    }

    fn step(&mut self, batch: &Batch, _: Option<&Batch>) -> Result<f64, NonFinite> {
        let (epoch, steps) = (self.position.epoch, self.steps_per_epoch());
        let settings = &self.config.train;
        let made = epoch * steps + self.position.step;
        let descent = Descent {
            sgd: settings.sgd(),
            learning_rate: self.rate.at(made as f64 / steps as f64),
            key: Self::RATE_KEY,
            drop_path: Some(DropPath {
                probability: settings.drop_path_at(epoch),
                seed: self.config.seed,
                step: made as u64,
            }),
            label_smoothing: settings.label_smoothing,
            auxiliary_weight: settings.auxiliary_weight,
        };
        let score = descend(&self.network, &mut self.parameters, &[], batch, &descent)?;
        self.position.train.add(score);
        if settings.average > 0.0 {
            // The first steps are too far from the last ones to count as long.
            let young = (1.0 + made as f64) / (10.0 + made as f64);
            self.parameters.update_average(settings.average.min(young));
        }
        Ok(descent.learning_rate)
    }

    fn step_event<'a>(&'a self, lr: &'a f64) -> Event<'a> {
        Event::TrainStep(TrainStep {
            epoch: self.position.epoch,
            epochs: self.epochs(),
            step: self.position.step,
            steps: self.steps_per_epoch(),
            lr: *lr,
            train_loss: self.position.train.mean_loss().unwrap_or(0.0),
            train_accuracy: self.position.train.accuracy().unwrap_or(0.0),
        })
    }

    fn validation(&self) -> Option<&Loader> {
        self.valid.as_ref()
    }

    fn validate(&self, batches: &mut dyn Iterator<Item = Batch>) -> Score {
        let parameters = self.parameters.averaged();
        let mut score = Score::default();
        for batch in batches {
            score.add(evaluate(&self.network, &parameters, &[], &batch));
        }
        score
    }

    fn trim(&self) {
        self.network.engine().trim();
    }

    fn record(&self, valid: Option<Score>) -> TrainRecord {
        let Position { epoch, train, epoch_seconds, .. } = self.position;
        TrainRecord {
            epoch,
            lr: self.rate.at(epoch as f64),
            drop_path: self.config.train.drop_path_at(epoch),
            train_loss: train.mean_loss().unwrap_or(0.0),
            train_accuracy: train.accuracy().unwrap_or(0.0),
            valid_loss: valid.and_then(|score| score.mean_loss()),
            valid_accuracy: valid.and_then(|score| score.accuracy()),
            epoch_seconds,
            peak_rss_mb: peak_rss_mb(),
        }
    }

    fn epoch_event(record: &TrainRecord) -> Event<'_> {
        Event::TrainEpoch(record)
    }

    /// Keeps the network of the best epoch.
    fn close(&mut self, record: &TrainRecord, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some(accuracy) = record.valid_accuracy else { return Ok(()) };
        if self.best.is_none_or(|(_, best)| accuracy > best) {
            self.best = Some((record.epoch, accuracy));
            sink.save_tensors(BEST, file(&self.trained()?))?;
        }
        Ok(())
    }

    fn state(&self) -> (State, NamedValues) {
        let Position { epoch, step, train, epoch_seconds, seconds } = self.position;
        let state = State {
            data: self.data.clone(),
            genotype: self.genotype.clone(),
            progress: Progress { epoch, step, train, best: self.best, epoch_seconds, seconds },
        };
        (state, self.parameters.to_named())
    }

    fn restore(
        &mut self,
        Tensors { header: state, values }: Tensors<State>,
        refuse: &dyn Fn(&str) -> Error,
    ) -> Result<(), Error> {
        if state.genotype != self.genotype {
            return Err(refuse(
                "the checkpoint is of another cell than genotype.json; put the original file back",
            ));
        }
        if state.data != self.data {
            return Err(refuse(
                "expected the images that the training began with, found others (their number, \
                 classes, size or mean has changed); put them back, or start a new training",
            ));
        }
        self.parameters.load_named(&values)?;
        let Progress { epoch, step, train, best, epoch_seconds, seconds } = state.progress;
        self.position = Position { epoch, step, train, epoch_seconds, seconds };
        self.best = best;
        Ok(())
    }

    /// Writes the network, and measures it once on the test images.
    fn finish(
        &mut self,
        last: Option<&TrainRecord>,
        sink: &mut dyn Sink,
    ) -> Result<TrainResult, Error> {
        let trained = self.trained()?;
        sink.save_tensors(WEIGHTS, file(&trained))?;
        let test: Option<Evaluation> =
            self.test.clone().map(|images| trained.evaluate(images)).transpose()?;
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
            epochs: self.position.epoch,
            seconds: self.position.seconds,
            test,
            valid_accuracy: last.and_then(|record| record.valid_accuracy),
            best: self.best,
            peak_rss_mb: peak_rss_mb(),
            warnings,
        })
    }

    #[cfg_attr(not(feature = "report"), expect(unused_variables))]
    fn publish(&self, folder: &RunFolder, result: Option<&TrainResult>) -> Result<(), Error> {
        #[cfg(feature = "report")]
        report::write_training(folder, &self.data, &self.config, &self.genotype, result)?;
        Ok(())
    }
}
