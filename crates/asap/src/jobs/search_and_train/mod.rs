//! From images to a trained network (`asap run`): searches, a final between what they found and simpler answers, and the training of
//! the best, within a time if one is given.

mod clock;
mod final_round;
mod trainings;
mod without_final;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use asap_core::Design;
use asap_data::Splits;
use serde::{Deserialize, Serialize};

use crate::duration::duration;
use crate::error::Error;
use crate::jobs;
use crate::jobs::compare::latency_differs;
use crate::jobs::fit::{self, Fit, Share, Size};
use crate::jobs::inherit;
use crate::jobs::planned::{self, Planned};
#[cfg(feature = "report")]
use crate::report;
use crate::run::folder::{self as run_folder, RunFolder};
use crate::run::record::{Event, Observer, Outcome, SearchResult};
use crate::run::spread::Spread;
use crate::run::tables::{Candidate, Final, LeftOut, RunResult, SearchAndTrainings};
use crate::run::threads::with_threads;
use crate::settings::config::Config;
use crate::train;
use clock::Clock;
use final_round::{Judged, is_its_own, is_short, simplest};

/// Fewer training images than this are not searched on: half of them could not tell operations apart.
pub const FEWEST_IMAGES: usize = 500;

/// Fraction of the time that searches may take.
const SHARE: f64 = 0.2;
/// The largest error of the plain network in its short training with which a search is not worth its time, and the same as a
/// fraction of the error of an answer that is always the largest class.
const EASY: (f64, f64) = (0.01, 0.1);
/// The plain network for images that are too few or too easy.
const SIMPLE: &str = "resnet-9";
/// The most sizes of a network; the smallest then has a hundredth of the multiply-adds.
const MOST_SIZES: u32 = 8;
/// What the final found, and what is trained.
const OUTCOME: &str = "outcome.json";

/// The searches, trainings and the time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeats {
    /// Searches, with seeds counting up from the configuration's.
    pub searches: u32,
    /// Trainings, of the winner of the final or of each cell found; with seeds counting up from the configuration's.
    pub trainings: u32,
    /// True for a final. Too few images then are not searched on.
    #[serde(default, rename = "final")]
    pub with_final: bool,
    /// Networks of different size that are trained of one design, each with half of the multiply-adds of the one before; 1: only the
    /// largest.
    #[serde(default = "one")]
    pub sizes: u32,
    /// Seconds that all of it may take.
    #[serde(default)]
    pub seconds: Option<f64>,
}

fn one() -> u32 {
    1
}

impl planned::Plan for Repeats {
    const FILE: &'static str = "run.json";
    const COMMAND: &'static str = "asap run";
    const REMEDY: &'static str =
        "; resume the folder of a search or training with asap search or asap train";

    fn runs(&self) -> usize {
        self.searches as usize
    }

    fn indivisible(&self, config: &Config) -> Option<&'static str> {
        match (self.with_final, self.seconds) {
            (true, _) => Some("the final compares what all searches found; expected --no-final"),
            (_, Some(_)) => {
                Some("a time is divided among the runs of one process; expected no --time")
            }
            _ => latency_differs(config),
        }
    }

    fn check(&self, config: &Config, observer: &mut dyn Observer) -> Result<Option<Splits>, Error> {
        if self.searches == 0 || self.trainings == 0 || self.sizes == 0 {
            return Err(Error::Config(
                "expected at least one search, one training and one size, found 0".to_owned(),
            ));
        }
        if self.sizes > MOST_SIZES || self.sizes > 1 && !self.with_final {
            return Err(Error::Config(format!(
                "sizes: expected 1 to {MOST_SIZES}, and 1 without a final, found {}",
                self.sizes
            )));
        }
        if config.train.inherit {
            inherit::check(config)?;
        }
        if self.with_final && config.search.held_out > 0.0 {
            return Err(Error::Config(format!(
                "search.held_out: expected 0 with a final, whose images the search never sees, found {}; train.validation is the part of \
                 the images on which the final judges",
                config.search.held_out
            )));
        }
        let images = jobs::load(config, observer)?;
        if self.with_final {
            final_round::check_limits(config, &images)?;
        } else {
            train::check_cells(config, &images.train)?;
        }
        // Refuses what cannot work before anything is written.
        if let Some(seconds) = self.seconds {
            let share = Share { seconds: seconds / f64::from(self.trainings), must: false };
            // Another candidate may keep limits that this one cannot.
            let config = Config { limits: config.limits.of_memory(), ..config.clone() };
            let (_, design) = simplest(&config, &images)?;
            fit::training(&config, &design, &images, share, Size::Decided)?;
        }
        Ok(Some(images))
    }
}

/// A run in its folder.
pub type Run = Planned<Repeats>;

/// What a run has decided before the training of the winner.
#[derive(Serialize, Deserialize)]
struct Decided {
    searches: Vec<SearchAndTrainings>,
    #[serde(rename = "final")]
    outcome: Final,
    design: Design,
    /// The seed of the search that found it, if one did.
    found_by: Option<u64>,
}

/// A run in progress.
struct Progress<'a> {
    run: &'a Run,
    config: Config,
    images: &'a Splits,
    clock: Clock,
    /// The most training images of the trainings of the final; 0: all.
    images_to_compare: usize,
    /// The candidates that could not be trained.
    left_out: Vec<(String, Error)>,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
}

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
        let _lock = self.lock()?;
        with_threads(self.config.threads, || self.run_locked(observer, stop))?
    }

    fn run_locked(
        &self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<RunResult>, Error> {
        if let Some(result) = self.folder.read_json(run_folder::RESULT)? {
            return Ok(Outcome::Finished(Box::new(result)));
        }
        let clock = Clock::resumed(&self.folder, self.started)?;
        let images = self.images(observer)?;
        let mut progress = Progress {
            run: self,
            config: self.config.clone(),
            images: &images,
            clock,
            images_to_compare: self.config.train.images,
            left_out: Vec::new(),
            observer,
            stop,
        };
        let Some(result) = progress.whole()? else { return Ok(Outcome::Stopped) };
        let _lock = self.lock_to_write()?;
        #[cfg(feature = "report")]
        report::write_run(&self.folder, &self.config, &result)?;
        // With a result a run is over.
        if result.missing.is_empty() {
            self.folder.write_json(run_folder::RESULT, &result)?;
        }
        Ok(Outcome::Finished(Box::new(result)))
    }
}

impl Progress<'_> {
    /// `None` if asked to stop.
    fn whole(&mut self) -> Result<Option<RunResult>, Error> {
        let plan = self.run.plan;
        if !plan.with_final {
            return self.without_final();
        }
        self.equal_cost()?;
        // What was left out in an earlier process, for want of time, would be tried again, and another might win.
        if let Some(decided) = self.run.folder.read_json(OUTCOME)? {
            return self.finish(decided);
        }
        let images = self.images.train.len();
        if images < FEWEST_IMAGES {
            let note = format!(
                "{images} training images are too few to search on (expected at least {FEWEST_IMAGES}); use --no-final to search anyway"
            );
            return self.simple(Vec::new(), Vec::new(), note);
        }
        if let Some(seconds) = plan.seconds {
            let [all, short, search] =
                [1.0, final_round::SHARE, SHARE].map(|share| duration(share * seconds));
            self.say(&format!(
                "plan for {all}: at most {search} for the search, {short} to compare what it finds with simpler answers, the rest to train the best"
            ));
        }
        self.decide_images()?;
        // The simplest candidate comes first: it may show that a search is not needed.
        let simple = Design::Plain(SIMPLE.parse()?);
        let Judged::Done(mut candidates) = self.judge(0, SIMPLE, &simple)? else {
            return Ok(None);
        };
        self.refuse_if_none_fits()?;
        let counts = self.images.train.class_counts();
        let largest = counts.iter().max().map_or(0.0, |&most| most as f64 / images as f64);
        let allowed = EASY.0.min(EASY.1 * (1.0 - largest));
        if let Some(easy) = candidates.pop_if(|made| 1.0 - made.accuracy <= allowed) {
            let note = format!(
                "these images are too easy to search on: a short training of {SIMPLE} classifies {:.2} % of the held-out ones; \
                 use --no-final to search anyway",
                100.0 * easy.accuracy
            );
            return self.simple(Vec::new(), vec![easy], note);
        }
        // A cell takes longer than the simplest network: none that is found could be compared.
        let too_short = self.left_out.iter().any(|(_, error)| is_short(error));
        if too_short {
            self.say("no search: the time is too short to compare what it would find");
        }
        let mut searches = Vec::new();
        for seed in self.run.config.seeds(plan.searches) {
            let folder = search_folder(seed);
            if too_short && !self.run.path(&folder).exists() {
                continue;
            }
            let search = match self.search(&folder, seed) {
                Err(error) if is_its_own(&error) => {
                    self.say(&format!("no search, seed {seed}: {error}"));
                    self.left_out.push((folder, error));
                    continue;
                }
                search => search?,
            };
            let Some(search) = search else { return Ok(None) };
            searches.push(SearchAndTrainings { folder, search, trainings: Vec::new() });
        }
        let Judged::Done(others) = self.compare(&searches)? else { return Ok(None) };
        candidates.extend(others);
        let Some(winner) = Candidate::best(&candidates) else {
            if !self.left_out.iter().any(|(_, error)| is_short(error)) {
                return Err(self.left_out.swap_remove(0).1);
            }
            let note = "the time is too short for a final".to_owned();
            return self.simple(searches, Vec::new(), note);
        };
        self.say(&format!("winner of the final: {}", winner.name));
        let (name, design) = (winner.name.clone(), winner.design.clone());
        let seed = searches.iter().find(|s| s.folder == name).map(|s| s.search.seed);
        let left_out = self.left_out();
        let outcome = Final { candidates, left_out, winner: name, ..Final::default() };
        self.decide(Decided { searches, outcome, design, found_by: seed })
    }

    /// The candidates that were left out, with the reasons.
    fn left_out(&self) -> Vec<LeftOut> {
        let of = |(name, error): &(String, Error)| LeftOut {
            name: name.clone(),
            reason: error.to_string(),
        };
        self.left_out.iter().map(of).collect()
    }

    /// Writes down what is trained, and trains it.
    fn decide(&mut self, decided: Decided) -> Result<Option<RunResult>, Error> {
        self.run.folder.write_json(OUTCOME, &decided)?;
        self.finish(decided)
    }

    /// Trains the simple answer, for a reason.
    fn simple(
        &mut self,
        searches: Vec<SearchAndTrainings>,
        candidates: Vec<Candidate>,
        note: String,
    ) -> Result<Option<RunResult>, Error> {
        let (winner, design) = simplest(&self.config, self.images)?;
        self.say(&format!("{note}; training {winner}"));
        let (note, left_out) = (Some(note), self.left_out());
        let outcome = Final { candidates, left_out, winner, note, ..Final::default() };
        self.decide(Decided { searches, outcome, design, found_by: None })
    }

    fn say(&mut self, text: &str) {
        self.observer.on_event(Event::Begin(text));
    }

    /// Keeps the time spent, unless other processes spend it, too.
    fn note_time(&self) -> Result<(), Error> {
        match self.run.shard.is_whole() {
            true => self.clock.note(&self.run.folder),
            false => Ok(()),
        }
    }

    /// The settings with which a search or training was begun, or those of a fit, which is told; without a time, `otherwise`.
    fn decided(
        &mut self,
        path: &Path,
        title: &str,
        otherwise: Config,
        fit: impl FnOnce(&Self, f64) -> Result<Fit, Error>,
    ) -> Result<Config, Error> {
        let threads = self.run.config.threads;
        if let Ok((_, begun)) = RunFolder::open(path) {
            self.say(title);
            return Ok(Config { threads, ..begun });
        }
        let Some(seconds) = self.run.plan.seconds else {
            self.say(title);
            return Ok(otherwise);
        };
        let Fit { config, plan } = fit(self, seconds)?;
        self.note_time()?;
        let spent = self.clock.seconds();
        self.say(&format!("{title}: {plan} ({} of {} spent)", duration(spent), duration(seconds)));
        Ok(config)
    }

    fn search(&mut self, folder: &str, seed: u64) -> Result<Option<SearchResult>, Error> {
        let (run, images) = (self.run, self.images);
        let mut config = Config { seed, ..run.config.clone() };
        if run.plan.with_final && images.valid.is_none() {
            config.search.held_out = self.short().train.validation;
            config.search.held_out_seed = run.config.seed;
        }
        let path = run.path(folder);
        let fitting = |_: &Self, seconds: f64| {
            let share = SHARE * seconds / f64::from(run.plan.searches);
            fit::search(&config, images, share, true)
        };
        let title = format!("search, seed {seed}");
        let config = self.decided(&path, &title, config.clone(), fitting)?;
        let made = jobs::search(&path, &config, Some(images), self.observer, self.stop)?;
        self.note_time()?;
        Ok(match made {
            Outcome::Finished(result) => Some(*result),
            Outcome::Stopped => None,
        })
    }

    fn result(&self, searches: Vec<SearchAndTrainings>, outcome: Option<Final>) -> RunResult {
        let trainings = searches.iter().map(|search| &search.trainings);
        let errors: Vec<Vec<f64>> = trainings
            .chain(outcome.as_ref().map(|outcome| &outcome.trainings))
            .filter(|group| !group.is_empty())
            .map(|group| group.iter().filter_map(|(_, t)| Some(t.test.as_ref()?.error)).collect())
            .collect();
        let means: Vec<f64> =
            errors.iter().filter_map(|group| Spread::of(group)).map(|s| s.mean).collect();
        // All shards together.
        let of = |found: &SearchAndTrainings| {
            found.search.seconds + found.trainings.iter().map(|(_, t)| t.seconds).sum::<f64>()
        };
        let in_shards: f64 = searches.iter().map(of).sum();
        let seconds = match self.run.shard.is_whole() {
            true => self.clock.seconds().max(in_shards),
            false => in_shards,
        };
        RunResult {
            missing: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            error: Spread::of(&errors.concat()),
            search_deviation: Spread::of(&means).and_then(|spread| spread.deviation),
            training_deviation: Spread::within(&errors),
            seconds,
            time: self.run.plan.seconds,
            searches,
            outcome,
        }
    }
}

fn search_folder(seed: u64) -> String {
    format!("search-{seed}")
}
