//! Commands that search and train, and those that divide their runs.

use std::path::PathBuf;

use asap::paper::Item;
use asap::{MethodName, Preset};
use asap_core::PlainNetwork;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::shared::{Limits, MemoryLimit, Part, Settings, TimeLimit};
use crate::names::{described, one_of};

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
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "space", "preset", "out", "dry_run"])]
    pub(crate) resume: Option<PathBuf>,
    /// Try everything on two batches and report the expected time and memory; nothing is kept
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["cell", "network", "resume"])))]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) limit: TimeLimit,
    /// Name of a published cell, a file, a genotype as text, or the folder of a search
    #[arg(long)]
    pub(crate) cell: Option<String>,
    /// Train a plain network instead: resnet-9, resnet-20, mobilenet-20, or one of another depth 6 n + 2
    #[arg(long, value_name = "NAME", conflicts_with = "space")]
    pub(crate) network: Option<PlainNetwork>,
    /// Resume an interrupted run; the result is the same as without the interruption
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "space", "preset", "out", "dry_run"])]
    pub(crate) resume: Option<PathBuf>,
    /// Train this many times, with consecutive seeds starting at --seed, and report mean and spread
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Try everything on two batches and report the expected time and memory; nothing is kept
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
    /// Skip the final and train what the search finds; by default, a final of short trainings compares the cells found
    /// with a published cell, a random cell and plain networks, and the best of them is trained
    #[arg(long, conflicts_with = "resume")]
    pub(crate) no_final: bool,
    /// Train networks of this many sizes, each with half the multiply-adds of the one before, and show their error
    /// against their cost
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["resume", "no_final"])]
    pub(crate) sizes: u32,
    /// Resume an interrupted run; the result is the same as without the interruption. With --time, whatever has
    /// started continues as planned, and the rest gets the remaining time
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "space", "preset", "out"])]
    pub(crate) resume: Option<PathBuf>,
    /// Search this many times, with consecutive seeds starting at --seed
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat_search: u32,
    /// Train this many times, with consecutive seeds starting at --seed
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat_train: u32,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Try everything on two batches and report the expected time and memory; nothing is kept
    #[arg(long, conflicts_with_all = ["resume", "time"])]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Cells: names of published cells, files, or folders of searches; or plain networks such as resnet-20
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
    /// Train this many times, with consecutive seeds starting at --seed, and report mean and spread
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "resume")]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Resume an interrupted transfer; the result is the same as without the interruption
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub(crate) resume: Option<PathBuf>,
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
    /// Search this many times with each method, with consecutive seeds starting at --seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seeds: u32,
    /// Minutes per search, instead of search.epochs: the number of epochs is estimated from a few
    /// steps of each method before anything is pruned
    #[arg(long, value_name = "M", conflicts_with = "time")]
    pub(crate) minutes: Option<f64>,
    /// Search only; train nothing
    #[arg(long)]
    pub(crate) no_train: bool,
    /// Look up the cells found in a table of true accuracies instead of training them; a CSV file with
    /// a `cell` column and accuracies in percent
    #[arg(long, value_name = "FILE")]
    pub(crate) table: Option<PathBuf>,
    /// Accuracy column of --table [default: the first one other than `cell`]
    #[arg(long, value_name = "NAME", requires = "table")]
    pub(crate) table_column: Option<String>,
    /// Search without images: each method looks up the accuracies of this many cells in --table (only random,
    /// random-trained, evolution, pnas, nao and nasnet)
    #[arg(long, value_name = "N", requires = "table", conflicts_with_all = ["data", "data_dir", "minutes", "time", "shard", "no_train", "max_multiply_adds", "max_weights", "max_latency", "max_memory"])]
    pub(crate) evaluations: Option<usize>,
    /// Column of --table that the methods see [default: the first one that begins with `validation`, or --table-column]
    #[arg(long, value_name = "NAME", requires = "evaluations")]
    pub(crate) ask_column: Option<String>,
    #[command(flatten)]
    pub(crate) part: Part,
    /// Resume an interrupted comparison; the result is the same as without the interruption
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "data_dir", "space", "preset", "methods", "seeds", "minutes", "no_train", "table", "table_column", "evaluations", "ask_column", "out"])]
    pub(crate) resume: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReproduceArgs {
    /// Table or figure: tables 1 and 3 and figure 1 search with each method and train what it finds; figures 2, 3, 6
    /// and 7 only search; table 2 trains published cells
    #[arg(value_parser = one_of(Item::ALL, Item::name))]
    pub(crate) what: Item,
    /// Data set: embedded, fashion-mnist, cifar10, cifar100, or a path; several for table 2
    #[arg(long, value_delimiter = ',', default_value = "embedded", conflicts_with = "resume")]
    pub(crate) data: Vec<String>,
    /// Settings to start from, which set the scale; `paper` is the paper's own
    #[arg(long, default_value = "quick", conflicts_with = "resume", value_parser = one_of(Preset::ALL, Preset::name))]
    pub(crate) preset: Preset,
    #[command(flatten)]
    pub(crate) limit: TimeLimit,
    /// Minutes per search, instead of search.epochs
    #[arg(long, value_name = "M", conflicts_with = "time")]
    pub(crate) minutes: Option<f64>,
    /// Search or train this many times, with consecutive seeds starting at --seed
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
    /// Print one command per line, each for one part of the runs, for GNU parallel, HTCondor, SkyPilot and others
    List {
        #[command(flatten)]
        divided: Divided,
    },
    /// Print a script that is ready to submit
    Script {
        /// Scheduler that the script is for
        #[arg(value_enum)]
        scheduler: Scheduler,
        /// CPU cores per task; each task uses all of them
        #[arg(long, value_name = "N", default_value_t = 2)]
        cpus: u32,
        /// Container image that contains asap (kubernetes)
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
    /// Number of parts [default: one per run]
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<usize>,
    /// Command to split, after --: compare, reproduce, transfer, run or train, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// What runs many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheduler {
    Slurm,
    Kubernetes,
}
