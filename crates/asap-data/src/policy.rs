//! AutoAugment: pairs of operations found by a search on one data set (Cubuk et al. 2019, arXiv 1805.09501).

use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt};

use crate::DataError;
use crate::operation::Operation::{self, *};

/// A published policy of 25 sub-policies; one is drawn for each image.
///
/// Tables 7 (CIFAR), 8 (SVHN) and 9 (ImageNet) of the paper, with the magnitudes of torchvision's `AutoAugment` and the
/// arithmetic of Pillow: nearest neighbour, grey (128) outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `cifar`: found on CIFAR-10, also used for CIFAR-100; mostly changes of colour.
    Cifar10,
    /// `svhn`: found on house numbers; mostly geometry and inversion.
    Svhn,
    /// `imagenet`: found on ImageNet, for photographs.
    ImageNet,
}

/// An operation, its probability in tenths, and its level.
type Step = (Operation, u32, u8);

impl Policy {
    const ALL: [Self; 3] = [Self::Cifar10, Self::Svhn, Self::ImageNet];

    /// Draws a sub-policy and applies it to an image `[h, w, c]` with 1 or 3 channels.
    pub(crate) fn apply(self, image: &mut [u8], shape: [usize; 3], random: &mut impl Rng) {
        for (operation, level, negative) in self.draw(random).into_iter().flatten() {
            operation.apply(level, negative, image, shape);
        }
    }

    /// The operations for one image, with their levels and signs (true for negative).
    fn draw(self, random: &mut impl Rng) -> [Option<(Operation, u8, bool)>; 2] {
        let table = self.table();
        table[random.random_range(0..table.len())].map(|(operation, tenths, level)| {
            (random.random_range(0..10) < tenths).then(|| (operation, level, random.random()))
        })
    }

    const fn table(self) -> &'static [[Step; 2]; 25] {
        match self {
            Self::Cifar10 => &CIFAR,
            Self::Svhn => &SVHN,
            Self::ImageNet => &IMAGENET,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cifar10 => "cifar",
            Self::Svhn => "svhn",
            Self::ImageNet => "imagenet",
        })
    }
}

impl FromStr for Policy {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let found = Self::ALL.into_iter().find(|policy| policy.to_string() == text);
        let names = Self::ALL.map(|policy| policy.to_string()).join(", ");
        found.ok_or_else(|| DataError::argument("policy", format!("one of {names}"), text))
    }
}

const CIFAR: [[Step; 2]; 25] = [
    [(Invert, 1, 0), (Contrast, 2, 6)],
    [(Rotate, 7, 2), (TranslateX, 3, 9)],
    [(Sharpness, 8, 1), (Sharpness, 9, 3)],
    [(ShearY, 5, 8), (TranslateY, 7, 9)],
    [(AutoContrast, 5, 0), (Equalize, 9, 0)],
    [(ShearY, 2, 7), (Posterize, 3, 7)],
    [(Color, 4, 3), (Brightness, 6, 7)],
    [(Sharpness, 3, 9), (Brightness, 7, 9)],
    [(Equalize, 6, 0), (Equalize, 5, 0)],
    [(Contrast, 6, 7), (Sharpness, 6, 5)],
    [(Color, 7, 7), (TranslateX, 5, 8)],
    [(Equalize, 3, 0), (AutoContrast, 4, 0)],
    [(TranslateY, 4, 3), (Sharpness, 2, 6)],
    [(Brightness, 9, 6), (Color, 2, 8)],
    [(Solarize, 5, 2), (Invert, 0, 0)],
    [(Equalize, 2, 0), (AutoContrast, 6, 0)],
    [(Equalize, 2, 0), (Equalize, 6, 0)],
    [(Color, 9, 9), (Equalize, 6, 0)],
    [(AutoContrast, 8, 0), (Solarize, 2, 8)],
    [(Brightness, 1, 3), (Color, 7, 0)],
    [(Solarize, 4, 5), (AutoContrast, 9, 0)],
    [(TranslateY, 9, 9), (TranslateY, 7, 9)],
    [(AutoContrast, 9, 0), (Solarize, 8, 3)],
    [(Equalize, 8, 0), (Invert, 1, 0)],
    [(TranslateY, 7, 9), (AutoContrast, 9, 0)],
];

const SVHN: [[Step; 2]; 25] = [
    [(ShearX, 9, 4), (Invert, 2, 0)],
    [(ShearY, 9, 8), (Invert, 7, 0)],
    [(Equalize, 6, 0), (Solarize, 6, 6)],
    [(Invert, 9, 0), (Equalize, 6, 0)],
    [(Equalize, 6, 0), (Rotate, 9, 3)],
    [(ShearX, 9, 4), (AutoContrast, 8, 0)],
    [(ShearY, 9, 8), (Invert, 4, 0)],
    [(ShearY, 9, 5), (Solarize, 2, 6)],
    [(Invert, 9, 0), (AutoContrast, 8, 0)],
    [(Equalize, 6, 0), (Rotate, 9, 3)],
    [(ShearX, 9, 4), (Solarize, 3, 3)],
    [(ShearY, 8, 8), (Invert, 7, 0)],
    [(Equalize, 9, 0), (TranslateY, 6, 6)],
    [(Invert, 9, 0), (Equalize, 6, 0)],
    [(Contrast, 3, 3), (Rotate, 8, 4)],
    [(Invert, 8, 0), (TranslateY, 0, 2)],
    [(ShearY, 7, 6), (Solarize, 4, 8)],
    [(Invert, 6, 0), (Rotate, 8, 4)],
    [(ShearY, 3, 7), (TranslateX, 9, 3)],
    [(ShearX, 1, 6), (Invert, 6, 0)],
    [(Solarize, 7, 2), (TranslateY, 6, 7)],
    [(ShearY, 8, 4), (Invert, 8, 0)],
    [(ShearX, 7, 9), (TranslateY, 8, 3)],
    [(ShearY, 8, 5), (AutoContrast, 7, 0)],
    [(ShearX, 7, 2), (Invert, 1, 0)],
];

const IMAGENET: [[Step; 2]; 25] = [
    [(Posterize, 4, 8), (Rotate, 6, 9)],
    [(Solarize, 6, 5), (AutoContrast, 6, 0)],
    [(Equalize, 8, 0), (Equalize, 6, 0)],
    [(Posterize, 6, 7), (Posterize, 6, 6)],
    [(Equalize, 4, 0), (Solarize, 2, 4)],
    [(Equalize, 4, 0), (Rotate, 8, 8)],
    [(Solarize, 6, 3), (Equalize, 6, 0)],
    [(Posterize, 8, 5), (Equalize, 10, 0)],
    [(Rotate, 2, 3), (Solarize, 6, 8)],
    [(Equalize, 6, 0), (Posterize, 4, 6)],
    [(Rotate, 8, 8), (Color, 4, 0)],
    [(Rotate, 4, 9), (Equalize, 6, 0)],
    [(Equalize, 0, 0), (Equalize, 8, 0)],
    [(Invert, 6, 0), (Equalize, 10, 0)],
    [(Color, 6, 4), (Contrast, 10, 8)],
    [(Rotate, 8, 8), (Color, 10, 2)],
    [(Color, 8, 8), (Solarize, 8, 7)],
    [(Sharpness, 4, 7), (Invert, 6, 0)],
    [(ShearX, 6, 5), (Equalize, 10, 0)],
    [(Color, 4, 0), (Equalize, 6, 0)],
    [(Equalize, 4, 0), (Solarize, 2, 4)],
    [(Solarize, 6, 5), (AutoContrast, 6, 0)],
    [(Invert, 6, 0), (Equalize, 10, 0)],
    [(Color, 6, 4), (Contrast, 10, 8)],
    [(Equalize, 8, 0), (Equalize, 6, 0)],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, generator};
    use std::collections::BTreeMap;

    /// Made from torchvision's source, see `tests/goldens/make_augment.py`.
    const GOLDEN: &str = include_str!("../tests/goldens/policies.txt");

    #[test]
    fn the_tables_are_torchvisions() {
        let golden: Vec<&str> = GOLDEN.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(golden.len(), 75);
        for policy in Policy::ALL {
            let expected = golden.iter().filter_map(|l| l.strip_prefix(&format!("{policy} ")));
            let found = policy.table().map(|pair| {
                let words = pair.map(|(operation, tenths, level)| {
                    format!("{operation} {}.{} {level}", tenths / 10, tenths % 10)
                });
                words.join(" ")
            });
            assert_eq!(found.to_vec(), expected.collect::<Vec<_>>(), "{policy}");
        }
    }

    /// Every outcome comes as often as 25 equally likely sub-policies with independent steps make it.
    #[test]
    fn outcomes_are_as_frequent_as_the_table_says() {
        const RUNS: u64 = 20_000;
        for policy in Policy::ALL {
            let mut expected = BTreeMap::new();
            for [(first, p, m), (second, q, n)] in *policy.table() {
                for (one, p) in [(Some((first, m)), p), (None, 10 - p)] {
                    for (two, q) in [(Some((second, n)), q), (None, 10 - q)] {
                        *expected.entry([one, two]).or_insert(0.0) +=
                            RUNS as f64 / 25.0 * f64::from(p * q) / 100.0;
                    }
                }
            }
            let (mut counts, mut negative) = (BTreeMap::new(), [0; 2]);
            for seed in 0..RUNS {
                let steps = policy.draw(&mut generator(seed, Stream::Augment, 0, 0));
                steps.iter().flatten().for_each(|step| negative[usize::from(step.2)] += 1);
                let outcome =
                    steps.map(|step| step.map(|(operation, level, _)| (operation, level)));
                *counts.entry(outcome).or_insert(0.0) += 1.0;
            }
            let half = f64::from(negative[0] + negative[1]) / 2.0;
            assert!((f64::from(negative[0]) - half).abs() < 3.0 * half.sqrt(), "{negative:?}");
            assert!(counts.keys().all(|outcome| expected[outcome] > 0.0));
            for (outcome, expected) in expected {
                let count = counts.get(&outcome).copied().unwrap_or(0.0);
                let bound = 5.0 * f64::max(expected, 1.0).sqrt();
                assert!(f64::abs(count - expected) < bound, "{outcome:?}: {count}, {expected}");
            }
        }
    }

    #[test]
    fn names() {
        for policy in Policy::ALL {
            assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
        }
        let text = "cifar10".parse::<Policy>().unwrap_err().to_string();
        assert_eq!(text, "policy: expected one of cifar, svhn, imagenet, found cifar10");
    }
}
