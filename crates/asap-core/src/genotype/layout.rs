//! Where everything of a cell's picture stands: columns from left to right, no two things of a column in one place.

use crate::{CellGenotype, Gene};

/// Where everything stands.
pub(crate) struct Layout<'a> {
    pub(crate) cell: &'a CellGenotype,
    /// The items of each column and the height of their centres, from the top.
    pub(crate) columns: Vec<Vec<(Item, f64)>>,
    /// The column of each state.
    pub(crate) column_of: Vec<usize>,
    pub(crate) height: f64,
}

/// What stands in a column.
#[derive(Clone, Copy)]
pub(crate) enum Item {
    /// A state of the cell: an input, or a node with its labels.
    State(usize),
    /// The cell's output.
    Output,
    /// A lane for the wires that leave a state and pass this column.
    Lane(usize),
}

pub(crate) const LABEL_WIDTH: f64 = 112.0;
pub(crate) const LABEL_HEIGHT: f64 = 22.0;
/// Between the two labels of a node.
const LABEL_GAP: f64 = 8.0;
/// From the labels of a node to its circle.
pub(crate) const NECK: f64 = 26.0;
pub(crate) const RADIUS: f64 = 14.0;
pub(crate) const BOX_WIDTH: f64 = 52.0;
pub(crate) const BOX_HEIGHT: f64 = 30.0;
/// Between columns, where the wires cross.
const CHANNEL: f64 = 84.0;
/// Between the things of a column.
const ROW_GAP: f64 = 18.0;
const LANE_HEIGHT: f64 = 6.0;
/// A node with its labels.
const NODE_WIDTH: f64 = LABEL_WIDTH + NECK + 2.0 * RADIUS;
const NODE_HEIGHT: f64 = 2.0 * LABEL_HEIGHT + LABEL_GAP;

impl<'a> Layout<'a> {
    pub(crate) fn new(cell: &'a CellGenotype) -> Self {
        let mut column_of = vec![0, 0];
        for genes in &cell.nodes {
            let before = genes.map(|gene| column_of[gene.input]);
            column_of.push(1 + before[0].max(before[1]));
        }
        let last = 1 + column_of.iter().max().expect("the inputs are there");
        let mut columns = vec![Vec::new(); last + 1];
        for (state, &column) in column_of.iter().enumerate() {
            columns[column].push((Item::State(state), 0.0));
            let genes = cell.genes().filter(|(_, gene)| gene.input == state);
            let targets = genes.map(|(node, _)| column_of[2 + node]);
            let end = cell.concat.iter().filter(|&&s| s == state).map(|_| last);
            let farthest = targets.chain(end).max().unwrap_or(0);
            for passed in columns.iter_mut().take(farthest).skip(column + 1) {
                passed.push((Item::Lane(state), 0.0));
            }
        }
        columns[last].push((Item::Output, 0.0));
        let mut layout = Self { cell, columns, column_of, height: 0.0 };
        layout.place();
        layout
    }

    /// Sweeps over the columns, each item drawn to the mean height of its neighbours.
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
            (true, Item::State(state)) if state < 2 => Vec::new(),
            (true, Item::State(state)) => {
                let genes = self.cell.nodes[state - 2].iter();
                genes.map(|gene| self.y_in(gene.input, column - 1)).collect()
            }
            (true, Item::Lane(state)) => vec![self.y_in(state, column - 1)],
            (true, Item::Output) => {
                let states = self.cell.concat.iter();
                states.map(|&state| self.y_in(state, column - 1)).collect()
            }
            (false, Item::Output) => Vec::new(),
            (false, Item::State(state) | Item::Lane(state)) => {
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
            Item::Output if self.cell.concat.contains(&state) => vec![y],
            Item::State(node) if node >= 2 => {
                let genes = self.cell.nodes[node - 2].iter();
                genes.filter(|gene| gene.input == state).map(|_| y).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The height of a state, or of its lane, in a column.
    pub(crate) fn y_in(&self, state: usize, column: usize) -> f64 {
        let mut items = self.columns[column].iter();
        let found =
            items.find(|(item, _)| matches!(item, Item::State(s) | Item::Lane(s) if *s == state));
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
    pub(crate) fn labels(&self, node: usize) -> [(Gene, f64); 2] {
        let column = self.column_of[2 + node];
        let y = self.y_in(2 + node, column);
        let mut genes = self.cell.nodes[node];
        let height = |gene: &Gene| self.y_in(gene.input, column - 1);
        genes.sort_by(|a, b| height(a).total_cmp(&height(b)));
        let offset = (LABEL_HEIGHT + LABEL_GAP) / 2.0;
        [(genes[0], y - offset), (genes[1], y + offset)]
    }
}

impl Item {
    fn height(self) -> f64 {
        match self {
            Item::State(0 | 1) | Item::Output => BOX_HEIGHT,
            Item::State(_) => NODE_HEIGHT,
            Item::Lane(_) => LANE_HEIGHT,
        }
    }
}

/// Orders a column by the wanted heights and gives each item one near it, with room between neighbours.
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
    use crate::PublishedCell;

    #[test]
    fn nothing_overlaps_in_any_column_of_any_published_cell() {
        for published in PublishedCell::all() {
            let genotype = published.genotype();
            for cell in [&genotype.normal, &genotype.reduce] {
                for column in &Layout::new(cell).columns {
                    for pair in column.windows(2) {
                        let room = (pair[0].0.height() + pair[1].0.height()) / 2.0;
                        assert!(pair[1].1 - pair[0].1 >= room, "{}", published.name);
                    }
                }
            }
        }
    }

    #[test]
    fn every_state_stands_to_the_right_of_what_it_reads() {
        for published in PublishedCell::all() {
            let cell = published.genotype().reduce;
            let layout = Layout::new(&cell);
            for (node, gene) in cell.genes() {
                assert!(layout.column_of[gene.input] < layout.column_of[2 + node]);
            }
        }
    }
}
