//! Several cells on several data sets with one recipe (Table 2 of the paper), each training in its own run folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use asap_core::Design;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::jobs;
use crate::jobs::planned::{self, Planned, at_least_one};
#[cfg(feature = "report")]
use crate::report;
use crate::run::driver::with_threads;
use crate::run::folder::{self as run_folder, RunFolder};
use crate::run::record::{Event, Observer, Outcome, TrainResult};
use crate::run::spread::Spread;
use crate::run::tables::{TransferRow, TransferTable};
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

    fn check(&self, _: &Config, _: &mut dyn Observer) -> Result<(), Error> {
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
            None => Ok(()),
        }
    }
}

/// A transfer in its folder.
pub type Transfer = Planned<Plan>;

impl Transfer {
    /// Runs the trainings that are not done yet; the table is rewritten after each training.
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
        let _lock = self.folder.lock()?;
        with_threads(self.config.threads, || self.run_locked(observer, stop))?
    }

    fn run_locked(
        &self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<TransferTable>, Error> {
        let mut done: Vec<(Training<'_>, Result<TrainResult, Error>)> = Vec::new();
        let all = self.plan.trainings().count();
        for (number, training) in self.plan.trainings().enumerate() {
            observer.on_event(Event::Begin(&format!(
                "{} of {all}: {}",
                number + 1,
                training.title()
            )));
            let mut config = training.config(&self.config);
            if let Some(first) =
                done.iter().find(|(t, _)| t.cell == training.cell && t.data == training.data)
                && let Ok((_, begun)) = RunFolder::open(&self.path(first.0.path()))
            {
                // All seeds train the network that the first measurement of its latency decided.
                config.limits = begun.limits;
            }
            let path = self.path(training.path());
            let design = &training.cell.design;
            let outcome = match jobs::train(&path, &config, design, None, None, observer, stop) {
                Ok(Outcome::Stopped) => return Ok(Outcome::Stopped),
                Ok(Outcome::Finished(result)) => Ok(*result),
                Err(error) => {
                    observer.on_event(Event::Note(&training.failure(&error)));
                    Err(error)
                }
            };
            done.push((training, outcome));
            self.write(&done)?;
        }
        Ok(Outcome::Finished(Box::new(self.write(&done)?)))
    }

    fn write(
        &self,
        done: &[(Training<'_>, Result<TrainResult, Error>)],
    ) -> Result<TransferTable, Error> {
        let mut rows = Vec::new();
        for cell in &self.plan.cells {
            for data in &self.plan.data {
                let of_row = done.iter().filter(|(t, _)| t.cell == cell && t.data == data);
                let results: Vec<&TrainResult> =
                    of_row.clone().filter_map(|(_, outcome)| outcome.as_ref().ok()).collect();
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
                    failures: of_row
                        .filter_map(|(t, o)| Some(t.failure(o.as_ref().err()?)))
                        .collect(),
                });
            }
        }
        let table = TransferTable { version: env!("CARGO_PKG_VERSION").to_owned(), rows };
        self.folder.write_json(run_folder::RESULT, &table)?;
        #[cfg(feature = "report")]
        let links = done.iter().map(|(training, _)| (training.title(), training.path()));
        #[cfg(feature = "report")]
        report::write_transfer(&self.folder, &self.config, &table, links)?;
        Ok(table)
    }
}

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

    fn failure(&self, error: &Error) -> String {
        format!("{}: {error}", self.title())
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
