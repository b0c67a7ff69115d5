//! The page of a search.

use std::fmt::Write;

use super::annealing::annealing;
use super::decisions::decisions;
use super::{cells, curves, next, notes, page, percent, table};
use asap_core::SURE;

use crate::error::Error;
use crate::run::folder::{REPORT, RunFolder};
use crate::run::record::{DataSummary, EpochRecord, SearchResult};
use crate::settings::config::Config;

/// Writes the report of a search in its current state.
pub(crate) fn write(
    folder: &RunFolder,
    data: &DataSummary,
    config: &Config,
    result: Option<&SearchResult>,
) -> Result<(), Error> {
    let records: Vec<EpochRecord> = folder.events()?;
    let mut body = format!(
        "<p>{} + {} images, {} classes, seed {}.</p>",
        data.train_images,
        data.valid_images,
        data.classes.len(),
        config.seed,
    );
    match result {
        Some(result) => outcome(&mut body, result),
        None => {
            let (done, all) = (records.len(), config.search.epochs);
            let _ = write!(body, "<p>The search is in progress: {done} of {all} epochs.</p>");
        }
    }
    if !records.is_empty() {
        curves(&mut body, &records);
        if config.search.method.has_alpha() {
            let space = config.space()?;
            body.push_str("<h2>The cell over time</h2>");
            for kind in 0..space.kinds().len() {
                let _ = write!(body, "<figure>{}</figure>", annealing(&space, kind, &records));
            }
            decisions(&mut body, &space, &records, result.map(|r| &r.genotype));
        }
        body.push_str("<h2>Epochs</h2>");
        let head = ["epoch", "T", "alive", "train loss", "train acc.", "valid acc.", "seconds"];
        table(&mut body, &head, records.iter().map(row));
    }
    folder.write(REPORT, page("Search", data, config, &body).as_bytes())
}

fn outcome(html: &mut String, result: &SearchResult) {
    let accuracies = result.accuracies().map(|text| format!("Validation accuracy: {text}. "));
    let _ = write!(
        html,
        "<p>{}{} epochs, {:.0} s. Decisions: {}.</p>",
        accuracies.unwrap_or_default(),
        result.epochs,
        result.seconds,
        result.decisions(),
    );
    notes(html, &result.warnings);
    cells(html, &result.genotype);
    certainty(html, result);
    let command = format!("asap train --cell <this folder> --data {}", result.data.name);
    next(html, &[&command, "asap cells cost <this folder>"]);
}

/// How sure each choice is.
fn certainty(html: &mut String, result: &SearchResult) {
    if result.choices.is_empty() {
        return;
    }
    html.push_str(
        "<h2>Certainty</h2><p>The probability that a search with another seed measures the same candidate to be the best, by \
         the mean and the variance of what this one measured. 50 % between two is a coin toss; far less is a choice that the \
         measurements are against, as alpha of a mixture can make one.</p>",
    );
    let rows = result.choices.iter().map(|choice| {
        vec![
            choice.choice.clone(),
            choice.chosen.clone(),
            format!("{:.1} %", 100.0 * choice.sure),
            choice.rival.clone().unwrap_or_default(),
            match choice.missing {
                Some(times) => format!("{times:.1} x"),
                None if choice.sure < SURE => "none will do".to_owned(),
                None => String::new(),
            },
        ]
    });
    let head = ["choice", "chosen", "sure", "against", "steps for 95 %"];
    table(html, &head, rows);
}

fn row(r: &EpochRecord) -> Vec<String> {
    vec![
        (r.epoch + 1).to_string(),
        format!("{:.3}", r.temperature),
        r.alive_ops.to_string(),
        format!("{:.4}", r.train_loss),
        percent(r.train_accuracy),
        percent(r.valid_accuracy),
        format!("{:.1}", r.epoch_seconds),
    ]
}
