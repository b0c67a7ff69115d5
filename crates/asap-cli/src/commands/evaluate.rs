//! `asap evaluate`: the error of a trained network.

use std::fmt::Write;

use asap::{Evaluation, RunFolder};
use asap_data::{DataSpec, LoadOptions};

use crate::args::{Common, EvaluateArgs, Split};
use crate::failure::Usage;
use crate::output::{self, percent};

/// Largest number of classes with a confusion matrix in the text.
const MOST_CLASSES: usize = 20;

pub(crate) fn run(args: &EvaluateArgs, common: &Common) -> anyhow::Result<()> {
    super::start_threads(common.threads.unwrap_or(0))?;
    let network = asap::run::folder::open_trained(&args.run, common.device.unwrap_or_default())?;
    let network = network.averaging_flips(args.flips);
    let [height, width, channels] = network.image_shape();
    let source = args.data.as_deref().unwrap_or(&network.card().data);
    // The run's own images are split and found as they were for the run.
    let of_run = RunFolder::open(&args.run).ok().filter(|_| args.data.is_none());
    let config = of_run.as_ref().map(|(_, config)| config);
    let options = LoadOptions {
        size: Some((height, width)),
        channels: Some(channels),
        skip_corrupt: args.skip_corrupt,
        seed: common.seed.or(config.map(|config| config.data.seed)).unwrap_or(0),
        ..LoadOptions::default()
    };
    let own_dir = config.and_then(|config| config.data_dir());
    let dir = args.data_dir.as_deref().or(own_dir);
    let splits = asap_data::load(&source.parse::<DataSpec>()?, dir, &options)?;
    for warning in &splits.warnings {
        eprintln!("note: {warning}");
    }
    let (part, images) = match args.split {
        Split::Train => ("train", Some(splits.train)),
        Split::Valid => ("valid", splits.valid),
        Split::Test => ("test", splits.test),
    };
    let images = images.ok_or_else(|| {
        Usage(format!("{source}: expected {part} images, found none; choose another --split"))
    })?;
    let evaluation = network.evaluate(images)?;
    output::print(common.json, &evaluation, &text(&evaluation)?)
}

fn text(evaluation: &Evaluation) -> anyhow::Result<String> {
    let mut text = format!(
        "error          {} ({}; {} of {} images)\n",
        percent(evaluation.error),
        output::interval(evaluation),
        evaluation.errors,
        evaluation.images,
    );
    if let Some(error) = evaluation.top5_error {
        writeln!(text, "top-5 error    {}", percent(error))?;
    }
    writeln!(text, "cross entropy  {:.4}\n", evaluation.loss)?;
    let width =
        evaluation.classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0);
    let few = evaluation.classes.len() <= MOST_CLASSES;
    for (number, (class, row)) in evaluation.classes.iter().zip(&evaluation.confusion).enumerate() {
        let accuracy = class.accuracy.map_or("-".to_owned(), percent);
        write!(text, "{number:>4} {:<width$} {accuracy:>9}", class.name)?;
        if few {
            for count in row {
                write!(text, " {count:>5}")?;
            }
        }
        writeln!(text)?;
    }
    if few {
        writeln!(
            text,
            "Columns: accuracy, then the number of images predicted as class 0, 1, ..."
        )?;
    }
    Ok(text)
}
