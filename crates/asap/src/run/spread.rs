//! Mean and spread of results that differ only in their seed.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Mean, spread, best and worst of repeated measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of measurements.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; absent for a single measurement.
    pub deviation: Option<f64>,
    /// Smallest.
    pub smallest: f64,
    /// Largest.
    pub largest: f64,
}

impl Spread {
    /// The spread of some values; `None` without a value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (count > 0).then(|| Self {
            count,
            mean,
            deviation: (count > 1).then(|| (squares / (count - 1) as f64).sqrt()),
            smallest: values.iter().copied().fold(f64::INFINITY, f64::min),
            largest: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    /// The pooled standard deviation inside groups; absent if no group has two values.
    pub fn within(groups: &[Vec<f64>]) -> Option<f64> {
        let (mut squares, mut freedom) = (0.0, 0);
        for spread in groups.iter().filter_map(|group| Self::of(group)) {
            squares += spread.deviation.unwrap_or(0.0).powi(2) * (spread.count - 1) as f64;
            freedom += spread.count - 1;
        }
        (freedom > 0).then(|| (squares / freedom as f64).sqrt())
    }
}

/// The difference of two means, and the probability of one as large if both came from one distribution: a two-sided permutation test with
/// 20,000 draws.
pub fn permutation(one: &[f64], other: &[f64]) -> (f64, f64) {
    const DRAWS: usize = 20_000;
    let mut all = [one, other].concat();
    let total: f64 = all.iter().sum();
    let difference = |sum: f64| sum / one.len() as f64 - (total - sum) / other.len() as f64;
    let found = difference(one.iter().sum());
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut draw = || {
        let (some, _) = all.partial_shuffle(&mut random, one.len());
        difference(some.iter().sum())
    };
    // Sums in another order differ in their last digits.
    let least = found.abs() * (1.0 - 1e-9);
    let as_large = (0..DRAWS).filter(|_| draw().abs() >= least).count();
    (found, (as_large + 1) as f64 / (DRAWS + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_test_knows_the_odds() {
        // Of 20 ways to choose three of six, two are as extreme.
        let (difference, p) = permutation(&[1.0, 2.0, 3.0], &[11.0, 12.0, 13.0]);
        assert_eq!(difference, -10.0);
        assert!((p - 0.1).abs() < 0.01, "{p}");
        let (difference, p) = permutation(&[1.0, 3.0, 2.0], &[1.0, 2.0, 3.0]);
        assert!(difference.abs() < 1e-12 && p == 1.0, "{difference} {p}");
    }

    #[test]
    fn mean_and_spread() {
        let spread = Spread::of(&[2.0, 4.0, 9.0]).unwrap();
        assert_eq!(
            (spread.count, spread.mean, spread.smallest, spread.largest),
            (3, 5.0, 2.0, 9.0)
        );
        assert_eq!(spread.deviation, Some(13f64.sqrt()));
        assert_eq!(Spread::of(&[7.0]).unwrap().deviation, None);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn spread_inside_groups_does_not_see_their_means() {
        assert_eq!(
            Spread::within(&[vec![1.0, 3.0], vec![101.0, 103.0], vec![5.0]]),
            Some(2f64.sqrt())
        );
        assert_eq!(Spread::within(&[vec![1.0], vec![]]), None);
    }
}
