//! `asap search`: the main job.

use std::path::Path;
use std::time::Instant;

use asap::jobs::dry_run::{self, SearchCosts};
use asap::jobs::{Job, Resumed, fit, load};
use asap::run::record::SearchOutline;
use asap::{RunFolder, Search, SearchResult};

use crate::args::{Common, SearchArgs};
use crate::output::{self, counted, duration, megabytes, shell_word};
use crate::progress::Progress;

pub(crate) fn run(args: &SearchArgs, common: &Common) -> anyhow::Result<()> {
    let started = Instant::now();
    if let Some(path) = &args.resume {
        return resume(path, common);
    }
    let mut layers = super::layers(&args.settings, common)?;
    super::limit_memory(&mut layers, args.memory);
    if let Some(method) = args.method {
        layers.put("search.method", method.name());
    }
    super::no_decided_settings(args.limit.flag(), &layers, &["search.epochs", "search.seconds"])?;
    let mut config = layers.resolve()?;
    let mut progress = Progress::new();
    let images = match args.limit.time {
        Some(seconds) => {
            let images = load(&config, &mut progress)?;
            let left = seconds * (1.0 - fit::REST) - started.elapsed().as_secs_f64();
            let fit = fit::search(&config, &images, left, false)?;
            eprintln!("plan for {}: {}", duration(seconds), fit.plan);
            config = fit.config;
            Some(images)
        }
        None => None,
    };
    if args.dry_run {
        let costs = dry_run::search(&config, &mut progress)?;
        eprintln!("{}", summary(&costs.outline));
        let text = super::dry_text(&costs.config, &self::costs(&costs))?;
        return output::print(common.json, &costs, &text);
    }
    let job =
        Job::<Search>::start(&super::place(common, "search"), &config, images, &mut progress)?;
    let outline = job.of().outline();
    let images = outline.data.train_images.min(outline.data.valid_images);
    if images < config.search.batch {
        eprintln!(
            "note: each half has {images} images, fewer than search.batch; each step uses all of them"
        );
    }
    super::warn_of_memory(outline.memory_estimate_mb, "search.batch");
    eprintln!("{}\nrun folder: {}", summary(&outline), job.folder().path().display());
    to_the_end(job, common)
}

fn resume(path: &Path, common: &Common) -> anyhow::Result<()> {
    super::no_settings(common)?;
    match Job::<Search>::resume(path, common.threads, &mut Progress::new())? {
        Resumed::Finished(folder, result) => {
            eprintln!("{}: this run has finished", path.display());
            report(&result, &folder, common)
        }
        Resumed::Job(job) => {
            eprintln!("{}\nresumed: {}", summary(&job.of().outline()), path.display());
            to_the_end(*job, common)
        }
    }
}

fn to_the_end(job: Job<Search>, common: &Common) -> anyhow::Result<()> {
    let folder = job.folder().clone();
    let result = super::to_the_end("search", &folder, |progress, stop| job.run(progress, stop))?;
    report(&result, &folder, common)
}

/// A summary of a search.
fn summary(outline: &SearchOutline) -> String {
    let data = &outline.data;
    let [height, width, channels] = data.image;
    let one_half = match &outline.classes_in_one_half[..] {
        [] => String::new(),
        classes => format!(
            "\nnote: too few images to be in both halves of the search, so that either the weights or alpha never see them: {}",
            classes.join(", ")
        ),
    };
    format!(
        "{}: {} + {} images of {height}x{width}x{channels}, {} classes; \
         search network of {} weights, about {:.0} MiB; \
         at most {} epochs of {} steps (grace epochs: {}){one_half}",
        data.name,
        data.train_images,
        data.valid_images,
        data.classes.len(),
        outline.weights,
        outline.memory_estimate_mb,
        outline.epochs,
        outline.steps_per_epoch,
        outline.grace_epochs,
    )
}

fn report(result: &SearchResult, folder: &RunFolder, common: &Common) -> anyhow::Result<()> {
    let path = super::shell_path(folder);
    for warning in &result.warnings {
        eprintln!("warning: {warning}");
    }
    let decided = result.decisions();
    let accuracy = result.accuracies().unwrap_or("not measured by this method".to_owned());
    let kinds = result.genotype.family().kinds().iter();
    let pictures: Vec<String> = kinds.map(|kind| format!("{path}/{kind}.svg")).collect();
    let text = format!(
        "{}\n\n\
         validation accuracy  {accuracy}\n\
         decisions            {decided}\n\
         time                 {} for {}\n\
         pictures             {}\n\
         report               {path}/report.html\n\
         to train it          asap train --cell {path} --data {}",
        result.genotype,
        duration(result.seconds),
        counted(result.epochs, "epoch"),
        pictures.join(", "),
        shell_word(&result.data.name),
    );
    output::print(common.json, result, &text)
}

/// The costs of a search as text.
pub(crate) fn costs(costs: &SearchCosts) -> String {
    let outline = &costs.outline;
    format!(
        "search network       {} weights\n\
         steps                {} per epoch, at most {} epochs (grace epochs: {})\n\
         alpha rate           {:.2e}\n\
         time                 at most {}\n\
         memory               about {:.0} MiB; {} measured here\n\
         Search, pruning, checkpoint, derivation and report work.",
        outline.weights,
        outline.steps_per_epoch,
        outline.epochs,
        outline.grace_epochs,
        outline.alpha_lr,
        duration(costs.seconds_at_most),
        outline.memory_estimate_mb,
        megabytes(costs.peak_rss_mb),
    )
}
