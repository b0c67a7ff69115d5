//! The content of a zip, tar or tar.gz archive whose checksums are right.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::{Folder, fix_tar, gzip, head, piece, zip};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

/// Pairs of name and content.
fn zipped(mut rest: &[u8]) -> Vec<u8> {
    let mut entries = Vec::new();
    while let Some((name, behind)) = piece(rest)
        && let Some((content, behind)) = piece(behind)
    {
        entries.push((name, content));
        rest = behind;
    }
    zip(&entries)
}

fuzz_target!(|data: &[u8]| {
    let Some(([way], content)) = head(data) else { return };
    let mut tar = content.to_vec();
    let (name, bytes) = match way & 3 {
        0 | 1 => ("a.zip", zipped(content)),
        2 => {
            fix_tar(&mut tar);
            ("a.tar", tar)
        }
        _ => {
            fix_tar(&mut tar);
            ("a.tar.gz", gzip(&tar))
        }
    };
    let path = FOLDER.write(name, &bytes);
    let _ = FOLDER.load(&path, way >> 2);
    FOLDER.remove("cache");
});
