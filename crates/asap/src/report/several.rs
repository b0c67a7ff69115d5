//! The pages of commands with several runs: a table, and links to the pages of the runs.

use std::fmt::Write;
use std::path::PathBuf;

use super::{cells, document, percent, table};
use crate::duration::duration;
use crate::error::Error;
use crate::report::chart::{Chart, Series, escape};
use crate::run::folder::{REPORT, RunFolder};
use crate::run::record::TrainResult;
use crate::run::spread::Spread;
use crate::run::tables::{Comparison, Final, QueryTable, RunResult, TabularSummary, TransferTable};
use crate::settings::config::Config;

/// Writes the page of an `asap run`.
pub(crate) fn write_run(
    folder: &RunFolder,
    config: &Config,
    result: &RunResult,
) -> Result<(), Error> {
    let mut body = String::new();
    if let Some(error) = &result.error {
        let _ = write!(
            body,
            "<p>Test error <strong>{}</strong> with the last weights.</p>",
            spread(error)
        );
    }
    let deviations = [
        ("searches with different seeds", result.search_deviation),
        ("trainings of one cell with different seeds", result.training_deviation),
    ];
    for (what, deviation) in deviations {
        if let Some(deviation) = deviation {
            let _ =
                write!(body, "<p>Standard deviation between {what}: {}.</p>", percent(deviation));
        }
    }
    if let Some(time) = result.time {
        let [taken, given] = [result.seconds, time].map(duration);
        let _ = write!(body, "<p>It took {taken} of {given}.</p>");
    }
    not_done(&mut body, &result.missing);
    if let Some(outcome) = &result.outcome {
        final_round(&mut body, outcome);
    }
    for found in &result.searches {
        let _ = write!(body, "<h2>Search with seed {}</h2>", found.search.seed);
        cells(&mut body, &found.search.genotype);
        link(&mut body, "search", &found.folder);
        trainings(&mut body, &found.trainings);
    }
    folder.write(REPORT, document("Search and training", config, &body).as_bytes())
}

/// The final: its candidates, and the trainings of the winner.
fn final_round(body: &mut String, outcome: &Final) {
    if let Some(note) = &outcome.note {
        let _ = write!(body, "<p><strong>{}</strong></p>", escape(note));
    }
    if !outcome.candidates.is_empty() {
        body.push_str("<h2>Final</h2>");
        let rows = outcome.candidates.iter().map(|candidate| {
            vec![
                candidate.name.clone(),
                percent(candidate.accuracy),
                candidate.params.to_string(),
                format!("{:.1} M", candidate.multiply_adds as f64 / 1e6),
                candidate.epochs.to_string(),
                format!("{:.0}", candidate.seconds),
            ]
        });
        let head = ["candidate", "accuracy", "weights", "multiply-adds", "epochs", "seconds"];
        table(body, &head, rows);
        body.push_str(
            "<p>Accuracy on held-out training images after a short training. The best is trained.</p>",
        );
        for left in &outcome.left_out {
            let (name, reason) = (escape(&left.name), escape(&left.reason));
            let _ = write!(body, "<p>Without {name}: {reason}</p>");
        }
        if let Some(verdict) = outcome.verdict() {
            let _ = write!(body, "<p><strong>{}</strong></p>", escape(&verdict));
        }
        for candidate in &outcome.candidates {
            link(body, &format!("short training of {}", candidate.name), &candidate.folder);
        }
    }
    let _ = write!(body, "<h2>Training of {}</h2>", escape(&outcome.winner));
    trainings(body, &outcome.trainings);
    if !outcome.smaller.is_empty() {
        body.push_str("<h2>Sizes</h2>");
        trainings(body, &outcome.smaller);
        let _ = write!(body, "<figure>{}</figure>", sizes(outcome).svg());
    }
}

/// Test error against cost.
pub(crate) fn sizes(outcome: &Final) -> Chart<'static> {
    let all = outcome.smaller.iter().rev().chain(outcome.trainings.first());
    let point = |(_, training): &(String, TrainResult)| {
        let error = training.test.as_ref()?.error;
        Some((training.multiply_adds as f64 / 1e6, 100.0 * error))
    };
    let points = all.filter_map(point).collect();
    Chart {
        title: "Error against cost",
        x: "million multiply-adds",
        y: "test error in %",
        series: vec![Series { points, ..Series::default() }],
    }
}

/// The trainings of a network.
fn trainings(body: &mut String, trainings: &[(String, TrainResult)]) {
    if trainings.is_empty() {
        return;
    }
    let rows = trainings.iter().map(|(_, training)| {
        vec![
            training.seed.to_string(),
            training.network(),
            training.test.as_ref().map_or("-".to_owned(), |test| percent(test.error)),
            format!("{:.0}", training.seconds),
        ]
    });
    let head = ["seed", "network", "test error", "seconds"];
    table(body, &head, rows);
    for (folder, training) in trainings {
        let title = format!("training with seed {}", training.seed);
        link(body, &format!("{title}, {} weights", training.params), folder);
    }
}

/// Writes the page of an `asap transfer`.
pub(crate) fn write_transfer(
    folder: &RunFolder,
    config: &Config,
    result: &TransferTable,
    links: impl Iterator<Item = (String, PathBuf)>,
) -> Result<(), Error> {
    let mut body = String::new();
    let rows = result.rows.iter().map(|row| {
        let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
        vec![
            row.cell.clone(),
            row.data.clone(),
            or_dash(row.params.map(|params| params.to_string())),
            or_dash(row.multiply_adds.map(|m| format!("{:.1} M", m as f64 / 1e6))),
            or_dash(row.error.as_ref().map(spread)),
            or_dash(row.seconds.map(|seconds| format!("{seconds:.0}"))),
        ]
    });
    let head = ["cell", "data", "weights", "multiply-adds", "test error", "seconds"];
    table(&mut body, &head, rows);
    for failure in result.rows.iter().flat_map(|row| &row.failures) {
        let _ = write!(body, "<p><strong>Failed:</strong> {}</p>", escape(failure));
    }
    not_done(&mut body, &result.missing);
    for (title, path) in links {
        link(&mut body, &title, &path.display().to_string());
    }
    folder.write(REPORT, document("Transfer", config, &body).as_bytes())
}

/// The runs that are still to be done.
fn not_done(body: &mut String, missing: &[String]) {
    if !missing.is_empty() {
        let _ =
            write!(body, "<p><strong>Not done yet:</strong> {}</p>", escape(&missing.join("; ")));
    }
}

/// Writes the page of an `asap compare`.
pub(crate) fn write_comparison(
    folder: &RunFolder,
    config: &Config,
    result: &Comparison,
    figures: &[(&str, Chart<'_>)],
) -> Result<(), Error> {
    let mut body = String::new();
    let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
    let rows = result.rows.iter().map(|row| {
        vec![
            row.method.to_string(),
            row.search_seconds.map_or(0, |seconds| seconds.count).to_string(),
            or_dash(row.error.as_ref().map(mean)),
            or_dash(row.params.map(|params| format!("{:.0}", params.mean))),
            or_dash(row.multiply_adds.map(|m| format!("{:.1} M", m.mean / 1e6))),
            or_dash(row.search_seconds.map(|seconds| format!("{:.0}", seconds.mean))),
            or_dash(row.search_peak_mb.map(|mb| format!("{mb:.0} MiB"))),
            or_dash(row.search_accuracy.as_ref().map(mean)),
            or_dash(row.derived_accuracy.as_ref().map(mean)),
            or_dash(row.sparsity.map(|sparsity| format!("{:.2}", sparsity.mean))),
        ]
    });
    let head = [
        "method",
        "runs",
        "test error",
        "weights",
        "multiply-adds",
        "search s",
        "search memory",
        "search network",
        "derived network",
        "sparsity",
    ];
    table(&mut body, &head, rows);
    body.push_str(
        "<p>Means over the seeds, with the sample standard deviation. Search and derived network: validation \
         accuracy at the last step with the same weights, batch norm statistics recomputed.</p>",
    );
    for failure in result.rows.iter().flat_map(|row| &row.failures) {
        let _ = write!(body, "<p><strong>Failed:</strong> {}</p>", escape(failure));
    }
    not_done(&mut body, &result.missing);
    if let Some(summary) = &result.table {
        truths(&mut body, result, summary);
    }
    for (_, chart) in figures {
        let _ = write!(body, "<figure>{}</figure>", chart.svg());
    }
    folder.write(REPORT, document("Comparison of methods", config, &body).as_bytes())
}

/// Writes the page and the chart of searches on a table.
pub(crate) fn write_queries(
    folder: &RunFolder,
    config: &Config,
    result: &QueryTable,
) -> Result<(), Error> {
    let mut body = String::new();
    let rows = result.rows.iter().map(|row| {
        vec![
            row.method.to_string(),
            row.accuracy.count.to_string(),
            mean(&row.accuracy),
            mean(&row.percentile),
            mean(&row.asked),
            row.against_random(),
        ]
    });
    let head = ["method", "seeds", "accuracy", "better than", "as seen", "against random"];
    table(&mut body, &head, rows);
    let _ = write!(
        body,
        "<p>{} evaluations each. Accuracy: {}, of the cell that looked best by {}; in the table of {} cells their mean is {}. Better than: \
         percentage of all cells that are less accurate. Means over the seeds, with the standard deviation. Against random: difference of the \
         means in points, and its probability if there were none (permutation test).</p>",
        result.evaluations,
        escape(&result.table.column),
        escape(&result.asked),
        result.table.cells,
        percent(result.table.mean),
    );
    // The first cells are chance, far below the rest.
    let first = (result.evaluations / 10).min(10);
    let lines = result.rows.iter().map(|row| {
        let rest = row.curve.iter().enumerate().skip(first);
        let points = rest.clone().map(|(i, one)| ((i + 1) as f64, 100.0 * one.mean));
        let spread = rest.map(|(_, one)| 100.0 * one.deviation.unwrap_or(0.0));
        Series { name: row.method.to_string(), points: points.collect(), spread: spread.collect() }
    });
    let chart = Chart {
        title: "The best cell so far",
        x: "evaluations",
        y: "accuracy in %, mean and standard deviation over the seeds",
        series: lines.collect(),
    };
    folder.write("curves.svg", chart.svg().as_bytes())?;
    let _ = write!(body, "<figure>{}</figure>", chart.svg());
    folder.write(REPORT, document("Searches on a table", config, &body).as_bytes())
}

/// The table of true accuracies.
fn truths(body: &mut String, result: &Comparison, summary: &TabularSummary) {
    body.push_str("<h2>True accuracies</h2>");
    let rows = result.rows.iter().filter_map(|row| {
        let truth = row.truth.as_ref()?;
        Some(vec![
            row.method.to_string(),
            truth.accuracy.count.to_string(),
            mean(&truth.accuracy),
            mean(&truth.percentile),
            mean(&truth.percentile_of_cost),
            truth.chance(),
        ])
    });
    let head = ["method", "cells", "accuracy", "better than", "of no more multiply-adds", "chance"];
    table(body, &head, rows);
    let _ = write!(
        body,
        "<p>{} in a table of {} cells of the space, whose mean is {}. Better than: percentage of these cells that are less \
         accurate, then of those of no more multiply-adds. Chance: that as many random cells are as accurate on average.</p>",
        escape(&summary.column),
        summary.cells,
        percent(summary.mean),
    );
}

fn link(html: &mut String, title: &str, folder: &str) {
    let (title, folder) = (escape(title), escape(folder));
    let _ = write!(html, "<p><a href=\"{folder}/{REPORT}\">{title}</a></p>");
}

fn spread(error: &Spread) -> String {
    match error.deviation {
        Some(_) => format!("{} ({} runs)", mean(error), error.count),
        None => mean(error),
    }
}

fn mean(share: &Spread) -> String {
    match share.deviation {
        Some(deviation) => format!("{:.2} ± {}", 100.0 * share.mean, percent(deviation)),
        None => percent(share.mean),
    }
}
