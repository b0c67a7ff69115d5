//! From an architecture to the genotype that is trained.

use std::fmt;

use super::architecture::Architecture;
use super::edge_policy::EdgePolicy;
use crate::genotype::{CellGenotype, Gene, Genotype};
use crate::space::{CellKind, Edge, Ending, Operation};

/// The genotype of an architecture, and the choices that were decided without annealing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The cells.
    pub genotype: Genotype,
    /// The choices that were still open; empty when annealing decided everything.
    pub fallback: Vec<Fallback>,
}

/// A choice that was still open at the end and was decided by the largest logit. Displayed with states, as
/// [`Pruned`](crate::Pruned) is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// An edge with several operations left.
    Operation {
        /// The cell kind.
        kind: CellKind,
        /// The edge.
        edge: Edge,
        /// The operation with the largest probability.
        chosen: Operation,
        /// Number of operations that remained.
        alive: usize,
    },
    /// A node with more inputs left than it keeps, under [`EdgePolicy::Anneal`].
    Inputs {
        /// The cell kind.
        kind: CellKind,
        /// The state of the node.
        state: usize,
        /// The inputs with the largest weight.
        chosen: Vec<usize>,
        /// Number of inputs that remained.
        alive: usize,
    },
}

impl Architecture {
    /// The genotype: the inputs that each node keeps and their operations, by the largest logit where still undecided.
    pub fn derive(&self) -> Derived {
        self.derive_by(self)
    }

    /// The same with the probabilities, which rank the inputs, of an architecture of which this one has lost candidates.
    pub(crate) fn derive_by(&self, whole: &Self) -> Derived {
        let mut fallback = Vec::new();
        let kinds = self.space().kinds().iter();
        let cells = kinds.map(|&kind| self.derive_cell(kind, whole, &mut fallback)).collect();
        let genotype = Genotype::new(self.space().family, cells).expect("a space has sound cells");
        Derived { genotype, fallback }
    }

    fn derive_cell(
        &self,
        kind: CellKind,
        whole: &Self,
        fallback: &mut Vec<Fallback>,
    ) -> CellGenotype {
        let choices = &self.cell(kind).operations;
        let operation = |edge: &Edge| self.space().candidates[self.best(kind, edge)];
        for edge in self.alive_edges(kind) {
            let choice = &choices[edge.index];
            if !choice.is_decided() {
                let (chosen, alive) = (operation(&edge), choice.alive_count());
                fallback.push(Fallback::Operation { kind, edge, chosen, alive });
            }
        }
        let nodes = (0..self.space().nodes).map(|node| {
            let mut edges: Vec<_> = self.alive_edges(kind).filter(|e| e.node == node).collect();
            if let Ending::Inputs(kept) = self.space().family.ending() {
                self.cut(kind, node, kept, whole, &mut edges, fallback);
            }
            edges
                .iter()
                .map(|edge| Gene { operation: operation(edge), input: edge.input })
                .collect()
        });
        CellGenotype { nodes: nodes.collect(), output: self.space().output_states() }
    }

    /// The best candidate of an edge. Where nodes keep some of their inputs, as in DARTS, `none` is one only if nothing else is left.
    fn best(&self, kind: CellKind, edge: &Edge) -> usize {
        let choice = &self.cell(kind).operations[edge.index];
        let keeps_some = matches!(self.space().family.ending(), Ending::Inputs(_));
        let counts = |&candidate: &usize| self.space().candidates[candidate] != Operation::None;
        let something = choice.ranked().into_iter().find(counts).filter(|_| keeps_some);
        something.unwrap_or_else(|| choice.best())
    }

    /// Keeps the `kept` strongest edges of a node.
    fn cut(
        &self,
        kind: CellKind,
        node: usize,
        kept: usize,
        whole: &Self,
        edges: &mut Vec<Edge>,
        fallback: &mut Vec<Fallback>,
    ) {
        let alive = edges.len();
        // the sort is stable: among equals the lowest input comes first
        edges.sort_by(|a, b| {
            let strength = |edge: &Edge| whole.strength(kind, edge, self.best(kind, edge));
            let ([p_a, logit_a], [p_b, logit_b]) = (strength(a), strength(b));
            p_b.total_cmp(&p_a).then(logit_b.total_cmp(&logit_a))
        });
        edges.truncate(kept);
        edges.sort_by_key(|edge| edge.input);
        let annealed = self.policy() == EdgePolicy::Anneal;
        if annealed && self.cell(kind).inputs[node].is_some() && alive > kept {
            let chosen = edges.iter().map(|edge| edge.input).collect();
            fallback.push(Fallback::Inputs { kind, state: edges[0].state, chosen, alive });
        }
    }

    /// The rank of an edge among the inputs of its node: its own logit if it has one; otherwise the probability of its
    /// `best` operation at T = 1, as in DARTS, and among decided edges, where that is 1, the operation's logit. Under
    /// [`EdgePolicy::Normalize`] that probability times the edge's own.
    fn strength(&self, kind: CellKind, edge: &Edge, best: usize) -> [f64; 2] {
        let cell = self.cell(kind);
        let choice = &cell.operations[edge.index];
        let of_operation = [choice.weights(1.0)[best], choice.logits()[best]];
        match &cell.inputs[edge.node] {
            None => of_operation,
            Some(inputs) if self.policy() == EdgePolicy::Normalize => {
                [of_operation[0] * inputs.weights(1.0)[edge.input], 0.0]
            }
            Some(inputs) => [0.0, inputs.logits()[edge.input]],
        }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fallback::Operation { kind, edge, chosen, alive } => {
                write!(f, "{kind} {edge} {chosen} (of {alive} operations left)")
            }
            Fallback::Inputs { kind, state, chosen, alive } => {
                let chosen: Vec<_> = chosen.iter().map(ToString::to_string).collect();
                write!(f, "{kind} {state}<-{} (of {alive} inputs left)", chosen.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adam, Family, MixingTables, SearchSpace, ThresholdPolicy};

    /// Gradients of 0 except for some (edge, candidate) of the normal cell.
    fn gradients(wanted: &[(usize, usize, f64)]) -> MixingTables {
        let mut normal = vec![vec![0.0; 7]; 14];
        for &(edge, candidate, gradient) in wanted {
            normal[edge][candidate] = gradient;
        }
        vec![normal, vec![vec![0.0; 7]; 14]]
    }

    fn genes(genotype: &Genotype, node: usize) -> Vec<(&'static str, usize)> {
        let genes = &genotype.cell(CellKind::Normal).nodes[node];
        genes.iter().map(|gene| (gene.operation.name(), gene.input)).collect()
    }

    fn inputs_of(genotype: &Genotype, node: usize) -> Vec<usize> {
        genes(genotype, node).into_iter().map(|(_, input)| input).collect()
    }

    fn adam(lr: f64) -> Adam {
        Adam { lr, ..Adam::default() }
    }

    #[test]
    fn strength_takes_the_two_edges_with_the_largest_logit_and_of_equals_the_first_inputs() {
        let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Strength);
        // node 3 has the edges 9 to 13: dil_conv_5x5 from node 2 leads, sep_conv_3x3 from input 1 is second
        let pull = |steps, edge, candidate, architecture: &mut Architecture| {
            for _ in 0..steps {
                architecture.step(&gradients(&[(edge, candidate, -1.0)]), 1.0, &adam(0.01));
            }
        };
        pull(20, 13, 6, &mut architecture);
        pull(10, 10, 3, &mut architecture);
        let Derived { genotype, fallback } = architecture.derive();
        assert_eq!(genes(&genotype, 3), [("sep_conv_3x3", 1), ("dil_conv_5x5", 4)]);
        assert_eq!(genes(&genotype, 0), [("max_pool_3x3", 0), ("max_pool_3x3", 1)]);
        assert_eq!(genes(&genotype, 2), [("max_pool_3x3", 0), ("max_pool_3x3", 1)]);
        assert_eq!(genotype.cell(CellKind::Normal).output, [2, 3, 4, 5]);
        assert_eq!(fallback.len(), 28);
        assert_eq!(fallback[13].to_string(), "normal 5<-4 dil_conv_5x5 (of 7 operations left)");
    }

    #[test]
    fn anneal_takes_the_inputs_that_are_left_and_reports_those_that_are_open() {
        let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Anneal);
        // every operation of edge 13 helps, so the edge's own weight rises
        let all: Vec<_> = (0..7).map(|candidate| (13, candidate, -1.0)).collect();
        architecture.step(&gradients(&all), 1.0, &adam(0.1));
        let Derived { genotype, fallback } = architecture.derive();
        assert_eq!(inputs_of(&genotype, 3), [0, 4]);
        let inputs: Vec<_> =
            fallback.iter().filter(|f| matches!(f, Fallback::Inputs { .. })).collect();
        assert_eq!(inputs.len(), 6);
        assert_eq!(inputs[2].to_string(), "normal 5<-0,4 (of 5 inputs left)");

        architecture.prune(1.0, &ThresholdPolicy::Fixed { fraction: 100.0 }, 0.0);
        assert!(architecture.is_decided());
        let decided = architecture.derive();
        assert_eq!(decided.fallback, []);
        assert_eq!(inputs_of(&decided.genotype, 3), [0, 4]);
    }

    #[test]
    fn normalize_takes_the_edges_whose_weight_times_probability_is_largest() {
        let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Normalize);
        // one operation of edge 10 helps, so it leads there; all of edge 13 do, so the edge's weight rises
        let mut helpful = vec![(10, 3, -1.0)];
        helpful.extend((0..7).map(|candidate| (13, candidate, -1.0)));
        let alone = |edges: &[usize]| -> Vec<_> {
            helpful.iter().filter(|(edge, ..)| edges.contains(edge)).copied().collect()
        };
        for (edges, expected) in [(&[10][..], [0, 1]), (&[13], [0, 4]), (&[10, 13], [1, 4])] {
            let mut architecture = architecture.clone();
            architecture.step(&gradients(&alone(edges)), 1.0, &adam(0.5));
            let Derived { genotype, fallback } = architecture.derive();
            assert_eq!(inputs_of(&genotype, 3), expected);
            assert!(fallback.iter().all(|f| matches!(f, Fallback::Operation { .. })));
        }
        // the weight counts too: an edge whose operation leads by less wins by its own weight
        for _ in 0..5 {
            architecture.step(&gradients(&helpful), 1.0, &adam(0.5));
        }
        let cell = architecture.cell(CellKind::Normal);
        let inputs = cell.inputs[3].as_ref().unwrap().probabilities(1.0);
        let best =
            |edge: usize| cell.operations[edge].probabilities(1.0).into_iter().fold(0.0, f64::max);
        assert!(best(10) > best(13) && inputs[4] > inputs[1]);
        assert!((inputs.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn none_is_no_operation_of_a_darts_cell_while_another_is_left() {
        let candidates = vec![Operation::None, Operation::SepConv3x3, Operation::SkipConnect];
        let space = SearchSpace::new(Family::Darts, 2, candidates).unwrap();
        let mut architecture = Architecture::new(space, EdgePolicy::Strength);
        let mut gradients = architecture.space().tables(|| 0.0);
        gradients[0][0] = vec![-1.0, 0.0, -0.5];
        architecture.step(&gradients, 1.0, &adam(0.1));
        let Derived { genotype, .. } = architecture.derive();
        assert_eq!(genes(&genotype, 0), [("skip_connect", 0), ("sep_conv_3x3", 1)]);
    }

    #[test]
    fn every_edge_of_nas_bench_201_is_derived_with_its_largest_logit() {
        for policy in EdgePolicy::ALL {
            let mut architecture = Architecture::new(SearchSpace::of(Family::NasBench201), policy);
            let mut gradients = architecture.space().tables(|| 0.0);
            gradients[0][4][2] = -1.0; // nor_conv_3x3 from state 1 to state 3
            architecture.step(&gradients, 1.0, &adam(0.1));
            let Derived { genotype, fallback } = architecture.derive();
            assert_eq!(
                genotype.to_string(),
                "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
            );
            assert_eq!(fallback.len(), 6);
            assert_eq!(fallback[4].to_string(), "normal 3<-1 nor_conv_3x3 (of 4 operations left)");
        }
    }
}
