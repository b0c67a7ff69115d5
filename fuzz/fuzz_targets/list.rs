//! A list of images and labels beside three images.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::{Folder, head};
use libfuzzer_sys::fuzz_target;

const ENDINGS: [&str; 4] = ["csv", "tsv", "txt", "lst"];

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new();
    for file in ["a.ppm", "b.ppm", "c d.ppm", "images/e.ppm"] {
        folder.write(file, b"P6 2 1 255\n\x01\x02\x03\x04\x05\x06");
    }
    folder.write("f.ppm", b"P6 2 1 255\n");
    folder
});

fuzz_target!(|data: &[u8]| {
    let Some(([way], text)) = head(data) else { return };
    let path = FOLDER.write(&format!("labels.{}", ENDINGS[usize::from(way & 3)]), text);
    let _ = FOLDER.load(&path, way >> 2);
    let _ = std::fs::remove_file(path);
});
