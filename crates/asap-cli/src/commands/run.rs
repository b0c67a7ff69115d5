//! `asap run`: from images to a trained network.

use std::fmt::Write;

use asap::RunFolder;
use asap::jobs::dry_run;
use asap::jobs::search_and_train::{Repeats, Run};
use asap::run::tables::RunResult;

use super::{search, train};
use crate::args::{Common, RunArgs};
use crate::output::{self, duration, percent};
use crate::progress::Progress;

pub(crate) fn run(args: &RunArgs, common: &Common) -> anyhow::Result<()> {
    let run = match &args.resume {
        Some(path) => {
            super::no_settings(common)?;
            Run::open(path)?.with_threads(common.threads)
        }
        None => {
            let config = super::layers(&args.settings, common)?.resolve()?;
            let mut progress = Progress::new();
            if args.dry_run {
                let costs = dry_run::search_and_train(&config, &mut progress)?;
                let (search, training) =
                    (search::costs(&costs.search), train::costs(&costs.training));
                let text = super::dry_text(&config, &format!("{search}\n\n{training}"))?;
                return output::print(common.json, &costs, &text);
            }
            let repeats = Repeats { searches: args.repeat_search, trainings: args.repeat_train };
            Run::create(&super::place(common, "run"), &config, repeats, &mut progress)?
        }
    };
    let folder = run.folder();
    eprintln!("run folder: {}", folder.path().display());
    let result = super::to_the_end("run", folder, |progress, stop| run.run(progress, stop))?;
    output::print(common.json, &result, &text(&result, folder)?)
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
