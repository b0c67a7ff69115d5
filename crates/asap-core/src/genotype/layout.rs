//! The layout of a cell's picture: columns from left to right, without overlaps within a column.

use super::cells::{CellGenotype, Gene};

/// The positions of a cell's states, labels and wires.
pub(crate) struct Layout<'a> {
    pub(crate) cell: &'a CellGenotype,
    /// Number of states that come from outside the cell.
    pub(crate) inputs: usize,
    /// The items of each column and the height of their centres, from the top.
    pub(crate) columns: Vec<Vec<(Item, f64)>>,
    /// The column of each state.
    pub(crate) column_of: Vec<usize>,
    pub(crate) height: f64,
}

/// An item of a column.
#[derive(Clone, Copy)]
pub(crate) enum Item {
    /// An input of the cell.
    Input(usize),
    /// A node, and the number of its labels.
    Node(usize, usize),
    /// The cell's output.
    Output,
    /// A lane for the wires that leave a state and pass this column.
    Lane(usize),
}

pub(crate) const LABEL_WIDTH: f64 = 112.0;
pub(crate) const LABEL_HEIGHT: f64 = 22.0;
/// Distance between the labels of a node.
const LABEL_GAP: f64 = 8.0;
/// Distance from the labels of a node to its circle.
pub(crate) const NECK: f64 = 26.0;
pub(crate) const RADIUS: f64 = 14.0;
pub(crate) const BOX_WIDTH: f64 = 52.0;
pub(crate) const BOX_HEIGHT: f64 = 30.0;
/// Distance between columns, where the wires cross.
const CHANNEL: f64 = 84.0;
/// Distance between the items of a column.
const ROW_GAP: f64 = 18.0;
const LANE_HEIGHT: f64 = 6.0;
/// Width of a node with its labels.
const NODE_WIDTH: f64 = LABEL_WIDTH + NECK + 2.0 * RADIUS;

impl<'a> Layout<'a> {
    pub(crate) fn new(cell: &'a CellGenotype, inputs: usize) -> Self {
        let mut column_of = vec![0; inputs];
        for genes in &cell.nodes {
            let before = genes.iter().map(|gene| column_of[gene.input]).max();
            column_of.push(1 + before.unwrap_or(0));
        }
        let last = 1 + column_of.iter().max().expect("a cell has states");
        let mut columns = vec![Vec::new(); last + 1];
        for (state, &column) in column_of.iter().enumerate() {
            let item = match state.checked_sub(inputs) {
                None => Item::Input(state),
                Some(node) => Item::Node(node, cell.nodes[node].len()),
            };
            columns[column].push((item, 0.0));
            let genes = cell.genes().filter(|(_, gene)| gene.input == state);
            let targets = genes.map(|(node, _)| column_of[inputs + node]);
            let end = cell.output.iter().filter(|&&s| s == state).map(|_| last);
            let farthest = targets.chain(end).max().unwrap_or(0);
            for passed in columns.iter_mut().take(farthest).skip(column + 1) {
                passed.push((Item::Lane(state), 0.0));
            }
        }
        columns[last].push((Item::Output, 0.0));
        let mut layout = Self { cell, inputs, columns, column_of, height: 0.0 };
        layout.place();
        layout
    }

    /// Sweeps over the columns and draws each item to the mean height of its neighbours.
    fn place(&mut self) {
        for column in &mut self.columns {
            stack(column, |_| None);
        }
        let last = self.columns.len() - 1;
        for sweep in 0..24 {
            let forward = sweep % 2 == 0;
            for step in 0..=last {
                let index = if forward { step } else { last - step };
                let mut column = std::mem::take(&mut self.columns[index]);
                stack(&mut column, |item| self.mean_of_neighbours(item, index, forward));
                self.columns[index] = column;
            }
        }
        let edges = |bottom: f64| {
            let items = self.columns.iter().flatten();
            items.map(move |&(item, y)| y + bottom * item.height() / 2.0)
        };
        let top = edges(-1.0).fold(f64::INFINITY, f64::min);
        self.height = edges(1.0).fold(f64::NEG_INFINITY, f64::max) - top;
        self.columns.iter_mut().flatten().for_each(|(_, y)| *y -= top);
    }

    fn mean_of_neighbours(&self, item: Item, column: usize, forward: bool) -> Option<f64> {
        let neighbours: Vec<f64> = match (forward, item) {
            (true, Item::Input(_)) | (false, Item::Output) => Vec::new(),
            (true, Item::Node(node, _)) => {
                let genes = self.cell.nodes[node].iter();
                genes.map(|gene| self.y_in(gene.input, column - 1)).collect()
            }
            (true, Item::Lane(state)) => vec![self.y_in(state, column - 1)],
            (true, Item::Output) => {
                let states = self.cell.output.iter();
                states.map(|&state| self.y_in(state, column - 1)).collect()
            }
            (false, item) => {
                let state = self.state_of(item).expect("only the output is no state");
                let next = self.columns.get(column + 1).into_iter().flatten();
                next.flat_map(|&(target, y)| self.reached(state, target, y)).collect()
            }
        };
        let count = neighbours.len() as f64;
        (count > 0.0).then(|| neighbours.iter().sum::<f64>() / count)
    }

    /// The heights at which wires of `state` reach a target at height `y`.
    fn reached(&self, state: usize, target: Item, y: f64) -> Vec<f64> {
        match target {
            Item::Lane(of) if of == state => vec![y],
            Item::Output if self.cell.output.contains(&state) => vec![y],
            Item::Node(node, _) => {
                let genes = self.cell.nodes[node].iter();
                genes.filter(|gene| gene.input == state).map(|_| y).collect()
            }
            _ => Vec::new(),
        }
    }

    fn state_of(&self, item: Item) -> Option<usize> {
        match item {
            Item::Input(state) | Item::Lane(state) => Some(state),
            Item::Node(node, _) => Some(self.inputs + node),
            Item::Output => None,
        }
    }

    /// The height of a state, or of its lane, in a column.
    pub(crate) fn y_in(&self, state: usize, column: usize) -> f64 {
        let mut items = self.columns[column].iter();
        let found = items.find(|(item, _)| self.state_of(*item) == Some(state));
        found.expect("a state or its lane in every column it passes").1
    }

    pub(crate) fn left(&self, column: usize) -> f64 {
        match column {
            0 => 0.0,
            _ => BOX_WIDTH + CHANNEL + (column - 1) as f64 * (NODE_WIDTH + CHANNEL),
        }
    }

    pub(crate) fn width(&self) -> f64 {
        self.left(self.columns.len() - 1) + BOX_WIDTH
    }

    /// The right end of a state or of its lane.
    pub(crate) fn right(&self, column: usize) -> f64 {
        self.left(column) + if column == 0 { BOX_WIDTH } else { NODE_WIDTH }
    }

    /// The labels of a node with the heights of their centres, in the order in which their wires arrive.
    pub(crate) fn labels(&self, node: usize) -> impl Iterator<Item = (Gene, f64)> {
        let state = self.inputs + node;
        let column = self.column_of[state];
        let y = self.y_in(state, column);
        let mut genes = self.cell.nodes[node].clone();
        let height = |gene: &Gene| self.y_in(gene.input, column - 1);
        genes.sort_by(|a, b| height(a).total_cmp(&height(b)));
        let middle = (genes.len() as f64 - 1.0) / 2.0;
        let offset = move |index: usize| (index as f64 - middle) * (LABEL_HEIGHT + LABEL_GAP);
        genes.into_iter().enumerate().map(move |(index, gene)| (gene, y + offset(index)))
    }
}

impl Item {
    fn height(self) -> f64 {
        match self {
            Item::Input(_) | Item::Output => BOX_HEIGHT,
            Item::Node(_, labels) => {
                let labels = labels as f64 * (LABEL_HEIGHT + LABEL_GAP) - LABEL_GAP;
                labels.max(2.0 * RADIUS)
            }
            Item::Lane(_) => LANE_HEIGHT,
        }
    }
}

/// Orders a column by the wanted heights and places each item near its own, with gaps between neighbours.
fn stack(column: &mut [(Item, f64)], wanted: impl Fn(Item) -> Option<f64>) {
    for (item, y) in column.iter_mut() {
        *y = wanted(*item).unwrap_or(*y);
    }
    column.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut shift = 0.0;
    for index in 1..column.len() {
        let (above, y) = column[index - 1];
        let lowest = y + (above.height() + column[index].0.height()) / 2.0 + ROW_GAP;
        shift += (lowest - column[index].1).max(0.0);
        column[index].1 = column[index].1.max(lowest);
    }
    // pushing moved things down only; moving the column back up keeps its mean
    let mean = shift / column.len() as f64;
    column.iter_mut().for_each(|(_, y)| *y -= mean);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Genotype, PublishedCell};

    fn genotypes() -> Vec<Genotype> {
        let small = ["|nor_conv_3x3~0|", "|none~0|+|skip_connect~0|none~1|"];
        let large = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|avg_pool_3x3~2|\
            +|none~0|none~1|none~2|none~3|";
        let read = |text: &&str| text.parse().unwrap();
        let published = PublishedCell::all().iter().map(PublishedCell::genotype);
        published.chain(small.iter().chain([&large]).map(read)).collect()
    }

    #[test]
    fn nothing_overlaps_in_any_column() {
        for genotype in genotypes() {
            for cell in genotype.cells() {
                for column in &Layout::new(cell, genotype.family().inputs()).columns {
                    for pair in column.windows(2) {
                        let room = (pair[0].0.height() + pair[1].0.height()) / 2.0;
                        assert!(pair[1].1 - pair[0].1 >= room, "{genotype}");
                    }
                }
            }
        }
    }

    #[test]
    fn labels_of_a_node_stand_apart_and_within_its_height() {
        for genotype in genotypes() {
            for cell in genotype.cells() {
                let layout = Layout::new(cell, genotype.family().inputs());
                for (node, genes) in cell.nodes.iter().enumerate() {
                    let heights: Vec<_> = layout.labels(node).map(|(_, y)| y).collect();
                    assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= LABEL_HEIGHT));
                    let span = heights[heights.len() - 1] - heights[0] + LABEL_HEIGHT;
                    assert!(span <= Item::Node(node, genes.len()).height());
                }
            }
        }
    }

    #[test]
    fn every_state_stands_to_the_right_of_what_it_reads() {
        for genotype in genotypes() {
            let inputs = genotype.family().inputs();
            for cell in genotype.cells() {
                let layout = Layout::new(cell, inputs);
                for (node, gene) in cell.genes() {
                    assert!(layout.column_of[gene.input] < layout.column_of[inputs + node]);
                }
            }
        }
    }
}
