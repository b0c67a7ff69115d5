//! The weights of a search under the names that they have in the network of its cell.

use asap_core::{CellKind, Genotype, SearchSpace, reduction_cells};
use asap_net::parameters::NamedValues;

use crate::error::Error;
use crate::run::checkpoint;
use crate::run::sink::Sink;
use crate::settings::config::Config;

/// The weights of a search, under their names in the evaluation network of its cell.
///
/// # Errors
/// When the networks of `config` differ in size, or there is no such search.
pub fn searched_weights(
    search: &dyn Sink,
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
    let (state, tensors) = checkpoint::load(search)?;
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
