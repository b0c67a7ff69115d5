//! The schedules of a search: temperature, pruning threshold and learning rate as functions of time.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The temperature below which logits are trained and pruned, tau in Algorithm 1.
///
/// Any value from 1.0060 to 1.0588 gives the paper's five grace epochs with [`TemperatureSchedule::default`].
pub const GRACE_TEMPERATURE: f64 = 1.03;

/// An annealing schedule: the temperature T at time t.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemperatureSchedule {
    /// `T(t) = initial * decay^t`, t in epochs (eq. 9).
    Exponential {
        /// T(0), 1.3 in the paper.
        initial: f64,
        /// The factor per epoch, beta: 0.95 in the paper.
        decay: f64,
    },
    /// The same temperature at any time; 1 is DARTS.
    Constant(f64),
    /// The schedule of Theorem 2 (eqs. 7 and 8), t in logit steps; goes with [`ThresholdPolicy::Pac`].
    Pac(Pac),
}

/// The constants of Theorem 2.
///
/// `T(t) = eta L rho_t sqrt(8/t ln(pi^2 N t^2 / (3 delta)))`, with `rho_t = t / (t + ln(1 / (N nu_t)))` and
/// `nu_t = fraction / N`, the simplest member of the set of eq. 6.
///
/// Claim 1 calls the rule `phi_i < theta_t` equivalent to `a_i / t + beta_t < a* / t - beta_t`, where `a*` is the
/// largest logit. What holds exactly: the claim's condition is equivalent to `phi_i < N theta_t phi*`, and as
/// `phi* >= 1 / N` the rule implies it. The converse is false, so the rule prunes no more than the claim allows, and
/// the guarantee of Theorem 2 stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pac {
    /// Learning rate of the logits, eta.
    pub eta: f64,
    /// Bound on the absolute value of a logit's gradient, L.
    pub bound: f64,
    /// Number of candidates, N.
    pub candidates: usize,
    /// The allowed probability of losing the best candidate.
    pub delta: f64,
    /// `N nu_t`, the `fraction` of the threshold policy: above 0, at most 1.
    pub fraction: f64,
}

/// A threshold policy: the probability theta below which a candidate is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdPolicy {
    /// `theta = fraction / N` at any time; the paper uses 0.4 (section 4.1).
    Fixed {
        /// Threshold relative to the uniform probability.
        fraction: f64,
    },
    /// `theta_t = nu_t e^-t` with `nu_t = fraction / N` (eqs. 5 and 6), t in logit steps.
    Pac {
        /// `N nu_t`: above 0, at most 1.
        fraction: f64,
    },
}

/// A cosine from `initial` to `minimum` over `epochs`, used by DARTS for the weights of its search network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosineLearningRate {
    /// Rate at epoch 0.
    pub initial: f64,
    /// Rate from epoch `epochs` on.
    pub minimum: f64,
    /// Length of the descent.
    pub epochs: usize,
}

/// Power-cosine cycles, each with a smaller amplitude than the one before (section 4.2 of the paper).
///
/// In cycle k, after e of the E epochs of a cycle:
/// `lr = minimum + a_k (p^x - 1) / (p - 1)`, `x = (1 + cos(pi e / E)) / 2`,
/// `a_k = (initial - minimum) amplitude_decay^k` (Hundt et al. 2019). `power` 1 is the plain cosine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerCosineLearningRate {
    /// Rate at the start of the first cycle.
    pub initial: f64,
    /// Rate at the end of each cycle.
    pub minimum: f64,
    /// Length of all cycles together.
    pub epochs: usize,
    /// Number of cycles.
    pub cycles: usize,
    /// The factor of the amplitude from cycle to cycle; 0.5 in the paper.
    pub amplitude_decay: f64,
    /// p: above 1 the rate falls sooner than with a cosine.
    pub power: f64,
    /// Epochs at the start during which the rate rises linearly from 0 to the schedule.
    pub warmup_epochs: f64,
}

impl TemperatureSchedule {
    /// The exponential schedule for a search of `epochs` epochs: from 1.3 to 0.1, as the paper's 50 epochs do.
    ///
    /// 50 epochs give the paper's decay of 0.95, other lengths `(0.1 / 1.3)^(1 / epochs)`.
    pub fn for_epochs(epochs: usize) -> Self {
        let decay = match epochs {
            50 => 0.95,
            _ => (0.1_f64 / 1.3).powf(1.0 / epochs.max(1) as f64),
        };
        Self::Exponential { initial: 1.3, decay }
    }

    /// The temperature at time `t`; a [`Pac`] schedule starts at t = 1 and is held there before.
    pub fn at(&self, t: f64) -> f64 {
        match *self {
            Self::Exponential { initial, decay } => initial * decay.powf(t),
            Self::Constant(temperature) => temperature,
            Self::Pac(pac) => pac.temperature(t.max(1.0)),
        }
    }

    /// The time at which the temperature falls below `tau`.
    pub fn reaches(&self, tau: f64) -> f64 {
        match *self {
            Self::Exponential { initial, decay } if initial >= tau && decay < 1.0 => {
                (tau / initial).ln() / decay.ln()
            }
            _ if self.at(0.0) < tau => 0.0,
            _ => f64::INFINITY,
        }
    }

    /// Number of grace epochs: those of the first `epochs` epochs that pass before the temperature is below `tau`.
    pub fn grace_epochs(&self, tau: f64, epochs: usize) -> usize {
        (0..epochs).take_while(|&epoch| self.at(epoch as f64) >= tau).count()
    }

    /// Checks that the temperature is positive, and that an exponential one never rises.
    ///
    /// # Errors
    /// [`Error::Value`] that names the invalid value.
    pub fn check(&self) -> Result<(), Error> {
        match *self {
            Self::Exponential { initial, decay } => {
                positive("temperature.initial", initial)?;
                proportion("temperature.decay", decay)
            }
            Self::Constant(temperature) => positive("temperature", temperature),
            Self::Pac(pac) => pac.check(),
        }
    }
}

impl Default for TemperatureSchedule {
    /// The paper's schedule: `1.3 * 0.95^t`.
    fn default() -> Self {
        Self::for_epochs(50)
    }
}

impl Pac {
    /// T(t) of eq. 7 for t >= 1.
    pub fn temperature(&self, t: f64) -> f64 {
        2.0 * self.rho(t) * self.margin(t)
    }

    /// rho_t of eq. 8.
    pub fn rho(&self, t: f64) -> f64 {
        t / (t - self.fraction.ln())
    }

    /// The margin beta_t of Claim 1, `T_t / (2 rho_t)`: the largest distance of a logit divided by t from its mean.
    pub fn margin(&self, t: f64) -> f64 {
        let confidence = (PI * PI * self.candidates as f64 * t * t / (3.0 * self.delta)).ln();
        self.eta * self.bound * (8.0 / t * confidence).sqrt() / 2.0
    }

    fn check(&self) -> Result<(), Error> {
        positive("temperature.eta", self.eta)?;
        positive("temperature.bound", self.bound)?;
        proportion("temperature.delta", self.delta)?;
        proportion("temperature.fraction", self.fraction)?;
        match self.candidates {
            0 => Err(Error::value("temperature.candidates", 0, "1 or more")),
            _ => Ok(()),
        }
    }
}

impl ThresholdPolicy {
    /// The threshold at time `t` for a choice that began with `candidates` candidates.
    pub fn at(&self, t: f64, candidates: usize) -> f64 {
        self.ln_at(t, candidates).exp()
    }

    /// The logarithm of the threshold, exact where `theta_t` itself is too small for a float (t > 700).
    pub fn ln_at(&self, t: f64, candidates: usize) -> f64 {
        match *self {
            Self::Fixed { fraction } => (fraction / candidates as f64).ln(),
            Self::Pac { fraction } => (fraction / candidates as f64).ln() - t,
        }
    }

    /// Checks that the threshold is above 0 and below the uniform probability `1 / N`.
    ///
    /// # Errors
    /// [`Error::Value`] that names the invalid value.
    pub fn check(&self) -> Result<(), Error> {
        match *self {
            Self::Fixed { fraction } if !(fraction > 0.0 && fraction < 1.0) => Err(Error::value(
                "threshold.fraction",
                fraction,
                "a number between 0 and 1, or all candidates would be pruned at once",
            )),
            Self::Fixed { .. } => Ok(()),
            Self::Pac { fraction: value } => proportion("threshold.fraction", value),
        }
    }
}

impl Default for ThresholdPolicy {
    /// The paper's `0.4 / N`.
    fn default() -> Self {
        Self::Fixed { fraction: 0.4 }
    }
}

impl CosineLearningRate {
    /// The rate at `epoch`, which may be a fraction; `minimum` after the last epoch.
    pub fn at(&self, epoch: f64) -> f64 {
        let progress = (epoch / self.epochs.max(1) as f64).clamp(0.0, 1.0);
        self.minimum + (self.initial - self.minimum) * (1.0 + (PI * progress).cos()) / 2.0
    }
}

impl PowerCosineLearningRate {
    /// The rate at `epoch`, which may be a fraction; `minimum` after the last epoch.
    pub fn at(&self, epoch: f64) -> f64 {
        let cycles = self.cycles.max(1) as f64;
        let time = (epoch / self.epochs.max(1) as f64).clamp(0.0, 1.0) * cycles;
        let cycle = time.floor().min(cycles - 1.0);
        let x = (1.0 + (PI * (time - cycle)).cos()) / 2.0;
        let fall = if (self.power - 1.0).abs() < 1e-9 {
            x
        } else {
            (self.power.powf(x) - 1.0) / (self.power - 1.0)
        };
        let amplitude = (self.initial - self.minimum) * self.amplitude_decay.powf(cycle);
        let warmup = if epoch < self.warmup_epochs { epoch / self.warmup_epochs } else { 1.0 };
        warmup * (self.minimum + amplitude * fall)
    }
}

fn positive(key: &'static str, value: f64) -> Result<(), Error> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::value(key, value, "a number above 0"))
    }
}

fn proportion(key: &'static str, value: f64) -> Result<(), Error> {
    if value > 0.0 && value <= 1.0 {
        Ok(())
    } else {
        Err(Error::value(key, value, "a number above 0 and at most 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_is_reached_where_it_is_and_not_where_it_never_falls() {
        let falling = TemperatureSchedule::Exponential { initial: 1.3, decay: 0.95 };
        assert!((falling.at(falling.reaches(1.03)) - 1.03).abs() < 1e-12);
        assert_eq!(falling.reaches(1.3), 0.0);
        assert_eq!(falling.reaches(2.0), 0.0);
        let constant = TemperatureSchedule::Exponential { initial: 1.3, decay: 1.0 };
        assert_eq!(constant.reaches(1.03), f64::INFINITY);
        assert_eq!(TemperatureSchedule::Constant(1.0).reaches(1.03), 0.0);
    }

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn the_papers_temperatures() {
        let schedule = TemperatureSchedule::default();
        close(schedule.at(0.0), 1.3, 0.0);
        close(schedule.at(5.0), 1.0059, 5e-5);
        close(schedule.at(50.0), 0.1, 5e-5);
    }

    #[test]
    fn any_number_of_epochs_ends_at_the_papers_temperature() {
        for epochs in [1, 2, 10, 49, 50, 51, 600] {
            let schedule = TemperatureSchedule::for_epochs(epochs);
            close(schedule.at(epochs as f64), 0.1, 5e-5);
            schedule.check().unwrap();
        }
    }

    #[test]
    fn tau_decides_how_many_epochs_of_grace_there_are() {
        let schedule = TemperatureSchedule::default();
        assert_eq!(schedule.grace_epochs(GRACE_TEMPERATURE, 50), 5);
        assert_eq!(schedule.grace_epochs(1.0060, 50), 5);
        assert_eq!(schedule.grace_epochs(1.0059, 50), 6);
        assert_eq!(schedule.grace_epochs(1.0588, 50), 5);
        assert_eq!(schedule.grace_epochs(1.0589, 50), 4);
        assert_eq!(schedule.grace_epochs(f64::INFINITY, 50), 0);
        assert_eq!(TemperatureSchedule::Constant(1.0).grace_epochs(0.5, 50), 50);
    }

    #[test]
    fn the_threshold_is_relative_to_the_number_of_candidates() {
        close(ThresholdPolicy::default().at(17.0, 7), 0.4 / 7.0, 1e-16);
        let pac = ThresholdPolicy::Pac { fraction: 0.5 };
        close(pac.at(2.0, 4), 0.125 * (-2.0_f64).exp(), 1e-16);
        close(pac.ln_at(2000.0, 4), 0.125_f64.ln() - 2000.0, 1e-9);
    }

    #[test]
    fn theorem_2_as_the_paper_writes_it() {
        let (eta, bound, n, delta, fraction) = (0.1, 2.0, 7.0, 0.05, 0.4);
        let pac = Pac { eta, bound, candidates: 7, delta, fraction };
        let schedule = TemperatureSchedule::Pac(pac);
        for t in [1.0, 2.0, 30.0, 4000.0] {
            let nu = fraction / n;
            let rho = t / (t + (1.0 / (n * nu)).ln());
            let root = (8.0 / t * (PI.powi(2) * n * t.powi(2) / (3.0 * delta)).ln()).sqrt();
            close(schedule.at(t), eta * bound * rho * root, 1e-12);
            close(pac.margin(t), schedule.at(t) / (2.0 * rho), 1e-12);
            assert!(ThresholdPolicy::Pac { fraction }.at(t, 7) < 1.0 / n);
        }
        assert_eq!(schedule.at(0.0), schedule.at(1.0));
    }

    #[test]
    fn the_cosine_begins_and_ends_where_it_should() {
        let rate = CosineLearningRate { initial: 0.025, minimum: 0.001, epochs: 50 };
        close(rate.at(0.0), 0.025, 1e-18);
        close(rate.at(25.0), 0.013, 1e-15);
        close(rate.at(50.0), 0.001, 1e-18);
        assert_eq!(rate.at(60.0), rate.at(50.0));
    }

    #[test]
    fn the_papers_learning_rate_falls_in_five_cycles() {
        let rate = PowerCosineLearningRate {
            initial: 0.025,
            minimum: 0.001,
            epochs: 1500,
            cycles: 5,
            amplitude_decay: 0.5,
            power: 2.0,
            warmup_epochs: 0.0,
        };
        close(rate.at(0.0), 0.025, 1e-18);
        // x = 1/2 in the middle of a cycle: 2^(1/2) - 1 of the amplitude.
        close(rate.at(150.0), 0.001 + 0.024 * (2f64.sqrt() - 1.0), 1e-15);
        close(rate.at(299.999), 0.001, 1e-9);
        for (cycle, amplitude) in [(1.0, 0.012), (2.0, 0.006), (3.0, 0.003), (4.0, 0.0015)] {
            close(rate.at(300.0 * cycle), 0.001 + amplitude, 1e-15);
            close(rate.at(300.0 * cycle + 150.0), 0.001 + amplitude * (2f64.sqrt() - 1.0), 1e-15);
            close(rate.at(300.0 * cycle + 299.999), 0.001, 1e-9);
        }
        assert_eq!([rate.at(1500.0), rate.at(9999.0)], [0.001, 0.001]);
    }

    #[test]
    fn one_cycle_of_power_one_is_the_cosine() {
        let cosine = CosineLearningRate { initial: 0.1, minimum: 0.0, epochs: 20 };
        let rate = PowerCosineLearningRate {
            initial: 0.1,
            minimum: 0.0,
            epochs: 20,
            cycles: 1,
            amplitude_decay: 0.5,
            power: 1.0,
            warmup_epochs: 2.0,
        };
        for epoch in [2.0, 2.5, 10.0, 19.75, 20.0] {
            close(rate.at(epoch), cosine.at(epoch), 1e-15);
        }
        assert_eq!(rate.at(0.0), 0.0);
        close(rate.at(1.0), 0.5 * cosine.at(1.0), 1e-15);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let wrong = |schedule: TemperatureSchedule| schedule.check().unwrap_err().to_string();
        let exponential = |initial, decay| TemperatureSchedule::Exponential { initial, decay };
        assert!(wrong(exponential(0.0, 0.95)).contains("`temperature.initial` is 0"));
        assert!(wrong(exponential(1.3, 1.1)).contains("`temperature.decay` is 1.1"));
        assert!(wrong(TemperatureSchedule::Constant(f64::NAN)).contains("NaN"));
        for fraction in [0.0, 1.0, f64::NAN] {
            assert!(ThresholdPolicy::Fixed { fraction }.check().is_err());
        }
    }
}
