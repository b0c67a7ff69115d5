//! Adam (Kingma and Ba 2015, arXiv 1412.6980).

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Adam with the decay added to the gradient, like `torch.optim.Adam`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// L2 penalty: this times the parameter is added to its gradient.
    pub weight_decay: f64,
}

impl Default for Adam {
    /// The settings of DARTS for the architecture weights: 3e-4, betas 0.5 and 0.999, decay 1e-3.
    fn default() -> Self {
        Self { lr: 3e-4, beta1: 0.5, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-3 }
    }
}

impl Adam {
    /// As published but for the rate: betas 0.9 and 0.999, no decay.
    pub(crate) const fn published(lr: f64) -> Self {
        Self { lr, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// What Adam remembers of some parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Moments {
    first_moment: Vec<f64>,
    second_moment: Vec<f64>,
    steps: u64,
}

impl Moments {
    /// Those of parameters that have not moved yet.
    pub(crate) fn new(parameters: usize) -> Self {
        Self { first_moment: vec![0.0; parameters], second_moment: vec![0.0; parameters], steps: 0 }
    }

    /// Saved ones, if there are as many as parameters.
    pub(crate) fn load(
        first_moment: Vec<f64>,
        second_moment: Vec<f64>,
        steps: u64,
        parameters: usize,
    ) -> Result<Self, Error> {
        for (key, list) in [("first_moment", &first_moment), ("second_moment", &second_moment)] {
            if list.len() != parameters {
                let expected = format!("{parameters} numbers, one for each parameter");
                return Err(Error::value(key, format!("{} numbers", list.len()), expected));
            }
        }
        Ok(Self { first_moment, second_moment, steps })
    }

    /// One step down the gradient, of the parameters that `moves` names.
    pub(crate) fn step(
        &mut self,
        adam: &Adam,
        parameters: &mut [f64],
        gradient: &[f64],
        moves: impl Fn(usize) -> bool,
    ) {
        self.steps += 1;
        let steps = self.steps as f64;
        let correction1 = 1.0 - adam.beta1.powf(steps);
        let correction2 = (1.0 - adam.beta2.powf(steps)).sqrt();
        for i in (0..parameters.len()).filter(|&i| moves(i)) {
            let gradient = gradient[i] + adam.weight_decay * parameters[i];
            let (m, v) = (&mut self.first_moment[i], &mut self.second_moment[i]);
            *m = adam.beta1 * *m + (1.0 - adam.beta1) * gradient;
            *v = adam.beta2 * *v + (1.0 - adam.beta2) * gradient * gradient;
            parameters[i] -= adam.lr / correction1 * *m / (v.sqrt() / correction2 + adam.epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published update, written out for two steps of one parameter.
    #[test]
    fn two_steps_are_those_of_the_paper() {
        let adam = Adam::published(0.1);
        let (mut moments, mut parameters) = (Moments::new(2), [1.0, 5.0]);
        moments.step(&adam, &mut parameters, &[0.5, 0.5], |i| i == 0);
        // Any first gradient moves by the rate.
        assert!((parameters[0] - 0.9).abs() < 1e-8, "{}", parameters[0]);
        moments.step(&adam, &mut parameters, &[-0.25, 0.5], |i| i == 0);
        let m = (0.9 * 0.1 * 0.5 + 0.1 * -0.25) / (1.0 - 0.9 * 0.9);
        let v = (0.999 * 0.001 * 0.25 + 0.001 * 0.0625) / (1.0 - 0.999 * 0.999_f64);
        assert!((parameters[0] - (0.9 - 0.1 * m / v.sqrt())).abs() < 1e-7, "{}", parameters[0]);
        assert_eq!(parameters[1], 5.0);
    }

    #[test]
    fn moments_of_other_parameters_are_refused() {
        let text = Moments::load(vec![0.0; 3], vec![0.0; 2], 1, 3).unwrap_err().to_string();
        assert!(text.contains("second_moment") && text.contains("2 numbers"), "{text}");
    }
}
