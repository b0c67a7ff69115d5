//! How sure a choice is: the probability that another search makes the same one.
//!
//! A lead of z standard errors is not yet a certainty. The leader of many candidates leads by luck too, and the more so the
//! closer they truly are. So how far apart candidates are is estimated from all choices together (empirical Bayes), and a
//! lead counts as much as it exceeds what errors alone would show.

use super::choice::Choice;
use super::evidence::ChoiceEvidence;
use crate::numeric::normal::distribution;

/// Points on each side of an integral over a normal distribution, and the standard deviations to which it reaches.
const STEPS: i32 = 60;
const RANGE: f64 = 6.0;
/// A factor on the number of observations that no search will ever have.
const OUT_OF_REACH: f64 = 1e6;

/// How far apart the candidates of choices truly are: normally distributed about the mean of their choice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prior {
    variance: f64,
}

impl Prior {
    /// The prior of some choices: the variance of their candidates' means, less that of their errors.
    pub fn of<'a>(choices: impl IntoIterator<Item = (&'a Choice, &'a ChoiceEvidence)>) -> Self {
        let (mut squares, mut freedom) = (0.0, 0.0);
        for (choice, evidence) in choices {
            let Some(known) = evidence.estimates(choice, &evidence.best(choice)) else { continue };
            let (count, center) = (known.len() as f64, center(&known));
            let observed: f64 = known.iter().map(|(mean, _)| (mean - center).powi(2)).sum();
            let errors: f64 = known.iter().map(|(_, variance)| variance).sum();
            squares += observed - errors * (count - 1.0) / count;
            freedom += count - 1.0;
        }
        Self { variance: if freedom > 0.0 { (squares / freedom).max(0.0) } else { 0.0 } }
    }

    /// Mean and variance of what another search measures, given what this one did: an estimate with a variance of its own
    /// about a true value, of which this search's estimate, drawn to `center`, is what is known.
    fn predict(self, (mean, variance): (f64, f64), center: f64) -> (f64, f64) {
        let trust =
            if self.variance > 0.0 { self.variance / (self.variance + variance) } else { 0.0 };
        (center + trust * (mean - center), trust * variance + variance)
    }
}

impl ChoiceEvidence {
    /// The probability that the evidence of another search with as many observations is in favour of the same candidates, those that are
    /// `kept`, from 0 to 1. As long as nothing is known, that of a draw.
    pub fn sureness(&self, choice: &Choice, kept: &[usize], prior: Prior) -> f64 {
        self.sureness_after(choice, kept, prior, 1.0)
    }

    /// Factor on the number of observations of every search after which the choice is `sure`, if the means stay as they
    /// are; at least 1. `None` if nothing is known, or no reasonable number of them is enough.
    pub fn missing(&self, choice: &Choice, kept: &[usize], prior: Prior, sure: f64) -> Option<f64> {
        self.estimates(choice, kept)?;
        let enough = |factor: f64| self.sureness_after(choice, kept, prior, factor) >= sure;
        let (mut low, mut high) = (1.0, 1.0);
        while !enough(high) {
            (low, high) = (high, 2.0 * high);
            if high > OUT_OF_REACH {
                return None;
            }
        }
        for _ in 0..20 {
            let middle = f64::midpoint(low, high);
            if enough(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }

    fn sureness_after(&self, choice: &Choice, kept: &[usize], prior: Prior, factor: f64) -> f64 {
        let Some(known) = self.estimates(choice, kept) else {
            return 1.0 / combinations(choice.len(), choice.keep());
        };
        let center = center(&known);
        let predict = |&(mean, variance): &_| prior.predict((mean, variance / factor), center);
        let predicted: Vec<_> = known.iter().map(predict).collect();
        let (kept, others) = predicted.split_at(choice.keep());
        let below = |x: f64, (mean, variance): (f64, f64)| {
            distribution((x - mean) / variance.sqrt().max(f64::MIN_POSITIVE))
        };
        // the sum over which of the kept is the last, of the integral over where it is
        let last = |(place, &(mean, variance)): (usize, &(f64, f64))| {
            let (mut sum, mut weights) = (0.0, 0.0);
            for point in -STEPS..=STEPS {
                let z = f64::from(point) * RANGE / f64::from(STEPS);
                let (x, weight) = (mean + z * variance.sqrt(), (-z * z / 2.0).exp());
                let ahead = kept.iter().enumerate().filter(|(other, _)| *other != place);
                let ahead: f64 = ahead.map(|(_, &kept)| below(x, kept)).product();
                let behind: f64 = others.iter().map(|&other| 1.0 - below(x, other)).product();
                (sum, weights) = (sum + weight * ahead * behind, weights + weight);
            }
            sum / weights
        };
        kept.iter().enumerate().map(last).sum::<f64>().min(1.0)
    }
}

fn center(known: &[(f64, f64)]) -> f64 {
    known.iter().map(|(mean, _)| mean).sum::<f64>() / known.len() as f64
}

/// The number of ways to keep `keep` of `all`.
fn combinations(all: usize, keep: usize) -> f64 {
    (0..keep).map(|i| (all - i) as f64 / (i + 1) as f64).product()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::numeric::normal::draw;

    /// A search of some choices between candidates with these means. Some candidates are pruned on the way.
    fn search(
        means: &[Vec<f64>],
        keep: usize,
        random: &mut impl Rng,
    ) -> Vec<(Choice, ChoiceEvidence)> {
        let fresh = |means: &Vec<f64>| {
            (Choice::new(means.len(), keep), ChoiceEvidence::new(means.len(), f64::INFINITY))
        };
        let mut choices: Vec<_> = means.iter().map(fresh).collect();
        for _ in 0..150 {
            for ((choice, evidence), means) in choices.iter_mut().zip(means) {
                let shared = 3.0 * draw(random);
                let seen: Vec<_> = means.iter().map(|m| m + shared + draw(random)).collect();
                evidence.observe_all(choice, &seen);
            }
            choices.iter_mut().for_each(|(choice, evidence)| {
                evidence.prune(choice, 0.3);
            });
        }
        choices
    }

    /// Choices said to be p sure are the same in p of the other searches, from noise only to clear leads.
    #[test]
    fn certainty_is_how_often_another_search_agrees() {
        for (spread, keep) in [(0.0, 1), (0.05, 1), (0.2, 1), (0.2, 2), (0.6, 1)] {
            let mut random = ChaCha8Rng::seed_from_u64(3);
            let mut bins = vec![(0.0, 0.0, 0.0); 4];
            for _ in 0..60 {
                let means: Vec<Vec<f64>> =
                    (0..20).map(|_| (0..4).map(|_| spread * draw(&mut random)).collect()).collect();
                let [one, other] = [0, 1].map(|_| search(&means, keep, &mut random));
                let prior = Prior::of(one.iter().map(|(choice, evidence)| (choice, evidence)));
                for ((choice, evidence), (again, in_other)) in one.iter().zip(&other) {
                    let sure = evidence.sureness(choice, &evidence.best(choice), prior);
                    let kept = |choice: &Choice, evidence: &ChoiceEvidence| {
                        let mut kept = evidence.ranked(choice)[..keep].to_vec();
                        kept.sort_unstable();
                        kept
                    };
                    let same = kept(choice, evidence) == kept(again, in_other);
                    let bin = &mut bins[(sure * 4.0).clamp(0.0, 3.0) as usize];
                    *bin = (bin.0 + 1.0, bin.1 + sure, bin.2 + f64::from(u8::from(same)));
                }
            }
            for (count, sure, same) in bins {
                let (sure, same) = (sure / count, same / count);
                // a little low where a prune in one search and none in the other still end in the same choice
                assert!(
                    count < 100.0 || (-0.05..0.1).contains(&(same - sure)),
                    "{spread}: {sure} {same} {count}"
                );
            }
        }
    }

    #[test]
    fn without_observations_it_is_that_of_a_draw() {
        for (candidates, keep, draws) in [(4, 1, 4.0), (5, 2, 10.0), (2, 2, 1.0)] {
            let evidence = ChoiceEvidence::new(candidates, 1.0);
            let choice = Choice::new(candidates, keep);
            let best = evidence.best(&choice);
            assert_eq!(evidence.sureness(&choice, &best, Prior::default()), 1.0 / draws);
            assert_eq!(evidence.missing(&choice, &best, Prior::default(), 0.95), None);
        }
    }

    #[test]
    fn more_observations_make_a_lead_sure_if_there_is_one() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let means = vec![vec![0.0, 0.15]; 30];
        let of = |choices: &[(Choice, ChoiceEvidence)]| {
            let prior = Prior::of(choices.iter().map(|(choice, evidence)| (choice, evidence)));
            let (choice, evidence) = &choices[0];
            let best = evidence.best(choice);
            (evidence.sureness(choice, &best, prior), evidence.missing(choice, &best, prior, 0.99))
        };
        let (sure, missing) = of(&search(&means, 1, &mut random));
        assert!((0.5..0.99).contains(&sure), "{sure}");
        assert!(missing.is_some_and(|factor| factor > 1.0 && factor < 1000.0), "{missing:?}");
        let (sure, _) = of(&search(&vec![vec![0.0, 1.5]; 30], 1, &mut random));
        assert!(sure > 0.99, "{sure}");
        let (sure, missing) = of(&search(&vec![vec![0.0, 0.0]; 30], 1, &mut random));
        assert!(sure < 0.8 && missing.is_none_or(|factor| factor > 1.5), "{sure} {missing:?}");
    }
}
