//! What fits into a time: the length of a search, and the size and length of a training, from the speed of a few steps here.

use std::time::Instant;

use asap_core::{Cost, Design, NetworkShape};
use asap_data::Splits;
use asap_kernels::{Level, Precision};
use asap_net::device::DeviceName;

use crate::duration::{counted, duration};
use crate::error::Error;
use crate::memory::{Footprint, available_mb};
use crate::search::Search;
use crate::settings::Auto;
use crate::settings::config::{Config, LimitsConfig, StemFilters};
use crate::settings::{MOST_EPOCHS, usual_search_epochs};
use crate::train::{Training, epochs_to_fill};

/// Multiply-adds of the network that a training is given, for each image that it will see: one of 800,000 images, 16 epochs of
/// CIFAR-10, gets 32 M. More time thus makes network and training larger by the same factor. Measured in docs/results/time.md.
const MULTIPLY_ADDS_PER_IMAGE_SEEN: f64 = 40.0;
/// Epochs beyond which more time makes the network larger only: to see few images more often teaches little.
const ENOUGH_EPOCHS: f64 = 120.0;
/// The epochs that a network is made small enough for, if it can be.
const FEW_EPOCHS: f64 = 3.0;
/// How often a training that is compared with others should see its images, and the fewest images of one.
const EPOCHS_TO_COMPARE: f64 = 5.0;
const FEWEST_TO_COMPARE: usize = 500;
/// Steps that an epoch should have, and the smallest batch that may be needed for them.
const STEPS: usize = 20;
const SMALLEST_BATCH: usize = 16;
/// The most images that a training is validated on where test images measure the network, since then they only show how it goes.
const ENOUGH_TO_WATCH: usize = 1000;
/// Multiply-adds of the network whose speed is measured first.
const PROBE: f64 = 10e6;
/// Networks whose speed is measured before the size is decided: that of one only approximates that of another size.
const PROBES: usize = 2;
/// Channels are computed together in vectors: 17 take nearly the time of 24, and 5 that of 8 (docs/results/time.md).
const VECTOR: usize = 8;
/// The fewest channels of a network, where memory is short.
const FEWEST_CHANNELS: usize = 4;
/// The fewest epochs of a search, one of them to train the weights before anything is compared.
pub(super) const FEWEST_SEARCH_EPOCHS: usize = 2;
/// Time of an image that is tested, in that of one that is trained on.
const INFERENCE: f64 = 0.5;
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
    /// The plan in words.
    pub plan: String,
}

/// The size of a network that is fitted into a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// It is decided by the time.
    Decided,
    /// It is that of the configuration.
    Given,
}

/// The time of a training, counted from the moment when it is planned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Seconds.
    pub seconds: f64,
    /// True if one epoch is made in any case.
    pub must: bool,
}

/// A search of `seconds`, counted from this call; a `usual` one is no longer than `search.epochs = 0` makes it. While it prunes its epochs
/// get shorter.
///
/// # Errors
/// Those of [`Search::new`], or if the time is too short.
pub fn search(config: &Config, images: &Splits, seconds: f64, usual: bool) -> Result<Fit, Error> {
    let started = Instant::now();
    let search = Search::new(config.clone(), images.clone())?;
    let steps = search.steps_per_epoch();
    let seconds_per_epoch = search.seconds_per_epoch(seconds)?;
    let seconds = seconds - started.elapsed().as_secs_f64();
    let fitting = (seconds / seconds_per_epoch) as usize;
    if fitting < FEWEST_SEARCH_EPOCHS {
        return Err(too_short_to_search(seconds_per_epoch, seconds));
    }
    let most = if usual { usual_search_epochs(steps) } else { MOST_EPOCHS };
    let epochs = fitting.min(most);
    let mut config = config.clone();
    (config.search.epochs, config.search.seconds) = (epochs, seconds);
    let time = duration(epochs as f64 * seconds_per_epoch);
    Ok(Fit {
        config,
        plan: format!("{} of {steps} steps, at most {time}", counted(epochs, "epoch")),
    })
}

/// The error of a search whose epochs are this long.
pub(super) fn too_short_to_search(seconds_per_epoch: f64, seconds: f64) -> Error {
    Error::TooShort {
        least: "two epochs of a search",
        expected: FEWEST_SEARCH_EPOCHS as f64 * seconds_per_epoch,
        found: seconds,
    }
}

/// A training that fits into its share of the time. If its size is not given, its network gets as many channels as go with the
/// number of epochs. Where there are test images, hardly any others are held out.
///
/// # Errors
/// Those of [`Training::new`], or if the time is too short for an epoch.
pub fn training(
    config: &Config,
    design: &Design,
    images: &Splits,
    share: Share,
    size: Size,
) -> Result<Fit, Error> {
    let started = Instant::now();
    let cutout = config.train.augment.cutout;
    let mut config = config.clone();
    let train = &mut config.train;
    (train.epochs, train.warmup_epochs, train.cycles, train.seconds) = (1, 0.0, 1, 0.0);
    // Few images need small batches, or there would be few steps; the rate follows the batch.
    let seen = Some(train.images).filter(|&most| most > 0).unwrap_or(usize::MAX);
    let batch = train.batch.min((images.train.len().min(seen) / STEPS).max(SMALLEST_BATCH));
    // The workers share it.
    let batch = (batch - batch % config.workers).max(config.workers);
    let lowered = batch < train.batch;
    train.lr *= batch as f64 / train.batch as f64;
    train.batch = batch;
    if images.test.is_some() {
        train.validation = train.validation.min(ENOUGH_TO_WATCH as f64 / images.train.len() as f64);
        if images.valid.is_some() {
            train.validate_at_most(ENOUGH_TO_WATCH);
        }
    }
    let measured = match size {
        Size::Decided => sized(&config, design, images, share.seconds)?,
        Size::Given => Speed::of(config, design, images, share.seconds)?,
    };
    let Speed { mut config, cost, channels, images: all, mut steps, mut seconds_per_epoch } =
        measured;
    let mixed = if config.precision() == Precision::Bf16 { ", in bf16" } else { "" };
    let tested = images.test.as_ref().map_or(0.0, |test| test.len() as f64 / all as f64);
    let seconds =
        share.seconds - started.elapsed().as_secs_f64() - INFERENCE * tested * seconds_per_epoch;
    let mut epochs = epochs_to_fill(seconds_per_epoch, seconds);
    let mut of_images = String::new();
    let fitting = (seconds / seconds_per_epoch * all as f64) as usize;
    let fitting = fitting.max(STEPS * batch);
    if epochs == 0 && share.must && fitting < all {
        // What was chosen among others, on fewer images, is not given up.
        config.train.images = fitting;
        steps = fitting / batch;
        (epochs, seconds_per_epoch) = (1, seconds_per_epoch * fitting as f64 / all as f64);
        of_images = format!(" ({fitting} of {all} images, since an epoch of all does not fit)");
    }
    if epochs == 0 && !share.must {
        let least = match size {
            Size::Decided => "one epoch of the smallest network",
            Size::Given => "one epoch",
        };
        return Err(Error::TooShort { least, expected: seconds_per_epoch, found: seconds });
    }
    let train = &mut config.train;
    train.epochs = epochs.clamp(1, MOST_EPOCHS);
    train.warmup_epochs = (WARMUP * train.epochs as f64).min(1.0);
    train.augment.cutout = cutout;
    let without = if train.cutout() > 0.0 { "" } else { ", without cutout" };
    let expected = train.epochs as f64 * seconds_per_epoch;
    // No time may be left for a training that is made in any case.
    let fits = epochs > 0 && of_images.is_empty();
    train.seconds = if fits { seconds } else { expected };
    let rate = if lowered { format!(" (rate {:.3})", train.lr) } else { String::new() };
    let plan = format!(
        "{channels} channels ({} weights, {:.1} M multiply-adds), {} of {steps} steps of {batch} images{of_images}{rate}{without}{mixed}, about {}",
        cost.params,
        cost.multiply_adds as f64 / 1e6,
        counted(train.epochs, "epoch"),
        duration(expected)
    );
    Ok(Fit { config, plan })
}

/// The images on which trainings of `seconds` are compared, so few that each is seen several times; `train.images` if that is fewer.
///
/// # Errors
/// Those of [`Training::new`].
pub fn images_to_compare(
    config: &Config,
    design: &Design,
    images: &Splits,
    seconds: f64,
) -> Result<usize, Error> {
    let mut config = config.clone();
    let given = config.train.images;
    config.limits = config.limits.of_memory();
    let Speed { images: all, seconds_per_epoch, .. } = sized(&config, design, images, seconds)?;
    let seen = seconds * all as f64 / seconds_per_epoch;
    let fitting = ((seen / EPOCHS_TO_COMPARE) as usize).max(FEWEST_TO_COMPARE);
    Ok(if fitting < all { fitting } else { given })
}

/// The training whose network goes with `seconds`, counted from this call. Its channels fill vectors, if memory and limits
/// allow it.
fn sized(config: &Config, design: &Design, images: &Splits, seconds: f64) -> Result<Speed, Error> {
    let started = Instant::now();
    let shape = config.train.shape_for(&images.train);
    let with = |channels, limits: &LimitsConfig, precision| {
        let mut config = Config { limits: limits.clone(), precision, ..config.clone() };
        config.train.multiply_adds = shape.cost_with(design, channels)?.multiply_adds;
        Speed::of(config, design, images, seconds)
    };
    let in_memory = |wanted, most| {
        within_memory(config, design, images, in_whole_vectors(shape, design, wanted, most)?)
    };
    let without_limits = config.limits.of_memory();
    let (mut channels, mut precision) = (in_memory(PROBE, f64::INFINITY)?, config.precision);
    for _ in 0..PROBES {
        let speed = with(channels, &without_limits, precision)?;
        precision = speed.config.precision;
        let left = seconds - started.elapsed().as_secs_f64();
        let per_image = left * speed.cost.multiply_adds as f64 / speed.seconds_per_epoch;
        let balanced = (per_image * speed.images as f64 * MULTIPLY_ADDS_PER_IMAGE_SEEN).sqrt();
        let (least, most) = (per_image / ENOUGH_EPOCHS, per_image / FEW_EPOCHS);
        let measured = channels;
        channels = in_memory(balanced.max(least).min(most), most)?;
        if channels == measured {
            if config.limits == without_limits {
                return Ok(speed);
            }
            break;
        }
    }
    with(channels, &config.limits, precision)
}

/// Channels that fill vectors, whose multiply-adds are as a ratio closest to those `wanted`. They are at most `most`, except
/// those of one vector and of what is `wanted`.
fn in_whole_vectors(
    shape: NetworkShape,
    design: &Design,
    wanted: f64,
    most: f64,
) -> Result<usize, Error> {
    let cost = |channels| {
        let cost = shape.cost_with(design, channels)?;
        Ok::<_, Error>(cost.multiply_adds as f64)
    };
    let below = shape.closest(design, wanted as u64)?.channels / VECTOR * VECTOR;
    let (below, above) = (below.max(VECTOR), below + VECTOR);
    let above_is_closer = cost(above)? / wanted < wanted / cost(below)?;
    Ok(if above_is_closer && cost(above)? <= most { above } else { below })
}

/// These channels, or so many fewer that the network fits into the memory.
fn within_memory(
    config: &Config,
    design: &Design,
    images: &Splits,
    mut channels: usize,
) -> Result<usize, Error> {
    let shape = config.train.shape_for(&images.train);
    // A graphics card has memory of its own.
    let free = available_mb().filter(|_| config.device == DeviceName::Cpu);
    let free = free.map(|available| MEMORY * available);
    let limit = Some(config.limits.memory_mb as f64).filter(|&limit| limit > 0.0);
    let allowed = free.into_iter().chain(limit).reduce(f64::min).unwrap_or(f64::INFINITY);
    let footprint = Footprint::of_training(design, config.precision());
    let batch = config.part_of(config.train.batch.min(images.train.len()));
    while channels > FEWEST_CHANNELS
        && footprint.mb(&shape.cost_with(design, channels)?, batch) > allowed
    {
        channels -= if channels > VECTOR { VECTOR } else { 1 };
    }
    Ok(channels)
}

/// A training whose speed was measured.
struct Speed {
    /// With everything decided that depends on images and limits.
    config: Config,
    cost: Cost,
    channels: usize,
    images: usize,
    steps: usize,
    seconds_per_epoch: f64,
}

impl Speed {
    /// That of a training of about `seconds`; with `precision = "auto"`, in the one that is faster here.
    fn of(config: Config, design: &Design, images: &Splits, seconds: f64) -> Result<Self, Error> {
        let given = config.train.stem_filters;
        let in_precision = |precision| {
            let mut measured = Config { precision, ..config.clone() };
            // Where the filters start costs no step any time, but may have images read.
            measured.train.stem_filters = StemFilters::Random;
            let training = Training::new(measured, design.clone(), images.clone())?;
            let mut config = training.config().clone();
            config.train.stem_filters = given;
            Ok(Self {
                config,
                cost: training.cost(),
                channels: training.channels(),
                images: training.data().train_images,
                steps: training.steps_per_epoch(),
                seconds_per_epoch: training.seconds_per_epoch(seconds)?,
            })
        };
        let mixed = config.device == DeviceName::Cpu && Level::available()[0].multiplies_bf16();
        if !mixed || config.precision != Auto::Auto {
            return in_precision(config.precision);
        }
        // A processor may multiply bf16 no faster than `f32`, and networks differ in how much of their time they multiply.
        let [single, mixed] = [Precision::F32, Precision::Bf16].map(Auto::Value).map(in_precision);
        let (single, mixed) = (single?, mixed?);
        Ok(if mixed.seconds_per_epoch < single.seconds_per_epoch { mixed } else { single })
    }
}

#[cfg(test)]
mod tests {
    use asap_core::{PublishedCell, Stem};

    use super::*;

    #[test]
    fn channels_fill_vectors() -> Result<(), Error> {
        let shape = NetworkShape {
            channels: 1,
            cells: 8,
            height: 32,
            width: 32,
            in_channels: 3,
            classes: 10,
            stem: Stem::Small,
        };
        let nine = Design::Plain("resnet-9".parse()?);
        let asap = Design::from(PublishedCell::find("ASAP")?.genotype());
        for design in [nine, asap] {
            let cost = |channels| Ok::<_, Error>(shape.cost_with(&design, channels)?.multiply_adds);
            let found = |wanted: u64, most: u64| {
                in_whole_vectors(shape, &design, wanted as f64, most as f64)
            };
            let all = [1, 5, 8, 11, 12, 16, 19, 20, 31]
                .map(|wanted| cost(wanted).and_then(|wanted| found(wanted, u64::MAX)));
            let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
            assert_eq!(all, [8, 8, 8, 8, 16, 16, 16, 24, 32], "{design}");
            assert_eq!(found(cost(31)?, cost(31)?)?, 24);
            assert_eq!(found(cost(6)?, cost(7)?)?, 8);
        }
        Ok(())
    }
}
