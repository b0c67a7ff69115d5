//! A table or a figure of the paper, from a comparison of methods.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::Error;
use crate::jobs::compare::Compare;
use crate::paper::Item;
#[cfg(feature = "report")]
use crate::report::annealing::annealing;
#[cfg(feature = "report")]
use crate::report::scatter::{Point, Scatter};
use crate::run::tables::Comparison;
#[cfg(feature = "report")]
use crate::settings::MethodName;

/// What this program found beside what the paper has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reproduction<P, O> {
    /// The table or figure.
    pub item: Item,
    /// The paper's rows; none of a figure that has no numbers.
    pub paper: Vec<P>,
    /// The result of this program.
    pub ours: O,
    /// The pictures that were drawn.
    pub pictures: Vec<PathBuf>,
}

impl Compare {
    /// Draws the pictures of a figure of the paper into the folder, or finds them there; returns their paths.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    #[cfg(feature = "report")]
    pub fn draw(&self, item: Item, table: &Comparison) -> Result<Vec<PathBuf>, Error> {
        let names: Vec<String> = match item {
            Item::Figure1 => {
                let names = ["figure-1.svg", "figure-1-paper.svg"].map(str::to_owned);
                for (name, scatter) in names.iter().zip(figure_1(table)) {
                    self.folder().write(name, scatter.svg().as_bytes())?;
                }
                names.to_vec()
            }
            Item::Figure2 => self.figure_2()?,
            Item::Figure3 => vec!["sparsity.svg".to_owned(), "epoch-time.svg".to_owned()],
            Item::Figure6 => vec!["validation-accuracy.svg".to_owned()],
            Item::Figure7 => {
                ["normal", "reduction"].map(|kind| format!("entropy-{kind}.svg")).to_vec()
            }
            _ => Vec::new(),
        };
        let paths = names.iter().map(|name| self.folder().file(name));
        Ok(paths.filter(|path| path.exists()).collect())
    }

    /// Without the feature `report` there are no pictures.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "report"))]
    pub fn draw(&self, _: Item, _: &Comparison) -> Result<Vec<PathBuf>, Error> {
        Ok(Vec::new())
    }

    /// The annealing of each kind of cell, in the first search that is done.
    #[cfg(feature = "report")]
    fn figure_2(&self) -> Result<Vec<String>, Error> {
        let space = self.config().space()?;
        let mut names = Vec::new();
        for &seed in &self.plan().seeds {
            let Some(done) = self.done(seed, MethodName::Asap)? else { continue };
            for (index, kind) in space.kinds().iter().enumerate() {
                let name = format!("figure-2-{kind}.svg");
                let svg = annealing(&space, index, &done.records);
                self.folder().write(&name, svg.as_bytes())?;
                names.push(name);
            }
            break;
        }
        Ok(names)
    }
}

/// Test error against the time of search, with weights as areas: ours, and the paper's on a scale of its own. A cell drawn by chance has no time,
/// and is a line.
#[cfg(feature = "report")]
fn figure_1(table: &Comparison) -> [Scatter<'static>; 2] {
    let seconds = table.rows.iter().filter_map(|row| Some(row.search_seconds?.mean));
    let (unit, of_ours) = match seconds.fold(0.0, f64::max) {
        0.0..7_200.0 => (60.0, "minutes of search on this machine"),
        7_200.0..172_800.0 => (3_600.0, "hours of search on this machine"),
        _ => (86_400.0, "days of search on this machine"),
    };
    let ours = table.rows.iter().filter_map(|row| {
        Some(Point {
            name: row.method.to_string(),
            x: row.search_seconds?.mean / unit,
            y: 100.0 * row.error?.mean,
            size: row.params?.mean / 1e6,
            hollow: false,
        })
    });
    let theirs = Item::Figure1.rows().iter().filter_map(|row| {
        Some(Point {
            name: row.architecture.to_owned(),
            x: row.gpu_days?,
            y: row.error,
            size: row.params,
            hollow: true,
        })
    });
    let scatter =
        |title, x, points| Scatter { title, x, y: "test error in %; areas: weights", points };
    [
        scatter("Error against search time (Fig. 1)", of_ours, ours.collect()),
        scatter(
            "Error against search time (Fig. 1): the paper's numbers, CIFAR-10",
            "days of search on a GPU",
            theirs.collect(),
        ),
    ]
}
