//! What fits into a time: the length of a search, and the size and length of a training, from the speed of a few steps here.

use asap_core::Design;
use asap_data::Splits;

use crate::error::Error;
use crate::run::duration::duration;
use crate::run::memory::available_mb;
use crate::search::Search;
use crate::settings::config::Config;
use crate::train::Training;

/// Multiply-adds of the network that a training is given, for each image that it will see: one of 800,000 images, 16 epochs of
/// CIFAR-10, gets 93 M. More time thus makes network and training larger by the same factor.
const MULTIPLY_ADDS_PER_IMAGE_SEEN: f64 = 116.0;
/// Epochs beyond which more time makes the network larger only: to see few images more often teaches little.
const ENOUGH_EPOCHS: f64 = 120.0;
/// Multiply-adds of the network whose speed is measured first.
const PROBE: u64 = 10_000_000;
/// The fewest channels of a network.
const FEWEST_CHANNELS: usize = 4;
/// The most epochs of a training, and of a search.
const MOST_EPOCHS: usize = 500;
/// The fewest epochs of a search, one of them to train the weights before anything is compared.
const FEWEST_SEARCH_EPOCHS: usize = 2;
/// Fraction of the free memory that a training may take.
const MEMORY: f64 = 0.6;
/// Fraction of a time that is left for reading images, tests and reports.
pub const REST: f64 = 0.02;
/// Part of a short training in which the rate rises.
const WARMUP: f64 = 0.2;

/// A search or a training that fits into a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The settings, with size and length decided.
    pub config: Config,
    /// Seconds of an epoch here.
    pub seconds_per_epoch: f64,
    /// The plan in words.
    pub plan: String,
}

/// A search of `seconds`; `most` limits the number of epochs. While it prunes its epochs get shorter.
///
/// # Errors
/// Those of [`Search::new`], or if the time is too short.
pub fn search(
    config: &Config,
    images: &Splits,
    seconds: f64,
    most: Option<usize>,
) -> Result<Fit, Error> {
    let search = Search::new(config.clone(), images.clone())?;
    let steps = search.steps_per_epoch();
    let seconds_per_epoch = search.seconds_per_epoch()?;
    let fitting = (seconds / seconds_per_epoch) as usize;
    if fitting < FEWEST_SEARCH_EPOCHS {
        return Err(Error::TooShort {
            least: "two epochs of a search",
            expected: FEWEST_SEARCH_EPOCHS as f64 * seconds_per_epoch,
            found: seconds,
        });
    }
    let epochs = fitting.min(most.unwrap_or(MOST_EPOCHS)).min(MOST_EPOCHS);
    let mut config = config.clone();
    (config.search.epochs, config.search.seconds) = (epochs, seconds);
    let plan = format!(
        "{epochs} epochs of {steps} steps, at most {}",
        duration(epochs as f64 * seconds_per_epoch)
    );
    Ok(Fit { config, seconds_per_epoch, plan })
}

/// The number of epochs at which a search is as long as `search.epochs = 0` makes it, for such images.
///
/// # Errors
/// Those of [`Search::new`].
pub fn usual_search_epochs(config: &Config, images: &Splits) -> Result<usize, Error> {
    let mut config = config.clone();
    config.search.epochs = 0;
    Ok(Search::new(config, images.clone())?.epochs())
}

/// A training of `seconds`. Its network gets as many channels as go with the number of epochs, unless `fixed` says that its size is
/// given.
///
/// # Errors
/// Those of [`Training::new`], or if the time is too short for one epoch of the smallest network.
pub fn training(
    config: &Config,
    design: &Design,
    images: &Splits,
    seconds: f64,
    fixed: bool,
) -> Result<Fit, Error> {
    let mut config = config.clone();
    (config.train.epochs, config.train.warmup_epochs) = (1, 0.0);
    if !fixed {
        let whole = images.train.image_shape();
        let shape = config.train.shape(whole, images.train.classes().len());
        let smallest = shape.cost_with(design, FEWEST_CHANNELS)?.multiply_adds;
        config.train.multiply_adds = PROBE.max(smallest);
        let (probe, speed) = speed(&config, design, images)?;
        let per_image = seconds * probe.cost().multiply_adds as f64 / speed;
        let seen_per_epoch = probe.data().train_images as f64;
        let balanced = (per_image * seen_per_epoch * MULTIPLY_ADDS_PER_IMAGE_SEEN).sqrt();
        let multiply_adds = balanced.max(per_image / ENOUGH_EPOCHS) as u64;
        config.train.multiply_adds = multiply_adds.max(smallest);
        while config.train.multiply_adds > smallest && !fits_into_memory(&config, design, images)? {
            config.train.multiply_adds = (config.train.multiply_adds / 2).max(smallest);
        }
    }
    let (training, seconds_per_epoch) = speed(&config, design, images)?;
    let epochs = (seconds / seconds_per_epoch).round() as usize;
    if epochs == 0 {
        return Err(Error::TooShort {
            least: "one epoch of a training of the smallest network",
            expected: seconds_per_epoch,
            found: seconds,
        });
    }
    let epochs = epochs.min(MOST_EPOCHS);
    config.train.epochs = epochs;
    config.train.seconds = seconds;
    config.train.warmup_epochs = (WARMUP * epochs as f64).min(1.0);
    let cost = training.cost();
    let plan = format!(
        "{} channels ({} weights, {:.1} M multiply-adds), {epochs} epochs of {} steps, about {}",
        training.channels(),
        cost.params,
        cost.multiply_adds as f64 / 1e6,
        training.steps_per_epoch(),
        duration(epochs as f64 * seconds_per_epoch)
    );
    Ok(Fit { config, seconds_per_epoch, plan })
}

/// Such a training, not begun, and the seconds of one of its epochs.
fn speed(config: &Config, design: &Design, images: &Splits) -> Result<(Training, f64), Error> {
    let new = || Training::new(config.clone(), design.clone(), images.clone());
    Ok((new()?, new()?.seconds_per_epoch()?))
}

fn fits_into_memory(config: &Config, design: &Design, images: &Splits) -> Result<bool, Error> {
    let Some(available) = available_mb() else { return Ok(true) };
    let training = Training::new(config.clone(), design.clone(), images.clone())?;
    Ok(training.memory_estimate_mb() <= MEMORY * available)
}
