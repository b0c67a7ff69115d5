//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod cells;
pub(crate) mod compare;
pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod docs;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod jobs;
pub(crate) mod pac;
pub(crate) mod predict;
pub(crate) mod reproduce;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod train;
pub(crate) mod transfer;
#[cfg(feature = "watch")]
pub(crate) mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use asap::jobs::shard::Shard;
use asap::memory::available_mb;
use asap::run::folder::Place;
use asap::settings::Origin;
use asap::settings::config::Config;
use asap::{Layers, Outcome, Preset, RunFolder};
use asap_data::{DataSpec, DatasetName};

use crate::args::{Command, Common, Limits, MemoryLimit, Part, Settings};
use crate::output::shell_word;
use crate::progress::Progress;

/// Preset, file, `--set` and flags, in this order.
pub(crate) fn layers(settings: &Settings, common: &Common) -> anyhow::Result<Layers> {
    let mut layers = shared_layers(settings.preset, common)?;
    if let Some(data) = &settings.data {
        layers.put("data.source", anywhere(data));
    }
    if let Some(dir) = &settings.data_dir {
        let source = layers.effective().into_iter().find(|(key, ..)| key == "data.source");
        no_unused_folder(source.as_ref().and_then(|(_, value, _)| value.as_str()), dir)?;
        layers.put("data.dir", dir.to_string_lossy().as_ref());
    }
    if let Some(space) = settings.space {
        layers.put("space", space.name());
    }
    Ok(layers)
}

/// A data set as it is found from any folder: a name as it is, a path from the root on.
pub(crate) fn anywhere(data: &str) -> String {
    let path = match data.parse::<DataSpec>() {
        Ok(DataSpec::Path(path)) => path,
        _ => return data.to_owned(),
    };
    let found = std::fs::canonicalize(&path).or_else(|_| std::path::absolute(&path));
    found.ok().and_then(|path| path.to_str().map(str::to_owned)).unwrap_or(data.to_owned())
}

/// Refuses the folder of a known data set for other images, or none: those of the folder would not be read.
pub(crate) fn no_unused_folder(data: Option<&str>, dir: &Path) -> anyhow::Result<()> {
    let (data, dir) = (data.unwrap_or(DatasetName::Embedded.as_str()), dir.display());
    match data.parse::<DataSpec>()? {
        DataSpec::Named(name) if name != DatasetName::Embedded => Ok(()),
        _ => Err(crate::failure::Usage(format!(
            "--data-dir {dir}: applies only to data sets known by name, such as --data cifar10, and not to --data {data}; \
             for your own images use --data {dir}"
        ))
        .into()),
    }
}

/// Adds the limits of the trained network.
pub(crate) fn limit(layers: &mut Layers, limits: Limits) {
    let Limits { max_multiply_adds, max_weights, max_latency, latency_threads, memory } = limits;
    limit_memory(layers, memory);
    let counts = [("limits.multiply_adds", max_multiply_adds), ("limits.weights", max_weights)];
    for (key, count) in counts {
        if let Some(count) = count {
            layers.put(key, count as i64);
        }
    }
    if let Some(seconds) = max_latency {
        layers.put("limits.latency_ms", (1e9 * seconds).round() / 1e6);
    }
    if let Some(threads) = latency_threads {
        layers.put("limits.latency_threads", threads as i64);
    }
}

/// Adds the limit on the memory.
pub(crate) fn limit_memory(layers: &mut Layers, limit: MemoryLimit) {
    if let Some(mebibytes) = limit.max_memory {
        layers.put("limits.memory_mb", mebibytes as i64);
    }
}

/// The same without the data.
pub(crate) fn shared_layers(preset: Preset, common: &Common) -> anyhow::Result<Layers> {
    let mut layers = Layers::preset(preset);
    if let Some(file) = &common.config {
        layers.file(file)?;
    }
    for assignment in &common.set {
        layers.set(assignment)?;
    }
    if let Some(seed) = common.seed {
        layers.put("seed", i64::try_from(seed).map_err(|_| seed_too_large(seed))?);
    }
    if let Some(threads) = common.threads {
        layers.put("threads", threads as i64);
    }
    if let Some(device) = common.device {
        layers.put("device", device.name());
    }
    Ok(layers)
}

fn seed_too_large(seed: u64) -> crate::failure::Usage {
    crate::failure::Usage(format!("--seed: expected at most {}, found {seed}", i64::MAX))
}

/// The settings of the length of a training that a time decides.
pub(crate) const DECIDED_LENGTH: [&str; 4] =
    ["train.epochs", "train.seconds", "train.warmup_epochs", "train.cycles"];
/// Those of the size of its network.
pub(crate) const DECIDED_SIZE: [&str; 2] = ["train.channels", "train.multiply_adds"];

/// All settings that a time decides for searches and trainings.
pub(crate) fn decided() -> Vec<&'static str> {
    let search = ["search.epochs", "search.seconds"].into_iter();
    search.chain(DECIDED_LENGTH).chain(DECIDED_SIZE).collect()
}

/// Refuses settings that a flag decides, if it is given.
pub(crate) fn no_decided_settings(
    flag: Option<&str>,
    layers: &Layers,
    keys: &[&str],
) -> anyhow::Result<()> {
    let Some(flag) = flag else { return Ok(()) };
    match given(layers, keys) {
        Some((key, value, origin)) => Err(crate::failure::Usage(format!(
            "{flag}: decides {key}, but found {key} = {value} ({origin}); leave out one of them"
        ))
        .into()),
        None => Ok(()),
    }
}

/// The first of some settings that the user gave, with its value and its origin.
pub(crate) fn given(layers: &Layers, keys: &[&str]) -> Option<(String, toml::Value, Origin)> {
    layers.effective().into_iter().find(|(key, _, origin)| {
        matches!(origin, Origin::CommandLine | Origin::File(_)) && keys.contains(&key.as_str())
    })
}

/// Sets the number of worker threads; 0 takes every core.
pub(crate) fn start_threads(threads: usize) -> anyhow::Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    Ok(())
}

/// Refuses settings together with `--resume`.
pub(crate) fn no_settings(common: &Common) -> anyhow::Result<()> {
    let Common { set, config, seed, device, .. } = common;
    if set.is_empty() && config.is_none() && seed.is_none() && device.is_none() {
        return Ok(());
    }
    let fault = "--resume: a run continues with its own configuration; \
                 expected no --set, --config, --seed or --device with it";
    Err(crate::failure::Usage(fault.to_owned()).into())
}

/// Refuses settings for a command that reads no configuration, and `--out`, `--seed` and `--device` for one that has no use for them: it would
/// run without them.
pub(crate) fn no_unread_settings(command: &Command, common: &Common) -> anyhow::Result<()> {
    if let Some(out) = common.out.as_ref().filter(|_| !command.writes()) {
        return Err(crate::failure::Usage(format!(
            "--out {}: this command has nothing to write there; its result is printed, as JSON with --json",
            out.display()
        ))
        .into());
    }
    let unread = [
        ("--seed", common.seed.is_some() && !command.draws()),
        ("--device", common.device.is_some() && !command.computes()),
    ];
    if let Some((flag, _)) = unread.into_iter().find(|(_, is_unread)| *is_unread) {
        return Err(crate::failure::Usage(format!(
            "{flag}: would change nothing in this command; leave it out"
        ))
        .into());
    }
    let flag = match (common.set.is_empty(), &common.config) {
        (true, None) => return Ok(()),
        (false, _) => "--set",
        (true, Some(_)) => "--config",
    };
    if command.reads_configuration() {
        return Ok(());
    }
    Err(crate::failure::Usage(format!(
        "{flag}: this command reads no configuration; use its own flags, listed by --help"
    ))
    .into())
}

/// The place of a new run: `--out`, or the first free folder with the command's name.
pub(crate) fn place(common: &Common, command: &str) -> Place {
    match &common.out {
        Some(path) => Place::Folder(path.clone()),
        None => Place::Next { parent: PathBuf::from("runs"), name: command.to_owned() },
    }
}

/// The part of so many runs that this process does: as asked for, or that of the task of an array job.
pub(crate) fn shard(
    part: Part,
    common: &Common,
    resumed: bool,
    runs: usize,
) -> anyhow::Result<Shard> {
    let (shard, origin) = match part.shard {
        Some(shard) => (shard, "--shard"),
        None if runs == 1 => return Ok(Shard::WHOLE),
        None => {
            let found = Shard::of_array_job(|name| std::env::var(name).ok())?;
            let Some((shard, variable)) = found else { return Ok(Shard::WHOLE) };
            eprintln!("part {shard} of {runs} runs, by {variable}; --shard 1/1 does all of them");
            (shard, variable)
        }
    };
    if !shard.is_whole() && !resumed && common.out.is_none() {
        return Err(crate::failure::Usage(format!(
            "{origin}: expected --out PATH, in which all parts join, found none; give the same to each"
        ))
        .into());
    }
    Ok(shard)
}

/// Says which runs of other parts, or of later, are still to be done.
pub(crate) fn note_missing(missing: &[String], runs: usize, command: &str, folder: &RunFolder) {
    if !missing.is_empty() {
        eprintln!(
            "{} of {runs} runs are not done yet: {}; the table has what is done; to do the rest here: asap {command} --resume {}",
            missing.len(),
            missing.join("; "),
            shell_path(folder)
        );
    }
}

/// A path as a user would type it in a command.
pub(crate) fn shell_path(folder: &RunFolder) -> String {
    shell_word(&folder.path().to_string_lossy())
}

/// Runs a command in its folder, with a progress bar; if stopped by the user, prints how to continue.
pub(crate) fn to_the_end<T>(
    command: &str,
    folder: &RunFolder,
    work: impl FnOnce(&mut Progress, &AtomicBool) -> Result<Outcome<T>, asap::Error>,
) -> anyhow::Result<Box<T>> {
    let stop = stop_on_signals()?;
    let mut progress = Progress::new();
    let outcome = work(&mut progress, &stop);
    progress.finish();
    match outcome? {
        Outcome::Finished(result) => Ok(result),
        Outcome::Stopped => bail!(
            "stopped; a checkpoint is saved; continue with: asap {command} --resume {}",
            shell_path(folder)
        ),
    }
}

/// Fails, after the table is printed, if some of its runs failed.
pub(crate) fn fail_after_table(
    failures: usize,
    what: &str,
    command: &str,
    folder: &RunFolder,
) -> anyhow::Result<()> {
    if failures > 0 {
        bail!(
            "{failures} of the {what} failed, see above; fix the cause and continue with: \
             asap {command} --resume {}",
            shell_path(folder)
        );
    }
    Ok(())
}

/// The text of a dry run.
pub(crate) fn dry_text(config: &Config, costs: &str) -> anyhow::Result<String> {
    Ok(format!("{}\n{costs}\nNothing was saved.", toml::to_string(config)?))
}

/// A flag that is set when the user asks to stop; asked twice, the program ends at once.
fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    on_signals(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step; press Ctrl-C again to stop immediately");
    })
    .context("cannot listen for signals")?;
    Ok(stop)
}

/// Calls `react` at each SIGINT, SIGTERM and SIGHUP, except those that were ignored when the program was started, as by `nohup`.
#[cfg(unix)]
fn on_signals(mut react: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let ignored = ignored_signals();
    let heard = [SIGINT, SIGTERM, SIGHUP].into_iter();
    let heard = heard.filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = signal_hook::iterator::Signals::new(heard)?;
    std::thread::spawn(move || signals.forever().for_each(|_| react()));
    Ok(())
}

/// A bit for each signal that this process ignores, where the system tells it (Linux).
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(unix))]
fn on_signals(react: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(react)
}

/// Warns if a run may not fit into memory.
pub(crate) fn warn_of_memory(needed: f64, batch: &str) {
    if let Some(available) = available_mb().filter(|&available| available < needed) {
        eprintln!(
            "warning: this run needs about {needed:.0} MiB, but only {available:.0} MiB are free; \
             a smaller batch (--set {batch}=...) or fewer channels need less"
        );
    }
}
