//! The trainings of what searches found, or of the winner of a final.

use std::path::Path;

use asap_core::Design;
use asap_data::Splits;

use super::{Decided, Progress, search_folder};
use crate::error::Error;
use crate::jobs;
use crate::jobs::fit::{self, Share, Size};
use crate::run::folder::RunFolder;
use crate::run::record::{Outcome, TrainResult};
use crate::run::tables::RunResult;
use crate::settings::Auto;
use crate::settings::config::Config;

impl Progress<'_> {
    /// Trains the winner, in every size.
    pub(super) fn finish(&mut self, decided: Decided) -> Result<Option<RunResult>, Error> {
        let Decided { searches, mut outcome, ref design, found_by } = decided;
        let winner = &outcome.winner;
        // Of the time, the largest network takes as much as all smaller ones together, and a little more.
        let of_largest = time_of_sizes(0..1) / time_of_sizes(0..self.run.plan.sizes);
        let trainings = self.train(winner, design, found_by, of_largest)?;
        let Some(trainings) = trainings else { return Ok(None) };
        let (folder, largest) = &trainings[0];
        let (_, begun) = RunFolder::open(&self.run.path(folder))?;
        let largest = (largest.multiply_adds, begun.train.augment.cutout);
        for size in 1..self.run.plan.sizes {
            let made = self.train_smaller(&outcome.winner, design, largest, size)?;
            let Some(made) = made else {
                return Ok(None);
            };
            outcome.smaller.push(made);
        }
        outcome.trainings = trainings;
        Ok(Some(self.result(searches, Some(outcome))))
    }

    /// The training of a network with fewer multiply-adds than the largest: half of them for size 1, and so on; with the same cutout.
    fn train_smaller(
        &mut self,
        name: &str,
        design: &Design,
        (multiply_adds, cutout): (u64, Auto<f64>),
        size: u32,
    ) -> Result<Option<(String, TrainResult)>, Error> {
        let (run, images) = (self.run, self.images);
        let folder = format!("smaller/{size}");
        let mut config = self.config.clone();
        config.train.inherit = false;
        config.train.multiply_adds = (multiply_adds >> size).max(1);
        config.train.augment.cutout = cutout;
        let path = run.path(&folder);
        let fitting = |progress: &Self, seconds: f64| {
            let left = progress.clock.left_of(seconds);
            let share = time_of_sizes(size..size + 1) / time_of_sizes(size..run.plan.sizes);
            fit::training(
                &config,
                design,
                images,
                Share { seconds: left * share, must: true },
                Size::Given,
            )
        };
        let title = format!("training of a smaller {name}, {size} of {}", run.plan.sizes - 1);
        let config = self.decided(&path, &title, config.clone(), fitting)?;
        let made = self.train_in(&path, &config, design, images, None)?;
        Ok(made.map(|result| (folder, result)))
    }

    /// Trains in a folder; `None` if asked to stop.
    pub(super) fn train_in(
        &mut self,
        path: &Path,
        config: &Config,
        design: &Design,
        images: &Splits,
        inherit: Option<&Path>,
    ) -> Result<Option<TrainResult>, Error> {
        let (observer, stop) = (&mut *self.observer, self.stop);
        let made = jobs::train(path, config, design, Some(images), inherit, observer, stop)?;
        self.note_time()?;
        Ok(match made {
            Outcome::Finished(result) => Some(*result),
            Outcome::Stopped => None,
        })
    }

    /// The trainings of a design, which the search of that seed found, if any did, in this part of the time that is left. All of them
    /// are of one size and have the same images and augmentation.
    pub(super) fn train(
        &mut self,
        name: &str,
        design: &Design,
        found_by: Option<u64>,
        part: f64,
    ) -> Result<Option<Vec<(String, TrainResult)>>, Error> {
        let (run, images) = (self.run, self.images);
        let count = run.plan.trainings;
        let mut trainings: Vec<(String, TrainResult)> = Vec::new();
        for (number, seed) in (0..count).zip(run.config.seeds(count)) {
            let folder = training_folder(found_by.filter(|_| !run.plan.with_final), seed);
            let mut config = Config { seed, ..self.config.clone() };
            let search = found_by.map(|seed| run.path(search_folder(seed)));
            let inherit = search.filter(|_| config.train.inherit);
            config.train.inherit = inherit.is_some();
            if inherit.is_some() {
                // The weights fit the channels of the search network only.
                config.train.multiply_adds = 0;
            }
            let mut size = if inherit.is_some() { Size::Given } else { Size::Decided };
            if let Some((first, _)) = trainings.first() {
                let (_, first) = RunFolder::open(&run.path(first))?;
                config.train.multiply_adds = first.train.multiply_adds;
                config.train.augment.cutout = first.train.augment.cutout;
                config.train.images = first.train.images;
                (config.limits, size) = (first.limits, Size::Given);
            }
            let path = run.path(&folder);
            let fitting = |progress: &Self, seconds: f64| {
                let left = progress.clock.left_of(seconds);
                let seconds = seconds_each(left, part, number, count);
                fit::training(&config, design, images, Share { seconds, must: true }, size)
            };
            let title = format!("training of {name}, seed {seed}");
            let config = self.decided(&path, &title, config.clone(), fitting)?;
            match self.train_in(&path, &config, design, images, inherit.as_deref())? {
                Some(result) => trainings.push((folder, result)),
                None => return Ok(None),
            }
        }
        Ok(Some(trainings))
    }
}

/// The folder of a training of what one of several searches found, or of a winner.
pub(super) fn training_folder(search: Option<u64>, seed: u64) -> String {
    match search {
        Some(search) => format!("train-{search}-{seed}"),
        None => format!("train-{seed}"),
    }
}

/// Seconds of each training of a group of `count`, `done` of them, that had `part` of what was left before its first: the same for all.
fn seconds_each(left: f64, part: f64, done: u32, count: u32) -> f64 {
    let (rest, count) = (f64::from(count - done), f64::from(count));
    left / (rest + count * (1.0 - part) / part)
}

/// The time of networks of these sizes, in that of the largest one.
fn time_of_sizes(sizes: std::ops::Range<u32>) -> f64 {
    sizes.map(|size| 0.5_f64.powi(size as i32)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trainings_of_a_group_get_equal_times_and_the_rest_its_part() {
        for (part, count) in [(1.0, 3), (4.0 / 7.0, 3), (0.5, 2), (0.25, 1)] {
            let mut left = 100.0;
            for done in 0..count {
                let seconds = seconds_each(left, part, done, count);
                assert!((seconds - 100.0 * part / f64::from(count)).abs() < 1e-9, "{seconds}");
                left -= seconds;
            }
            assert!((left - 100.0 * (1.0 - part)).abs() < 1e-9, "{left}");
        }
    }
}
