//! One of the four files of MNIST's form, plain or (its checksum right) compressed, beside three intact ones.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::{Folder, gzip, head};
use libfuzzer_sys::fuzz_target;

const FILES: [(&str, &[u8]); 4] = [
    ("train-images-idx3-ubyte", &[0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]),
    ("train-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1]),
    ("t10k-images-idx3-ubyte", &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 9, 8, 7, 6]),
    ("t10k-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 2, 1, 0]),
];

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new();
    FILES.iter().for_each(|(name, bytes)| drop(folder.write(name, bytes)));
    folder
});

fuzz_target!(|data: &[u8]| {
    let Some(([way], content)) = head(data) else { return };
    let (name, intact) = FILES[usize::from(way & 3)];
    match way & 4 {
        0 => FOLDER.write(name, content),
        _ => FOLDER.write(name, &gzip(content)),
    };
    let _ = FOLDER.load(&FOLDER.path(""), way >> 3);
    FOLDER.write(name, intact);
});
