//! Cells as sequences of tokens, and back.

use rand::Rng;
use rand::seq::SliceRandom;

use crate::genotype::{Gene, Genotype};
use crate::space::{Ending, SearchSpace};

/// An input of a node and the operation on it, as positions among the states and the candidates.
pub(super) type Token = [usize; 2];

/// The place of a token in the sequence of a space.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub(super) node: usize,
    /// Its number among the node's tokens.
    pub(super) turn: usize,
    /// The input, if there is no choice.
    pub(super) input: Option<usize>,
}

/// The places of a space's tokens, in order.
pub(super) fn spots(space: &SearchSpace) -> Vec<Spot> {
    let of_node = |node: usize| -> Vec<Spot> {
        match space.family.ending() {
            Ending::Inputs(count) => {
                (0..count).map(|turn| Spot { node, turn, input: None }).collect()
            }
            Ending::EveryEdge => (0..space.inputs_of(node))
                .map(|input| Spot { node, turn: input, input: Some(input) })
                .collect(),
        }
    };
    let nodes = space.kinds().iter().flat_map(|_| 0..space.nodes);
    nodes.flat_map(of_node).collect()
}

/// The sequence of a cell of the space.
pub(super) fn tokens(space: &SearchSpace, cell: &Genotype) -> Vec<Token> {
    let position = |gene: Gene| {
        let operation = space.candidates.iter().position(|one| *one == gene.operation);
        [gene.input, operation.expect("a cell of the space")]
    };
    cell.cells().iter().flat_map(|cell| cell.genes()).map(|(_, gene)| position(gene)).collect()
}

/// The same cell with the inputs of each node in random order, if that is free.
pub(super) fn shuffled(
    mut tokens: Vec<Token>,
    space: &SearchSpace,
    random: &mut impl Rng,
) -> Vec<Token> {
    if let Ending::Inputs(count) = space.family.ending() {
        tokens.chunks_mut(count).for_each(|node| node.shuffle(random));
    }
    tokens
}

/// The cell of a sequence, inputs in ascending order.
pub(super) fn genotype(space: &SearchSpace, tokens: &[Token]) -> Genotype {
    let mut rest = tokens.iter();
    space.assemble(|node| {
        let count = match space.family.ending() {
            Ending::Inputs(count) => count,
            Ending::EveryEdge => space.inputs_of(node),
        };
        let gene =
            |&[input, operation]: &Token| Gene { operation: space.candidates[operation], input };
        let mut genes: Vec<Gene> = rest.by_ref().take(count).map(gene).collect();
        genes.sort_by_key(|gene| gene.input);
        genes
    })
}
