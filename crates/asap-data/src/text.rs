//! Text files as people have them.

use std::io;
use std::path::Path;

/// A number of things: `1 image`, `2 images`.
pub fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Reads a text file in UTF-8, with or without a byte order mark.
///
/// # Errors
/// If it cannot be read, or is not UTF-8; UTF-16 is named.
pub fn read(path: &Path) -> io::Result<String> {
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    let bytes = std::fs::read(path)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(invalid("expected UTF-8, found UTF-16; save it as UTF-8"));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).to_vec();
    String::from_utf8(text)
        .map_err(|_| invalid("expected UTF-8, found another encoding; save it as UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_dropped_and_other_encodings_are_named() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.txt");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).and_then(|()| read(&path)).map_err(|e| e.to_string())
        };
        assert_eq!(read(b"\xef\xbb\xbfcell"), Ok("cell".to_owned()));
        assert_eq!(read("h\u{e9}".as_bytes()), Ok("h\u{e9}".to_owned()));
        assert!(read(b"\xff\xfec\0").is_err_and(|text| text.contains("found UTF-16")));
        assert!(read(b"caf\xe9").is_err_and(|text| text.contains("another encoding")));
        Ok(())
    }
}
