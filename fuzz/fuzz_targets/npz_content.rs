//! Arrays of a NumPy archive whose checksums are right.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::{Folder, head, piece, zip};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

const NAMES: [[&str; 6]; 2] = [
    ["train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"],
    ["x_train", "y_train", "x_val", "y_val", "x_test", "y_test"],
];

fuzz_target!(|data: &[u8]| {
    let Some(([way], mut rest)) = head(data) else { return };
    let mut entries = Vec::new();
    for name in NAMES[usize::from(way & 1)] {
        let Some((array, behind)) = piece(rest) else { break };
        entries.push((format!("{name}.npy"), array));
        rest = behind;
    }
    let entries: Vec<_> = entries.iter().map(|(name, array)| (name.as_bytes(), *array)).collect();
    let path = FOLDER.write("a.npz", &zip(&entries));
    let _ = FOLDER.load(&path, way >> 1);
});
