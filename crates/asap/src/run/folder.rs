//! The folder of a run: what is written, when, and how it is read back.
//!
//! Every file is replaced as a whole, so that a crash leaves the old or the new one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::settings::config::Config;
use asap_net::files::replace;
use asap_net::{DeviceName, TrainedNetwork};

use crate::error::Error;
use crate::report::picture::Picture;
use crate::run::record::Curves;
use crate::run::tensorboard;
use crate::settings::{Layers, Preset};

/// The resolved configuration.
pub const CONFIG: &str = "config.toml";
/// One line of JSON an epoch.
pub const EVENTS: &str = "events.jsonl";
/// The state to resume from.
pub const CHECKPOINT: &str = "checkpoint/latest.safetensors";
/// The found cell, as JSON.
pub const GENOTYPE_JSON: &str = "genotype.json";
/// The found cell, in the Python form.
pub const GENOTYPE_TEXT: &str = "genotype.txt";
/// The trained network: what `asap predict` needs, and nothing else.
pub const WEIGHTS: &str = "weights.safetensors";
/// The trained network as it was after its best epoch on the validation images.
pub const BEST: &str = "checkpoint/best.safetensors";
/// What came out.
pub const RESULT: &str = "result.json";
/// The page to look at.
pub const REPORT: &str = "report.html";
/// The same events for TensorBoard, which looks for `tfevents` in names.
pub const TENSORBOARD: &str = "events.out.tfevents.asap";
/// Locked by the process that works in the folder.
const LOCK: &str = ".lock";

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
    /// Makes a new folder, and writes the configuration into it.
    ///
    /// # Errors
    /// When it exists with anything in it, or cannot be written.
    pub fn create(path: &Path, config: &Config) -> Result<Self, Error> {
        if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) || path.is_file() {
            return Err(Error::RunFolder {
                path: path.to_owned(),
                problem: format!(
                    "expected a new or empty folder, found one in use; nothing was changed; \
                     choose another with --out, or continue that run with --resume {}",
                    path.display()
                ),
            });
        }
        fs::create_dir_all(path.join("checkpoint")).map_err(Error::io("create", path))?;
        let folder = Self { path: path.to_owned() };
        let text = toml::to_string_pretty(config).expect("a configuration is TOML");
        let header = format!("# Resolved configuration, asap {}\n", env!("CARGO_PKG_VERSION"));
        folder.write(CONFIG, (header + &text).as_bytes())?;
        Ok(folder)
    }

    /// Opens the folder of an earlier run, and reads its configuration.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(path: &Path) -> Result<(Self, Config), Error> {
        let folder = Self { path: path.to_owned() };
        let file = folder.file(CONFIG);
        if let Err(error) = fs::metadata(&file) {
            return Err(Error::RunFolder {
                path: path.to_owned(),
                problem: format!(
                    "expected the folder of a run, with a {CONFIG} that can be read ({error}); \
                     give the folder that asap printed"
                ),
            });
        }
        // What an older version did not write yet is the paper's.
        let mut layers = Layers::preset(Preset::Paper);
        let config = layers.file(&file).and_then(|()| layers.resolve());
        let config = config.map_err(|error| Error::RunFolder {
            path: file,
            problem: format!(
                "expected the configuration of a run of asap {} or older: {error}",
                env!("CARGO_PKG_VERSION")
            ),
        })?;
        Ok((folder, config))
    }

    /// Keeps other processes from working in the folder until the lock is dropped, or the process ends.
    ///
    /// # Errors
    /// When another process works in it.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.file(LOCK);
        let file = fs::File::create(&path).map_err(Error::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(fs::TryLockError::WouldBlock) => Err(Error::RunFolder {
                path: self.path.clone(),
                problem: "expected a folder of its own for each run, found another asap process at work in \
                          it; wait for its end, or choose another folder with --out"
                    .to_owned(),
            }),
            // A file system without locks keeps nobody out.
            Err(fs::TryLockError::Error(_)) => Ok(Lock(file)),
        }
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
    /// When the disk refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        Ok(replace(&self.file(name), bytes)?)
    }

    /// Replaces a JSON file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let mut text = serde_json::to_vec_pretty(value).expect("plain data is JSON");
        text.push(b'\n');
        self.write(name, &text)
    }

    /// Reads a JSON file, if it is there.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.file(name);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::RunFolder {
            path,
            problem: format!("expected JSON of asap {}: {error}", env!("CARGO_PKG_VERSION")),
        })
    }

    /// Appends an event: a line of JSON, and the same for TensorBoard.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append_event(&self, event: &(impl Serialize + Curves)) -> Result<(), Error> {
        let mut line = serde_json::to_string(event).expect("plain data is JSON");
        line.push('\n');
        self.append(EVENTS, line.as_bytes())?;
        self.append_tensorboard(&tensorboard::scalars(event))
    }

    /// Shows a text, in Markdown, in TensorBoard.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append_text(&self, name: &str, markdown: &str) -> Result<(), Error> {
        self.append_tensorboard(&tensorboard::text(name, markdown))
    }

    /// Shows a picture in TensorBoard.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append_picture(&self, name: &str, picture: Picture) -> Result<(), Error> {
        self.append_tensorboard(&tensorboard::image(name, picture))
    }

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

    /// Reads the events; a line that a crash cut short at the end is left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn events<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        let path = self.file(EVENTS);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Drops events, when a resumed run goes back to its checkpoint.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn retain_events<T: Serialize + DeserializeOwned + Curves>(
        &self,
        keep: impl FnMut(&T) -> bool,
    ) -> Result<(), Error> {
        let mut events: Vec<T> = self.events()?;
        events.retain(keep);
        let lines = events.iter().map(|e| serde_json::to_string(e).expect("plain data is JSON"));
        let text: String = lines.map(|line| line + "\n").collect();
        self.write(EVENTS, text.as_bytes())?;
        let mut records = tensorboard::header();
        events.iter().for_each(|event| records.extend(tensorboard::scalars(event)));
        self.write(TENSORBOARD, &records)
    }
}

/// The first free `<parent>/<name>-N`, N counting from 1.
pub fn next_free(parent: &Path, name: &str) -> PathBuf {
    (1..)
        .map(|n| parent.join(format!("{name}-{n}")))
        .find(|path| !path.exists())
        .expect("numbers do not run out")
}

/// Opens the network of a finished training (or of an `asap run`), or a file of one.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn open_trained(path: &Path, device: DeviceName) -> Result<TrainedNetwork, Error> {
    Ok(TrainedNetwork::open(&weights_file(path)?, device)?)
}

/// The file of a trained network that a path stands for.
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
        fault(format!(
            "expected the folder of a finished training, or the {WEIGHTS} of one ({error})"
        ))
    })?;
    let mut inside: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().join(WEIGHTS)))
        .filter(|file| file.is_file())
        .collect();
    inside.sort();
    match inside.len() {
        1 => Ok(inside.remove(0)),
        0 => Err(fault(format!(
            "expected the folder of a finished training, found no {WEIGHTS} in it; \
             finish it with --resume, or train a cell with asap train"
        ))),
        _ => {
            let choices: Vec<String> = inside.iter().map(|p| p.display().to_string()).collect();
            Err(fault(format!(
                "expected one trained network; choose one of {}",
                choices.join(", ")
            )))
        }
    }
}
