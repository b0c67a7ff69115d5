//! `asap train`: a cell to a trained network.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use asap::jobs::transfer::{NamedCell, Plan, Transfer};
use asap::run::folder::{GENOTYPE_JSON, RESULT};
use asap::settings::config::Config;
use asap::{Outcome, RunFolder, TrainResult, Training};
use asap_core::Genotype;
use asap_data::Splits;
use serde::Serialize;

use crate::args::{Common, TrainArgs};
use crate::output::{self, duration, megabytes, percent};

pub(crate) fn run(args: &TrainArgs, common: &Common) -> anyhow::Result<()> {
    if let Some(path) = &args.resume {
        return resume(path, common);
    }
    let cell = args.cell.as_deref().unwrap_or_default();
    let genotype = super::cells::read(cell)?;
    let config = super::layers(&args.settings, common)?.resolve()?;
    super::start_threads(config.threads)?;
    let path = super::out_folder(common, "train");
    if args.repeat != 1 {
        let plan = Plan {
            cells: vec![NamedCell { name: super::transfer::cell_name(cell), genotype }],
            data: vec![config.data.source.clone()],
            seeds: config.seeds(args.repeat),
        };
        return super::transfer::go_on(&Transfer::create(&path, &config, plan)?, common);
    }
    let splits = super::load(&config)?;
    if args.dry_run {
        let shown = dry_run(config, genotype, splits)?;
        let text = super::dry_text(&shown.config, &shown.costs())?;
        return output::print(common.json, &shown, &text);
    }
    let training = Training::new(config.clone(), genotype, splits)?;
    if training.data().train_images < config.train.batch {
        eprintln!(
            "note: there are {} images, fewer than train.batch; a step takes them all",
            training.data().train_images
        );
    }
    super::warn_of_memory(training.memory_estimate_mb(), "train.batch");
    let folder = RunFolder::create(&path, &config)?;
    eprintln!("{}\nrun folder: {}", summary(&training), path.display());
    train_on(training, &folder, common)
}

fn resume(path: &Path, common: &Common) -> anyhow::Result<()> {
    super::no_settings(common)?;
    if let Ok(repeats) = Transfer::open(path) {
        super::start_threads(common.threads.unwrap_or(repeats.config().threads))?;
        return super::transfer::go_on(&repeats, common);
    }
    let (folder, config) = RunFolder::open(path)?;
    let genotype: Genotype = folder.read_json(GENOTYPE_JSON)?.with_context(|| {
        let (path, remedy) = (path.display(), "give the folder of a training");
        format!("{path}: expected a {GENOTYPE_JSON}, found none; {remedy}")
    })?;
    super::start_threads(common.threads.unwrap_or(config.threads))?;
    let splits = super::load(&config)?;
    let mut training = Training::new(config, genotype, splits)?;
    training.restore(&folder)?;
    if let Some(result) = folder.read_json::<TrainResult>(RESULT)? {
        eprintln!("{}: this run is finished", path.display());
        return report(&result, &folder, common);
    }
    eprintln!("{}\nresumed: {}", summary(&training), path.display());
    train_on(training, &folder, common)
}

fn train_on(mut training: Training, folder: &RunFolder, common: &Common) -> anyhow::Result<()> {
    let result =
        super::to_the_end("train", folder, |progress, stop| training.run(folder, progress, stop))?;
    report(&result, folder, common)
}

/// What a training is about to do, in a few words.
fn summary(training: &Training) -> String {
    let data = training.data();
    let [height, width, channels] = data.image;
    let cost = training.cost();
    format!(
        "{}: {} images of {height}x{width}x{channels} ({} more held out, {} of test), {} classes; \
         network of {} weights, {:.1} M multiply-adds, about {:.0} MiB; {} epochs of {} steps",
        data.name,
        data.train_images,
        data.valid_images,
        data.test_images,
        data.classes.len(),
        cost.params,
        cost.multiply_adds as f64 / 1e6,
        training.memory_estimate_mb(),
        training.epochs(),
        training.steps_per_epoch(),
    )
}

fn report(result: &TrainResult, folder: &RunFolder, common: &Common) -> anyhow::Result<()> {
    for warning in &result.warnings {
        eprintln!("warning: {warning}");
    }
    output::print(common.json, result, &text(result, folder))
}

/// The result of a training for people.
fn text(result: &TrainResult, folder: &RunFolder) -> String {
    let path = super::shell_path(folder);
    let test = result.test.as_ref().map_or("no test images".to_owned(), |test| {
        format!(
            "{} after the last epoch ({}; {} of {} images)",
            percent(test.error),
            output::interval(test),
            test.errors,
            test.images
        )
    });
    let valid = result.valid_accuracy.map_or("no validation images".to_owned(), |last| {
        let (epoch, best) = result.best.unwrap_or((result.epochs, last));
        format!(
            "{} after the last epoch; {} after epoch {}",
            percent(last),
            percent(best),
            epoch + 1
        )
    });
    format!(
        "test error           {test}\n\
         validation accuracy  {valid}\n\
         network              {} weights, {:.1} M multiply-adds\n\
         time                 {} for {} epochs\n\
         report               {path}/report.html\n\
         to use it            asap predict {path} IMAGE...",
        result.params,
        result.multiply_adds as f64 / 1e6,
        duration(result.seconds),
        result.epochs,
    )
}

/// What a training would take.
#[derive(Serialize)]
pub(crate) struct DryRun {
    config: Config,
    params: u64,
    multiply_adds: u64,
    steps_per_epoch: usize,
    epochs: usize,
    memory_estimate_mb: f64,
    seconds: f64,
    peak_rss_mb: Option<f64>,
}

impl DryRun {
    pub(crate) fn costs(&self) -> String {
        format!(
            "network              {} weights, {:.1} M multiply-adds\n\
             steps                {} an epoch, {} epochs\n\
             time                 about {}\n\
             memory               about {:.0} MiB; {} measured here\n\
             Training, checkpoint, test and report work.",
            self.params,
            self.multiply_adds as f64 / 1e6,
            self.steps_per_epoch,
            self.epochs,
            duration(self.seconds),
            self.memory_estimate_mb,
            megabytes(self.peak_rss_mb),
        )
    }
}

/// Goes through everything on two batches, in a folder that is thrown away.
pub(crate) fn dry_run(
    config: Config,
    genotype: Genotype,
    splits: Splits,
) -> anyhow::Result<DryRun> {
    let full = Training::new(config.clone(), genotype.clone(), splits.clone())?;
    eprintln!("{}", summary(&full));
    let mut small = config.clone();
    small.train.epochs = 2;
    small.train.warmup_epochs = 0.0;
    let images = (2 * config.train.batch).min(splits.train.len());
    let train = super::first_of_each_class(&splits.train, images)?;
    let test = splits.test.map(|test| super::first_of_each_class(&test, 50)).transpose()?;
    let valid = splits.valid.map(|valid| super::first_of_each_class(&valid, 50)).transpose()?;
    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    let folder = RunFolder::create(&scratch.path().join("run"), &small)?;
    let mut training = Training::new(small, genotype, Splits { train, test, valid, ..splits })?;
    let outcome = training.run(&folder, &mut (), &AtomicBool::new(false))?;
    let Outcome::Finished(result) = outcome else { bail!("the dry run did not end") };
    let steps = (result.epochs * training.steps_per_epoch()) as f64;
    Ok(DryRun {
        params: full.cost().params,
        multiply_adds: full.cost().multiply_adds,
        steps_per_epoch: full.steps_per_epoch(),
        epochs: full.epochs(),
        memory_estimate_mb: full.memory_estimate_mb(),
        seconds: result.seconds / steps * (full.steps_per_epoch() * full.epochs()) as f64,
        peak_rss_mb: asap::run::memory::peak_rss_mb(),
        config,
    })
}
