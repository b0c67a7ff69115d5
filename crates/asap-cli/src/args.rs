//! The command line.

use std::path::PathBuf;

use asap::jobs::shard::Shard;
use asap::paper::Item;
use asap::{DeviceName, MethodName, Precision, Preset};
use asap_core::{CellKind, Family, Operation, PlainNetwork};
use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::names::{described, one_of};

/// Neural architecture search that anyone can afford.
///
/// Finds a convolutional cell for your images: it anneals the choice between operations and prunes
/// the losers while it trains (ASAP, arXiv 1904.04123). No GPU needed.
#[derive(Debug, Parser)]
#[command(name = "asap", version, after_help = "Example:\n  asap search --data fashion-mnist")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Number of worker threads; does not affect the result [default: one per core]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Seed for initial weights, splits, shuffling and augmentation [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Device to compute on [default: cpu]
    #[arg(long, global = true, value_parser = one_of(DeviceName::ALL, DeviceName::name))]
    pub(crate) device: Option<DeviceName>,
    /// Configuration file; overrides the preset
    #[arg(long, global = true, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Set one configuration key, such as search.epochs=20; overrides everything else; repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where to write the results; must not exist yet [default: runs/<command>-1, -2, ...]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Search for a cell: anneal and prune (Algorithm 1), or use a rival method
    #[command(after_help = "Examples:\n  asap search\n  asap search --data photos/ --seed 7\n  \
        asap search --data fashion-mnist --preset paper --out runs/fashion\n  \
        asap search --data photos/ --time 20m\n  asap search --resume runs/fashion\n  asap search --data cifar10 --dry-run")]
    Search(SearchArgs),
    /// Train the network built from a cell, or a plain one, and measure its test error
    #[command(
        after_help = "Examples:\n  asap train --cell ASAP --data fashion-mnist --preset hour\n  \
        asap train --cell runs/search-1 --repeat 3\n  asap train --network resnet-20 --data photos/\n  asap train --cell ASAP --data photos/ --dry-run\n  \
        asap train --resume runs/train-1"
    )]
    Train(TrainArgs),
    /// Go from images to a trained network: search, compare with simple answers, train, test and report
    #[command(
        after_help = "Examples:\n  asap run --data photos/ --time 1h\n  asap run --data photos/\n  \
        asap run --data photos/ --dry-run\n  asap run --data fashion-mnist --preset hour --out runs/fashion\n  \
        asap run --repeat-search 2 --repeat-train 3\n  asap run --resume runs/fashion"
    )]
    Run(RunArgs),
    /// Measure the error of a trained network on a data set, overall and per class
    #[command(after_help = "Examples:\n  asap evaluate runs/train-1\n  \
        asap evaluate weights.safetensors --data photos/ --json")]
    Evaluate(EvaluateArgs),
    /// Classify image files
    #[command(after_help = "Examples:\n  asap predict runs/train-1 cat.jpg dog.png\n  \
        asap predict runs/train-1 photos/ --json > predictions.jsonl\n  \
        find . -name '*.png' | asap predict runs/train-1 - --top 3")]
    Predict(PredictArgs),
    /// Train several cells on several data sets with the same recipe (Table 2 of the paper)
    #[command(after_help = "Examples:\n  asap transfer --cells ASAP,DARTS_V2 --data embedded\n  \
        asap transfer --cells ASAP,runs/search-1 --data cifar10,cifar100 --preset darts --repeat 3\n  \
        asap transfer --resume runs/transfer-1")]
    Transfer(TransferArgs),
    /// Export a trained network or a cell for other tools
    #[command(
        after_help = "Examples:\n  asap export runs/train-1 --format onnx --out network.onnx\n  \
        asap export runs/train-1 --format pytorch --out pytorch/\n  \
        asap export runs/search-1 --format darts --out genotypes.py"
    )]
    Export(ExportArgs),
    /// Compare search methods: search with each, then train the cells they find (Tables 1 and 3)
    #[command(after_help = "Examples:\n  asap compare --methods asap,darts,random --seeds 3\n  \
        asap compare --data fashion-mnist --preset hour --methods asap,magnitude,enas --no-train\n  \
        asap compare --space nas-bench-201 --table accuracies.csv.gz --methods random,evolution --evaluations 300 --seeds 200\n  \
        asap compare --resume runs/compare-1")]
    Compare(CompareArgs),
    /// Reproduce a table or a figure of the paper at a chosen scale, with the paper's numbers beside
    #[command(
        after_help = "Examples:\n  asap reproduce table-1 --data cifar10 --preset hour --seeds 3\n  \
        asap reproduce table-1 --time 8h\n  asap reproduce table-2 --data fashion-mnist,cifar100 --preset hour\n  \
        asap reproduce figure-2 --data photos/\n  asap reproduce table-1 --resume runs/table-1-1"
    )]
    Reproduce(ReproduceArgs),
    /// Divide the runs of a command among processes and machines
    #[command(
        after_help = "Examples:\n  asap jobs list -- compare --data photos/ --seeds 10 --out study | parallel -j 4\n  \
        asap jobs script slurm --shards 8 --cpus 4 -- compare --data photos/ --seeds 10 --out study > study.sh\n  \
        asap jobs script kubernetes --image registry/asap --claim work -- transfer --cells ASAP,DARTS_V2 --data cifar10 --repeat 5 --out table"
    )]
    Jobs(JobsArgs),
    /// List, show, draw, convert and measure cells, published ones or your own
    #[command(after_help = "Example:\n  asap cells cost ASAP --channels 36 --cells 20 --json")]
    Cells(CellsArgs),
    /// List the known data sets, or check one
    #[command(after_help = "Example:\n  asap data check photos/")]
    Data(DataArgs),
    /// Show the effective configuration and where each value comes from
    #[command(after_help = "Example:\n  asap config show --preset paper --set search.epochs=20")]
    Config(ConfigArgs),
    /// Time search, training and inference steps on this machine
    #[command(after_help = "Example:\n  asap bench search --channels 16 --cells 8 --batch 64")]
    Bench(BenchArgs),
    /// Serve a live page of the runs in a folder, reachable from this machine only
    #[command(after_help = "Example:\n  asap watch runs/ --port 8080")]
    #[cfg(feature = "watch")]
    Watch(WatchArgs),
    /// Generate shell completions, manual pages and the command reference
    #[command(
        after_help = "Examples:\n  asap docs completions bash > ~/.local/share/bash-completion/completions/asap\n  \
        asap docs man ~/.local/share/man/man1"
    )]
    Docs(DocsArgs),
    /// Check Theorem 2 by simulation: measure how often the best operation is pruned
    #[command(after_help = "Example:\n  asap pac --arms 7 --delta 0.1 --runs 1000")]
    Pac(PacArgs),
}

impl Command {
    /// True if the command writes what `--out` names.
    pub(crate) fn writes(&self) -> bool {
        matches!(
            self,
            Self::Search(_)
                | Self::Train(_)
                | Self::Run(_)
                | Self::Transfer(_)
                | Self::Compare(_)
                | Self::Reproduce(_)
                | Self::Export(_)
                | Self::Cells(CellsArgs { command: CellsCommand::Draw { .. } })
                | Self::Data(DataArgs { command: DataCommand::Convert { .. } })
        )
    }

    /// True if the command reads a configuration, and so `--config` and `--set`.
    pub(crate) fn reads_configuration(&self) -> bool {
        matches!(
            self,
            Self::Search(_)
                | Self::Train(_)
                | Self::Run(_)
                | Self::Transfer(_)
                | Self::Compare(_)
                | Self::Reproduce(_)
                | Self::Config(_)
        )
    }
}

/// Data and preset that a run starts from.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Data set: embedded, fashion-mnist, cifar10, cifar100, or a path [default: embedded]
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Folder of a known data set, if not in one of the usual places
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Settings to start from; quick takes minutes on two cores
    #[arg(long, default_value = "quick", value_parser = one_of(Preset::ALL, Preset::name))]
    pub(crate) preset: Preset,
    /// Search space, the family of the cells [default: darts, or that of the given cell]
    #[arg(long, value_parser = one_of(Family::ALL, Family::name))]
    pub(crate) space: Option<Family>,
}

/// Limits of the trained network, which has no more channels than they allow.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Limits {
    /// Most multiply-adds for one image, such as 50M
    #[arg(long, help_heading = LIMITS, value_name = "N", value_parser = count, conflicts_with = "resume")]
    pub(crate) max_multiply_adds: Option<u64>,
    /// Most weights, such as 300k
    #[arg(long, help_heading = LIMITS, value_name = "N", value_parser = count, conflicts_with = "resume")]
    pub(crate) max_weights: Option<u64>,
    /// Most time from the bytes of one image to its logits, such as 5ms, measured on this CPU
    #[arg(long, help_heading = LIMITS, value_name = "TIME", value_parser = seconds, conflicts_with = "resume")]
    pub(crate) max_latency: Option<f64>,
    /// Threads with which that is measured [default: 1]
    #[arg(long, help_heading = LIMITS, value_name = "N", requires = "max_latency")]
    pub(crate) latency_threads: Option<usize>,
    #[command(flatten)]
    pub(crate) memory: MemoryLimit,
}

/// A limit on the memory of searches and trainings.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MemoryLimit {
    /// Refuse a search or training that is estimated to need more memory, such as 2GiB; with --time, use a network that needs less
    #[arg(long, help_heading = MEMORY, value_name = "SIZE", value_parser = mebibytes, conflicts_with = "resume")]
    pub(crate) max_memory: Option<u64>,
}

/// The heading of the limit on the memory.
const MEMORY: &str = "Limits of the run";

/// MiB of a size such as `2GiB`.
fn mebibytes(text: &str) -> Result<u64, String> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() >= 1 << 20 => Ok(size.as_u64() >> 20),
        _ => Err("expected a size of at least 1 MiB, such as 500MiB or 2GiB".to_owned()),
    }
}

/// The heading of the limits in help texts.
const LIMITS: &str = "Limits of the trained network: it has no more channels than they allow";

/// A count such as `300k` or `1.5M`.
fn count(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.char_indices().next_back() {
        Some((end, 'k' | 'K')) => (&text[..end], 1e3),
        Some((end, 'm' | 'M')) => (&text[..end], 1e6),
        Some((end, 'g' | 'G')) => (&text[..end], 1e9),
        _ => (text, 1.0),
    };
    let count = number.parse::<f64>().map_or(f64::NAN, |number| (number * factor).round());
    if (1.0..1e15).contains(&count) {
        return Ok(count as u64);
    }
    Err("expected a number from 1 on, such as 250000, 250k or 1.5M".to_owned())
}

/// The time that a command may take.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TimeLimit {
    /// Time that all of it may take, such as 20m, 2h or 1h30m: sizes, epochs and, for few images, the batch are what fits into it on
    /// this machine, whatever the preset says
    #[arg(long, value_name = "TIME", value_parser = seconds, conflicts_with = "resume")]
    pub(crate) time: Option<f64>,
}

/// The part of the runs that a process does.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Part {
    /// Do part I of N of the runs, such as 3/8; all parts join in one --out, and running a part again goes on with it [default: all, or
    /// the part of this task of an array job: Slurm, Kubernetes, AWS Batch, Grid Engine, LSF, PBS]
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
}

/// Seconds of a time such as `1h30m`.
fn seconds(text: &str) -> Result<f64, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(time.as_secs_f64()),
        _ => Err("expected a time above 0, such as 90s, 20m, 2h or 1h30m".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) limit: TimeLimit,
    #[command(flatten)]
    pub(crate) memory: MemoryLimit,
    /// Search method [default: asap]
    #[arg(long, conflicts_with = "resume", value_parser = one_of(MethodName::ALL, described))]
    pub(crate) method: Option<MethodName>,
    /// Resume an interrupted run; the result is the same as without the interruption
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "preset", "out", "dry_run"])]
    pub(crate) resume: Option<PathBuf>,
    /// Try everything on two batches and report the expected time and memory; keeps nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) limit: TimeLimit,
    /// A published name, a file, a genotype as text, or the folder of a search
    #[arg(long, required_unless_present_any = ["network", "resume"], conflicts_with = "resume")]
    pub(crate) cell: Option<String>,
    /// Train a plain network instead: resnet-9, resnet-20, mobilenet-20, or of another depth 6 n + 2
    #[arg(long, value_name = "NAME", conflicts_with_all = ["cell", "resume", "space"])]
    pub(crate) network: Option<PlainNetwork>,
    /// Resume an interrupted run; the result is the same as without the interruption
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "preset", "out", "dry_run"])]
    pub(crate) resume: Option<PathBuf>,
    /// Train this many times, with consecutive seeds from --seed on; reports mean and spread
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Try everything on two batches and report the expected time and memory; keeps nothing
    #[arg(long, conflicts_with = "repeat")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) limit: TimeLimit,
    /// Train what the search finds without comparing it first; otherwise a final of short trainings between the cells
    /// found, a published and a random cell and plain networks decides what is trained
    #[arg(long, conflicts_with = "resume")]
    pub(crate) no_final: bool,
    /// Train networks of this many sizes, each with half of the multiply-adds of the one before, and show their
    /// error against their cost
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["resume", "no_final"])]
    pub(crate) sizes: u32,
    /// Resume an interrupted run; the result is the same as without the interruption. With --time, what is begun goes on
    /// as planned, and the rest gets the time that is left
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "preset", "out"])]
    pub(crate) resume: Option<PathBuf>,
    /// Search this many times, with consecutive seeds from --seed on
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat_search: u32,
    /// Train this many times, with consecutive seeds from --seed on
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat_train: u32,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Try everything on two batches and report the expected time and memory; keeps nothing
    #[arg(long, conflicts_with_all = ["resume", "time"])]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// Run folder of a training, or a weights.safetensors file
    pub(crate) run: PathBuf,
    /// Data set [default: the one the network was trained on]
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Folder of a known data set, if not in one of the usual places
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Average the logits over each image and its mirror image: a little better, and twice the time
    #[arg(long)]
    pub(crate) flips: bool,
    /// Part of the data set to measure on
    #[arg(long, value_enum, default_value_t = Split::Test)]
    pub(crate) split: Split,
    /// Skip images that cannot be read, and list them
    #[arg(long)]
    pub(crate) skip_corrupt: bool,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Split {
    Test,
    Valid,
    Train,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Run folder of a training, or a weights.safetensors file
    pub(crate) run: PathBuf,
    /// Image files of any size, folders of images, or - to read file names from standard input
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// Number of classes to print per image, the most probable first
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) top: usize,
    /// Average the logits over each image and its mirror image: a little better, and twice the time
    #[arg(long)]
    pub(crate) flips: bool,
    /// Include the logits, in the order of the network's classes
    #[arg(long, requires = "json")]
    pub(crate) logits: bool,
    /// Skip images that cannot be read, and list them
    #[arg(long)]
    pub(crate) skip_corrupt: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Cells: published names, files, or folders of searches; or plain networks such as resnet-20
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
    /// Training recipe
    #[arg(long, default_value = "quick", conflicts_with = "resume", value_parser = one_of(Preset::ALL, Preset::name))]
    pub(crate) preset: Preset,
    /// Train this many times, with consecutive seeds from --seed on; reports mean and spread
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Resume an interrupted transfer; the result is the same as without the interruption
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub(crate) resume: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Run folder of a training, or a weights.safetensors file; for darts also the run folder of a search
    pub(crate) run: PathBuf,
    /// onnx: the network; pytorch: a module and its weights; safetensors: the weights; darts: the genotype in Python
    #[arg(long, value_enum)]
    pub(crate) format: ExportFormat,
    /// Let the exported network average over each image and its mirror image
    #[arg(long)]
    pub(crate) flips: bool,
    /// Make normalization part of the ONNX graph, which then takes pixel values from 0 to 1
    #[arg(long)]
    pub(crate) normalize: bool,
}

/// A form of a trained network or its cell that other tools read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExportFormat {
    Onnx,
    Pytorch,
    Safetensors,
    Darts,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) limit: TimeLimit,
    /// Search methods
    #[arg(long, value_delimiter = ',', default_value = "asap,darts,magnitude,enas,random",
        value_parser = one_of(MethodName::ALL, described))]
    pub(crate) methods: Vec<MethodName>,
    /// Search this many times with each method, with consecutive seeds from --seed on
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seeds: u32,
    /// Minutes per search, instead of search.epochs: the number of epochs is estimated from a few
    /// steps of each method before anything is pruned
    #[arg(long, value_name = "M", conflicts_with = "time")]
    pub(crate) minutes: Option<f64>,
    /// Search only; train nothing
    #[arg(long)]
    pub(crate) no_train: bool,
    /// Look up the cells found in a table of true accuracies instead of training them: CSV, with a column
    /// `cell` and accuracies in percent
    #[arg(long, value_name = "FILE")]
    pub(crate) table: Option<PathBuf>,
    /// Column of the accuracies in --table [default: the first beside `cell`]
    #[arg(long, value_name = "NAME", requires = "table")]
    pub(crate) table_column: Option<String>,
    /// Read no images: each method asks the table for the accuracies of so many cells (random, evolution, pnas, nao, nasnet)
    #[arg(long, value_name = "N", requires = "table", conflicts_with_all = ["data", "data_dir", "minutes", "time", "shard"])]
    pub(crate) evaluations: Option<usize>,
    /// Column that they see [default: the first that begins with `validation`, or --table-column]
    #[arg(long, value_name = "NAME", requires = "evaluations")]
    pub(crate) ask_column: Option<String>,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Resume an interrupted comparison; the result is the same as without the interruption
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "data_dir", "preset", "methods", "seeds", "minutes", "no_train", "table", "table_column", "evaluations", "ask_column", "out"])]
    pub(crate) resume: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReproduceArgs {
    /// Table or figure: tables 1 and 3 and figure 1 search with each method and train what it finds, figures 2, 3, 6 and 7 search only,
    /// table 2 trains published cells
    #[arg(value_parser = one_of(Item::ALL, Item::name))]
    pub(crate) what: Item,
    /// Data set: embedded, fashion-mnist, cifar10, cifar100, or a path; several for table 2
    #[arg(long, value_delimiter = ',', default_value = "embedded", conflicts_with = "resume")]
    pub(crate) data: Vec<String>,
    /// Settings to start from: the scale; `paper` is the paper's own
    #[arg(long, default_value = "quick", conflicts_with = "resume", value_parser = one_of(Preset::ALL, Preset::name))]
    pub(crate) preset: Preset,
    #[command(flatten)]
    pub(crate) limit: TimeLimit,
    /// Minutes per search, instead of search.epochs
    #[arg(long, value_name = "M", conflicts_with = "time")]
    pub(crate) minutes: Option<f64>,
    /// Search or train this many times, with consecutive seeds from --seed on
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) seeds: u32,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Resume an interrupted reproduction; the result is the same as without the interruption
    #[arg(long, value_name = "DIR", conflicts_with_all = ["minutes", "out"])]
    pub(crate) resume: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    pub(crate) command: JobsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Print one command a line, each with a part of the runs: for GNU parallel, HTCondor, SkyPilot and others
    List {
        #[command(flatten)]
        divided: Divided,
    },
    /// Print a script to submit as it is
    Script {
        /// What it is for
        #[arg(value_enum)]
        scheduler: Scheduler,
        /// CPU cores of each task, all of which it uses
        #[arg(long, value_name = "N", default_value_t = 2)]
        cpus: u32,
        /// Container image with asap in it (kubernetes)
        #[arg(long, required_if_eq("scheduler", "kubernetes"))]
        image: Option<String>,
        /// Persistent volume claim with the data and the results, mounted at /work, where the command runs (kubernetes)
        #[arg(long, required_if_eq("scheduler", "kubernetes"))]
        claim: Option<String>,
        #[command(flatten)]
        divided: Divided,
    },
}

/// A command of several runs, divided.
#[derive(Debug, Args)]
pub(crate) struct Divided {
    /// Number of parts [default: one for each run]
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<usize>,
    /// The command, after --: compare, reproduce, transfer, run or train with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// What runs many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheduler {
    Slurm,
    Kubernetes,
}

#[cfg(feature = "watch")]
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Folder that contains the runs
    #[arg(default_value = "runs")]
    pub(crate) folder: PathBuf,
    /// Port on 127.0.0.1; 0 picks a free one
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
    /// Print the completion script of a shell
    Completions {
        /// Shell to complete commands in
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one per command
    Man {
        /// Folder to write the pages to
        folder: PathBuf,
    },
    /// Print all commands and configuration keys in Markdown
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
        /// Family that the cell is expected to belong to [default: any]
        #[arg(long, value_parser = one_of(Family::ALL, Family::name))]
        space: Option<Family>,
    },
    /// Draw a cell, to --out or standard output
    Draw {
        /// A published name, a file, a genotype as text, or the folder of a search
        cell: String,
        /// Family that the cell is expected to belong to [default: any]
        #[arg(long, value_parser = one_of(Family::ALL, Family::name))]
        space: Option<Family>,
        /// Cell to draw
        #[arg(long, default_value = "normal", value_parser = one_of([CellKind::Normal, CellKind::Reduction], CellKind::name))]
        kind: CellKind,
        /// Picture format; png needs --out
        #[arg(long, value_enum, default_value_t = PictureFormat::Svg)]
        format: PictureFormat,
    },
    /// Count the parameters and multiply-adds of the network built from a cell
    Cost {
        /// A published name, a file, a genotype as text, or the folder of a search
        cell: String,
        /// Family that the cell is expected to belong to [default: any]
        #[arg(long, value_parser = one_of(Family::ALL, Family::name))]
        space: Option<Family>,
        #[command(flatten)]
        size: NetworkSize,
        /// Use the ImageNet stem, three convolutions with stride 2
        #[arg(long)]
        imagenet: bool,
    },
    /// Convert a cell to another notation
    Convert {
        /// A published name, a file, a genotype as text, or the folder of a search
        cell: String,
        /// Family that the cell is expected to belong to [default: any]
        #[arg(long, value_parser = one_of(Family::ALL, Family::name))]
        space: Option<Family>,
        /// Notation to convert to
        #[arg(long, value_enum, default_value_t = Notation::Python)]
        to: Notation,
    },
}

/// A format of the picture of a cell.
#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PictureFormat {
    Svg,
    Dot,
    Png,
}

/// A notation of a genotype.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Notation {
    Python,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

#[derive(Debug, Args)]
pub(crate) struct DataSource {
    /// A known name or a path
    pub(crate) data: String,
    /// Folder of a known data set, if not in one of the usual places
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// List the known data sets and where they were found
    List,
    /// Report the sizes, classes, statistics and problems of a data set
    Check {
        #[command(flatten)]
        source: DataSource,
        /// Images that cannot be read are always left out and listed here
        #[arg(long, hide = true)]
        skip_corrupt: bool,
    },
    /// Pack the decoded images of a data set into one file, which every command reads as --data
    ///
    /// The file holds the parts (train, valid, test) as they are found, with the seed of the split. It is loaded at once if it fits into
    /// memory (data.memory_mb), and read image by image if not.
    Convert {
        #[command(flatten)]
        source: DataSource,
        /// The file to write, such as photos.asap
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Side in pixels to which images are scaled [default: that of half of them, or the median, up to 64]
        #[arg(long, value_name = "PIXELS")]
        size: Option<usize>,
        /// Leave out images that cannot be read instead of failing
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
    /// Print every configuration value and its origin
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
        /// Search space
        #[arg(long, default_value = "darts", value_parser = one_of(Family::ALL, Family::name))]
        space: Family,
        /// Operations left on each edge [default: every candidate of the space]
        #[arg(long, value_delimiter = ',', value_parser = one_of(Operation::all(), operation))]
        alive: Vec<Operation>,
    },
    /// Time the training step of the network built from a cell
    Eval {
        #[command(flatten)]
        size: BenchSize,
        /// A published name, a file, a genotype as text, or the folder of a search
        #[arg(long, default_value = "ASAP")]
        cell: String,
    },
    /// Time a network on one image, as a whole and as the sum of its pieces
    ///
    /// The times of pieces are kept in the user's cache folder; a search for a limited latency takes them from there.
    Latency {
        /// A published name, a plain network, a file, a genotype as text, or the folder of a search
        #[arg(long, default_value = "ASAP")]
        cell: String,
        #[command(flatten)]
        size: NetworkSize,
        /// Measure the pieces again, even if their times are known
        #[arg(long)]
        anew: bool,
    },
    /// Time the reading of a data set, and its batches
    Data {
        #[command(flatten)]
        source: DataSource,
        /// Images per batch
        #[arg(long, default_value_t = 64)]
        batch: usize,
        /// Side in pixels to which images are scaled [default: that of half of them, or the median, up to 64]
        #[arg(long, value_name = "PIXELS")]
        size: Option<usize>,
        /// Memory in MiB that images may take; those that take more are read when a batch needs them [default: half of the free memory]
        #[arg(long, value_name = "MIB", default_value_t = 0, hide_default_value = true)]
        memory: u64,
    },
    /// Time the inference of a trained network on made-up images
    Predict {
        /// Run folder of a finished training, or a weights.safetensors file
        run: PathBuf,
        /// Images per call
        #[arg(long, default_value_t = 64)]
        batch: usize,
        /// Number of calls to time; the fastest counts
        #[arg(long, default_value_t = 3)]
        steps: usize,
    },
}

/// Size of the network built from a cell, or of a plain one.
#[derive(Debug, Args)]
pub(crate) struct NetworkSize {
    /// Initial channels C [default: 36; nas-bench-201 and plain networks: 16]
    #[arg(long)]
    pub(crate) channels: Option<usize>,
    /// Number of cells [default: 20; nas-bench-201: 15]
    #[arg(long)]
    pub(crate) cells: Option<usize>,
    /// Image height and width in pixels
    #[arg(long, default_value_t = 32)]
    pub(crate) size: usize,
    /// Image channels
    #[arg(long, default_value_t = 3)]
    pub(crate) in_channels: usize,
    /// Number of classes
    #[arg(long, default_value_t = 10)]
    pub(crate) classes: usize,
}

/// Sizes of the network and the batch to time.
#[derive(Debug, Args)]
pub(crate) struct BenchSize {
    /// Initial channels C [default: 16 for a search, 36 otherwise]
    #[arg(long)]
    pub(crate) channels: Option<usize>,
    /// Number of cells [default: 8 for a search, 20 otherwise]
    #[arg(long)]
    pub(crate) cells: Option<usize>,
    /// Images per step [default: 64 for a search, 32 otherwise]
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Image height and width in pixels
    #[arg(long, default_value_t = 32)]
    pub(crate) size: usize,
    /// Image channels
    #[arg(long, default_value_t = 3)]
    pub(crate) in_channels: usize,
    /// Number of steps to time; the fastest counts
    #[arg(long, default_value_t = 3)]
    pub(crate) steps: usize,
    /// Arithmetic of training on the CPU; bf16 is mixed precision
    #[arg(long, default_value_t, value_parser = one_of(Precision::ALL, Precision::name))]
    pub(crate) precision: Precision,
}

#[derive(Debug, Args)]
pub(crate) struct PacArgs {
    /// Number of operations
    #[arg(long, default_value_t = 7)]
    pub(crate) arms: usize,
    /// Allowed probability of pruning the best operation
    #[arg(long, default_value_t = 0.1)]
    pub(crate) delta: f64,
    /// Lead of the best operation's mean gradient over the others
    #[arg(long, default_value_t = 0.5)]
    pub(crate) gap: f64,
    /// Iterations per run
    #[arg(long, default_value_t = 2000)]
    pub(crate) steps: u32,
    /// Number of runs
    #[arg(long, default_value_t = 1000)]
    pub(crate) runs: u32,
}

/// The name of an operation, and its short one for those who know it.
fn operation(operation: Operation) -> PossibleValue {
    PossibleValue::new(operation.name()).alias(operation.short())
}
