//! What follows from the settings: schedules, optimizers, shapes.

use std::path::Path;

use asap_core::{
    Adam, Annealing, EvolutionSettings, NetworkShape, PowerCosineLearningRate, SearchSpace, Stem,
    TemperatureSchedule, ThresholdPolicy,
};
use asap_data::{Augment, DataSpec, Dataset, LoadOptions, Policy};
use asap_kernels::Precision;
use asap_net::optimizer::Sgd;
use schemars::schema_for;

use super::config::{
    AugmentConfig, Config, Interval, LimitsConfig, NetworkConfig, QueryConfig, Relaxation,
    SearchConfig, TrainConfig,
};
use crate::error::Error;
use crate::memory::memory_for_images;
use crate::settings::MethodName;

/// Total movement of an alpha that the paper's search allows: 3e-4 per step, 45 epochs of 260 steps.
const ALPHA_MOVEMENT: f64 = 3e-4 * 45.0 * 260.0;
/// The temperature after the last epoch with an automatic decay.
pub(super) const LAST_TEMPERATURE: f64 = 0.1;
/// Upper limit of an automatic alpha rate.
const ALPHA_LR_LIMIT: f64 = 0.02;
/// The most epochs of a training that cutout does not help, and its side in longer ones: docs/results/time.md.
const TOO_SHORT_FOR_CUTOUT: usize = 24;
const LONG_CUTOUT: f64 = 0.25;
/// Steps of a search without a number of epochs: what single paths need (docs/results/quality.md), close to the paper's 11,700.
const SEARCH_STEPS: usize = 12_500;
/// The most epochs that are decided for a search or a training: each is validated and recorded.
pub(crate) const MOST_EPOCHS: usize = 500;

/// The number of epochs of a search whose configuration has 0 of them, if one has `steps` steps.
pub(crate) fn usual_search_epochs(steps: usize) -> usize {
    SEARCH_STEPS.div_ceil(steps.max(1)).min(MOST_EPOCHS)
}

impl Config {
    /// The meaning of each key, as a JSON schema.
    pub fn schema() -> serde_json::Value {
        schema_for!(Self).to_value()
    }

    /// True if the search computes single paths, never the mixture of all operations.
    pub fn samples_paths(&self) -> bool {
        let compares = self.goes_by_evidence() && self.search.relaxation == Relaxation::Paths;
        compares || self.search.method.samples_paths()
    }

    /// True if evidence alone prunes: no temperature, no threshold.
    pub(crate) fn goes_by_evidence(&self) -> bool {
        let anneals = matches!(self.search.method, MethodName::Asap | MethodName::Placebo);
        anneals && self.search.relaxation != Relaxation::Mixture
    }

    /// The number of epochs of a search, if one has `steps` steps.
    pub(crate) fn search_epochs(&self, steps: usize) -> usize {
        match self.search.epochs {
            0 => usual_search_epochs(steps),
            epochs => epochs,
        }
    }

    /// The precision of searches and trainings; `auto` is `f32`.
    pub fn precision(&self) -> Precision {
        self.precision.or_derived(|| Precision::F32)
    }

    /// The search space.
    ///
    /// # Errors
    /// If a candidate is listed twice, or there is none.
    pub fn space(&self) -> Result<SearchSpace, Error> {
        let partial = if self.search.method.is_partial() { self.pc_darts.parts } else { 1 };
        let space =
            SearchSpace::new(self.space, self.network.nodes, self.network.candidates.clone())?;
        Ok(space.with_partial(partial))
    }

    /// Schedule, grace and threshold of Algorithm 1.
    pub fn annealing(&self) -> Annealing {
        let initial = self.annealing.initial_temperature;
        let derived = || (LAST_TEMPERATURE / initial).powf(1.0 / self.search.epochs as f64);
        let decay = self.annealing.decay.or_derived(derived);
        Annealing {
            temperature: TemperatureSchedule::Exponential { initial, decay },
            threshold: ThresholdPolicy::Fixed { fraction: self.annealing.threshold },
            grace: self.annealing.grace_temperature,
        }
    }

    /// Epochs in which only the weights move.
    pub fn grace_epochs(&self) -> usize {
        let Annealing { temperature, grace, .. } = self.annealing();
        temperature.grace_epochs(grace, self.search.epochs)
    }

    /// The time from which annealing moves alpha, in epochs: after grace and warm-up.
    pub(crate) fn first_annealing(&self) -> f64 {
        let epochs = self.search.epochs as f64;
        let grace = match self.search.schedule {
            Interval::Epoch => self.grace_epochs() as f64,
            Interval::Step => {
                let Annealing { temperature, grace, .. } = self.annealing();
                temperature.reaches(grace).min(epochs)
            }
        };
        grace.max(self.search.warmup * epochs)
    }

    /// Epochs in which alpha moves towards the cell that is found; P-DARTS and PR-DARTS begin it anew with each of their stages.
    fn moving_epochs(&self) -> f64 {
        let epochs = self.search.epochs as f64;
        match self.search.method {
            method if method.anneals() => epochs - self.first_annealing(),
            MethodName::PcDarts => (1.0 - self.pc_darts.warmup) * epochs,
            MethodName::PDarts => 0.6 * epochs / 3.0,
            MethodName::PrDarts => 0.7 * epochs / 6.0,
            _ => epochs,
        }
    }

    /// The optimizer of alpha, for `steps` steps on it per epoch.
    pub fn adam(&self, steps: usize) -> Adam {
        Adam {
            lr: self.alpha_lr(steps),
            beta1: self.alpha.beta1,
            beta2: self.alpha.beta2,
            weight_decay: self.alpha.weight_decay,
            ..Adam::default()
        }
    }

    /// Learning rate of alpha, for `steps` alpha steps per epoch.
    pub fn alpha_lr(&self, steps: usize) -> f64 {
        self.alpha.lr.or_derived(|| {
            // Only methods that anneal have steps without alpha.
            let every = if self.search.method.anneals() { self.alpha.every } else { 1 };
            let moves = self.moving_epochs() * steps as f64 / every as f64;
            (ALPHA_MOVEMENT / moves.max(1.0)).min(ALPHA_LR_LIMIT)
        })
    }

    /// The optimizer of the weights.
    pub fn sgd(&self) -> Sgd {
        Sgd {
            momentum: self.weights.momentum,
            weight_decay: self.weights.weight_decay,
            gradient_clip: self.weights.gradient_clip,
            ..Sgd::default()
        }
    }

    /// The same with absolute paths to the images, so that they are found from any folder.
    #[must_use]
    pub fn from_anywhere(&self) -> Self {
        let absolute = |path: &str| {
            let found = std::path::absolute(path).ok()?;
            found.to_str().map(str::to_owned)
        };
        let mut config = self.clone();
        if let Ok(DataSpec::Path(_)) = self.data_spec() {
            config.data.source = absolute(&self.data.source).unwrap_or(config.data.source);
        }
        if !self.data.dir.is_empty() {
            config.data.dir = absolute(&self.data.dir).unwrap_or(config.data.dir);
        }
        config
    }

    /// `count` seeds, counting up from this configuration's; 0 follows the largest one.
    pub fn seeds(&self, count: u32) -> Vec<u64> {
        // TOML knows no larger integers than those of i64.
        (0..u64::from(count)).map(|i| self.seed.wrapping_add(i) & i64::MAX as u64).collect()
    }

    /// The options for reading the data set.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            size: (self.data.size > 0).then_some((self.data.size, self.data.size)),
            seed: self.data.seed,
            limit: (self.data.limit > 0).then_some(self.data.limit),
            skip_corrupt: self.data.skip_corrupt,
            memory: memory_for_images(self.data.memory_mb),
            ..LoadOptions::default()
        }
    }

    /// The data set.
    ///
    /// # Errors
    /// If the source is neither a known name nor a path.
    pub fn data_spec(&self) -> Result<DataSpec, Error> {
        Ok(self.data.source.parse::<DataSpec>()?)
    }

    /// Folder of the data set, if one is given.
    pub fn data_dir(&self) -> Option<&Path> {
        (!self.data.dir.is_empty()).then(|| Path::new(&self.data.dir))
    }
}

impl QueryConfig {
    /// The constants of `evolution`.
    pub(crate) fn evolution(&self) -> EvolutionSettings {
        EvolutionSettings { population: self.population, tournament: self.tournament }
    }
}

impl AugmentConfig {
    /// The augmentation of images with this smaller side, in pixels.
    pub fn changes(&self, side: usize) -> Augment {
        let cutout = (self.cutout.or_derived(|| 0.0) * side as f64).round() as usize;
        Augment {
            pad: self.pad,
            border: self.border,
            flip: self.flip,
            auto: self.policy(),
            erase: self.random_erasing,
            cutout: (cutout > 0).then_some(cutout),
        }
    }

    /// AutoAugment's policy, if there is one.
    pub(super) fn policy(&self) -> Option<Policy> {
        self.auto_augment.parse().ok()
    }
}

impl LimitsConfig {
    /// The limit on memory alone.
    pub(crate) fn of_memory(&self) -> Self {
        Self { memory_mb: self.memory_mb, ..Self::default() }
    }
}

impl NetworkConfig {
    /// The search network for images of this height, width and number of channels.
    pub fn shape(&self, [height, width, in_channels]: [usize; 3], classes: usize) -> NetworkShape {
        let Self { channels, cells, .. } = *self;
        NetworkShape { channels, cells, height, width, in_channels, classes, stem: Stem::Small }
    }
}

impl SearchConfig {
    /// Height, width and channels of images of the shape `image` in the search.
    pub fn image(&self, [height, width, channels]: [usize; 3]) -> [usize; 3] {
        let side = height.min(width);
        if self.size == 0 || self.size >= side {
            return [height, width, channels];
        }
        let scaled = |length: usize| (length * self.size + side / 2) / side;
        [scaled(height), scaled(width), channels]
    }
}

impl TrainConfig {
    /// The network to be trained on images of this height, width and number of channels, but for
    /// [`TrainConfig::multiply_adds`].
    pub fn shape(&self, [height, width, in_channels]: [usize; 3], classes: usize) -> NetworkShape {
        let Self { channels, cells, stem, .. } = *self;
        NetworkShape { channels, cells, height, width, in_channels, classes, stem }
    }

    /// The network to be trained on these images, but for [`TrainConfig::multiply_adds`].
    pub fn shape_for(&self, images: &Dataset) -> NetworkShape {
        self.shape(images.image_shape(), images.classes().len())
    }

    /// Cutout, decided by the number of epochs if it is not given.
    pub(crate) fn cutout(&self) -> f64 {
        let derived = || if self.epochs > TOO_SHORT_FOR_CUTOUT { LONG_CUTOUT } else { 0.0 };
        self.augment.cutout.or_derived(derived)
    }

    /// Lowers the number of images to validate on to this one.
    pub(crate) fn validate_at_most(&mut self, most: usize) {
        let given = Some(self.validation_images).filter(|&given| given > 0);
        self.validation_images = given.map_or(most, |given| given.min(most)).max(1);
    }

    /// The learning rate over the epochs.
    pub fn learning_rate(&self) -> PowerCosineLearningRate {
        PowerCosineLearningRate {
            initial: self.lr,
            minimum: self.lr_min,
            epochs: self.epochs,
            cycles: self.cycles,
            amplitude_decay: self.amplitude_decay,
            power: self.power,
            warmup_epochs: self.warmup_epochs,
        }
    }

    /// The optimizer.
    pub fn sgd(&self) -> Sgd {
        Sgd {
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            gradient_clip: self.gradient_clip,
            nesterov: self.nesterov,
            bias_rate: self.bias_rate,
        }
    }

    /// Probability of drop-path in an epoch, from 0 (DARTS `train.py`).
    pub fn drop_path_at(&self, epoch: usize) -> f64 {
        self.drop_path * epoch as f64 / self.epochs as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Auto, Layers, Preset};

    #[test]
    fn an_automatic_alpha_rate_allows_the_movement_of_the_paper_in_the_steps_that_alpha_has() {
        let mut config = Layers::preset(Preset::Quick).resolve().expect("a preset");
        config.search.relaxation = Relaxation::Mixture;
        (config.alpha.lr, config.search.epochs) = (Auto::Auto, 50);
        let steps = 10_000;
        let movement = |config: &Config, moves: usize| config.alpha_lr(steps) * moves as f64;
        // Of 50 epochs the first fifth is warm-up, and every third step moves alpha.
        assert_eq!((config.search.warmup, config.alpha.every), (0.2, 3));
        let of_asap = movement(&config, 40 * steps / 3);
        assert!((of_asap / ALPHA_MOVEMENT - 1.0).abs() < 1e-3, "{of_asap}");
        // In the whole search, after 15 epochs, and after two fifths and three tenths of the last stage.
        (config.pc_darts.warmup, config.search.epochs) = (0.3, 60);
        for (method, epochs) in [
            (MethodName::Darts, 60),
            (MethodName::PcDarts, 42),
            (MethodName::PDarts, 12),
            (MethodName::PrDarts, 7),
        ] {
            config.search.method = method;
            let movement = movement(&config, epochs * steps);
            assert!((movement / ALPHA_MOVEMENT - 1.0).abs() < 1e-3, "{method}: {movement}");
        }
    }

    #[test]
    fn with_a_temperature_per_step_alpha_begins_when_it_is_below_the_grace_temperature() {
        let mut config = Layers::preset(Preset::Paper).resolve().expect("a preset");
        (config.search.warmup, config.search.epochs) = (0.0, 2);
        config.search.schedule = Interval::Epoch;
        assert_eq!(config.first_annealing(), 1.0);
        config.search.schedule = Interval::Step;
        let first = config.first_annealing();
        let Annealing { temperature, grace, .. } = config.annealing();
        assert!((0.1..0.3).contains(&first) && (temperature.at(first) - grace).abs() < 1e-9);
    }
}
