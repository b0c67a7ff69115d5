//! Mean and spread of results that differ only in their seed.

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

#[cfg(test)]
mod tests {
    use super::*;

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
