//! Every value that a search and a training depend on.

use asap_core::{EdgePolicy, EvolutionSettings, Family, Operation, Stem};
use asap_data::Border;
use asap_kernels::Precision;
use asap_net::device::DeviceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Auto, MethodName};

/// All settings of a search and of a training, resolved; `config.toml` of a run folder holds exactly this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed for the initial weights, the split, the order of the images and their augmentation.
    pub seed: u64,
    /// Number of worker threads; 0: all cores. The result does not depend on it.
    pub threads: usize,
    /// Number of virtual workers, a power of two. Each computes its part of every batch, with its own batch norm statistics, and
    /// their gradients are combined in a fixed tree: the result depends on the number of workers, but not on which processes or
    /// threads do their work. Smaller parts take less memory.
    #[serde(default = "one")]
    pub workers: usize,
    /// Compute batch norm over whole batches, even when several processes share them. The result then depends, in its last
    /// digits, on the number of processes and no longer on `workers`, which only limits that number.
    #[serde(default)]
    pub sync_batch_norm: bool,
    /// Device that holds tensors and runs operations.
    #[schemars(with = "String")]
    pub device: DeviceName,
    /// CPU precision in training: `f32`, or `bf16` for mixed precision, which is faster on processors with bf16 multiplication.
    /// `auto` is `f32`, but for trainings with `--time` on such processors the one whose steps are faster. Inference always uses `f32`.
    #[schemars(with = "String")]
    #[serde(with = "as_text", default)]
    pub precision: Auto<Precision>,
    /// Search space: `darts` or `nas-bench-201`.
    #[schemars(with = "String")]
    #[serde(default)]
    pub space: Family,
    /// Images.
    pub data: DataConfig,
    /// Size of the search network.
    pub network: NetworkConfig,
    /// Length and form of the search.
    pub search: SearchConfig,
    /// Temperature, grace and pruning (ASAP eqs. 3 and 9, Algorithm 1).
    pub annealing: AnnealingConfig,
    /// Pruning to a planned sparsity (eq. 13), for the methods that use it.
    pub pruning: PruningConfig,
    /// Partial channels, for `pc-darts`.
    pub pc_darts: PcDartsConfig,
    /// Searches that evaluate one cell after another.
    #[serde(default)]
    pub query: QueryConfig,
    /// Gradient descent on the network weights.
    pub weights: WeightsConfig,
    /// Gradient descent on alpha.
    pub alpha: AlphaConfig,
    /// Augmentation of images in a search.
    pub augment: AugmentConfig,
    /// Training of the evaluation network.
    pub train: TrainConfig,
    /// Limits on the trained network, met by reducing its number of channels.
    #[serde(default)]
    pub limits: LimitsConfig,
}

/// A value by its name.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The images of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Data set: a known name, or a path.
    pub source: String,
    /// Folder of a known data set; empty: search the usual places.
    pub dir: String,
    /// Seed for selecting the test images of a folder without a test set; it is separate from the seed of searches and trainings,
    /// so that they all share the same test set.
    pub seed: u64,
    /// Side in pixels to scale images of a folder to; 0: the size that half of them share, or else the
    /// median, up to 64.
    pub size: usize,
    /// Maximum number of images of each part (training, validation, test), stratified by class; 0: all.
    pub limit: usize,
    /// Skip unreadable images of a folder instead of failing.
    pub skip_corrupt: bool,
    /// Maximum memory for images, in MiB; images of a folder or a packed file that need more are reread in every epoch, with the
    /// same result. 0: half of the free memory.
    #[serde(default)]
    pub memory_mb: u64,
}

/// Size of the search network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Number of channels C of the first cells.
    pub channels: usize,
    /// Number of cells.
    pub cells: usize,
    /// Number of nodes per cell.
    pub nodes: usize,
    /// Candidate operations per edge.
    #[schemars(with = "Vec<String>")]
    pub candidates: Vec<Operation>,
}

/// Length and form of the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// Search method: `asap` or one of its rivals.
    #[schemars(with = "String")]
    pub method: MethodName,
    /// Maximum number of epochs; the search ends earlier once every choice is made. 0: as many as it takes for 12,500 steps,
    /// whatever the number of images, but at most 500.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// How the inputs of a node are selected: `anneal`, `strength` or `normalize`.
    #[schemars(with = "String")]
    pub edge_policy: EdgePolicy,
    /// Pixels to scale the smaller side of images down to during the search, to save time. 0, or more than they have: no scaling.
    #[serde(default)]
    pub size: usize,
    /// How `asap` relaxes the choice between operations: `mixture`, their annealed sum (eqs. 2 and 3); `even`, their sum with
    /// equal weights; or `paths`, one at a time, drawn at random. With the last two, pruning is by evidence.
    #[serde(default)]
    pub relaxation: Relaxation,
    /// Fraction of the epochs, at the start, in which only the weights are trained, whatever the temperature.
    #[serde(default)]
    pub warmup: f64,
    /// When the temperature T and the learning rate of the weights change: every `epoch` or every `step`.
    #[serde(default)]
    pub schedule: Interval,
    /// Number of training batches used to recompute batch norm statistics before an epoch is validated; 0: use the running
    /// statistics.
    #[serde(default)]
    pub statistics: usize,
    /// Increase in loss that `asap` accepts for halving the multiply-adds: it adds this many times the base-2 logarithm of the
    /// expected multiply-adds of the network to be trained (with `limits.latency_ms`, of its latency) to the loss; 0: ignore
    /// cost.
    #[serde(default)]
    pub cost: f64,
    /// Fraction of the training images that the search leaves out; `asap run` judges what it found on them.
    #[serde(default)]
    pub held_out: f64,
    /// Seed for selecting the held-out images, as in the trainings that are judged on them.
    #[serde(default)]
    pub held_out_seed: u64,
    /// Time limit in seconds, after which no further epoch is started; 0: no limit. The search ends with what it knows by then.
    #[serde(default)]
    pub seconds: f64,
    /// Minutes between checkpoints within a long epoch.
    pub checkpoint_minutes: f64,
}

/// The relaxation of the choice between operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relaxation {
    /// The sum of all operations, weighted by phi.
    #[default]
    Mixture,
    /// The evenly weighted sum of the remaining operations; pruned by evidence.
    Even,
    /// Single paths; pruned by evidence.
    Paths,
}

/// An interval of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// An epoch.
    #[default]
    Epoch,
    /// A step.
    Step,
}

/// The order of the choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All at once (Algorithm 1).
    #[default]
    Together,
    /// The operations of every edge, then the edges too (DOTS, arXiv 2010.00969).
    OperationsFirst,
    /// The inputs of every node, then the operations too (FTSO).
    EdgesFirst,
}

/// The network that a step on the weights trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trained {
    /// The mixture that alpha's step sees.
    #[default]
    Annealed,
    /// All remaining operations with equal weights.
    Even,
    /// One path at a time, drawn at random.
    Path,
}

/// The descent on alpha.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlphaOptimizer {
    /// Adam.
    #[default]
    Adam,
    /// Plain gradient descent (eq. 4).
    Descent,
}

/// Temperature, grace and pruning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnealingConfig {
    /// Initial temperature, T0 of eq. 9.
    pub initial_temperature: f64,
    /// Decay factor of the temperature per epoch, beta of eq. 9; `auto` reaches T = 0.1 at the last epoch.
    #[schemars(with = "String")]
    pub decay: Auto,
    /// Temperature below which alpha is updated and operations are pruned.
    pub grace_temperature: f64,
    /// Pruning threshold theta times the number of candidates; 0.4 in the paper.
    pub threshold: f64,
    /// Acceptable probability of losing the best operation of an edge, for the schedule of Theorem 2 and for pruning by evidence.
    pub delta: f64,
    /// Also require that the measured variance of the gradients allows each pruning; always so with
    /// `search.relaxation = "paths"` or `"even"`.
    #[serde(default)]
    pub evidence: bool,
    /// Keep an operation or edge if removing it raises the loss more than removing its strongest rival does.
    #[serde(default)]
    pub veto: bool,
    /// Which choices are made in the first half of the epochs in which alpha is updated: only operations (`operations_first`),
    /// only edges (`edges_first`), or both (`together`).
    #[serde(default)]
    pub order: Order,
    /// Number of alpha steps over which the weight of evidence decays by a factor of e, as a fraction of all alpha steps; at
    /// least 0.25, since `delta` holds for about one such span.
    #[serde(default = "half")]
    pub memory: f64,
}

fn half() -> f64 {
    0.5
}

/// The schedule of eq. 13.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PruningConfig {
    /// Start of pruning, as a fraction of the epochs.
    pub start: f64,
    /// End of pruning, when one operation remains on each edge, as a fraction of the epochs.
    pub end: f64,
    /// Exponent p: 3 prunes most at the beginning, 1 prunes evenly.
    pub power: f64,
}

/// Partial channel connections (PC-DARTS).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PcDartsConfig {
    /// K: operations see only the first of K equal parts of the channels.
    pub parts: usize,
    /// Fraction of the epochs, at the start, in which alpha is not updated.
    pub warmup: f64,
}

/// Searches that evaluate one cell after another: `random-trained`, `evolution`, `pnas`, `nao`, `nasnet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryConfig {
    /// Number of cells to train, each from fresh weights for an equal share of `search.epochs`; 0: one for every two epochs.
    pub evaluations: usize,
    /// Population size of `evolution` (P): the number of cells alive.
    pub population: usize,
    /// Tournament size of `evolution` (S): the best of this many cells becomes the parent.
    pub tournament: usize,
}

impl Default for QueryConfig {
    fn default() -> Self {
        let EvolutionSettings { population, tournament } = EvolutionSettings::default();
        Self { evaluations: 0, population, tournament }
    }
}

/// Gradient descent on the network weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightsConfig {
    /// Learning rate in the first epoch.
    pub lr: f64,
    /// Final learning rate of the cosine schedule.
    pub lr_min: f64,
    /// Momentum.
    pub momentum: f64,
    /// L2 weight decay.
    pub weight_decay: f64,
    /// Maximum global gradient norm; larger gradients are scaled down to it.
    pub gradient_clip: f64,
    /// What a weight step trains with `search.relaxation = "mixture"`: the `annealed` mixture, an `even` one, or a single `path`.
    #[serde(default)]
    pub trained: Trained,
}

/// Gradient descent on alpha.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlphaConfig {
    /// Learning rate; `auto` allows the same total movement as the paper's 3e-4 over 45 epochs of 260 steps.
    #[schemars(with = "String")]
    pub lr: Auto,
    /// Decay rate of Adam's first moment.
    pub beta1: f64,
    /// Decay rate of Adam's second moment.
    pub beta2: f64,
    /// L2 weight decay.
    pub weight_decay: f64,
    /// Optimizer: `adam`, or `descent` for plain gradient descent (eq. 4).
    #[serde(default)]
    pub optimizer: AlphaOptimizer,
    /// Number of weight steps per alpha step.
    #[serde(default = "one")]
    pub every: usize,
}

fn one() -> usize {
    1
}

/// Limits on the trained network. It gets as many channels as they allow, but no more than `train` specifies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Maximum number of multiply-adds per image; 0: no limit.
    pub multiply_adds: u64,
    /// Maximum number of weights; 0: no limit.
    pub weights: u64,
    /// Maximum latency in milliseconds, from the bytes of one image to its logits on this CPU; 0: no limit.
    pub latency_ms: f64,
    /// Number of threads to measure the latency with.
    pub latency_threads: usize,
    /// Maximum memory of a search or training in MiB, as estimated before it starts; 0: no limit.
    pub memory_mb: u64,
    /// Number of channels that `limits.latency_ms` allows, once measured; 0: not measured yet.
    pub latency_channels: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            multiply_adds: 0,
            weights: 0,
            latency_ms: 0.0,
            latency_threads: 1,
            memory_mb: 0,
            latency_channels: 0,
        }
    }
}

/// Augmentation of training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// Padding in pixels around an image, before a random crop to its original size; 0: no crop.
    pub pad: usize,
    /// Content of the padding: `black`, or `reflect`, the image reflected at its edges.
    #[serde(default)]
    #[schemars(with = "String")]
    pub border: Border,
    /// Flip half of the images left to right.
    pub flip: bool,
    /// Side of the square set to the mean, as a fraction of the image's smaller side; 0: no cutout. `auto` is a quarter in
    /// trainings of more than 24 epochs, and no cutout in shorter ones and in searches.
    #[schemars(with = "String")]
    pub cutout: Auto,
    /// AutoAugment policy: `none`, `cifar`, `svhn` or `imagenet`.
    pub auto_augment: String,
    /// Probability of random erasing.
    pub random_erasing: f64,
}

/// The initial filters of the first convolution of a trained network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StemFilters {
    /// Drawn at random, like those of every other convolution.
    #[default]
    Random,
    /// Principal components of the images' patches, each with both signs.
    Patches,
}

fn unchanged() -> f64 {
    1.0
}

/// Training of the evaluation network (section 4.2 of the paper).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Number of channels C of the first cells.
    pub channels: usize,
    /// Target number of multiply-adds: the network gets the number of channels that comes closest, whatever `channels` says; 0:
    /// use `channels`.
    #[serde(default)]
    pub multiply_adds: u64,
    /// Number of cells.
    pub cells: usize,
    /// Layers before the cells: `small`, or `large` for ImageNet-sized images.
    #[schemars(with = "String")]
    pub stem: Stem,
    /// Initial filters of the first convolution: `random`, or `patches`, the principal components of the training images'
    /// patches.
    #[serde(default)]
    pub stem_filters: StemFilters,
    /// Number of epochs.
    pub epochs: usize,
    /// Time limit in seconds: if epochs turn out faster or slower than planned, their number is adjusted; 0: no limit.
    #[serde(default)]
    pub seconds: f64,
    /// Images per step.
    pub batch: usize,
    /// Fraction of the training images held out to monitor the training and to select its best epoch; 0: none, unless the data
    /// set comes with validation images. With `--time`, at most 1,000 images if there are test images.
    pub validation: f64,
    /// Maximum number of images to validate on, stratified by class; 0: all that are held out or come with the data set. With
    /// `--time`, at most 1,000 if there are test images.
    #[serde(default)]
    pub validation_images: usize,
    /// Maximum number of images to train on, stratified by class; 0: all that are not held out.
    #[serde(default)]
    pub images: usize,
    /// Learning rate of the first cycle.
    pub lr: f64,
    /// Learning rate at the end of a cycle.
    pub lr_min: f64,
    /// Number of learning rate cycles.
    pub cycles: usize,
    /// Factor applied to the amplitude of the learning rate from one cycle to the next.
    pub amplitude_decay: f64,
    /// Power p of the power cosine schedule; 1: plain cosine.
    pub power: f64,
    /// Number of epochs, at the start, over which the learning rate rises from 0.
    pub warmup_epochs: f64,
    /// Momentum.
    pub momentum: f64,
    /// Use Nesterov momentum.
    pub nesterov: bool,
    /// L2 weight decay.
    pub weight_decay: f64,
    /// Learning rate of biases, including those of batch norms, as a multiple of that of the weights; both decay alike.
    #[serde(default = "unchanged")]
    pub bias_rate: f64,
    /// Maximum global gradient norm; larger gradients are scaled down to it.
    pub gradient_clip: f64,
    /// Fraction of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Weight of the auxiliary head's loss; 0: no auxiliary head.
    pub auxiliary_weight: f64,
    /// Drop-path probability at the last epoch; it rises from 0.
    pub drop_path: f64,
    /// Decay of a moving average of the weights, which is evaluated instead of the weights themselves; 0: no averaging.
    pub average: f64,
    /// Start from the weights of the search network (`asap run`).
    pub inherit: bool,
    /// Minutes between checkpoints within a long epoch.
    pub checkpoint_minutes: f64,
    /// Augmentation of training images.
    pub augment: AugmentConfig,
}
