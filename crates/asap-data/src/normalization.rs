//! Mean and standard deviation of the channels, measured on the data.

use serde::{Deserialize, Serialize};

use rayon::prelude::*;

use crate::dataset::Moments;
use crate::{DataError, Dataset};

/// Most images that mean and deviation are measured on; of more, every second, third, ... one.
const MOST: usize = 100_000;

/// The map from bytes to network inputs, `(x / 255 - mean) / std` for each channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Mean of `x / 255`, one per channel.
    pub mean: Vec<f32>,
    /// Standard deviation of `x / 255`, one per channel; never 0.
    pub std: Vec<f32>,
}

/// Mean and standard deviation of each channel over all images of `data`, or every n-th if there are more than 100,000.
///
/// The sums are exact (a histogram, then f64); the deviation is the population's. A constant channel gets deviation 1,
/// so that it becomes 0 instead of a division by zero.
///
/// # Errors
/// An image that is not in memory and cannot be read.
pub fn normalization(data: &Dataset) -> Result<Normalization, DataError> {
    normalization_of(data, &(0..data.len()).collect::<Vec<_>>())
}

/// The same over the images at these places.
///
/// # Errors
/// Those of [`normalization`].
pub fn normalization_of(data: &Dataset, chosen: &[usize]) -> Result<Normalization, DataError> {
    let (mean, std) = data.measured(chosen, || measure(data, chosen))?;
    Ok(Normalization { mean, std })
}

fn measure(data: &Dataset, chosen: &[usize]) -> Result<Moments, DataError> {
    let channels = data.channels();
    let none = || vec![[0u64; 256]; channels];
    let count = |mut histograms: Vec<[u64; 256]>, index: usize| {
        for pixel in data.image(index)?.chunks_exact(channels) {
            for (histogram, &value) in histograms.iter_mut().zip(pixel) {
                histogram[usize::from(value)] += 1;
            }
        }
        Ok(histograms)
    };
    let add = |mut a: Vec<[u64; 256]>, b: Vec<[u64; 256]>| {
        a.as_flattened_mut().iter_mut().zip(b.as_flattened()).for_each(|(a, b)| *a += b);
        a
    };
    let step = chosen.len().div_ceil(MOST);
    let histograms = chosen.par_iter().copied().step_by(step).try_fold(none, count);
    let histograms = histograms.try_reduce(none, |a, b| Ok::<_, DataError>(add(a, b)))?;
    Ok(histograms.iter().map(moments).unzip())
}

fn moments(histogram: &[u64; 256]) -> (f32, f32) {
    let values = || histogram.iter().enumerate().map(|(v, &n)| (v as f64 / 255.0, n as f64));
    let count: f64 = values().map(|(_, n)| n).sum();
    let mean = values().map(|(v, n)| v * n).sum::<f64>() / count;
    let variance = values().map(|(v, n)| (v - mean).powi(2) * n).sum::<f64>() / count;
    let constant = histogram.iter().filter(|&&n| n > 0).count() == 1;
    (mean as f32, if constant { 1.0 } else { variance.sqrt() as f32 })
}

impl Normalization {
    /// Normalized values of one or more images, channels-last, in the same order.
    pub fn apply(&self, bytes: &[u8]) -> Vec<f32> {
        let tables = self.tables();
        bytes
            .iter()
            .zip((0..tables.len()).cycle())
            .map(|(&value, c)| tables[c][usize::from(value)])
            .collect()
    }

    /// The normalized value of every byte, one table per channel.
    pub(crate) fn tables(&self) -> Vec<[f32; 256]> {
        let table =
            |(&mean, &std): (&f32, &f32)| std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(table).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ImageSource;

    fn dataset(images: Vec<u8>, channels: usize) -> Dataset {
        let labels = vec![0; images.len() / channels];
        Dataset::new(images, labels, [1, 1, channels], vec!["a".into(), "b".into()]).unwrap()
    }

    #[test]
    fn agrees_with_two_plain_passes() {
        let bytes: Vec<u8> = (0..300u32).map(|i| (i * i % 251) as u8).collect();
        let found = normalization(&dataset(bytes.clone(), 3)).unwrap();
        for c in 0..3 {
            let x: Vec<f64> =
                bytes.iter().skip(c).step_by(3).map(|&b| f64::from(b) / 255.0).collect();
            let mean = x.iter().sum::<f64>() / 100.0;
            let std = (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 100.0).sqrt();
            assert!((f64::from(found.mean[c]) - mean).abs() < 1e-6);
            assert!((f64::from(found.std[c]) - std).abs() < 1e-6);
        }
        let values = found.apply(&bytes);
        let channel: Vec<f32> = values.into_iter().skip(1).step_by(3).collect();
        assert!(channel.iter().sum::<f32>().abs() < 1e-3);
        assert!((channel.iter().map(|v| v * v).sum::<f32>() / 100.0 - 1.0).abs() < 1e-4);
    }

    #[derive(Debug, Default)]
    struct Counted(AtomicUsize);

    impl ImageSource for Counted {
        fn count(&self) -> usize {
            20
        }

        fn shape(&self) -> [usize; 3] {
            [4, 4, 1]
        }

        fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok((0..16).map(|at| ((index * 31 + at * at * 17) % 256) as u8).collect())
        }
    }

    #[test]
    fn images_that_are_not_in_memory_are_measured_once() {
        let source = Arc::new(Counted::default());
        let reads = || source.0.load(Ordering::Relaxed);
        let labels = (0..20).map(|i| i % 2).collect();
        let classes = vec!["a".into(), "b".into()];
        let data = Dataset::from_source(source.clone(), labels, classes).unwrap();
        let (some, others): (Vec<usize>, Vec<usize>) = (0..20).partition(|i| i % 3 > 0);
        let found = normalization_of(&data, &some).unwrap();
        assert_eq!(reads(), some.len());
        assert_eq!(normalization_of(&data.clone(), &some).unwrap(), found);
        assert_eq!(reads(), some.len(), "known");
        // What another choice, a part or another size of the images gives is not mixed up with it.
        let anew = |data: &Dataset, chosen: &[usize]| {
            let (mean, std) = measure(data, chosen).unwrap();
            Normalization { mean, std }
        };
        assert_eq!(found, anew(&data, &some));
        let of_others = normalization_of(&data, &others).unwrap();
        assert_eq!(of_others, anew(&data, &others));
        assert_ne!(of_others, found);
        let part = data.subset(&others).unwrap();
        let first: Vec<usize> = (0..others.len()).collect();
        assert_eq!(normalization_of(&part, &first).unwrap(), of_others);
        let small = data.with_image_shape([2, 2, 1]).unwrap();
        let of_small = normalization_of(&small, &some).unwrap();
        assert_eq!(of_small, anew(&small, &some));
        assert_ne!(of_small, found);
    }

    #[test]
    fn constant_channel_becomes_zero() {
        let found = normalization(&dataset(vec![77; 5], 1)).unwrap();
        assert_eq!(found.std, [1.0]);
        assert!(found.apply(&[77]).iter().all(|v| v.abs() < 1e-6));
    }
}
