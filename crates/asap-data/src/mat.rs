//! SVHN as it is published: MATLAB files (version 5) with the images `X` and the labels `y`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::ZlibDecoder;

use crate::dataset::check_no_class_empty;
use crate::pixels::MAX_SIDE;
use crate::{DataError, Dataset, Splits};

/// Training and test images of the cropped digits. The additional training images, `extra_32x32.mat`, are not used.
pub(crate) const FILES: [&str; 2] = ["train_32x32.mat", "test_32x32.mat"];

/// Most bytes of an array.
const MOST: u64 = 1 << 34;

// Types of data elements ("MAT-File Format", table 1-1) and classes of arrays (table 1-3).
const MI_INT8: u32 = 1;
const MI_UINT8: u32 = 2;
const MI_INT32: u32 = 5;
const MI_UINT32: u32 = 6;
const MI_DOUBLE: u32 = 9;
const MI_MATRIX: u32 = 14;
const MI_COMPRESSED: u32 = 15;

/// The folder with both files, if `folder` has one of them.
pub(crate) fn find(folder: &Path) -> Option<PathBuf> {
    FILES.iter().any(|file| folder.join(file).is_file()).then(|| folder.to_owned())
}

/// Reads both parts. The digit 0 has the label 10 in the files, and the class `0` here.
pub(crate) fn read(folder: &Path, name: String) -> Result<Splits, DataError> {
    let classes: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    let part = |file: &str| {
        let path = folder.join(file);
        let (images, labels, shape) = read_file(&path)?;
        Dataset::new(images, labels, shape, classes.clone())
    };
    let train = part(FILES[0])?;
    check_no_class_empty(folder, train.labels(), &classes, "download the files again")?;
    let mut warnings = Vec::new();
    if folder.join("extra_32x32.mat").is_file() {
        warnings.push("extra_32x32.mat, with easier training images, is not used".to_owned());
    }
    Ok(Splits {
        name,
        train,
        valid: None,
        test: Some(part(FILES[1])?),
        warnings,
        unreadable: Vec::new(),
    })
}

type Content = (Vec<u8>, Vec<u16>, [usize; 3]);

fn read_file(path: &Path) -> Result<Content, DataError> {
    let file = BufReader::new(File::open(path).map_err(|e| DataError::io(path, e))?);
    parse(file).map_err(|found| {
        let expected = "a MATLAB file of version 5 with X [32, 32, 3, n] and y [n, 1]";
        DataError::format(path, expected, found, "download it again")
    })
}

/// Images `[n, height, width, channels]`, labels and the shape of an image.
fn parse(mut from: impl Read) -> Result<Content, String> {
    let header = taken(&mut from, 128)?;
    if header[124..] != [0, 1, b'I', b'M'] {
        return Err("another file".to_owned());
    }
    let (mut images, mut labels) = (None, None);
    while images.is_none() || labels.is_none() {
        let mut first = [0];
        if from.read(&mut first).map_err(|error| error.to_string())? == 0 {
            break;
        }
        let (kind, length) = tag(&mut first.chain(&mut from))?;
        let content = (&mut from).take(length.into());
        let array = match kind {
            MI_COMPRESSED => {
                let mut inner = ZlibDecoder::new(content);
                let (kind, length) = tag(&mut inner)?;
                let mut content = inner.by_ref().take(length.into());
                let array = if kind == MI_MATRIX { matrix(&mut content)? } else { None };
                skip(&mut content)?;
                // The checksum is compared at the end only.
                if inner.read(&mut [0]).map_err(|e| e.to_string())? > 0 {
                    return Err("more than an array in an element".to_owned());
                }
                skip(&mut inner.into_inner())?;
                array
            }
            MI_MATRIX => {
                let mut content = content;
                let array = matrix(&mut content)?;
                skip(&mut content)?;
                array
            }
            _ => return Err(format!("an element of type {kind}")),
        };
        match array {
            Some(array) if array.name == "X" => images = Some(array),
            Some(array) if array.name == "y" => labels = Some(array),
            _ => {}
        }
    }
    let (Some(images), Some(labels)) = (images, labels) else {
        return Err("not both, X and y, as bytes or doubles".to_owned());
    };
    let &[height, width, channels @ (1 | 3), count] = &images.sides[..] else {
        return Err(format!("X {:?}", images.sides));
    };
    let sides = 1..=MAX_SIDE as usize;
    if images.kind != MI_UINT8 || ![height, width].iter().all(|side| sides.contains(side)) {
        return Err("X of other values than bytes, or with sides outside 1 to 4096".to_owned());
    }
    if labels.values() != count {
        return Err(format!("{count} images and {} labels", labels.values()));
    }
    let digit = |index: usize| {
        let label = match labels.kind {
            MI_UINT8 => f64::from(labels.bytes[index]),
            _ => f64::from_le_bytes(labels.bytes.as_chunks::<8>().0[index]),
        };
        let known = label.fract() == 0.0 && (0.0..=10.0).contains(&label);
        known.then_some(label as u16 % 10).ok_or_else(|| format!("the label {label}"))
    };
    let digits = (0..count).map(digit).collect::<Result<_, _>>()?;
    // In memory, the first index runs fastest.
    let mut bytes = Vec::with_capacity(images.bytes.len());
    for image in images.bytes.chunks_exact(height * width * channels) {
        for y in 0..height {
            for x in 0..width {
                bytes.extend((0..channels).map(|c| image[(c * width + x) * height + y]));
            }
        }
    }
    Ok((bytes, digits, [height, width, channels]))
}

struct Array {
    name: String,
    sides: Vec<usize>,
    kind: u32,
    bytes: Vec<u8>,
}

impl Array {
    fn values(&self) -> usize {
        self.bytes.len() / if self.kind == MI_DOUBLE { 8 } else { 1 }
    }
}

/// A dense array of bytes or doubles; `None` for another one.
fn matrix(mut from: impl Read) -> Result<Option<Array>, String> {
    let (kind, flags) = element(&mut from, 16)?;
    let class = flags.first().copied().unwrap_or(0);
    if kind != MI_UINT32 || ![6, 9].contains(&class) {
        return Ok(None);
    }
    let (kind, sides) = element(&mut from, 64)?;
    let side = |bytes: &[u8; 4]| usize::try_from(i32::from_le_bytes(*bytes)).ok();
    let sides = sides.as_chunks::<4>().0.iter().map(side).collect::<Option<Vec<_>>>();
    let (MI_INT32, Some(sides)) = (kind, sides) else {
        return Err("an array without shape".to_owned());
    };
    let (kind, name) = element(&mut from, 64)?;
    if kind != MI_INT8 {
        return Err("an array without name".to_owned());
    }
    let (kind, bytes) = element(&mut from, MOST)?;
    let size = match kind {
        MI_UINT8 => 1,
        MI_DOUBLE => 8,
        _ => return Ok(None),
    };
    let count = sides.iter().try_fold(size, |count: usize, &side| count.checked_mul(side));
    if count != Some(bytes.len()) {
        return Err(format!("{} bytes for an array of {sides:?}", bytes.len()));
    }
    Ok(Some(Array { name: String::from_utf8_lossy(&name).into_owned(), sides, kind, bytes }))
}

/// Type and content of a part of an array; what does not fill 8 bytes is followed by padding.
fn element(from: &mut impl Read, most: u64) -> Result<(u32, Vec<u8>), String> {
    let head = taken(from, 4)?;
    let word = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if word >> 16 > 0 {
        // A small element: type and length in one word, and the content in the next.
        let length = (word >> 16) as usize;
        let mut content = taken(from, 4)?;
        content.truncate(length);
        return Ok((word & 0xffff, content));
    }
    let length = taken(from, 4)?;
    let length = u64::from(u32::from_le_bytes([length[0], length[1], length[2], length[3]]));
    if length > most {
        return Err(format!("a part of {length} bytes"));
    }
    let content = taken(from, length)?;
    let mut padding = Vec::new();
    // The last part may lack its padding.
    from.take(length.next_multiple_of(8) - length)
        .read_to_end(&mut padding)
        .map_err(|e| e.to_string())?;
    Ok((word, content))
}

/// Reads to the end.
fn skip(from: &mut impl Read) -> Result<(), String> {
    std::io::copy(from, &mut std::io::sink()).map(drop).map_err(|error| error.to_string())
}

fn tag(from: &mut impl Read) -> Result<(u32, u32), String> {
    let head = taken(from, 8)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    Ok((word(0), word(4)))
}

/// Exactly so many bytes. Memory grows with those that are there.
fn taken(from: &mut impl Read, length: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if (bytes.len() as u64) < length { Err("an end too early".to_owned()) } else { Ok(bytes) }
}
