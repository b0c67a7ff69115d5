//! The constants of ENAS's controller.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::numeric::adam::Adam;

/// The constants of a [`Controller`](crate::Controller).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerSettings {
    /// Size of the LSTM and of the embeddings.
    pub hidden: usize,
    /// The divisor of the scores.
    pub temperature: f64,
    /// The largest absolute value of a logit of an input.
    pub tanh_constant: f64,
    /// The same for operations.
    pub operation_tanh_constant: f64,
    /// The weight of a sample's entropy relative to its reward.
    pub entropy_weight: f64,
    /// The fraction of the baseline that is kept at each reward.
    pub baseline_decay: f64,
    /// The optimizer.
    pub adam: Adam,
}

impl ControllerSettings {
    /// Checks the constants.
    ///
    /// # Errors
    /// [`Error::Value`] unless `hidden` is 1 to 4096, `temperature`, `tanh_constant` and the optimizer's `lr` and
    /// `epsilon` are above 0, `entropy_weight` and the weight decay are 0 or more, and the three decays are from 0 to
    /// below 1.
    pub fn check(&self) -> Result<(), Error> {
        if !(1..=4096).contains(&self.hidden) {
            return Err(Error::value("controller.hidden", self.hidden, "1 to 4096"));
        }
        for (key, value) in [
            ("controller.temperature", self.temperature),
            ("controller.tanh_constant", self.tanh_constant),
            ("controller.operation_tanh_constant", self.operation_tanh_constant),
            ("controller.adam.lr", self.adam.lr),
            ("controller.adam.epsilon", self.adam.epsilon),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::value(key, value, "a finite number above 0"));
            }
        }
        for (key, value) in [
            ("controller.entropy_weight", self.entropy_weight),
            ("controller.adam.weight_decay", self.adam.weight_decay),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::value(key, value, "a finite number, 0 or more"));
            }
        }
        for (key, value) in [
            ("controller.baseline_decay", self.baseline_decay),
            ("controller.adam.beta1", self.adam.beta1),
            ("controller.adam.beta2", self.adam.beta2),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::value(key, value, "a number from 0 to below 1"));
            }
        }
        Ok(())
    }
}

impl Default for ControllerSettings {
    /// The search of convolutional cells in the ENAS code (its script `cifar10_micro_search.sh` and `micro_controller.py`): 64 units, tanh
    /// constant 1.1, for operations divided by 2.5, no temperature, entropy weight 1e-4, baseline decay 0.99, and Adam at 3.5e-3 with the
    /// first moment off (beta1 0) and epsilon 1e-3.
    fn default() -> Self {
        Self {
            hidden: 64,
            temperature: 1.0,
            tanh_constant: 1.1,
            operation_tanh_constant: 1.1 / 2.5,
            entropy_weight: 1e-4,
            baseline_decay: 0.99,
            adam: Adam { lr: 3.5e-3, beta1: 0.0, beta2: 0.999, epsilon: 1e-3, weight_decay: 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused_by_their_key() {
        let good = ControllerSettings::default();
        assert!(good.check().is_ok());
        for (bad, key) in [
            (ControllerSettings { hidden: 0, ..good }, "hidden"),
            (ControllerSettings { temperature: 0.0, ..good }, "temperature"),
            (ControllerSettings { tanh_constant: f64::INFINITY, ..good }, "tanh_constant"),
            (ControllerSettings { entropy_weight: -1.0, ..good }, "entropy_weight"),
            (ControllerSettings { baseline_decay: 1.0, ..good }, "baseline_decay"),
            (ControllerSettings { adam: Adam { lr: 0.0, ..good.adam }, ..good }, "adam.lr"),
        ] {
            let text = bad.check().unwrap_err().to_string();
            assert!(text.starts_with(&format!("`controller.{key}`")), "{text}");
        }
    }
}
