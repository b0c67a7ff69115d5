//! The numbers of the paper's tables, to be put beside those of this program, and what is run to reproduce its tables and figures.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::settings::MethodName;

/// A table or a figure of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
#[non_exhaustive]
pub enum Item {
    /// Errors of the cells that search methods find.
    Table1,
    /// Published cells on other data sets.
    Table2,
    /// Other ways to prune.
    Table3,
    /// Error against search time.
    Figure1,
    /// The annealing and pruning of a cell over time.
    Figure2,
    /// Sparsity and epoch time of a search.
    Figure3,
    /// Validation accuracy during a search.
    Figure6,
    /// Entropy during a search.
    Figure7,
}

impl Item {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Table1,
        Self::Table2,
        Self::Table3,
        Self::Figure1,
        Self::Figure2,
        Self::Figure3,
        Self::Figure6,
        Self::Figure7,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table1 => "table-1",
            Self::Table2 => "table-2",
            Self::Table3 => "table-3",
            Self::Figure1 => "figure-1",
            Self::Figure2 => "figure-2",
            Self::Figure3 => "figure-3",
            Self::Figure6 => "figure-6",
            Self::Figure7 => "figure-7",
        }
    }

    /// The methods that are compared for it; none for [`Item::Table2`], which compares cells.
    ///
    /// Tables, and the figure of one, also have `random`: what a cell drawn by chance reaches.
    pub fn methods(self) -> Vec<MethodName> {
        let of = |rows: &[Searched]| {
            let mut methods: Vec<MethodName> = rows.iter().map(|row| row.method).collect();
            methods.dedup();
            methods.push(MethodName::Random);
            methods
        };
        match self {
            Self::Table1 | Self::Figure1 => of(&TABLE_1),
            Self::Table2 => Vec::new(),
            Self::Table3 => of(&TABLE_3),
            Self::Figure2 | Self::Figure3 => vec![MethodName::Asap],
            Self::Figure6 | Self::Figure7 => vec![
                MethodName::Enas,
                MethodName::Darts,
                MethodName::AccumulatedGradient,
                MethodName::Asap,
            ],
        }
    }

    /// True if the cells that are found are trained.
    pub fn trains(self) -> bool {
        matches!(self, Self::Table1 | Self::Table3 | Self::Figure1)
    }

    /// The rows of the paper's table to which ours belong, if it is one of searches.
    pub fn rows(self) -> &'static [Searched] {
        match self {
            Self::Table1 | Self::Figure1 => &TABLE_1,
            Self::Table3 => &TABLE_3,
            _ => &[],
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Item> for String {
    fn from(item: Item) -> Self {
        item.name().to_owned()
    }
}

impl FromStr for Item {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|item| item.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("expected one of {names}, found `{text}`")
        })
    }
}

/// A row of Table 1 or Table 3: a network with a cell that was searched on CIFAR-10, and its test error there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Searched {
    /// Its name in the paper.
    pub architecture: &'static str,
    /// The method of this program.
    pub method: MethodName,
    /// Test error in percent, and its deviation, if given.
    pub error: f64,
    /// See `error`.
    pub deviation: Option<f64>,
    /// Weights in millions.
    pub params: f64,
    /// Days of search on a GPU; Table 3 does not give them.
    pub gpu_days: Option<f64>,
}

const fn row(
    architecture: &'static str,
    method: MethodName,
    [error, deviation]: [f64; 2],
    params: f64,
    gpu_days: f64,
) -> Searched {
    Searched {
        architecture,
        method,
        error,
        deviation: if deviation > 0.0 { Some(deviation) } else { None },
        params,
        gpu_days: if gpu_days > 0.0 { Some(gpu_days) } else { None },
    }
}

/// Table 1; its second row of first-order DARTS, a repetition, is left out. "PC-DARTS (Laube)" is PR-DARTS.
pub const TABLE_1: [Searched; 17] = [
    row("AmoebaNet-A", MethodName::Evolution, [3.34, 0.06], 3.2, 3150.0),
    row("AmoebaNet-B", MethodName::Evolution, [2.55, 0.05], 2.8, 3150.0),
    row("NASNet-A", MethodName::Nasnet, [2.65, 0.0], 3.3, 1800.0),
    row("PNAS", MethodName::Pnas, [3.41, 0.0], 3.2, 150.0),
    row("SNAS", MethodName::Snas, [2.85, 0.02], 2.8, 1.5),
    row("DSO-NAS", MethodName::DsoNas, [2.95, 0.12], 3.0, 1.0),
    row("PARSEC", MethodName::Parsec, [2.81, 0.03], 3.7, 1.0),
    row("DARTS, 2nd order", MethodName::Darts2nd, [2.76, 0.06], 3.4, 1.0),
    row("PC-DARTS (Laube)", MethodName::PrDarts, [2.51, 0.09], 4.0, 0.82),
    row("DARTS+", MethodName::DartsPlus, [2.37, 0.13], 4.3, 0.6),
    row("ENAS", MethodName::Enas, [2.89, 0.0], 4.6, 0.5),
    row("DARTS, 1st order", MethodName::Darts, [2.94, 0.0], 2.9, 0.4),
    row("P-DARTS", MethodName::PDarts, [2.50, 0.0], 3.4, 0.3),
    row("NAONet-WS", MethodName::NaonetWs, [3.53, 0.0], 2.5, 0.3),
    row("ASAP-Small", MethodName::Asap, [1.99, 0.0], 2.5, 0.2),
    row("ASAP-Medium", MethodName::Asap, [1.75, 0.0], 3.7, 0.2),
    row("ASAP-Large", MethodName::Asap, [1.68, 0.0], 6.0, 0.2),
];

/// Table 3.
pub const TABLE_3: [Searched; 4] = [
    row("DARTS, 2nd order", MethodName::Darts2nd, [2.76, 0.0], 3.4, 0.0),
    row("magnitude", MethodName::Magnitude, [2.9, 0.0], 4.4, 0.0),
    row("accumulated gradient", MethodName::AccumulatedGradient, [2.76, 0.0], 4.3, 0.0),
    row("ASAP-Small", MethodName::Asap, [1.99, 0.0], 2.5, 0.0),
];

/// A row of Table 2: a cell on other data sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Transferred {
    /// Its name in the paper.
    pub architecture: &'static str,
    /// The published cell of this program.
    pub cell: &'static str,
    /// Test errors in percent, in the order of [`DATA_SETS`].
    pub errors: [f64; 6],
}

/// The data sets of Table 2: the paper's name, and how the name of a data set or of its folder begins.
pub const DATA_SETS: [(&str, &[&str]); 6] = [
    ("CINIC-10", &["cinic"]),
    ("Freiburg", &["freiburg"]),
    ("CIFAR-100", &["cifar100", "cifar-100"]),
    ("SVHN", &["svhn"]),
    ("Fashion-MNIST", &["fashion"]),
    ("ImageNet", &["imagenet", "ilsvrc"]),
];

/// Table 2. SNAS is the "moderate" of its three published cells.
pub const TABLE_2: [Transferred; 7] = [
    transferred("AmoebaNet-A", "AmoebaNet", [7.18, 11.8, 15.9, 1.93, 3.8, 24.3]),
    transferred("NASNet", "NASNet", [6.93, 13.4, 15.8, 1.96, 3.71, 26.0]),
    transferred("PNAS", "PNASNet", [7.03, 12.3, 15.9, 1.83, 3.72, 25.8]),
    transferred("SNAS", "SNAS_moderate", [7.13, 14.7, 16.5, 1.98, 3.73, 27.3]),
    transferred("DARTS-Rev1", "DARTS_V1", [7.05, 11.4, 15.8, 1.94, 3.74, 26.9]),
    transferred("DARTS-Rev2", "DARTS_V2", [6.88, 10.8, 15.7, 1.85, 3.68, 26.7]),
    transferred("ASAP", "ASAP", [6.83, 10.7, 15.6, 1.81, 3.73, 24.4]),
];

const fn transferred(
    architecture: &'static str,
    cell: &'static str,
    errors: [f64; 6],
) -> Transferred {
    Transferred { architecture, cell, errors }
}

impl Transferred {
    /// The paper's error of a cell on a data set, in percent, if it has both.
    pub fn error(cell: &str, data: &str) -> Option<f64> {
        let row = TABLE_2.iter().find(|row| row.cell == cell)?;
        let name = std::path::Path::new(data).file_name()?.to_string_lossy().to_lowercase();
        // Imagenette and ImageNet16 are others, ImageNet1k is the one.
        let is = |one: &&str| {
            let rest = name.strip_prefix(*one);
            let of_imagenet = |rest: &str| {
                let goes_on = rest.starts_with(char::is_alphanumeric);
                !goes_on || rest.starts_with("1k") || rest.starts_with("2012")
            };
            rest.is_some_and(|rest| *one != "imagenet" || of_imagenet(rest))
        };
        let begins = |(_, names): &(&str, &[&str])| names.iter().any(is);
        Some(row.errors[DATA_SETS.iter().position(begins)?])
    }
}

#[cfg(test)]
mod tests {
    use asap_core::PublishedCell;

    use super::*;

    #[test]
    fn items_are_found_by_name_and_have_what_they_compare() {
        for item in Item::ALL {
            assert_eq!(item.name().parse(), Ok(item));
            let mut methods = item.methods();
            assert_eq!(methods.is_empty(), item == Item::Table2);
            let count = methods.len();
            methods.sort();
            methods.dedup();
            assert_eq!(methods.len(), count, "{item}: each method once");
            assert!(item.rows().iter().all(|row| methods.contains(&row.method)));
        }
        assert!("table-4".parse::<Item>().unwrap_err().contains("figure-7"));
    }

    #[test]
    fn cells_and_data_sets_of_table_2_are_those_of_this_program() {
        for row in TABLE_2 {
            assert_eq!(PublishedCell::find(row.cell).unwrap().name, row.cell);
        }
        assert_eq!(Transferred::error("ASAP", "fashion-mnist"), Some(3.73));
        assert_eq!(Transferred::error("ASAP", "/data/CINIC-10/"), Some(6.83));
        assert_eq!(Transferred::error("ASAP", "embedded"), None);
        assert_eq!(Transferred::error("ASAP", "imagenette2"), None);
        assert_eq!(
            Transferred::error("ASAP", "ImageNet1k"),
            Transferred::error("ASAP", "ilsvrc2012")
        );
        assert_eq!(Transferred::error("ENAS", "svhn"), None);
    }
}
