//! `asap evaluate`: the error of a trained network.

use std::fmt::Write;

use asap::Evaluation;
use asap::run::folder as run_folder;
use asap::settings::config::Config;
use asap_data::{DataSpec, LoadOptions};
use asap_net::trained::TestImages;

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
    // Without the run's folder, the network knows which images it was tested on.
    let tested = network.card().test.as_ref().filter(|_| config.is_some() || given.is_none());
    let options = match (&config, tested) {
        (Some(config), _) => config.load_options(),
        (None, Some(TestImages { seed, limit, .. })) => LoadOptions {
            seed: *seed,
            limit: Some(*limit).filter(|&limit| limit > 0),
            ..LoadOptions::default()
        },
        (None, None) => LoadOptions::default(),
    };
    let options = LoadOptions {
        size: Some((height, width)),
        channels: Some(channels),
        skip_corrupt: args.skip_corrupt || options.skip_corrupt,
        seed: common.seed.unwrap_or(options.seed),
        ..options
    };
    let own_dir = config.as_ref().and_then(Config::data_dir);
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
    if let Some(tested) = tested.filter(|_| part == "test")
        && tested.checksum != images.checksum()?
    {
        eprintln!(
            "note: these are not the test images of the training: it had {}, there are {} now, and they may have changed",
            tested.images,
            images.len()
        );
    }
    if config.is_some() && network.card().test.is_none() && part == "test" {
        eprintln!(
            "note: an older version trained this network and did not note its test images; if they were chosen from one \
             folder, others are chosen now, and it may have been trained on them"
        );
    }
    if *images.classes() != network.card().classes
        && images.classes().iter().all(|name| !network.card().classes.contains(name))
    {
        eprintln!("note: classes are matched by their number, since names of one side are numbers");
    }
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
