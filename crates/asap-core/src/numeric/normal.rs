//! The normal distribution.

use std::f64::consts::SQRT_2;

use libm::erfc;

/// The probability that a standard normal variable is below `z`.
pub(crate) fn distribution(z: f64) -> f64 {
    erfc(-z / SQRT_2) / 2.0
}

/// Close to a standard normal draw.
#[cfg(test)]
pub(crate) fn draw(random: &mut impl rand::Rng) -> f64 {
    use rand::RngExt;
    (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
}
