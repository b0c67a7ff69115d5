//! The folder of a command with several runs: their common settings, and their plan.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use asap_data::{Dataset, Splits, fnv1a};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::jobs;
use crate::jobs::shard::Shard;
use crate::run::folder::{LOCK, Lock, Place, RunFolder};
use crate::run::record::{self, Observer};
use crate::run::threads::with_threads;
use crate::settings::config::Config;

/// The runs of a command.
pub trait Plan: Clone + Serialize + DeserializeOwned + Sync {
    /// The file with the plan, in the command's folder.
    const FILE: &'static str;
    /// The command, as typed by a user.
    const COMMAND: &'static str;
    /// Remedy for a folder without such a file.
    const REMEDY: &'static str = "";

    /// Number of runs that do not depend on each other.
    fn runs(&self) -> usize;

    /// Why the runs cannot be divided, if so.
    fn indivisible(&self, _: &Config) -> Option<&'static str> {
        None
    }

    /// Refuses a plan with nothing to do, with duplicates, or without the images that all of it needs, which it returns if it has read them.
    ///
    /// # Errors
    /// Names the problem.
    fn check(&self, config: &Config, observer: &mut dyn Observer) -> Result<Option<Splits>, Error>;
}

/// The file that says which images the runs have.
const IMAGES: &str = "images.json";

/// What tells the images of a data set from others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Identity {
    train: usize,
    valid: usize,
    test: usize,
    /// Height, width and channels.
    shape: [usize; 3],
    /// A hash of the classes, and of the labels of every part.
    labels: String,
}

impl Identity {
    fn of(images: &Splits) -> Self {
        let count = |part: &Option<Dataset>| part.as_ref().map_or(0, Dataset::len);
        let mut bytes = images.train.classes().join("\n").into_bytes();
        for (part, data) in images.parts() {
            bytes.extend(part.as_bytes());
            bytes.extend(data.labels().iter().flat_map(|label| label.to_le_bytes()));
        }
        Self {
            train: images.train.len(),
            valid: count(&images.valid),
            test: count(&images.test),
            shape: images.train.image_shape(),
            labels: format!("{:016x}", fnv1a(&bytes)),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { train, valid, test, shape: [height, width, channels], .. } = self;
        write!(
            f,
            "{train} + {valid} + {test} of {height}x{width}x{channels} for training, validation and tests"
        )
    }
}

/// How long a shard waits for the others, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

fn check_divisible<P: Plan>(plan: &P, config: &Config, shard: Shard) -> Result<(), Error> {
    match plan.indivisible(config).filter(|_| !shard.is_whole()) {
        Some(reason) => Err(Error::Config(format!("--shard {shard}: {reason}"))),
        None => Ok(()),
    }
}

/// A plan in its folder.
pub struct Planned<P> {
    pub(crate) folder: RunFolder,
    pub(crate) config: Config,
    pub(crate) plan: P,
    pub(crate) shard: Shard,
    /// The time at which this process began with it.
    pub(crate) started: Instant,
    /// The images, if they have been read for a check and not been used yet.
    read: Mutex<Option<Splits>>,
}

impl<P: Plan> Planned<P> {
    /// Creates the folder. A shard opens it if another one of the same plan was faster.
    ///
    /// # Errors
    /// If the plan is refused, cannot be divided, or the folder is in use.
    pub fn create(
        place: &Place,
        config: &Config,
        plan: P,
        shard: Shard,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let config = &config.from_anywhere();
        let planned = |folder, read| {
            let (config, plan, read) = (config.clone(), plan.clone(), Mutex::new(read));
            Self { folder, config, plan, shard, started, read }
        };
        let check = |observer| with_threads(config.threads, || plan.check(config, observer))?;
        let path = match place {
            Place::Folder(path) if !shard.is_whole() => path,
            _ => {
                let read = check(observer)?;
                return Ok(planned(Self::begin(place, config, &plan)?, read));
            }
        };
        check_divisible(&plan, config, shard)?;
        let read = if RunFolder::open(path).is_err() { check(observer)? } else { None };
        let asked = Instant::now();
        loop {
            if RunFolder::open(path).is_ok() {
                let begun = Self::open(path)?;
                begun.check_same(config, &plan)?;
                return Ok(planned(begun.folder, read));
            }
            match Self::begin(place, config, &plan) {
                Ok(folder) => return Ok(planned(folder, read)),
                // Another shard is about to create it.
                Err(_) if path.join(LOCK).exists() && asked.elapsed() < PATIENCE => {
                    thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn begin(place: &Place, config: &Config, plan: &P) -> Result<RunFolder, Error> {
        let written = |folder: &mut RunFolder| folder.write_json(P::FILE, plan);
        Ok(RunFolder::create_locked(place, config, written)?.0)
    }

    /// Refuses another plan or configuration than the folder's; the number of threads may differ.
    fn check_same(&self, config: &Config, plan: &P) -> Result<(), Error> {
        let config = Config { threads: self.config.threads, ..config.from_anywhere() };
        let fault = |what: &str| Error::RunFolder {
            path: self.folder.path().to_owned(),
            problem: format!(
                "expected the folder of the same command, found other {what}; choose another with --out, or go on with the folder's own with \
                 --resume"
            ),
        };
        match () {
            () if self.config != config => Err(fault("settings")),
            () if record::json(&self.plan) != record::json(plan) => Err(fault("runs")),
            () => Ok(()),
        }
    }

    /// Opens the folder of an earlier run of the command.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let started = Instant::now();
        let (folder, config) = RunFolder::open(path)?;
        let plan = folder.read_json(P::FILE)?.ok_or_else(|| Error::RunFolder {
            path: path.to_owned(),
            problem: format!(
                "expected the folder of {}, found no {} in it{}",
                P::COMMAND,
                P::FILE,
                P::REMEDY
            ),
        })?;
        let (shard, read) = (Shard::WHOLE, Mutex::new(None));
        Ok(Self { folder, config, plan, shard, started, read })
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The settings that the runs share.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same with a different number of threads, if one is given.
    pub fn with_threads(mut self, threads: Option<usize>) -> Self {
        self.config.threads = threads.unwrap_or(self.config.threads);
        self
    }

    /// The same for a part of the runs.
    ///
    /// # Errors
    /// If they cannot be divided.
    pub fn with_shard(mut self, shard: Shard) -> Result<Self, Error> {
        check_divisible(&self.plan, &self.config, shard)?;
        self.shard = shard;
        Ok(self)
    }

    /// The plan.
    pub fn plan(&self) -> &P {
        &self.plan
    }

    /// Keeps others out while all of it runs. Shards keep them out of their own runs, and of the folder while they write to it.
    pub(crate) fn lock(&self) -> Result<Option<Lock>, Error> {
        if self.shard.is_whole() { self.folder.lock().map(Some) } else { Ok(None) }
    }

    /// Waits until a shard may write to the folder.
    pub(crate) fn lock_to_write(&self) -> Result<Option<Lock>, Error> {
        let asked = Instant::now();
        while !self.shard.is_whole() {
            match self.folder.lock() {
                Ok(lock) => return Ok(Some(lock)),
                Err(_) if asked.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The images of its runs.
    pub(crate) fn images(&self, observer: &mut dyn Observer) -> Result<Splits, Error> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner).take();
        let images = read.map_or_else(|| jobs::load(&self.config, observer), Ok)?;
        self.check_images(&self.config.data.source, &images)?;
        Ok(images)
    }

    /// Refuses images of a data set that are not those of the runs before, as far as numbers, classes and labels show.
    pub(crate) fn check_images(&self, data: &str, images: &Splits) -> Result<(), Error> {
        let _lock = self.lock_to_write()?;
        let mut known: BTreeMap<String, Identity> =
            self.folder.read_json(IMAGES)?.unwrap_or_default();
        let found = Identity::of(images);
        match known.get(data) {
            Some(expected) if *expected == found => Ok(()),
            Some(expected) => {
                let [expected, found] = [expected, &found].map(ToString::to_string);
                let found = if found == expected { "other labels" } else { &found };
                Err(Error::RunFolder {
                    path: self.folder.path().to_owned(),
                    problem: format!(
                        "{data}: expected the same images as in the earlier runs ({expected}), found {found}; restore them, or start again in another folder"
                    ),
                })
            }
            None => {
                known.insert(data.to_owned(), found);
                self.folder.write_json(IMAGES, &known)
            }
        }
    }

    /// The folder of one of the runs.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Refuses empty lists; each comes with a name for its items.
pub(crate) fn at_least_one<const N: usize>(lists: [(&str, bool); N]) -> Result<(), Error> {
    match lists.into_iter().find(|(_, empty)| *empty) {
        Some((what, _)) => Err(Error::Config(format!("expected at least one {what}, found none"))),
        None => Ok(()),
    }
}
