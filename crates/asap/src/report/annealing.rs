//! The annealing and pruning of a cell over time, as SVG: the paper's Figure 2. Every operation is an arc from its input to its node, the
//! darker the likelier; those that are pruned are gone.

use std::fmt::Write;

use asap_core::SearchSpace;

use super::chart::{COLOURS, escape};
use crate::run::record::EpochRecord;

/// Pictures of a cell at different times.
const PANELS: usize = 5;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 150.0;
const MARGIN: f64 = 40.0;
const TOP: f64 = 44.0;
/// Height of a line of the legend.
const LEGEND: f64 = 18.0;
/// Probabilities below this are not drawn.
const FAINT: f64 = 0.01;

/// The picture of one kind of cell, by its number; nothing without epochs.
pub(crate) fn annealing(space: &SearchSpace, kind: usize, records: &[EpochRecord]) -> String {
    let title = format!("Annealing and pruning of the {} cell", space.kinds()[kind]);
    let chosen = times(records.len());
    let anneals = records.windows(2).any(|pair| pair[0].temperature != pair[1].temperature);
    let legend = TOP + HEIGHT * chosen.len() as f64 + 10.0;
    let height = legend + LEGEND * space.candidates.len().div_ceil(2) as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" color=\"#777\"><title>{title}</title>\
         <text x=\"16\" y=\"20\" font-size=\"15\" fill=\"currentColor\">{title}</text>",
        title = escape(&title),
    );
    for (panel, &time) in chosen.iter().enumerate() {
        let record = &records[time];
        let ground = TOP + HEIGHT * (panel + 1) as f64 - 22.0;
        let alive = record.probabilities.get(kind).map_or(0, |edges| {
            edges.iter().flatten().filter(|probability| **probability > 0.0).count()
        });
        let temperature = match anneals {
            true => format!("T = {:.2}, ", record.temperature),
            false => String::new(),
        };
        let _ = write!(
            svg,
            "<text x=\"16\" y=\"{:.0}\" fill=\"currentColor\">after epoch {}: {temperature}{alive} operations</text>",
            ground - HEIGHT + 38.0,
            record.epoch + 1,
        );
        cell(&mut svg, space, record.probabilities.get(kind), ground);
    }
    for (c, operation) in space.candidates.iter().enumerate() {
        let x = 16.0 + (c % 2) as f64 * WIDTH / 2.0;
        let y = legend + LEGEND * (c / 2) as f64 + 12.0;
        let _ = write!(
            svg,
            "<path d=\"M{x} {}h28\" stroke=\"{}\" stroke-width=\"3\"/><text x=\"{}\" y=\"{y}\" fill=\"currentColor\">{operation}</text>",
            y - 4.0,
            COLOURS[c % COLOURS.len()],
            x + 36.0,
        );
    }
    svg.push_str("</svg>");
    svg
}

/// The first record, the last, and some between them, at even distances.
fn times(records: usize) -> Vec<usize> {
    let mut times: Vec<usize> = (0..PANELS)
        .map(|panel| panel * records.saturating_sub(1) / (PANELS - 1))
        .filter(|&time| time < records)
        .collect();
    times.dedup();
    times
}

fn cell(svg: &mut String, space: &SearchSpace, edges: Option<&Vec<Vec<f64>>>, ground: f64) {
    let states = space.states();
    let at = |state: usize| MARGIN + state as f64 * (WIDTH - 2.0 * MARGIN) / (states - 1) as f64;
    let tallest = HEIGHT - 60.0;
    for edge in space.edges() {
        let Some(probabilities) = edges.and_then(|edges| edges.get(edge.index)) else { continue };
        let (from, to) = (at(edge.input), at(edge.state));
        for (c, &probability) in probabilities.iter().enumerate().filter(|(_, p)| **p >= FAINT) {
            // Arcs of an edge lie above each other, and longer ones higher.
            let share = (to - from) / (at(states - 1) - at(0));
            let height = 1.5 * tallest * (0.25 + share) + 9.0 * c as f64;
            let _ = write!(
                svg,
                "<path d=\"M{from:.1} {ground:.1}Q{middle:.1} {top:.1} {to:.1} {ground:.1}\" fill=\"none\" stroke=\"{colour}\" \
                 stroke-width=\"{width:.1}\" stroke-opacity=\"{opacity:.2}\"/>",
                middle = (from + to) / 2.0,
                top = ground - height,
                colour = COLOURS[c % COLOURS.len()],
                width = 1.0 + 2.0 * probability,
                opacity = probability.sqrt().min(1.0),
            );
        }
    }
    for state in 0..states {
        let name = match (space.inputs(), state) {
            (2, 0) => "c_{k-2}".to_owned(),
            (2, 1) => "c_{k-1}".to_owned(),
            (inputs, state) if state < inputs => "in".to_owned(),
            (inputs, state) => (state - inputs).to_string(),
        };
        let x = at(state);
        let _ = write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{ground:.1}\" r=\"4\" fill=\"currentColor\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"currentColor\">{name}</text>",
            ground + 18.0,
        );
    }
}

#[cfg(test)]
mod tests {
    use asap_core::{Architecture, EdgePolicy, Family};

    use super::*;

    #[test]
    fn arcs_are_the_operations_that_are_left() {
        assert_eq!(times(0), [0; 0]);
        assert_eq!(times(1), [0]);
        assert_eq!(times(2), [0, 1]);
        assert_eq!(times(3), [0, 1, 2]);
        assert_eq!(times(41), [0, 10, 20, 30, 40]);
        for family in Family::ALL {
            let space = SearchSpace::of(family);
            let architecture = Architecture::new(space.clone(), EdgePolicy::Strength);
            let start = EpochRecord {
                probabilities: architecture.mixing_tables(1.0),
                temperature: 1.3,
                ..EpochRecord::default()
            };
            let mut end = start.clone();
            for edge in end.probabilities.iter_mut().flatten() {
                edge.fill(0.0);
                edge[1] = 1.0;
            }
            (end.epoch, end.temperature) = (1, 0.0);
            let svg = annealing(&space, 0, &[start, end]);
            let arcs = svg.matches('Q').count();
            assert_eq!(arcs, space.edge_count() * (space.candidates.len() + 1));
            let operations = space.edge_count() * space.candidates.len();
            assert!(svg.contains(&format!("after epoch 1: T = 1.30, {operations} operations")));
            assert!(svg.contains(&format!("after epoch 2: T = 0.00, {} op", space.edge_count())));
        }
        let svg = annealing(&SearchSpace::default(), 1, &[]);
        assert!(svg.contains("reduction cell") && !svg.contains('Q'), "{svg}");
    }
}
