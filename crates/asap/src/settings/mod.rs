//! Presets, files and overrides in layers, and the origin of each effective value.

mod auto;
pub(crate) mod check;
pub mod config;
mod derived;
mod method;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use asap_core::Family;
use toml::{Table, Value};

use crate::error::Error;
use crate::settings::config::Config;

pub use auto::Auto;
pub(crate) use derived::{MOST_EPOCHS, usual_search_epochs};
pub use method::MethodName;

/// Named settings: changes of a preset to the paper's.
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

    /// The settings of the preset; the paper's are complete, the others change them.
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
            Error::Config(format!("unknown preset `{text}`; choose one of: {names}"))
        })
    }
}

/// The origin of an effective value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A preset.
    Preset(&'static str),
    /// The search space, which changes the preset.
    Space(&'static str),
    /// A configuration file.
    File(PathBuf),
    /// `--set` or a flag of the command line.
    CommandLine,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::Space(name) => write!(f, "space {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// Layers of settings, later ones over earlier ones: presets, the changes of the search space to them, and the
/// user's settings.
#[derive(Clone, Debug)]
pub struct Layers {
    preset: Preset,
    on_top: Vec<(Table, Origin)>,
}

/// Effective values, and the origin of each by its dotted key.
#[derive(Default)]
struct Merged {
    table: Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    /// Starts from a preset.
    pub fn preset(preset: Preset) -> Self {
        Self { preset, on_top: Vec::new() }
    }

    /// Adds a configuration file on top.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, or has a key that does not exist.
    pub fn file(&mut self, path: &Path) -> Result<(), Error> {
        let text = crate::text::read(path).map_err(Error::io("read", path))?;
        let mut table: Table =
            text.parse().map_err(|error| Error::Config(format!("{}: {error}", path.display())))?;
        let complete = self.merged().origins;
        let known = |(key, _): &(String, Value)| complete.contains_key(key);
        if let Some((key, _)) = flatten(&table).into_iter().find(|entry| !known(entry)) {
            return Err(Error::Config(format!("{}: {}", path.display(), self.unknown(&key))));
        }
        // Those in the configuration of a run were measured for its network.
        if let Some(limits) = table.get_mut("limits").and_then(Value::as_table_mut) {
            limits.remove("latency_channels");
        }
        self.on_top.push((table, Origin::File(path.to_owned())));
        Ok(())
    }

    /// Adds one `key=value` on top; the value is TOML, or taken as text.
    ///
    /// # Errors
    /// If there is no `=`, or the key does not exist.
    pub fn set(&mut self, assignment: &str) -> Result<(), Error> {
        let (key, text) = assignment.split_once('=').ok_or_else(|| {
            Error::Config(format!(
                "`--set {assignment}`: expected key=value, such as search.epochs=20"
            ))
        })?;
        let (key, text) = (key.trim(), text.trim());
        if !self.merged().origins.contains_key(key) {
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

    /// Adds one value of the command line on top.
    pub fn put(&mut self, key: &str, value: impl Into<Value>) {
        let mut table = Table::new();
        table.insert("leaf".to_owned(), value.into());
        let leaf = table.remove("leaf").expect("just inserted");
        let nested = key
            .rsplit('.')
            .fold(leaf, |value, part| Value::Table(Table::from_iter([(part.to_owned(), value)])));
        let Value::Table(table) = nested else { unreachable!("a key has at least one part") };
        self.on_top.push((table, Origin::CommandLine));
    }

    /// Names the keys that an unknown one could stand for.
    fn unknown(&self, key: &str) -> String {
        let complete = self.merged().origins;
        let keys: Vec<&str> = complete.keys().map(String::as_str).collect();
        let section: Vec<&str> = match key.split_once('.') {
            Some((section, _)) => {
                let prefix = format!("{section}.");
                keys.iter().copied().filter(|k| k.starts_with(&prefix)).collect()
            }
            None => Vec::new(),
        };
        if section.is_empty() {
            let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
            let alike: Vec<&str> = keys.into_iter().filter(|k| last(k) == last(key)).collect();
            let meant = match alike.is_empty() {
                true => String::new(),
                false => format!("; expected {}", alike.join(" or ")),
            };
            return format!("unknown key `{key}`{meant}; asap config show lists all");
        }
        format!("unknown key `{key}`; choose one of: {}", section.join(", "))
    }

    fn merged(&self) -> Merged {
        let mut merged = Merged::default();
        let presets = [Preset::Paper, self.preset];
        let presets = &presets[..if self.preset == Preset::Paper { 1 } else { 2 }];
        for preset in presets {
            let table = preset.text().parse().expect("presets are TOML");
            merged.put(table, &Origin::Preset(preset.name()));
        }
        let space = self.on_top.iter().rev().find_map(|(table, _)| table.get("space")?.as_str());
        if let Some(Ok(family)) = space.map(str::parse::<Family>)
            && let Some(text) = changes_of(family)
        {
            let mut changes: Table = text.parse().expect("what a space changes is TOML");
            for preset in presets {
                if let Some(Value::Table(table)) = changes.remove(preset.name()) {
                    merged.put(table, &Origin::Space(family.name()));
                }
            }
        }
        for (table, origin) in &self.on_top {
            merged.put(table.clone(), origin);
        }
        merged
    }

    /// The configuration that results from the layers.
    ///
    /// # Errors
    /// If a value has the wrong type or lies outside its range; the message names the key.
    pub fn resolve(&self) -> Result<Config, Error> {
        let config: Config = Value::Table(self.merged().table)
            .try_into()
            .map_err(|error: toml::de::Error| Error::Config(in_words(&error)))?;
        config.check_new()?;
        Ok(config)
    }

    /// Every key with its effective value and its origin, sorted by key.
    pub fn effective(&self) -> Vec<(String, Value, Origin)> {
        let Merged { table, origins } = self.merged();
        flatten(&table)
            .into_iter()
            .map(|(key, value)| {
                let origin = origins[&key].clone();
                (key, value, origin)
            })
            .collect()
    }
}

/// The text of an error in one line, without names of Rust's types.
fn in_words(error: &toml::de::Error) -> String {
    let text = error.to_string().trim().replace('\n', " ");
    let whole = ["usize", "u64", "u32"].into_iter().fold(text, |text, kind| {
        text.replace(&format!("expected {kind}"), "expected a whole number from 0 on")
    });
    whole
        .replace("expected f64", "expected a number")
        .replace("expected a sequence", "expected a list, such as [\"a\", \"b\"]")
}

impl Merged {
    fn put(&mut self, table: Table, origin: &Origin) {
        for (key, _) in flatten(&table) {
            self.origins.insert(key, origin.clone());
        }
        merge_tables(&mut self.table, table);
    }
}

/// The changes of a space to the presets, a table per preset.
fn changes_of(family: Family) -> Option<&'static str> {
    match family {
        Family::NasBench201 => Some(include_str!("spaces/nas-bench-201.toml")),
        _ => None,
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
