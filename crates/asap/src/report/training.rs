//! The page of a training.

use std::fmt::Write;

use asap_core::Design;

use super::{cells, curves, next, notes, page, percent, table};
use crate::error::Error;
use crate::run::folder::{REPORT, RunFolder};
use crate::run::record::{DataSummary, TrainRecord, TrainResult};
use crate::settings::config::Config;
use asap_net::evaluation::Evaluation;

/// The largest number of classes in a confusion table on a page.
const MOST_CLASSES: usize = 20;

/// Writes the report of a training in its current state.
pub(crate) fn write(
    folder: &RunFolder,
    data: &DataSummary,
    config: &Config,
    design: &Design,
    result: Option<&TrainResult>,
) -> Result<(), Error> {
    let records: Vec<TrainRecord> = folder.events()?;
    let mut body = format!(
        "<p>{} training images, {} held out, {} test images, {} classes, seed {}.</p>",
        data.train_images,
        data.valid_images,
        data.test_images,
        data.classes.len(),
        config.seed,
    );
    match result {
        Some(result) => outcome(&mut body, result),
        None => {
            let (done, all) = (records.len(), config.train.epochs);
            let _ = write!(body, "<p>The training is in progress: {done} of {all} epochs.</p>");
        }
    }
    if !records.is_empty() {
        curves(&mut body, &records);
    }
    match design {
        Design::Cells(genotype) => {
            body.push_str("<h2>Cells</h2>");
            cells(&mut body, genotype);
        }
        Design::Plain(network) => {
            let _ = write!(body, "<p>The network is {network}, which was not searched for.</p>");
        }
    }
    if !records.is_empty() {
        body.push_str("<h2>Epochs</h2>");
        let head = ["epoch", "lr", "train loss", "train acc.", "valid acc.", "seconds"];
        table(&mut body, &head, records.iter().map(row));
    }
    folder.write(REPORT, page("Training", data, config, &body).as_bytes())
}

fn outcome(html: &mut String, result: &TrainResult) {
    let _ = write!(
        html,
        "<p>{}. {} epochs, {:.0} s.</p>",
        result.network(),
        result.epochs,
        result.seconds,
    );
    notes(html, &result.warnings);
    if let Some(test) = &result.test {
        errors(html, test);
    }
    let commands =
        ["asap predict <this folder> photo.png", "asap export <this folder> --format onnx"];
    next(html, &commands);
}

/// The test error, class by class.
fn errors(html: &mut String, test: &Evaluation) {
    let _ = write!(
        html,
        "<p>Test error <strong>{}</strong> after the last epoch (95 % confidence: {} to {}), {} of {} images.</p>\
         <h2>Classes</h2>",
        percent(test.error),
        percent(test.interval[0]),
        percent(test.interval[1]),
        test.errors,
        test.images,
    );
    if test.classes.len() > MOST_CLASSES {
        let rows = test.classes.iter().map(|class| {
            vec![
                class.name.clone(),
                class.images.to_string(),
                class.accuracy.map_or("-".to_owned(), percent),
            ]
        });
        table(html, &["class", "images", "accuracy"], rows);
        return;
    }
    html.push_str("<p>Test images by class (rows) and by predicted class (columns).</p>");
    let names = test.classes.iter().map(|class| class.name.as_str());
    let head: Vec<&str> = ["class", "accuracy"].into_iter().chain(names).collect();
    let rows = test.classes.iter().zip(&test.confusion).map(|(class, row)| {
        let accuracy = class.accuracy.map_or("-".to_owned(), percent);
        [class.name.clone(), accuracy].into_iter().chain(row.iter().map(usize::to_string)).collect()
    });
    table(html, &head, rows);
}

fn row(r: &TrainRecord) -> Vec<String> {
    vec![
        (r.epoch + 1).to_string(),
        format!("{:.4}", r.lr),
        format!("{:.4}", r.train_loss),
        percent(r.train_accuracy),
        r.valid_accuracy.map_or("-".to_owned(), percent),
        format!("{:.1}", r.epoch_seconds),
    ]
}
