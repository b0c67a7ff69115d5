//! Algorithm 1: anneal and prune, for one choice or a whole search, and for candidates of any kind.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::choice::Choice;
use super::found::Pruned;
use super::schedule::{GRACE_TEMPERATURE, TemperatureSchedule, ThresholdPolicy};

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

/// Choices that Algorithm 1 anneals: a [`Choice`], an [`Architecture`], or something that holds one.
pub trait Annealed {
    /// A candidate that was pruned.
    type Pruned;

    /// Lines 7 to 9 of Algorithm 1: removes the candidates whose probability is below the threshold of time `time`.
    fn prune_below(
        &mut self,
        threshold: &ThresholdPolicy,
        temperature: f64,
        time: f64,
    ) -> Vec<Self::Pruned>;

    /// True if nothing is left to choose.
    fn is_decided(&self) -> bool;
}

/// A candidate that was pruned, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Removal<P = usize> {
    /// The candidate.
    pub candidate: P,
    /// The time of the iteration, from `times`.
    pub time: f64,
}

/// Runs Algorithm 1 until everything is decided or `times` ends; returns the pruned candidates, in order.
///
/// One iteration for each of `times` (line 3): `weight_step` trains whatever the candidates are made of (line 4);
/// below the grace temperature `logit_step` moves the logits (line 6), and candidates below the threshold are pruned
/// (lines 7 to 9). Both steps receive the temperature of the iteration.
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
pub fn anneal_and_prune<A: Annealed>(
    annealed: &mut A,
    annealing: &Annealing,
    times: impl IntoIterator<Item = f64>,
    mut weight_step: impl FnMut(&A, f64),
    mut logit_step: impl FnMut(&mut A, f64),
) -> Vec<Removal<A::Pruned>> {
    let mut removals = Vec::new();
    for time in times {
        if annealed.is_decided() {
            break;
        }
        let Ok(((), pruned)) = annealing.iteration(
            annealed,
            time,
            |annealed, temperature| {
                weight_step(annealed, temperature);
                Ok::<_, Infallible>(())
            },
            |annealed, temperature| {
                logit_step(annealed, temperature);
                Ok(())
            },
        );
        removals.extend(pruned.into_iter().map(|candidate| Removal { candidate, time }));
    }
    removals
}

impl Annealing {
    /// One iteration, lines 4 to 9 of Algorithm 1, for steps that may fail; returns the result of the step on the weights
    /// and the pruned candidates.
    ///
    /// # Errors
    /// Those of the steps; nothing happens after the first one.
    pub fn iteration<A: Annealed, S, E>(
        &self,
        annealed: &mut A,
        time: f64,
        weight_step: impl FnOnce(&mut A, f64) -> Result<S, E>,
        logit_step: impl FnOnce(&mut A, f64) -> Result<(), E>,
    ) -> Result<(S, Vec<A::Pruned>), E> {
        let score = weight_step(annealed, self.temperature.at(time))?;
        Ok((score, self.anneal(annealed, time, logit_step)?))
    }

    /// Lines 5 to 9 of Algorithm 1: below the grace temperature a step on the logits, then pruning; returns the pruned
    /// candidates.
    ///
    /// # Errors
    /// That of the step; nothing is pruned in that case.
    pub fn anneal<A: Annealed, E>(
        &self,
        annealed: &mut A,
        time: f64,
        logit_step: impl FnOnce(&mut A, f64) -> Result<(), E>,
    ) -> Result<Vec<A::Pruned>, E> {
        let temperature = self.temperature.at(time);
        if temperature >= self.grace {
            return Ok(Vec::new());
        }
        logit_step(annealed, temperature)?;
        Ok(annealed.prune_below(&self.threshold, temperature, time))
    }
}

impl Annealed for Choice {
    type Pruned = usize;

    fn prune_below(
        &mut self,
        threshold: &ThresholdPolicy,
        temperature: f64,
        time: f64,
    ) -> Vec<usize> {
        self.prune_ln(temperature, threshold.ln_at(time, self.len()))
    }

    fn is_decided(&self) -> bool {
        self.is_decided()
    }
}

impl Annealed for Architecture {
    type Pruned = Pruned;

    fn prune_below(
        &mut self,
        threshold: &ThresholdPolicy,
        temperature: f64,
        time: f64,
    ) -> Vec<Pruned> {
        self.prune(temperature, threshold, time)
    }

    fn is_decided(&self) -> bool {
        self.is_decided()
    }
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
    use crate::{Adam, EdgePolicy, Family, SearchSpace};

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

    #[test]
    fn a_whole_architecture_is_annealed_as_its_choices_are() {
        let gradient = [-0.9, 0.4, 0.1, 0.7];
        let annealing = Annealing { grace: f64::INFINITY, ..Annealing::default() };
        let times = || (0..50 * 20).map(|step| f64::from(step) / 20.0);
        let adam = Adam { lr: 0.02, ..Adam::default() };
        let mut choice = Choice::new(4, 1);
        let expected = anneal_and_prune(
            &mut choice,
            &annealing,
            times(),
            |_, _| (),
            |choice, temperature| {
                choice.step(&choice.logit_gradient(&gradient, temperature), &adam);
            },
        );
        let space = SearchSpace::of(Family::NasBench201);
        let mut architecture = Architecture::new(space.clone(), EdgePolicy::Strength);
        let found = anneal_and_prune(
            &mut architecture,
            &annealing,
            times(),
            |_, _| (),
            |architecture, temperature| {
                architecture.step(&vec![vec![gradient.to_vec(); 6]; 1], temperature, &adam);
            },
        );
        assert!(architecture.is_decided() && expected.len() == 3);
        for edge in space.edges() {
            let of_edge = found.iter().filter(|removal| removal.candidate.edge == edge);
            let of_edge: Vec<_> = of_edge.map(|r| (r.candidate.operation, r.time)).collect();
            let named = |r: &Removal| (Some(space.candidates[r.candidate]), r.time);
            assert_eq!(of_edge, expected.iter().map(named).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_step_that_fails_ends_the_iteration() {
        let mut choice = Choice::new(2, 1);
        choice.descend(&[9.0, -9.0], 1.0);
        let annealing = Annealing { grace: f64::INFINITY, ..Annealing::default() };
        let before = choice.clone();
        let failed =
            annealing.iteration(&mut choice, 0.0, |_, _| Err::<(), _>("weights"), |_, _| Ok(()));
        assert_eq!((failed, &choice), (Err("weights"), &before));
        let failed = annealing.iteration(&mut choice, 0.0, |_, _| Ok(()), |_, _| Err("logits"));
        assert_eq!((failed, &choice), (Err("logits"), &before));
        let pruned = annealing.iteration(&mut choice, 0.0, |_, t| Ok::<_, ()>(t), |_, _| Ok(()));
        assert_eq!(pruned, Ok((1.3, vec![0])));
    }
}
