//! Batch norm: statistics in `f64`, and coefficients forward and backward.

use std::fmt;

use crate::simd::{Affine, Level};

/// Added to the variance, as in PyTorch.
pub(crate) const EPS: f64 = 1e-5;

/// A batch of which other processes compute the other parts: batch norms are those of all of it.
pub trait WholeBatch: fmt::Debug + Send + Sync {
    /// The number of parts, of equal size.
    fn parts(&self) -> usize;

    /// Replaces each number by its sum over the parts, the same to the bit for all. Every part calls this for as many numbers, at the same
    /// places of its pass.
    fn sum(&self, numbers: &mut [f64]);
}

/// Statistics of one batch norm over a batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Biased variance per channel; times `count / (count - 1)` it is the unbiased one.
    pub var: Vec<f32>,
    /// Number of values per channel: `n * h * w`.
    pub count: usize,
}

/// Mean and sum of squared deviations per channel, merged from the images of a part (Chan, Golub, LeVeque 1979) in `f64`.
#[derive(Debug, Clone, Default)]
pub(crate) struct MomentSum {
    mean: Vec<f64>,
    m2: Vec<f64>,
    count: usize,
}

impl MomentSum {
    pub(crate) fn new(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], m2: vec![0.0; channels], count: 0 }
    }

    /// Merges a part of `count` values per channel, or several, one after the other.
    pub(crate) fn merge<T: Copy + Into<f64>>(&mut self, mean: &[T], m2: &[T], count: usize) {
        if count == 0 {
            return;
        }
        let channels = self.mean.len();
        for (mean, m2) in mean.chunks_exact(channels).zip(m2.chunks_exact(channels)) {
            let (old, new) = (self.count as f64, count as f64);
            let (share, between) = (new / (old + new), old * new / (old + new));
            for ((to_mean, to_m2), (mean, m2)) in
                self.mean.iter_mut().zip(&mut self.m2).zip(mean.iter().zip(m2))
            {
                let delta = (*mean).into() - *to_mean;
                *to_mean += delta * share;
                *to_m2 += (*m2).into() + delta * delta * between;
            }
            self.count += count;
        }
    }

    pub(crate) fn join(&mut self, other: &Self) {
        self.merge(&other.mean, &other.m2, other.count);
    }

    /// Makes these the moments of a whole batch; each is a batch norm.
    pub(crate) fn of_whole<'a>(
        whole: &dyn WholeBatch,
        moments: impl Iterator<Item = &'a mut Self>,
    ) {
        let mut moments: Vec<&mut Self> = moments.collect();
        let mut numbers = Vec::new();
        for Self { mean, m2, count } in moments.iter().map(|moments| &**moments) {
            let count = *count as f64;
            numbers.push(count);
            numbers.extend(mean.iter().map(|mean| count * mean));
            numbers.extend(mean.iter().zip(m2).map(|(mean, m2)| m2 + count * mean * mean));
        }
        whole.sum(&mut numbers);
        let mut numbers = numbers.into_iter();
        let mut next = || numbers.next().expect("as many as were summed");
        for Self { mean, m2, count } in &mut moments {
            let of_all = next();
            *count = of_all as usize;
            mean.iter_mut().for_each(|mean| *mean = next() / of_all);
            let mean = mean.iter();
            m2.iter_mut().zip(mean).for_each(|(m2, mean)| {
                *m2 = (next() - of_all * mean * mean).max(0.0);
            });
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let count = self.count.max(1) as f64;
        Stats {
            mean: self.mean.iter().map(|m| *m as f32).collect(),
            var: self.m2.iter().map(|m| (m / count) as f32).collect(),
            count: self.count,
        }
    }
}

/// A batch norm with known statistics: `scale * y + shift`.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    /// Padded with zeros to whole SIMD vectors.
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    /// Repeated up to the period of the level.
    pub(crate) mean: Vec<f32>,
    /// One over the standard deviation.
    rstd: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
}

/// `dy = g_scale * g + y_scale * y + shift`, each repeated up to the period of the level.
#[derive(Debug, Clone)]
pub(crate) struct NormGrad {
    pub(crate) g_scale: Vec<f32>,
    pub(crate) y_scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

/// Per channel: the sum of a gradient `g`, and of `g * (y - mean)`.
#[derive(Debug, Clone, Default)]
pub(crate) struct GradSums {
    pub(crate) sum: Vec<f64>,
    pub(crate) dot: Vec<f64>,
}

impl GradSums {
    pub(crate) fn new(channels: usize) -> Self {
        Self { sum: vec![0.0; channels], dot: vec![0.0; channels] }
    }

    /// Adds `factor` times the sums of a part, or of several, one after the other.
    pub(crate) fn add<T: Copy + Into<f64>>(&mut self, sum: &[T], dot: &[T], factor: f32) {
        for (to, from) in [(&mut self.sum, sum), (&mut self.dot, dot)] {
            for from in from.chunks_exact(to.len()) {
                for (to, from) in to.iter_mut().zip(from) {
                    *to += (*from).into() * f64::from(factor);
                }
            }
        }
    }

    pub(crate) fn join(&mut self, other: &Self) {
        self.add(&other.sum, &other.dot, 1.0);
    }

    /// Makes these the sums over a whole batch.
    pub(crate) fn of_whole<'a>(whole: &dyn WholeBatch, sums: impl Iterator<Item = &'a mut Self>) {
        let mut values: Vec<&mut f64> =
            sums.flat_map(|Self { sum, dot }| sum.iter_mut().chain(dot)).collect();
        let mut numbers: Vec<f64> = values.iter().map(|value| **value).collect();
        whole.sum(&mut numbers);
        values.iter_mut().zip(numbers).for_each(|(value, number)| **value = number);
    }
}

impl Norm {
    pub(crate) fn new(
        level: Level,
        mean: &[f32],
        var: &[f32],
        affine: Option<(&[f32], &[f32])>,
    ) -> Self {
        let cp = level.pad(mean.len());
        let mut norm = Self {
            scale: vec![0.0; cp],
            shift: vec![0.0; cp],
            mean: level.repeat(mean),
            rstd: vec![0.0; mean.len()],
            gamma: vec![1.0; mean.len()],
            beta: vec![0.0; mean.len()],
        };
        for c in 0..mean.len() {
            let rstd = 1.0 / (f64::from(var[c]) + EPS).sqrt();
            let (gamma, beta) =
                affine.map_or((1.0, 0.0), |(g, b)| (f64::from(g[c]), f64::from(b[c])));
            norm.scale[c] = (gamma * rstd) as f32;
            norm.shift[c] = (beta - gamma * rstd * f64::from(mean[c])) as f32;
            (norm.rstd[c], norm.gamma[c], norm.beta[c]) = (rstd, gamma, beta);
        }
        norm
    }

    pub(crate) fn affine(&self) -> Affine<'_> {
        Affine { scale: &self.scale, shift: &self.shift }
    }

    /// The gradient of `weight * (gamma * yhat + beta)` with respect to `y`, given the sums of the gradient `g` of
    /// that product over `count` values.
    pub(crate) fn backward(&self, weight: f32, sums: &GradSums, count: usize) -> NormGrad {
        let period = self.mean.len();
        let zeros = || vec![0.0; period];
        let mut grad = NormGrad { g_scale: zeros(), y_scale: zeros(), shift: zeros() };
        let (weight, count) = (f64::from(weight), count as f64);
        for at in 0..period {
            let c = at % self.rstd.len();
            let (rstd, factor) = (self.rstd[c], self.gamma[c] * self.rstd[c] * weight);
            let (mean_g, mean_dot) = (sums.sum[c] / count, sums.dot[c] * rstd / count);
            grad.g_scale[at] = factor as f32;
            grad.y_scale[at] = (-factor * rstd * mean_dot) as f32;
            grad.shift[at] = (factor * (rstd * mean_dot * f64::from(self.mean[c]) - mean_g)) as f32;
        }
        grad
    }

    /// The gradient of the weight itself: the sum over channels and pixels of `g * (gamma * yhat + beta)`.
    pub(crate) fn weight_grad(&self, sums: &GradSums) -> f32 {
        let channels = sums.sum.iter().zip(&sums.dot).enumerate();
        channels
            .map(|(c, (sum, dot))| self.gamma[c] * self.rstd[c] * dot + self.beta[c] * sum)
            .sum::<f64>() as f32
    }

    /// The gradients of gamma and beta.
    pub(crate) fn affine_grad(&self, weight: f32, sums: &GradSums) -> (Vec<f32>, Vec<f32>) {
        let weight = f64::from(weight);
        let gamma = sums
            .dot
            .iter()
            .zip(&self.rstd)
            .map(|(dot, rstd)| (weight * dot * rstd) as f32)
            .collect();
        (gamma, sums.sum.iter().map(|sum| (weight * sum) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variance_survives_a_large_mean() {
        let values: Vec<f32> = (0..1000).map(|i| 4096.0 + (i % 5) as f32 * 0.25).collect();
        let mut sum = MomentSum::new(1);
        for part in values.chunks(7) {
            let mean = part.iter().map(|v| f64::from(*v)).sum::<f64>() / part.len() as f64;
            let m2 = part.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
            sum.merge(&[mean], &[m2], part.len());
        }
        let stats = sum.stats();
        assert_eq!(stats.mean, [4096.5]);
        assert!((stats.var[0] - 0.125).abs() < 1e-6, "{stats:?}");
        assert_eq!(stats.count, 1000);
    }
}
