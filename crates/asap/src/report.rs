//! The page of a run: one HTML file that needs nothing else.

use std::fmt::Write;

use crate::config::Config;
use crate::error::Error;
use crate::record::{DataSummary, EpochRecord, SearchResult};
use crate::run_folder::{REPORT, RunFolder};

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
figure { margin: 1rem 0; overflow-x: auto; }
figure svg { max-width: 100%; height: auto; }
.cell svg { min-width: 36rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem; }
.curves figure { margin: 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
table { overflow-x: auto; display: block; }
td, th { text-align: right; white-space: nowrap; padding: 0 0.6rem; font-variant-numeric: tabular-nums; }
.plot { stroke: currentColor; fill: none; stroke-width: 2; }
.axis { stroke: currentColor; stroke-opacity: 0.4; fill: none; }
.plot-text { fill: currentColor; font-size: 12px; }
";

/// A curve of the report: its name and how it is read from an epoch.
type Curve = (&'static str, fn(&EpochRecord) -> f64);

const CURVES: [Curve; 8] = [
    ("validation accuracy", |r| r.valid_accuracy),
    ("training loss", |r| r.train_loss),
    ("temperature", |r| r.temperature),
    ("alive operations", |r| r.alive_ops as f64),
    ("entropy, normal cell", |r| r.entropy_normal),
    ("entropy, reduction cell", |r| r.entropy_reduce),
    ("epoch seconds", |r| r.epoch_seconds),
    ("largest distance between alphas", |r| r.alpha_spread),
];

/// Writes the report of a run as it stands.
///
/// # Errors
/// When the disk refuses.
pub fn write(
    folder: &RunFolder,
    data: &DataSummary,
    config: &Config,
    result: Option<&SearchResult>,
) -> Result<(), Error> {
    let records: Vec<EpochRecord> = folder.events()?;
    folder.write(REPORT, page(data, config, &records, result).as_bytes())
}

fn page(
    data: &DataSummary,
    config: &Config,
    records: &[EpochRecord],
    result: Option<&SearchResult>,
) -> String {
    let mut html = String::new();
    let _ = write!(
        html,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>asap search on {name}</title><style>{STYLE}</style></head><body>\
         <h1>Search on {name}</h1><p>{train} + {valid} images, {classes} classes, seed {seed}.</p>",
        name = escape(&data.name),
        train = data.train_images,
        valid = data.valid_images,
        classes = data.classes.len(),
        seed = config.seed,
    );
    match result {
        Some(result) => outcome(&mut html, result),
        None => {
            let _ = write!(
                html,
                "<p>The search goes on: {} of {} epochs.</p>",
                records.len(),
                config.search.epochs
            );
        }
    }
    if !records.is_empty() {
        html.push_str("<h2>Curves</h2><div class=\"curves\">");
        for (name, read) in CURVES {
            html.push_str(&plot(name, &records.iter().map(read).collect::<Vec<_>>()));
        }
        html.push_str("</div>");
        epochs(&mut html, records);
    }
    let toml = toml::to_string_pretty(config).expect("a configuration is TOML");
    let _ = write!(html, "<h2>Configuration</h2><pre>{}</pre></body></html>", escape(&toml));
    html
}

fn outcome(html: &mut String, result: &SearchResult) {
    let _ = write!(
        html,
        "<p>Validation accuracy {:.2} %, and {:.2} % with only the cell left. {} epochs, {:.0} s. {}</p>",
        100.0 * result.valid_accuracy,
        100.0 * result.derived_valid_accuracy,
        result.epochs,
        result.seconds,
        if result.decided_by_annealing {
            "Every choice was made by annealing."
        } else {
            "Some choices were still open at the end."
        },
    );
    for warning in &result.warnings {
        let _ = write!(html, "<p><strong>Note:</strong> {}</p>", escape(warning));
    }
    for (name, cell) in
        [("Normal cell", &result.genotype.normal), ("Reduction cell", &result.genotype.reduce)]
    {
        let _ = write!(html, "<figure class=\"cell\">{}</figure>", asap_core::svg(cell, name));
    }
    let _ = write!(html, "<pre>{}</pre>", escape(&result.genotype.to_string()));
}

fn epochs(html: &mut String, records: &[EpochRecord]) {
    html.push_str(
        "<h2>Epochs</h2><table><tr><th>epoch</th><th>T</th><th>alive</th><th>train loss</th>\
         <th>train acc.</th><th>valid acc.</th><th>seconds</th></tr>",
    );
    for r in records {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{:.3}</td><td>{}</td><td>{:.4}</td><td>{:.2} %</td><td>{:.2} %</td>\
             <td>{:.1}</td></tr>",
            r.epoch + 1,
            r.temperature,
            r.alive_ops,
            r.train_loss,
            100.0 * r.train_accuracy,
            100.0 * r.valid_accuracy,
            r.epoch_seconds
        );
    }
    html.push_str("</table>");
}

/// A line over the epochs, with the values at its ends of the scale written beside it.
fn plot(name: &str, values: &[f64]) -> String {
    const WIDTH: f64 = 300.0;
    const HEIGHT: f64 = 120.0;
    const LEFT: f64 = 52.0;
    const TOP: f64 = 22.0;
    let low = values.iter().copied().fold(f64::MAX, f64::min);
    let high = values.iter().copied().fold(f64::MIN, f64::max);
    let span = if high > low { high - low } else { 1.0 };
    let x = |i: usize| LEFT + WIDTH * i as f64 / (values.len().max(2) - 1) as f64;
    let y = |v: f64| TOP + HEIGHT * (1.0 - (v - low) / span);
    let points: String =
        values.iter().enumerate().map(|(i, &v)| format!("{:.1},{:.1} ", x(i), y(v))).collect();
    format!(
        "<figure><svg role=\"img\" aria-label=\"{name} from {first} to {last}\" viewBox=\"0 0 360 150\">\
         <text class=\"plot-text\" x=\"{LEFT}\" y=\"14\">{name}</text>\
         <path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
         <text class=\"plot-text\" x=\"48\" y=\"{high_y}\" text-anchor=\"end\">{high_text}</text>\
         <text class=\"plot-text\" x=\"48\" y=\"{bottom}\" text-anchor=\"end\">{low_text}</text>\
         <polyline class=\"plot\" points=\"{points}\"/></svg></figure>",
        first = number(values.first().copied().unwrap_or(0.0)),
        last = number(values.last().copied().unwrap_or(0.0)),
        bottom = TOP + HEIGHT,
        right = LEFT + WIDTH,
        high_y = TOP + 10.0,
        high_text = number(high),
        low_text = number(low),
    )
}

/// Three decimals, or none if there are none.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
