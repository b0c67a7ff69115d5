//! Training of an evaluation network (ASAP section 4.2): the loop, its records, and its ending.

mod epochs;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use asap_core::plan::Plan;
use asap_core::{Cost, Genotype, NetworkShape, PowerCosineLearningRate};
use asap_data::{
    Augment, Dataset, Loader, Normalization, Splits, normalization, stratified_halves,
};
use asap_net::engine::Engine;
use asap_net::network::Network;
use asap_net::parameters::{NamedValues, Parameters};
use asap_net::trained::{NetworkCard, TrainedNetwork};
use burn::tensor::Device;

use crate::error::Error;
use crate::run::driver::{self, Position};
use crate::run::memory::activations_mb;
use crate::run::record::{DataSummary, Observer, Outcome, TrainOutline, TrainResult};
use crate::run::sink::Sink;
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
