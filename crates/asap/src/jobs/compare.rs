//! Search methods side by side with one budget: each searches with each seed, and every cell found is trained with the
//! same recipe (the paper's Tables 1 and 3, Figures 3, 6 and 7).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use asap_core::{Genotype, NetworkShape, Stem};
use asap_data::Splits;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::duration::{counted, duration};
use crate::error::Error;
use crate::jobs;
use crate::jobs::fit::{self, FEWEST_SEARCH_EPOCHS, Share, Size};
use crate::jobs::planned::{self, Planned, at_least_one};
#[cfg(feature = "report")]
use crate::report;
use crate::run::folder::{self as run_folder, RunFolder};
use crate::run::record::{EpochRecord, Event, Observer, Outcome, SearchResult, TrainResult};
use crate::run::spread::Spread;
use crate::run::tables::{Comparison, ComparisonRow, TabularSummary, Truth};
use crate::run::threads::with_threads;
use crate::search::Search;
use crate::settings::config::Config;
use crate::settings::{MOST_EPOCHS, MethodName};
use crate::tabular::{Standing, Tabular};
use crate::train;

/// The methods to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Their names.
    pub methods: Vec<MethodName>,
    /// The seeds of each method's searches, and of the trainings of the cells found.
    pub seeds: Vec<u64>,
    /// True to train the cells.
    pub train: bool,
    /// Minutes of each search; without it, `search.epochs` epochs.
    #[serde(default)]
    pub minutes: Option<f64>,
    /// Seconds that all of it may take, the same for each method and seed.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// The table in which the cells found are looked up.
    #[serde(default)]
    pub table: Option<TableFile>,
}

/// A file for [`Tabular::read`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableFile {
    /// The file.
    pub path: PathBuf,
    /// The column of the accuracies; the first if none is given.
    pub column: Option<String>,
}

impl Plan {
    /// Seconds of each method and seed, if a time is given, of which `spent` passed before the first.
    fn share(&self, spent: f64) -> Option<f64> {
        Some((self.seconds? * (1.0 - fit::REST) - spent) / self.all().len() as f64)
    }

    /// Methods and seeds. The seeds take turns: first every method with the first seed.
    fn all(&self) -> Vec<(u64, MethodName)> {
        let of_seed = |&seed: &u64| self.methods.iter().map(move |&method| (seed, method));
        self.seeds.iter().flat_map(of_seed).collect()
    }
}

impl TableFile {
    pub(crate) fn read(&self, config: &Config) -> Result<Tabular, Error> {
        // Of the size of the images the order of costs does not depend.
        let shape = NetworkShape { stem: Stem::Small, ..config.train.shape([32, 32, 3], 10) };
        Tabular::read(&self.path, self.column.as_deref(), &config.space()?, &shape)
    }
}

impl planned::Plan for Plan {
    const FILE: &'static str = "compare.json";
    const COMMAND: &'static str = "asap compare";

    fn runs(&self) -> usize {
        self.methods.len() * self.seeds.len()
    }

    fn indivisible(&self, config: &Config) -> Option<&'static str> {
        match self.seconds {
            Some(_) => Some(
                "a time is divided among the runs of one process; expected --minutes, the time of each search, in place of --time",
            ),
            None => latency_differs(config),
        }
    }

    fn check(&self, config: &Config, observer: &mut dyn Observer) -> Result<Option<Splits>, Error> {
        at_least_one([("method", self.methods.is_empty()), ("seed", self.seeds.is_empty())])?;
        if let Some(minutes) =
            self.minutes.filter(|minutes| !(*minutes > 0.0 && minutes.is_finite()))
        {
            return Err(Error::Config(format!(
                "minutes: expected a number above 0, found {minutes}"
            )));
        }
        for (i, method) in self.methods.iter().enumerate() {
            let mut of_method = config.clone();
            of_method.search.method = *method;
            of_method.check_new()?;
            if self.methods[..i].contains(method) {
                return Err(Error::Config(format!(
                    "expected each method once, found {method} twice"
                )));
            }
        }
        if let Some(table) = &self.table {
            table.read(config)?;
        }
        let images = jobs::load(config, observer)?;
        if self.train {
            train::check_cells(config, &images.train)?;
        }
        if let Some(seconds) = self.share(0.0) {
            let of_search = if self.train { 0.5 } else { 1.0 };
            fit::search(config, &images, of_search * seconds, false)?;
            if self.train {
                let cell = Genotype::random(&config.space()?, &mut ChaCha8Rng::seed_from_u64(0));
                let share = Share { seconds: 0.5 * seconds, must: false };
                fit::training(config, &cell.into(), &images, share, Size::Decided)?;
            }
        }
        Ok(Some(images))
    }
}

/// A comparison in its folder.
pub type Compare = Planned<Plan>;

/// The number of epochs of each method, where minutes decide it.
const EPOCHS: &str = "epochs.json";

/// The reasons of the runs that failed in this process.
type Failures = BTreeMap<(u64, MethodName), String>;

fn title(seed: u64, method: MethodName) -> String {
    format!("{method}, seed {seed}")
}

/// About how long the search and the training of a method take, in those of most others.
fn weight(method: MethodName) -> f64 {
    match method {
        MethodName::Random => 0.5,
        MethodName::Darts2nd | MethodName::Parsec => 2.0,
        _ => 1.0,
    }
}

/// Why runs that decide by latency cannot be divided, if so.
pub(crate) fn latency_differs(config: &Config) -> Option<&'static str> {
    (config.limits.latency_ms > 0.0).then_some(
        "machines differ in latency, and all runs must train networks of the same size; expected --max-multiply-adds in place of \
         --max-latency",
    )
}

/// The results of one method and seed.
pub(super) struct Done {
    method: MethodName,
    search: SearchResult,
    pub(super) records: Vec<EpochRecord>,
    training: Option<TrainResult>,
}

impl Compare {
    /// Runs the searches and trainings that are not done yet; table and figures are rewritten after each. A shard runs its own only, and
    /// the table has what all of them have done so far.
    ///
    /// A search or training that fails is reported in its method's row, and the others continue.
    ///
    /// # Errors
    /// If the comparison's folder can no longer be written.
    pub fn run(
        &self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<Comparison>, Error> {
        let _lock = self.lock()?;
        with_threads(self.config.threads, || self.run_locked(observer, stop))?
    }

    fn run_locked(
        &self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<Comparison>, Error> {
        let mut failures = Failures::new();
        let table = self.plan.table.as_ref().map(|table| table.read(&self.config)).transpose()?;
        let table = table.as_ref();
        let images = self.images(observer)?;
        let all = self.plan.all();
        let weights: Vec<f64> = all.iter().map(|&(_, method)| weight(method)).collect();
        let share = self.plan.share(self.started.elapsed().as_secs_f64());
        for run in self.shard.choose(&weights) {
            let (seed, method) = all[run];
            match self.one(method, seed, share, &images, observer, stop) {
                Ok(Outcome::Stopped) => return Ok(Outcome::Stopped),
                Ok(Outcome::Finished(_)) => {}
                Err(error) => {
                    let reason = format!("{}: {error}", title(seed, method));
                    observer.on_event(Event::Note(&reason));
                    failures.insert((seed, method), reason);
                }
            }
            self.write(&failures, table)?;
        }
        Ok(Outcome::Finished(Box::new(self.write(&failures, table)?)))
    }

    fn one(
        &self,
        method: MethodName,
        seed: u64,
        share: Option<f64>,
        images: &Splits,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<()>, Error> {
        let started = Instant::now();
        let mut config = Config { seed, ..self.config.clone() };
        config.search.method = method;
        let path = self.path(format!("search-{method}-{seed}"));
        // If cells are trained too, half of the time is theirs.
        let of_search = if self.plan.train { 0.5 } else { 1.0 };
        let minutes = share.map(|seconds| of_search * seconds / 60.0);
        if let Some(of_method) = self.plan.minutes.or(minutes) {
            // A time for everything is kept; minutes for each method buy at least one epoch.
            let least = if minutes.is_some() { FEWEST_SEARCH_EPOCHS } else { 1 };
            config.search.epochs = self.epochs(&config, of_method, least, images, observer)?;
        }
        if let Some(minutes) = minutes {
            config.search.seconds = (60.0 * minutes).max(1.0);
        }
        observer.on_event(Event::Begin(&format!("{method}, seed {seed}: search")));
        let Outcome::Finished(search) = jobs::search(&path, &config, Some(images), observer, stop)?
        else {
            return Ok(Outcome::Stopped);
        };
        if self.plan.train {
            observer.on_event(Event::Begin(&format!("{method}, seed {seed}: training")));
            let train = self.path(format!("train-{method}-{seed}"));
            let inherit = config.train.inherit.then_some(path.as_path());
            let design = search.genotype.clone().into();
            // A training that was begun goes on with its own configuration.
            let begun = RunFolder::open(&train).is_ok();
            if let Some(seconds) = share.filter(|_| !begun) {
                let spent = started.elapsed().as_secs_f64().max(search.seconds);
                let share = Share { seconds: seconds - spent, must: true };
                let size = if config.train.inherit { Size::Given } else { Size::Decided };
                let fit = fit::training(&config, &design, images, share, size)?;
                observer.on_event(Event::Note(&fit.plan));
                config = fit.config;
            }
            let images = Some(images);
            if jobs::train(&train, &config, &design, images, inherit, observer, stop)?
                == Outcome::Stopped
            {
                return Ok(Outcome::Stopped);
            }
        }
        Ok(Outcome::Finished(Box::new(())))
    }

    /// The results of a method and seed, if they are complete.
    pub(super) fn done(&self, seed: u64, method: MethodName) -> Result<Option<Done>, Error> {
        let Ok((folder, _)) = RunFolder::open(&self.path(format!("search-{method}-{seed}"))) else {
            return Ok(None);
        };
        let Some(search) = folder.read_json(run_folder::RESULT)? else { return Ok(None) };
        let records = folder.events()?;
        let mut training = None;
        if self.plan.train {
            let trained = RunFolder::open(&self.path(format!("train-{method}-{seed}")));
            training = match trained {
                Ok((folder, _)) => folder.read_json(run_folder::RESULT)?,
                Err(_) => None,
            };
            if training.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Done { method, search, records, training }))
    }

    /// The number of epochs that the method completes in this many minutes here while nothing is pruned: that of an earlier
    /// seed, so that all seeds have the same, or an estimate from a few steps. It is kept in a file. Of fewer than `least` one
    /// is made, and several are an error.
    fn epochs(
        &self,
        config: &Config,
        minutes: f64,
        least: usize,
        images: &Splits,
        observer: &mut dyn Observer,
    ) -> Result<usize, Error> {
        let method = config.search.method;
        let of_seed = |seed: &u64| self.path(format!("search-{method}-{seed}"));
        let begun = || {
            let mut begun = self.plan.seeds.iter().map(of_seed);
            let (_, config) = begun.find_map(|path| RunFolder::open(&path).ok())?;
            Some(config.search.epochs)
        };
        let decided = || -> Result<BTreeMap<MethodName, usize>, Error> {
            Ok(self.folder.read_json(EPOCHS)?.unwrap_or_default())
        };
        if let Some(epochs) = decided()?.get(&method).copied().or_else(begun) {
            return Ok(epochs);
        }
        let search = Search::new(config.clone(), images.clone())?;
        let seconds_per_epoch = search.seconds_per_epoch(60.0 * minutes)?;
        let epochs = ((60.0 * minutes / seconds_per_epoch) as usize).clamp(1, MOST_EPOCHS);
        if epochs < least {
            return Err(fit::too_short_to_search(seconds_per_epoch, 60.0 * minutes));
        }
        // Others were not kept waiting meanwhile, and one may have been faster.
        let _lock = self.lock_to_write()?;
        let mut decided = decided()?;
        let epochs = *decided.entry(method).or_insert(epochs);
        let time = duration(60.0 * minutes);
        let note = format!("{method}: {} in {time}", counted(epochs, "epoch"));
        observer.on_event(Event::Note(&note));
        self.folder.write_json(EPOCHS, &decided)?;
        Ok(epochs)
    }

    /// Writes the table of everything that is done.
    fn write(&self, failures: &Failures, table: Option<&Tabular>) -> Result<Comparison, Error> {
        let _lock = self.lock_to_write()?;
        let (mut done, mut missing) = (Vec::new(), Vec::new());
        for (seed, method) in self.plan.all() {
            match self.done(seed, method)? {
                Some(one) => done.push(one),
                None if failures.contains_key(&(seed, method)) => {}
                None => missing.push(title(seed, method)),
            }
        }
        let rows = self.plan.methods.iter().map(|&method| {
            let of_method: Vec<&Done> = done.iter().filter(|one| one.method == method).collect();
            let failed = failures.iter().filter(|((_, failed), _)| *failed == method);
            ComparisonRow::new(
                method,
                &of_method,
                failed.map(|(_, why)| why.clone()).collect(),
                table,
            )
        });
        let table = Comparison {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            table: table.map(TabularSummary::of),
            rows: rows.collect(),
            missing,
        };
        #[cfg(feature = "report")]
        {
            let searched: Vec<_> = done.iter().map(|one| (one.method, &one.records[..])).collect();
            let figures = report::figures(&self.plan.methods, &searched);
            for (name, chart) in &figures {
                self.folder.write(&format!("{name}.svg"), chart.svg().as_bytes())?;
            }
            report::write_comparison(&self.folder, &self.config, &table, &figures)?;
        }
        self.folder.write_json(run_folder::RESULT, &table)?;
        Ok(table)
    }
}

impl ComparisonRow {
    fn new(
        method: MethodName,
        done: &[&Done],
        failures: Vec<String>,
        table: Option<&Tabular>,
    ) -> Self {
        let spread = |read: &dyn Fn(&Done) -> Option<f64>| {
            Spread::of(&done.iter().filter_map(|one| read(one)).collect::<Vec<_>>())
        };
        let training = |read: fn(&TrainResult) -> Option<f64>| {
            spread(&move |one: &Done| one.training.as_ref().and_then(read))
        };
        Self {
            method,
            error: training(|t| Some(t.test.as_ref()?.error)),
            params: training(|t| Some(t.params as f64)),
            multiply_adds: training(|t| Some(t.multiply_adds as f64)),
            search_seconds: spread(&|one| Some(one.search.seconds)),
            search_peak_mb: spread(&|one| one.search.peak_rss_mb).map(|spread| spread.largest),
            search_accuracy: spread(&|one| Some(one.search.relaxation_gap?.search)),
            derived_accuracy: spread(&|one| Some(one.search.relaxation_gap?.derived)),
            sparsity: spread(&|one| Some(one.records.last()?.sparsity)),
            truth: table.and_then(|table| Truth::new(table, done)),
            failures,
        }
    }
}

impl Truth {
    /// `None` unless the table has a cell.
    fn new(table: &Tabular, done: &[&Done]) -> Option<Self> {
        let cells: Vec<_> = done.iter().map(|one| table.standing(&one.search.genotype)).collect();
        let spread = |read: fn(&Standing) -> f64| {
            Spread::of(&cells.iter().flatten().map(read).collect::<Vec<_>>())
        };
        let accuracy = spread(|cell| cell.accuracy)?;
        Some(Self {
            accuracy,
            percentile: spread(|cell| cell.percentile)?,
            percentile_of_cost: spread(|cell| cell.percentile_of_cost)?,
            chance: table.chance_of_mean(accuracy.mean, accuracy.count),
            cells,
        })
    }
}
