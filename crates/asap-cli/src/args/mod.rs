//! The command line.

mod networks;
mod runs;
mod shared;
mod tools;

use std::path::PathBuf;

use asap::DeviceName;
use clap::{Args, Parser, Subcommand};

use crate::names::one_of;
pub(crate) use networks::*;
pub(crate) use runs::*;
pub(crate) use shared::*;
pub(crate) use tools::*;

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

/// A number of threads that a machine may have.
fn threads(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|&threads| threads <= 1024)
        .ok_or("expected 0 to 1024 threads".to_owned())
}

/// The options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Number of worker threads; does not affect the result [default: one per core]
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Seed for initial weights, the two halves of a search, shuffling and augmentation; for data check and convert, for the choice of test images [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Device to compute on [default: cpu]
    #[arg(long, global = true, value_parser = one_of(DeviceName::ALL, DeviceName::name))]
    pub(crate) device: Option<DeviceName>,
    /// Configuration file; overrides the preset
    #[arg(long, global = true, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Set one configuration key, such as search.epochs=20; overrides the preset and --config, and is overridden by flags; repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where to write the results; must not exist yet [default: runs/<command>-1, -2, ...; for export, a name by --format in the current folder]
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
    /// Train a network built from a cell, or a plain network, and measure its test error
    #[command(
        after_help = "Examples:\n  asap train --cell ASAP --data fashion-mnist --preset hour\n  \
        asap train --cell runs/search-1 --repeat 3\n  asap train --network resnet-20 --data photos/\n  asap train --cell ASAP --data photos/ --dry-run\n  \
        asap train --resume runs/train-1"
    )]
    Train(TrainArgs),
    /// Go from images to a trained network: search, compare with simple baselines, train, test and report
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
    /// Reproduce a table or a figure of the paper at a chosen scale, with the paper's numbers alongside
    #[command(
        after_help = "Examples:\n  asap reproduce table-1 --data cifar10 --preset hour --seeds 3\n  \
        asap reproduce table-1 --time 8h\n  asap reproduce table-2 --data fashion-mnist,cifar100 --preset hour\n  \
        asap reproduce figure-2 --data photos/\n  asap reproduce table-1 --resume runs/table-1-1"
    )]
    Reproduce(ReproduceArgs),
    /// Split the runs of a command across processes and machines
    #[command(
        after_help = "Examples:\n  asap jobs list -- compare --data photos/ --seeds 10 --out study --threads 2 | parallel -j 4\n  \
        asap jobs script slurm --shards 8 --cpus 4 -- compare --data photos/ --seeds 10 --out study > study.sh\n  \
        asap jobs script kubernetes --image registry/asap --claim work -- transfer --cells ASAP,DARTS_V2 --data cifar10 --repeat 5 --out table"
    )]
    Jobs(JobsArgs),
    /// List, show, draw, convert and measure cells, published or your own
    #[command(after_help = "Example:\n  asap cells cost ASAP --channels 36 --cells 20 --json")]
    Cells(CellsArgs),
    /// List the known data sets, or check or convert one
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
            Self::Search(SearchArgs { dry_run: false, .. })
                | Self::Train(TrainArgs { dry_run: false, .. })
                | Self::Run(RunArgs { dry_run: false, .. })
                | Self::Transfer(_)
                | Self::Compare(_)
                | Self::Reproduce(_)
                | Self::Export(_)
                | Self::Cells(CellsArgs { command: CellsCommand::Draw { .. } })
                | Self::Data(DataArgs { command: DataCommand::Convert { .. } })
        )
    }

    /// True if chance plays a part in the command, and so `--seed`. An evaluation splits images as its training did.
    pub(crate) fn draws(&self) -> bool {
        !matches!(
            self,
            Self::Evaluate(_)
                | Self::Predict(_)
                | Self::Export(_)
                | Self::Cells(_)
                | Self::Bench(_)
                | Self::Jobs(_)
                | Self::Docs(_)
        )
    }

    /// True if the command computes networks on a device, and so `--device`. Latencies are those of this CPU.
    pub(crate) fn computes(&self) -> bool {
        use BenchCommand::{Data, Latency};
        !matches!(
            self,
            Self::Cells(_)
                | Self::Data(_)
                | Self::Docs(_)
                | Self::Jobs(_)
                | Self::Pac(_)
                | Self::Bench(BenchArgs { command: Data { .. } | Latency { .. } })
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
