//! `asap run`: from images to a trained network.

use std::fmt::Write;

use asap::RunFolder;
use asap::jobs::dry_run;
use asap::jobs::planned::Plan as _;
use asap::jobs::search_and_train::{FEWEST_IMAGES, Repeats, Run};
use asap::run::tables::{Final, RunResult};

use super::{search, train};
use crate::args::{Common, RunArgs};
use crate::output::{self, duration, percent};
use crate::progress::Progress;

pub(crate) fn run(args: &RunArgs, common: &Common) -> anyhow::Result<()> {
    let run = match &args.resume {
        Some(path) => {
            super::no_settings(common)?;
            let run = Run::open(path)?.with_threads(common.threads);
            let shard = super::shard(args.part, common, true, run.plan().runs())?;
            run.with_shard(shard)?
        }
        None => {
            let mut layers = super::layers(&args.settings, common)?;
            super::limit(&mut layers, args.limits);
            super::no_decided_settings(args.limit.flag(), &layers, &super::decided())?;
            let config = layers.resolve()?;
            let mut progress = Progress::new();
            if args.dry_run {
                let costs = dry_run::search_and_train(&config, &mut progress)?;
                let (search, training) =
                    (search::costs(&costs.search), train::costs(&costs.training));
                let left_out = if args.no_final {
                    "Of several searches and trainings, one of each was tried."
                } else {
                    "One search and the training of its cell were tried; the short trainings of the final and other sizes \
                     add to the time."
                };
                let data = &costs.search.outline.data;
                let images = data.train_images + data.valid_images;
                let few = match images < FEWEST_IMAGES && !args.no_final {
                    true => format!(
                        "\nasap run would not search on {images} training images (fewer than {FEWEST_IMAGES}); it would train a plain network."
                    ),
                    false => String::new(),
                };
                let text = format!("{search}\n\n{training}\n{left_out}{few}");
                let text = super::dry_text(&config, &text)?;
                return output::print(common.json, &costs, &text);
            }
            let repeats = Repeats {
                searches: args.repeat_search,
                trainings: args.repeat_train,
                with_final: !args.no_final,
                sizes: args.sizes,
                seconds: args.limit.time,
            };
            let shard = super::shard(args.part, common, false, repeats.runs())?;
            Run::create(&super::place(common, "run"), &config, repeats, shard, &mut progress)?
        }
    };
    let folder = run.folder();
    eprintln!("run folder: {}", folder.path().display());
    let result = super::to_the_end("run", folder, |progress, stop| run.run(progress, stop))?;
    output::print(common.json, &result, &text(&result, folder)?)?;
    super::note_missing(&result.missing, run.plan().runs(), "run", folder);
    Ok(())
}

fn text(result: &RunResult, folder: &RunFolder) -> anyhow::Result<String> {
    let path = super::shell_path(folder);
    let mut text = String::new();
    for found in &result.searches {
        writeln!(text, "{}\n", found.search.genotype)?;
        for warning in &found.search.warnings {
            eprintln!("warning: {}: {warning}", found.folder);
        }
    }
    let outcome = result.outcome.as_ref();
    if let Some(Final { note: Some(note), winner, .. }) = outcome {
        writeln!(text, "{note}; trained {winner}\n")?;
    }
    if let Some(Final { candidates, winner, left_out, .. }) =
        outcome.filter(|o| !o.candidates.is_empty())
    {
        for candidate in candidates {
            writeln!(
                text,
                "{:<20} held-out accuracy {:>7} after {}; {} weights, {:.1} M multiply-adds{}",
                candidate.name,
                percent(candidate.accuracy),
                output::counted(candidate.epochs, "epoch"),
                candidate.params,
                candidate.multiply_adds as f64 / 1e6,
                if candidate.name == *winner { "; trained" } else { "" },
            )?;
        }
        for left in left_out {
            writeln!(text, "{:<20} left out: {}", left.name, left.reason)?;
        }
        writeln!(text)?;
    }
    if let Some(verdict) = outcome.and_then(Final::verdict) {
        writeln!(text, "{verdict}\n")?;
    }
    let trainings = result.trainings();
    for (folder, training) in &trainings {
        let error = training.test.as_ref().map_or("no test images".to_owned(), |test| {
            format!("{} ({})", percent(test.error), output::interval(test))
        });
        writeln!(text, "{folder:<20} test error {error}; {}", training.network())?;
        for warning in &training.warnings {
            eprintln!("warning: {folder}: {warning}");
        }
    }
    for (folder, smaller) in outcome.iter().flat_map(|outcome| &outcome.smaller) {
        for warning in &smaller.warnings {
            eprintln!("warning: {folder}: {warning}");
        }
        writeln!(
            text,
            "{folder:<20} test error {}; {}",
            smaller.test.as_ref().map_or("unknown".to_owned(), |test| percent(test.error)),
            smaller.network(),
        )?;
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
    let first = trainings.first().map_or("", |(folder, _)| folder.as_str());
    let of = result.time.map_or(String::new(), |time| format!(" of {}", duration(time)));
    writeln!(
        text,
        "time                 {}{of}\n\
         report               {path}/report.html\n\
         to use it            asap predict {path}/{first} IMAGE...",
        duration(result.seconds),
    )?;
    Ok(text)
}
