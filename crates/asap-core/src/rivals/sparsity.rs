//! Pruning to a given sparsity: the schedule and the rule of the paper's rivals (section 4.4, eq. 13).

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::anneal::architecture::Architecture;
use crate::anneal::found::Pruned;
use crate::error::Error;
use crate::space::MixingTables;

/// The sparsity that a cell must have reached by a time (eq. 13; Zhu and Gupta 2017).
///
/// `s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^p`, t in epochs: s_i before `start`, s_f from `end` on.
/// Sparsity is the fraction of operations that are gone, [`Architecture::cell_sparsity`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparsitySchedule {
    /// s_i, 0 in the paper.
    pub initial: f64,
    /// s_f: 6/7 leaves one of seven operations on each edge.
    pub last: f64,
    /// t_0, 20 in the paper.
    pub start: f64,
    /// t_0 + n dt, 50 to 70 in the paper.
    pub end: f64,
    /// p: at 1 the pruning rate is constant, at 3 it falls; the paper tries both.
    pub power: f64,
}

impl SparsitySchedule {
    /// s_t at time `t`.
    pub fn at(&self, t: f64) -> f64 {
        if t < self.start {
            return self.initial;
        }
        let left = (1.0 - (t - self.start) / (self.end - self.start)).max(0.0);
        self.last + (self.initial - self.last) * left.powf(self.power)
    }

    /// Checks the constants.
    ///
    /// # Errors
    /// [`Error::Value`] unless `0 <= initial <= last < 1`, `0 <= start < end` and `power > 0`, all finite.
    pub fn check(&self) -> Result<(), Error> {
        let Self { initial, last, start, end, power } = *self;
        if !(0.0..1.0).contains(&initial) {
            return Err(Error::value("sparsity.initial", initial, "a number from 0 to below 1"));
        }
        if !(last >= initial && last < 1.0) {
            let expected = format!("a number from `initial` ({initial}) to below 1");
            return Err(Error::value("sparsity.last", last, expected));
        }
        if !(start >= 0.0 && start.is_finite()) {
            return Err(Error::value("sparsity.start", start, "an epoch, 0 or more"));
        }
        if !(end > start && end.is_finite()) {
            let expected = format!("an epoch after `start` ({start})");
            return Err(Error::value("sparsity.end", end, expected));
        }
        if !(power > 0.0 && power.is_finite()) {
            return Err(Error::value("sparsity.power", power, "a number above 0, such as 1 or 3"));
        }
        Ok(())
    }
}

impl Default for SparsitySchedule {
    /// From all to one of seven operations between epochs 20 and 50, with p = 3.
    fn default() -> Self {
        Self { initial: 0.0, last: 6.0 / 7.0, start: 20.0, end: 50.0, power: 3.0 }
    }
}

impl Architecture {
    /// Removes the operations with the smallest scores until each cell kind is as sparse as requested; returns them.
    ///
    /// All edges of a kind compete together. The fewest operations are removed that make the sparsity `sparsity` or more,
    /// where a shortfall of 1e-9 operations is a rounding error. An edge keeps its last operation, so the sparsity never
    /// exceeds that of one operation per edge. Among equal scores the last candidate of the last edge goes first; NaN
    /// counts as the smallest. The scores of pruned operations have no effect.
    ///
    /// Magnitude pruning scores by [`Architecture::operation_logits`], the raw alpha and not its absolute value: a
    /// connection's multiplier is phi, which grows with alpha, so that a large negative alpha marks the weakest
    /// connection. Accumulated-gradient pruning (Lis 2018) scores by the sum over the steps of the absolute
    /// [`LogitGradients::operations`](crate::LogitGradients::operations).
    ///
    /// # Panics
    /// If the scores have a different shape.
    pub fn prune_smallest(&mut self, sparsity: f64, scores: &MixingTables) -> Vec<Pruned> {
        let total = self.total_count();
        let to_go = (sparsity * total as f64 - 1e-9).ceil().max(0.0) as usize;
        let candidates = self.space().candidates.clone();
        let mut pruned = Vec::new();
        let kinds = self.space().kinds();
        assert_eq!(scores.len(), kinds.len(), "one table of scores per kind");
        for (&kind, scores) in kinds.iter().zip(scores) {
            let mut missing = to_go.saturating_sub(total - self.alive_count(kind));
            let mut ranked: Vec<_> = self
                .alive_edges(kind)
                .flat_map(|edge| {
                    let alive = self.cell(kind).operations[edge.index].alive();
                    alive.map(move |candidate| (edge, candidate)).collect::<Vec<_>>()
                })
                .collect();
            let score = |edge: usize, candidate: usize| match scores[edge][candidate] {
                score if score.is_nan() => f64::NEG_INFINITY,
                score => score + 0.0, // -0 and 0 are equal
            };
            ranked.sort_by(|(e, c), (f, d)| {
                let by_score = score(e.index, *c).total_cmp(&score(f.index, *d));
                by_score.then(Reverse((e.index, *c)).cmp(&Reverse((f.index, *d))))
            });
            let cell = self.cell_mut(kind);
            for (edge, candidate) in ranked {
                if missing > 0 && cell.operations[edge.index].remove(candidate) {
                    missing -= 1;
                    let operation = Some(candidates[candidate]);
                    pruned.push(Pruned { kind, edge, operation });
                }
            }
        }
        pruned
    }

    /// The logits of all operations, those of pruned ones included.
    pub fn operation_logits(&self) -> MixingTables {
        let of_kind = |&kind| {
            self.cell(kind).operations.iter().map(|choice| choice.logits().to_vec()).collect()
        };
        self.space().kinds().iter().map(of_kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adam, CellKind, EdgePolicy, SearchSpace};

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn sparsity_follows_equation_13() {
        let schedule =
            |power| SparsitySchedule { initial: 0.1, last: 0.9, start: 20.0, end: 60.0, power };
        for power in [0.5, 1.0, 3.0] {
            assert!(schedule(power).check().is_ok());
            for (t, expected) in [(0.0, 0.1), (20.0, 0.1), (60.0, 0.9), (200.0, 0.9)] {
                close(schedule(power).at(t), expected);
            }
        }
        close(schedule(1.0).at(40.0), 0.5);
        close(schedule(3.0).at(40.0), 0.9 - 0.8 / 8.0);
        close(schedule(3.0).at(30.0), 0.9 - 0.8 * 27.0 / 64.0);
        close(schedule(2.0).at(50.0), 0.9 - 0.8 / 16.0);
    }

    #[test]
    fn a_schedule_that_makes_no_sense_is_refused_by_its_key() {
        let good = SparsitySchedule::default();
        assert!(good.check().is_ok());
        for (bad, key) in [
            (SparsitySchedule { initial: -0.1, ..good }, "initial"),
            (SparsitySchedule { initial: 0.9, ..good }, "last"),
            (SparsitySchedule { last: 1.0, ..good }, "last"),
            (SparsitySchedule { last: f64::NAN, ..good }, "last"),
            (SparsitySchedule { start: -1.0, ..good }, "start"),
            (SparsitySchedule { end: 20.0, ..good }, "end"),
            (SparsitySchedule { power: 0.0, ..good }, "power"),
        ] {
            let text = bad.check().unwrap_err().to_string();
            assert!(text.starts_with(&format!("`sparsity.{key}`")), "{text}");
        }
    }

    fn full() -> Architecture {
        Architecture::new(SearchSpace::default(), EdgePolicy::Strength)
    }

    #[test]
    fn the_smallest_scores_go_first_whatever_the_edge() {
        let mut scores = vec![vec![vec![1.0; 7]; 14]; 2];
        scores[0][3][4] = -2.0;
        scores[0][9][1] = -3.0;
        scores[1][0] = vec![0.5, 0.4, 0.3, 0.2, 0.1, f64::NAN, -f64::NAN];
        let mut architecture = full();
        let pruned = architecture.prune_smallest(3.0 / 98.0, &scores);
        let found: Vec<_> = pruned.iter().map(ToString::to_string).collect();
        let edge = |index| SearchSpace::default().edges().nth(index).unwrap();
        assert_eq!((edge(9).node, edge(9).input, edge(3).node, edge(3).input), (3, 0, 1, 1));
        assert_eq!(
            found,
            [
                "normal 5<-0 avg_pool_3x3",
                "normal 3<-1 sep_conv_5x5",
                "normal 5<-4 dil_conv_5x5", // of equals the last
                "reduction 2<-0 dil_conv_5x5",
                "reduction 2<-0 dil_conv_3x3",
                "reduction 2<-0 sep_conv_5x5",
            ]
        );
        assert!(architecture.prune_smallest(3.0 / 98.0, &scores).is_empty());
        assert!(architecture.prune_smallest(-1.0, &scores).is_empty());
        // a pruned operation's score has no effect, and the last of an edge stays
        scores[0][9][1] = -9.0;
        scores[1][0] = vec![-9.0; 7];
        let pruned = architecture.prune_smallest(8.5 / 98.0, &scores);
        assert_eq!(pruned.len(), 6 + 6);
        assert_eq!(architecture.alive_operations(CellKind::Reduction, 0), [0]);
        assert_eq!(architecture.alive_count(CellKind::Reduction), 98 - 9);
    }

    #[test]
    fn magnitude_pruning_cuts_what_the_search_pushed_down() {
        let mut architecture = full();
        let gradients = vec![vec![vec![0.0, -1.0, 0.0, 9.0, 0.0, 0.0, 0.0]; 14]; 2];
        architecture.step(&gradients, 1.0, &Adam::default());
        let logits = architecture.operation_logits();
        assert_eq!(logits[1][5], architecture.cell(CellKind::Reduction).operations[5].logits());
        let pruned = architecture.prune_smallest(1.0 / 7.0, &logits);
        assert_eq!(pruned.len(), 28);
        let fourth = SearchSpace::default().candidates[3];
        assert!(pruned.iter().all(|p| p.operation == Some(fourth)));
    }
}
