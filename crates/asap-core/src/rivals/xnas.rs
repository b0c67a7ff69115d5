//! XNAS: candidates as experts, weighted by exponentiated gradients and wiped out when they cannot win.

use serde::{Deserialize, Serialize};

use crate::anneal::architecture::Architecture;
use crate::anneal::choice::Choice;
use crate::anneal::found::Pruned;
use crate::error::Error;
use crate::space::MixingTables;

/// The constants of Algorithm 1 of XNAS (Nayman et al. 2019, arXiv 1906.08031).
///
/// The weights v of the experts are the exponentials of the logits, so the probabilities at temperature 1 are the
/// mixture of XNAS. At step t = 1, 2, ..., T, for each remaining expert i:
/// `R_i = -dL/dw_i`, where w_i is its mixing weight (the inner product of the loss gradient for the edge's output with
/// the expert's output); `v_i <- v_i exp(eta R_i)`; then the experts with `v_i < max_j v_j exp(-2 eta L (T - t))` go.
/// There is no momentum and no weight decay, and no Jacobian of the softmax.
///
/// Rewards are clipped to the bound L. XNAS assumes the bound; with the clipping it holds, and an expert that is wiped
/// out could indeed not have caught up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExponentiatedGradient {
    /// The learning rate eta.
    pub rate: f64,
    /// The bound L on the absolute value of a reward.
    pub bound: f64,
    /// The number of steps T; at the last one only the best expert stays.
    pub steps: u64,
}

impl ExponentiatedGradient {
    /// The constants with the rate that minimizes the bound on the regret, `ln N / eta + eta T L^2 / 2`.
    ///
    /// That is `eta = sqrt(2 ln N / (T L^2))` for N `candidates`, 2 or more.
    pub fn for_steps(candidates: usize, bound: f64, steps: u64) -> Self {
        let rate = (2.0 * (candidates as f64).ln() / steps as f64).sqrt() / bound;
        Self { rate, bound, steps }
    }

    /// Checks the constants.
    ///
    /// # Errors
    /// [`Error::Value`] unless rate and bound are above 0 and finite, and there are 1 or more steps.
    pub fn check(&self) -> Result<(), Error> {
        if self.steps == 0 {
            return Err(Error::value("xnas.steps", 0, "1 or more"));
        }
        for (key, value) in [("xnas.rate", self.rate), ("xnas.bound", self.bound)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::value(key, value, "a finite number above 0"));
            }
        }
        Ok(())
    }

    /// ln theta_t relative to the best expert: the gap that can still be closed after step `t`, negated.
    fn ln_gap(&self, t: u64) -> f64 {
        -2.0 * self.rate * self.bound * self.steps.saturating_sub(t) as f64
    }
}

impl Choice {
    /// Rewards and wipes out the experts at step `t`, from 1; returns those wiped out, smallest first.
    ///
    /// `weight_gradient` is the gradient for [`Choice::weights`] at temperature 1. A decided choice does not move.
    /// Experts that tie at the last step all stay.
    ///
    /// # Panics
    /// If `weight_gradient` does not have one entry per candidate.
    pub fn exponentiate(
        &mut self,
        weight_gradient: &[f64],
        constants: &ExponentiatedGradient,
        t: u64,
    ) -> Vec<usize> {
        let bound = constants.bound;
        let clipped: Vec<_> = weight_gradient.iter().map(|g| g.clamp(-bound, bound)).collect();
        self.descend(&clipped, constants.rate);
        let ln_threshold = self.logits()[self.best()] + constants.ln_gap(t);
        let mut doomed = self.ranked();
        doomed.reverse();
        doomed.retain(|&candidate| self.logits()[candidate] < ln_threshold);
        doomed.retain(|&candidate| self.remove(candidate));
        doomed
    }
}

impl Architecture {
    /// [`Choice::exponentiate`] for the operations of every live edge; returns the ones wiped out.
    ///
    /// `mixing_gradients` is the gradient for [`Architecture::mixing_weights`] at temperature 1. The choices between
    /// the inputs of a node, which XNAS does not have, stay as they are.
    ///
    /// # Panics
    /// If the gradients have a different shape.
    pub fn exponentiate(
        &mut self,
        mixing_gradients: &MixingTables,
        constants: &ExponentiatedGradient,
        t: u64,
    ) -> Vec<Pruned> {
        let candidates = self.space().candidates.clone();
        let mut pruned = Vec::new();
        let kinds = self.space().kinds();
        assert_eq!(mixing_gradients.len(), kinds.len(), "one table of gradients per kind");
        for (&kind, gradients) in kinds.iter().zip(mixing_gradients) {
            let weights = self.cell(kind).input_weights(self.space(), 1.0);
            for edge in self.alive_edges(kind).collect::<Vec<_>>() {
                let weight = weights[edge.node][edge.input];
                let gradient: Vec<_> = gradients[edge.index].iter().map(|g| g * weight).collect();
                let choice = &mut self.cell_mut(kind).operations[edge.index];
                let gone = choice.exponentiate(&gradient, constants, t).into_iter();
                pruned.extend(gone.map(|candidate| {
                    let operation = Some(candidates[candidate]);
                    Pruned { kind, edge, operation }
                }));
            }
        }
        pruned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CellKind, EdgePolicy, SearchSpace};

    /// Algorithm 1 of XNAS on the weights v themselves.
    fn naive(
        gradients: &[[f64; 4]],
        constants: &ExponentiatedGradient,
    ) -> (Vec<(u64, usize)>, [f64; 4]) {
        let (mut v, mut left, mut gone) = ([1.0_f64; 4], vec![0, 1, 2, 3], Vec::new());
        for (t, gradient) in (1..).zip(gradients) {
            if left.len() == 1 {
                break;
            }
            for &i in &left {
                v[i] *= (constants.rate * -gradient[i]).exp();
            }
            let best = left.iter().map(|&i| v[i]).fold(0.0, f64::max);
            let span = constants.steps as f64 - t as f64;
            let theta = best * (-2.0 * constants.rate * constants.bound * span).exp();
            let mut out: Vec<_> = left.iter().copied().filter(|&i| v[i] < theta).collect();
            out.sort_by(|&a, &b| v[a].total_cmp(&v[b]));
            left.retain(|i| !out.contains(i));
            gone.extend(out.into_iter().map(|i| (t, i)));
        }
        (gone, v)
    }

    #[test]
    fn a_run_equals_the_plain_algorithm_and_ends_with_the_best() {
        let constants = ExponentiatedGradient::for_steps(4, 1.0, 60);
        assert!((constants.rate - (2.0 * 4.0_f64.ln() / 60.0).sqrt()).abs() < 1e-15);
        let gradients: Vec<[f64; 4]> = (0..60)
            .map(|t| [0, 1, 2, 3].map(|i| 0.3 * i as f64 - 0.5 + 0.1 * ((t * 7 + i) as f64).sin()))
            .collect();
        let (expected, v) = naive(&gradients, &constants);
        let mut choice = Choice::new(4, 1);
        let mut found = Vec::new();
        for (t, gradient) in (1..).zip(&gradients) {
            found.extend(choice.exponentiate(gradient, &constants, t).into_iter().map(|i| (t, i)));
        }
        assert_eq!(found, expected);
        assert!(choice.is_decided() && choice.best() == 0);
        assert!(found[0].0 > 10 && found[2].0 < 60 && found[0].0 < found[2].0, "{found:?}");
        for (logit, v) in choice.logits().iter().zip(v) {
            assert!((logit - v.ln()).abs() < 1e-12);
        }
    }

    #[test]
    fn who_is_wiped_out_could_not_have_won_and_who_stays_could() {
        let constants = ExponentiatedGradient { rate: 0.5, bound: 1.0, steps: 10 };
        // after 5 steps a gap of 2 * 0.5 * 5 = 5 can still be closed, and no more
        for (reward, t, gone) in [(1.0, 5, vec![]), (1.0, 6, vec![1])] {
            let mut choice = Choice::new(2, 1);
            choice.descend(&[-4.0, 0.0], 1.0);
            assert_eq!(choice.exponentiate(&[-reward, reward], &constants, t), gone);
        }
        // a reward beyond the bound counts as the bound
        let mut choice = Choice::new(2, 1);
        choice.exponentiate(&[-100.0, 0.25], &constants, 1);
        assert_eq!(choice.logits(), [0.5, -0.125]);
        choice.exponentiate(&[f64::NAN, f64::NAN], &constants, 2);
        assert_eq!(choice.alive_count(), 2);
    }

    #[test]
    fn every_edge_of_an_architecture_has_its_experts() {
        let constants = ExponentiatedGradient { rate: 1.0, bound: 1.0, steps: 2 };
        let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Strength);
        let mut gradients = vec![vec![vec![0.0; 7]; 14]; 2];
        gradients[1][4] = vec![1.0, 1.0, 1.0, 1.0, -1.0, 1.0, 1.0];
        assert!(architecture.exponentiate(&gradients, &constants, 1).is_empty());
        assert_eq!(architecture.exponentiate(&gradients, &constants, 2).len(), 6);
        assert_eq!(architecture.alive_operations(CellKind::Reduction, 4), [4]);
        assert_eq!(architecture.alive_count(CellKind::Normal), 98);
        assert!(ExponentiatedGradient { steps: 0, ..constants }.check().is_err());
        assert!(ExponentiatedGradient { rate: f64::NAN, ..constants }.check().is_err());
    }
}
