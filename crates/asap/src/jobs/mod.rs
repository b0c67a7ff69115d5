//! Searches and trainings in folders: started, resumed, or left as they are if they have a result. Commands with several
//! runs are made of them.

pub mod compare;
pub mod dry_run;
pub mod fit;
pub mod follow;
mod inherit;
pub mod overview;
pub mod planned;
pub mod queries;
pub mod reproduce;
pub mod search_and_train;
pub mod shard;
pub mod transfer;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use asap_core::Design;
use asap_data::Splits;
use asap_kernels::{Level, Precision};
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::jobs::planned::Plan as _;
use crate::run::driver;
use crate::run::epochs::Epochs;
use crate::run::folder::{
    CHECKPOINT, EVENTS, GENOTYPE_JSON, Lock, PREVIOUS, Place, RESULT, RunFolder,
};
use crate::run::record::{Event, Observer, Outcome, SearchResult, TrainResult};
use crate::run::sink::Tensors;
use crate::run::threads::with_threads;
use crate::search::Search;
use crate::settings::config::Config;
use crate::train::Training;

pub use inherit::searched_weights;

/// The files with the plans of commands with several runs, and the commands that resume them.
const PLANS: [(&str, Option<&str>); 4] = [
    (search_and_train::Repeats::FILE, Some(search_and_train::Repeats::COMMAND)),
    (compare::Plan::FILE, Some(compare::Plan::COMMAND)),
    (transfer::Plan::FILE, Some(transfer::Plan::COMMAND)),
    (queries::FILE, None),
];

/// A [`Search`] or a [`Training`] in its folder, ready for its next step. The folder is locked as long as this lives.
pub struct Job<R> {
    run: R,
    folder: RunFolder,
    _lock: Lock,
    begun: bool,
}

/// The run of a folder that is resumed.
pub enum Resumed<R, T> {
    /// The run continues from its checkpoint.
    Job(Box<Job<R>>),
    /// The run had already finished, with this result.
    Finished(RunFolder, Box<T>),
}

impl<R> Job<R> {
    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The search or the training.
    pub fn of(&self) -> &R {
        &self.run
    }
}

impl Job<Search> {
    /// Prepares a new search in a new folder, which is created only if configuration and images fit. `images` are those of the
    /// configuration, if they are read already.
    ///
    /// # Errors
    /// See [`load`] and [`Search::new`]; or if the folder is in use.
    pub fn start(
        place: &Place,
        config: &Config,
        images: Option<Splits>,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        start(place, config, images.as_ref(), observer, Search::new)
    }

    /// Prepares to resume the search of a folder, with a different number of threads if one is given.
    ///
    /// # Errors
    /// If it is not the folder of a search, another process works in it, or its checkpoint does not fit its images.
    pub fn resume(
        path: &Path,
        threads: Option<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Resumed<Search, SearchResult>, Error> {
        let (folder, config) = open(path, threads)?;
        let lock = folder.lock()?;
        if is_untouched(path) && folder.file(GENOTYPE_JSON).exists() {
            return Err(Error::RunFolder {
                path: path.to_owned(),
                problem: "expected the folder of a search, found that of a training; resume it with asap train".to_owned(),
            });
        }
        resume(folder, lock, &config, None, observer, Search::new)
    }

    /// Searches to the end, or until `stop` is set.
    ///
    /// # Errors
    /// See [`Search::run`].
    pub fn run(
        mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<SearchResult>, Error> {
        driver::run_locked(&mut self.run, &mut self.folder, observer, stop)
    }
}

impl Job<Training> {
    /// Prepares a training in a new folder, which is created only if configuration, design and images fit. `images` are those
    /// of the configuration, if they are read already.
    ///
    /// # Errors
    /// See [`load`] and [`Training::new`]; or if the folder is in use.
    pub fn start(
        place: &Place,
        config: &Config,
        design: &Design,
        images: Option<Splits>,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        start(place, config, images.as_ref(), observer, |config, splits| {
            Training::new(config, design.clone(), splits)
        })
    }

    /// Prepares to resume the training of a folder, with a different number of threads if one is given.
    ///
    /// # Errors
    /// If it is not the folder of a training, another process works in it, or its checkpoint does not fit its images.
    pub fn resume(
        path: &Path,
        threads: Option<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Resumed<Training, TrainResult>, Error> {
        let (folder, config) = open(path, threads)?;
        let lock = folder.lock()?;
        let design: Design = folder.read_json(GENOTYPE_JSON)?.ok_or_else(|| Error::RunFolder {
            path: path.to_owned(),
            problem: format!(
                "expected a {GENOTYPE_JSON}, found none; give the folder of a training"
            ),
        })?;
        resume(folder, lock, &config, None, observer, |config, splits| {
            Training::new(config, design, splits)
        })
    }

    /// Trains to the end, or until `stop` is set.
    ///
    /// # Errors
    /// See [`Training::run`].
    pub fn run(
        mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome<TrainResult>, Error> {
        driver::run_locked(&mut self.run, &mut self.folder, observer, stop)
    }
}

/// Searches in the folder `path`: from the start, from its checkpoint, or not at all if it has a result. `images` are those of
/// the configuration, if they are read already.
///
/// # Errors
/// See [`Search::new`], [`Search::resume`] and [`Search::run`].
pub fn search(
    path: &Path,
    config: &Config,
    images: Option<&Splits>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<SearchResult>, Error> {
    match start_or_resume(path, config, images, observer, Search::new)? {
        Resumed::Job(job) => job.run(observer, stop),
        Resumed::Finished(_, result) => Ok(Outcome::Finished(result)),
    }
}

/// Trains a network in the folder `path`: from the start, from its checkpoint, or not at all if it has a result. It starts
/// from the weights of the search in the folder `inherit`, if given.
///
/// # Errors
/// See [`Training::new`], [`Training::resume`] and [`Training::run`]; or if the search network has a different size.
pub fn train(
    path: &Path,
    config: &Config,
    design: &Design,
    images: Option<&Splits>,
    inherit: Option<&Path>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<TrainResult>, Error> {
    let make = |config, splits| Training::new(config, design.clone(), splits);
    let mut job = match start_or_resume(path, config, images, observer, make)? {
        Resumed::Job(job) => job,
        Resumed::Finished(_, result) => return Ok(Outcome::Finished(result)),
    };
    if let Some((search, genotype)) = inherit.filter(|_| !job.begun).zip(design.genotype()) {
        let (search, _) = RunFolder::open(search)?;
        job.run.inherit(&searched_weights(&search, config, genotype)?)?;
    }
    job.run(observer, stop)
}

fn open(path: &Path, threads: Option<usize>) -> Result<(RunFolder, Config), Error> {
    let (folder, mut config) = RunFolder::open(path)?;
    if let Some((_, command)) = PLANS.into_iter().find(|(plan, _)| folder.file(plan).exists()) {
        let remedy = match command {
            Some(command) => format!("resume it with: {command} --resume {}", path.display()),
            None => "start that command again in another folder".to_owned(),
        };
        return Err(Error::RunFolder {
            path: path.to_owned(),
            problem: format!(
                "expected the folder of one search or training, found that of a command with several; {remedy}"
            ),
        });
    }
    config.threads = threads.unwrap_or(config.threads);
    Ok((folder, config))
}

/// Reads the images, if they are not read yet, and creates a run with them.
fn prepare<R: Send>(
    config: &Config,
    images: Option<&Splits>,
    observer: &mut dyn Observer,
    make: impl FnOnce(Config, Splits) -> Result<R, Error> + Send,
) -> Result<R, Error> {
    with_threads(config.threads, || {
        let images = match images {
            Some(images) => images.clone(),
            None => load(config, observer)?,
        };
        make(config.clone(), images)
    })?
}

fn start<R: Epochs + Send>(
    place: &Place,
    config: &Config,
    images: Option<&Splits>,
    observer: &mut dyn Observer,
    make: impl FnOnce(Config, Splits) -> Result<R, Error> + Send,
) -> Result<Job<R>, Error> {
    let run = prepare(config, images, observer, make)?;
    let (folder, lock) = RunFolder::create_locked(place, run.config(), |folder| run.begin(folder))?;
    Ok(Job { run, folder, _lock: lock, begun: false })
}

/// Returns to the checkpoint of a locked folder.
fn resume<R: Epochs<Result: DeserializeOwned> + Send>(
    mut folder: RunFolder,
    lock: Lock,
    config: &Config,
    images: Option<&Splits>,
    observer: &mut dyn Observer,
    make: impl FnOnce(Config, Splits) -> Result<R, Error> + Send,
) -> Result<Resumed<R, R::Result>, Error> {
    // A result without what it tells of, or of another form, is made again from the checkpoint.
    if R::MADE.iter().all(|name| folder.file(name).exists()) {
        match folder.read_json(RESULT) {
            Ok(Some(result)) => return Ok(Resumed::Finished(folder, Box::new(result))),
            Ok(None) => {}
            Err(error @ Error::RunFolder { .. }) => {
                observer.on_event(Event::Note(&format!("{error}; it is made again")));
            }
            Err(error) => return Err(error),
        }
    }
    let state: Tensors<R::State> = match driver::last_good(&folder, observer) {
        // Nothing to lose, and nothing but fresh weights to begin with.
        Err(_) if is_untouched(folder.path()) && !config.train.inherit => {
            observer.on_event(Event::Note(
                "the run was broken off before its first checkpoint: it begins again",
            ));
            let run = prepare(config, images, observer, make)?;
            return Ok(Resumed::Job(Box::new(Job { run, folder, _lock: lock, begun: false })));
        }
        state => state?,
    };
    let mut run = prepare(config, images, observer, make)?;
    driver::restore(&mut run, &mut folder, state, observer)?;
    Ok(Resumed::Job(Box::new(Job { run, folder, _lock: lock, begun: true })))
}

/// True if a folder has neither a checkpoint nor an epoch or a result, which a run that was broken off early leaves.
fn is_untouched(path: &Path) -> bool {
    [CHECKPOINT, PREVIOUS, EVENTS, RESULT].iter().all(|name| !path.join(name).exists())
}

fn start_or_resume<R: Epochs<Result: DeserializeOwned> + Send>(
    path: &Path,
    config: &Config,
    images: Option<&Splits>,
    observer: &mut dyn Observer,
    make: impl FnOnce(Config, Splits) -> Result<R, Error> + Send,
) -> Result<Resumed<R, R::Result>, Error> {
    let begun_before = !is_untouched(path);
    let (folder, begun) = match RunFolder::open(path) {
        Ok((folder, begun)) => (folder, Config { threads: config.threads, ..begun }),
        Err(error) if begun_before => return Err(error),
        Err(_) => {
            let job = start(&Place::Folder(path.to_owned()), config, images, observer, make)?;
            return Ok(Resumed::Job(Box::new(job)));
        }
    };
    let lock = folder.lock()?;
    if begun_before {
        return resume(folder, lock, &begun, images, observer, make);
    }
    // A run that was interrupted before its first checkpoint has nothing to keep.
    let run = prepare(&begun, images, observer, make)?;
    Ok(Resumed::Job(Box::new(Job { run, folder, _lock: lock, begun: false })))
}

const SLOWER: &str =
    "precision = bf16 is slower than f32 on this processor, which has no AVX-512 BF16";

/// Reads the images of a configuration; notes on them, and on its precision, go to the observer.
///
/// # Errors
/// If they cannot be read.
pub fn load(config: &Config, observer: &mut dyn Observer) -> Result<Splits, Error> {
    let splits = asap_data::load(&config.data_spec()?, config.data_dir(), &config.load_options())?;
    for warning in &splits.warnings {
        observer.on_event(Event::Note(warning));
    }
    if config.precision() == Precision::Bf16 && !Level::available()[0].multiplies_bf16() {
        observer.on_event(Event::Note(SLOWER));
    }
    Ok(splits)
}
