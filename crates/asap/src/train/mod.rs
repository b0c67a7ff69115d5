//! Training of an evaluation network (ASAP section 4.2): the loop, its records, and its ending.

mod epochs;
mod filters;
mod limits;
mod time;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use asap_core::plan::Plan;
use asap_core::{Cost, Design, NetworkShape, PowerCosineLearningRate};
use asap_data::{
    Augment, DataError, Dataset, Loader, Normalization, Splits, normalization_of,
    stratified_halves, stratified_parts_of,
};
use asap_net::engine::Engine;
use asap_net::network::Network;
use asap_net::parameters::{NamedValues, Parameters};
use asap_net::team::{Alone, Team};
use asap_net::trained::{NetworkCard, TestImages, TrainedNetwork};
use burn::tensor::Device;

use crate::error::Error;
use crate::memory::{self, Footprint};
use crate::run::driver;
use crate::run::epochs::Position;
use crate::run::record::{DataSummary, Observer, Outcome, TrainOutline, TrainResult};
use crate::run::sink::Sink;
use crate::run::speed;
use crate::settings::Auto;
use crate::settings::config::{Config, StemFilters};

pub(crate) use self::limits::{check as check_limits, check_cells};
pub(crate) use self::time::epochs_to_fill;

/// The training images that a training uses, and those that it holds out; none if the data has validation images.
///
/// # Errors
/// If none are left to train on.
pub fn parts(
    config: &Config,
    images: &Dataset,
    has_valid: bool,
) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let share = if has_valid { 0.0 } else { config.train.validation };
    let (labels, classes) = (images.labels(), images.classes().len());
    let (mut used, held_out) = stratified_halves(labels, classes, 1.0 - share, config.seed);
    used = at_most(config.train.images, used, images, config.seed);
    if used.is_empty() {
        return Err(Error::Config(format!(
            "train.validation: expected a fraction that leaves images to train on, found {share} of {}",
            images.len()
        )));
    }
    Ok((used, held_out))
}

/// So many of these images, stratified by class; 0: all of them.
fn at_most(most: usize, chosen: Vec<usize>, images: &Dataset, seed: u64) -> Vec<usize> {
    if most == 0 || most >= chosen.len() {
        return chosen;
    }
    let fraction = most as f64 / chosen.len() as f64;
    let (labels, classes) = (images.labels(), images.classes().len());
    stratified_parts_of(&chosen, labels, classes, fraction, seed).0
}

/// An error of the augmentation under the name that its setting has for trainings.
fn of_training(error: DataError) -> Error {
    match error {
        DataError::Argument { name, expected, found } if name.starts_with("augment.") => {
            Error::Config(format!("train.{name}: expected {expected}, found {found}"))
        }
        error => error.into(),
    }
}

/// A training: a network, its images, and its position.
pub struct Training {
    config: Config,
    design: Design,
    shape: NetworkShape,
    cost: Cost,
    data: DataSummary,
    device: Device,
    network: Network,
    parameters: Parameters,
    team: Team,
    rate: PowerCosineLearningRate,
    train: Loader,
    valid: Option<Loader>,
    test: Option<Dataset>,
    /// Once it is known: it takes as long as reading all test images.
    test_checksum: OnceLock<String>,
    position: Position,
    /// Epoch with the best accuracy on the validation images, and that accuracy.
    best: Option<(usize, f64)>,
}

impl Training {
    /// Prepares the training of a cell on the images of `splits`.
    ///
    /// # Errors
    /// If configuration, cell and data do not fit.
    pub fn new(config: Config, design: impl Into<Design>, splits: Splits) -> Result<Self, Error> {
        let (device, design) = (config.device.open()?, design.into());
        let Splits { name, train, valid, test, .. } = splits;
        let images = Arc::new(train);
        let (used, held_out) = parts(&config, &images, valid.is_some())?;
        let (valid, validation) = match valid {
            Some(valid) => {
                let all = (0..valid.len()).collect();
                (Arc::new(valid), all)
            }
            None => (Arc::clone(&images), held_out),
        };
        let validation = at_most(config.train.validation_images, validation, &valid, config.seed);
        let normalization = normalization_of(&images, &used)?;
        let data = DataSummary {
            name,
            image: images.image_shape(),
            classes: images.classes().to_vec(),
            train_images: used.len(),
            valid_images: validation.len(),
            test_images: test.as_ref().map_or(0, Dataset::len),
            mean: normalization.mean.clone(),
            std: normalization.std.clone(),
        };
        let mut shape = config.train.shape(data.image, data.classes.len());
        if config.train.multiply_adds > 0 {
            shape = shape.closest(&design, config.train.multiply_adds)?;
        }
        let mut config = config;
        // Written down, since the number of epochs may change.
        config.train.augment.cutout = Auto::Value(config.train.cutout());
        let shape = limits::keep(&mut config, &design, shape)?;
        let auxiliary = config.train.auxiliary_weight > 0.0;
        let plan = Plan::of(&design, &shape, auxiliary)?;
        let cost = plan.cost();
        let batch = config.batch_of(config.train.batch, data.train_images)?;
        memory::check(config.device, config.limits.memory_mb, "train.batch", batch, |batch| {
            let part = config.part_of(batch);
            Footprint::of_training(&design, config.precision()).mb(&cost, part)
        })?;
        let network = Network::new(plan, Engine::with_precision(&device, config.precision()));
        let mut parameters = network.parameters(&device, config.seed);
        if config.train.stem_filters == StemFilters::Patches {
            filters::start(network.plan(), &mut parameters, &images, &used, &normalization)?;
        }
        let loader = |images: Arc<Dataset>, indices, augment, shuffle| {
            let (batch, seed) = (config.train.batch, config.seed);
            let normalization = normalization.clone();
            Loader::new(images, indices, batch, augment, normalization, seed, shuffle)
        };
        let augment = config.train.augment.changes(shape.height.min(shape.width));
        // A last step with few images would disturb the batch norms.
        let train = loader(Arc::clone(&images), used, augment, true);
        let train = train.map_err(of_training)?.drop_last(true);
        let valid = match validation.is_empty() {
            true => None,
            false => Some(loader(valid, validation, Augment::none(), false)?),
        };
        Ok(Self {
            team: config.team(Arc::new(Alone)),
            rate: config.train.learning_rate(),
            config,
            design,
            shape,
            cost,
            data,
            device,
            network,
            parameters,
            train,
            valid,
            test,
            test_checksum: OnceLock::new(),
            position: Position::default(),
            best: None,
        })
    }

    /// Starts from these values instead of random ones, for the tensors that the network has.
    ///
    /// # Errors
    /// If a tensor has a different shape.
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

    /// The configuration, with everything decided that depends on the images.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A summary of the training's images.
    pub fn data(&self) -> &DataSummary {
        &self.data
    }

    /// Weights (without an auxiliary head) and multiply-adds of the network.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Channels of the first cells or blocks.
    pub fn channels(&self) -> usize {
        self.shape.channels
    }

    /// The values of the network's tensors.
    pub fn weights(&self) -> NamedValues {
        self.parameters.values()
    }

    /// Steps per epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.train.batches_per_epoch()
    }

    /// Number of epochs.
    pub fn epochs(&self) -> usize {
        self.config.train.epochs
    }

    fn set_epochs(&mut self, epochs: usize) {
        self.config.train.epochs = epochs;
        self.rate = self.config.train.learning_rate();
    }

    /// Estimated memory of the training, in MiB.
    pub fn memory_estimate_mb(&self) -> f64 {
        let batch = self.config.train.batch.min(self.data.train_images);
        let part = self.config.part_of(batch);
        Footprint::of_training(&self.design, self.config.precision()).mb(&self.cost, part)
    }

    /// Key numbers of the training before it starts.
    pub fn outline(&self) -> TrainOutline {
        let batch = self.config.train.batch.min(self.data.train_images);
        TrainOutline {
            data: self.data.clone(),
            params: self.cost.params,
            multiply_adds: self.cost.multiply_adds,
            steps_per_epoch: self.steps_per_epoch(),
            images_left_out: self.data.train_images.saturating_sub(self.steps_per_epoch() * batch),
            epochs: self.epochs(),
            memory_estimate_mb: self.memory_estimate_mb(),
        }
    }

    /// Estimated seconds of an epoch here, to plan `seconds`. It makes some steps: at least three, and more until a second is
    /// over, or a twentieth of `seconds` if that is less.
    ///
    /// # Errors
    /// If a number is not finite.
    pub fn seconds_per_epoch(self, seconds: f64) -> Result<f64, Error> {
        speed::seconds_per_epoch(self, seconds)
    }

    /// Trains to the end, or until `stop` is set.
    ///
    /// # Errors
    /// If a number is no longer finite or the sink cannot be written; the last good checkpoint stays.
    pub fn run(
        &mut self,
        sink: &mut dyn Sink,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<TrainResult>, Error> {
        driver::run(self, sink, observer, stop)
    }

    /// Continues from the checkpoint of an earlier run in the same sink, like [`Training::run`]; events written after
    /// the checkpoint are dropped.
    ///
    /// # Errors
    /// If there is no checkpoint, or it does not fit this training; and those of [`Training::run`].
    pub fn resume(
        &mut self,
        sink: &mut dyn Sink,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<TrainResult>, Error> {
        driver::resume(self, sink, observer, stop)
    }

    /// The network in its current state.
    fn trained(&self) -> Result<TrainedNetwork, Error> {
        let tensors = self.parameters.averaged().values();
        Ok(TrainedNetwork::new(self.card()?, tensors, &self.device)?)
    }

    /// What is known of the test images, which are read once for it.
    fn test_images(&self) -> Result<Option<TestImages>, Error> {
        let tested = |test: &Dataset| {
            let checksum = match self.test_checksum.get() {
                Some(known) => known.clone(),
                None => {
                    let checksum = test.checksum()?;
                    self.test_checksum.get_or_init(|| checksum).clone()
                }
            };
            Ok::<_, Error>(TestImages {
                images: test.len(),
                seed: self.config.data.seed,
                limit: self.config.data.limit,
                checksum,
            })
        };
        self.test.as_ref().map(tested).transpose()
    }

    /// The description of the network, without its weights.
    fn card(&self) -> Result<NetworkCard, Error> {
        Ok(NetworkCard {
            test: self.test_images()?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            design: self.design.clone(),
            shape: self.shape,
            classes: self.data.classes.clone(),
            normalization: Normalization {
                mean: self.data.mean.clone(),
                std: self.data.std.clone(),
            },
            data: self.data.name.clone(),
        })
    }
}
