//! A search in stages (P-DARTS, Chen et al. 2019): from stage to stage fewer operations compete, from equal alphas.

use crate::anneal::architecture::Architecture;
use crate::anneal::choice::Choice;
use crate::anneal::derive::Derived;
use crate::anneal::found::Pruned;
use crate::space::{CellKind, Operation};

impl Architecture {
    /// Keeps the `count` operations with the largest logits on each edge, the first of equals; returns the removed ones.
    ///
    /// An edge keeps at least one.
    pub fn keep_largest(&mut self, count: usize) -> Vec<Pruned> {
        let candidates = self.space().candidates.clone();
        let mut pruned = Vec::new();
        for &kind in self.space().kinds() {
            for edge in self.alive_edges(kind).collect::<Vec<_>>() {
                let choice = &mut self.cell_mut(kind).operations[edge.index];
                for candidate in choice.ranked().into_iter().skip(count.max(1)) {
                    choice.remove(candidate);
                    let operation = Some(candidates[candidate]);
                    pruned.push(Pruned { kind, edge, operation });
                }
            }
        }
        pruned
    }

    /// Resets every logit and its optimizer state; removed operations stay removed.
    pub fn restart(&mut self) {
        for &kind in self.space().kinds() {
            let cell = self.cell_mut(kind);
            let inputs = cell.inputs.iter_mut().flatten();
            cell.operations.iter_mut().chain(inputs).for_each(Choice::restart);
        }
    }

    /// The genotype with at most `limit` skip connections in the normal cell: while there are more, the least probable
    /// of them is removed (P-DARTS, section 3.3), which makes the other operations of its edge no more probable. A skip connection that
    /// is alone on its edge stays.
    pub fn derive_with_skips(&self, limit: usize) -> Derived {
        let mut limited = self.clone();
        loop {
            let derived = limited.derive_by(self);
            let normal = derived.genotype.cell(CellKind::Normal);
            if normal.skip_count() <= limit {
                return derived;
            }
            let skip = limited.space().candidates.iter().position(|&o| o == Operation::SkipConnect);
            let Some(skip) = skip else { return derived };
            let cell = limited.cell(CellKind::Normal);
            let weakest = (normal.genes())
                .filter(|(_, gene)| gene.operation == Operation::SkipConnect)
                .map(|(node, gene)| limited.space().edge_index(node, gene.input))
                .filter(|&edge| !cell.operations[edge].is_decided())
                .min_by(|&a, &b| {
                    let probability = |edge: usize| cell.operations[edge].probabilities(1.0)[skip];
                    probability(a).total_cmp(&probability(b))
                });
            let Some(weakest) = weakest else { return derived };
            limited.cell_mut(CellKind::Normal).operations[weakest].remove(skip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EdgePolicy, SearchSpace};

    /// Logits that follow no pattern.
    fn moved() -> Architecture {
        let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Strength);
        for &kind in SearchSpace::default().kinds() {
            for (edge, choice) in architecture.cell_mut(kind).operations.iter_mut().enumerate() {
                let push: Vec<f64> =
                    (0..7).map(|c| ((edge * 7 + c) as f64 * 12.9898).sin()).collect();
                choice.descend(&push, 1.0);
            }
        }
        architecture
    }

    #[test]
    fn the_largest_stay_and_begin_anew() {
        let mut architecture = moved();
        let before = architecture.clone();
        let pruned = architecture.keep_largest(3);
        assert_eq!(pruned.len(), 2 * 14 * 4);
        for edge in 0..14 {
            let choice = &architecture.cell(CellKind::Reduction).operations[edge];
            let ranked = before.cell(CellKind::Reduction).operations[edge].ranked();
            assert_eq!(choice.ranked(), ranked[..3]);
        }
        architecture.restart();
        let weights = architecture.mixing_weights(CellKind::Normal, 1.0);
        assert!(weights.iter().flatten().all(|w| *w == 0.0 || (w - 1.0 / 3.0).abs() < 1e-15));
        architecture.keep_largest(0);
        assert!(architecture.is_decided());
    }

    #[test]
    fn an_edge_without_its_skip_is_as_strong_as_the_operation_that_is_left() {
        let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Strength);
        // Node 1 has the edges 2 to 4. Candidates 2, 3 and 5 are skip_connect, sep_conv_3x3 and dil_conv_3x3.
        let cell = architecture.cell_mut(CellKind::Normal);
        for (edge, [skip, separable, dilated]) in
            (2..).zip([[0.5, 0.3, 0.2], [0.3, 0.45, 0.25], [0.35, 0.25, 0.4]])
        {
            let mut push = [50.0; 7];
            (push[2], push[3], push[5]) = (-f64::ln(skip), -f64::ln(separable), -f64::ln(dilated));
            cell.operations[edge].descend(&push, 1.0);
        }
        let inputs = |limit| -> Vec<usize> {
            let cell = architecture.derive_with_skips(limit).genotype;
            cell.cell(CellKind::Normal).nodes[1].iter().map(|gene| gene.input).collect()
        };
        assert_eq!(inputs(1), [0, 1]);
        assert_eq!(inputs(0), [1, 2], "0.3 is less than 0.4");
    }

    #[test]
    fn skips_beyond_the_limit_give_way_to_the_next_best() {
        let mut architecture = moved();
        let skip = 2;
        assert_eq!(architecture.space().candidates[skip], Operation::SkipConnect);
        for (edge, choice) in
            architecture.cell_mut(CellKind::Normal).operations.iter_mut().enumerate()
        {
            let mut push = vec![0.0; 7];
            push[skip] = -5.0 - 0.1 * edge as f64;
            choice.descend(&push, 1.0);
        }
        assert_eq!(architecture.derive().genotype.cell(CellKind::Normal).skip_count(), 8);
        for limit in [0, 2, 8] {
            let derived = architecture.derive_with_skips(limit).genotype;
            assert_eq!(derived.cell(CellKind::Normal).skip_count(), limit);
            assert_eq!(derived.cells()[1], architecture.derive().genotype.cells()[1]);
        }
    }
}
