//! Elements of a MATLAB file, compressed with right checksums.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::{Folder, piece, zlib};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|data: &[u8]| {
    let mut file = [&[b' '; 124][..], b"\0\x01IM"].concat();
    let mut rest = data;
    while let Some((element, behind)) = piece(rest) {
        let packed = zlib(element);
        file.extend(15u32.to_le_bytes());
        file.extend((packed.len() as u32).to_le_bytes());
        file.extend(packed);
        rest = behind;
    }
    FOLDER.write("train_32x32.mat", &file);
    FOLDER.write("test_32x32.mat", &file);
    let _ = FOLDER.load(&FOLDER.path(""), 0);
});
