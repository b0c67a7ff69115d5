//! The folder of a run: its files, written and read back.
//!
//! Every file is replaced as a whole, so that a crash leaves the old or the new one.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::settings::config::Config;
use asap_net::files::{is_temporary, replace};
use asap_net::{DeviceName, TrainedNetwork};

use crate::error::Error;
use crate::run::record::{self, Record};
#[cfg(feature = "tensorboard")]
use crate::run::tensorboard;
use crate::settings::{Layers, Preset};

/// The resolved configuration.
pub const CONFIG: &str = "config.toml";
/// Its first line, before the version of asap that wrote it.
const HEADER: &str = "# Resolved configuration, asap ";
/// One line of JSON per epoch.
pub const EVENTS: &str = "events.jsonl";
/// The state to resume from.
pub const CHECKPOINT: &str = "checkpoint/latest.safetensors";
/// The state before that one, in case it is damaged.
pub const PREVIOUS: &str = "checkpoint/previous.safetensors";
/// A checkpoint that could not be read.
const DAMAGED: &str = "checkpoint/damaged.safetensors";
/// The found cell, as JSON.
pub const GENOTYPE_JSON: &str = "genotype.json";
/// The found cell, in the Python form.
pub const GENOTYPE_TEXT: &str = "genotype.txt";
/// The cells that a search by queries evaluated, in order, with their accuracies.
pub const EVALUATED: &str = "evaluations.json";
/// The trained network: everything that `asap predict` needs, and nothing else.
pub const WEIGHTS: &str = "weights.safetensors";
/// The trained network after its best epoch on the validation images.
pub const BEST: &str = "checkpoint/best.safetensors";
/// The result.
pub const RESULT: &str = "result.json";
/// The report page.
pub const REPORT: &str = "report.html";
/// The same events for TensorBoard, which looks for `tfevents` in names.
pub const TENSORBOARD: &str = "events.out.tfevents.asap";
/// The folder of the checkpoints.
const CHECKPOINTS: &str = "checkpoint";
/// What is written before the configuration.
const EARLY: [&str; 6] =
    [CHECKPOINTS, GENOTYPE_JSON, "run.json", "compare.json", "transfer.json", "queries.json"];
/// Locked by the process that works in the folder.
pub(crate) const LOCK: &str = ".lock";

/// The right to work in a run's folder.
#[derive(Debug)]
#[must_use = "others are kept out only as long as this lives"]
pub struct Lock(#[expect(dead_code, reason = "closing the file ends the lock")] fs::File);

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Creates a new folder, and writes the configuration into it.
    ///
    /// # Errors
    /// If it exists and is not empty, or cannot be written.
    pub fn create(path: &Path, config: &Config) -> Result<Self, Error> {
        Ok(Self::create_locked(&Place::Folder(path.to_owned()), config, |_| Ok(()))?.0)
    }

    /// The same at any place. The folder is locked before the first file is written, and the configuration is the last one: `before` writes
    /// what else a run cannot be resumed without.
    pub(crate) fn create_locked(
        place: &Place,
        config: &Config,
        before: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(Self, Lock), Error> {
        let config = &config.from_anywhere();
        let path = place.claim()?;
        let in_use = || Error::RunFolder {
            path: path.clone(),
            problem: format!(
                "expected a new or empty folder, found one in use; nothing was changed; \
                 choose another with --out, or continue that run with --resume {}",
                path.display()
            ),
        };
        if path.is_file() || !is_free(&path) {
            return Err(in_use());
        }
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        let mut folder = Self { path: path.clone() };
        let lock = folder.lock()?;
        // Another process may have been faster.
        if !is_free(&path) {
            return Err(in_use());
        }
        fs::create_dir_all(path.join(CHECKPOINTS)).map_err(Error::io("create", &path))?;
        before(&mut folder)?;
        let text = toml::to_string_pretty(config).expect("a configuration is TOML");
        let header = format!("{HEADER}{}\n", env!("CARGO_PKG_VERSION"));
        folder.write(CONFIG, (header + &text).as_bytes())?;
        Ok((folder, lock))
    }

    /// Opens the folder of an earlier run, and reads its configuration.
    ///
    /// # Errors
    /// If it is not one.
    pub fn open(path: &Path) -> Result<(Self, Config), Error> {
        let folder = Self { path: path.to_owned() };
        let file = folder.file(CONFIG);
        if let Err(error) = fs::metadata(&file) {
            let remedy = match path.join(LOCK).exists() && is_free(path) {
                true => format!(
                    "a run was broken off in it before it began: start it again with --out {}",
                    path.display()
                ),
                false => "give the folder that asap printed".to_owned(),
            };
            return Err(Error::RunFolder {
                path: path.to_owned(),
                problem: format!(
                    "expected the folder of a run, with a readable {CONFIG} ({error}); {remedy}"
                ),
            });
        }
        let own = env!("CARGO_PKG_VERSION");
        let fault = |problem: String| Error::RunFolder {
            path: file.clone(),
            problem: format!(
                "expected the configuration of a run of asap {own} or older: {problem}"
            ),
        };
        let text = fs::read_to_string(&file).map_err(|error| fault(error.to_string()))?;
        if let Some(later) = later_version(&text, own) {
            return Err(fault(format!(
                "found that of asap {later}; use that version, or a later one"
            )));
        }
        // Says which keys there are, if one is unknown.
        let mut layers = Layers::preset(Preset::Paper);
        layers.file(&file).map_err(|error| fault(error.to_string()))?;
        // Keys that an older version did not write yet have a default that changes nothing; any other missing key is an error.
        let config: Config = toml::from_str(&text).map_err(|error| {
            let message = error.message().to_owned();
            fault(format!("{message}; restore the file, or start a new run"))
        })?;
        config.check().map_err(|error| fault(error.to_string()))?;
        Ok((folder, config))
    }

    /// Keeps other processes out of the folder until the lock is dropped, or the process ends.
    ///
    /// # Errors
    /// If another process works in it.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.file(LOCK);
        let file = fs::File::create(&path).map_err(Error::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => {
                self.remove_temporaries();
                Ok(Lock(file))
            }
            Err(fs::TryLockError::WouldBlock) => Err(Error::RunFolder {
                path: self.path.clone(),
                problem: "expected a folder of its own for each run, found another asap process working in it; \
                          wait until it ends, or choose another folder with --out"
                    .to_owned(),
            }),
            // A file system without locks keeps nobody out.
            Err(fs::TryLockError::Error(_)) => Ok(Lock(file)),
        }
    }

    /// Removes the temporary files of a process that was killed while it wrote.
    fn remove_temporaries(&self) {
        for folder in [self.path.clone(), self.path.join(CHECKPOINTS)] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| is_temporary(&entry.file_name())) {
                // What cannot be removed does no harm.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Renames a checkpoint that cannot be used.
    pub(crate) fn set_damaged_aside(&self) -> Result<(), Error> {
        let (latest, aside) = (self.file(CHECKPOINT), self.file(DAMAGED));
        match fs::rename(&latest, aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("rename", &latest)(error))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the checkpoint under a second name before another one takes its place.
    pub(crate) fn keep_previous(&self) -> Result<(), Error> {
        let (latest, previous) = (self.file(CHECKPOINT), self.file(PREVIOUS));
        if !latest.exists() {
            return Ok(());
        }
        let keep = || {
            match fs::remove_file(&previous) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // A second name costs nothing; file systems without them get a copy.
            fs::hard_link(&latest, &previous).or_else(|_| fs::copy(&latest, &previous).map(drop))
        };
        keep().map_err(Error::io("write", &previous))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Replaces a file as a whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        Ok(replace(&self.file(name), bytes)?)
    }

    /// Replaces a JSON file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        self.write(name, &record::json(value))
    }

    /// Reads a JSON file, if it exists.
    ///
    /// # Errors
    /// If it exists but cannot be read.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::RunFolder {
            path: self.file(name),
            problem: format!("expected JSON of asap {}: {error}", env!("CARGO_PKG_VERSION")),
        })
    }

    /// Appends an event: a line of JSON, and the same for TensorBoard.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append_event(&self, event: &dyn Record) -> Result<(), Error> {
        self.append(EVENTS, (event.json() + "\n").as_bytes())?;
        #[cfg(feature = "tensorboard")]
        self.append_tensorboard(&tensorboard::scalars(event))?;
        Ok(())
    }

    /// Shows a Markdown text in TensorBoard.
    #[cfg_attr(not(feature = "tensorboard"), expect(unused_variables, clippy::unused_self))]
    pub(crate) fn append_text(&self, name: &str, markdown: &str) -> Result<(), Error> {
        #[cfg(feature = "tensorboard")]
        self.append_tensorboard(&tensorboard::text(name, markdown))?;
        Ok(())
    }

    /// Shows a picture, a PNG of this many pixels, in TensorBoard.
    #[cfg(feature = "report")]
    #[cfg_attr(not(feature = "tensorboard"), expect(unused_variables, clippy::unused_self))]
    pub(crate) fn append_picture(
        &self,
        name: &str,
        png: Vec<u8>,
        size: [u32; 2],
    ) -> Result<(), Error> {
        #[cfg(feature = "tensorboard")]
        self.append_tensorboard(&tensorboard::image(name, png, size))?;
        Ok(())
    }

    #[cfg(feature = "tensorboard")]
    fn append_tensorboard(&self, record: &[u8]) -> Result<(), Error> {
        if !self.file(TENSORBOARD).exists() {
            self.append(TENSORBOARD, &tensorboard::header())?;
        }
        self.append(TENSORBOARD, record)
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.file(name);
        let append = || {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        append().map_err(Error::io("append to", &path))
    }

    /// Reads the events; an incomplete last line, left by a crash, is skipped.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn events<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        Ok(self.read(EVENTS)?.map_or_else(Vec::new, |bytes| record::records(&bytes)))
    }

    /// Reads a file, if it exists.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }
}

/// The place of a new run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A new or empty folder.
    Folder(PathBuf),
    /// The first free `<parent>/<name>-N`, N counting from 1.
    Next {
        /// The folder of all runs.
        parent: PathBuf,
        /// The name before the number.
        name: String,
    },
}

impl Place {
    /// The path of the folder. A numbered one is created here, so that no other process gets the same.
    fn claim(&self) -> Result<PathBuf, Error> {
        let (parent, name) = match self {
            Self::Folder(path) => return Ok(path.clone()),
            Self::Next { parent, name } => (parent, name),
        };
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        for number in 1_u64.. {
            let path = parent.join(format!("{name}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        }
        unreachable!("numbers do not run out")
    }
}

/// The version in the header of a configuration, if it is later than `own`.
fn later_version<'a>(config: &'a str, own: &str) -> Option<&'a str> {
    let found = config.lines().next()?.strip_prefix(HEADER)?.trim();
    let numbers = |version: &str| -> Vec<u64> {
        version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
    };
    (numbers(found) > numbers(own)).then_some(found)
}

/// True if a folder does not exist or is empty, or if a run was broken off in it before its configuration was written.
fn is_free(path: &Path) -> bool {
    let names = |path: &Path| -> Vec<OsString> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect()
    };
    let found = names(path);
    let begun = found.iter().any(|name| name == LOCK);
    found.iter().all(|name| {
        let early = EARLY.iter().any(|early| name == early) || is_temporary(name);
        let holds_nothing = || names(&path.join(CHECKPOINTS)).iter().all(|name| is_temporary(name));
        name == LOCK || (begun && early && (name != CHECKPOINTS || holds_nothing()))
    })
}

/// Opens the network of a finished training (or of an `asap run`), or a file with one.
///
/// # Errors
/// If there is none, or it is damaged.
pub fn open_trained(path: &Path, device: DeviceName) -> Result<TrainedNetwork, Error> {
    Ok(TrainedNetwork::open(&weights_file(path)?, device)?)
}

/// The configuration with which the network at a path was trained: that of the folder of its file, if it is one of a run.
///
/// # Errors
/// If there is one that cannot be read.
pub fn config_of(path: &Path) -> Result<Option<Config>, Error> {
    let file = weights_file(path)?;
    let folders = file.ancestors().skip(1).take(2);
    let is_ours = |folder: &&Path| {
        fs::read_to_string(folder.join(CONFIG)).is_ok_and(|text| text.starts_with(HEADER))
    };
    let found = folders.into_iter().find(is_ours);
    found.map(|folder| RunFolder::open(folder).map(|(_, config)| config)).transpose()
}

/// The files of this name in the folders among some entries, sorted.
fn inside(entries: fs::ReadDir, name: &str) -> Vec<PathBuf> {
    let files = entries.filter_map(|entry| Some(entry.ok()?.path().join(name)));
    let mut files: Vec<PathBuf> = files.filter(|file| file.is_file()).collect();
    files.sort();
    files
}

/// The files of the cells that the searches of `asap run` found, in the folder of that.
pub fn cells_found(path: &Path) -> Vec<PathBuf> {
    // The file of the text is in the folders of searches only.
    let texts = fs::read_dir(path).map_or_else(|_| Vec::new(), |all| inside(all, GENOTYPE_TEXT));
    let cells = texts.iter().map(|text| text.with_file_name(GENOTYPE_JSON));
    cells.filter(|cell| cell.is_file()).collect()
}

/// The file of the trained network at a path.
fn weights_file(path: &Path) -> Result<PathBuf, Error> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let fault = |problem: String| Error::RunFolder { path: path.to_owned(), problem };
    let direct = path.join(WEIGHTS);
    if direct.is_file() {
        return Ok(direct);
    }
    let entries = fs::read_dir(path).map_err(|error| {
        fault(format!("expected the folder of a finished training, or its {WEIGHTS} ({error})"))
    })?;
    let mut inside = inside(entries, WEIGHTS);
    match inside.len() {
        1 => Ok(inside.remove(0)),
        0 if path.join(GENOTYPE_TEXT).is_file() => Err(fault(format!(
            "expected the folder of a finished training, found that of a search; train its cell first: asap train --cell {}",
            path.display()
        ))),
        0 => Err(fault(format!(
            "expected the folder of a finished training, found no {WEIGHTS} in it; \
             finish it with --resume, or train a cell with asap train"
        ))),
        _ => {
            let choices: Vec<String> = inside.iter().map(|p| p.display().to_string()).collect();
            Err(fault(format!(
                "expected one trained network; choose one of: {}",
                choices.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of these entries; names that end in `/` are folders.
    fn folder(entries: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for entry in entries {
            let path = folder.path().join(entry);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match entry.ends_with('/') {
                true => fs::create_dir_all(path).unwrap(),
                false => fs::write(path, "{}").unwrap(),
            }
        }
        folder
    }

    #[test]
    fn a_run_broken_off_before_its_configuration_leaves_its_folder_free() {
        let of_a_run = [LOCK, "checkpoint/.asap-1.tmp", ".asap-2.tmp", "run.json", GENOTYPE_JSON];
        for count in 0..=of_a_run.len() {
            let folder = folder(&of_a_run[..count]);
            assert!(is_free(folder.path()), "{:?}", &of_a_run[..count]);
        }
        let others: [&[&str]; 6] = [
            &["genotype.json"],
            &["checkpoint/"],
            &["notes.txt", LOCK],
            &[LOCK, CONFIG],
            &[LOCK, CHECKPOINT],
            &[LOCK, RESULT],
        ];
        for entries in others {
            assert!(!is_free(folder(entries).path()), "{entries:?}");
        }
        let error = RunFolder::open(folder(&of_a_run).path()).unwrap_err().to_string();
        assert!(error.contains("broken off in it before it began: start it again"), "{error}");
    }

    #[test]
    fn temporary_files_of_a_killed_process_go_once_the_folder_is_locked() {
        let folder = folder(&["checkpoint/.asap-1.tmp", ".asap-2.tmp", "my.tmp"]);
        let _lock = RunFolder { path: folder.path().to_owned() }.lock().unwrap();
        assert!(!folder.path().join("checkpoint/.asap-1.tmp").exists());
        assert!(!folder.path().join(".asap-2.tmp").exists());
        assert!(folder.path().join("my.tmp").exists(), "not ours");
    }
}
