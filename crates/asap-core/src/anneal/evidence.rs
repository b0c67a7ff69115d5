//! What is known of the candidates of a choice, and how surely.

use serde::{Deserialize, Serialize};

use super::choice::Choice;
use crate::numeric::normal::distribution;

/// Observations from which on their variance is taken for known.
const ENOUGH: f64 = 20.0;
/// r of Robbins' mixture in [`ChoiceEvidence::error`]: the larger, the more observations it is sharp for.
const MIXTURE: f64 = 200.0;
/// A logistic function of this many times x is close to the normal distribution function of x.
const LOGISTIC: f64 = 1.702;

/// For each candidate of a [`Choice`] the mean and the variance of its observations.
///
/// An observation is a loss, or the gradient of the loss for the candidate's weight, less the mean of all candidates for
/// the same images: the best candidate has the smallest mean. This is Claim 1 with the measured variance in place of the
/// bound L on the gradients: a candidate is out once the distance of its mean from the best is larger than chance explains.
///
/// Observations count less the older they are, since the weights of the network have changed: by a factor of e after
/// `memory` calls of [`ChoiceEvidence::forget`].
///
/// ```
/// use asap_core::ChoiceEvidence;
///
/// let mut evidence = ChoiceEvidence::new(2, f64::INFINITY);
/// for step in 0..100 {
///     let noise = f64::from(step % 7) - 3.0;
///     evidence.observe(0, noise, 1.0);
///     evidence.observe(1, 1.0 - noise, 1.0);
/// }
/// assert!(evidence.lead(0, 1) > 0.99, "the first candidate is better than the second");
/// assert!(evidence.lead(1, 0) < 0.01);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoiceEvidence {
    memory: Option<f64>,
    candidates: Vec<Moments>,
    /// For the pruned, their distance from the leader when they went, and the variance of their mean.
    pruned: Vec<Option<(f64, f64)>>,
}

/// Weighted mean and variance of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moments {
    /// Sum of the weights, and of their squares.
    weight: f64,
    squared_weights: f64,
    mean: f64,
    /// Weighted sum of the squared distances from the mean.
    squares: f64,
}

impl ChoiceEvidence {
    /// No evidence yet on `candidates` candidates; an infinite `memory` forgets nothing.
    pub fn new(candidates: usize, memory: f64) -> Self {
        Self {
            memory: memory.is_finite().then_some(memory),
            candidates: vec![Moments::default(); candidates],
            pruned: vec![None; candidates],
        }
    }

    /// Adds an observation of a candidate. `inflation` corrects its variance, if the mean that was subtracted from it
    /// contains the observation itself: `n / (n - 1)` for the mean of n.
    ///
    /// # Panics
    /// If there is no such candidate.
    pub fn observe(&mut self, candidate: usize, value: f64, inflation: f64) {
        self.candidates[candidate].add(value, inflation);
    }

    /// Adds a gradient of every remaining candidate of `choice`, taken from the same images.
    ///
    /// # Panics
    /// If there is not one gradient per candidate.
    pub fn observe_all(&mut self, choice: &Choice, gradients: &[f64]) {
        assert_eq!(gradients.len(), self.candidates.len(), "one gradient per candidate");
        let count = choice.alive_count() as f64;
        if count < 2.0 {
            return;
        }
        let mean = choice.alive().map(|candidate| gradients[candidate]).sum::<f64>() / count;
        for candidate in choice.alive() {
            self.observe(candidate, gradients[candidate] - mean, count / (count - 1.0));
        }
    }

    /// Lets all observations so far count less.
    pub fn forget(&mut self) {
        if let Some(memory) = self.memory {
            let factor = (-1.0 / memory).exp();
            self.candidates.iter_mut().for_each(|moments| moments.fade(factor));
        }
    }

    /// Mean observation of a candidate.
    pub fn mean(&self, candidate: usize) -> f64 {
        self.candidates[candidate].mean
    }

    /// Standard error of that mean; `None` after too few observations.
    pub fn standard_error(&self, candidate: usize) -> Option<f64> {
        self.candidates[candidate].variance_of_mean().map(f64::sqrt)
    }

    /// How sure it is that `a` is better than `b`, from 0 to 1: the normal distribution function of the difference of their
    /// means in units of its standard error. 0.5, a coin toss, as long as nothing is known.
    pub fn lead(&self, a: usize, b: usize) -> f64 {
        distribution(self.score(a, b).unwrap_or(0.0))
    }

    /// Bound on the probability that `a` ever has such a lead over `b` although it is not better, however often one looks:
    /// Robbins' mixture of normal likelihood ratios, `sqrt((n + r) / r) exp(-z^2 n / (2 (n + r)))` for a lead of z standard
    /// errors after n observations. That of a memory that fades holds for about as long as it lasts.
    pub fn error(&self, a: usize, b: usize) -> f64 {
        let Some(z) = self.score(a, b).filter(|z| *z > 0.0) else { return 1.0 };
        let n = self.candidates[a].count().min(self.candidates[b].count());
        let exponent = z * z * n / (2.0 * (n + MIXTURE));
        (((n + MIXTURE) / MIXTURE).sqrt() * (-exponent).exp()).min(1.0)
    }

    /// The remaining candidates of `choice`, best first.
    pub fn ranked(&self, choice: &Choice) -> Vec<usize> {
        let mut ranked: Vec<_> = choice.alive().collect();
        ranked.sort_by(|&a, &b| self.mean(a).total_cmp(&self.mean(b)));
        ranked
    }

    /// True if it is allowed to prune `candidate` when at most `delta` of all choices may lose a candidate that belongs to
    /// the best.
    pub fn allows(&self, choice: &Choice, candidate: usize, delta: f64) -> bool {
        let rivals = (choice.len() - 1).max(1) as f64;
        self.error(self.last_kept(choice), candidate) <= delta / rivals
    }

    fn doomed(&self, choice: &Choice, delta: f64) -> Vec<usize> {
        let out = |&candidate: &usize| self.allows(choice, candidate, delta);
        self.ranked(choice)[choice.keep()..].iter().rev().copied().filter(out).collect()
    }

    /// Prunes the candidates that the evidence [allows](Self::allows), worst first.
    pub fn prune(&mut self, choice: &mut Choice, delta: f64) -> Vec<usize> {
        let doomed = self.doomed(choice, delta);
        doomed.iter().for_each(|&candidate| self.remove(choice, candidate));
        doomed
    }

    /// Removes a candidate, and keeps what was known of it.
    pub fn remove(&mut self, choice: &mut Choice, candidate: usize) {
        let known = self.estimate(candidate);
        if choice.remove(candidate) {
            // Below 0 if something else than evidence removed the best.
            let leader = self.mean(self.last_kept(choice));
            self.pruned[candidate] = known.map(|(mean, variance)| (mean - leader, variance));
        }
    }

    /// The mean of every candidate and the variance of that mean, the pruned at their last distance from the leader; `None` if one is not
    /// known. The `kept` come first, then the others that are left, each best first.
    pub(super) fn estimates(&self, choice: &Choice, kept: &[usize]) -> Option<Vec<(f64, f64)>> {
        let mut ranked = self.ranked(choice);
        let leader = self.mean(ranked[choice.keep() - 1]);
        ranked.sort_by_key(|candidate| !kept.contains(candidate));
        let left = ranked.into_iter().map(|candidate| self.estimate(candidate));
        let gone = (0..choice.len()).filter(|&candidate| !choice.is_alive(candidate));
        let gone = gone.map(|c| self.pruned[c].map(|(gap, variance)| (leader + gap, variance)));
        left.chain(gone).collect()
    }

    /// The candidates that are kept if evidence decides: the best of those that remain.
    pub fn best(&self, choice: &Choice) -> Vec<usize> {
        let mut best = self.ranked(choice);
        best.truncate(choice.keep());
        best
    }

    /// The best of the remaining candidates beside those that are `kept`, if there is one.
    pub fn runner_up(&self, choice: &Choice, kept: &[usize]) -> Option<usize> {
        self.ranked(choice).into_iter().find(|candidate| !kept.contains(candidate))
    }

    /// Logits in units of evidence: at a temperature of 1 the softmax of two candidates is close to [`Self::lead`]. The
    /// temperature of eq. 3 is in the unit: it is the standard error, and falls as observations come in. Before that error is
    /// known the unit is 1.
    pub fn logits(&self, choice: &Choice) -> Vec<f64> {
        let errors = choice.alive().filter_map(|c| self.candidates[c].variance_of_mean());
        let (sum, count) =
            errors.fold((0.0, 0.0), |(sum, count), error| (sum + error, count + 1.0));
        let unit = (2.0 * sum / count).sqrt() / LOGISTIC;
        let unit = if unit > 0.0 { unit } else { 1.0 };
        let logit = |moments: &Moments| -moments.mean / unit;
        self.candidates.iter().map(logit).collect()
    }

    /// The last of the candidates that are kept if nothing changes any more.
    fn last_kept(&self, choice: &Choice) -> usize {
        self.ranked(choice)[choice.keep() - 1]
    }

    /// Mean of a candidate, and the variance of that mean as an estimate.
    fn estimate(&self, candidate: usize) -> Option<(f64, f64)> {
        let moments = &self.candidates[candidate];
        Some((moments.mean, moments.variance_of_mean()?))
    }

    /// The lead of `a` over `b` in standard errors. The errors are taken for independent, but for what all candidates share: where groups of
    /// them have noise in common, as convolutions may have, the lead of one group over another is too large, by up to a third.
    fn score(&self, a: usize, b: usize) -> Option<f64> {
        let ((a, variance_of_a), (b, variance_of_b)) = (self.estimate(a)?, self.estimate(b)?);
        let variance = variance_of_a + variance_of_b;
        (variance > 0.0).then(|| (b - a) / variance.sqrt())
    }
}

impl Moments {
    fn add(&mut self, value: f64, inflation: f64) {
        self.weight += 1.0;
        self.squared_weights += 1.0;
        let distance = value - self.mean;
        self.mean += distance / self.weight;
        self.squares += inflation * distance * (value - self.mean);
    }

    fn fade(&mut self, factor: f64) {
        self.weight *= factor;
        self.squared_weights *= factor * factor;
        self.squares *= factor;
    }

    /// Number of equally weighted observations with the same variance of the mean.
    fn count(&self) -> f64 {
        if self.weight > 0.0 { self.weight * self.weight / self.squared_weights } else { 0.0 }
    }

    fn variance_of_mean(&self) -> Option<f64> {
        let count = self.count();
        (count >= ENOUGH).then(|| self.squares / self.weight / (count - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::anneal::certainty::Prior;
    use crate::numeric::normal::draw;

    /// Evidence on candidates with these means, after some steps with noise of deviation 1 and a part that all share.
    fn observed(means: &[f64], steps: usize, seed: u64) -> (Choice, ChoiceEvidence) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let choice = Choice::new(means.len(), 1);
        let mut evidence = ChoiceEvidence::new(means.len(), f64::INFINITY);
        for _ in 0..steps {
            let shared = 10.0 * draw(&mut random);
            let gradients: Vec<_> =
                means.iter().map(|mean| mean + shared + draw(&mut random)).collect();
            evidence.observe_all(&choice, &gradients);
        }
        (choice, evidence)
    }

    #[test]
    fn means_and_errors_are_those_of_the_observations() {
        let mut evidence = ChoiceEvidence::new(2, f64::INFINITY);
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        values.iter().for_each(|value| evidence.observe(1, *value, 1.0));
        let mean = values.iter().sum::<f64>() / 40.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 39.0;
        assert!((evidence.mean(1) - mean).abs() < 1e-12);
        let error = evidence.standard_error(1).unwrap();
        assert!((error - (variance / 40.0).sqrt()).abs() < 1e-12);
        assert_eq!((evidence.standard_error(0), evidence.lead(0, 1)), (None, 0.5));
    }

    #[test]
    fn old_observations_fade() {
        let mut evidence = ChoiceEvidence::new(1, 50.0);
        for step in 0..1000 {
            evidence.forget();
            evidence.observe(0, f64::from(u8::from(step >= 800)), 1.0);
        }
        let expected = 1.0 - (-200.0_f64 / 50.0).exp();
        assert!((evidence.mean(0) - expected).abs() < 1e-8);
        // a geometric series of weights with factor q has the variance of (1 + q) / (1 - q) equal ones
        let q = (-1.0_f64 / 50.0).exp();
        assert!((evidence.candidates[0].count() - (1.0 + q) / (1.0 - q)).abs() < 1e-5);
    }

    #[test]
    fn the_best_is_lost_less_often_than_allowed_and_noise_prunes_nothing() {
        let (runs, delta) = (400, 0.1);
        let mut lost = [0, 0];
        for seed in 0..runs {
            for (case, gap) in [0.0, 0.2].into_iter().enumerate() {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let mut choice = Choice::new(5, 1);
                let mut evidence = ChoiceEvidence::new(5, f64::INFINITY);
                for _ in 0..1500 {
                    let gradient = |c: usize, random: &mut ChaCha8Rng| {
                        draw(random) + if c == 2 { 0.0 } else { gap }
                    };
                    let gradients: Vec<_> = (0..5).map(|c| gradient(c, &mut random)).collect();
                    evidence.observe_all(&choice, &gradients);
                    evidence.prune(&mut choice, delta);
                }
                match case {
                    0 => lost[0] += usize::from(choice.alive_count() < 5),
                    _ => {
                        lost[1] += usize::from(!choice.is_alive(2));
                        assert!(choice.alive_count() < 5, "a gap of 0.2 shows in 1500 steps");
                    }
                }
            }
        }
        // of equals, any of four can be wrongly pruned by the leader of the moment: still rare
        assert!(lost[0] as f64 <= 2.0 * delta * runs as f64, "{lost:?}");
        assert!(lost[1] as f64 <= delta * runs as f64, "{lost:?}");
    }

    /// As a threshold on alpha may do it.
    #[test]
    fn a_choice_that_lost_its_best_is_not_sure() {
        let (mut choice, mut evidence) = observed(&[-1.0, 1.0, 0.0], 400, 1);
        let prior = Prior::of([(&choice, &evidence)]);
        assert!(evidence.sureness(&choice, &[0], prior) > 0.99);
        assert!(evidence.sureness(&choice, &[2], prior) < 0.01);
        evidence.remove(&mut choice, 0);
        evidence.remove(&mut choice, 1);
        assert!(evidence.sureness(&choice, &[2], prior) < 0.01);
        assert_eq!(evidence.missing(&choice, &[2], prior, 0.95), None);
    }

    #[test]
    fn logits_are_in_units_of_evidence() {
        let (choice, evidence) = observed(&[0.0, 0.1], 400, 1);
        let mut placed = choice.clone();
        placed.place(&evidence.logits(&choice));
        let phi = placed.probabilities(1.0);
        assert!((phi[0] - evidence.lead(0, 1)).abs() < 0.02, "{phi:?} {}", evidence.lead(0, 1));
    }

    #[test]
    fn a_copy_through_json_is_equal() {
        let (_, evidence) = observed(&[0.0, 0.3, 0.1], 50, 2);
        let json = serde_json::to_string(&evidence).unwrap();
        assert_eq!(serde_json::from_str::<ChoiceEvidence>(&json).unwrap(), evidence);
    }
}
