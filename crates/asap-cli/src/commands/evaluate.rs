//! `asap evaluate`: the error of a trained network.

use std::fmt::Write;

use asap::Evaluation;
use asap::memory::memory_for_images;
use asap::run::folder as run_folder;
use asap::settings::config::Config;
use asap_data::{DataSpec, LoadOptions, normalization_of};
use asap_net::trained::TestImages;

use crate::args::{Common, EvaluateArgs, Split};
use crate::failure::Usage;
use crate::output::{self, percent};

/// Largest number of classes with a confusion matrix in the text.
const MOST_CLASSES: usize = 20;

pub(crate) fn run(args: &EvaluateArgs, common: &Common) -> anyhow::Result<()> {
    let network = run_folder::open_trained(&args.run, common.device.unwrap_or_default())?;
    let network = network.averaging_flips(args.flips);
    let [height, width, channels] = network.image_shape();
    let given = args.data.as_deref().map(super::anywhere);
    // The run's own images are split and found as they were for the run.
    let config = run_folder::config_of(&args.run)?;
    let is_own = |given: &String, config: &Config| super::anywhere(&config.data.source) == *given;
    let config = config.filter(|config| given.as_ref().is_none_or(|g| is_own(g, config)));
    let source = match (&given, &config) {
        (Some(given), _) => given,
        (None, Some(config)) => &config.data.source,
        (None, None) => &network.card().data,
    };
    // A folder is split as it was for the training, wherever it is now.
    let tested = network.card().test.as_ref();
    let others = LoadOptions { memory: memory_for_images(0), ..LoadOptions::default() };
    let options = match (&config, tested) {
        (Some(config), _) => config.load_options(),
        (None, Some(TestImages { seed, limit, .. })) => {
            LoadOptions { seed: *seed, limit: Some(*limit).filter(|&limit| limit > 0), ..others }
        }
        (None, None) => others,
    };
    if let (None, Some(limit)) = (&config, options.limit) {
        eprintln!(
            "note: at most {limit} images of each part are read, as in the training (data.limit)"
        );
    }
    let options = LoadOptions {
        size: Some((height, width)),
        channels: Some(channels),
        skip_corrupt: args.skip_corrupt || options.skip_corrupt,
        ..options
    };
    if let Some(dir) = &args.data_dir {
        super::no_unused_folder(Some(source), dir)?;
    }
    let own_dir = config.as_ref().and_then(Config::data_dir);
    let dir = args.data_dir.as_deref().or(own_dir);
    let splits = asap_data::load(&source.parse::<DataSpec>()?, dir, &options)?;
    for warning in &splits.warnings {
        eprintln!("note: {warning}");
    }
    let all: usize = splits.parts().map(|(_, images)| images.len()).sum();
    // Of its own images a training holds some out.
    let has_valid = splits.valid.is_some();
    let parts = |config| asap::train::parts(config, &splits.train, has_valid);
    let held_out = config.as_ref().map(parts).transpose()?;
    // If the images have changed, so has the part that is held out.
    let trained_on = match (args.split, &held_out) {
        (Split::Train, Some((used, _))) => Some(used),
        (Split::Valid, Some((used, out))) if !out.is_empty() => Some(used),
        _ => None,
    };
    if let Some(used) = trained_on
        && normalization_of(&splits.train, used)? != network.card().normalization
    {
        eprintln!(
            "note: the images have changed since the training, so its split into training and held-out images cannot be reproduced; the \
             network may have been trained on any of these"
        );
    }
    let (part, images) = match (args.split, held_out) {
        (Split::Train, Some((used, _))) => ("train", Some(splits.train.subset(&used)?)),
        (Split::Train, None) => ("train", Some(splits.train)),
        (Split::Valid, Some((_, out))) if !out.is_empty() => {
            ("valid", Some(splits.train.subset(&out)?))
        }
        (Split::Valid, _) => ("valid", splits.valid),
        (Split::Test, _) => ("test", splits.test),
        (Split::All, _) => ("all", Some(splits.joined()?)),
    };
    let images = images.ok_or_else(|| {
        Usage(format!("{source}: expected {part} images, found none; choose another --split"))
    })?;
    if config.is_none() && images.len() < all {
        eprintln!(
            "note: these are {} of the {all} images of {source}; --split names the other parts, and --split all takes all",
            images.len()
        );
    }
    if let Some(tested) = tested.filter(|_| part == "test")
        && tested.checksum != images.checksum()?
    {
        let (then, now) = (tested.images, images.len());
        match config {
            Some(_) => eprintln!(
                "note: these are not the test images of the training: it had {then}, there are {now} now, and they may have changed"
            ),
            None => eprintln!(
                "note: these {now} images are not the {then} test images of the training; if they are from the same data, it may have \
                 been trained on some of them"
            ),
        }
    }
    if config.is_some() && network.card().test.is_none() && part == "test" {
        eprintln!(
            "note: this training had no test images, or an older version made it and did not note them; if they were chosen \
             from one folder, others may be chosen now, and it may have been trained on them"
        );
    }
    if config.is_some() && part == "all" {
        eprintln!("note: the network was trained on most of these images");
    }
    let by_number = images.classes().iter().all(|name| !network.card().classes.contains(name));
    let evaluation = network.evaluate(images)?;
    if by_number {
        eprintln!("note: classes are matched by their number, since names of one side are numbers");
    }
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
