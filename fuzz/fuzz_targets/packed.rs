//! A packed data set as it is; every second one stays in its file.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.write("a.pack", data);
    let _ = FOLDER.load(&path, (data.len() as u8 & 1) << 5);
});
