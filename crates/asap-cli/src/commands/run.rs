//! `asap run`: from images to a trained network.

use std::fmt::Write;

use asap::RunFolder;
use asap::jobs::search_and_train::{Repeats, Run};
use asap::run::tables::RunResult;
use asap::settings::config::Config;
use asap_data::Splits;
use serde::Serialize;

use super::{search, train};
use crate::args::{Common, RunArgs};
use crate::output::{self, duration, percent};

pub(crate) fn run(args: &RunArgs, common: &Common) -> anyhow::Result<()> {
    let run = match &args.resume {
        Some(path) => {
            super::no_settings(common)?;
            let run = Run::open(path)?;
            super::start_threads(common.threads.unwrap_or(run.config().threads))?;
            run
        }
        None => {
            let config = super::layers(&args.settings, common)?.resolve()?;
            let path = super::out_folder(common, "run");
            // What is wrong with the data shows before anything is made.
            super::start_threads(config.threads)?;
            let splits = super::load(&config)?;
            if args.dry_run {
                return dry_run(config, splits, common);
            }
            let repeats = Repeats { searches: args.repeat_search, trainings: args.repeat_train };
            Run::create(&path, &config, repeats)?
        }
    };
    let folder = run.folder();
    eprintln!("run folder: {}", folder.path().display());
    let result = super::to_the_end("run", folder, |progress, stop| run.go_on(progress, stop))?;
    output::print(common.json, &result, &text(&result, folder)?)
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
    let costs = format!("{}\n\n{}", search.costs(), training.costs());
    let text = super::dry_text(&search.config, &costs)?;
    output::print(common.json, &DryRun { search, training }, &text)
}

fn text(result: &RunResult, folder: &RunFolder) -> anyhow::Result<String> {
    let path = super::shell_path(folder);
    let mut text = String::new();
    for found in &result.searches {
        writeln!(text, "{}\n", found.search.genotype)?;
        for warning in &found.search.warnings {
            eprintln!("warning: {}: {warning}", found.folder);
        }
        for (folder, training) in &found.trainings {
            let error = training.test.as_ref().map_or("no test images".to_owned(), |test| {
                format!("{} ({})", percent(test.error), output::interval(test))
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
