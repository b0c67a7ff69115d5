//! One LSTM cell in f64, forward and backward.

use super::vector::{add_scaled, dot};

/// The values that a step of the cell keeps for its backward pass. All vectors have the hidden size H.
#[derive(Clone, Debug)]
pub(crate) struct LstmStep {
    /// The input and the last hidden state, 2 H numbers.
    joined: Vec<f64>,
    cell_before: Vec<f64>,
    /// Input, forget and output gates and the candidate values, each H numbers.
    gates: Vec<f64>,
    pub(crate) cell: Vec<f64>,
    pub(crate) hidden: Vec<f64>,
}

/// The gradients that a backward step passes on.
pub(crate) struct LstmGradient {
    pub(crate) input: Vec<f64>,
    pub(crate) hidden: Vec<f64>,
    pub(crate) cell: Vec<f64>,
}

/// The number of weights: 4 H rows of 2 H, and no bias, as in the ENAS code.
pub(crate) fn lstm_weights(hidden: usize) -> usize {
    8 * hidden * hidden
}

/// `i, f, o = sigmoid(W [x, h])`, `g = tanh(W [x, h])`, `c' = f c + i g`, `h' = o tanh(c')`.
pub(crate) fn lstm_step(weights: &[f64], input: &[f64], hidden: &[f64], cell: &[f64]) -> LstmStep {
    let size = hidden.len();
    let joined = [input, hidden].concat();
    let rows = weights.chunks_exact(2 * size);
    let mut gates: Vec<_> = rows.map(|row| dot(row, &joined)).collect();
    let (sigmoids, candidates) = gates.split_at_mut(3 * size);
    sigmoids.iter_mut().for_each(|gate| *gate = 1.0 / (1.0 + (-*gate).exp()));
    candidates.iter_mut().for_each(|gate| *gate = gate.tanh());
    let gate = |which: usize, k: usize| gates[which * size + k];
    let new_cell: Vec<_> =
        (0..size).map(|k| gate(1, k) * cell[k] + gate(0, k) * gate(3, k)).collect();
    let new_hidden = (0..size).map(|k| gate(2, k) * new_cell[k].tanh()).collect();
    LstmStep { joined, cell_before: cell.to_vec(), gates, cell: new_cell, hidden: new_hidden }
}

impl LstmStep {
    /// Adds to `weight_gradient`; returns the gradients for the input and the previous state, from those for the next.
    pub(crate) fn backward(
        &self,
        weights: &[f64],
        weight_gradient: &mut [f64],
        d_hidden: &[f64],
        d_cell: &[f64],
    ) -> LstmGradient {
        let size = self.cell.len();
        let mut d_gates = vec![0.0; 4 * size];
        let mut before = vec![0.0; size];
        for k in 0..size {
            let [i, f, o, g] = [0, 1, 2, 3].map(|which| self.gates[which * size + k]);
            let squashed = self.cell[k].tanh();
            let d = d_cell[k] + d_hidden[k] * o * (1.0 - squashed * squashed);
            d_gates[k] = d * g * i * (1.0 - i);
            d_gates[size + k] = d * self.cell_before[k] * f * (1.0 - f);
            d_gates[2 * size + k] = d_hidden[k] * squashed * o * (1.0 - o);
            d_gates[3 * size + k] = d * i * (1.0 - g * g);
            before[k] = d * f;
        }
        let mut d_joined = vec![0.0; 2 * size];
        let rows = weights.chunks_exact(2 * size).zip(weight_gradient.chunks_exact_mut(2 * size));
        for ((row, d_row), d) in rows.zip(d_gates) {
            add_scaled(&mut d_joined, row, d);
            add_scaled(d_row, &self.joined, d);
        }
        let hidden = d_joined.split_off(size);
        LstmGradient { input: d_joined, hidden, cell: before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(salt: usize, count: usize) -> Vec<f64> {
        (0..count).map(|i| ((salt * 173 + i) as f64 * 12.9898).sin()).collect()
    }

    #[test]
    fn a_step_of_size_1_is_the_formula() {
        let weights = [0.1, 0.2, -0.3, 0.4, 0.5, -0.6, 0.7, 0.8];
        let (x, h, c) = (0.9, -0.5, 0.3);
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        let i = sigmoid(0.1 * x + 0.2 * h);
        let f = sigmoid(-0.3 * x + 0.4 * h);
        let o = sigmoid(0.5 * x - 0.6 * h);
        let g = (0.7 * x + 0.8 * h).tanh();
        let cell = f * c + i * g;
        let step = lstm_step(&weights, &[x], &[h], &[c]);
        assert!((step.cell[0] - cell).abs() < 1e-15);
        assert!((step.hidden[0] - o * cell.tanh()).abs() < 1e-15);
    }

    #[test]
    fn the_backward_step_is_that_of_finite_differences() {
        let (size, by) = (3, 1e-6);
        // weights, input, hidden, cell in one list
        let mut all = numbers(1, lstm_weights(size) + 3 * size);
        let (up_hidden, up_cell) = (numbers(2, size), numbers(3, size));
        let run = |all: &[f64]| {
            let (weights, rest) = all.split_at(lstm_weights(size));
            lstm_step(weights, &rest[..size], &rest[size..2 * size], &rest[2 * size..])
        };
        let loss = |all: &[f64]| {
            let step = run(all);
            dot(&step.hidden, &up_hidden) + dot(&step.cell, &up_cell)
        };
        let mut gradient = vec![0.0; lstm_weights(size)];
        let weights = all[..lstm_weights(size)].to_vec();
        let back = run(&all).backward(&weights, &mut gradient, &up_hidden, &up_cell);
        gradient.extend([back.input, back.hidden, back.cell].concat());
        for k in 0..all.len() {
            let at = all[k];
            all[k] = at + by;
            let more = loss(&all);
            all[k] = at - by;
            let less = loss(&all);
            all[k] = at;
            assert!((gradient[k] - (more - less) / (2.0 * by)).abs() < 1e-8, "{k}");
        }
    }
}
