//! A pass of the controller over its decisions, forward and backward.

use std::ops::Range;

use super::Controller;
use crate::numeric::lstm::{LstmStep, lstm_step, lstm_weights};
use crate::numeric::vector::{add_scaled, dot, ln_softmax};
use crate::space::{Ending, SearchSpace};

/// The alternatives of one decision.
#[derive(Clone, Copy)]
pub(super) enum Question {
    /// A state below `states`, other than the last `taken` decisions.
    Input {
        states: usize,
        taken: usize,
    },
    Operation,
}

/// One decision of a pass.
pub(super) struct Decision {
    lstm: LstmStep,
    /// The position among the parameters of the embedding that was read.
    embedding: Range<usize>,
    /// The position of the head, one row for each choice.
    head: Range<usize>,
    /// `tanh(score / temperature)` of each choice.
    squashed: Vec<f64>,
    /// The largest absolute value of a logit.
    limit: f64,
    /// Minus infinity for what may not be chosen.
    pub(super) ln_probabilities: Vec<f64>,
    pub(super) chosen: usize,
}

impl Controller {
    /// The decisions for a node.
    pub(super) fn questions_of(&self, node: usize) -> Vec<Question> {
        let states = self.space.inputs_of(node);
        match self.space.family.ending() {
            Ending::EveryEdge => vec![Question::Operation; states],
            Ending::Inputs(count) => {
                let inputs = (0..count).map(|taken| Question::Input { states, taken });
                inputs.chain(vec![Question::Operation; count]).collect()
            }
        }
    }

    /// All decisions in order.
    pub(super) fn questions(&self) -> Vec<Question> {
        let nodes = self.space.kinds().iter().flat_map(|_| 0..self.space.nodes);
        nodes.flat_map(|node| self.questions_of(node)).collect()
    }

    /// Takes every decision with `choose`, which gets its number and the logarithms of the probabilities.
    pub(super) fn pass(&self, mut choose: impl FnMut(usize, &[f64]) -> usize) -> Vec<Decision> {
        let hidden = self.settings.hidden;
        let layout = Layout::new(&self.space, hidden);
        let mut state = (vec![0.0; hidden], vec![0.0; hidden]);
        let mut embedding = layout.start();
        let (mut pass, mut decisions) = (Vec::new(), Vec::new());
        for (index, question) in self.questions().into_iter().enumerate() {
            let input = &self.parameters[embedding.clone()];
            let lstm = lstm_step(&self.parameters[layout.lstm()], input, &state.0, &state.1);
            state = (lstm.hidden.clone(), lstm.cell.clone());
            let head = layout.head(question);
            let rows = self.parameters[head.clone()].chunks_exact(hidden);
            let squashed: Vec<_> = rows
                .map(|row| (dot(row, &lstm.hidden) / self.settings.temperature).tanh())
                .collect();
            let limit = match question {
                Question::Input { .. } => self.settings.tanh_constant,
                Question::Operation => self.settings.operation_tanh_constant,
            };
            let ln_probabilities = ln_probabilities(&squashed, limit, question, &decisions);
            let chosen = choose(index, &ln_probabilities);
            decisions.push(chosen);
            let read = std::mem::replace(&mut embedding, layout.embedding(question, chosen));
            pass.push(Decision {
                lstm,
                embedding: read,
                head,
                squashed,
                limit,
                ln_probabilities,
                chosen,
            });
        }
        pass
    }

    pub(super) fn replay(&self, decisions: &[usize]) -> Vec<Decision> {
        assert_eq!(decisions.len(), self.questions().len(), "a sample of this controller's space");
        self.pass(|index, ln| {
            let chosen = decisions[index];
            assert!(ln.get(chosen).is_some_and(|ln| *ln > f64::NEG_INFINITY), "a legal decision");
            chosen
        })
    }

    /// The gradient of `of_ln * ln_probability + of_entropy * entropy` for the parameters, for given decisions.
    pub(super) fn backward(&self, pass: &[Decision], of_ln: f64, of_entropy: f64) -> Vec<f64> {
        let hidden = self.settings.hidden;
        let layout = Layout::new(&self.space, hidden);
        let mut gradient = vec![0.0; self.parameters.len()];
        let (mut d_hidden, mut d_cell) = (vec![0.0; hidden], vec![0.0; hidden]);
        for decision in pass.iter().rev() {
            let entropy = entropy(&decision.ln_probabilities);
            let slope = decision.limit / self.settings.temperature;
            for (k, &ln) in decision.ln_probabilities.iter().enumerate() {
                if ln == f64::NEG_INFINITY {
                    continue;
                }
                let p = ln.exp();
                let d_ln = f64::from(k == decision.chosen) - p;
                let d_logit = of_ln * d_ln - of_entropy * p * (ln + entropy);
                let d_score = d_logit * slope * (1.0 - decision.squashed[k].powi(2));
                let start = decision.head.start + k * hidden;
                let row = start..start + hidden;
                add_scaled(&mut gradient[row.clone()], &decision.lstm.hidden, d_score);
                add_scaled(&mut d_hidden, &self.parameters[row], d_score);
            }
            let weights = &self.parameters[layout.lstm()];
            let d_weights = &mut gradient[layout.lstm()];
            let back = decision.lstm.backward(weights, d_weights, &d_hidden, &d_cell);
            add_scaled(&mut gradient[decision.embedding.clone()], &back.input, 1.0);
            (d_hidden, d_cell) = (back.hidden, back.cell);
        }
        gradient
    }
}

/// The position of each part among the parameters.
struct Layout {
    hidden: usize,
    states: usize,
    candidates: usize,
}

impl Layout {
    fn new(space: &SearchSpace, hidden: usize) -> Self {
        let states = match space.family.ending() {
            Ending::Inputs(_) => space.states() - 1, // the last node is the input of none
            Ending::EveryEdge => 0,
        };
        Self { hidden, states, candidates: space.candidates.len() }
    }

    fn lstm(&self) -> Range<usize> {
        0..lstm_weights(self.hidden)
    }

    fn rows(&self, first: usize, count: usize) -> Range<usize> {
        let start = lstm_weights(self.hidden) + first * self.hidden;
        start..start + count * self.hidden
    }

    fn head(&self, question: Question) -> Range<usize> {
        match question {
            Question::Input { .. } => self.rows(0, self.states),
            Question::Operation => self.rows(self.states, self.candidates),
        }
    }

    fn start(&self) -> Range<usize> {
        self.rows(self.states + self.candidates, 1)
    }

    fn embedding(&self, question: Question, chosen: usize) -> Range<usize> {
        let first = self.states + self.candidates + 1 + chosen;
        match question {
            Question::Input { .. } => self.rows(first, 1),
            Question::Operation => self.rows(first + self.states, 1),
        }
    }
}

pub(super) fn parameter_count(space: &SearchSpace, hidden: usize) -> usize {
    let Layout { states, candidates, .. } = Layout::new(space, hidden);
    lstm_weights(hidden) + (2 * (states + candidates) + 1) * hidden
}

/// The logarithms of the probabilities; minus infinity for what may not be chosen.
fn ln_probabilities(
    squashed: &[f64],
    limit: f64,
    question: Question,
    decisions: &[usize],
) -> Vec<f64> {
    let legal = |k: usize| match question {
        Question::Input { states, taken } => {
            k < states && !decisions[decisions.len() - taken..].contains(&k)
        }
        Question::Operation => true,
    };
    let logit = |k: usize| if legal(k) { limit * squashed[k] } else { f64::NEG_INFINITY };
    ln_softmax(&(0..squashed.len()).map(logit).collect::<Vec<_>>())
}

pub(super) fn entropy(ln_probabilities: &[f64]) -> f64 {
    ln_probabilities.iter().filter(|ln| ln.is_finite()).map(|ln| -ln * ln.exp()).sum()
}
