//! The decision of each edge: the probabilities of its operations over the epochs, darker for likelier.

use std::fmt::Write;

use asap_core::{Gene, Genotype, SearchSpace};

use crate::run::record::EpochRecord;

/// Width of all epochs together, height of an operation, room for its name and for the title.
const WIDTH: f64 = 180.0;
const ROW: f64 = 16.0;
const NAME: f64 = 110.0;
const TITLE: f64 = 20.0;
/// Probabilities below this are not drawn.
const FAINT: f64 = 0.005;

/// One chart per edge; the operation that the genotype has there is underlined.
pub(super) fn decisions(
    html: &mut String,
    space: &SearchSpace,
    records: &[EpochRecord],
    genotype: Option<&Genotype>,
) {
    html.push_str(
        "<h2>Decisions</h2><p>The probability of each operation of an edge over the epochs, from 0 (blank) to 1 \
         (full). The operations of the final cell are marked.</p>",
    );
    for (k, &kind) in space.kinds().iter().enumerate() {
        let _ = write!(html, "<h3>{} cell</h3><div class=\"edges\">", capital(kind.name()));
        for edge in space.edges() {
            let _ = write!(
                html,
                "<figure><svg role=\"img\" viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" \
                 font-size=\"12\"><title>{kind} cell, edge from {input} to {node}</title>\
                 <text y=\"13\" fill=\"currentColor\">{node} from {input}</text>",
                width = NAME + WIDTH,
                height = TITLE + ROW * space.candidates.len() as f64,
                input = state(edge.input),
                node = state(2 + edge.node),
            );
            for (candidate, operation) in space.candidates.iter().enumerate() {
                let top = TITLE + ROW * candidate as f64;
                let gene = Gene { operation: *operation, input: edge.input };
                let chosen =
                    genotype.is_some_and(|g| g.cell(kind).nodes[edge.node].contains(&gene));
                let style = if chosen { " font-weight=\"bold\"" } else { "" };
                let mark = if chosen { "\u{25b8} " } else { "" };
                let _ = write!(
                    html,
                    "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\" fill=\"currentColor\"{style}>{mark}{operation}</text>",
                    x = NAME - 6.0,
                    y = top + 12.0,
                );
                let of_epoch = |record: &EpochRecord| {
                    let cells = record.probabilities.get(k);
                    cells.and_then(|edges| edges.get(edge.index)?.get(candidate)).copied()
                };
                let values: Vec<f64> =
                    records.iter().map(|record| of_epoch(record).unwrap_or(0.0)).collect();
                bar(html, &values, top);
            }
            html.push_str("</svg></figure>");
        }
        html.push_str("</div>");
    }
}

/// The row of an operation: a rectangle for each run of epochs that look the same.
fn bar(html: &mut String, values: &[f64], top: f64) {
    let width = WIDTH / values.len().max(1) as f64;
    let shade = |value: f64| (100.0 * value).round() as u32;
    let mut from = 0;
    for run in values.chunk_by(|a, b| shade(*a) == shade(*b)) {
        if run[0] >= FAINT {
            let _ = write!(
                html,
                "<rect x=\"{:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"currentColor\" fill-opacity=\"{:.2}\"/>",
                NAME + width * from as f64,
                top + 1.0,
                width * run.len() as f64,
                ROW - 2.0,
                run[0],
            );
        }
        from += run.len();
    }
    let _ = write!(
        html,
        "<path d=\"M{NAME} {y}h{WIDTH}\" stroke=\"currentColor\" stroke-opacity=\"0.25\"/>",
        y = top + ROW,
    );
}

/// The name of a state in the pictures of cells.
fn state(state: usize) -> String {
    match state {
        0 => "c_{k-2}".to_owned(),
        1 => "c_{k-1}".to_owned(),
        node => (node - 2).to_string(),
    }
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_that_look_the_same_are_one_rectangle_and_nothing_is_drawn_for_the_pruned() {
        let mut html = String::new();
        bar(&mut html, &[0.25, 0.25, 0.5, 0.0, 0.0, 1.0], 20.0);
        assert_eq!(html.matches("<rect").count(), 3, "{html}");
        assert!(
            html.contains("x=\"110.0\" y=\"21\" width=\"60.0\"")
                && html.contains("fill-opacity=\"0.25\"")
        );
        assert!(
            html.contains("x=\"260.0\" y=\"21\" width=\"30.0\"")
                && html.contains("fill-opacity=\"1.00\"")
        );
    }
}
