//! The pages of runs, each one self-contained HTML file, and pictures of cells.

pub(crate) mod annealing;
pub(crate) mod chart;
mod decisions;
mod figures;
pub mod picture;
pub(crate) mod scatter;
mod search;
mod several;
mod training;

use std::fmt::Write;

use asap_core::{CellKind, Genotype};

use crate::report::chart::{Chart, Series, escape};
use crate::run::record::{Curves, DataSummary};
use crate::settings::config::Config;

pub(crate) use self::figures::figures;
pub(crate) use self::search::write;
pub(crate) use self::several::{write_comparison, write_queries, write_run, write_transfer};
pub(crate) use self::training::write as write_training;

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1rem; }
figure { margin: 1rem 0; overflow-x: auto; }
figure svg { max-width: 100%; height: auto; }
.cell svg { min-width: 36rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem; }
.edges { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem; }
.curves figure, .edges figure { margin: 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
table { overflow-x: auto; display: block; }
td, th { text-align: right; white-space: nowrap; padding: 0 0.4rem; font-variant-numeric: tabular-nums; }
th { white-space: normal; vertical-align: bottom; }
";

/// A page around `body`, with the configuration at the end.
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

/// The commands to run next.
fn next(html: &mut String, commands: &[&str]) {
    let _ = write!(html, "<h2>Next steps</h2><pre>{}</pre>", escape(&commands.join("\n")));
}

/// Both cells as pictures and as text.
fn cells(html: &mut String, genotype: &Genotype) {
    for &kind in genotype.family().kinds() {
        let title = match kind {
            CellKind::Normal => "Normal cell",
            CellKind::Reduction => "Reduction cell",
        };
        let svg = asap_core::svg(genotype, kind, title);
        let _ = write!(html, "<figure class=\"cell\">{svg}</figure>");
    }
    let _ = write!(html, "<pre>{}</pre>", escape(&genotype.to_string()));
}

/// Charts of all curves over the epochs, one per group.
fn curves(html: &mut String, records: &[impl Curves]) {
    let mut groups: Vec<(&str, Vec<Series>)> = Vec::new();
    for record in records {
        for (tag, value) in record.values() {
            let (group, name) = tag.split_once('/').unwrap_or((tag, tag));
            let at = groups.iter().position(|(known, _)| *known == group).unwrap_or_else(|| {
                groups.push((group, Vec::new()));
                groups.len() - 1
            });
            let series = &mut groups[at].1;
            let line = series.iter_mut().find(|line| line.name == name);
            let point = ((record.epoch() + 1) as f64, value);
            match line {
                Some(line) => line.points.push(point),
                None => {
                    let (name, points) = (name.to_owned(), vec![point]);
                    series.push(Series { name, points, ..Series::default() });
                }
            }
        }
    }
    html.push_str("<h2>Curves</h2><div class=\"curves\">");
    for (title, series) in groups {
        // Curves with other units get a chart of their own.
        let alone = !["accuracy", "loss", "entropy"].contains(&title);
        let charts: Vec<_> = match alone {
            true => {
                let unnamed = |line: Series| Series { name: String::new(), ..line };
                let titled =
                    |line: Series| (format!("{title}: {}", line.name), vec![unnamed(line)]);
                series.into_iter().map(titled).collect()
            }
            false => vec![(title.to_owned(), series)],
        };
        for (title, series) in charts {
            let chart = Chart { title: &title, x: "epoch", y: "", series };
            let _ = write!(html, "<figure>{}</figure>", chart.svg());
        }
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
