//! Files of named tensors: safetensors, with further data as text in the header, and a checksum over both.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crc::{CRC_64_XZ, Crc};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::replace;
use crate::parameters::NamedValues;
use crate::steps::NonFinite;

/// Version of the file format; later ones are refused. The first one had no checksum, and a key for each field of [`Label`].
const FORMAT: u32 = 2;
/// The header key. There is one only, since safetensors writes several in random order, and equal contents would not be equal bytes.
const KEY: &str = "asap";
/// Header keys of the first format.
const FIRST: [&str; 3] = ["asap.format", "asap.kind", "asap.state"];

static CHECKSUM: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// What the header says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    format: u32,
    kind: String,
    /// [`Header`] as JSON.
    state: String,
    /// See [`checksum`]; absent in the first format.
    #[serde(default)]
    checksum: Option<String>,
}

impl Label {
    /// The label of a file, of any format.
    fn of(file: &[u8]) -> Result<Self, String> {
        let (_, metadata) = SafeTensors::read_metadata(file).map_err(|error| error.to_string())?;
        let none = HashMap::new();
        let metadata = metadata.metadata().as_ref().unwrap_or(&none);
        if let Some(label) = metadata.get(KEY) {
            return serde_json::from_str(label).map_err(|error| error.to_string());
        }
        let [format, kind, state] = FIRST.map(|key| metadata.get(key).map_or("", String::as_str));
        let format = format.parse().unwrap_or(0);
        let kind = if kind.is_empty() { "search" } else { kind };
        Ok(Self { format, kind: kind.to_owned(), state: state.to_owned(), checksum: None })
    }
}

/// CRC-64/XZ of the state, and of the name, shape and bytes of each tensor, in the order of the names.
fn checksum<'a>(
    state: &str,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> String {
    let mut digest = CHECKSUM.digest();
    digest.update(state.as_bytes());
    for (name, shape, bytes) in tensors {
        digest.update(format!("\0{name}{shape:?}").as_bytes());
        digest.update(bytes);
    }
    format!("{:016x}", digest.finalize())
}

/// The plain data in the header of a file of tensors.
pub trait Header: Serialize + DeserializeOwned {
    /// The kind of file, which is written into it.
    const KIND: &'static str;
    /// The remedy for a missing file.
    const REMEDY: &'static str;
}

/// Writes a file, replacing an older one only when complete.
///
/// # Errors
/// If it cannot be written.
pub fn save<H: Header>(path: &Path, header: &H, tensors: &NamedValues) -> Result<(), Error> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes);
        (name.as_str(), view.expect("shape and values agree"))
    });
    let state = serde_json::to_string(header).expect("plain data is JSON");
    let parts = bytes.iter().map(|(name, shape, bytes)| (name.as_str(), &shape[..], &bytes[..]));
    let checksum = Some(checksum(&state, parts));
    let label = Label { format: FORMAT, kind: H::KIND.to_owned(), state, checksum };
    let label = serde_json::to_string(&label).expect("text is JSON");
    let header = HashMap::from([(KEY.to_owned(), label)]);
    let file = safetensors::serialize(views, Some(header)).expect("names are unique");
    replace(path, &file)
}

/// Reads a file.
///
/// # Errors
/// If it does not exist, is damaged, of another kind, or written by another version.
pub fn load<H: Header>(path: &Path) -> Result<(H, NamedValues), Error> {
    let (kind, remedy) = (H::KIND, H::REMEDY);
    let fault = |problem: String| Error::File { path: path.to_owned(), problem };
    let bytes = fs::read(path)
        .map_err(|error| fault(format!("expected the tensors of a {kind} ({error}); {remedy}")))?;
    let damaged = |error: &dyn std::fmt::Display| {
        fault(format!("expected the complete tensors of a {kind} ({error}); {remedy}"))
    };
    let label = Label::of(&bytes).map_err(|error| damaged(&error))?;
    if !(1..=FORMAT).contains(&label.format) {
        let found = match label.format {
            0 => "none".to_owned(),
            format => format.to_string(),
        };
        return Err(fault(format!(
            "expected tensors of asap in format {FORMAT} or older, found {found}; \
             use the version of asap that wrote the file"
        )));
    }
    if label.kind != kind {
        return Err(fault(format!(
            "expected the tensors of a {kind}, found those of a {}; {remedy}",
            label.kind
        )));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e))?;
    let mut views: Vec<_> = tensors.iter().collect();
    views.sort_by_key(|(name, _)| *name);
    if label.checksum.is_none() && label.format > 1 {
        return Err(damaged(&"without a checksum"));
    }
    if let Some(expected) = &label.checksum {
        let parts = views.iter().map(|(name, view)| (*name, view.shape(), view.data()));
        let found = checksum(&label.state, parts);
        if found != *expected {
            return Err(damaged(&format!("the checksum is {found}, not {expected}")));
        }
    }
    let state = serde_json::from_str(&label.state).map_err(|e| damaged(&e))?;
    let mut named = NamedValues::new();
    for (name, view) in views {
        if view.dtype() != Dtype::F32 {
            let found = view.dtype();
            return Err(fault(format!(
                "{name}: expected 32-bit floats, found {found:?}; {remedy}"
            )));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
        let values: Vec<f32> = values.collect();
        if let Some(odd) = values.iter().find(|value| !value.is_finite()) {
            return Err(fault(format!("{name}: expected finite values, found {odd}; {remedy}")));
        }
        named.insert(name.to_owned(), (view.shape().to_vec(), values));
    }
    Ok((state, named))
}

/// The state in the header of a file of any kind; none if it cannot be read. Neither the tensors nor the checksum are looked at.
pub fn state(path: &Path) -> Option<serde_json::Value> {
    let label = Label::of(&fs::read(path).ok()?).ok()?;
    serde_json::from_str(&label.state).ok()
}

/// Refuses values that are not finite, so that no checkpoint contains one.
///
/// # Errors
/// Names the first tensor with such a value; `key` is the configuration key to lower.
pub fn check_finite(tensors: &NamedValues, key: &'static str) -> Result<(), NonFinite> {
    for (name, (_, values)) in tensors {
        if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
            return Err(NonFinite {
                what: format!("an element of {name}"),
                value: f64::from(value),
                key,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note(String);

    impl Header for Note {
        const KIND: &'static str = "note";
        const REMEDY: &'static str = "write another";
    }

    fn values() -> NamedValues {
        let tensor = |shape: Vec<usize>, salt: f32| {
            let count = shape.iter().product::<usize>();
            (shape, (0..count).map(|i| (i as f32 * 0.37 + salt).sin()).collect())
        };
        let names = ["stem.conv", "cells.0.bn", "head"];
        let shapes = [vec![4, 3, 3, 3], vec![4], vec![10, 4]];
        (0..)
            .map(|i| i as f32)
            .zip(names)
            .zip(shapes)
            .map(|((salt, name), shape)| (name.to_owned(), tensor(shape, salt)))
            .collect()
    }

    #[test]
    fn equal_contents_are_equal_bytes_and_any_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (path, note) = (folder.path().join("a"), Note("12 images".to_owned()));
        save(&path, &note, &values()).unwrap();
        let bytes = fs::read(&path).unwrap();
        for _ in 0..5 {
            save(&path, &note, &values()).unwrap();
            assert!(fs::read(&path).unwrap() == bytes, "the same bytes each time");
        }
        assert_eq!(load::<Note>(&path).unwrap(), (note, values()));
        for (at, bit) in (0..bytes.len()).zip((0..8).cycle()) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            fs::write(&path, damaged).unwrap();
            // Blanks at the end of the header have no meaning.
            if let Ok(found) = load::<Note>(&path) {
                assert_eq!(found, (Note("12 images".to_owned()), values()), "byte {at}, bit {bit}");
                assert_eq!(bytes[at], b' ');
            }
        }
        for cut in [0, 7, 100, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert!(load::<Note>(&path).unwrap_err().to_string().contains("write another"));
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut odd = values();
        odd.get_mut("head").unwrap().1[7] = f32::NAN;
        save(&path, &Note(String::new()), &odd).unwrap();
        let text = load::<Note>(&path).unwrap_err().to_string();
        assert!(text.contains("head: expected finite values, found NaN"), "{text}");
    }

    #[test]
    fn files_of_the_first_format_are_read_and_later_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let write = |entries: &[(&str, &str)]| {
            let header = entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let none: [(&str, TensorView<'_>); 0] = [];
            fs::write(&path, safetensors::serialize(none, Some(header)).unwrap()).unwrap();
            load::<Note>(&path).map_err(|error| error.to_string())
        };
        let first = [(FIRST[0], "1"), (FIRST[1], "note"), (FIRST[2], "\"x\"")];
        assert_eq!(write(&first).unwrap().0, Note("x".to_owned()));
        let later = r#"{"format":3,"kind":"note","state":"\"x\""}"#;
        assert!(write(&[(KEY, later)]).unwrap_err().contains("format 2 or older, found 3"));
        let text = write(&[("framework", "pt")]).unwrap_err();
        assert!(text.contains("found none"), "{text}");
    }
}
