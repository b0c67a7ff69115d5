//! Pictures of a cell, like the paper's Figs. 4 and 5: SVG without any outside program, and DOT.
//!
//! The SVG is a layered drawing from left to right. Every operation is a label of its own, in front of the node it
//! feeds, so labels cannot meet; a wire that passes a column on its way has a lane of its own there.

use std::fmt::Write;

use super::layout::{BOX_HEIGHT, BOX_WIDTH, Item, LABEL_HEIGHT, LABEL_WIDTH, Layout, NECK, RADIUS};
use crate::{CellGenotype, OperationKind};

/// A self-contained SVG picture of a cell, for light and dark pages.
///
/// `c_{k-2}` and `c_{k-1}` are the cell's inputs, `c_{k}` its output; dashed wires lead to the output.
///
/// # Panics
/// If the cell breaks the rules of [`CellGenotype::new`].
pub fn svg(cell: &CellGenotype, title: &str) -> String {
    let layout = Layout::new(cell);
    let title = escape(title);
    let (width, height) = (layout.width() + 2.0 * MARGIN, layout.height + TITLE + MARGIN);
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="asap-cell" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" role="img">"#
    ));
    line(format!("<title>{title}</title>"));
    line(STYLE.to_owned());
    line(ARROW.to_owned());
    line(r#"<rect class="page" width="100%" height="100%"/>"#.to_owned());
    line(format!(r#"<text class="title" x="{MARGIN}" y="24">{title}</text>"#));
    line(format!(r#"<g transform="translate({MARGIN} {TITLE})">"#));
    for wire in wires(&layout) {
        line(wire);
    }
    for piece in pieces(&layout) {
        line(piece);
    }
    line("</g>\n</svg>".to_owned());
    out
}

/// The cell in the DOT language of Graphviz.
///
/// # Panics
/// If the cell breaks the rules of [`CellGenotype::new`].
pub fn dot(cell: &CellGenotype, title: &str) -> String {
    let state = |state: usize| match state {
        0 => "\"c_{k-2}\"".to_owned(),
        1 => "\"c_{k-1}\"".to_owned(),
        _ => format!("\"{}\"", state - 2),
    };
    let title = title.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out =
        format!("digraph \"{title}\" {{\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    for (node, gene) in cell.genes() {
        let (from, to) = (state(gene.input), state(2 + node));
        writeln!(out, "  {from} -> {to} [label=\"{}\"];", gene.operation).expect("a string grows");
    }
    for &from in &cell.concat {
        writeln!(out, "  {} -> \"c_{{k}}\" [style=dashed];", state(from)).expect("a string grows");
    }
    out.push_str("}\n");
    out
}

const MARGIN: f64 = 16.0;
const TITLE: f64 = 44.0;

/// From the middle of a text to its baseline; not every viewer knows `dominant-baseline`.
const BASELINE: f64 = 4.0;

/// Both palettes; the labels' colours tell the families of operations apart. The class keeps the rules off the rest of a
/// page into which the picture is pasted.
const STYLE: &str = "<style>
  .asap-cell text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1c2127; text-anchor: middle }
  .asap-cell .title { font: 600 15px system-ui, 'DejaVu Sans', sans-serif; text-anchor: start }
  .asap-cell .page { fill: #ffffff } .asap-cell .state { fill: #f4f5f7; stroke: #5c6773 }
  .asap-cell .wire { fill: none; stroke: #5c6773; stroke-width: 1.3 } .asap-cell .concat { stroke-dasharray: 5 4; stroke: #98a2ad }
  .asap-cell .tip { fill: #5c6773 } .asap-cell .op { stroke: none }
  .asap-cell .sep { fill: #cfe3ff } .asap-cell .dil { fill: #e3d7fb } .asap-cell .pool { fill: #d3f0d8 } .asap-cell .skip { fill: #ffe6c2 } .asap-cell .none { fill: #e6e8eb }
  @media (prefers-color-scheme: dark) {
    .asap-cell text { fill: #e6e9ed } .asap-cell .page { fill: #15191e } .asap-cell .state { fill: #242a32; stroke: #9aa5b1 }
    .asap-cell .wire { stroke: #9aa5b1 } .asap-cell .concat { stroke: #66717d } .asap-cell .tip { fill: #9aa5b1 }
    .asap-cell .sep { fill: #1f4270 } .asap-cell .dil { fill: #463173 } .asap-cell .pool { fill: #1f5230 } .asap-cell .skip { fill: #6b4a14 } .asap-cell .none { fill: #3a414a }
  }
</style>";

const ARROW: &str = r#"<defs><marker id="tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="tip" d="M0 0.5 8 4 0 7.5z"/></marker></defs>"#;

/// The path from a state to a point at the left of `column`, along the state's lanes.
fn wire(layout: &Layout, state: usize, column: usize, y: f64, class: &str) -> String {
    let start = layout.column_of[state];
    let mut at = (layout.right(start), layout.y_in(state, start));
    let mut path = format!("M{:.1} {:.1}", at.0, at.1);
    for lane in start + 1..=column {
        let to = (layout.left(lane), if lane == column { y } else { layout.y_in(state, lane) });
        let bend = (to.0 - at.0) / 2.0;
        let (x1, x2) = (at.0 + bend, to.0 - bend);
        write!(path, "C{x1:.1} {:.1} {x2:.1} {:.1} {:.1} {:.1}", at.1, to.1, to.0, to.1)
            .expect("a string grows");
        at = to;
        if lane < column {
            at.0 = layout.right(lane);
            write!(path, "H{:.1}", at.0).expect("a string grows");
        }
    }
    format!(r#"<path class="{class}" d="{path}" marker-end="url(#tip)"/>"#)
}

/// All wires: to the output, to the labels, and from the labels to their nodes.
fn wires(layout: &Layout) -> Vec<String> {
    let last = layout.columns.len() - 1;
    let (_, output_y) = layout.columns[last][0];
    let to_output = layout.cell.concat.iter();
    let mut wires: Vec<_> =
        to_output.map(|&state| wire(layout, state, last, output_y, "wire concat")).collect();
    for node in 0..layout.cell.nodes.len() {
        let column = layout.column_of[2 + node];
        let end_y = layout.y_in(2 + node, column);
        let start = layout.left(column) + LABEL_WIDTH;
        let (middle, end) = (start + NECK / 2.0, start + NECK);
        for (gene, y) in layout.labels(node) {
            wires.push(wire(layout, gene.input, column, y, "wire"));
            wires.push(format!(
                r#"<path class="wire" d="M{start:.1} {y:.1}C{middle:.1} {y:.1} {middle:.1} {end_y:.1} {end:.1} {end_y:.1}"/>"#
            ));
        }
    }
    wires
}

/// All states and labels.
fn pieces(layout: &Layout) -> Vec<String> {
    let mut pieces = Vec::new();
    for (column, items) in layout.columns.iter().enumerate() {
        let left = layout.left(column);
        for &(item, y) in items {
            match item {
                Item::Lane(_) => {}
                Item::State(0) => pieces.push(outer_box(left, y, "k-2")),
                Item::State(1) => pieces.push(outer_box(left, y, "k-1")),
                Item::Output => pieces.push(outer_box(left, y, "k")),
                Item::State(state) => {
                    for (gene, y) in layout.labels(state - 2) {
                        let family = family(gene.operation.kind());
                        let (top, middle) = (y - LABEL_HEIGHT / 2.0, left + LABEL_WIDTH / 2.0);
                        pieces.push(format!(
                            r#"<rect class="op {family}" x="{left:.1}" y="{top:.1}" width="{LABEL_WIDTH}" height="{LABEL_HEIGHT}" rx="6"/>{}"#,
                            text(middle, y, gene.operation.name())
                        ));
                    }
                    let x = left + LABEL_WIDTH + NECK + RADIUS;
                    pieces.push(format!(
                        r#"<circle class="state" cx="{x:.1}" cy="{y:.1}" r="{RADIUS}"/>{}"#,
                        text(x, y, &(state - 2).to_string())
                    ));
                }
            }
        }
    }
    pieces
}

/// An input or the output of the cell, `c` with an index.
fn outer_box(left: f64, y: f64, index: &str) -> String {
    let (top, middle) = (y - BOX_HEIGHT / 2.0, left + BOX_WIDTH / 2.0);
    format!(
        r#"<rect class="state" x="{left:.1}" y="{top:.1}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>{}"#,
        text(middle, y, &format!(r#"c<tspan dy="4" font-size="9">{index}</tspan>"#))
    )
}

fn text(x: f64, y: f64, content: &str) -> String {
    let baseline = y + BASELINE;
    format!(r#"<text x="{x:.1}" y="{baseline:.1}">{content}</text>"#)
}

fn family(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::None => "none",
        OperationKind::MaxPool | OperationKind::AvgPool => "pool",
        OperationKind::Skip => "skip",
        OperationKind::SepConv { .. } | OperationKind::Conv7x1Then1x7 => "sep",
        OperationKind::DilConv { .. } => "dil",
    }
}

fn escape(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            c if c.is_control() => " ".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublishedCell;

    fn cells() -> impl Iterator<Item = (String, CellGenotype)> {
        PublishedCell::all().iter().flat_map(|published| {
            let genotype = published.genotype();
            [
                (format!("{} normal", published.name), genotype.normal),
                (format!("{} reduce", published.name), genotype.reduce),
            ]
        })
    }

    #[test]
    fn every_gene_is_a_label_and_every_state_is_drawn() {
        for (name, cell) in cells() {
            let svg = svg(&cell, &name);
            let nodes = cell.nodes.len();
            assert_eq!(svg.matches("class=\"op ").count(), 2 * nodes, "{name}");
            assert_eq!(svg.matches("<circle").count(), nodes, "{name}");
            let arrows = 2 * nodes + cell.concat.len();
            assert_eq!(svg.matches("marker-end").count(), arrows, "{name}");
            for (_, gene) in cell.genes() {
                assert!(svg.contains(&format!(">{}</text>", gene.operation)), "{name}");
            }
        }
    }

    #[test]
    fn a_title_cannot_break_out_of_the_picture() {
        let (_, cell) = cells().next().unwrap();
        let svg = svg(&cell, "<script>&\u{1}");
        assert!(svg.contains("&lt;script&gt;&amp; ") && !svg.contains("<script>"));
        assert!(dot(&cell, "a \"b\" \\").starts_with(r#"digraph "a \"b\" \\" {"#));
    }

    #[test]
    fn dot_lists_every_edge() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let dot = dot(&asap.reduce, "ASAP");
        assert_eq!(dot.matches(" -> ").count(), 8 + 4);
        assert!(dot.contains("\"c_{k-2}\" -> \"1\" [label=\"avg_pool_3x3\"];"));
        assert!(dot.contains("\"0\" -> \"1\" [label=\"dil_conv_5x5\"];"));
        assert!(dot.contains("\"3\" -> \"c_{k}\" [style=dashed];"));
    }
}
