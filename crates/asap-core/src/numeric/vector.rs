//! Sums and products over vectors.

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `to += from * scale`.
pub(crate) fn add_scaled(to: &mut [f64], from: &[f64], scale: f64) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from * scale);
}

/// The logarithms of a softmax.
pub(crate) fn ln_softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ln_sum = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
    logits.iter().map(|logit| logit - ln_sum).collect()
}

/// The position of the largest number, the first of equals.
pub(crate) fn largest(numbers: &[f64]) -> usize {
    (1..numbers.len()).fold(0, |best, k| if numbers[k] > numbers[best] { k } else { best })
}
