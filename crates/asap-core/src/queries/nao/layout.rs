//! The position of each part among the parameters of the model.

use std::ops::Range;

use crate::numeric::lstm::lstm_weights;

/// Size of the LSTMs and of a cell's vector; half of a token's embedding is that of its input, half of its operation.
pub(super) const HIDDEN: usize = 16;
pub(super) const HALF: usize = HIDDEN / 2;
/// Rectified units of the predictor.
pub(super) const UNITS: usize = 64;

/// The position of each part among the parameters.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) states: usize,
    pub(super) operations: usize,
}

impl Layout {
    pub(super) fn sizes(self) -> [usize; 10] {
        [
            self.states * HALF,
            self.operations * HALF,
            HIDDEN,
            lstm_weights(HIDDEN),
            UNITS * (HIDDEN + 1),
            UNITS + 1,
            lstm_weights(HIDDEN),
            2 * HIDDEN * HIDDEN,
            self.states * HIDDEN,
            self.operations * HIDDEN,
        ]
    }

    pub(super) fn part(self, index: usize) -> Range<usize> {
        let sizes = self.sizes();
        let start = sizes[..index].iter().sum();
        start..start + sizes[index]
    }

    pub(super) fn of_input(self, input: usize) -> Range<usize> {
        let start = self.part(0).start + input * HALF;
        start..start + HALF
    }

    pub(super) fn of_operation(self, operation: usize) -> Range<usize> {
        let start = self.part(1).start + operation * HALF;
        start..start + HALF
    }

    /// What the decoder reads first.
    pub(super) fn start(self) -> Range<usize> {
        self.part(2)
    }

    pub(super) fn encoder(self) -> Range<usize> {
        self.part(3)
    }

    /// A row and a bias for each unit of the predictor.
    pub(super) fn units(self) -> Range<usize> {
        self.part(4)
    }

    /// From the units to the accuracy, with a bias.
    pub(super) fn accuracy(self) -> Range<usize> {
        self.part(5)
    }

    pub(super) fn decoder(self) -> Range<usize> {
        self.part(6)
    }

    /// From context and state to the decoder's output.
    pub(super) fn joined(self) -> Range<usize> {
        self.part(7)
    }

    pub(super) fn inputs(self) -> Range<usize> {
        self.part(8)
    }

    pub(super) fn operations(self) -> Range<usize> {
        self.part(9)
    }
}

pub(super) fn parameter_count(states: usize, operations: usize) -> usize {
    Layout { states, operations }.sizes().iter().sum()
}
