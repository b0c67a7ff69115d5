//! A MATLAB file of SVHN's form as it is.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|data: &[u8]| {
    FOLDER.write("train_32x32.mat", data);
    FOLDER.write("test_32x32.mat", data);
    let _ = FOLDER.load(&FOLDER.path(""), 0);
});
