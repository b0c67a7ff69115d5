//! `asap search`: the main job.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use asap::run::folder::RESULT;
use asap::settings::config::{Auto, Config};
use asap::{Outcome, RunFolder, Search, SearchResult};
use asap_core::Genotype;
use asap_data::Splits;
use serde::Serialize;

use crate::args::{Common, SearchArgs};
use crate::output::{self, duration, megabytes, shell_word};

pub(crate) fn run(args: &SearchArgs, common: &Common) -> anyhow::Result<()> {
    if let Some(path) = &args.resume {
        return resume(path, common);
    }
    let mut layers = super::layers(&args.settings, common)?;
    if let Some(method) = args.method {
        layers.put("search.method", method.name());
    }
    let config = layers.resolve()?;
    super::start_threads(config.threads)?;
    let splits = super::load(&config)?;
    if args.dry_run {
        let (shown, _) = dry_run(config, splits)?;
        let text = super::dry_text(&shown.config, &shown.costs())?;
        return output::print(common.json, &shown, &text);
    }
    let path = super::out_folder(common, "search");
    let search = Search::new(config.clone(), splits)?;
    let images = search.data().train_images.min(search.data().valid_images);
    if images < config.search.batch {
        eprintln!(
            "note: a half has {images} images, fewer than search.batch; a step takes them all"
        );
    }
    super::warn_of_memory(search.memory_estimate_mb(), "search.batch");
    let folder = RunFolder::create(&path, &config)?;
    eprintln!("{}\nrun folder: {}", summary(&search), path.display());
    search_on(search, &folder, common)
}

fn resume(path: &Path, common: &Common) -> anyhow::Result<()> {
    super::no_settings(common)?;
    let (folder, config) = RunFolder::open(path)?;
    // The folder of a training is refused here.
    asap::run::checkpoint::load(&folder)?;
    if let Some(result) = folder.read_json::<SearchResult>(RESULT)? {
        eprintln!("{}: this run is finished", path.display());
        return report(&result, &folder, common);
    }
    super::start_threads(common.threads.unwrap_or(config.threads))?;
    let splits = super::load(&config)?;
    let mut search = Search::new(config, splits)?;
    search.restore(&folder)?;
    eprintln!("{}\nresumed: {}", summary(&search), path.display());
    search_on(search, &folder, common)
}

fn search_on(mut search: Search, folder: &RunFolder, common: &Common) -> anyhow::Result<()> {
    let result =
        super::to_the_end("search", folder, |progress, stop| search.run(folder, progress, stop))?;
    report(&result, folder, common)
}

/// What a search is about to do, in a few words.
fn summary(search: &Search) -> String {
    let data = search.data();
    let [height, width, channels] = data.image;
    format!(
        "{}: {} + {} images of {height}x{width}x{channels}, {} classes; \
         search network of {} weights, about {:.0} MiB; \
         at most {} epochs of {} steps, {} of them grace",
        data.name,
        data.train_images,
        data.valid_images,
        data.classes.len(),
        search.learner().parameters.weight_count(),
        search.memory_estimate_mb(),
        search.epochs(),
        search.steps_per_epoch(),
        search.grace_epochs(),
    )
}

fn report(result: &SearchResult, folder: &RunFolder, common: &Common) -> anyhow::Result<()> {
    let path = super::shell_path(folder);
    for warning in &result.warnings {
        eprintln!("warning: {warning}");
    }
    let decided = if result.decided_by_annealing {
        "every choice made by annealing".to_owned()
    } else if result.fallback.is_empty() {
        format!("made by {}", result.method)
    } else {
        format!("{} choices by largest probability", result.fallback.len())
    };
    let text = format!(
        "{}\n\n\
         validation accuracy  {:.2} % (search network), {:.2} % (only the cell left)\n\
         decisions            {decided}\n\
         time                 {} for {} epochs\n\
         pictures             {path}/normal.svg, {path}/reduction.svg\n\
         report               {path}/report.html\n\
         to train it          asap train --cell {path} --data {}",
        result.genotype,
        100.0 * result.valid_accuracy,
        100.0 * result.derived_valid_accuracy,
        duration(result.seconds),
        result.epochs,
        shell_word(&result.data.name),
    );
    output::print(common.json, result, &text)
}

/// What a search would take.
#[derive(Serialize)]
pub(crate) struct DryRun {
    pub(crate) config: Config,
    weights: usize,
    steps_per_epoch: usize,
    epochs: usize,
    grace_epochs: usize,
    alpha_lr: f64,
    memory_estimate_mb: f64,
    seconds_at_most: f64,
    peak_rss_mb: Option<f64>,
}

impl DryRun {
    pub(crate) fn costs(&self) -> String {
        format!(
            "search network       {} weights\n\
             steps                {} an epoch, at most {} epochs, {} of them grace\n\
             alpha rate           {:.2e}\n\
             time                 at most {}\n\
             memory               about {:.0} MiB; {} measured here\n\
             Search, pruning, checkpoint, derivation and report work.",
            self.weights,
            self.steps_per_epoch,
            self.epochs,
            self.grace_epochs,
            self.alpha_lr,
            duration(self.seconds_at_most),
            self.memory_estimate_mb,
            megabytes(self.peak_rss_mb),
        )
    }
}

/// Goes through everything on two batches of each half, in a folder that is thrown away; returns also the cell
/// that came out, which is arbitrary.
pub(crate) fn dry_run(config: Config, splits: Splits) -> anyhow::Result<(DryRun, Genotype)> {
    let full = Search::new(config.clone(), splits.clone())?;
    eprintln!("{}", summary(&full));
    let small = two_epochs(&config);
    let images = 4 * config.search.batch.min(splits.train.len() / 4).max(1);
    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    let folder = RunFolder::create(&scratch.path().join("run"), &small)?;
    let train = super::first_of_each_class(&splits.train, images)?;
    let mut search = Search::new(small, Splits { train, ..splits })?;
    let outcome = search.run(&folder, &mut (), &AtomicBool::new(false))?;
    let Outcome::Finished(result) = outcome else { bail!("the dry run did not end") };
    let steps = (result.epochs * search.steps_per_epoch()) as f64;
    let seconds = result.seconds / steps * (full.steps_per_epoch() * full.epochs()) as f64;
    let shown = DryRun {
        weights: full.learner().parameters.weight_count(),
        steps_per_epoch: full.steps_per_epoch(),
        epochs: full.epochs(),
        grace_epochs: full.grace_epochs(),
        alpha_lr: full.alpha_lr(),
        memory_estimate_mb: full.memory_estimate_mb(),
        seconds_at_most: seconds,
        peak_rss_mb: asap::run::memory::peak_rss_mb(),
        config,
    };
    Ok((shown, result.genotype))
}

/// The same search in two epochs, with alpha moving in the second.
fn two_epochs(config: &Config) -> Config {
    let mut small = config.clone();
    small.search.epochs = 2;
    small.annealing.decay = Auto::Auto;
    small.annealing.grace_temperature = config.annealing.initial_temperature;
    small
}
