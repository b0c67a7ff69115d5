//! Tables of true accuracies: benchmarks in which every cell of a space, or a sample of it, was trained to the end, such as
//! NAS-Bench-201. A search is judged by looking up the cell that it found.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use asap_core::{Genotype, NetworkShape, SearchSpace, evaluation_cost};
use flate2::read::MultiGzDecoder;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The first bytes of a gzip file.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// Largest size of a table in bytes, decompressed; that of NAS-Bench-201 has one megabyte.
const LIMIT: u64 = 1 << 30;
/// Number of draws from which [`Tabular::chance_of_mean`] is estimated.
const DRAWS: usize = 20_000;

/// The accuracies of the cells of a space.
#[derive(Clone, Debug)]
pub struct Tabular {
    column: String,
    /// From the least to the most accurate.
    entries: Vec<Entry>,
    /// Positions in `entries`.
    positions: HashMap<Genotype, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    accuracy: f64,
    multiply_adds: u64,
}

/// The place of a cell among those of the table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Standing {
    /// Accuracy according to the table, from 0 to 1.
    pub accuracy: f64,
    /// Fraction of the cells that are less accurate.
    pub percentile: f64,
    /// The same among the cells of no more multiply-adds.
    pub percentile_of_cost: f64,
    /// Fraction of the cells that are at least as accurate: the chance of doing as well with a random cell.
    pub chance: f64,
    /// Multiply-adds of the cell's network.
    pub multiply_adds: u64,
}

/// The text of a table, decompressed.
fn text(path: &Path) -> Result<Vec<u8>, Error> {
    let read = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let text = fs::read(path).map_err(read)?;
    if !text.starts_with(GZIP) {
        return Ok(text);
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(text.as_slice()).take(LIMIT).read_to_end(&mut plain).map_err(read)?;
    if plain.len() as u64 == LIMIT {
        return Err(fault(path, &format!("expected less than {} MiB, decompressed", LIMIT >> 20)));
    }
    Ok(plain)
}

fn fault(path: &Path, problem: &str) -> Error {
    Error::Config(format!("table {}: {problem}", path.display()))
}

impl Tabular {
    /// Reads a table in CSV, compressed by gzip or not: a line of headings, a column `cell` with genotypes in the notation
    /// of their space, and columns of accuracies in percent. Without a `column`, the first of these.
    ///
    /// Only cells of `space` are kept, so that chance is chance in the space that is searched. `shape` is the network whose
    /// multiply-adds are compared.
    ///
    /// # Errors
    /// If the file cannot be read, if a line is not a cell with its accuracy, if a cell appears twice, or if none is of the
    /// space.
    pub fn read(
        path: &Path,
        column: Option<&str>,
        space: &SearchSpace,
        shape: &NetworkShape,
    ) -> Result<Self, Error> {
        Self::parse(&text(path)?, column, space, shape).map_err(|problem| fault(path, &problem))
    }

    /// The columns of a table, `cell` aside.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn columns(path: &Path) -> Result<Vec<String>, Error> {
        let text = text(path)?;
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let headings = reader.headers().map_err(|error| fault(path, &error.to_string()))?;
        let names = headings.iter().filter(|name| *name != "cell");
        Ok(names.map(str::to_owned).collect())
    }

    fn parse(
        text: &[u8],
        column: Option<&str>,
        space: &SearchSpace,
        shape: &NetworkShape,
    ) -> Result<Self, String> {
        let mut reader = csv::Reader::from_reader(text);
        let headings = reader.headers().map_err(|error| error.to_string())?.clone();
        let names: Vec<&str> = headings.iter().collect();
        let cell = names.iter().position(|name| *name == "cell").ok_or_else(|| {
            format!("expected a column `cell` in the first line, found {}", names.join(", "))
        })?;
        let accuracies = || names.iter().copied().enumerate().filter(|&(place, _)| place != cell);
        let (place, column) = match column {
            Some(wanted) => accuracies().find(|&(_, name)| name == wanted).ok_or_else(|| {
                let known: Vec<_> = accuracies().map(|(_, name)| name).collect();
                format!("no column `{wanted}`; choose one of: {}", known.join(", "))
            })?,
            None => accuracies().next().ok_or("expected a column of accuracies beside `cell`")?,
        };
        let mut known: HashMap<Genotype, Entry> = HashMap::new();
        let mut foreign = None;
        for record in reader.records() {
            let record = record.map_err(|error| error.to_string())?;
            let line = record.position().map_or(0, csv::Position::line);
            let genotype: Genotype =
                record[cell].parse().map_err(|error| format!("line {line}: {error}"))?;
            let accuracy: f64 = record[place].parse().unwrap_or(f64::NAN);
            if !(0.0..=100.0).contains(&accuracy) {
                return Err(format!(
                    "line {line}: expected an accuracy in percent in column `{column}`, found `{}`",
                    &record[place]
                ));
            }
            if space.one_hot(&genotype).is_err() {
                foreign = Some(genotype);
                continue;
            }
            let cost = evaluation_cost(&genotype, shape).map_err(|error| error.to_string())?;
            let entry = Entry { accuracy: accuracy / 100.0, multiply_adds: cost.multiply_adds };
            if known.insert(genotype, entry).is_some() {
                return Err(format!(
                    "line {line}: expected each cell once, found {} again",
                    &record[cell]
                ));
            }
        }
        if known.is_empty() {
            let found = match foreign.map(|cell| cell.family()) {
                None => "no cell".to_owned(),
                Some(family) if family == space.family => "only cells of others".to_owned(),
                Some(family) => format!("cells of {family} (`--space {family}`)"),
            };
            return Err(format!(
                "expected cells of {} with the candidates {}, found {found}",
                space.family,
                space.candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ));
        }
        let mut sorted: Vec<_> = known.into_iter().collect();
        sorted.sort_by(|(_, a), (_, b)| a.accuracy.total_cmp(&b.accuracy));
        let entries = sorted.iter().map(|(_, entry)| *entry).collect();
        let positions = sorted.into_iter().enumerate().map(|(i, (cell, _))| (cell, i)).collect();
        Ok(Self { column: column.to_owned(), entries, positions })
    }

    /// The column of the accuracies.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// Number of cells.
    #[allow(clippy::len_without_is_empty, reason = "a table is never empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The accuracy of a cell, from 0 to 1; `None` if the table does not have it.
    pub fn accuracy(&self, genotype: &Genotype) -> Option<f64> {
        Some(self.entries[*self.positions.get(genotype)?].accuracy)
    }

    /// The place of a cell; `None` if the table does not have it.
    pub fn standing(&self, genotype: &Genotype) -> Option<Standing> {
        let Entry { accuracy, multiply_adds } = self.entries[*self.positions.get(genotype)?];
        let below = |of: &mut dyn Iterator<Item = &Entry>| {
            let (mut less, mut all) = (0, 0);
            of.for_each(|entry| {
                (less, all) = (less + usize::from(entry.accuracy < accuracy), all + 1)
            });
            less as f64 / all as f64
        };
        let percentile = below(&mut self.entries.iter());
        let affordable = |entry: &&Entry| entry.multiply_adds <= multiply_adds;
        Some(Standing {
            accuracy,
            percentile,
            percentile_of_cost: below(&mut self.entries.iter().filter(affordable)),
            chance: 1.0 - percentile,
            multiply_adds,
        })
    }

    /// The chance that the mean accuracy of `count` random cells is at least `mean`, estimated from 20,000 draws; never below 1 in 20,001.
    pub fn chance_of_mean(&self, mean: f64, count: usize) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut draw = || self.entries[random.random_range(0..self.entries.len())].accuracy;
        let reached = (0..DRAWS)
            .filter(|_| (0..count).map(|_| draw()).sum::<f64>() / count as f64 >= mean - 1e-9)
            .count();
        (reached + 1) as f64 / (DRAWS + 1) as f64
    }

    /// Mean accuracy of a random cell.
    pub fn mean(&self) -> f64 {
        self.entries.iter().map(|entry| entry.accuracy).sum::<f64>() / self.entries.len() as f64
    }
}
