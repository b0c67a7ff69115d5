//! Searches that ask a table of true accuracies, without images: hundreds of seeds of each in seconds or minutes, and how they compare with
//! random search.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use asap_core::Genotype;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::jobs::compare::TableFile;
use crate::jobs::planned::at_least_one;
#[cfg(feature = "report")]
use crate::report;
use crate::run::folder::{Place, RESULT, RunFolder};
use crate::run::record::{Event, Observer};
use crate::run::spread::{Spread, permutation};
use crate::run::tables::{Found, QueryRow, QueryTable, TabularSummary};
use crate::run::threads::with_threads;
use crate::search::method::query;
use crate::settings::MethodName;
use crate::settings::config::Config;
use crate::tabular::Tabular;

/// The file with the plan, in the folder.
pub(crate) const FILE: &str = "queries.json";

/// The methods to compare on a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Their names; each queries.
    pub methods: Vec<MethodName>,
    /// The seeds of each.
    pub seeds: Vec<u64>,
    /// Cells that each search may ask for.
    pub evaluations: usize,
    /// The file.
    pub table: PathBuf,
    /// The column by which the cells found are judged; the first if none is given.
    pub judge: Option<String>,
    /// The column that the searches see; the first that begins with `validation`, or that of the judge, if none is given.
    pub ask: Option<String>,
}

/// What one search found, with the judged accuracy of the best cell so far after each evaluation.
struct Searched {
    found: Found,
    curve: Vec<f64>,
}

/// Both columns of a table.
struct Columns {
    judge: Tabular,
    ask: Tabular,
}

impl Plan {
    fn check(&self) -> Result<(), Error> {
        if let Some(method) = self.methods.iter().find(|method| !method.queries()) {
            let known = MethodName::ALL.into_iter().filter(|method| method.queries());
            let known = known.map(MethodName::name).collect::<Vec<_>>().join(", ");
            return Err(Error::Config(format!(
                "--evaluations: {method} trains a search network on images; expected methods that ask for accuracies: {known}"
            )));
        }
        at_least_one([("method", self.methods.is_empty()), ("seed", self.seeds.is_empty())])?;
        if self.evaluations == 0 {
            return Err(Error::Config("--evaluations: expected at least 1, found 0".to_owned()));
        }
        Ok(())
    }

    fn columns(&self, config: &Config) -> Result<Columns, Error> {
        let read = |column: Option<&String>| {
            TableFile { path: self.table.clone(), column: column.cloned() }.read(config)
        };
        let columns = Tabular::columns(&self.table)?;
        let validation = columns.iter().find(|column| column.starts_with("validation"));
        let judge = self.judge.as_ref();
        let ask = self.ask.as_ref().or(validation).or(judge);
        Ok(Columns { judge: read(judge)?, ask: read(ask)? })
    }

    /// Runs all searches, and writes the table.
    ///
    /// # Errors
    /// If a method needs images, if the table cannot be read or does not have a cell that a search asks for, or if it was stopped.
    pub fn run(
        &self,
        place: &Place,
        config: &Config,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<(RunFolder, QueryTable), Error> {
        self.check()?;
        with_threads(config.threads, || {
            let columns = self.columns(config)?;
            let mut searched = Vec::new();
            for &method in &self.methods {
                observer.on_event(Event::Begin(&format!("{method}, {} seeds", self.seeds.len())));
                let of_seed = |&seed: &u64| self.search(method, seed, config, &columns, stop);
                searched.push(self.seeds.par_iter().map(of_seed).collect::<Result<Vec<_>, _>>()?);
            }
            let table = self.table(&columns, &searched);
            let (folder, _lock) =
                RunFolder::create_locked(place, config, |folder| folder.write_json(FILE, self))?;
            #[cfg(feature = "report")]
            report::write_queries(&folder, config, &table)?;
            folder.write_json(RESULT, &table)?;
            Ok((folder, table))
        })?
    }

    fn search(
        &self,
        method: MethodName,
        seed: u64,
        config: &Config,
        columns: &Columns,
        stop: &AtomicBool,
    ) -> Result<Searched, Error> {
        let config = Config { seed, ..config.clone() };
        let mut query = query(method, &config, &config.space()?, self.evaluations)?;
        let accuracy = |table: &Tabular, cell: &Genotype| {
            table.accuracy(cell).ok_or_else(|| {
                Error::Config(format!(
                    "table {}: expected every cell of the space, found none of {cell}; tables of some cells only serve --table without --evaluations",
                    self.table.display()
                ))
            })
        };
        let mut curve = Vec::with_capacity(self.evaluations);
        let (mut best, mut judged) = (f64::NEG_INFINITY, 0.0);
        for _ in 0..self.evaluations {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Run("stopped before the end; nothing was written".to_owned()));
            }
            let cell = query.ask();
            let asked = accuracy(&columns.ask, &cell)?;
            query.tell(&cell, asked)?;
            if asked > best {
                (best, judged) = (asked, accuracy(&columns.judge, &cell)?);
            }
            curve.push(judged);
        }
        let (genotype, asked) = query.best().expect("at least one cell was asked for");
        let genotype = genotype.clone();
        Ok(Searched { found: Found { seed, genotype, accuracy: judged, asked }, curve })
    }

    fn table(&self, columns: &Columns, searched: &[Vec<Searched>]) -> QueryTable {
        let accuracies = |searched: &[Searched]| -> Vec<f64> {
            searched.iter().map(|one| one.found.accuracy).collect()
        };
        let all = self.methods.iter().zip(searched);
        let random = all.clone().find(|(method, _)| **method == MethodName::Random);
        let random = random.map(|(_, searched)| accuracies(searched));
        let rows = all.map(|(&method, searched)| {
            let spread = |read: &dyn Fn(&Searched) -> f64| {
                let values: Vec<f64> = searched.iter().map(read).collect();
                Spread::of(&values).expect("there is a seed")
            };
            let own = accuracies(searched);
            let percentile = |one: &Searched| {
                let standing = columns.judge.standing(&one.found.genotype);
                standing.map_or(0.0, |standing| standing.percentile)
            };
            let random = random.as_ref().filter(|_| method != MethodName::Random);
            QueryRow {
                method,
                accuracy: spread(&|one| one.found.accuracy),
                percentile: spread(&percentile),
                asked: spread(&|one| one.found.asked),
                against_random: random.map(|random| permutation(&own, random)),
                curve: (0..self.evaluations).map(|i| spread(&|one| one.curve[i])).collect(),
                found: searched.iter().map(|one| one.found.clone()).collect(),
            }
        });
        QueryTable {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            table: TabularSummary::of(&columns.judge),
            asked: columns.ask.column().to_owned(),
            evaluations: self.evaluations,
            rows: rows.collect(),
        }
    }
}
