//! Principal components of patches as the first filters of a network.
//!
//! A short training is shorter if its first convolution need not learn what the patches of images have in common. Jordan (arXiv 2404.00498,
//! section 3.1) keeps whitened ones fixed; here a batch norm follows, which scales the responses, and the filters are trained as all others.

use asap_core::plan::{Body, Parameter, Plan, Primitive};
use asap_data::{DataError, Dataset, Normalization};
use asap_net::parameters::{NamedValues, Parameters};
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Most images that patches are taken from, and the patches of each.
const IMAGES: usize = 1000;
const PATCHES: usize = 200;

/// Replaces the filters of the first convolution by principal components, in the order of their variance: each two filters are one
/// component and its negative, as long as the replaced filters were on average. Filters beyond twice the number of components stay.
///
/// # Errors
/// An image that is not in memory and cannot be read.
pub(super) fn start(
    plan: &Plan,
    parameters: &mut Parameters,
    images: &Dataset,
    chosen: &[usize],
    normalization: &Normalization,
) -> Result<(), DataError> {
    let Some(Parameter { name, shape, .. }) = first_convolution(plan) else { return Ok(()) };
    let &[_, channels, height, width] = shape.as_slice() else {
        unreachable!("a convolution has filters of three dimensions")
    };
    if images.height() < height || images.width() < width {
        return Ok(());
    }
    let components = components(images, chosen, normalization, [channels, height, width])?;
    let mut values: NamedValues = parameters.values();
    let filters = &mut values.get_mut(name).expect("a network has the tensors of its plan").1;
    let norm = (filters.iter().map(|v| v * v).sum::<f32>() / shape[0] as f32).sqrt();
    let signed = components.iter().flat_map(|component| [(component, norm), (component, -norm)]);
    for (filter, (component, norm)) in filters.chunks_exact_mut(components.len()).zip(signed) {
        let scaled = component.iter().map(|&value| norm * value as f32);
        filter.iter_mut().zip(scaled).for_each(|(to, value)| *to = value);
    }
    parameters.load_named(&values).expect("these are the same tensors");
    Ok(())
}

/// The filters that see the images, if all see all channels.
fn first_convolution(plan: &Plan) -> Option<&Parameter> {
    plan.layers.iter().find_map(|layer| match &layer.body {
        Body::Chain { input: 0, steps } => match steps.first()?.primitive {
            Primitive::Conv { depthwise: false, .. } => {
                Some(&plan.parameters[steps[0].parameters.start])
            }
            _ => None,
        },
        _ => None,
    })
}

/// The principal components of patches `[channels, height, width]` of the normalized images at these places, of norm 1, those of the
/// largest variance first.
fn components(
    images: &Dataset,
    chosen: &[usize],
    normalization: &Normalization,
    [channels, height, width]: [usize; 3],
) -> Result<Vec<DVector<f64>>, DataError> {
    let size = channels * height * width;
    let (mut sum, mut squares) = (DVector::zeros(size), DMatrix::zeros(size, size));
    let mut count = 0.0;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for &index in chosen.iter().step_by(chosen.len().div_ceil(IMAGES)) {
        let values = normalization.apply(&images.image(index)?);
        for _ in 0..PATCHES {
            let top = rng.random_range(0..=images.height() - height);
            let left = rng.random_range(0..=images.width() - width);
            let patch = DVector::from_fn(size, |i, _| {
                let (channel, y, x) = (i / (height * width), i / width % height, i % width);
                let pixel = (top + y) * images.width() + left + x;
                f64::from(values[pixel * channels + channel])
            });
            squares.syger(1.0, &patch, &patch, 1.0);
            sum += patch;
            count += 1.0;
        }
    }
    let mean = sum / count;
    let covariance = squares / count - &mean * mean.transpose();
    // Of a symmetric matrix only the lower triangle is read, which is all that was summed.
    let eigen = SymmetricEigen::new(covariance);
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    Ok(order.into_iter().map(|column| eigen.eigenvectors.column(column).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use asap_core::{Design, NetworkShape, Stem};
    use burn::tensor::Device;

    use super::*;

    /// Images whose pixels vary along the rows alone: of their patches 3x1, all rows are equal.
    fn striped(images: usize) -> Dataset {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut bytes = Vec::new();
        for _ in 0..images {
            let row: Vec<u8> = (0..8).map(|_| rng.random()).collect();
            (0..8).for_each(|_| bytes.extend_from_slice(&row));
        }
        let labels = (0..images).map(|i| (i % 2) as u16).collect();
        Dataset::new(bytes, labels, [8, 8, 1], vec!["a".into(), "b".into()]).unwrap()
    }

    fn all(images: &Dataset) -> Vec<usize> {
        (0..images.len()).collect()
    }

    #[test]
    fn components_are_orthonormal_and_see_what_varies() {
        let images = striped(300);
        let normalization = asap_data::normalization(&images).unwrap();
        let found = components(&images, &all(&images), &normalization, [1, 3, 3]).unwrap();
        for (i, a) in found.iter().enumerate() {
            for (j, b) in found.iter().enumerate() {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((a.dot(b) - expected).abs() < 1e-9, "{i} {j}");
            }
        }
        // Three independent columns: the first three components are constant along each column, the others see nothing of them.
        for (number, component) in found.iter().enumerate() {
            let columns = (0..3).map(|x| (0..3).map(|y| component[3 * y + x]).sum::<f64>().abs());
            let seen = columns.fold(0.0, f64::max);
            assert_eq!(seen > 0.5, number < 3, "{number}: {component}");
        }
    }

    #[test]
    fn the_first_filters_are_pairs_of_the_old_length_and_the_rest_stay() {
        let images = striped(50);
        let normalization = asap_data::normalization(&images).unwrap();
        for name in ["resnet-9", "mobilenet-14"] {
            let design = Design::Plain(name.parse().unwrap());
            let shape = NetworkShape {
                channels: 21,
                cells: 1,
                height: 8,
                width: 8,
                in_channels: 1,
                classes: 2,
                stem: Stem::Small,
            };
            let plan = Plan::of(&design, &shape, false).unwrap();
            let before = Parameters::new(&plan, &Device::flex(), 3);
            let mut after = before.clone();
            start(&plan, &mut after, &images, &all(&images), &normalization).unwrap();
            let (before, after) = (before.values(), after.values());
            let changed: Vec<_> = before.keys().filter(|&k| before[k] != after[k]).collect();
            assert_eq!(changed, ["stem.conv"]);
            let filters: Vec<&[f32]> = after["stem.conv"].1.chunks_exact(9).collect();
            let length = |filter: &[f32]| filter.iter().map(|v| v * v).sum::<f32>().sqrt();
            let old = (before["stem.conv"].1.iter().map(|v| v * v).sum::<f32>() / 21.0).sqrt();
            for pair in filters[..18].chunks_exact(2) {
                assert!((length(pair[0]) - old).abs() < 1e-5);
                assert!(pair[0].iter().zip(pair[1]).all(|(a, b)| *a == -b));
            }
            assert_eq!(after["stem.conv"].1[18 * 9..], before["stem.conv"].1[18 * 9..]);
        }
    }
}
