//! A table of true accuracies, compressed (with the right checksum) or not.
#![no_main]

use std::sync::LazyLock;

use asap::tabular::Tabular;
use asap_core::{Family, NetworkShape, SearchSpace, Stem};
use asap_fuzz::{Folder, gzip, head};
use libfuzzer_sys::fuzz_target;

const SHAPE: NetworkShape = NetworkShape {
    channels: 4,
    cells: 5,
    height: 8,
    width: 8,
    in_channels: 3,
    classes: 10,
    stem: Stem::Small,
};

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|data: &[u8]| {
    let Some(([way], text)) = head(data) else { return };
    let space = SearchSpace::of(if way & 2 == 0 { Family::NasBench201 } else { Family::Darts });
    let path = match way & 1 {
        0 => FOLDER.write("a.csv", text),
        _ => FOLDER.write("a.csv", &gzip(text)),
    };
    let column = (way & 4 != 0).then_some("other");
    if let Ok(table) = Tabular::read(&path, column, &space, &SHAPE) {
        assert!(table.len() > 0 && (0.0..=1.0).contains(&table.mean()));
    }
});
