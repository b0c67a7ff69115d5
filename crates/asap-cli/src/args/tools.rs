//! Commands for cells, data, configurations, measurements and documents.

use std::path::PathBuf;

use asap::Precision;
use asap_core::{CellKind, Family, Operation};
use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::shared::Settings;
use crate::names::one_of;

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
    /// Print the completion script for a shell
    Completions {
        /// Shell to print the script for
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
        /// Name of a published cell, a file, a genotype as text, or the folder of a search
        cell: String,
        /// Family that the cell must belong to [default: any]
        #[arg(long, value_parser = one_of(Family::ALL, Family::name))]
        space: Option<Family>,
    },
    /// Draw a cell, to --out or standard output
    Draw {
        /// Name of a published cell, a file, a genotype as text, or the folder of a search
        cell: String,
        /// Family that the cell must belong to [default: any]
        #[arg(long, value_parser = one_of(Family::ALL, Family::name))]
        space: Option<Family>,
        /// Cell to draw
        #[arg(long, default_value = "normal", value_parser = one_of([CellKind::Normal, CellKind::Reduction], CellKind::name))]
        kind: CellKind,
        /// Picture format [default: from the extension of --out, or svg]
        #[arg(long, value_enum)]
        format: Option<PictureFormat>,
    },
    /// Count the parameters and multiply-adds of the network built from a cell
    Cost {
        /// Name of a published cell or plain network, a file, a genotype as text, or the folder of a search
        cell: String,
        /// Family that the cell must belong to [default: any]
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
        /// Name of a published cell, a file, a genotype as text, or the folder of a search
        cell: String,
        /// Family that the cell must belong to [default: any]
        #[arg(long, value_parser = one_of(Family::ALL, Family::name))]
        space: Option<Family>,
        /// Notation to convert to
        #[arg(long, value_enum, default_value_t = Notation::Python)]
        to: Notation,
    },
}

/// A format of the picture of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ValueEnum)]
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
    /// Name of a known data set, or a path
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
    /// Pack the decoded images of a data set into one file, which every command accepts as --data
    ///
    /// The file holds the parts (train, valid, test) as they are found. It is loaded whole
    /// if it fits in memory (data.memory_mb), and read image by image otherwise.
    Convert {
        #[command(flatten)]
        source: DataSource,
        /// File to write, such as photos.asap
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Side in pixels to scale images to [default: the size that half of them share, or the median, up to 64]
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
        /// Name of a published cell or plain network, a file, a genotype as text, or the folder of a search
        #[arg(long, default_value = "ASAP")]
        cell: String,
    },
    /// Time a network on one image, as a whole and as the sum of its pieces
    ///
    /// The times of the pieces are kept in the user's cache folder, where searches with a latency limit look them up.
    Latency {
        /// Name of a published cell or plain network, a file, a genotype as text, or the folder of a search
        #[arg(long, default_value = "ASAP")]
        cell: String,
        #[command(flatten)]
        size: NetworkSize,
        /// Measure the pieces again, even if their times are known
        #[arg(long)]
        anew: bool,
    },
    /// Time reading a data set and preparing its batches
    Data {
        #[command(flatten)]
        source: DataSource,
        /// Images per batch
        #[arg(long, default_value_t = 64)]
        batch: usize,
        /// Side in pixels to scale images to [default: the size that half of them share, or the median, up to 64]
        #[arg(long, value_name = "PIXELS")]
        size: Option<usize>,
        /// Memory in MiB that images may take; if they need more, they are read when a batch needs them
        /// [default: half of the free memory]
        #[arg(long, value_name = "MIB", default_value_t = 0, hide_default_value = true)]
        memory: u64,
    },
    /// Time inference with a trained network on synthetic images
    Predict {
        /// Folder of a finished training run, or a weights.safetensors file
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
    /// Arithmetic for training on the CPU; bf16 is mixed precision
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
