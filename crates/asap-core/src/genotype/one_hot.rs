//! A genotype as the mixing weights of the search network, and back.

use super::cells::{CellGenotype, Gene, Genotype};
use crate::error::Error;
use crate::space::{MixingTables, SearchSpace};

impl SearchSpace {
    /// The mixing weights that make the search network compute a genotype.
    ///
    /// 1 for each operation of the genotype and exactly 0 elsewhere; 2 where a node has the same operation on the same
    /// input twice.
    ///
    /// # Errors
    /// [`Error::Cell`] if the genotype belongs to another family, or has a different number of nodes, an operation that is
    /// not a candidate, or an output other than all nodes in order.
    pub fn one_hot(&self, genotype: &Genotype) -> Result<MixingTables, Error> {
        if genotype.family() != self.family {
            let reason =
                format!("a genotype of {}; the search space is {}", genotype.family(), self.family);
            return Err(Error::Cell { place: "genotype".to_owned(), reason });
        }
        let mut tables = self.tables(|| 0.0);
        for ((kind, cell), weights) in genotype.kinds().zip(&mut tables) {
            let fault = |part: &str, reason| {
                Err(Error::Cell { place: format!("{kind} cell{part}"), reason })
            };
            if cell.nodes.len() != self.nodes {
                let found = cell.nodes.len();
                let reason = format!("{found} nodes; the search space has {}", self.nodes);
                return fault("", reason);
            }
            if cell.output != self.output_states() {
                let (found, expected) = (&cell.output, self.output_states());
                let reason = format!("{found:?}; the search space joins all nodes, {expected:?}");
                return fault(", concat", reason);
            }
            for (node, gene) in cell.genes() {
                let Some(candidate) = self.candidates.iter().position(|&c| c == gene.operation)
                else {
                    let names: Vec<_> = self.candidates.iter().map(|c| c.name()).collect();
                    let reason = format!(
                        "{} is not a candidate of the search space; expected one of: {}",
                        gene.operation,
                        names.join(", ")
                    );
                    return fault(&format!(", node {node}"), reason);
                };
                weights[self.edge_index(node, gene.input)][candidate] += 1.0;
            }
        }
        Ok(tables)
    }

    /// The genotype whose nodes `node` gives, all of one kind of cell after the other.
    pub(crate) fn assemble(&self, mut node: impl FnMut(usize) -> Vec<Gene>) -> Genotype {
        let mut cell = || CellGenotype {
            nodes: (0..self.nodes).map(&mut node).collect(),
            output: self.output_states(),
        };
        let cells = self.kinds().iter().map(|_| cell()).collect();
        Genotype::new(self.family, cells).expect("a space has sound cells")
    }

    /// The genotype of mixing weights with one operation per edge at most: the inverse of [`SearchSpace::one_hot`] for cells
    /// without an operation twice on the same input, inputs in ascending order.
    pub fn genotype(&self, path: &MixingTables) -> Genotype {
        let cell = |weights: &Vec<Vec<f64>>| {
            let mut nodes = vec![Vec::new(); self.nodes];
            for edge in self.edges() {
                let taken = weights[edge.index].iter().position(|weight| *weight != 0.0);
                nodes[edge.node].extend(
                    taken.map(|c| Gene { operation: self.candidates[c], input: edge.input }),
                );
            }
            CellGenotype { nodes, output: self.output_states() }
        };
        let cells = path.iter().map(cell).collect();
        Genotype::new(self.family, cells).expect("edges of the space")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CellGenotype, Family, Gene, Operation, PublishedCell};

    #[test]
    fn a_genotype_is_ones_on_its_operations_and_zeros_elsewhere() {
        let space = SearchSpace::default();
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let weights = space.one_hot(&asap).unwrap();
        for (cell, weights) in asap.cells().iter().zip(&weights) {
            let mut found = vec![Vec::new(); 4];
            for edge in space.edges() {
                for (candidate, &weight) in weights[edge.index].iter().enumerate() {
                    let operation = space.candidates[candidate];
                    assert!(weight == 0.0 || weight == 1.0);
                    if weight == 1.0 {
                        found[edge.node].push(Gene { operation, input: edge.input });
                    }
                }
            }
            let mut expected = cell.nodes.clone();
            expected.iter_mut().for_each(|genes| genes.sort_by_key(|gene| gene.input));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_cell_of_nas_bench_201_has_a_one_on_every_edge() {
        let cell = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|";
        let space = SearchSpace::of(Family::NasBench201);
        let weights = space.one_hot(&cell.parse().unwrap()).unwrap();
        assert_eq!(space.genotype(&weights).to_string(), cell);
        let ones = weights[0].iter().map(|edge| edge.iter().position(|&w| w == 1.0));
        assert_eq!(ones.collect::<Option<Vec<_>>>(), Some(vec![2, 0, 1, 3, 0, 2]));
        assert_eq!(weights.iter().flatten().flatten().sum::<f64>(), 6.0);
    }

    #[test]
    fn a_genotype_outside_the_space_is_refused() {
        let space = SearchSpace::default();
        let refused = |space: &SearchSpace, genotype: &Genotype| {
            space.one_hot(genotype).unwrap_err().to_string()
        };
        let edited = |edit: fn(&mut Vec<CellGenotype>)| {
            let mut cells = PublishedCell::find("ASAP").unwrap().genotype().cells().to_vec();
            edit(&mut cells);
            Genotype::new(Family::Darts, cells).unwrap()
        };
        let asap = edited(|_| ());
        let small = SearchSpace::new(Family::Darts, 3, space.candidates.clone()).unwrap();
        assert_eq!(refused(&small, &asap), "normal cell: 4 nodes; the search space has 3");
        let skips = SearchSpace::new(Family::Darts, 4, vec![Operation::SkipConnect]).unwrap();
        assert_eq!(
            refused(&skips, &asap),
            "normal cell, node 0: sep_conv_3x3 is not a candidate of the search space; expected one of: skip_connect"
        );
        let other = edited(|cells| cells[1].output = vec![3, 4, 5]);
        assert!(refused(&space, &other).starts_with("reduction cell, concat: [3, 4, 5]; "));
        assert_eq!(
            refused(&SearchSpace::of(Family::NasBench201), &asap),
            "genotype: a genotype of darts; the search space is nas-bench-201"
        );
        let double = edited(|cells| cells[0].nodes[0] = vec![cells[0].nodes[0][0]; 2]);
        let weights = space.one_hot(&double).unwrap();
        assert_eq!(weights[0][..2].concat().iter().sum::<f64>(), 2.0);
    }
}
