//! Dry runs: everything on two batches in a folder that is discarded, and the estimated costs of the whole.

use std::sync::atomic::AtomicBool;

use asap_core::{Design, Genotype};
use asap_data::{Dataset, Splits};
use serde::Serialize;

use crate::error::Error;
use crate::jobs::load;
use crate::memory::peak_rss_mb;
use crate::run::folder::RunFolder;
use crate::run::record::{Observer, Outcome, SearchOutline, TrainOutline};
use crate::run::threads::with_threads;
use crate::search::Search;
use crate::settings::Auto;
use crate::settings::config::Config;
use crate::train::Training;

/// Number of images of a test or validation set.
const FEW: usize = 50;

/// The costs of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SearchCosts {
    /// The settings.
    pub config: Config,
    /// The search in numbers.
    #[serde(flatten)]
    pub outline: SearchOutline,
    /// Seconds of the search if nothing is pruned.
    pub seconds_at_most: f64,
    /// Largest resident memory here in MiB.
    pub peak_rss_mb: Option<f64>,
}

/// The costs of a training.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainCosts {
    /// The settings.
    pub config: Config,
    /// The training in numbers.
    #[serde(flatten)]
    pub outline: TrainOutline,
    /// Estimated seconds of the training.
    pub seconds: f64,
    /// Largest resident memory here in MiB.
    pub peak_rss_mb: Option<f64>,
}

/// The costs of a search and of a training of its cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunCosts {
    /// Costs of the search.
    pub search: SearchCosts,
    /// Costs of the training.
    pub training: TrainCosts,
}

/// Runs a search on two batches of each half.
///
/// # Errors
/// Those of a search.
pub fn search(config: &Config, observer: &mut dyn Observer) -> Result<SearchCosts, Error> {
    with_threads(config.threads, || Ok(search_on(config, load(config, observer)?)?.0))?
}

/// Runs a training on two batches.
///
/// # Errors
/// Those of a training.
pub fn train(
    config: &Config,
    design: &Design,
    observer: &mut dyn Observer,
) -> Result<TrainCosts, Error> {
    with_threads(config.threads, || train_on(config, design, load(config, observer)?))?
}

/// Runs a search and a training of the cell that it found, which is arbitrary.
///
/// # Errors
/// Those of a search or a training.
pub fn search_and_train(config: &Config, observer: &mut dyn Observer) -> Result<RunCosts, Error> {
    with_threads(config.threads, || {
        let splits = load(config, observer)?;
        let (search, genotype) = search_on(config, splits.clone())?;
        Ok(RunCosts { search, training: train_on(config, &genotype.into(), splits)? })
    })?
}

fn search_on(config: &Config, splits: Splits) -> Result<(SearchCosts, Genotype), Error> {
    let whole = Search::new(config.clone(), splits.clone())?;
    let outline = whole.outline();
    let small = two_epochs(config);
    let images = 4 * config.search.batch.min(splits.train.len() / 4).max(1);
    let train = first_of_each_class(&splits.train, images)?;
    let result = in_scratch_folder(&small, |folder| {
        let mut search = Search::new(small.clone(), Splits { train, ..splits })?;
        search.run(folder, &mut (), &AtomicBool::new(false))
    })?;
    let costs = SearchCosts {
        seconds_at_most: whole.seconds_per_epoch(f64::INFINITY)? * outline.epochs as f64,
        outline,
        peak_rss_mb: peak_rss_mb(),
        config: config.clone(),
    };
    Ok((costs, result.genotype))
}

/// The same search in two epochs, with alpha moving in the second.
fn two_epochs(config: &Config) -> Config {
    let mut small = config.clone();
    (small.search.epochs, small.search.seconds) = (2, 0.0);
    small.annealing.decay = Auto::Auto;
    small.annealing.grace_temperature = config.annealing.initial_temperature;
    small
}

fn train_on(config: &Config, design: &Design, splits: Splits) -> Result<TrainCosts, Error> {
    let whole = Training::new(config.clone(), design.clone(), splits.clone())?;
    let outline = whole.outline();
    let mut small = config.clone();
    (small.train.epochs, small.train.seconds) = (2, 0.0);
    small.train.warmup_epochs = 0.0;
    let images = (2 * config.train.batch).min(splits.train.len());
    let train = first_of_each_class(&splits.train, images)?;
    let few = |images: Option<Dataset>| {
        images.map(|images| first_of_each_class(&images, FEW)).transpose()
    };
    let (test, valid) = (few(splits.test)?, few(splits.valid)?);
    let splits = Splits { train, test, valid, ..splits };
    in_scratch_folder(&small, |folder| {
        let mut training = Training::new(small.clone(), design.clone(), splits)?;
        training.run(folder, &mut (), &AtomicBool::new(false))
    })?;
    Ok(TrainCosts {
        seconds: whole.seconds_per_epoch(f64::INFINITY)? * outline.epochs as f64,
        outline,
        peak_rss_mb: peak_rss_mb(),
        config: config.clone(),
    })
}

fn in_scratch_folder<T>(
    config: &Config,
    run: impl FnOnce(&mut RunFolder) -> Result<Outcome<T>, Error>,
) -> Result<Box<T>, Error> {
    let scratch = tempfile::tempdir().map_err(Error::io("create", &std::env::temp_dir()))?;
    let mut folder = RunFolder::create(&scratch.path().join("run"), config)?;
    match run(&mut folder)? {
        Outcome::Finished(result) => Ok(result),
        Outcome::Stopped => unreachable!("nobody asks a dry run to stop"),
    }
}

/// About `count` images, the first of each class in turn.
fn first_of_each_class(data: &Dataset, count: usize) -> Result<Dataset, Error> {
    let classes = data.classes().len();
    let mut left = vec![count.div_ceil(classes).max(2); classes];
    let chosen: Vec<usize> = (0..data.len())
        .filter(|&i| {
            let left = &mut left[usize::from(data.labels()[i])];
            let take = *left > 0;
            *left -= usize::from(take);
            take
        })
        .collect();
    Ok(data.subset(&chosen)?)
}
