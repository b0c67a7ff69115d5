//! A NumPy archive as it is.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.write("a.npz", data);
    let _ = FOLDER.load(&path, 0);
});
