//! Searches that ask for the accuracy of one cell after another, and do not care what gives it: a table, a training, or weights that cells
//! share.

mod evolution;
mod nao;
mod nasnet;
mod pnas;
mod surrogate;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::genotype::Genotype;
use crate::space::SearchSpace;

pub use evolution::{Evolution, EvolutionSettings};
pub use nao::{Nao, NaoModel};
pub use nasnet::Nasnet;
pub use pnas::Pnas;

/// A search by queries: it proposes a cell, is told its accuracy, and proposes the next.
///
/// A round trip through JSON is bit-exact, and the copy goes on as the original does.
///
/// ```
/// use asap_core::{EvolutionSettings, Query, SearchSpace};
///
/// let space = SearchSpace::default();
/// let mut search = Query::evolution(&space, EvolutionSettings::default(), 1)?;
/// for _ in 0..50 {
///     let cell = search.ask();
///     search.tell(&cell, cell.skip_count() as f64)?; // in a search, a validation accuracy
/// }
/// let (best, accuracy) = search.best().expect("50 cells were evaluated");
/// assert_eq!(best.skip_count() as f64, accuracy);
/// # Ok::<(), asap_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    space: SearchSpace,
    seed: u64,
    strategy: Strategy,
    evaluations: u64,
    best: Option<(Genotype, f64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Strategy {
    Random,
    Evolution(Evolution),
    Nao(Box<Nao>),
    Nasnet(Box<Nasnet>),
    Pnas(Pnas),
}

impl Query {
    /// Random search: every cell is drawn uniformly.
    pub fn random(space: &SearchSpace, seed: u64) -> Self {
        Self::new(space, seed, Strategy::Random)
    }

    /// Regularized evolution, see [`Evolution`].
    ///
    /// # Errors
    /// Those of [`EvolutionSettings::check`].
    pub fn evolution(
        space: &SearchSpace,
        settings: EvolutionSettings,
        seed: u64,
    ) -> Result<Self, Error> {
        Ok(Self::new(space, seed, Strategy::Evolution(Evolution::new(settings)?)))
    }

    /// Neural architecture optimization with so many evaluations, see [`Nao`].
    pub fn nao(space: &SearchSpace, evaluations: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let nao = Nao::new(space, evaluations, seed, &mut random);
        Self::new(space, seed, Strategy::Nao(Box::new(nao)))
    }

    /// A controller that learns by proximal policy optimization, see [`Nasnet`].
    pub fn nasnet(space: &SearchSpace, seed: u64) -> Self {
        Self::new(space, seed, Strategy::Nasnet(Box::new(Nasnet::new(space, seed))))
    }

    /// Progressive search with so many evaluations, see [`Pnas`].
    pub fn pnas(space: &SearchSpace, evaluations: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let pnas = Pnas::new(space, evaluations, seed, &mut random);
        Self::new(space, seed, Strategy::Pnas(pnas))
    }

    fn new(space: &SearchSpace, seed: u64, strategy: Strategy) -> Self {
        Self { space: space.clone(), seed, strategy, evaluations: 0, best: None }
    }

    /// The next cell to evaluate: the same until [`Query::tell`] is called.
    pub fn ask(&self) -> Genotype {
        let mut random = self.random_numbers();
        match &self.strategy {
            Strategy::Random => Genotype::random(&self.space, &mut random),
            Strategy::Evolution(evolution) => evolution.ask(&self.space, &mut random),
            Strategy::Nao(nao) => nao.ask(),
            Strategy::Nasnet(nasnet) => nasnet.ask(&mut random).genotype,
            Strategy::Pnas(pnas) => pnas.ask(&self.space, &mut random),
        }
    }

    /// The accuracy of the cell that was asked for.
    ///
    /// # Errors
    /// [`Error::Value`] if the accuracy is NaN or infinite; nothing changes.
    pub fn tell(&mut self, cell: &Genotype, accuracy: f64) -> Result<(), Error> {
        if !accuracy.is_finite() {
            return Err(Error::value("accuracy", accuracy, "a finite number"));
        }
        let mut random = self.random_numbers();
        match &mut self.strategy {
            Strategy::Random => {}
            Strategy::Evolution(evolution) => evolution.tell(cell, accuracy),
            Strategy::Nao(nao) => nao.tell(&self.space, cell, accuracy, &mut random),
            Strategy::Nasnet(nasnet) => nasnet.tell(nasnet.ask(&mut random), accuracy)?,
            Strategy::Pnas(pnas) => pnas.tell(&self.space, cell, accuracy, &mut random),
        }
        self.evaluations += 1;
        if self.best.as_ref().is_none_or(|(_, best)| accuracy > *best) {
            self.best = Some((cell.clone(), accuracy));
        }
        Ok(())
    }

    /// Number of cells evaluated so far.
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// The most accurate cell so far, the first of equals, and its accuracy.
    pub fn best(&self) -> Option<(&Genotype, f64)> {
        self.best.as_ref().map(|(cell, accuracy)| (cell, *accuracy))
    }

    /// Random numbers of the current evaluation.
    fn random_numbers(&self) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(self.evaluations);
        random
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Family, Operation};

    fn all(space: &SearchSpace, seed: u64) -> [Query; 5] {
        let settings = EvolutionSettings::default();
        [
            Query::random(space, seed),
            Query::evolution(space, settings, seed).unwrap(),
            Query::nasnet(space, seed),
            Query::pnas(space, 100, seed),
            Query::nao(space, 100, seed),
        ]
    }

    /// Cells are the better the more convolutions of 3x3 they have: 0 to 1.
    fn planted(cell: &Genotype) -> f64 {
        let genes = || cell.cells().iter().flat_map(|cell| cell.genes());
        let wanted = [Operation::NorConv3x3, Operation::SepConv3x3];
        let good = genes().filter(|(_, gene)| wanted.contains(&gene.operation)).count();
        good as f64 / genes().count() as f64
    }

    fn run(query: &mut Query, evaluations: usize) -> Vec<Genotype> {
        let mut asked = Vec::new();
        for _ in 0..evaluations {
            let cell = query.ask();
            query.tell(&cell, planted(&cell)).unwrap();
            asked.push(cell);
        }
        asked
    }

    #[test]
    fn a_query_goes_on_from_its_json_as_if_it_had_not_stopped() {
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            for mut query in all(&space, 3) {
                run(&mut query, 47);
                let text = serde_json::to_string(&query).unwrap();
                let mut copy: Query = serde_json::from_str(&text).unwrap();
                assert_eq!(copy, query);
                assert_eq!(run(&mut copy, 30), run(&mut query, 30));
                assert_eq!((copy.evaluations(), copy.best()), (77, query.best()));
            }
        }
    }

    #[test]
    fn the_same_seed_asks_the_same_and_another_one_does_not() {
        let space = SearchSpace::default();
        for (mut one, (mut same, mut other)) in
            all(&space, 1).into_iter().zip(all(&space, 1).into_iter().zip(all(&space, 2)))
        {
            let asked = run(&mut one, 25);
            assert!(run(&mut same, 25) == asked);
            assert!(run(&mut other, 25) != asked);
        }
    }

    #[test]
    fn the_best_is_the_first_of_the_most_accurate() {
        let mut query = Query::random(&SearchSpace::default(), 5);
        let mut asked = Vec::new();
        for accuracy in [0.2, 0.7, 0.7, 0.1] {
            let cell = query.ask();
            query.tell(&cell, accuracy).unwrap();
            asked.push(cell);
        }
        assert_eq!(query.best(), Some((&asked[1], 0.7)));
        let unchanged = query.clone();
        let error = query.tell(&asked[0], f64::NAN).unwrap_err().to_string();
        assert!(error.contains("expected a finite number"), "{error}");
        assert_eq!(query, unchanged);
    }

    /// With a signal as plain as this, evolution and a model of accuracies must be far ahead of chance.
    #[test]
    fn what_is_planted_is_found_and_not_by_random_search() {
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            let mean = |(method, seeds): (usize, u64)| {
                let of_seed = |seed| {
                    let query = &mut all(&space, seed)[method];
                    run(query, 100);
                    query.best().unwrap().1
                };
                (0..seeds).map(of_seed).sum::<f64>() / seeds as f64
            };
            let [random, evolution, pnas, nao] = [(0, 5), (1, 5), (3, 5), (4, 2)].map(mean);
            assert!(evolution > random + 0.05, "{family}: {evolution} {random}");
            assert!(pnas > random + 0.05, "{family}: {pnas} {random}");
            let lead = if family == Family::Darts { 0.1 } else { 0.02 };
            assert!(nao > random + lead, "{family}: {nao} {random}");
        }
    }
}
