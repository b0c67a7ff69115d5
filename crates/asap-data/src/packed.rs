//! Packed data sets: the decoded images of every part in one file, which is loaded at once or read image by image.
//!
//! The layout: `ASAPPACK`, version (u32), length of the header (u64), its checksum (u32), the header (JSON); then of every part its labels
//! (u16 each), the checksums of its images (u32 each) and the images. Numbers are little-endian, checksums are CRC-32.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::pixels::{MAX_SIDE, buffer};
use crate::{DataError, Dataset, ImageSource, LoadOptions, Splits};

const MAGIC: &[u8; 8] = b"ASAPPACK";
const VERSION: u32 = 1;
/// Bytes before the header.
const START: u64 = 24;
/// Longest header.
const MAX_HEADER: u64 = 1 << 26;

/// Names of the parts.
const PARTS: [&str; 3] = ["train", "valid", "test"];

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    name: String,
    /// Height, width and channels.
    shape: [usize; 3],
    classes: Vec<String>,
    parts: Vec<Count>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Count {
    name: String,
    images: usize,
    /// The checksum of the labels.
    labels: u32,
}

/// True if a file begins like a packed data set.
pub(crate) fn is_packed(path: &Path) -> bool {
    let mut start = [0; 8];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *MAGIC
}

/// Writes a data set into one file, replacing it as a whole; `progress` gets the number of images so far, and of all. Returns the
/// length of the file.
///
/// # Errors
/// An image that cannot be read, or a file that cannot be written; nothing is left then.
pub fn pack(
    splits: &Splits,
    path: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<u64, DataError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let partial = path.with_file_name(name);
    let written = write(splits, &partial, progress).and_then(|length| {
        std::fs::rename(&partial, path).map_err(|e| DataError::write(path, e))?;
        Ok(length)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

fn write(
    splits: &Splits,
    path: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<u64, DataError> {
    let fail = |error| DataError::write(path, error);
    let data = &splits.train;
    let bytes_of = |labels: &[u16]| -> Vec<u8> {
        labels.iter().flat_map(|label| label.to_le_bytes()).collect()
    };
    let count = |(name, data): (&str, &Dataset)| Count {
        name: name.into(),
        images: data.len(),
        labels: crc(&bytes_of(data.labels())),
    };
    let header = Header {
        name: splits.name.clone(),
        shape: data.image_shape(),
        classes: data.classes().to_vec(),
        parts: splits.parts().map(count).collect(),
    };
    let header = serde_json::to_vec(&header).map_err(|error| fail(error.into()))?;
    let file = File::create(path).map_err(fail)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let start = [
        &MAGIC[..],
        &VERSION.to_le_bytes(),
        &(header.len() as u64).to_le_bytes(),
        &crc(&header).to_le_bytes(),
        &header,
    ];
    file.write_all(&start.concat()).map_err(fail)?;
    let (mut done, all) = (0, splits.parts().map(|(_, data)| data.len()).sum());
    for (_, data) in splits.parts() {
        file.write_all(&bytes_of(data.labels())).map_err(fail)?;
        let sums_at = file.stream_position().map_err(fail)?;
        let mut sums = vec![0; 4 * data.len()];
        file.write_all(&sums).map_err(fail)?;
        for first in (0..data.len()).step_by(data.at_a_time()) {
            let chosen = first..data.len().min(first + data.at_a_time());
            let images = chosen.into_par_iter().map(|index| data.image(index));
            for (index, image) in (first..).zip(images.collect::<Result<Vec<_>, _>>()?) {
                sums[4 * index..][..4].copy_from_slice(&crc(&image).to_le_bytes());
                file.write_all(&image).map_err(fail)?;
                done += 1;
            }
            progress(done, all);
        }
        let end = file.stream_position().map_err(fail)?;
        file.seek(SeekFrom::Start(sums_at)).map_err(fail)?;
        file.write_all(&sums).map_err(fail)?;
        file.seek(SeekFrom::Start(end)).map_err(fail)?;
    }
    let length = file.stream_position().map_err(fail)?;
    let file = file.into_inner().map_err(|error| fail(error.into_error()))?;
    file.sync_all().map_err(fail)?;
    Ok(length)
}

/// Reads a packed data set: into memory if it fits, else its images are read when they are needed.
pub(crate) fn read(path: &Path, options: &LoadOptions) -> Result<Splits, DataError> {
    let fail = |error| DataError::io(path, error);
    let damaged = |expected: &str, found: String| {
        let remedy = "make it again with `asap data convert`";
        DataError::format(path, expected, found, remedy)
    };
    let file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    let mut reader = BufReader::new(&file);
    let mut start = [0; START as usize];
    reader.read_exact(&mut start).map_err(|e| damaged("a packed data set", e.to_string()))?;
    let word =
        |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
    if word(8) != VERSION {
        let expected = format!("a packed data set of version {VERSION}");
        let remedy = "make it again with this version's `asap data convert`";
        return Err(DataError::format(path, expected, format!("version {}", word(8)), remedy));
    }
    let header_length = u64::from(word(12)) | u64::from(word(16)) << 32;
    let mut header = Vec::new();
    if header_length <= MAX_HEADER {
        reader.by_ref().take(header_length).read_to_end(&mut header).map_err(fail)?;
    }
    if header.len() as u64 != header_length || crc(&header) != word(20) {
        return Err(damaged("an intact header", "a damaged one".to_owned()));
    }
    let header: Header = serde_json::from_slice(&header)
        .map_err(|error| damaged("a header in JSON", error.to_string()))?;
    let Header { name: _, shape, classes, parts } = header;
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let in_order = PARTS.iter().filter(|part| names.contains(part)).eq(&names);
    let size = shape.iter().try_fold(1u64, |size, &side| size.checked_mul(side as u64));
    let good =
        in_order && names.contains(&PARTS[0]) && shape.iter().all(|&s| s <= MAX_SIDE as usize);
    let Some(size) = size.filter(|&size| good && size > 0) else {
        return Err(damaged("parts and a shape", format!("{names:?} and {shape:?}")));
    };
    let bytes = |images: usize| (images as u64).checked_mul(size.checked_add(6)?);
    let whole = parts
        .iter()
        .try_fold(START + header_length, |sum, part| sum.checked_add(bytes(part.images)?));
    if whole != Some(length) {
        return Err(DataError::Truncated {
            path: path.to_owned(),
            expected: whole.unwrap_or(u64::MAX),
            found: length,
        });
    }
    let in_memory = options.memory.is_none_or(|memory| length <= memory);
    let file = Arc::new(File::open(path).map_err(fail)?);
    let mut at = START + header_length;
    let mut datasets = [None, None, None];
    for part in &parts {
        let mut numbers = vec![0; 6 * part.images];
        read_at(&file, at, &mut numbers).map_err(fail)?;
        let (labels, sums) = numbers.split_at(2 * part.images);
        if crc(labels) != part.labels {
            let expected = format!("the {} labels as they were written", part.name);
            return Err(damaged(&expected, "damaged ones".to_owned()));
        }
        let labels = labels.as_chunks::<2>().0.iter().map(|&label| u16::from_le_bytes(label));
        let sums = sums.as_chunks::<4>().0.iter().map(|&sum| u32::from_le_bytes(sum));
        let images = Packed {
            path: path.to_owned(),
            part: part.name.clone(),
            file: file.clone(),
            at: at + numbers.len() as u64,
            shape,
            sums: sums.collect(),
        };
        let data = match in_memory {
            true => Dataset::new(images.all()?, labels.collect(), shape, classes.clone()),
            false => Dataset::from_source(Arc::new(images), labels.collect(), classes.clone()),
        };
        let data = data.map_err(|error| damaged("images with labels", error.to_string()))?;
        let place = PARTS.iter().position(|name| *name == part.name).unwrap_or_default();
        datasets[place] = Some(data);
        at += bytes(part.images).unwrap_or_default();
    }
    let [train, valid, test] = datasets;
    let train = train.ok_or_else(|| damaged("training images", "none".to_owned()))?;
    Ok(Splits {
        name: path.display().to_string(),
        train,
        valid,
        test,
        warnings: Vec::new(),
        unreadable: Vec::new(),
    })
}

/// The images of a part in a file.
#[derive(Debug)]
struct Packed {
    path: PathBuf,
    part: String,
    file: Arc<File>,
    /// Position of the first image.
    at: u64,
    shape: [usize; 3],
    /// The checksum of every image.
    sums: Vec<u32>,
}

impl Packed {
    /// All images, one after the other.
    fn all(&self) -> Result<Vec<u8>, DataError> {
        let size: usize = self.shape.iter().product();
        let mut images = buffer(self.count(), self.shape)?;
        let read = |(index, out): (usize, &mut [u8])| self.read_into(index, out);
        images.par_chunks_exact_mut(size).enumerate().try_for_each(read)?;
        Ok(images)
    }

    fn read_into(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        let at = self.at + (index * out.len()) as u64;
        read_at(&self.file, at, out).map_err(|e| DataError::io(&self.path, e))?;
        if crc(out) == self.sums[index] {
            return Ok(());
        }
        let expected = format!("{} image {index} as it was written", self.part);
        let remedy = "make the file again with `asap data convert`";
        Err(DataError::format(&self.path, expected, "a damaged one", remedy))
    }
}

impl ImageSource for Packed {
    fn count(&self) -> usize {
        self.sums.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let mut image = vec![0; self.shape.iter().product()];
        self.read_into(index, &mut image)?;
        Ok(Cow::Owned(image))
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Reads bytes at a position, from any thread.
#[cfg(unix)]
fn read_at(file: &File, at: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut at: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, out, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out = &mut out[read..];
        at += read as u64;
    }
    Ok(())
}
