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
    /// Try everything on two batches and report the expected time and memory; keeps nothing
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
    /// A published name, a file, a genotype as text, or the folder of a search
    #[arg(long)]
    pub(crate) cell: Option<String>,
    /// Train a plain network instead: resnet-9, resnet-20, mobilenet-20, or of another depth 6 n + 2
    #[arg(long, value_name = "NAME", conflicts_with = "space")]
    pub(crate) network: Option<PlainNetwork>,
    /// Resume an interrupted run; the result is the same as without the interruption
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "space", "preset", "out", "dry_run"])]
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
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "data_dir", "space", "preset", "out"])]
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
    #[arg(long, value_name = "N", requires = "table", conflicts_with_all = ["data", "data_dir", "minutes", "time", "shard", "no_train", "max_multiply_adds", "max_weights", "max_latency", "max_memory"])]
    pub(crate) evaluations: Option<usize>,
    /// Column that they see [default: the first that begins with `validation`, or --table-column]
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
