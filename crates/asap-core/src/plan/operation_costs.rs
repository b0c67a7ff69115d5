//! The share of each operation in the cost of the network that will be trained.

use serde::{Deserialize, Serialize};

use super::{Body, NetworkShape, Piece, Plan};
use crate::{Edge, Ending, Error, Genotype, MixingTables, Operation, SearchSpace};

/// Multiply-adds or milliseconds of each candidate of each edge, summed over the cells of a network, and of everything outside the
/// edges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationCosts {
    fixed: f64,
    candidates: MixingTables,
}

impl OperationCosts {
    /// The costs in a network of cells of the space, which is trained with all of its channels.
    ///
    /// # Errors
    /// As [`Plan::search`].
    pub fn new(space: &SearchSpace, shape: &NetworkShape) -> Result<Self, Error> {
        let plan = Plan::search(&space.clone().with_partial(1), shape)?;
        let mut candidates = space.tables(|| 0.0);
        let mut inside = 0.0;
        for layer in &plan.layers {
            let Body::Node(node) = &layer.body else { continue };
            let kind = space.family.kind_index(node.kind);
            for edge in &node.edges {
                let Some(row) = edge.row else { continue };
                for candidate in &edge.candidates {
                    let steps = candidate.steps.iter();
                    let cost = steps.map(|step| step.cost(&plan.parameters).multiply_adds as f64);
                    let cost: f64 = cost.sum();
                    candidates[kind][row][candidate.index] += cost;
                    inside += cost;
                }
            }
        }
        Ok(Self { fixed: plan.cost().multiply_adds as f64 - inside, candidates })
    }

    /// The milliseconds in a network of cells of the space, from those of its pieces.
    ///
    /// # Errors
    /// As [`Plan::search`], and those of `milliseconds`.
    pub fn of_latency<E: From<Error>>(
        space: &SearchSpace,
        shape: &NetworkShape,
        mut milliseconds: impl FnMut(&Piece) -> Result<f64, E>,
    ) -> Result<Self, E> {
        let plan = Plan::search(&space.clone().with_partial(1), shape)?;
        let (mut fixed, mut candidates) = (0.0, space.tables(|| 0.0));
        for layer in &plan.layers {
            let Body::Node(node) = &layer.body else {
                for piece in plan.pieces_of(layer) {
                    fixed += milliseconds(&piece)?;
                }
                continue;
            };
            let kind = space.family.kind_index(node.kind);
            for (edge, row) in node.edges.iter().filter_map(|edge| Some((edge, edge.row?))) {
                let map = plan.layers[edge.input].output;
                // Zeros are not computed in the network that is trained.
                let counting = edge.candidates.iter().filter(|c| c.operation != Operation::None);
                for candidate in counting {
                    let operation = candidate.operation;
                    let piece = Piece::of_operation(space.family, operation, map, edge.stride);
                    candidates[kind][row][candidate.index] += milliseconds(&piece)?;
                }
            }
        }
        Ok(Self { fixed, candidates })
    }

    /// The expected cost of the network, if an edge and its operation are kept as often as the mixing weights say; those of
    /// a cell, if the weights are a path of ones.
    pub fn expected(&self, mixing: &MixingTables) -> f64 {
        let costs = self.candidates.iter().flatten().flatten();
        let weights = mixing.iter().flatten().flatten();
        self.fixed + costs.zip(weights).map(|(cost, weight)| cost * weight).sum::<f64>()
    }

    /// The cell that costs least, of those with `none` only where nothing else is possible or every edge is kept.
    pub fn cheapest(&self, space: &SearchSpace) -> Genotype {
        let ending = space.family.ending();
        let mut allowed: Vec<usize> = (0..space.candidates.len()).collect();
        let something = |&c: &usize| space.candidates[c] != Operation::None;
        if ending != Ending::EveryEdge && allowed.iter().any(something) {
            allowed.retain(something);
        }
        let mut path = space.tables(|| 0.0);
        for (costs, weights) in self.candidates.iter().zip(&mut path) {
            let cheapest = |edge: Edge| {
                let costs = allowed.iter().map(|&c| (costs[edge.index][c], edge.index, c));
                costs.min_by(|a, b| a.0.total_cmp(&b.0)).expect("a space has candidates")
            };
            for node in 0..space.nodes {
                let edges = space.edges().filter(|edge| edge.node == node);
                let mut edges: Vec<_> = edges.map(cheapest).collect();
                if let Ending::Inputs(kept) = ending {
                    edges.sort_by(|a, b| a.0.total_cmp(&b.0));
                    edges.truncate(kept);
                }
                for (_, edge, candidate) in edges {
                    weights[edge][candidate] = 1.0;
                }
            }
        }
        space.genotype(&path)
    }

    /// The gradient of their binary logarithm for the mixing weights.
    pub fn log2_gradients(&self, mixing: &MixingTables) -> MixingTables {
        let scale = 1.0 / (self.expected(mixing) * std::f64::consts::LN_2);
        let of_edge = |costs: &Vec<f64>| costs.iter().map(|cost| cost * scale).collect();
        self.candidates.iter().map(|edges| edges.iter().map(of_edge).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{Architecture, EdgePolicy, Family, Genotype, Stem, evaluation_cost};

    const SHAPE: NetworkShape = NetworkShape {
        channels: 12,
        cells: 5,
        height: 16,
        width: 12,
        in_channels: 3,
        classes: 10,
        stem: Stem::Small,
    };

    #[test]
    fn the_shares_of_a_cell_add_up_to_its_cost() -> Result<(), Error> {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            let costs = OperationCosts::new(&space, &SHAPE)?;
            for _ in 0..20 {
                let cell = Genotype::random(&space, &mut random);
                let sum = costs.expected(&space.one_hot(&cell)?);
                assert_eq!(sum, evaluation_cost(&cell, &SHAPE)?.multiply_adds as f64, "{cell}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_the_search_sees_of_the_channels_does_not_count() -> Result<(), Error> {
        let (space, partial) = (SearchSpace::default(), SearchSpace::default().with_partial(5));
        assert_eq!(OperationCosts::new(&partial, &SHAPE)?, OperationCosts::new(&space, &SHAPE)?);
        Ok(())
    }

    #[test]
    fn no_cell_costs_less_than_the_cheapest() -> Result<(), Error> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for family in Family::ALL {
            let all = SearchSpace::of(family);
            let weighted = all.candidates.iter().copied().filter(|o| o.name().contains("conv"));
            let weighted = SearchSpace::new(family, all.nodes, weighted.collect())?;
            for space in [all, weighted] {
                let cheapest = OperationCosts::new(&space, &SHAPE)?.cheapest(&space);
                let least = evaluation_cost(&cheapest, &SHAPE)?;
                for _ in 0..100 {
                    let cost = evaluation_cost(&Genotype::random(&space, &mut random), &SHAPE)?;
                    assert!(cost.multiply_adds >= least.multiply_adds, "{family}: {cheapest}");
                    assert!(cost.params >= least.params, "{family}: {cheapest}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn latencies_of_a_cell_add_up_to_those_of_its_pieces() -> Result<(), Error> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let number = |piece: &Piece| piece.name.bytes().map(f64::from).sum::<f64>();
        for family in Family::ALL {
            let candidates = SearchSpace::of(family).candidates;
            let candidates = candidates.into_iter().filter(|&o| o != Operation::None).collect();
            let space = SearchSpace::new(family, SearchSpace::of(family).nodes, candidates)?;
            let costs =
                OperationCosts::of_latency(&space, &SHAPE, |piece| Ok::<_, Error>(number(piece)))?;
            for _ in 0..20 {
                let cell = Genotype::random(&space, &mut random);
                let found = costs.expected(&space.one_hot(&cell)?);
                let plan = Plan::of(&cell.into(), &SHAPE, false)?;
                assert_eq!(found, plan.pieces().iter().map(number).sum::<f64>());
            }
        }
        Ok(())
    }

    #[test]
    fn the_gradient_is_that_of_the_logarithm_of_the_expected_cost() -> Result<(), Error> {
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            let costs = OperationCosts::new(&space, &SHAPE)?;
            let even = Architecture::new(space.clone(), EdgePolicy::Anneal).mixing_tables(1.0);
            let mut random = ChaCha8Rng::seed_from_u64(4);
            let cells = (0..2000).map(|_| Genotype::random(&space, &mut random));
            let cells: Vec<_> = cells.map(|cell| space.one_hot(&cell)).collect::<Result<_, _>>()?;
            let mean = cells.iter().map(|cell| costs.expected(cell)).sum::<f64>() / 2000.0;
            assert!((costs.expected(&even) - mean).abs() < 0.02 * mean, "the mean of random cells");

            let gradients = costs.log2_gradients(&even);
            for (kind, edge, candidate) in [(0, 1, 2), (space.kinds().len() - 1, 4, 3)] {
                let moved = |step: f64| {
                    let mut mixing = even.clone();
                    mixing[kind][edge][candidate] += step;
                    costs.expected(&mixing).log2()
                };
                let expected = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                let found = gradients[kind][edge][candidate];
                assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
            }
        }
        Ok(())
    }
}
