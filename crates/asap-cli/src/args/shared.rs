//! Options that several commands share.

use std::path::PathBuf;

use asap::Preset;
use asap::jobs::shard::Shard;
use asap_core::Family;
use clap::Args;

use crate::names::one_of;

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
    /// Search space (family of cells) [default: darts; with --cell, that of the cell]
    #[arg(long, value_parser = one_of(Family::ALL, Family::name))]
    pub(crate) space: Option<Family>,
}

/// Limits of the trained network, which has no more channels than they allow.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Limits {
    /// Maximum multiply-adds per image, such as 50M
    #[arg(long, help_heading = LIMITS, value_name = "N", value_parser = count, conflicts_with = "resume")]
    pub(crate) max_multiply_adds: Option<u64>,
    /// Maximum number of weights, such as 300k
    #[arg(long, help_heading = LIMITS, value_name = "N", value_parser = count, conflicts_with = "resume")]
    pub(crate) max_weights: Option<u64>,
    /// Maximum time from the bytes of one image to its logits, such as 5ms, measured on this CPU
    #[arg(long, help_heading = LIMITS, value_name = "TIME", value_parser = seconds, conflicts_with = "resume")]
    pub(crate) max_latency: Option<f64>,
    /// Number of threads to measure the latency with [default: 1]
    #[arg(long, help_heading = LIMITS, value_name = "N", requires = "max_latency")]
    pub(crate) latency_threads: Option<usize>,
    #[command(flatten)]
    pub(crate) memory: MemoryLimit,
}

/// A limit on the memory of searches and trainings.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MemoryLimit {
    /// Refuse a search or training that is estimated to need more memory than this, such as 2GiB; with --time, train a
    /// network that needs less
    #[arg(long, help_heading = MEMORY, value_name = "SIZE", value_parser = mebibytes, conflicts_with = "resume")]
    pub(crate) max_memory: Option<u64>,
}

/// The heading of the limit on the memory.
const MEMORY: &str = "Limits on the run";

/// MiB of a size such as `2GiB`.
fn mebibytes(text: &str) -> Result<u64, String> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() >= 1 << 20 => Ok(size.as_u64() >> 20),
        _ => Err("expected a size of at least 1 MiB, such as 500MiB or 2GiB".to_owned()),
    }
}

/// The heading of the limits in help texts.
const LIMITS: &str = "Limits on the trained network (they cap its number of channels)";

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
    /// Time limit for the whole command, such as 20m, 2h or 1h30m: the epochs of searches, and the network size, epochs and
    /// (with few images) batch size of trainings are chosen to fit it on this machine, whatever the preset says
    #[arg(long, value_name = "TIME", value_parser = seconds, conflicts_with = "resume")]
    pub(crate) time: Option<f64>,
}

impl TimeLimit {
    /// The flag, if it is given.
    pub(crate) fn flag(self) -> Option<&'static str> {
        self.time.map(|_| "--time")
    }
}

/// The part of the runs that a process does.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Part {
    /// Do part I of N of the runs, such as 3/8; all parts share one --out, and running a part again continues it
    /// [default: all, or this task's part in an array job of Slurm, Kubernetes, AWS Batch, Grid Engine, LSF or PBS]
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
}

/// Seconds of a time such as `1h30m`.
fn seconds(text: &str) -> Result<f64, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(time.as_secs_f64()),
        _ => {
            Err("expected a time above 0 with its unit, such as 5ms, 90s, 20m or 1h30m".to_owned())
        }
    }
}
