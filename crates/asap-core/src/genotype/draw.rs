//! Drawings of a cell, like the paper's Figs. 4 and 5: SVG without any external program, and DOT.
//!
//! The SVG is a layered drawing from left to right. Every operation has its own label, in front of the node it
//! feeds, so labels cannot overlap; a wire that passes a column has its own lane there.

use std::fmt::Write;

use super::cells::Genotype;
use super::layout::{BOX_HEIGHT, BOX_WIDTH, Item, LABEL_HEIGHT, LABEL_WIDTH, Layout, NECK, RADIUS};
use crate::space::{CellKind, Family, OperationKind};

/// A self-contained SVG picture of the cell of a kind, for light and dark pages.
///
/// The inputs and the output of a DARTS cell are `c_{k-2}`, `c_{k-1}` and `c_{k}`, of a NAS-Bench-201 cell `in` and
/// `out`; dashed wires lead to the output.
///
/// # Panics
/// If the genotype's family has no such cells.
pub fn svg(genotype: &Genotype, kind: CellKind, title: &str) -> String {
    let (family, cell) = (genotype.family(), genotype.cell(kind));
    let layout = Layout::new(cell, family.inputs());
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
    for piece in pieces(&layout, family) {
        line(piece);
    }
    line("</g>\n</svg>".to_owned());
    out
}

/// The cell of a kind in the DOT language of Graphviz.
///
/// # Panics
/// If the genotype's family has no such cells.
pub fn dot(genotype: &Genotype, kind: CellKind, title: &str) -> String {
    let (family, cell) = (genotype.family(), genotype.cell(kind));
    let inputs = family.inputs();
    let outer = |name: Outer| match name {
        Outer::Index(index) => format!("c_{{{index}}}"),
        Outer::Word(word) => word.to_owned(),
    };
    let state = |state: usize| match state.checked_sub(inputs) {
        None => format!("\"{}\"", outer(input_name(family, state))),
        Some(node) => format!("\"{}\"", node_name(family, node)),
    };
    let end = outer(output_name(family));
    let title = title.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out =
        format!("digraph \"{title}\" {{\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    for (node, gene) in cell.genes() {
        let (from, to) = (state(gene.input), state(inputs + node));
        writeln!(out, "  {from} -> {to} [label=\"{}\"];", gene.operation).expect("a string grows");
    }
    for &from in &cell.output {
        writeln!(out, "  {} -> \"{end}\" [style=dashed];", state(from)).expect("a string grows");
    }
    out.push_str("}\n");
    out
}

/// The name of an input or the output of the cell.
#[derive(Clone, Copy)]
enum Outer {
    /// `c` with an index.
    Index(&'static str),
    Word(&'static str),
}

fn input_name(family: Family, input: usize) -> Outer {
    match (family, input) {
        (Family::Darts, 0) => Outer::Index("k-2"),
        (Family::Darts, _) => Outer::Index("k-1"),
        (Family::NasBench201, _) => Outer::Word("in"),
    }
}

fn output_name(family: Family) -> Outer {
    match family {
        Family::Darts => Outer::Index("k"),
        Family::NasBench201 => Outer::Word("out"),
    }
}

/// The number of a node, which NAS-Bench-201 counts from 1.
fn node_name(family: Family, node: usize) -> usize {
    match family {
        Family::Darts => node,
        Family::NasBench201 => node + 1,
    }
}

const MARGIN: f64 = 16.0;
const TITLE: f64 = 44.0;

/// Distance from the middle of a text to its baseline; not every viewer supports `dominant-baseline`.
const BASELINE: f64 = 4.0;

/// Both palettes; the labels' colours distinguish kinds of operations. The class keeps the rules off the rest of a
/// page that embeds the picture.
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
    let to_output = layout.cell.output.iter();
    let mut wires: Vec<_> =
        to_output.map(|&state| wire(layout, state, last, output_y, "wire concat")).collect();
    for node in 0..layout.cell.nodes.len() {
        let column = layout.column_of[layout.inputs + node];
        let end_y = layout.y_in(layout.inputs + node, column);
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
fn pieces(layout: &Layout, family: Family) -> Vec<String> {
    let mut pieces = Vec::new();
    for (column, items) in layout.columns.iter().enumerate() {
        let left = layout.left(column);
        for &(item, y) in items {
            match item {
                Item::Lane(_) => {}
                Item::Input(state) => pieces.push(outer_box(left, y, input_name(family, state))),
                Item::Output => pieces.push(outer_box(left, y, output_name(family))),
                Item::Node(node, _) => {
                    for (gene, y) in layout.labels(node) {
                        let class = class(gene.operation.kind());
                        let (top, middle) = (y - LABEL_HEIGHT / 2.0, left + LABEL_WIDTH / 2.0);
                        pieces.push(format!(
                            r#"<rect class="op {class}" x="{left:.1}" y="{top:.1}" width="{LABEL_WIDTH}" height="{LABEL_HEIGHT}" rx="6"/>{}"#,
                            text(middle, y, gene.operation.name())
                        ));
                    }
                    let x = left + LABEL_WIDTH + NECK + RADIUS;
                    pieces.push(format!(
                        r#"<circle class="state" cx="{x:.1}" cy="{y:.1}" r="{RADIUS}"/>{}"#,
                        text(x, y, &node_name(family, node).to_string())
                    ));
                }
            }
        }
    }
    pieces
}

/// An input or the output of the cell.
fn outer_box(left: f64, y: f64, name: Outer) -> String {
    let (top, middle) = (y - BOX_HEIGHT / 2.0, left + BOX_WIDTH / 2.0);
    let content = match name {
        Outer::Index(index) => format!(r#"c<tspan dy="4" font-size="9">{index}</tspan>"#),
        Outer::Word(word) => word.to_owned(),
    };
    format!(
        r#"<rect class="state" x="{left:.1}" y="{top:.1}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>{}"#,
        text(middle, y, &content)
    )
}

fn text(x: f64, y: f64, content: &str) -> String {
    let baseline = y + BASELINE;
    format!(r#"<text x="{x:.1}" y="{baseline:.1}">{content}</text>"#)
}

/// The style of an operation's label.
fn class(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::None => "none",
        OperationKind::MaxPool | OperationKind::AvgPool => "pool",
        OperationKind::Skip => "skip",
        OperationKind::SepConv { .. }
        | OperationKind::Conv7x1Then1x7
        | OperationKind::Conv { .. } => "sep",
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

    const NAS_BENCH_201: &str =
        "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|";

    fn genotypes() -> impl Iterator<Item = Genotype> {
        let published = PublishedCell::all().iter().map(PublishedCell::genotype);
        published.chain([NAS_BENCH_201.parse().unwrap()])
    }

    #[test]
    fn every_gene_is_a_label_and_every_state_is_drawn() {
        for genotype in genotypes() {
            for (kind, cell) in genotype.kinds() {
                let svg = svg(&genotype, kind, "a cell");
                let genes = cell.genes().count();
                assert_eq!(svg.matches("class=\"op ").count(), genes, "{genotype}");
                assert_eq!(svg.matches("<circle").count(), cell.nodes.len(), "{genotype}");
                let arrows = genes + cell.output.len();
                assert_eq!(svg.matches("marker-end").count(), arrows, "{genotype}");
                for (_, gene) in cell.genes() {
                    assert!(svg.contains(&format!(">{}</text>", gene.operation)), "{genotype}");
                }
            }
        }
    }

    #[test]
    fn a_title_cannot_break_out_of_the_picture() {
        let genotype = genotypes().next().unwrap();
        let svg = svg(&genotype, CellKind::Normal, "<script>&\u{1}");
        assert!(svg.contains("&lt;script&gt;&amp; ") && !svg.contains("<script>"));
        let dot = dot(&genotype, CellKind::Normal, "a \"b\" \\");
        assert!(dot.starts_with(r#"digraph "a \"b\" \\" {"#));
    }

    #[test]
    fn dot_lists_every_edge() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let text = dot(&asap, CellKind::Reduction, "ASAP");
        assert_eq!(text.matches(" -> ").count(), 8 + 4);
        assert!(text.contains("\"c_{k-2}\" -> \"1\" [label=\"avg_pool_3x3\"];"));
        assert!(text.contains("\"0\" -> \"1\" [label=\"dil_conv_5x5\"];"));
        assert!(text.contains("\"3\" -> \"c_{k}\" [style=dashed];"));
    }

    #[test]
    fn a_cell_of_nas_bench_201_has_its_own_numbers() {
        let genotype = NAS_BENCH_201.parse().unwrap();
        let text = dot(&genotype, CellKind::Normal, "a cell");
        assert_eq!(text.matches(" -> ").count(), 6 + 1);
        assert!(text.contains("\"in\" -> \"1\" [label=\"nor_conv_3x3\"];"));
        assert!(text.contains("\"2\" -> \"3\" [label=\"nor_conv_3x3\"];"));
        assert!(text.contains("\"3\" -> \"out\" [style=dashed];"));
        let picture = svg(&genotype, CellKind::Normal, "a cell");
        assert!(picture.contains(">in</text>") && picture.contains(">out</text>"));
        assert!(!picture.contains("tspan"));
    }
}
