//! Several cells on several data sets with one recipe (Table 2 of the paper), each training in its own run folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use asap_core::Design;
use asap_data::Splits;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::jobs;
use crate::jobs::compare::latency_differs;
use crate::jobs::planned::{self, Planned, at_least_one};
#[cfg(feature = "report")]
use crate::report;
use crate::run::folder::{self as run_folder, RunFolder};
use crate::run::record::{Event, Observer, Outcome, TrainResult};
use crate::run::spread::Spread;
use crate::run::tables::{TransferRow, TransferTable};
use crate::run::threads::with_threads;
use crate::settings::config::Config;

/// The trainings: each cell on each data set with each seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The cells.
    pub cells: Vec<NamedCell>,
    /// The data sets, as values of `data.source`.
    pub data: Vec<String>,
    /// The seeds.
    pub seeds: Vec<u64>,
}

/// A cell with its name in the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedCell {
    /// Its name, of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The cell, or the plain network.
    #[serde(rename = "genotype")]
    pub design: Design,
}

impl planned::Plan for Plan {
    const FILE: &'static str = "transfer.json";
    const COMMAND: &'static str = "asap transfer";

    fn runs(&self) -> usize {
        self.trainings().count()
    }

    fn indivisible(&self, config: &Config) -> Option<&'static str> {
        latency_differs(config)
    }

    fn check(&self, config: &Config, _: &mut dyn Observer) -> Result<Option<Splits>, Error> {
        config.check_without_search()?;
        at_least_one([
            ("cell", self.cells.is_empty()),
            ("data set", self.data.is_empty()),
            ("seed", self.seeds.is_empty()),
        ])?;
        let mut paths: Vec<PathBuf> = self.trainings().map(|training| training.path()).collect();
        paths.sort();
        match paths.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(Error::Config(format!(
                "expected cells and data sets of different names, found {} twice",
                twice[0].display()
            ))),
            None => Ok(None),
        }
    }
}

/// A transfer in its folder.
pub type Transfer = Planned<Plan>;

impl Transfer {
    /// Runs the trainings that are not done yet; the table is rewritten after each training. A shard runs its own only, and the table
    /// has what all of them have done so far.
    ///
    /// A training that fails is a row with the reason, and the others continue.
    ///
    /// # Errors
    /// If the transfer's folder can no longer be written.
    pub fn run(
        &self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<TransferTable>, Error> {
        let _lock = self.lock()?;
        with_threads(self.config.threads, || self.run_locked(observer, stop))?
    }

    fn run_locked(
        &self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<TransferTable>, Error> {
        let mut failures = Failures::new();
        let all: Vec<Training<'_>> = self.plan.trainings().collect();
        let weights: Vec<f64> = all.iter().map(|training| self.weight(training)).collect();
        let own = self.shard.choose(&weights);
        let mut read: Option<(&str, Splits)> = None;
        for (number, &run) in own.iter().enumerate() {
            let training = &all[run];
            let title = format!("{} of {}: {}", number + 1, own.len(), training.title());
            observer.on_event(Event::Begin(&title));
            let mut config = training.config(&self.config);
            let mut same =
                all.iter().filter(|t| t.cell == training.cell && t.data == training.data);
            if let Some((_, begun)) = same.find_map(|t| RunFolder::open(&self.path(t.path())).ok())
            {
                // All seeds train the network that the first measurement of its latency decided.
                config.limits = begun.limits;
            }
            let path = self.path(training.path());
            let design = &training.cell.design;
            let done =
                RunFolder::open(&path).is_ok_and(|(run, _)| run.file(run_folder::RESULT).exists());
            let images = match done {
                true => Ok(None),
                false => self.images_of(training, &config, &mut read, observer).map(Some),
            };
            let made = images.and_then(|images| {
                jobs::train(&path, &config, design, images, None, observer, stop)
            });
            match made {
                Ok(Outcome::Stopped) => return Ok(Outcome::Stopped),
                Ok(Outcome::Finished(_)) => {}
                Err(error) => {
                    let reason = format!("{}: {error}", training.title());
                    observer.on_event(Event::Note(&reason));
                    failures.insert(training.path(), reason);
                }
            }
            self.write(&failures)?;
        }
        Ok(Outcome::Finished(Box::new(self.write(&failures)?)))
    }

    /// The images of a training; those of the one before are kept, since trainings on the same ones follow each other.
    fn images_of<'a, 'b>(
        &self,
        training: &Training<'a>,
        config: &Config,
        read: &'b mut Option<(&'a str, Splits)>,
        observer: &mut dyn Observer,
    ) -> Result<&'b Splits, Error> {
        if read.as_ref().is_none_or(|(data, _)| *data != training.data) {
            // The old ones go first: both need not fit into memory.
            *read = None;
            let images = jobs::load(config, observer)?;
            self.check_images(training.data, &images)?;
            *read = Some((training.data, images));
        }
        Ok(&read.as_ref().expect("just read").1)
    }

    /// About how long a training takes, in any unit: the multiply-adds of its network on images of 32x32. How many images there are is not known.
    fn weight(&self, training: &Training<'_>) -> f64 {
        let shape = self.config.train.shape([32, 32, 3], 10);
        let cost = shape.cost_with(&training.cell.design, shape.channels);
        cost.map_or(1.0, |cost| cost.multiply_adds as f64)
    }

    /// Writes the table of everything that is done.
    fn write(&self, failures: &Failures) -> Result<TransferTable, Error> {
        let _lock = self.lock_to_write()?;
        let (mut rows, mut missing, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for cell in &self.plan.cells {
            for data in &self.plan.data {
                let (mut results, mut failed) = (Vec::<TrainResult>::new(), Vec::new());
                for training in self.plan.trainings().filter(|t| t.cell == cell && t.data == data) {
                    let path = training.path();
                    let folder = RunFolder::open(&self.path(&path));
                    let result = match folder {
                        Ok((folder, _)) => folder.read_json(run_folder::RESULT)?,
                        Err(_) => None,
                    };
                    match (result, failures.get(&path)) {
                        (Some(result), _) => results.push(result),
                        (None, Some(reason)) => failed.push(reason.clone()),
                        (None, None) => {
                            missing.push(training.title());
                            continue;
                        }
                    }
                    links.push((training.title(), path));
                }
                let errors: Vec<f64> =
                    results.iter().filter_map(|r| Some(r.test.as_ref()?.error)).collect();
                let seconds: Vec<f64> = results.iter().map(|r| r.seconds).collect();
                rows.push(TransferRow {
                    cell: cell.name.clone(),
                    data: data.clone(),
                    params: results.first().map(|r| r.params),
                    multiply_adds: results.first().map(|r| r.multiply_adds),
                    error: Spread::of(&errors),
                    seconds: Spread::of(&seconds).map(|spread| spread.mean),
                    failures: failed,
                });
            }
        }
        let table = TransferTable { version: env!("CARGO_PKG_VERSION").to_owned(), rows, missing };
        self.folder.write_json(run_folder::RESULT, &table)?;
        #[cfg(feature = "report")]
        report::write_transfer(&self.folder, &self.config, &table, links.into_iter())?;
        Ok(table)
    }
}

/// The reasons of the trainings that failed in this process, by their folders.
type Failures = BTreeMap<PathBuf, String>;

/// One training of a plan.
#[derive(Clone, Copy)]
struct Training<'a> {
    cell: &'a NamedCell,
    data: &'a str,
    seed: u64,
}

impl Plan {
    fn trainings(&self) -> impl Iterator<Item = Training<'_>> {
        self.cells.iter().flat_map(move |cell| {
            self.data.iter().flat_map(move |data| {
                self.seeds.iter().map(move |&seed| Training { cell, data, seed })
            })
        })
    }
}

impl Training<'_> {
    fn title(&self) -> String {
        format!("{} on {}, seed {}", self.cell.name, self.data, self.seed)
    }

    /// Folder of the training, inside the transfer's.
    fn path(&self) -> PathBuf {
        let plain = |text: &str| -> String {
            let kept = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            text.chars().map(|c| if kept(c) { c } else { '_' }).collect()
        };
        let data =
            Path::new(self.data).file_name().map_or(self.data.into(), |n| n.to_string_lossy());
        PathBuf::from(format!("{}-{}-{}", plain(&self.cell.name), plain(&data), self.seed))
    }

    fn config(&self, shared: &Config) -> Config {
        let mut config = shared.clone();
        self.data.clone_into(&mut config.data.source);
        config.seed = self.seed;
        config
    }
}
