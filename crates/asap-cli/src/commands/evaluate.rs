//! `asap evaluate`: the error of a trained network.

use std::fmt::Write;

use asap::{Evaluation, RunFolder};
use asap_data::{DataSpec, LoadOptions};
use asap_net::device::DeviceName;

use crate::args::{Common, EvaluateArgs};
use crate::failure::Usage;
use crate::output::{self, percent};

/// The largest confusion table that is printed.
const MOST_CLASSES: usize = 20;

pub(crate) fn run(args: &EvaluateArgs, common: &Common) -> anyhow::Result<()> {
    super::start_threads(common.threads.unwrap_or(0))?;
    let network = asap::run::folder::open_trained(&args.run, device(common)?)?;
    let [height, width, channels] = network.image_shape();
    let source = args.data.as_deref().unwrap_or(&network.card().data);
    let options = LoadOptions {
        size: Some((height, width)),
        channels: Some(channels),
        skip_corrupt: args.skip_corrupt,
        seed: common.seed.unwrap_or(0),
        ..LoadOptions::default()
    };
    // Where a run found its own images, it finds them again.
    let of_run = RunFolder::open(&args.run).ok().filter(|_| args.data.is_none());
    let own_dir = of_run.as_ref().and_then(|(_, config)| config.data_dir());
    let dir = args.data_dir.as_deref().or(own_dir);
    let splits = asap_data::load(&source.parse::<DataSpec>()?, dir, &options)?;
    for warning in &splits.warnings {
        eprintln!("note: {warning}");
    }
    let images = match args.split.as_str() {
        "train" => Some(splits.train),
        "valid" => splits.valid,
        "test" => splits.test,
        other => {
            let fault = format!("--split: unknown `{other}`; choose one of test, valid, train");
            return Err(Usage(fault).into());
        }
    };
    let images = images.ok_or_else(|| {
        Usage(format!(
            "{source}: expected {} images, found none; choose another --split",
            args.split
        ))
    })?;
    let evaluation = network.evaluate(images)?;
    output::print(common.json, &evaluation, &text(&evaluation)?)
}

/// The device that the command line names.
pub(crate) fn device(common: &Common) -> anyhow::Result<DeviceName> {
    let name = common.device.as_deref().unwrap_or("cpu");
    Ok(name.parse::<DeviceName>().map_err(Usage)?)
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
        writeln!(text, "Columns: accuracy, then how many images were taken for class 0, 1, ...")?;
    }
    Ok(text)
}
