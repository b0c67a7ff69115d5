//! Seeded, stratified splits.

use rand::seq::SliceRandom;

use crate::random::{Stream, generator};

/// Splits image indices into two parts, stratified by class: the first part gets `fraction` of every class.
///
/// The first part has `round(fraction * n)` images, and of each class its share rounded up or down. The parts are
/// sorted and disjoint, and together complete. `fraction` is clamped to `0..=1`. Source: paper section 5.1 (two equal
/// parts); the stratification is ours.
pub fn stratified_halves(
    labels: &[u16],
    classes: usize,
    fraction: f64,
    seed: u64,
) -> (Vec<usize>, Vec<usize>) {
    let classes = labels.iter().map(|&l| usize::from(l) + 1).max().unwrap_or(0).max(classes);
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        members[usize::from(label)].push(index);
    }
    let counts: Vec<usize> = members.iter().map(Vec::len).collect();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (class, (mut indices, quota)) in
        members.into_iter().zip(quotas(&counts, fraction)).enumerate()
    {
        indices.shuffle(&mut generator(seed, Stream::Split, 0, class as u64));
        second.extend_from_slice(&indices[quota..]);
        indices.truncate(quota);
        first.extend(indices);
    }
    first.sort_unstable();
    second.sort_unstable();
    (first, second)
}

/// [`stratified_halves`] of some of the images, `among` them all.
pub fn stratified_parts_of(
    among: &[usize],
    labels: &[u16],
    classes: usize,
    fraction: f64,
    seed: u64,
) -> (Vec<usize>, Vec<usize>) {
    let own: Vec<u16> = among.iter().map(|&image| labels[image]).collect();
    let (first, second) = stratified_halves(&own, classes, fraction, seed);
    let images = |places: Vec<usize>| places.into_iter().map(|place| among[place]).collect();
    (images(first), images(second))
}

/// Integer shares of `fraction` of every count that add up to the rounded total (largest remainders round up).
fn quotas(counts: &[usize], fraction: f64) -> Vec<usize> {
    let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
    let total = (fraction * counts.iter().sum::<usize>() as f64).round() as usize;
    let exact: Vec<f64> = counts.iter().map(|&n| fraction * n as f64).collect();
    let mut quotas: Vec<usize> = exact.iter().map(|x| x.floor() as usize).collect();
    let mut by_remainder: Vec<usize> =
        (0..counts.len()).filter(|&c| exact[c].fract() > 0.0).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = total.saturating_sub(quotas.iter().sum());
    for class in by_remainder.into_iter().take(missing) {
        quotas[class] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_of_a_known_set() {
        let labels = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2];
        let (a, b) = stratified_halves(&labels, 3, 0.5, 7);
        assert_eq!((a.len(), b.len()), (6, 5));
        assert_eq!((a, b), stratified_halves(&labels, 3, 0.5, 7));
        assert_ne!(
            stratified_halves(&[0; 100], 1, 0.5, 1),
            stratified_halves(&[0; 100], 1, 0.5, 2),
            "the seed must matter"
        );
    }

    #[test]
    fn parts_of_some_images() {
        let labels = [0, 1, 0, 1, 0, 1, 0, 1];
        let among = [1, 2, 4, 5, 6, 7];
        let (first, second) = stratified_parts_of(&among, &labels, 2, 2.0 / 3.0, 3);
        assert_eq!((first.len(), second.len()), (4, 2));
        assert_eq!(first.iter().filter(|&&image| labels[image] == 0).count(), 2);
        let mut both = [first, second].concat();
        both.sort_unstable();
        assert_eq!(both, among);
        let all: Vec<usize> = (0..8).collect();
        assert_eq!(
            stratified_parts_of(&all, &labels, 2, 0.5, 7),
            stratified_halves(&labels, 2, 0.5, 7)
        );
    }

    #[test]
    fn nothing_and_everything() {
        assert_eq!(stratified_halves(&[], 3, 0.5, 0), (vec![], vec![]));
        assert_eq!(stratified_halves(&[0, 1], 2, 0.0, 0), (vec![], vec![0, 1]));
        assert_eq!(stratified_halves(&[0, 1], 2, 9.0, 0), (vec![0, 1], vec![]));
        assert_eq!(stratified_halves(&[0, 1], 2, f64::NAN, 0), (vec![], vec![0, 1]));
    }

    proptest! {
        #[test]
        fn parts_are_stratified_disjoint_and_complete(
            labels in proptest::collection::vec(0u16..7, 0..300),
            fraction in 0.0..=1.0,
            seed in any::<u64>(),
        ) {
            let (first, second) = stratified_halves(&labels, 7, fraction, seed);
            prop_assert_eq!(first.len(), (fraction * labels.len() as f64).round() as usize);
            let mut all = [first.clone(), second].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            for class in 0..7 {
                let whole = labels.iter().filter(|&&l| l == class).count() as f64;
                let part = first.iter().filter(|&&i| labels[i] == class).count() as f64;
                prop_assert!((part - fraction * whole).abs() < 1.0, "class {}: {} of {}", class, part, whole);
            }
        }
    }
}
