//! From images to a trained network: searches, and for each of them trainings of its cell (`asap run`).

use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::jobs;
use crate::jobs::planned::{self, Planned};
#[cfg(feature = "report")]
use crate::report;
use crate::run::driver::with_threads;
use crate::run::folder as run_folder;
use crate::run::record::{Event, Observer, Outcome};
use crate::run::spread::Spread;
use crate::run::tables::{RunResult, SearchAndTrainings};
use crate::settings::config::Config;

/// The numbers of searches, and of trainings of each cell that a search finds; with seeds counting up from the
/// configuration's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// Searches.
    pub searches: u32,
    /// Trainings of each found cell.
    pub trainings: u32,
}

impl planned::Plan for Repeats {
    const FILE: &'static str = "run.json";
    const COMMAND: &'static str = "asap run";
    const REMEDY: &'static str =
        "; resume the folder of a search or training with asap search or asap train";

    fn check(&self, config: &Config, observer: &mut dyn Observer) -> Result<(), Error> {
        if self.searches == 0 || self.trainings == 0 {
            return Err(Error::Config(
                "expected at least one search and one training, found 0".to_owned(),
            ));
        }
        jobs::load(config, observer).map(drop)
    }
}

/// A run in its folder.
pub type Run = Planned<Repeats>;

impl Run {
    /// Runs the searches and trainings that are not done yet, or until `stop` is set.
    ///
    /// # Errors
    /// Those of a search or a training; completed runs are kept.
    pub fn run(
        &self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<RunResult>, Error> {
        let _lock = self.folder.lock()?;
        with_threads(self.config.threads, || self.run_locked(observer, stop))?
    }

    fn run_locked(
        &self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<RunResult>, Error> {
        let mut searches = Vec::new();
        for search_seed in self.config.seeds(self.plan.searches) {
            let folder = format!("search-{search_seed}");
            let config = Config { seed: search_seed, ..self.config.clone() };
            observer.on_event(Event::Begin(&format!("search, seed {search_seed}")));
            let path = self.path(&folder);
            let search = match jobs::search(&path, &config, observer, stop)? {
                Outcome::Finished(result) => *result,
                Outcome::Stopped => return Ok(Outcome::Stopped),
            };
            let mut trainings = Vec::new();
            for seed in self.config.seeds(self.plan.trainings) {
                let folder = format!("train-{search_seed}-{seed}");
                let inherit = config.train.inherit.then_some(path.as_path());
                let config = Config { seed, ..self.config.clone() };
                observer.on_event(Event::Begin(&format!(
                    "training of the cell of search {search_seed}, seed {seed}"
                )));
                let path = self.path(&folder);
                let design = &search.genotype.clone().into();
                match jobs::train(&path, &config, design, inherit, observer, stop)? {
                    Outcome::Finished(result) => trainings.push((folder, *result)),
                    Outcome::Stopped => return Ok(Outcome::Stopped),
                }
            }
            searches.push(SearchAndTrainings { folder, search, trainings });
        }
        let result = RunResult::new(searches);
        #[cfg(feature = "report")]
        report::write_run(&self.folder, &self.config, &result)?;
        self.folder.write_json(run_folder::RESULT, &result)?;
        Ok(Outcome::Finished(Box::new(result)))
    }
}

impl RunResult {
    fn new(searches: Vec<SearchAndTrainings>) -> Self {
        let errors: Vec<Vec<f64>> = searches
            .iter()
            .map(|s| s.trainings.iter().filter_map(|(_, t)| Some(t.test.as_ref()?.error)).collect())
            .collect();
        let means: Vec<f64> =
            errors.iter().filter_map(|group| Spread::of(group)).map(|s| s.mean).collect();
        let seconds = searches
            .iter()
            .map(|s| s.search.seconds + s.trainings.iter().map(|(_, t)| t.seconds).sum::<f64>());
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            error: Spread::of(&errors.concat()),
            search_deviation: Spread::of(&means).and_then(|spread| spread.deviation),
            training_deviation: Spread::within(&errors),
            seconds: seconds.sum(),
            searches,
        }
    }
}
