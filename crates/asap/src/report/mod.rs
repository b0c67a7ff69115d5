//! The page of a run: one HTML file that needs nothing else.

mod search;
mod several;
mod training;

use std::fmt::Write;

use asap_core::Genotype;

use crate::chart::escape;
use crate::config::Config;
use crate::record::DataSummary;

pub use self::search::write;
pub use self::several::{write_comparison, write_run, write_transfer};
pub use self::training::write as write_training;

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

/// A page around `body`, with the configuration at its end.
fn page(title: &str, data: &DataSummary, config: &Config, body: &str) -> String {
    document(&format!("{title} on {}", data.name), config, body)
}

/// The same for a page of several data sets.
fn document(title: &str, config: &Config, body: &str) -> String {
    let toml = toml::to_string_pretty(config).expect("a configuration is TOML");
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>asap: {title}</title><style>{STYLE}</style></head><body>\
         <h1>{title}</h1>{body}\
         <h2>Configuration</h2><pre>{toml}</pre></body></html>",
        title = escape(title),
        toml = escape(&toml),
    )
}

fn notes(html: &mut String, warnings: &[String]) {
    for warning in warnings {
        let _ = write!(html, "<p><strong>Note:</strong> {}</p>", escape(warning));
    }
}

/// Both cells drawn, and as text.
fn cells(html: &mut String, genotype: &Genotype) {
    for (name, cell) in [("Normal cell", &genotype.normal), ("Reduction cell", &genotype.reduce)] {
        let _ = write!(html, "<figure class=\"cell\">{}</figure>", asap_core::svg(cell, name));
    }
    let _ = write!(html, "<pre>{}</pre>", escape(&genotype.to_string()));
}

/// A grid of curves over the epochs; those without values are left out.
fn curves(html: &mut String, curves: &[(&str, Vec<f64>)]) {
    html.push_str("<h2>Curves</h2><div class=\"curves\">");
    for (name, values) in curves.iter().filter(|(_, values)| !values.is_empty()) {
        html.push_str(&plot(name, values));
    }
    html.push_str("</div>");
}

fn table(html: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    html.push_str("<table><tr>");
    for name in head {
        let _ = write!(html, "<th>{}</th>", escape(name));
    }
    html.push_str("</tr>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escape(&cell));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
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
