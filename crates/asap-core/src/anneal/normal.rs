//! The normal distribution.

use std::f64::consts::SQRT_2;

use libm::erfc;

/// The probability that a standard normal variable is below `z`.
pub(super) fn distribution(z: f64) -> f64 {
    erfc(-z / SQRT_2) / 2.0
}
