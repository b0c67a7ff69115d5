//! Stochastic gradient descent on the weights, as in PyTorch.
//!
//! Burn's own optimizer clips each tensor separately and cannot forget the state of a removed operation;
//! here the momentum is stored with its weight in [`Parameters`].

use asap_core::plan::Role;
use burn::tensor::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::parameters::{Parameter, Parameters, WeightGradients};

/// SGD with momentum (dampening 0), L2 weight decay, and a limit on the global gradient norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    /// Momentum; the paper follows DARTS: 0.9.
    pub momentum: f64,
    /// Added to the gradient, times the weight.
    pub weight_decay: f64,
    /// Learning rate of biases, as a multiple of that of weights; their decay in a step is the same.
    pub bias_rate: f64,
    /// Largest norm of all gradients together; larger gradients are scaled down to it.
    pub gradient_clip: f64,
    /// True if the step looks ahead along the momentum (Nesterov).
    pub nesterov: bool,
}

/// The DARTS values, which the paper follows.
impl Default for Sgd {
    fn default() -> Self {
        Self {
            momentum: 0.9,
            weight_decay: 3e-4,
            bias_rate: 1.0,
            gradient_clip: 5.0,
            nesterov: false,
        }
    }
}

impl Sgd {
    /// The weights after a step, without taking it, and without a limit on the norm
    /// (DARTS `_compute_unrolled_model`).
    pub fn look_ahead(
        &self,
        parameters: &Parameters,
        gradients: WeightGradients,
        learning_rate: f64,
    ) -> Parameters {
        let mut ahead = parameters.clone();
        let free = Self { gradient_clip: f64::INFINITY, nesterov: false, ..*self };
        free.step(&mut ahead, gradients, learning_rate);
        ahead
    }

    /// One step at `learning_rate`; returns the norm of all gradients before clipping.
    ///
    /// A norm that is not finite changes nothing.
    pub fn step(
        &self,
        parameters: &mut Parameters,
        gradients: WeightGradients,
        learning_rate: f64,
    ) -> f64 {
        let norm = global_norm(&gradients);
        if norm.is_finite() {
            let factor = (self.gradient_clip / (norm + 1e-6)).min(1.0);
            self.move_by(parameters, gradients, learning_rate, |gradient| gradient * factor);
        }
        norm
    }

    /// The same without waiting for the device: the norm, `[1]`, stays on it, and one that is not finite spoils the weights.
    pub(crate) fn step_unread(
        &self,
        parameters: &mut Parameters,
        gradients: WeightGradients,
        learning_rate: f64,
    ) -> Tensor<1> {
        let squares: Vec<Tensor<1>> =
            gradients.iter().map(|(_, g)| (g.clone() * g.clone()).sum()).collect();
        if squares.is_empty() {
            return Tensor::zeros([1], parameters.device());
        }
        let norm = Tensor::cat(squares, 0).sum().sqrt();
        let factor = ((norm.clone() + 1e-6).recip() * self.gradient_clip).clamp_max(1.0);
        self.move_by(parameters, gradients, learning_rate, |gradient| gradient * factor.clone());
        norm
    }

    /// Moves the weights by their gradients, once `clip` has limited these.
    fn move_by(
        &self,
        parameters: &mut Parameters,
        gradients: WeightGradients,
        learning_rate: f64,
        clip: impl Fn(Tensor<1>) -> Tensor<1> + Sync,
    ) {
        let before: Vec<_> = gradients
            .into_iter()
            .map(|(id, gradient)| {
                let Parameter { role, value, momentum, .. } = parameters.get_mut(id);
                let rate = if *role == Role::Bias { self.bias_rate } else { 1.0 };
                (id, rate, gradient, value.clone(), momentum.take())
            })
            .collect();
        type Moved = (usize, f64, Tensor<1>, Tensor<1>, Option<Tensor<1>>);
        let step = |(id, rate, gradient, value, velocity): Moved| {
            let gradient = clip(gradient) + value.clone() * (self.weight_decay / rate);
            let velocity = match velocity {
                Some(velocity) => velocity * self.momentum + gradient.clone(),
                None => gradient.clone(),
            };
            let momentum = velocity.clone();
            let direction =
                if self.nesterov { gradient + velocity * self.momentum } else { velocity };
            (id, value - direction * (learning_rate * rate), momentum)
        };
        let after: Vec<_> = before.into_par_iter().map(step).collect();
        for (id, value, momentum) in after {
            let parameter = parameters.get_mut(id);
            (parameter.value, parameter.momentum) = (value, Some(momentum));
        }
    }
}

/// Values that are summed at once: Burn sums 4 Mi or more in an order that depends on the threads.
const PART: usize = 1 << 20;

/// The Euclidean norm of all gradients together.
pub fn global_norm(gradients: &WeightGradients) -> f64 {
    let squares: Vec<Tensor<1>> = gradients
        .par_iter()
        .flat_map_iter(|(_, g)| (g.clone() * g.clone()).split(PART, 0))
        .map(|part| part.sum())
        .collect();
    if squares.is_empty() {
        return 0.0;
    }
    let sum: f64 = Tensor::cat(squares, 0).into_data().iter::<f32>().map(f64::from).sum();
    sum.sqrt()
}

#[cfg(test)]
mod tests {
    use asap_core::plan::Plan;
    use asap_core::{Design, NetworkShape, Stem};
    use burn::tensor::Device;

    use super::*;
    use crate::parameters::host;

    #[test]
    fn biases_move_at_a_rate_of_their_own_and_decay_like_weights() {
        let shape = NetworkShape {
            channels: 4,
            cells: 1,
            height: 8,
            width: 8,
            in_channels: 1,
            classes: 3,
            stem: Stem::Small,
        };
        let design = Design::Plain("resnet-8".parse().expect("a plain network"));
        let plan = Plan::of(&design, &shape, false).expect("a network");
        let steps = |bias_rate: f64, decay: f64, rate: f64| {
            let sgd = Sgd { weight_decay: decay, bias_rate, nesterov: true, ..Sgd::default() };
            let mut parameters = Parameters::new(&plan, &Device::flex(), 0);
            for step in 0..3 {
                let trained = parameters.iter().filter(|(_, p)| p.role.is_trained());
                let gradients = trained.map(|(id, p)| {
                    let count: usize = p.shape.iter().product();
                    (id, Tensor::full([count], 0.01 * f64::from(step + 1), &Device::flex()))
                });
                let gradients = gradients.collect();
                sgd.step(&mut parameters, gradients, rate);
            }
            parameters
        };
        // A bias at 8 times the rate is one of a descent that is 8 times as fast with an eighth of the decay.
        let (found, plain, fast) =
            (steps(8.0, 0.01, 0.1), steps(1.0, 0.01, 0.1), steps(1.0, 0.00125, 0.8));
        let mut biases = 0;
        for (id, parameter) in found.iter() {
            let expected = if parameter.role == Role::Bias { &fast } else { &plain };
            biases += usize::from(parameter.role == Role::Bias);
            assert_eq!(host(&parameter.value), host(&expected.get(id).value), "{}", parameter.name);
        }
        // The shifts of seven batch norms, and that of the classifier.
        assert!(biases >= 8, "{biases}");
    }
}
