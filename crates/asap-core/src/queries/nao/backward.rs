//! The gradients of the model.

use std::ops::Range;

use super::layout::{HALF, HIDDEN};
use super::model::{NaoModel, OF_ACCURACY, through_norm};
use super::sequence::Token;
use crate::numeric::vector::{add_scaled, dot};
use crate::space::SearchSpace;

impl NaoModel {
    /// Adds the gradients of the predictor from that of its score: for the vector and for the parameters.
    pub(super) fn accuracy_backward(
        &self,
        vector: &[f64],
        units: &[f64],
        d_score: f64,
        d_vector: &mut [f64],
        gradient: &mut [f64],
    ) {
        let layout = self.layout();
        let (rows, last) = (layout.units(), layout.accuracy());
        gradient[last.end - 1] += d_score;
        for (unit, &value) in units.iter().enumerate() {
            gradient[last.start + unit] += d_score * value;
            if value > 0.0 {
                let d = d_score * self.parameters[last.start + unit];
                let row = rows.start + unit * (HIDDEN + 1);
                add_scaled(&mut gradient[row..row + HIDDEN], vector, d);
                gradient[row + HIDDEN] += d;
                add_scaled(d_vector, self.at(row..row + HIDDEN), d);
            }
        }
    }

    /// The gradient of the loss on a cell.
    pub(super) fn gradient(&self, space: &SearchSpace, tokens: &[Token], target: f64) -> Vec<f64> {
        let layout = self.layout();
        let mut gradient = vec![0.0; self.parameters.len()];
        let encoded = self.encode(tokens);
        let mut d_vector = vec![0.0; HIDDEN];
        let (units, accuracy) = self.accuracy(&encoded.vector);
        let d_score = OF_ACCURACY * 2.0 * (accuracy - target) * accuracy * (1.0 - accuracy);
        self.accuracy_backward(&encoded.vector, &units, d_score, &mut d_vector, &mut gradient);

        let decoded =
            self.decode(space, &encoded.outputs, &encoded.vector, |place, _, _| tokens[place]);
        let share = (1.0 - OF_ACCURACY) / decoded.len() as f64;
        let mut d_outputs = vec![vec![0.0; HIDDEN]; tokens.len()];
        let (mut d_hidden, mut d_cell) = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
        for step in decoded.iter().rev() {
            let mut d_out = vec![0.0; HIDDEN];
            let mut through = |ln: &[f64], chosen: usize, head: Range<usize>| {
                for (k, ln) in ln.iter().enumerate().filter(|(_, ln)| ln.is_finite()) {
                    let d = share * (ln.exp() - f64::from(k == chosen));
                    let row = head.start + k * HIDDEN..head.start + (k + 1) * HIDDEN;
                    add_scaled(&mut gradient[row.clone()], &step.out, d);
                    add_scaled(&mut d_out, &self.parameters[row], d);
                }
            };
            if let Some(inputs) = &step.inputs {
                through(inputs, step.chosen[0], layout.inputs());
            }
            through(&step.operations, step.chosen[1], layout.operations());
            let mut d_joined = vec![0.0; 2 * HIDDEN];
            for (k, d_out) in d_out.iter().enumerate() {
                let d = d_out * (1.0 - step.out[k] * step.out[k]);
                let start = layout.joined().start + k * 2 * HIDDEN;
                let row = start..start + 2 * HIDDEN;
                add_scaled(&mut gradient[row.clone()], &step.joined, d);
                add_scaled(&mut d_joined, &self.parameters[row], d);
            }
            let (d_context, d_state) = d_joined.split_at(HIDDEN);
            add_scaled(&mut d_hidden, d_state, 1.0);
            let d_shares: Vec<f64> =
                encoded.outputs.iter().map(|output| dot(output, d_context)).collect();
            let mean = dot(&d_shares, &step.attention);
            for (j, share) in step.attention.iter().enumerate() {
                let d_score = share * (d_shares[j] - mean);
                add_scaled(&mut d_outputs[j], d_context, *share);
                add_scaled(&mut d_outputs[j], &step.lstm.hidden, d_score);
                add_scaled(&mut d_hidden, &encoded.outputs[j], d_score);
            }
            let decoder = &mut gradient[layout.decoder()];
            let weights = &self.parameters[layout.decoder()];
            let back = step.lstm.backward(weights, decoder, &d_hidden, &d_cell);
            self.embedding_backward(step.read, &back.input, &mut gradient);
            (d_hidden, d_cell) = (back.hidden, back.cell);
        }
        add_scaled(&mut d_vector, &d_hidden, 1.0);
        add_scaled(&mut d_vector, &d_cell, 1.0);

        let of_mean = through_norm(&d_vector, &encoded.vector, encoded.norm);
        let (mut d_hidden, mut d_cell) = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
        for (place, step) in encoded.steps.iter().enumerate().rev() {
            let d_output = &mut d_outputs[place];
            add_scaled(d_output, &of_mean, 1.0 / tokens.len() as f64);
            let d = through_norm(d_output, &encoded.outputs[place], encoded.norms[place]);
            add_scaled(&mut d_hidden, &d, 1.0);
            let encoder = &mut gradient[layout.encoder()];
            let weights = &self.parameters[layout.encoder()];
            let back = step.backward(weights, encoder, &d_hidden, &d_cell);
            self.embedding_backward(Some(tokens[place]), &back.input, &mut gradient);
            (d_hidden, d_cell) = (back.hidden, back.cell);
        }
        gradient
    }

    fn embedding_backward(&self, token: Option<Token>, d: &[f64], gradient: &mut [f64]) {
        let layout = self.layout();
        match token {
            None => add_scaled(&mut gradient[layout.start()], d, 1.0),
            Some([input, operation]) => {
                add_scaled(&mut gradient[layout.of_input(input)], &d[..HALF], 1.0);
                add_scaled(&mut gradient[layout.of_operation(operation)], &d[HALF..], 1.0);
            }
        }
    }
}
