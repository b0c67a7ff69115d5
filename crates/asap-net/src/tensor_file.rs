//! Files of named tensors: safetensors, with further data as text in the header.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::files::replace;
use crate::parameters::NamedValues;
use crate::steps::NonFinite;

/// Version of the file format; others are refused.
const FORMAT: u32 = 1;
/// Header keys.
const FORMAT_KEY: &str = "asap.format";
const KIND_KEY: &str = "asap.kind";
const STATE_KEY: &str = "asap.state";

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
    let header = HashMap::from([
        (FORMAT_KEY.to_owned(), FORMAT.to_string()),
        (KIND_KEY.to_owned(), H::KIND.to_owned()),
        (STATE_KEY.to_owned(), state),
    ]);
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
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
    let header = metadata.metadata().clone().unwrap_or_default();
    let found = header.get(FORMAT_KEY).map_or("none", String::as_str);
    if found != FORMAT.to_string() {
        return Err(fault(format!(
            "expected tensors of asap in format {FORMAT}, found {found}; \
             use the version of asap that wrote the file"
        )));
    }
    let found = header.get(KIND_KEY).map_or("search", String::as_str);
    if found != kind {
        return Err(fault(format!(
            "expected the tensors of a {kind}, found those of a {found}; {remedy}"
        )));
    }
    let state = header.get(STATE_KEY).map_or("", String::as_str);
    let state = serde_json::from_str(state).map_err(|e| damaged(&e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e))?;
    let mut named = NamedValues::new();
    for (name, view) in tensors.iter() {
        if view.dtype() != Dtype::F32 {
            let found = view.dtype();
            return Err(fault(format!(
                "{name}: expected 32-bit floats, found {found:?}; {remedy}"
            )));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
        named.insert(name.to_owned(), (view.shape().to_vec(), values.collect()));
    }
    Ok((state, named))
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
