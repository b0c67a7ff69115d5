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
    /// Seed of the initial weights, the split, the order of images and their augmentation.
    pub seed: u64,
    /// Worker threads; 0 takes every core. The result does not depend on it.
    pub threads: usize,
    /// Virtual workers, a power of two. Each computes its part of every batch, with batch norm statistics of its own, and their gradients
    /// are joined in a fixed tree: the result depends on their number, and not on what does their work. Memory shrinks with the part.
    #[serde(default = "one")]
    pub workers: usize,
    /// Batch norm over whole batches, also where several processes share them. The result then depends on the number of processes, in its
    /// last digits, and no longer on `workers`, which only says how many there may be.
    #[serde(default)]
    pub sync_batch_norm: bool,
    /// Device that holds tensors and runs operations.
    #[schemars(with = "String")]
    pub device: DeviceName,
    /// Precision of the CPU in training: `f32`, or `bf16` for mixed precision, which is faster on processors that
    /// multiply bf16. `auto` is `f32`, but on such processors `bf16` for trainings within a time. Inference is always in `f32`.
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
    /// Descent on the network weights.
    pub weights: WeightsConfig,
    /// Descent on alpha.
    pub alpha: AlphaConfig,
    /// Augmentation of the images of a search.
    pub augment: AugmentConfig,
    /// Training of the evaluation network.
    pub train: TrainConfig,
    /// Limits that the trained network keeps, by the number of its channels.
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
    /// A known name, or a path.
    pub source: String,
    /// Folder of a known data set; empty: the usual places.
    pub dir: String,
    /// Seed that selects the test images of a folder without a test set; it is separate from the seed of search and
    /// training, so that all of them have the same test set.
    pub seed: u64,
    /// Side in pixels to which images of a folder are scaled; 0: that of half of them, or the median.
    pub size: usize,
    /// At most this many training images, the same number of each class; 0: all.
    pub limit: usize,
    /// Skip unreadable images of a folder instead of failing.
    pub skip_corrupt: bool,
    /// Memory in MiB that images may take; those of a folder or a packed file that take more are read again in every epoch, with the
    /// same result. 0: half of the free memory.
    #[serde(default)]
    pub memory_mb: u64,
}

/// Size of the search network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Channels C of the first cells.
    pub channels: usize,
    /// Number of cells.
    pub cells: usize,
    /// Nodes of a cell.
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
    /// Largest number of epochs; the search ends sooner once every choice is made. 0: as many as make 12,500 steps, whatever
    /// the number of images, but no more than 500.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// Selection of the inputs of a node: `anneal` or `strength`.
    #[schemars(with = "String")]
    pub edge_policy: EdgePolicy,
    /// Smaller side in pixels to which images are scaled for the search, to save time; 0, or more than theirs: as they are.
    #[serde(default)]
    pub size: usize,
    /// How the choice between operations is relaxed by `asap`: `mixture`, their sum, annealed (eqs. 2 and 3); `even`, their sum with
    /// even weights; or `paths`, one at a time, drawn at random. The last two are pruned by evidence.
    #[serde(default)]
    pub relaxation: Relaxation,
    /// Fraction of the epochs in which only the weights are trained, whatever the temperature.
    #[serde(default)]
    pub warmup: f64,
    /// When T and the rate of the weights change: at every `epoch`, or at every `step`.
    #[serde(default)]
    pub schedule: Interval,
    /// Training batches on which batch norm statistics are measured anew before an epoch is validated; 0: the running ones
    /// are used.
    #[serde(default)]
    pub statistics: usize,
    /// Loss that half the multiply-adds are worth to `asap`: this many times the binary logarithm of the expected multiply-adds of
    /// the network that would be trained (with `limits.latency_ms`, of its latency) is added to the loss; 0: cost does not count.
    #[serde(default)]
    pub cost: f64,
    /// Fraction of the training images that the search does not use: those on which `asap run` judges what it found.
    #[serde(default)]
    pub held_out: f64,
    /// Seed that selects them, as in the trainings that are judged.
    #[serde(default)]
    pub held_out_seed: u64,
    /// Seconds after which no further epoch is begun; 0: no limit. The search ends with what it knows.
    #[serde(default)]
    pub seconds: f64,
    /// Minutes between checkpoints inside a long epoch.
    pub checkpoint_minutes: f64,
}

/// The relaxation of the choice between operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relaxation {
    /// The sum of all operations, weighted by phi.
    #[default]
    Mixture,
    /// The sum of all that are left, weighted evenly; pruned by evidence.
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
    /// At once (Algorithm 1).
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
    /// T0 of eq. 9.
    pub initial_temperature: f64,
    /// Beta of eq. 9, per epoch; `auto` reaches T = 0.1 at the last epoch.
    #[schemars(with = "String")]
    pub decay: Auto,
    /// Alpha moves and operations are pruned once T is below this.
    pub grace_temperature: f64,
    /// Theta times the number of candidates: 0.4.
    pub threshold: f64,
    /// Allowed probability of losing the best operation of an edge: for the schedule of Theorem 2, and for evidence.
    pub delta: f64,
    /// Prune only what the measured variance of the gradients allows, too; always so with `search.relaxation = "paths"`.
    #[serde(default)]
    pub evidence: bool,
    /// Prune no operation or edge without which the loss rises more than without its strongest rival.
    #[serde(default)]
    pub veto: bool,
    /// Which choices are made first, in half of the epochs that alpha has: those of `operations_first`, of `edges_first`, or all
    /// `together`.
    #[serde(default)]
    pub order: Order,
    /// Steps on alpha after which evidence counts less by a factor of e, as a fraction of all of them; at least 0.25, since `delta` holds for
    /// about one memory.
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
    /// Time at which one operation remains on each edge, as a fraction of the epochs.
    pub end: f64,
    /// p: 3 prunes most at the beginning, 1 evenly.
    pub power: f64,
}

/// Partial channel connections (PC-DARTS).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PcDartsConfig {
    /// K: operations see the first of K equal parts of the channels.
    pub parts: usize,
    /// Fraction of the epochs in which alpha does not move.
    pub warmup: f64,
}

/// Searches that evaluate one cell after another: `random-trained`, `evolution`, `pnas`, `nasnet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryConfig {
    /// Cells that are trained, each from fresh weights for an equal part of search.epochs; 0 for one for every two epochs.
    pub evaluations: usize,
    /// Cells that are alive in `evolution` (P).
    pub population: usize,
    /// Cells of which the best becomes the parent in `evolution` (S).
    pub tournament: usize,
}

impl Default for QueryConfig {
    fn default() -> Self {
        let EvolutionSettings { population, tournament } = EvolutionSettings::default();
        Self { evaluations: 0, population, tournament }
    }
}

/// Descent on the network weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightsConfig {
    /// Learning rate of the first epoch.
    pub lr: f64,
    /// Final learning rate of the cosine.
    pub lr_min: f64,
    /// Momentum.
    pub momentum: f64,
    /// L2 weight decay.
    pub weight_decay: f64,
    /// Largest global gradient norm.
    pub gradient_clip: f64,
    /// What a step on the weights trains with `search.relaxation = "mixture"`: the `annealed` mixture, an `even` one, or a
    /// single `path`.
    #[serde(default)]
    pub trained: Trained,
}

/// Descent on alpha.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlphaConfig {
    /// Learning rate; `auto` allows as much movement as the paper's 3e-4 over 45 epochs of 260 steps.
    #[schemars(with = "String")]
    pub lr: Auto,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// L2 weight decay.
    pub weight_decay: f64,
    /// `adam`, or `descent`, which is plain.
    #[serde(default)]
    pub optimizer: AlphaOptimizer,
    /// Steps on the weights per step on alpha.
    #[serde(default = "one")]
    pub every: usize,
}

fn one() -> usize {
    1
}

/// Limits on the trained network. It gets as many channels as they allow, and no more than `train` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Most multiply-adds for one image; 0: any number.
    pub multiply_adds: u64,
    /// Most weights; 0: any number.
    pub weights: u64,
    /// Most milliseconds from the bytes of one image to its logits on this CPU; 0: any time.
    pub latency_ms: f64,
    /// Threads with which that is measured.
    pub latency_threads: usize,
    /// Most MiB that a search or a training may take, as estimated before it; 0: any.
    pub memory_mb: u64,
    /// The channels that the latency allows, once they are measured; 0: to be measured.
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
    /// Pixels around an image before a crop of its size.
    pub pad: usize,
    /// What they show: `black`, or `reflect`, the image reflected at its edges.
    #[serde(default)]
    #[schemars(with = "String")]
    pub border: Border,
    /// Mirror half of the images.
    pub flip: bool,
    /// Side of the square set to the mean, as a fraction of the image's smaller side; 0: none.
    pub cutout: f64,
    /// AutoAugment's policy: `none`, `cifar`, `svhn` or `imagenet`.
    pub auto_augment: String,
    /// Probability of random erasing.
    pub random_erasing: f64,
}

/// The initial filters of the first convolution of a network that is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StemFilters {
    /// Drawn as those of every other convolution.
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
    /// Channels C of the first cells.
    pub channels: usize,
    /// Multiply-adds that the network is to have: the channels are those that come closest, whatever `channels`
    /// says; 0: as many as `channels` gives.
    #[serde(default)]
    pub multiply_adds: u64,
    /// Number of cells.
    pub cells: usize,
    /// Layers before the cells: `small`, or `large` for images of ImageNet's size.
    #[schemars(with = "String")]
    pub stem: Stem,
    /// Initial filters of the first convolution: `random`, or `patches`, the principal components of the training images' patches.
    #[serde(default)]
    pub stem_filters: StemFilters,
    /// Number of epochs.
    pub epochs: usize,
    /// Seconds that the training may take: if epochs turn out faster or slower, their number is changed; 0: no limit.
    #[serde(default)]
    pub seconds: f64,
    /// Images per step.
    pub batch: usize,
    /// Fraction of the training images that is held out to monitor the training and to select its best
    /// epoch; 0: none, unless the data set comes with validation images. Within a time at most 1,000 images, if there are test images.
    pub validation: f64,
    /// The most images to train on, in equal shares of every class; 0: all that are not held out.
    #[serde(default)]
    pub images: usize,
    /// Learning rate of the first cycle.
    pub lr: f64,
    /// Learning rate at the end of a cycle.
    pub lr_min: f64,
    /// Number of cycles of the learning rate.
    pub cycles: usize,
    /// Factor of the amplitude of the learning rate from cycle to cycle.
    pub amplitude_decay: f64,
    /// Power of the cosine; 1: the plain cosine.
    pub power: f64,
    /// Epochs in which the learning rate rises from 0.
    pub warmup_epochs: f64,
    /// Momentum.
    pub momentum: f64,
    /// Look ahead along the momentum (Nesterov).
    pub nesterov: bool,
    /// L2 weight decay.
    pub weight_decay: f64,
    /// Learning rate of biases, those of batch norms included, as a multiple of that of the weights; they decay as these do.
    #[serde(default = "unchanged")]
    pub bias_rate: f64,
    /// Largest global gradient norm.
    pub gradient_clip: f64,
    /// Fraction of the target spread over all classes.
    pub label_smoothing: f64,
    /// Weight of the auxiliary head's loss; 0: no auxiliary head.
    pub auxiliary_weight: f64,
    /// Probability of drop-path at the last epoch; it rises from 0.
    pub drop_path: f64,
    /// Decay of a moving average of the weights that is tested instead of them; 0: none.
    pub average: f64,
    /// Start from the weights of the search network (`asap run`).
    pub inherit: bool,
    /// Minutes between checkpoints inside a long epoch.
    pub checkpoint_minutes: f64,
    /// Augmentation of training images.
    pub augment: AugmentConfig,
}
