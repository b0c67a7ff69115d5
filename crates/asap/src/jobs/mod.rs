//! Runs that go on wherever they stand: from the start, from their checkpoint, or not at all once they have a
//! result. What a command of several runs is made of.

pub mod compare;
pub mod overview;
pub mod planned;
pub mod search_and_train;
pub mod transfer;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use asap_core::{CellKind, Genotype, SearchSpace, reduction_cells};
use asap_data::Splits;
use asap_kernels::{Level, Precision};
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::run::checkpoint;
use crate::run::folder::{self as run_folder, CHECKPOINT, RunFolder};
use crate::run::record::{Event, Observer, Outcome, SearchResult, TrainResult};
use crate::search::Search;
use crate::settings::config::Config;
use crate::train::Training;
use asap_net::parameters::NamedValues;

/// Searches in the folder `path`.
///
/// # Errors
/// See [`Search::new`], [`Search::restore`] and [`Search::run`].
pub fn search(
    path: &Path,
    config: &Config,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<SearchResult>, Error> {
    let (folder, state) = open_or_create(path, config)?;
    if let State::Finished(result) = state {
        return Ok(Outcome::Finished(result));
    }
    let mut search = Search::new(config.clone(), load(config, observer)?)?;
    if matches!(state, State::Begun) {
        search.restore(&folder)?;
    }
    search.run(&folder, observer, stop)
}

/// Trains a cell in the folder `path`; with the weights of the search in the folder `inherit`, if given.
///
/// # Errors
/// See [`Training::new`], [`Training::restore`] and [`Training::run`]; or when the search network has another size.
pub fn train(
    path: &Path,
    config: &Config,
    genotype: &Genotype,
    inherit: Option<&Path>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<TrainResult>, Error> {
    let (folder, state) = open_or_create(path, config)?;
    if let State::Finished(result) = state {
        return Ok(Outcome::Finished(result));
    }
    let mut training = Training::new(config.clone(), genotype.clone(), load(config, observer)?)?;
    match state {
        State::Begun => training.restore(&folder)?,
        _ => {
            if let Some(search) = inherit {
                training.inherit(&searched_weights(search, config, genotype)?)?;
            }
        }
    }
    training.run(&folder, observer, stop)
}

const SLOWER: &str =
    "precision = bf16 is slower than f32 on this processor, which has no AVX-512 BF16";

/// Reads the images of a configuration; what a user should know of them, or of its precision here, goes to the observer.
///
/// # Errors
/// When they cannot be read.
pub fn load(config: &Config, observer: &mut dyn Observer) -> Result<Splits, Error> {
    let splits = asap_data::load(&config.data_spec()?, config.data_dir(), &config.load_options())?;
    for warning in &splits.warnings {
        observer.on_event(Event::Note(warning));
    }
    if config.precision == Precision::Bf16 && !Level::available()[0].multiplies_bf16() {
        observer.on_event(Event::Note(SLOWER));
    }
    Ok(splits)
}

/// How far the run in a folder is.
enum State<T> {
    New,
    Begun,
    Finished(Box<T>),
}

fn open_or_create<T: DeserializeOwned>(
    path: &Path,
    config: &Config,
) -> Result<(RunFolder, State<T>), Error> {
    if !path.join(CHECKPOINT).exists() {
        // A run that was broken off before its first checkpoint has nothing to keep.
        let folder = match RunFolder::open(path) {
            Ok((folder, _)) => folder,
            Err(_) => RunFolder::create(path, config)?,
        };
        return Ok((folder, State::New));
    }
    let (folder, _) = RunFolder::open(path)?;
    let state = match folder.read_json(run_folder::RESULT)? {
        Some(result) => State::Finished(Box::new(result)),
        None => State::Begun,
    };
    Ok((folder, state))
}

/// The weights of the search in the folder `path`, under their names in the evaluation network of its cell.
///
/// # Errors
/// When the networks of `config` differ in size, or there is no such search.
pub fn searched_weights(
    path: &Path,
    config: &Config,
    genotype: &Genotype,
) -> Result<NamedValues, Error> {
    for (key, train, searched) in [
        ("channels", config.train.channels, config.network.channels),
        ("cells", config.train.cells, config.network.cells),
    ] {
        if train != searched {
            return Err(Error::Config(format!(
                "train.inherit: expected a trained network of the size of the search network, found \
                 train.{key} = {train} and network.{key} = {searched}; make them equal, or do not inherit"
            )));
        }
    }
    let (state, tensors) = checkpoint::load(&RunFolder::open(path)?.0)?;
    let space = state.architecture.space();
    let mut weights = NamedValues::new();
    for (name, value) in tensors.iter().filter(|(name, _)| !name.contains(':')) {
        let name = if name.contains(".edges.") {
            let Some(gene) = gene_of(name, space, genotype, config.network.cells) else { continue };
            gene
        } else {
            name.clone()
        };
        weights.insert(name, value.clone());
    }
    Ok(weights)
}

/// `cells.<i>.edges.<edge>.<operation>.<rest>` as `cells.<i>.ops.<gene>.<rest>`; nothing for an operation that
/// is not in the cell.
fn gene_of(name: &str, space: &SearchSpace, genotype: &Genotype, cells: usize) -> Option<String> {
    let mut parts = name.splitn(6, '.');
    let ("cells", cell) = (parts.next()?, parts.next()?.parse::<usize>().ok()?) else {
        return None;
    };
    let ("edges", edge) = (parts.next()?, parts.next()?.parse::<usize>().ok()?) else {
        return None;
    };
    let (operation, rest) = (parts.next()?, parts.next()?);
    let reduction = reduction_cells(cells).any(|reduction| reduction == cell);
    let kind = if reduction { CellKind::Reduction } else { CellKind::Normal };
    let edge = space.edges().find(|e| e.index == edge)?;
    let genes = genotype.cell(kind).genes();
    let gene = genes.enumerate().position(|(_, (node, gene))| {
        node == edge.node && gene.input == edge.input && gene.operation.to_string() == operation
    })?;
    Some(format!("cells.{cell}.ops.{gene}.{rest}"))
}
