//! NumPy archives of images and labels, in the forms of MedMNIST (`train_images`, `val_labels`, ...) and Keras (`x_train`, `y_test`, ...).

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use crate::archive::most_unpacked;
use crate::dataset::{check_labels, check_no_class_empty};
use crate::pixels::MAX_SIDE;
use crate::{DataError, Dataset, Splits};

/// Names of images and labels for training, validation and test, in every form.
const FORMS: [[[&str; 2]; 3]; 3] = [
    [
        ["train_images", "train_labels"],
        ["val_images", "val_labels"],
        ["test_images", "test_labels"],
    ],
    [["x_train", "y_train"], ["x_val", "y_val"], ["x_test", "y_test"]],
    [["X_train", "y_train"], ["X_val", "y_val"], ["X_test", "y_test"]],
];

/// Longest header of an array.
const MAX_HEADER: u32 = 1 << 16;
type Archive = ZipArchive<BufReader<File>>;

/// Reads the parts in a file.
pub(crate) fn read(path: &Path) -> Result<Splits, DataError> {
    let file = BufReader::new(File::open(path).map_err(|e| DataError::io(path, e))?);
    let mut archive = ZipArchive::new(file).map_err(|error| {
        let found = format!("something else or a damaged file ({error})");
        DataError::format(path, "a NumPy archive (.npz)", found, "download it again")
    })?;
    let names: Vec<String> = archive.file_names().flatten().map(Into::into).collect();
    let has = |name: &&str| names.iter().any(|found| found.strip_suffix(".npy") == Some(name));
    let Some(form) = FORMS.iter().find(|form| form[0].iter().all(has)) else {
        let expected = "the arrays train_images and train_labels, or x_train and y_train";
        let remedy =
            "save the images under these names, [n, height, width] or [n, height, width, channels]";
        return Err(DataError::format(path, expected, names.join(", "), remedy));
    };
    let mut parts = Vec::new();
    for [images, labels] in form {
        parts.push(match has(images) && has(labels) {
            true => Some(Part::read(&mut archive, path, images, labels)?),
            false => None,
        });
    }
    let used: Vec<&str> = (form.iter().zip(&parts))
        .filter(|(_, part)| part.is_some())
        .flat_map(|(names, _)| *names)
        .collect();
    let unused = names.iter().map(|name| name.strip_suffix(".npy").unwrap_or(name));
    let unused: Vec<&str> = unused.filter(|name| !used.contains(name)).collect();
    let warnings = match unused.is_empty() {
        true => Vec::new(),
        false => {
            let known = form.as_flattened().join(", ");
            vec![format!(
                "ignored the arrays {}: only these are read, in pairs: {known}",
                unused.join(", ")
            )]
        }
    };
    let largest = parts.iter().flatten().flat_map(|part| &part.labels).max().copied().unwrap_or(0);
    let classes: Vec<String> = (0..=largest).map(|class| class.to_string()).collect();
    let [train, valid, test] = parts.try_into().unwrap_or_default();
    let Some(train) = train else {
        return Err(DataError::format(path, "training images", "none", "add them"));
    };
    check_no_class_empty(
        path,
        &train.labels,
        &classes,
        "renumber the labels from 0, without gaps",
    )?;
    let shape = train.shape;
    let other = [&valid, &test].into_iter().flatten().find(|part| part.shape != shape);
    if let Some(part) = other {
        let expected = format!("images of {shape:?} as for training");
        let found = format!("{:?}", part.shape);
        return Err(DataError::format(path, expected, found, "give all images one size"));
    }
    let data = |part: Part| {
        check_labels(path, &part.labels, classes.len())?;
        Dataset::new(part.images, part.labels, shape, classes.clone())
    };
    Ok(Splits {
        name: path.display().to_string(),
        train: data(train)?,
        valid: valid.map(data).transpose()?,
        test: test.map(data).transpose()?,
        warnings,
        unreadable: Vec::new(),
    })
}

#[derive(Debug)]
struct Part {
    images: Vec<u8>,
    labels: Vec<u16>,
    shape: [usize; 3],
}

impl Part {
    fn read(
        archive: &mut Archive,
        path: &Path,
        images: &str,
        labels: &str,
    ) -> Result<Self, DataError> {
        let (sides, images) = array(archive, path, images, true)?;
        let (labelled, bytes) = array(archive, path, labels, false)?;
        let wrong = |expected: &str, found: &[usize]| {
            DataError::format(path, expected, format!("{found:?}"), "save it in this shape")
        };
        let shape = match sides[..] {
            [_, height, width] => [height, width, 1],
            [_, height, width, channels @ (1 | 3)] => [height, width, channels],
            _ => {
                return Err(wrong(
                    "images [n, height, width] or [n, height, width, 1 or 3]",
                    &sides,
                ));
            }
        };
        if shape.iter().any(|&side| side > MAX_SIDE as usize) {
            return Err(wrong("images with sides of up to 4096", &sides));
        }
        let labels = match labelled[..] {
            [_] | [_, 1] => {
                bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes)).collect()
            }
            [_, _] => {
                return Err(wrong(
                    "one label per image, [n] or [n, 1] (images with several labels cannot be used)",
                    &labelled,
                ));
            }
            _ => return Err(wrong("labels [n] or [n, 1]", &labelled)),
        };
        if labelled[0] != sides[0] {
            return Err(DataError::CountMismatch {
                images: path.to_owned(),
                image_count: sides[0],
                labels: path.to_owned(),
                label_count: labelled[0],
            });
        }
        Ok(Self { images, labels, shape })
    }
}

/// The header of an array, a Python dictionary of three keys. It is not parsed as Python: nested brackets take such parsers for ever.
struct Header {
    /// Byte order, kind and bytes of a value, such as `<i8`.
    descr: String,
    sides: Vec<usize>,
    fortran: bool,
}

impl Header {
    fn read(from: &mut impl Read) -> Result<Self, String> {
        let mut start = [0; 8];
        from.read_exact(&mut start).map_err(|error| error.to_string())?;
        if !start.starts_with(b"\x93NUMPY") {
            return Err("something else".to_owned());
        }
        let mut length = [0; 4];
        let bytes = if start[6] == 1 { 2 } else { 4 };
        from.read_exact(&mut length[..bytes]).map_err(|error| error.to_string())?;
        let length = u32::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(format!("a header of {length} bytes"));
        }
        let mut text = String::new();
        from.take(length.into()).read_to_string(&mut text).map_err(|error| error.to_string())?;
        let fault = || format!("the header `{}`", text.trim());
        let value = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}'"))?;
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let text_of = |rest: &str| Some(rest.strip_prefix('\'')?.split_once('\'')?.0.to_owned());
        let descr = value("descr").and_then(text_of).ok_or_else(fault)?;
        let fortran = value("fortran_order").ok_or_else(fault)?.starts_with("True");
        let shape = value("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')'));
        let sides =
            shape.ok_or_else(fault)?.0.split(',').map(str::trim).filter(|side| !side.is_empty());
        let sides =
            sides.map(|side| side.trim_end_matches('L').parse().ok()).collect::<Option<_>>();
        Ok(Self { descr, sides: sides.ok_or_else(fault)?, fortran })
    }
}

/// Shape and values of an array in C order: bytes, or labels as two bytes each, least first.
fn array(
    archive: &mut Archive,
    path: &Path,
    name: &str,
    images: bool,
) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let fail = |found: String| {
        let expected = match images {
            true => format!("an array {name} of unsigned bytes (uint8) in C order"),
            false => format!("an array {name} of whole numbers in C order"),
        };
        DataError::format(path, expected, found, "save it in this form, or download the file again")
    };
    let entry = archive.by_name(&format!("{name}.npy")).map_err(|error| fail(error.to_string()))?;
    let length = entry.size();
    if length > most_unpacked(entry.compressed_size()) {
        return Err(fail(format!("{length} bytes in {} compressed ones", entry.compressed_size())));
    }
    let mut content = entry;
    let header = Header::read(&mut content).map_err(&fail)?;
    let Header { descr, sides, fortran } = &header;
    if sides.contains(&0) {
        return Err(fail("no values".to_owned()));
    }
    let parts = descr.split_at_checked(2).and_then(|(kind, size)| Some((kind, size.parse().ok()?)));
    let known = parts.filter(|(_, size)| [1usize, 2, 4, 8].contains(size) && !*fortran);
    let (big, signed, size) = match known {
        Some(("|u" | "<u" | "=u", size)) => (false, false, size),
        Some((">u", size)) => (true, false, size),
        Some(("|i" | "<i" | "=i", size)) if !images => (false, true, size),
        Some((">i", size)) if !images => (true, true, size),
        _ if *fortran => return Err(fail(format!("{descr} in Fortran order"))),
        _ => return Err(fail(format!("`{descr}`"))),
    };
    if images && size != 1 {
        return Err(fail(format!("`{descr}`")));
    }
    let sides = header.sides;
    let count = sides.iter().try_fold(size as u64, |bytes, &side| bytes.checked_mul(side as u64));
    let count = count
        .filter(|&count| count <= length)
        .ok_or_else(|| fail(format!("{sides:?} values in {length} bytes")))?;
    let mut bytes = Vec::new();
    // The checksum is compared at the end only, which lies behind the array.
    let read = content.by_ref().take(count).read_to_end(&mut bytes);
    let more = read.and_then(|_| content.read(&mut [0]));
    if more.map_err(|error| fail(error.to_string()))? > 0 || bytes.len() as u64 != count {
        return Err(fail(format!("not {count} bytes, but more or fewer")));
    }
    if images {
        return Ok((sides, bytes));
    }
    let mut labels = Vec::with_capacity(2 * bytes.len() / size);
    for value in bytes.chunks_exact_mut(size) {
        if big {
            value.reverse();
        }
        let (low, high) = value.split_at(size.min(2));
        let label = u16::from_le_bytes([low[0], low.get(1).copied().unwrap_or(0)]);
        let negative = signed && value.last().is_some_and(|&last| last >= 0x80);
        if negative || label == u16::MAX || high.iter().any(|&byte| byte != 0) {
            return Err(fail("a label below 0 or above 65534".to_owned()));
        }
        labels.extend(label.to_le_bytes());
    }
    Ok((sides, labels))
}
