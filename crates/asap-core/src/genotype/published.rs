//! The cells of the literature, by name.

use super::cells::{CellGenotype, Gene, Genotype};
use crate::error::Error;
use crate::space::{Family, Operation};

/// A published cell and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedCell {
    /// The usual name.
    pub name: &'static str,
    /// The paper or code it comes from.
    pub source: &'static str,
    /// A caveat for users, if there is one.
    pub note: Option<&'static str>,
    cells: Cells,
}

/// The cells in a short form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cells {
    /// Normal and reduction cell of the DARTS space.
    Darts(Short, Short),
    /// A cell of NAS-Bench-201, in its notation.
    NasBench201(&'static str),
}

/// A cell with the short names of its operations, `/` between nodes, and the states of its output.
type Short = (&'static str, &'static [usize]);

const FOUR: &[usize] = &[2, 3, 4, 5];
const FIVE: &[usize] = &[2, 3, 4, 5, 6];

#[rustfmt::skip]
const CELLS: [PublishedCell; 15] = [
    cell("ASAP", "arXiv 1904.04123, Figs. 4 and 5",
        ("s3 0, s3 1 / s3 1, sk 0 / sk 0, sk 2 / sk 1, sk 2", FOUR),
        ("ap 0, s3 1 / ap 0, d5 2 / mp 1, sk 2 / mp 0, sk 2", FOUR)),
    cell("DARTS_V1", "github.com/quark0/darts",
        ("s3 1, s3 0 / sk 0, s3 1 / sk 0, s3 1 / s3 0, sk 2", FOUR),
        ("mp 0, mp 1 / sk 2, mp 0 / mp 0, sk 2 / sk 2, ap 0", FOUR)),
    cell("DARTS_V2", "github.com/quark0/darts",
        ("s3 0, s3 1 / s3 0, s3 1 / s3 1, sk 0 / sk 0, d3 2", FOUR),
        ("mp 0, mp 1 / sk 2, mp 1 / mp 0, sk 2 / sk 2, mp 1", FOUR)),
    cell("NASNet", "github.com/quark0/darts",
        ("s5 1, s3 0 / s5 0, s3 0 / ap 1, sk 0 / ap 0, ap 0 / s3 1, sk 1", FIVE),
        ("s5 1, s7 0 / mp 1, s7 0 / ap 1, s5 0 / sk 3, ap 2 / s3 2, mp 1", &[4, 5, 6])),
    cell("AmoebaNet", "github.com/quark0/darts",
        ("ap 0, mp 1 / s3 0, s5 2 / s3 0, ap 3 / s3 1, sk 1 / sk 0, ap 1", &[4, 5, 6]),
        ("ap 0, s3 1 / mp 0, s7 2 / s7 0, ap 1 / mp 0, mp 1 / c71 0, s3 5", &[3, 4, 6])),
    cell("PNASNet", "github.com/D-X-Y/AutoDL-Projects",
        ("s5 0, mp 0 / s7 1, mp 1 / s5 1, s3 1 / s3 4, mp 1 / s3 0, sk 1", FIVE),
        ("s5 0, mp 0 / s7 1, mp 1 / s5 1, s3 1 / s3 4, mp 1 / s3 0, sk 1", FIVE)),
    cell("SNAS_mild", "github.com/SNAS-Series",
        ("s3 0, s3 1 / sk 0, d3 1 / sk 0, sk 1 / sk 0, s3 1", FOUR),
        ("mp 0, mp 1 / mp 1, sk 2 / mp 1, sk 2 / mp 0, d5 2", FOUR)),
    cell("SNAS_moderate", "github.com/SNAS-Series",
        ("d5 0, sk 1 / s3 0, sk 1 / sk 0, sk 1 / s3 0, d5 1", FOUR),
        ("mp 0, mp 1 / s5 0, d5 1 / s5 0, s5 1 / s5 0, s5 1", FOUR)),
    cell("SNAS_aggressive", "github.com/SNAS-Series",
        ("s5 0, sk 1 / sk 0, sk 1 / d5 1, sk 0 / sk 0, d5 1", FOUR),
        ("s5 0, none 1 / s5 0, none 1 / none 1, none 0 / none 1, none 0", FOUR)),
    cell("PDARTS", "github.com/chenxin061/pdarts",
        ("sk 0, d3 1 / sk 0, s3 1 / s3 1, s3 3 / s3 0, d5 4", FOUR),
        ("ap 0, s5 1 / s3 0, d5 2 / mp 0, d3 1 / d3 1, d5 3", FOUR)),
    cell("PC_DARTS", "github.com/yuhuixu1993/PC-DARTS, searched on CIFAR-10",
        ("s3 1, sk 0 / s3 0, d3 1 / s5 0, s3 1 / ap 0, d3 1", FOUR),
        ("s5 1, mp 0 / s5 1, s5 2 / s3 0, s3 3 / s3 1, s3 2", FOUR)),
    cell("PC_DARTS_image", "github.com/yuhuixu1993/PC-DARTS, searched on ImageNet",
        ("sk 1, s3 0 / s3 0, sk 1 / s3 1, s3 3 / s3 1, d5 4", FOUR),
        ("s3 0, sk 1 / d5 2, mp 1 / s3 2, s3 1 / s5 0, s3 3", FOUR)),
    cell("XNAS", "github.com/NivNayman/XNAS",
        ("s3 1, sk 0 / s3 0, s3 2 / s3 3, s3 1 / d5 4, s3 0", FOUR),
        ("mp 0, ap 1 / ap 0, sk 2 / d3 3, mp 0 / d5 4, ap 0", FOUR)),
    PublishedCell {
        note: Some("approximate: read off a figure"),
        ..cell("ENAS", "arXiv 1802.03268, figure of the micro search space",
            ("s3 1, sk 1 / s5 1, sk 0 / ap 0, s3 1 / s3 0, ap 1 / s5 1, ap 0", FIVE),
            ("s5 0, s3 1 / s3 1, ap 1 / s3 1, ap 1 / ap 1, s5 4 / s3 5, s5 0", FIVE))
    },
    PublishedCell {
        name: "ASAP_CIFAR10_JPEG",
        source: "found by this program in nas-bench-201: asap search --space nas-bench-201 --preset hour --seed 8 on CIFAR-10 stored as JPEG",
        note: Some("94.22 % in the table of the space; the best of ten seeds, whose mean is 93.63 %"),
        cells: Cells::NasBench201(
            "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        ),
    },
];

const fn cell(
    name: &'static str,
    source: &'static str,
    normal: Short,
    reduce: Short,
) -> PublishedCell {
    PublishedCell { name, source, note: None, cells: Cells::Darts(normal, reduce) }
}

impl PublishedCell {
    /// All cells, the paper's first.
    pub fn all() -> &'static [PublishedCell] {
        &CELLS
    }

    /// The cell with this name, in upper or lower case; `-` and `_` are equivalent.
    ///
    /// # Errors
    /// [`Error::UnknownName`] that lists the names.
    pub fn find(name: &str) -> Result<&'static PublishedCell, Error> {
        let wanted = name.replace('-', "_");
        CELLS
            .iter()
            .find(|cell| cell.name.eq_ignore_ascii_case(&wanted))
            .ok_or_else(|| Error::unknown("cell", name, CELLS.iter().map(|cell| cell.name)))
    }

    /// The cells as a genotype.
    pub fn genotype(&self) -> Genotype {
        match self.cells {
            Cells::Darts(normal, reduce) => {
                let cells = vec![expand(normal), expand(reduce)];
                Genotype::new(Family::Darts, cells).expect("published cells are sound")
            }
            Cells::NasBench201(text) => text.parse().expect("published cells are sound"),
        }
    }
}

fn expand((nodes, output): Short) -> CellGenotype {
    let gene = |text: &str| {
        let (operation, input) = text.trim().split_once(' ').expect("`operation input`");
        Gene {
            operation: operation.parse::<Operation>().expect("a short name"),
            input: input.parse().expect("a state"),
        }
    };
    let node = |text: &str| text.split(',').map(gene).collect();
    CellGenotype { nodes: nodes.split('/').map(node).collect(), output: output.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_sound_and_found_by_its_name() {
        for cell in PublishedCell::all() {
            let of_darts = cell.name != "ASAP_CIFAR10_JPEG";
            assert_eq!(cell.genotype().family() == Family::Darts, of_darts, "{}", cell.name);
            let found = PublishedCell::find(&cell.name.to_lowercase().replace('_', "-"));
            assert_eq!(found, Ok(cell));
        }
    }

    #[test]
    fn an_unknown_cell_lists_the_names() {
        let error = PublishedCell::find("RESNET").unwrap_err().to_string();
        assert!(error.contains("`RESNET`") && error.contains("ASAP, DARTS_V1"));
    }
}
