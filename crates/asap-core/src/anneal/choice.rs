//! One mixed operation: candidates whose probabilities are annealed, and that are pruned one by one.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::numeric::adam::{Adam, Moments};

/// A choice between candidates, annealed and pruned until `keep` of them are left.
///
/// Candidates are numbers from 0. On an edge they are the operations and one is kept; of a node's incoming edges
/// some are kept. Logits start at 0. A pruned candidate has probability 0 and never comes back; the logits and optimizer
/// state of the others stay as they are. A round trip through JSON is bit-exact.
///
/// ```
/// use asap_core::Choice;
/// let mut choice = Choice::new(3, 1);
/// choice.descend(&[-1.0, 0.0, 1.0], 0.5);
/// assert_eq!(choice.logits(), [0.5, 0.0, -0.5]);
/// assert_eq!(choice.prune(0.3, 0.4 / 3.0), [2]);
/// assert_eq!(choice.best(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawChoice")]
pub struct Choice {
    keep: usize,
    alive: Vec<bool>,
    logits: Vec<f64>,
    #[serde(flatten)]
    moments: Moments,
}

impl Choice {
    /// A choice between `candidates` candidates of which `keep` survive, all logits 0.
    ///
    /// # Panics
    /// If `keep` is 0 or greater than `candidates`.
    pub fn new(candidates: usize, keep: usize) -> Self {
        assert!(
            (1..=candidates).contains(&keep),
            "a choice keeps 1 to {candidates} of its {candidates} candidates, not {keep}"
        );
        Self {
            keep,
            alive: vec![true; candidates],
            logits: vec![0.0; candidates],
            moments: Moments::new(candidates),
        }
    }

    /// Number of candidates at the start, N.
    #[allow(clippy::len_without_is_empty, reason = "a choice is never empty")]
    pub fn len(&self) -> usize {
        self.alive.len()
    }

    /// Number of candidates that survive.
    pub fn keep(&self) -> usize {
        self.keep
    }

    /// The remaining candidates, in order.
    pub fn alive(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(|&candidate| self.alive[candidate])
    }

    /// True if the candidate has not been pruned.
    pub fn is_alive(&self, candidate: usize) -> bool {
        self.alive[candidate]
    }

    /// Number of remaining candidates.
    pub fn alive_count(&self) -> usize {
        self.alive().count()
    }

    /// True if only `keep` candidates remain.
    pub fn is_decided(&self) -> bool {
        self.alive_count() == self.keep
    }

    /// The raw architecture weights alpha, those of pruned candidates included.
    pub fn logits(&self) -> &[f64] {
        &self.logits
    }

    /// The remaining candidate with the largest logit; the first of equals.
    pub fn best(&self) -> usize {
        self.ranked()[0]
    }

    /// The remaining candidates, largest logit first; equals in order.
    pub fn ranked(&self) -> Vec<usize> {
        let mut ranked: Vec<_> = self.alive().collect();
        ranked.sort_by(|&a, &b| self.logits[b].total_cmp(&self.logits[a]));
        ranked
    }

    /// Phi (eq. 3) over the remaining candidates, 0 for the pruned. At temperature 0 the largest logits share it equally.
    pub fn probabilities(&self, temperature: f64) -> Vec<f64> {
        let ln = self.ln_probabilities(temperature);
        ln.into_iter().map(f64::exp).collect()
    }

    /// The logarithm of [`Choice::probabilities`], minus infinity for the pruned.
    pub fn ln_probabilities(&self, temperature: f64) -> Vec<f64> {
        let logits = self.alive().map(|candidate| self.logits[candidate]);
        let largest = logits.fold(f64::NEG_INFINITY, f64::max);
        let mut energies: Vec<_> = (0..self.len())
            .map(|candidate| match self.logits[candidate] - largest {
                _ if !self.alive[candidate] => f64::NEG_INFINITY,
                0.0 => 0.0, // also at temperature 0
                gap => gap / temperature,
            })
            .collect();
        let ln_sum = energies.iter().map(|e| e.exp()).sum::<f64>().ln();
        energies.iter_mut().for_each(|energy| *energy -= ln_sum);
        energies
    }

    /// The factor of each candidate's output: `keep` times its probability, and exactly 1 once decided.
    pub fn weights(&self, temperature: f64) -> Vec<f64> {
        if self.is_decided() {
            return self.alive.iter().map(|&alive| f64::from(alive)).collect();
        }
        let mut weights = self.probabilities(temperature);
        weights.iter_mut().for_each(|w| *w *= self.keep as f64);
        weights
    }

    /// The gradient for the logits, from the gradient for [`Choice::weights`] at the same temperature (eq. 4).
    ///
    /// The true gradient: `keep * phi_k (g_k - sum_j phi_j g_j) / T`; eq. 4 omits the `1 / T`.
    /// 0 for pruned candidates, and everywhere once decided.
    ///
    /// # Panics
    /// If `weight_gradient` does not have one entry per candidate.
    pub fn logit_gradient(&self, weight_gradient: &[f64], temperature: f64) -> Vec<f64> {
        assert_eq!(weight_gradient.len(), self.len(), "one gradient per candidate");
        if self.is_decided() {
            return vec![0.0; self.len()];
        }
        let phi = self.probabilities(temperature);
        let alive = self.alive();
        let mean: f64 = alive.map(|j| phi[j] * weight_gradient[j]).sum();
        let scale = self.keep as f64 / temperature;
        (0..self.len())
            .map(|k| match self.alive[k] {
                true => scale * phi[k] * (weight_gradient[k] - mean),
                false => 0.0,
            })
            .collect()
    }

    /// One Adam step on the logits of the remaining candidates; a decided choice does not move, nor does one without any gradient, which
    /// rests.
    ///
    /// # Panics
    /// If `logit_gradient` does not have one entry per candidate.
    pub fn step(&mut self, logit_gradient: &[f64], adam: &Adam) {
        assert_eq!(logit_gradient.len(), self.len(), "one gradient per candidate");
        if self.is_decided() || logit_gradient.iter().all(|gradient| *gradient == 0.0) {
            return;
        }
        let alive = &self.alive;
        self.moments.step(adam, &mut self.logits, logit_gradient, |i| alive[i]);
    }

    /// One step of plain gradient descent, as eq. 4 is written; a decided choice does not move.
    ///
    /// # Panics
    /// If `logit_gradient` does not have one entry per candidate.
    pub fn descend(&mut self, logit_gradient: &[f64], rate: f64) {
        assert_eq!(logit_gradient.len(), self.len(), "one gradient per candidate");
        if self.is_decided() {
            return;
        }
        for i in (0..self.len()).filter(|&i| self.alive[i]) {
            self.logits[i] -= rate * logit_gradient[i];
        }
    }

    /// Sets the logits of the remaining candidates; those of a decided choice stay.
    ///
    /// # Panics
    /// If there is not one logit per candidate.
    pub fn place(&mut self, logits: &[f64]) {
        assert_eq!(logits.len(), self.len(), "one logit per candidate");
        if self.is_decided() {
            return;
        }
        for i in (0..self.len()).filter(|&i| self.alive[i]) {
            self.logits[i] = logits[i];
        }
    }

    /// Removes the candidates whose probability is below `threshold` and returns them, smallest first.
    ///
    /// Lines 7 to 9 of Algorithm 1. The probabilities are those before the first removal. If too few would remain, the
    /// most probable of the doomed stay; the first of equals.
    pub fn prune(&mut self, temperature: f64, threshold: f64) -> Vec<usize> {
        self.prune_ln(temperature, threshold.ln())
    }

    /// [`Choice::prune`] with the logarithm of the threshold, for thresholds too small for a float.
    pub fn prune_ln(&mut self, temperature: f64, ln_threshold: f64) -> Vec<usize> {
        let ln_phi = self.ln_probabilities(temperature);
        let mut doomed = self.ranked();
        doomed.reverse();
        doomed.truncate(self.alive_count() - self.keep);
        doomed.retain(|&candidate| ln_phi[candidate] < ln_threshold);
        for &candidate in &doomed {
            self.alive[candidate] = false;
        }
        doomed
    }

    /// Removes a candidate; returns false, and changes nothing, if it is already gone or the choice is decided.
    pub fn remove(&mut self, candidate: usize) -> bool {
        let removed = self.alive[candidate] && !self.is_decided();
        if removed {
            self.alive[candidate] = false;
        }
        removed
    }

    /// Resets logits and optimizer state; removed candidates stay removed.
    pub fn restart(&mut self) {
        self.logits.fill(0.0);
        self.moments = Moments::new(self.len());
    }

    /// Entropy of the probabilities divided by that of the start, ln N (Fig. 7): 1 at the start, 0 once decided.
    pub fn normalized_entropy(&self, temperature: f64) -> f64 {
        if self.is_decided() {
            return 0.0;
        }
        let ln_phi = self.ln_probabilities(temperature);
        let entropy: f64 = ln_phi.iter().filter(|ln| ln.is_finite()).map(|ln| -ln * ln.exp()).sum();
        entropy / (self.len() as f64).ln()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChoice {
    keep: usize,
    alive: Vec<bool>,
    logits: Vec<f64>,
    first_moment: Vec<f64>,
    second_moment: Vec<f64>,
    steps: u64,
}

impl TryFrom<RawChoice> for Choice {
    type Error = Error;

    fn try_from(raw: RawChoice) -> Result<Self, Error> {
        let candidates = raw.alive.len();
        if raw.logits.len() != candidates {
            let expected = format!("{candidates} numbers, one for each entry of `alive`");
            return Err(Error::value("logits", format!("{} numbers", raw.logits.len()), expected));
        }
        let moments = Moments::load(raw.first_moment, raw.second_moment, raw.steps, candidates)?;
        let alive = raw.alive.iter().filter(|&&alive| alive).count();
        if !(1..=alive).contains(&raw.keep) {
            let expected = format!("1 to {alive}, the number of candidates alive");
            return Err(Error::value("keep", raw.keep, expected));
        }
        Ok(Self { keep: raw.keep, alive: raw.alive, logits: raw.logits, moments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_logits(logits: &[f64], keep: usize) -> Choice {
        let mut choice = Choice::new(logits.len(), keep);
        let gradient: Vec<_> = logits.iter().map(|logit| -logit).collect();
        choice.descend(&gradient, 1.0);
        choice
    }

    fn close(a: &[f64], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        for (x, y) in a.iter().zip(b) {
            assert!((x - y).abs() <= tolerance, "{a:?} is not {b:?}");
        }
    }

    #[test]
    fn probabilities_are_a_softmax_over_those_left() {
        let mut choice = with_logits(&[0.3, -0.2, 0.9, 0.1], 1);
        choice.remove(1);
        let naive = |logit: f64| (logit / 0.7).exp();
        let sum = naive(0.3) + naive(0.9) + naive(0.1);
        let expected = [naive(0.3) / sum, 0.0, naive(0.9) / sum, naive(0.1) / sum];
        close(&choice.probabilities(0.7), &expected, 1e-15);
    }

    #[test]
    fn cold_choices_are_sharp_and_hot_ones_uniform() {
        let choice = with_logits(&[1.0, 1.0, -800.0], 1);
        for temperature in [1e-3, 1e-300, 0.0] {
            close(&choice.probabilities(temperature), &[0.5, 0.5, 0.0], 1e-15);
        }
        close(&choice.probabilities(f64::INFINITY), &[1.0 / 3.0; 3], 1e-15);
    }

    #[test]
    fn the_gradient_is_that_of_the_weights_by_finite_differences() {
        let (temperature, step) = (0.37, 1e-6);
        let upstream = [0.7, -1.1, 0.4, 2.0];
        for keep in [1, 2] {
            let mut choice = with_logits(&[0.3, -0.2, 0.1, 0.25], keep);
            choice.remove(2);
            let loss = |choice: &Choice| -> f64 {
                let weights = choice.weights(temperature);
                weights.iter().zip(upstream).map(|(w, g)| w * g).sum()
            };
            let numeric: Vec<_> = (0..4)
                .map(|i| {
                    let (mut above, mut below) = (choice.clone(), choice.clone());
                    above.logits[i] += step;
                    below.logits[i] -= step;
                    (loss(&above) - loss(&below)) / (2.0 * step)
                })
                .collect();
            close(&choice.logit_gradient(&upstream, temperature), &numeric, 1e-8);
        }
    }

    #[test]
    fn a_decided_choice_weighs_1_and_does_not_move() {
        for keep in [1, 2] {
            let mut choice = with_logits(&[0.5, 0.4, 0.3], keep);
            while choice.remove(choice.ranked()[choice.alive_count() - 1]) {}
            assert!(choice.is_decided());
            let before = choice.clone();
            choice.step(&[1.0; 3], &Adam::default());
            choice.descend(&[1.0; 3], 1.0);
            assert_eq!(choice, before);
            assert_eq!(choice.weights(0.3), [1.0, f64::from(keep == 2), 0.0]);
            assert_eq!(choice.logit_gradient(&[1.0, 2.0, 3.0], 0.3), [0.0; 3]);
            assert_eq!(choice.normalized_entropy(0.3), 0.0);
            assert!(choice.prune(0.3, 2.0).is_empty());
        }
    }

    #[test]
    fn pruning_takes_all_below_the_threshold_at_once_but_never_too_many() {
        let mut choice = with_logits(&[0.0, -2.0, -1.0, 0.1], 1);
        // 0.383, 0.052, 0.141, 0.424; without 1 and 2 candidate 0 would have 0.475
        assert_eq!(choice.clone().prune(1.0, 0.2), [1, 2]);
        assert_eq!(choice.clone().prune(1.0, 0.42), [1, 2, 0]);
        assert_eq!(choice.prune(1.0, 1.5), [1, 2, 0]);
        assert_eq!(choice.alive().collect::<Vec<_>>(), [3]);

        let mut equal = Choice::new(4, 2);
        assert!(equal.prune(1.0, 0.25).is_empty());
        assert_eq!(equal.prune(1.0, 0.26), [3, 2]);
    }

    #[test]
    fn survivors_keep_logits_and_optimizer_state_to_the_bit() {
        let mut choice = Choice::new(3, 1);
        let adam = Adam::default();
        choice.step(&[-1.0, 0.2, 3.0], &adam);
        let before = choice.clone();
        assert!(choice.remove(2) && !choice.remove(2));
        assert_eq!(choice.logits, before.logits);
        assert_eq!(choice.moments, before.moments);
        choice.step(&[-1.0, 0.2, 3.0], &adam);
        let mut unpruned = before.clone();
        unpruned.step(&[-1.0, 0.2, 3.0], &adam);
        assert_eq!(choice.logits[..2], unpruned.logits[..2]);
        assert_eq!(choice.logits[2], before.logits[2]);
    }

    #[test]
    fn entropy_is_1_at_the_start_and_falls_to_0() {
        let mut choice = Choice::new(7, 1);
        assert!((choice.normalized_entropy(1.3) - 1.0).abs() < 1e-15);
        choice.remove(0);
        let expected = 6.0_f64.ln() / 7.0_f64.ln();
        assert!((choice.normalized_entropy(1.3) - expected).abs() < 1e-15);
        let sharp = with_logits(&[1.0, 0.0], 1);
        assert!(sharp.normalized_entropy(1e-3) < 1e-100);
    }

    #[test]
    fn a_copy_through_json_is_equal_and_a_broken_one_is_refused() {
        let mut choice = Choice::new(3, 1);
        choice.step(&[0.1, -0.7, 1.0 / 3.0], &Adam::default());
        choice.remove(0);
        let json = serde_json::to_string(&choice).unwrap();
        assert_eq!(serde_json::from_str::<Choice>(&json).unwrap(), choice);
        let broken = |from: &str, to: &str| {
            serde_json::from_str::<Choice>(&json.replace(from, to)).unwrap_err().to_string()
        };
        assert!(broken("\"alive\":[false,", "\"alive\":[").contains("`logits` is 3 numbers"));
        assert!(broken("\"keep\":1", "\"keep\":3").contains("expected 1 to 2"));
    }
}
