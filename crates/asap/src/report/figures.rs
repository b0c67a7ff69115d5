//! The figures of a comparison of methods.

use std::collections::BTreeMap;

use crate::report::chart::{Chart, Series};
use crate::run::record::EpochRecord;
use crate::settings::MethodName;

/// The epochs of a method's search with one seed.
pub(crate) type Searched<'a> = (MethodName, &'a [EpochRecord]);

/// The paper's figures 3, 6 and 7: each curve is the mean of a method over the seeds so far.
pub(crate) fn figures(
    methods: &[MethodName],
    done: &[Searched<'_>],
) -> Vec<(&'static str, Chart<'static>)> {
    let lines_of = |methods: &[MethodName], read: &dyn Fn(&Searched<'_>, &EpochRecord) -> f64| {
        let line = |&method: &MethodName| Series {
            name: method.to_string(),
            points: mean_curve(done.iter().filter(|one| one.0 == method), read),
            ..Series::default()
        };
        methods.iter().map(line).collect::<Vec<Series>>()
    };
    let lines = |read: &dyn Fn(&Searched<'_>, &EpochRecord) -> f64| lines_of(methods, read);
    // Of alpha, or of ENAS's controller; the others have no probabilities of operations.
    let has_entropy = |m: &MethodName| m.has_alpha() || *m == MethodName::Enas;
    let chances: Vec<MethodName> = methods.iter().copied().filter(has_entropy).collect();
    let entropy = |read: &dyn Fn(&Searched<'_>, &EpochRecord) -> f64| lines_of(&chances, read);
    let relative_time = |one: &Searched<'_>, record: &EpochRecord| {
        record.epoch_seconds / one.1.first().map_or(1.0, |first| first.epoch_seconds)
    };
    let chart = |title, y, series| Chart { title, x: "epoch", y, series };
    vec![
        (
            "epoch-time",
            chart(
                "Epoch time (Fig. 3)",
                "seconds, relative to the first epoch",
                lines(&relative_time),
            ),
        ),
        (
            "sparsity",
            chart("Sparsity (Fig. 3)", "fraction of operations removed", lines(&|_, r| r.sparsity)),
        ),
        (
            "validation-accuracy",
            chart(
                "Validation accuracy (Fig. 6)",
                "search network",
                lines(&|_, r| r.valid_accuracy),
            ),
        ),
        (
            "entropy-normal",
            chart("Entropy, normal cell (Fig. 7)", "of ln N", entropy(&|_, r| r.entropy_normal)),
        ),
        (
            "entropy-reduction",
            chart(
                "Entropy, reduction cell (Fig. 7)",
                "of ln N",
                entropy(&|_, r| r.entropy_reduce.unwrap_or(0.0)),
            ),
        ),
    ]
}

/// The mean over the runs that have the epoch.
fn mean_curve<'a>(
    done: impl Iterator<Item = &'a Searched<'a>>,
    read: &dyn Fn(&Searched<'_>, &EpochRecord) -> f64,
) -> Vec<(f64, f64)> {
    let mut sums = BTreeMap::<usize, (f64, f64)>::new();
    for one in done {
        for record in one.1 {
            let (sum, count) = sums.entry(record.epoch).or_default();
            *sum += read(one, record);
            *count += 1.0;
        }
    }
    sums.into_iter().map(|(epoch, (sum, count))| ((epoch + 1) as f64, sum / count)).collect()
}
