//! An experimental check of Theorem 2: Algorithm 1 on a bandit whose best arm is known.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::algorithm::{Annealing, anneal_and_prune};
use super::choice::Choice;
use super::evidence::ChoiceEvidence;
use super::schedule::{Pac, TemperatureSchedule, ThresholdPolicy};
use crate::error::Error;

/// A bandit for the setting of Theorem 2: gradients independent in time and bounded.
///
/// Each arm's logit gradient is `-bound` or `+bound` at random; its mean is `-gap / 2` for the best arm and
/// `+gap / 2` for the others. The seed determines the best arm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacTrial {
    /// Number of arms, N.
    pub arms: usize,
    /// The average lead of the best arm over the others.
    pub gap: f64,
    /// Bound on the gradients, L.
    pub bound: f64,
    /// Learning rate of the logits, eta.
    pub eta: f64,
    /// The allowed probability of losing the best arm.
    pub delta: f64,
    /// The number of iterations.
    pub steps: u32,
    /// Seed of the gradients.
    pub seed: u64,
}

/// The outcome of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct PacOutcome {
    /// The arm that is best by construction.
    pub best: usize,
    /// The arms that remain.
    pub survivors: Vec<usize>,
    /// The iteration at which one arm remained; `None` if several do.
    pub decided_at: Option<f64>,
}

impl PacOutcome {
    /// True if the best arm was pruned.
    pub fn lost_best(&self) -> bool {
        !self.survivors.contains(&self.best)
    }
}

/// Runs Algorithm 1 with the schedule and the threshold of Theorem 2.
///
/// # Errors
/// [`Error::Value`] if the trial makes no sense.
pub fn simulate(trial: &PacTrial) -> Result<PacOutcome, Error> {
    simulate_with(trial, &trial.annealing())
}

/// Runs Algorithm 1 with any schedule and threshold; t counts the iterations from 1.
///
/// # Errors
/// [`Error::Value`] if the trial or the schedule makes no sense.
pub fn simulate_with(trial: &PacTrial, annealing: &Annealing) -> Result<PacOutcome, Error> {
    trial.check()?;
    annealing.temperature.check()?;
    annealing.threshold.check()?;
    let mut rng = ChaCha8Rng::seed_from_u64(trial.seed);
    let best = rng.random_range(0..trial.arms);
    let mut choice = Choice::new(trial.arms, 1);
    let times = (1..=trial.steps).map(f64::from);
    let removals = anneal_and_prune(
        &mut choice,
        annealing,
        times,
        |_, _| (),
        |choice, _| choice.descend(&trial.gradient(best, &mut rng), trial.eta),
    );
    Ok(PacOutcome {
        best,
        survivors: choice.alive().collect(),
        decided_at: choice.is_decided().then(|| removals.last().map_or(0.0, |last| last.time)),
    })
}

/// The same bandit with pruning by evidence: no bound is known, the variance of the gradients is measured instead
/// ([`ChoiceEvidence`]). Seeds have the same best arm and gradients as in [`simulate`].
///
/// # Errors
/// [`Error::Value`] if the trial makes no sense.
pub fn simulate_evidence(trial: &PacTrial) -> Result<PacOutcome, Error> {
    trial.check()?;
    let mut rng = ChaCha8Rng::seed_from_u64(trial.seed);
    let best = rng.random_range(0..trial.arms);
    let mut choice = Choice::new(trial.arms, 1);
    let mut evidence = ChoiceEvidence::new(trial.arms, f64::INFINITY);
    let mut decided_at = choice.is_decided().then_some(0.0);
    for time in 1..=trial.steps {
        if choice.is_decided() {
            break;
        }
        evidence.observe_all(&choice, &trial.gradient(best, &mut rng));
        if !evidence.prune(&mut choice, trial.delta).is_empty() && choice.is_decided() {
            decided_at = Some(f64::from(time));
        }
    }
    Ok(PacOutcome { best, survivors: choice.alive().collect(), decided_at })
}

/// The outcomes of several trials.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PacRates {
    /// Fraction that lost the best arm.
    pub lost_best: f64,
    /// Fraction that came to a decision.
    pub decided: f64,
    /// Mean number of iterations until then.
    pub steps: Option<f64>,
}

/// The rates over `runs` trials, with seeds counting up from `trial.seed`, of [`simulate`] or [`simulate_evidence`].
///
/// # Errors
/// Those of the simulation, and [`Error::Value`] if `runs` is 0.
pub fn rates(
    trial: &PacTrial,
    runs: u32,
    simulate: impl Fn(&PacTrial) -> Result<PacOutcome, Error>,
) -> Result<PacRates, Error> {
    if runs == 0 {
        return Err(Error::value("runs", runs, "1 or more"));
    }
    let (mut lost, mut times) = (0, Vec::new());
    for run in 0..runs {
        let seed = trial.seed.wrapping_add(run.into());
        let outcome = simulate(&PacTrial { seed, ..*trial })?;
        lost += u32::from(outcome.lost_best());
        times.extend(outcome.decided_at);
    }
    let decided = times.len() as f64;
    Ok(PacRates {
        lost_best: f64::from(lost) / f64::from(runs),
        decided: decided / f64::from(runs),
        steps: (decided > 0.0).then(|| times.iter().sum::<f64>() / decided),
    })
}

impl PacTrial {
    /// The gradients of an iteration.
    fn gradient(&self, best: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let of_arm = |arm| {
            let mean = if arm == best { -self.gap } else { self.gap } / 2.0;
            let up = rng.random_bool((1.0 + mean / self.bound) / 2.0);
            if up { self.bound } else { -self.bound }
        };
        (0..self.arms).map(of_arm).collect()
    }

    /// The schedule and threshold of Theorem 2 for this trial, without grace.
    pub fn annealing(&self) -> Annealing {
        let fraction = 0.4;
        Annealing {
            temperature: TemperatureSchedule::Pac(Pac {
                eta: self.eta,
                bound: self.bound,
                candidates: self.arms,
                delta: self.delta,
                fraction,
            }),
            threshold: ThresholdPolicy::Pac { fraction },
            grace: f64::INFINITY,
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.arms == 0 {
            return Err(Error::value("arms", self.arms, "1 or more"));
        }
        for (key, value) in [("bound", self.bound), ("eta", self.eta)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::value(key, value, "a number above 0"));
            }
        }
        if !(0.0..=2.0 * self.bound).contains(&self.gap) {
            let expected = format!("0 to {}, twice the bound", 2.0 * self.bound);
            return Err(Error::value("gap", self.gap, expected));
        }
        if !(self.delta > 0.0 && self.delta < 1.0) {
            return Err(Error::value("delta", self.delta, "a number between 0 and 1"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure_rate(trial: &PacTrial, annealing: &Annealing, runs: u32) -> Result<f64, Error> {
        Ok(rates(trial, runs, |trial| simulate_with(trial, annealing))?.lost_best)
    }

    fn trial() -> PacTrial {
        PacTrial { arms: 7, gap: 0.5, bound: 1.0, eta: 0.1, delta: 0.1, steps: 2000, seed: 1 }
    }

    #[test]
    fn the_schedule_of_theorem_2_keeps_the_best_arm_and_a_hasty_one_loses_it() {
        let trial = trial();
        let safe = failure_rate(&trial, &trial.annealing(), 200).unwrap();
        assert!(safe <= trial.delta, "lost the best arm in {safe} of the runs");

        let hasty = Annealing {
            temperature: TemperatureSchedule::Exponential { initial: 1.3, decay: 0.8 },
            threshold: ThresholdPolicy::default(),
            grace: f64::INFINITY,
        };
        let lost = failure_rate(&trial, &hasty, 200).unwrap();
        assert!(lost > 2.0 * trial.delta, "a hasty schedule lost only {lost}");
    }

    #[test]
    fn evidence_keeps_the_best_arm_too_and_decides_in_fewer_steps() {
        for gap in [0.5, 0.2] {
            let trial = PacTrial { gap, ..trial() };
            let measured = rates(&trial, 200, simulate_evidence).unwrap();
            assert!(measured.lost_best <= trial.delta && measured.decided > 0.9, "{measured:?}");
            let theorem = rates(&trial, 20, simulate).unwrap();
            let saved = theorem.steps.unwrap_or(trial.steps.into()) / measured.steps.unwrap();
            assert!(saved > 2.0, "{gap}: {measured:?} {theorem:?}");
        }
    }

    #[test]
    fn the_schedule_of_theorem_2_comes_to_a_decision() {
        // 2 beta_t falls below eta * gap where t is about 800, past the point where theta_t underflows
        for seed in 0..10 {
            let outcome = simulate(&PacTrial { seed, ..trial() }).unwrap();
            assert_eq!(outcome.survivors, [outcome.best]);
            assert!(outcome.decided_at.is_some_and(|t| (300.0..1500.0).contains(&t)));
        }
    }

    #[test]
    fn a_seed_gives_the_same_run_and_seeds_differ() {
        let run = |seed| simulate(&PacTrial { seed, ..trial() }).unwrap();
        assert_eq!(run(3), run(3));
        let ends: Vec<_> = (0..5).map(|seed| run(seed).decided_at).collect();
        assert!(ends.iter().any(|end| *end != ends[0]));
    }

    #[test]
    fn a_trial_out_of_bounds_is_refused() {
        let error = simulate(&PacTrial { gap: 2.1, ..trial() }).unwrap_err();
        assert!(error.to_string().contains("`gap` is 2.1"));
        assert!(simulate(&PacTrial { arms: 0, ..trial() }).is_err());
        assert!(simulate(&PacTrial { delta: f64::NAN, ..trial() }).is_err());
        assert!(failure_rate(&trial(), &trial().annealing(), 0).is_err());
    }
}
