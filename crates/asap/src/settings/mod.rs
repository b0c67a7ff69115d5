//! Presets, files and overrides in layers, and where each effective value came from.

pub mod config;
mod method;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::error::Error;
use crate::settings::config::Config;

pub use method::MethodName;

/// Named settings: what a preset changes on top of the paper's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The paper's search (8 cells, C = 16, 50 epochs) and training (20 cells, C = 36, 1500 epochs).
    Paper,
    /// The paper's search, and the plain training of the published DARTS code (600 epochs).
    Darts,
    /// An hour and some minutes on two cores for 60,000 small images.
    Hour,
    /// A small network on few images that ends in minutes on two cores.
    Quick,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 4] = [Self::Paper, Self::Darts, Self::Hour, Self::Quick];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Darts => "darts",
            Self::Hour => "hour",
            Self::Quick => "quick",
        }
    }

    /// What the preset sets; the paper's is complete, the others change it.
    fn text(self) -> &'static str {
        match self {
            Self::Paper => include_str!("presets/paper.toml"),
            Self::Darts => include_str!("presets/darts.toml"),
            Self::Hour => include_str!("presets/hour.toml"),
            Self::Quick => include_str!("presets/quick.toml"),
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::Config(format!("unknown preset `{text}`; choose one of {names}"))
        })
    }
}

/// Where an effective value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A preset.
    Preset(&'static str),
    /// A configuration file.
    File(PathBuf),
    /// `--set` or a flag of the command line.
    CommandLine,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// Layers of settings, later ones over earlier ones.
#[derive(Clone, Debug)]
pub struct Layers {
    table: Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    /// Starts from a preset.
    pub fn preset(preset: Preset) -> Self {
        let mut layers = Self { table: Table::new(), origins: BTreeMap::new() };
        let mut stack = vec![Preset::Paper];
        if preset != Preset::Paper {
            stack.push(preset);
        }
        for preset in stack {
            let table = preset.text().parse().expect("presets are TOML");
            layers.merge(table, &Origin::Preset(preset.name()));
        }
        layers
    }

    /// Puts a configuration file on top.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or has a key that does not exist.
    pub fn file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let table: Table =
            text.parse().map_err(|error| Error::Config(format!("{}: {error}", path.display())))?;
        let known = |(key, _): &(String, Value)| self.origins.contains_key(key);
        if let Some((key, _)) = flatten(&table).into_iter().find(|entry| !known(entry)) {
            return Err(Error::Config(format!("{}: {}", path.display(), self.unknown(&key))));
        }
        self.merge(table, &Origin::File(path.to_owned()));
        Ok(())
    }

    /// Puts one `key=value` on top; the value is TOML, or taken as text.
    ///
    /// # Errors
    /// When there is no `=`, or the key does not exist.
    pub fn set(&mut self, assignment: &str) -> Result<(), Error> {
        let (key, text) = assignment.split_once('=').ok_or_else(|| {
            Error::Config(format!(
                "`--set {assignment}`: expected key=value, such as search.epochs=20"
            ))
        })?;
        let (key, text) = (key.trim(), text.trim());
        if !self.origins.contains_key(key) {
            return Err(Error::Config(self.unknown(key)));
        }
        let value = format!("value = {text}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(text.to_owned()));
        self.put(key, value);
        Ok(())
    }

    /// Puts one value of the command line on top.
    pub fn put(&mut self, key: &str, value: impl Into<Value>) {
        let mut table = Table::new();
        table.insert("leaf".to_owned(), value.into());
        let leaf = table.remove("leaf").expect("just inserted");
        let nested = key
            .rsplit('.')
            .fold(leaf, |value, part| Value::Table(Table::from_iter([(part.to_owned(), value)])));
        let Value::Table(table) = nested else { unreachable!("a key has at least one part") };
        self.merge(table, &Origin::CommandLine);
    }

    /// Names the keys that could be meant by one that does not exist.
    fn unknown(&self, key: &str) -> String {
        let keys: Vec<&str> = self.origins.keys().map(String::as_str).collect();
        let section: Vec<&str> = match key.split_once('.') {
            Some((section, _)) => {
                let prefix = format!("{section}.");
                keys.iter().copied().filter(|k| k.starts_with(&prefix)).collect()
            }
            None => Vec::new(),
        };
        let choices = if section.is_empty() { keys } else { section };
        format!("unknown key `{key}`; choose one of {}", choices.join(", "))
    }

    fn merge(&mut self, table: Table, origin: &Origin) {
        for (key, _) in flatten(&table) {
            self.origins.insert(key, origin.clone());
        }
        merge_tables(&mut self.table, table);
    }

    /// The configuration that the layers give.
    ///
    /// # Errors
    /// When a value has the wrong type or lies outside its range; the message names the key.
    pub fn resolve(&self) -> Result<Config, Error> {
        let config: Config = Value::Table(self.table.clone())
            .try_into()
            .map_err(|error: toml::de::Error| Error::Config(error.to_string().trim().to_owned()))?;
        config.check()?;
        Ok(config)
    }

    /// Every key with its effective value and where it came from, sorted by key.
    pub fn effective(&self) -> Vec<(String, Value, Origin)> {
        flatten(&self.table)
            .into_iter()
            .map(|(key, value)| {
                let origin = self.origins[&key].clone();
                (key, value, origin)
            })
            .collect()
    }
}

fn merge_tables(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge_tables(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn flatten(table: &Table) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                flat.extend(flatten(inner).into_iter().map(|(k, v)| (format!("{key}.{k}"), v)));
            }
            value => flat.push((key.clone(), value.clone())),
        }
    }
    flat.sort_by(|a, b| a.0.cmp(&b.0));
    flat
}
