//! The command line.

use std::path::PathBuf;

use asap::Precision;
use asap_core::Operation;
use clap::{Args, Parser, Subcommand};

/// Neural architecture search that anyone can afford.
///
/// Searches a convolutional cell for your images by annealing the choice between operations and
/// pruning the losers while it trains (ASAP, arXiv 1904.04123). No GPU needed.
#[derive(Debug, Parser)]
#[command(name = "asap", version, after_help = "Example:\n  asap search --data fashion-mnist")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Worker threads; the result does not depend on it [default: every core]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Decides initial weights, the split, and the order of images
    #[arg(long, global = true, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Where to compute: cpu, vulkan, wgpu, cuda or rocm
    #[arg(long, global = true)]
    pub(crate) device: Option<String>,
    /// A configuration file, over the preset
    #[arg(long, global = true, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// One setting over everything else, such as search.epochs=20; can be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where results go; must be new [default: runs/<command>-1, -2, ...]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Search a cell: anneal and prune (Algorithm 1), or by a rival method
    #[command(after_help = "Examples:\n  asap search\n  asap search --data photos/ --seed 7\n  \
        asap search --data fashion-mnist --preset paper --out runs/fashion\n  \
        asap search --resume runs/fashion\n  asap search --data cifar10 --dry-run")]
    Search(SearchArgs),
    /// Train the network of a cell, and measure its test error
    #[command(
        after_help = "Examples:\n  asap train --cell ASAP --data fashion-mnist --preset hour\n  \
        asap train --cell runs/search-1 --repeat 3\n  asap train --cell ASAP --data photos/ --dry-run\n  \
        asap train --resume runs/train-1"
    )]
    Train(TrainArgs),
    /// Search, train, test and report: one command from images to a trained network
    #[command(after_help = "Examples:\n  asap run --data photos/\n  \
        asap run --data photos/ --dry-run\n  asap run --data fashion-mnist --preset hour --out runs/fashion\n  \
        asap run --repeat-search 2 --repeat-train 3\n  asap run --resume runs/fashion")]
    Run(RunArgs),
    /// The error of a trained network on a data set, class by class
    #[command(after_help = "Examples:\n  asap evaluate runs/train-1\n  \
        asap evaluate weights.safetensors --data photos/ --json")]
    Evaluate(EvaluateArgs),
    /// Classes and probabilities of image files
    #[command(after_help = "Examples:\n  asap predict runs/train-1 cat.jpg dog.png\n  \
        asap predict runs/train-1 photos/ --json > predictions.jsonl\n  \
        find . -name '*.png' | asap predict runs/train-1 - --top 3")]
    Predict(PredictArgs),
    /// Train several cells on several data sets by one recipe, and compare (Table 2 of the paper)
    #[command(after_help = "Examples:\n  asap transfer --cells ASAP,DARTS_V2 --data embedded\n  \
        asap transfer --cells ASAP,runs/search-1 --data cifar10,cifar100 --preset darts --repeat 3\n  \
        asap transfer --resume runs/transfer-1")]
    Transfer(TransferArgs),
    /// Hand a trained network or a cell over to other tools
    #[command(
        after_help = "Examples:\n  asap export runs/train-1 --format onnx --out network.onnx\n  \
        asap export runs/train-1 --format pytorch --out pytorch/\n  \
        asap export runs/search-1 --format darts --out genotypes.py"
    )]
    Export(ExportArgs),
    /// Search by several methods side by side, train what they find, and compare (Tables 1 and 3)
    #[command(after_help = "Examples:\n  asap compare --methods asap,darts,random --seeds 3\n  \
        asap compare --data fashion-mnist --preset hour --methods asap,magnitude,enas --no-train\n  \
        asap compare --resume runs/compare-1")]
    Compare(CompareArgs),
    /// Published and own cells: list, show, draw, cost, convert
    #[command(after_help = "Example:\n  asap cells cost ASAP --channels 36 --cells 20 --json")]
    Cells(CellsArgs),
    /// Data sets: what can be read, and what is in one
    #[command(after_help = "Example:\n  asap data check photos/")]
    Data(DataArgs),
    /// Every effective value and where it came from
    #[command(after_help = "Example:\n  asap config show --preset paper --set search.epochs=20")]
    Config(ConfigArgs),
    /// Time the real steps on this machine
    #[command(after_help = "Example:\n  asap bench search --channels 16 --cells 8 --batch 64")]
    Bench(BenchArgs),
    /// Follow the runs under a folder on a page that only this machine can open
    #[command(after_help = "Example:\n  asap watch runs/ --port 8080")]
    #[cfg(feature = "watch")]
    Watch(WatchArgs),
    /// Commands that a shell completes, manual pages, and this program's reference
    #[command(
        after_help = "Examples:\n  asap docs completions bash > ~/.local/share/bash-completion/completions/asap\n  \
        asap docs man ~/.local/share/man/man1"
    )]
    Docs(DocsArgs),
    /// Check Theorem 2 by simulation: how often annealing and pruning loses the best operation
    #[command(after_help = "Example:\n  asap pac --arms 7 --delta 0.1 --runs 1000")]
    Pac(PacArgs),
}

impl Command {
    /// Whether `--config` and `--set` mean anything to it.
    pub(crate) fn reads_configuration(&self) -> bool {
        matches!(
            self,
            Self::Search(_)
                | Self::Train(_)
                | Self::Run(_)
                | Self::Transfer(_)
                | Self::Compare(_)
                | Self::Config(_)
        )
    }
}

/// Which settings a run starts from.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Images: embedded, fashion-mnist, cifar10, cifar100, or a path [default: embedded]
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Folder of a known data set, if it is not in one of the usual places
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// quick (minutes on two cores), hour, darts (the plain recipe of Table 2) or paper
    #[arg(long, default_value = "quick")]
    pub(crate) preset: String,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// The method: asap, or one of its rivals as asap compare --help lists them [default: asap]
    #[arg(long, conflicts_with = "resume")]
    pub(crate) method: Option<String>,
    /// Go on with an interrupted run, to the same end
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "preset", "out", "dry_run"])]
    pub(crate) resume: Option<PathBuf>,
    /// Show what would be done and what it would cost, and go through all of it on two batches
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// A published name, a file, a genotype as text, or the folder of a search
    #[arg(long, required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) cell: Option<String>,
    /// Go on with an interrupted run, to the same end
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "preset", "out", "dry_run"])]
    pub(crate) resume: Option<PathBuf>,
    /// Train so many times, with the seeds that follow --seed, and tell mean and spread
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat: u32,
    /// Show what would be done and what it would cost, and go through all of it on two batches
    #[arg(long, conflicts_with = "repeat")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Go on with an interrupted run, to the same end
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "preset", "out"])]
    pub(crate) resume: Option<PathBuf>,
    /// Search so many times, with the seeds that follow --seed
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat_search: u32,
    /// Train each found cell so many times, with the seeds that follow --seed
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat_train: u32,
    /// Show what would be done and what it would cost, and go through all of it on two batches
    #[arg(long, conflicts_with = "resume")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// The folder of a training, or a weights.safetensors
    pub(crate) run: PathBuf,
    /// Images [default: those that the network was trained on]
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Folder of a known data set, if it is not in one of the usual places
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Which images of the data set: test, valid or train
    #[arg(long, default_value = "test")]
    pub(crate) split: String,
    /// Leave out images that cannot be read, and say which
    #[arg(long)]
    pub(crate) skip_corrupt: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// The folder of a training, or a weights.safetensors
    pub(crate) run: PathBuf,
    /// Image files of any size, folders of them, or - for a list of files on standard input
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// How many classes to tell of each image
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) top: usize,
    /// Tell the logits too, in the order of the network's classes
    #[arg(long, requires = "json")]
    pub(crate) logits: bool,
    /// Leave out images that cannot be read, and say which
    #[arg(long)]
    pub(crate) skip_corrupt: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Cells: published names, files, or folders of searches
    #[arg(
        long,
        value_delimiter = ',',
        required_unless_present = "resume",
        conflicts_with = "resume"
    )]
    pub(crate) cells: Vec<String>,
    /// Data sets: known names or paths
    #[arg(long, value_delimiter = ',', default_value = "embedded", conflicts_with = "resume")]
    pub(crate) data: Vec<String>,
    /// The recipe: quick, hour, darts or paper
    #[arg(long, default_value = "quick", conflicts_with = "resume")]
    pub(crate) preset: String,
    /// Train so many times, with the seeds that follow --seed, and tell mean and spread
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat: u32,
    /// Go on with an interrupted transfer, to the same end
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub(crate) resume: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The folder of a training, or a weights.safetensors; for darts also that of a search
    pub(crate) run: PathBuf,
    /// onnx, pytorch (a module and its weights), safetensors (the weights) or darts (the genotype in Python)
    #[arg(long)]
    pub(crate) format: String,
    /// onnx: let the graph normalise, so that it takes values from 0 to 1
    #[arg(long)]
    pub(crate) normalize: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// The methods: asap, asap-pac, darts, darts-2nd, darts+, pc-darts, p-darts, magnitude, accumulated-gradient, snas,
    /// xnas, enas, random, random-trained
    #[arg(long, value_delimiter = ',', default_value = "asap,darts,magnitude,enas,random")]
    pub(crate) methods: Vec<String>,
    /// Search so many times by each method, with the seeds that follow --seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seeds: u32,
    /// Give each search so many minutes in the place of search.epochs: as many epochs as its method makes in them here
    /// while nothing is pruned, told from a few steps
    #[arg(long, value_name = "M")]
    pub(crate) minutes: Option<f64>,
    /// Search only, and train nothing
    #[arg(long)]
    pub(crate) no_train: bool,
    /// Go on with an interrupted comparison, to the same end
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "data_dir", "preset", "methods", "seeds", "minutes", "no_train", "out"])]
    pub(crate) resume: Option<PathBuf>,
}

#[cfg(feature = "watch")]
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The folder with runs in it
    #[arg(default_value = "runs")]
    pub(crate) folder: PathBuf,
    /// Port on 127.0.0.1; 0: any that is free
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct DocsArgs {
    #[command(subcommand)]
    pub(crate) command: DocsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DocsCommand {
    /// A script with which a shell completes commands and options
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Manual pages, one a command
    Man {
        /// Folder to write them to
        folder: PathBuf,
    },
    /// All commands and all configuration keys, in Markdown
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct CellsArgs {
    #[command(subcommand)]
    pub(crate) command: CellsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CellsCommand {
    /// List the published cells
    List,
    /// Print a cell
    Show {
        /// A published name, a file, a genotype as text, or the folder of a search
        cell: String,
    },
    /// Draw a cell as SVG, DOT or PNG; to --out, or standard output
    Draw {
        /// A published name, a file, a genotype as text, or the folder of a search
        cell: String,
        /// The cell to draw: normal or reduction
        #[arg(long, default_value = "normal")]
        kind: String,
        /// The form: svg, dot or png
        #[arg(long, default_value = "svg")]
        format: String,
    },
    /// Parameters and multiply-adds of the network that is trained
    Cost {
        /// A published name, a file, a genotype as text, or the folder of a search
        cell: String,
        /// Channels C of the first cells
        #[arg(long, default_value_t = 36)]
        channels: usize,
        /// Number of cells
        #[arg(long, default_value_t = 20)]
        cells: usize,
        /// Side of an image in pixels
        #[arg(long, default_value_t = 32)]
        size: usize,
        /// Channels of an image
        #[arg(long, default_value_t = 3)]
        in_channels: usize,
        /// Number of classes
        #[arg(long, default_value_t = 10)]
        classes: usize,
        /// The ImageNet stem: three convolutions of stride 2
        #[arg(long)]
        imagenet: bool,
    },
    /// Convert a cell to another form
    Convert {
        /// A published name, a file, a genotype as text, or the folder of a search
        cell: String,
        /// The form: python or json
        #[arg(long, default_value = "python")]
        to: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// What can be read, and where it was found
    List,
    /// Counts, sizes, classes, mean, standard deviation and faults of a data set
    Check {
        /// A known name or a path
        data: String,
        /// Folder of a known data set
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Leave out images that cannot be read, and say which
        #[arg(long)]
        skip_corrupt: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every value and its origin
    Show(Settings),
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time the steps of a search
    Search {
        #[command(flatten)]
        size: BenchSize,
        /// Operations alive on each edge, by name [default: all seven]
        #[arg(long, value_delimiter = ',')]
        alive: Vec<Operation>,
    },
    /// Time the training step of the network that is trained with a cell
    Eval {
        #[command(flatten)]
        size: BenchSize,
        /// A published name, a file, a genotype as text, or the folder of a search
        #[arg(long, default_value = "ASAP")]
        cell: String,
    },
    /// Time a trained network on made-up images
    Predict {
        /// Folder of a finished training, or a file of its weights
        run: PathBuf,
        /// Images of a call
        #[arg(long, default_value_t = 64)]
        batch: usize,
        /// Timed calls; the smallest time counts
        #[arg(long, default_value_t = 3)]
        steps: usize,
    },
}

/// The network and the batch that are timed.
#[derive(Debug, Args)]
pub(crate) struct BenchSize {
    /// Channels C of the first cells [default: 16 for a search, 36 otherwise]
    #[arg(long)]
    pub(crate) channels: Option<usize>,
    /// Number of cells [default: 8 for a search, 20 otherwise]
    #[arg(long)]
    pub(crate) cells: Option<usize>,
    /// Images of a step [default: 64 for a search, 32 otherwise]
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Side of an image in pixels
    #[arg(long, default_value_t = 32)]
    pub(crate) size: usize,
    /// Channels of an image
    #[arg(long, default_value_t = 3)]
    pub(crate) in_channels: usize,
    /// Timed steps; the smallest time counts
    #[arg(long, default_value_t = 3)]
    pub(crate) steps: usize,
    /// How exactly the CPU computes in training: f32, or bf16 for mixed precision
    #[arg(long, default_value_t)]
    pub(crate) precision: Precision,
}

#[derive(Debug, Args)]
pub(crate) struct PacArgs {
    /// Number of operations
    #[arg(long, default_value_t = 7)]
    pub(crate) arms: usize,
    /// Allowed probability of losing the best operation
    #[arg(long, default_value_t = 0.1)]
    pub(crate) delta: f64,
    /// How much better the best operation's mean gradient is
    #[arg(long, default_value_t = 0.5)]
    pub(crate) gap: f64,
    /// Iterations of a run
    #[arg(long, default_value_t = 2000)]
    pub(crate) steps: u32,
    /// Number of runs
    #[arg(long, default_value_t = 1000)]
    pub(crate) runs: u32,
}
