//! Algorithm 1: anneal and prune one choice, for candidates of any sort.

use serde::{Deserialize, Serialize};

use crate::{Choice, GRACE_TEMPERATURE, TemperatureSchedule, ThresholdPolicy};

/// The inputs of Algorithm 1 besides the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annealing {
    /// The annealing schedule T_t.
    pub temperature: TemperatureSchedule,
    /// The threshold policy theta_t.
    pub threshold: ThresholdPolicy,
    /// The grace temperature tau: at or above it only the weights are trained.
    pub grace: f64,
}

/// A candidate that was pruned, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Removal {
    /// The candidate.
    pub candidate: usize,
    /// The time of the iteration, as it came from `times`.
    pub time: f64,
}

/// Runs Algorithm 1 until the choice is decided or the times are over; returns what was pruned, in order.
///
/// One iteration for each of `times` (line 3): `weight_step` trains whatever the candidates are made of (line 4);
/// below the grace temperature `logit_step` moves the logits (line 6), and candidates below the threshold are pruned
/// (lines 7 to 9). Both steps get the temperature of the iteration.
///
/// Three constants compete to be near 1; the loss is the squared distance of their mixture:
///
/// ```
/// use asap_core::{Adam, Annealing, Choice, anneal_and_prune};
///
/// let candidates = [3.0, 0.9, -1.0];
/// let mut choice = Choice::new(candidates.len(), 1);
/// let adam = Adam { lr: 0.02, ..Adam::default() };
/// let epochs = (0..50 * 20).map(|step| f64::from(step) / 20.0);
/// anneal_and_prune(&mut choice, &Annealing::default(), epochs, |_, _| (), |choice, temperature| {
///     let weights = choice.weights(temperature);
///     let mixture: f64 = weights.iter().zip(candidates).map(|(w, c)| w * c).sum();
///     let gradient = candidates.map(|c| 2.0 * (mixture - 1.0) * c);
///     choice.step(&choice.logit_gradient(&gradient, temperature), &adam);
/// });
/// assert!(choice.is_decided());
/// assert_eq!(choice.best(), 1);
/// ```
pub fn anneal_and_prune(
    choice: &mut Choice,
    annealing: &Annealing,
    times: impl IntoIterator<Item = f64>,
    mut weight_step: impl FnMut(&Choice, f64),
    mut logit_step: impl FnMut(&mut Choice, f64),
) -> Vec<Removal> {
    let mut removals = Vec::new();
    for time in times {
        if choice.is_decided() {
            break;
        }
        let temperature = annealing.temperature.at(time);
        weight_step(choice, temperature);
        if temperature < annealing.grace {
            logit_step(choice, temperature);
            let ln_threshold = annealing.threshold.ln_at(time, choice.len());
            let pruned = choice.prune_ln(temperature, ln_threshold).into_iter();
            removals.extend(pruned.map(|candidate| Removal { candidate, time }));
        }
    }
    removals
}

impl Default for Annealing {
    /// The paper's search: `T = 1.3 * 0.95^t`, `theta = 0.4 / N`, five grace epochs.
    fn default() -> Self {
        Self {
            temperature: TemperatureSchedule::default(),
            threshold: ThresholdPolicy::default(),
            grace: GRACE_TEMPERATURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_weights_moves_before_the_temperature_falls_below_tau() {
        let mut choice = Choice::new(2, 1);
        let (mut weight_steps, mut logit_steps) = (Vec::new(), Vec::new());
        anneal_and_prune(
            &mut choice,
            &Annealing::default(),
            (0..8).map(f64::from),
            |_, temperature| weight_steps.push(temperature),
            |_, temperature| logit_steps.push(temperature),
        );
        assert_eq!(weight_steps.len(), 8);
        assert_eq!(logit_steps, weight_steps[5..]);
        assert!(logit_steps[0] < GRACE_TEMPERATURE && weight_steps[4] >= GRACE_TEMPERATURE);
    }

    #[test]
    fn a_pruning_happens_in_its_iteration_and_the_last_one_ends_the_run() {
        let mut choice = Choice::new(3, 1);
        let gradient = [-1.0, 0.0, 1.0];
        let annealing =
            Annealing { temperature: TemperatureSchedule::Constant(1.0), ..Annealing::default() };
        let mut steps = 0;
        let removals = anneal_and_prune(
            &mut choice,
            &annealing,
            (1..100).map(f64::from),
            |_, _| steps += 1,
            |choice, _| choice.descend(&gradient, 0.5),
        );
        // after t steps the logits are t/2, 0, -t/2; theta is 0.1333
        let phi = |t: f64, logit: f64, others: &[f64]| {
            let sum: f64 = others.iter().map(|l| (l * t).exp()).sum();
            (logit * t).exp() / sum
        };
        let all = [0.5, 0.0, -0.5];
        assert!(phi(1.0, -0.5, &all) > 0.1334 && phi(2.0, -0.5, &all) < 0.1333);
        let two = [0.5, 0.0];
        assert!(phi(3.0, 0.0, &two) > 0.1334 && phi(4.0, 0.0, &two) < 0.1333);
        let found: Vec<_> = removals.iter().map(|r| (r.candidate, r.time)).collect();
        assert_eq!(found, [(2, 2.0), (1, 4.0)]);
        assert_eq!(steps, 4);
    }
}
