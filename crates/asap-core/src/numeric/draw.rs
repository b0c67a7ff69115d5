//! Draws by weight.

use rand::{Rng, RngExt};

/// The position of one of some weights, drawn with a chance that is its share of their sum; none if no weight is above 0.
pub(crate) fn weighted(weights: &[f64], random: &mut impl Rng) -> Option<usize> {
    let mut left = random.random::<f64>() * weights.iter().sum::<f64>();
    let mut possible = (0..weights.len()).filter(|&k| weights[k] > 0.0);
    let last = possible.clone().next_back();
    let passes = |&k: &usize| {
        left -= weights[k];
        left < 0.0
    };
    // Nothing passes only by rounding.
    possible.find(passes).or(last)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn weights_are_drawn_by_their_shares() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[weighted(&[1.0, 0.0, 6.0, 3.0], &mut random).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        for (count, expected) in [(counts[0], 1000), (counts[2], 6000), (counts[3], 3000)] {
            assert!((i32::abs(count - expected)) < 200, "{counts:?}");
        }
        assert_eq!(weighted(&[0.0, 0.0], &mut random), None);
        assert_eq!(weighted(&[], &mut random), None);
    }
}
