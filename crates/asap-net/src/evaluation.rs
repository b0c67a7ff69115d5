//! The accuracy of a network on labelled images.

use serde::{Deserialize, Serialize};

/// Errors of a network on unseen images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of images.
    pub images: usize,
    /// Images whose largest probability is not the label's.
    pub errors: usize,
    /// Fraction of the images that are errors.
    pub error: f64,
    /// 95 % confidence interval of the error (Wilson).
    pub interval: [f64; 2],
    /// Fraction of the images whose label is not among the five largest probabilities; absent with
    /// five classes or fewer.
    pub top5_error: Option<f64>,
    /// Mean cross entropy.
    pub loss: f64,
    /// Each class in the order of the labels.
    pub classes: Vec<ClassScore>,
    /// Images by label (row) and by prediction (column).
    pub confusion: Vec<Vec<usize>>,
}

/// One class of an [`Evaluation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Name of the class.
    pub name: String,
    /// Number of its images.
    pub images: usize,
    /// Fraction of them that is classified correctly; absent without images.
    pub accuracy: Option<f64>,
}

/// The loss of an image whose logits are not finite, that of the smallest probability.
pub const WORST_LOSS: f64 = 708.0;

/// Quantile of the normal distribution for 95 %.
const Z: f64 = 1.959_963_984_540_054;

impl Evaluation {
    /// Counts predictions; `logits` holds one row of `classes.len()` per image.
    ///
    /// The class of the largest logit is the prediction, the first of equals. A row with a number that is not finite is an
    /// error, whose prediction is counted as the first class and whose loss is [`WORST_LOSS`].
    ///
    /// # Panics
    /// If labels and rows differ in number.
    pub fn new(classes: &[String], labels: &[u16], logits: &[Vec<f32>]) -> Self {
        assert_eq!(labels.len(), logits.len(), "a row for each label");
        let mut confusion = vec![vec![0; classes.len()]; classes.len()];
        let mut right = vec![0; classes.len()];
        let (mut outside_five, mut loss) = (0, 0.0);
        for (&label, row) in labels.iter().zip(logits) {
            let label = usize::from(label);
            let broken = !row.iter().all(|logit| logit.is_finite());
            let predicted = if broken { 0 } else { predicted(row) };
            confusion[label][predicted] += 1;
            right[label] += usize::from(!broken && predicted == label);
            // Of equals the first ones count as predicted first, here as above.
            let ahead =
                |(k, p): &(usize, &f32)| **p > row[label] || **p == row[label] && *k < label;
            let above = row.iter().enumerate().filter(ahead).count();
            outside_five += usize::from(broken || above >= 5);
            loss += if broken { WORST_LOSS } else { cross_entropy(row, label) };
        }
        let images = labels.len();
        let share = |count: usize| count as f64 / images.max(1) as f64;
        let errors = images - right.iter().sum::<usize>();
        let scores = classes.iter().zip(&confusion).zip(right).map(|((name, row), right)| {
            let images = row.iter().sum();
            let accuracy = (images > 0).then(|| right as f64 / images as f64);
            ClassScore { name: name.clone(), images, accuracy }
        });
        Self {
            images,
            errors,
            error: share(errors),
            interval: wilson(errors, images),
            top5_error: (classes.len() > 5).then(|| share(outside_five)),
            loss: loss / images.max(1) as f64,
            classes: scores.collect(),
            confusion,
        }
    }
}

/// The negative logarithm of the probability of a class.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    sum.ln() + largest - f64::from(logits[label])
}

/// Probabilities from logits.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|l| f64::from(l - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| (power / sum) as f32).collect()
}

/// The class of the largest logit or probability, the first of equals.
pub fn predicted(row: &[f32]) -> usize {
    let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).fold(0, better)
}

/// The interval of a fraction of `count` in `images` (Wilson 1927).
fn wilson(count: usize, images: usize) -> [f64; 2] {
    if images == 0 {
        return [0.0, 1.0];
    }
    let n = images as f64;
    let p = count as f64 / n;
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("class {i}")).collect()
    }

    #[test]
    fn counts_errors_by_class() {
        let rows = [
            vec![0.7, 0.2, 0.1],
            vec![0.1, 0.5, 0.4],
            vec![0.4, 0.4, 0.2],
            vec![f32::NAN, 0.5, 0.5],
        ];
        let evaluation = Evaluation::new(&names(3), &[0, 2, 0, 0], &rows);
        assert_eq!((evaluation.images, evaluation.errors, evaluation.error), (4, 2, 0.5));
        assert_eq!(evaluation.classes[0].accuracy, Some(2.0 / 3.0), "not right by chance");
        assert_eq!(evaluation.confusion, [[3, 0, 0], [0, 0, 0], [0, 1, 0]]);
        assert_eq!(
            evaluation.classes[1],
            ClassScore { name: "class 1".into(), images: 0, accuracy: None }
        );
        assert_eq!(evaluation.classes[2].accuracy, Some(0.0));
        assert_eq!(evaluation.top5_error, None);
    }

    #[test]
    fn the_five_best_of_more_classes_are_counted() {
        let row = |label: usize| {
            let mut row = [0.3f32, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05].map(f32::ln).to_vec();
            row.swap(0, label.min(1));
            row
        };
        let evaluation = Evaluation::new(&names(7), &[4, 5], &[row(0), row(0)]);
        assert_eq!(evaluation.top5_error, Some(0.5));
        let flat = vec![1.0 / 7.0; 7];
        let constant = Evaluation::new(&names(7), &[4, 5], &[flat.clone(), flat]);
        assert_eq!(constant.top5_error, Some(0.5), "of equals the first five");
        assert!((evaluation.loss + (0.1f64.ln() + 0.08f64.ln()) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn the_loss_of_a_confident_error_is_the_distance_of_its_logits() {
        let loss = |logits| Evaluation::new(&names(2), &[0], &[logits]).loss;
        assert!((loss(vec![0.0, 500.0]) - 500.0).abs() < 1e-9);
        assert!((loss(vec![3.0, 3.0]) - 2f64.ln()).abs() < 1e-9);
        assert_eq!(loss(vec![f32::INFINITY, 0.0]), WORST_LOSS);
    }

    #[test]
    fn probabilities_of_logits() {
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(&softmax(&[100.0, 100.0 + 2f32.ln()]), &[1.0 / 3.0, 2.0 / 3.0]));
        assert!(softmax(&[f32::NAN, 0.0]).iter().all(|p| p.is_nan()), "not a probability");
    }

    #[test]
    fn wilsons_interval() {
        // Newcombe 1998, table I: 81 of 263 and 0 of 20.
        let close =
            |[a, b]: [f64; 2], [c, d]: [f64; 2]| (a - c).abs() < 5e-5 && (b - d).abs() < 5e-5;
        assert!(close(wilson(81, 263), [0.2553, 0.3662]));
        assert!(close(wilson(0, 20), [0.0, 0.1611]));
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }
}
