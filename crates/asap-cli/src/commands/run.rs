//! `asap run`: from images to a trained network.

use std::fmt::Write;
use std::path::Path;

use anyhow::bail;
use asap::config::Config;
use asap::run::{Repeats, Run, RunResult};
use asap::run_folder;
use asap::{Outcome, RunFolder};
use asap_data::Splits;
use serde::Serialize;

use super::{search, train};
use crate::args::{Common, RunArgs};
use crate::output::{self, duration, percent, shell_word};
use crate::progress::Progress;

pub(crate) fn run(args: &RunArgs, common: &Common) -> anyhow::Result<()> {
    let run = match &args.resume {
        Some(path) => {
            super::no_settings(common)?;
            Run::open(path)?
        }
        None => {
            let config = super::layers(&args.settings, common)?.resolve()?;
            let default = || run_folder::next_free(Path::new("runs"), "run");
            let path = common.out.clone().unwrap_or_else(default);
            // What is wrong with the data shows before anything is made.
            let splits = super::load(&config)?;
            if args.dry_run {
                super::start_threads(config.threads)?;
                return dry_run(config, splits, common);
            }
            let repeats = Repeats { searches: args.repeat_search, trainings: args.repeat_train };
            Run::create(&path, &config, repeats)?
        }
    };
    super::start_threads(common.threads.unwrap_or(run.config().threads))?;
    let path = run.folder().path().display();
    eprintln!("run folder: {path}");
    let stop = super::stop_on_ctrl_c()?;
    let mut progress = Progress::new();
    let outcome = run.go_on(&mut progress, &stop);
    progress.finish();
    match outcome? {
        Outcome::Finished(result) => {
            output::print(common.json, &result, &text(&result, run.folder())?)
        }
        Outcome::Stopped => {
            let path = shell_word(&run.folder().path().to_string_lossy());
            bail!("stopped; a checkpoint is saved; go on with: asap run --resume {path}")
        }
    }
}

#[derive(Serialize)]
struct DryRun {
    search: search::DryRun,
    training: train::DryRun,
}

/// Goes through a search and a training on two batches each; nothing is kept.
fn dry_run(config: Config, splits: Splits, common: &Common) -> anyhow::Result<()> {
    let (search, genotype) = search::dry_run(config.clone(), splits.clone())?;
    let training = train::dry_run(config, genotype, splits)?;
    let text = format!(
        "{}\n{}\n\n{}\nNothing was kept.",
        toml::to_string(&search.config)?,
        search.costs(),
        training.costs(),
    );
    output::print(common.json, &DryRun { search, training }, &text)
}

fn text(result: &RunResult, folder: &RunFolder) -> anyhow::Result<String> {
    let path = shell_word(&folder.path().to_string_lossy());
    let mut text = String::new();
    for found in &result.searches {
        writeln!(text, "{}\n", found.search.genotype)?;
        for warning in &found.search.warnings {
            eprintln!("warning: {}: {warning}", found.folder);
        }
        for (folder, training) in &found.trainings {
            let error = training.test.as_ref().map_or("no test images".to_owned(), |test| {
                let [low, high] = test.interval;
                format!(
                    "{} ({} to {} with 95 % confidence)",
                    percent(test.error),
                    percent(low),
                    percent(high)
                )
            });
            writeln!(text, "{folder:<20} test error {error}")?;
            for warning in &training.warnings {
                eprintln!("warning: {folder}: {warning}");
            }
        }
    }
    if let Some(error) = result.error.filter(|error| error.count > 1) {
        writeln!(
            text,
            "mean of {:<12} test error {}; from {} to {}",
            error.count,
            percent(error.mean),
            percent(error.smallest),
            percent(error.largest)
        )?;
    }
    for (what, deviation) in
        [("searches", result.search_deviation), ("trainings", result.training_deviation)]
    {
        if let Some(deviation) = deviation {
            writeln!(text, "{:<20} {}", format!("spread of {what}"), percent(deviation))?;
        }
    }
    let first = result.searches.first().and_then(|s| s.trainings.first());
    let first = first.map_or("", |(folder, _)| folder.as_str());
    writeln!(
        text,
        "time                 {}\n\
         report               {path}/report.html\n\
         to use it            asap predict {path}/{first} IMAGE...",
        duration(result.seconds),
    )?;
    Ok(text)
}
