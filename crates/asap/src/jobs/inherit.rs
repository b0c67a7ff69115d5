//! The weights of a search under their names in the network of its cell.

use asap_core::Genotype;
use asap_core::plan::Plan;
use asap_net::parameters::NamedValues;

use crate::error::Error;
use crate::run::checkpoint;
use crate::run::sink::Sink;
use crate::settings::config::Config;

/// The weights of a search, under their names in the evaluation network of its cell.
///
/// # Errors
/// If the networks of `config` differ in size, or there is no such search.
pub fn searched_weights(
    search: &dyn Sink,
    config: &Config,
    genotype: &Genotype,
) -> Result<NamedValues, Error> {
    check(config)?;
    let (state, tensors) = checkpoint::load(search)?;
    let shape = config.network.shape(state.data.image, state.data.classes.len());
    let searched = Plan::search(state.architecture.space(), &shape)?;
    let trained = Plan::evaluation(genotype, &shape, false)?;
    let inherited = trained.inherited(&searched).into_iter();
    let value = |(from, to): (&str, &str)| Some((to.to_owned(), tensors.get(from)?.clone()));
    Ok(inherited.filter_map(value).collect())
}

/// Refuses networks of different size.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    for (key, train, searched) in [
        ("channels", config.train.channels, config.network.channels),
        ("cells", config.train.cells, config.network.cells),
    ] {
        if train != searched {
            return Err(Error::Config(format!(
                "train.inherit: expected a trained network of the size of the search network, found \
                 train.{key} = {train} and network.{key} = {searched}; make them equal, or set train.inherit = false"
            )));
        }
    }
    Ok(())
}
