//! The IDX format of MNIST and its relatives, plain or gzipped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::dataset::{check_labels, check_no_class_empty};
use crate::pixels::MAX_SIDE;
use crate::{DataError, Dataset, Splits};

/// The published parts, each with images and labels.
pub(crate) const FILES: [[&str; 2]; 2] = [
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
    ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
];

/// Folders in which torchvision puts the files.
const INNER: [&str; 4] = ["raw", "FashionMNIST/raw", "MNIST/raw", "KMNIST/raw"];

/// The folders with at least one of the files: `folder`, or those that torchvision makes in it.
pub(crate) fn places(folder: &Path) -> Vec<PathBuf> {
    if is_in(folder) {
        return vec![folder.to_owned()];
    }
    INNER.iter().map(|inner| folder.join(inner)).filter(|inner| is_in(inner)).collect()
}

/// True if a folder has at least one of the files.
pub(crate) fn is_in(folder: &Path) -> bool {
    FILES.as_flattened().iter().any(|file| find(folder, file).is_some())
}

/// True if a file of this name is one of them.
pub(crate) fn is_name(name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name).replace(".idx", "-idx");
    FILES.as_flattened().contains(&name.as_str())
}

/// Reads both parts from a folder. Unnamed classes are called `0`, `1`, ... up to the largest training label.
pub(crate) fn read(
    folder: &Path,
    name: String,
    classes: Option<Vec<String>>,
) -> Result<Splits, DataError> {
    let [train, test] = FILES.map(|files| Part::read(folder, files));
    let (train, test) = (train?, test?);
    let largest = usize::from(train.labels.iter().copied().max().unwrap_or(0));
    let classes = classes.unwrap_or_else(|| (0..=largest).map(|i| i.to_string()).collect());
    check_labels(&train.label_path, &train.labels, classes.len())?;
    let remedy = if train.labels.contains(&0) {
        "download the file again"
    } else {
        "if the labels count from 1, subtract 1 from each"
    };
    check_no_class_empty(&train.label_path, &train.labels, &classes, remedy)?;
    check_labels(&test.label_path, &test.labels, classes.len())?;
    if train.sides != test.sides {
        let [expected, found] = [train.sides, test.sides].map(|[h, w]| format!("{h}x{w} images"));
        let expected = format!("{expected} as in {}", train.image_path.display());
        return Err(DataError::format(
            &test.image_path,
            expected,
            found,
            "use the files of one data set",
        ));
    }
    Ok(Splits {
        name,
        train: train.into_dataset(classes.clone())?,
        valid: None,
        test: Some(test.into_dataset(classes)?),
        warnings: Vec::new(),
        unreadable: Vec::new(),
    })
}

struct Part {
    image_path: PathBuf,
    label_path: PathBuf,
    images: Vec<u8>,
    labels: Vec<u16>,
    sides: [usize; 2],
}

impl Part {
    fn read(folder: &Path, files: [&str; 2]) -> Result<Self, DataError> {
        let [image_path, label_path] = files.map(|file| {
            find(folder, file).ok_or_else(|| {
                let expected = format!("the file {file} or {file}.gz");
                DataError::format(
                    folder,
                    expected,
                    "neither",
                    "add it: the four files belong together",
                )
            })
        });
        let (image_path, label_path) = (image_path?, label_path?);
        let (images, labels) = (read_file(&image_path, 3)?, read_file(&label_path, 1)?);
        let [count, height, width] = [images.sides[0], images.sides[1], images.sides[2]];
        if count != labels.sides[0] {
            return Err(DataError::CountMismatch {
                images: image_path,
                image_count: count,
                labels: label_path,
                label_count: labels.sides[0],
            });
        }
        let labels = labels.bytes.into_iter().map(u16::from).collect();
        Ok(Self { image_path, label_path, images: images.bytes, labels, sides: [height, width] })
    }

    fn into_dataset(self, classes: Vec<String>) -> Result<Dataset, DataError> {
        let [height, width] = self.sides;
        Dataset::new(self.images, self.labels, [height, width, 1], classes)
    }
}

/// The array in an IDX file: unsigned bytes with one side per dimension.
#[derive(Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) sides: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// A file by its published name or, as some programs unpack it, with a dot in it, or in a folder of its name.
fn find(folder: &Path, file: &str) -> Option<PathBuf> {
    let dotted = file.replace("-idx", ".idx");
    let paths = [file, &dotted].map(|name| {
        [folder.join(name), folder.join(format!("{name}.gz")), folder.join(name).join(name)]
    });
    paths.into_iter().flatten().find(|path| path.is_file())
}

fn read_file(path: &Path, dimensions: u8) -> Result<Array, DataError> {
    let mut file = BufReader::new(File::open(path).map_err(|e| DataError::io(path, e))?);
    let start = file.fill_buf().map_err(|e| DataError::io(path, e))?;
    if start.trim_ascii_start().starts_with(b"<") {
        let remedy = "the server sent a page in place of the file: download it again";
        return Err(DataError::format(path, "an IDX file", "an HTML page", remedy));
    }
    let compressed = start.starts_with(&[0x1f, 0x8b]);
    if compressed {
        whole(&mut MultiGzDecoder::new(file), path, dimensions)
    } else {
        whole(&mut file, path, dimensions)
    }
}

/// Parses an array after which the input must end.
fn whole(input: &mut impl Read, path: &Path, dimensions: u8) -> Result<Array, DataError> {
    let array = parse(input, path, dimensions)?;
    let mut rest = Vec::new();
    input.take(1).read_to_end(&mut rest).map_err(|e| unreadable(path, e))?;
    if rest.is_empty() {
        return Ok(array);
    }
    let expected = format!("{} bytes after the header", array.bytes.len());
    Err(DataError::format(path, expected, "more", "download the file again"))
}

/// Parses one array. Memory grows with the bytes that are there, never with what the header promises.
pub(crate) fn parse(
    input: &mut impl Read,
    path: &Path,
    dimensions: u8,
) -> Result<Array, DataError> {
    let header_length = 4 + 4 * u64::from(dimensions);
    let header = take(input, path, header_length, 0)?;
    let (magic, sides) = header.split_at(4);
    if magic != [0, 0, 8, dimensions] {
        let expected = format!(
            "an IDX file of unsigned bytes in {dimensions} dimensions (0x000008{dimensions:02x})"
        );
        let found = magic.iter().map(|b| format!("{b:02x}")).collect::<String>();
        return Err(DataError::format(
            path,
            expected,
            format!("0x{found}"),
            "check that this is the right file",
        ));
    }
    let sides: Vec<u32> =
        sides.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    let size = sides.iter().try_fold(1u64, |size, &side| size.checked_mul(side.into()));
    let fits = size.is_some_and(|size| usize::try_from(size).is_ok())
        && sides[1..].iter().all(|&s| s <= MAX_SIDE);
    let Some(size) = size.filter(|&size| fits && size > 0) else {
        let found = sides.iter().map(u32::to_string).collect::<Vec<_>>().join(" x ");
        let expected = format!("at least one item, with sides of 1 to {MAX_SIDE}");
        return Err(DataError::format(
            path,
            expected,
            found,
            "the header is damaged, download the file again",
        ));
    };
    let bytes = take(input, path, size, header_length)?;
    Ok(Array { sides: sides.into_iter().map(|side| side as usize).collect(), bytes })
}

/// Exactly `length` bytes, `before` bytes into the file.
fn take(
    input: &mut impl Read,
    path: &Path,
    length: u64,
    before: u64,
) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    match input.take(length).read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(DataError::io(path, error)),
        _ if (bytes.len() as u64) < length => Err(DataError::Truncated {
            path: path.to_owned(),
            expected: before + length,
            found: before + bytes.len() as u64,
        }),
        _ => Ok(bytes),
    }
}

/// An error of the system or of the decompression.
fn unreadable(path: &Path, error: io::Error) -> DataError {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
            DataError::format(
                path,
                "an intact gzip file",
                format!("a damaged one ({error})"),
                "download the file again",
            )
        }
        _ => DataError::io(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::io::Write;

    /// An IDX file of these sides and bytes.
    fn idx(sides: &[u32], bytes: &[u8]) -> Vec<u8> {
        let sides_bytes: Vec<u8> = sides.iter().flat_map(|s| s.to_be_bytes()).collect();
        [&[0, 0, 8, sides.len() as u8], &sides_bytes[..], bytes].concat()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A folder of 4 + 2 images of 2x1 pixels with labels 0, 1, 0, 1 and 1, 0; the training images are compressed.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, bytes: &[u8]| fs::write(dir.path().join(file), bytes).unwrap();
        write("train-images-idx3-ubyte.gz", &gz(&idx(&[4, 2, 1], &[1, 2, 3, 4, 5, 6, 7, 8])));
        write("train-labels-idx1-ubyte", &idx(&[4], &[0, 1, 0, 1]));
        write("t10k-images-idx3-ubyte", &idx(&[2, 2, 1], &[9, 8, 7, 6]));
        write("t10k-labels-idx1-ubyte", &idx(&[2], &[1, 0]));
        dir
    }

    /// The error after one file of [`folder`] was replaced.
    fn error_with(file: &str, bytes: &[u8]) -> DataError {
        let dir = folder();
        fs::write(dir.path().join(file), bytes).unwrap();
        read(dir.path(), "x".into(), None).unwrap_err()
    }

    #[test]
    fn reads_plain_and_compressed_files() {
        let splits = read(folder().path(), "x".into(), None).unwrap();
        assert_eq!(splits.train.image_shape(), [2, 1, 1]);
        assert_eq!(
            (&*splits.train.image(3).unwrap(), splits.train.labels()),
            (&[7, 8][..], &[0, 1, 0, 1][..])
        );
        let test = splits.test.unwrap();
        assert_eq!((&*test.image(0).unwrap(), test.labels()), (&[9, 8][..], &[1, 0][..]));
        assert_eq!(test.classes(), ["0", "1"]);
    }

    #[test]
    fn broken_files_are_named() {
        let good = idx(&[4, 2, 1], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let images = "train-images-idx3-ubyte"; // found before the .gz file
        let text = |bytes: &[u8]| error_with(images, bytes).to_string();
        assert!(matches!(
            error_with(images, &good[..20]),
            DataError::Truncated { expected: 24, found: 20, .. }
        ));
        assert!(matches!(
            error_with(images, &good[..7]),
            DataError::Truncated { expected: 16, found: 7, .. }
        ));
        assert!(matches!(
            error_with(images, &gz(&good)[..25]),
            DataError::Truncated { expected: 24, .. }
        ));
        let (mut damaged, length) = (gz(&good), gz(&good).len());
        damaged[length - 8] ^= 1; // the checksum
        assert!(text(&damaged).contains("an intact gzip file, found a damaged one"));
        assert!(
            text(&gz(&good)[..length - 3]).contains("an intact gzip file, found a damaged one")
        );
        assert!(text(&[&good[..], &[0]].concat()).contains("found more"));
        assert!(text(&idx(&[4], &[0, 1, 0, 1])).contains("expected 16 bytes, found 12"));
        assert!(text(&idx(&[4, 2, 1, 1], &[0; 8])).contains("(0x00000803), found 0x00000804"));
        assert!(text(&idx(&[4, 0, 1], &[])).contains("found 4 x 0 x 1"));
        assert!(text(&idx(&[u32::MAX; 3], &[])).contains("found 4294967295 x"));
        assert!(
            text(&idx(&[u32::MAX, 4096, 4096], &[1]))
                .contains("is truncated: expected 72057594021150736 bytes")
        );
        assert!(text(&idx(&[3, 2, 1], &[0; 6])).contains("found 3 images and 4 labels"));
    }

    #[test]
    fn labels_are_checked() {
        let labels = "train-labels-idx1-ubyte";
        assert!(
            matches!(error_with(labels, &idx(&[4], &[0, 2, 0, 2])), DataError::EmptyClass { class, .. } if class == "1")
        );
        assert!(error_with(labels, &idx(&[4], &[1, 2, 1, 2])).to_string().contains("subtract 1"));
        assert!(matches!(
            error_with("t10k-labels-idx1-ubyte", &idx(&[2], &[0, 2])),
            DataError::Label { index: 1, label: 2, classes: 2, .. }
        ));
        assert!(
            error_with("t10k-images-idx3-ubyte", &idx(&[2, 1, 1], &[0; 2]))
                .to_string()
                .contains("found 1x1 images")
        );
        let dir = folder();
        fs::remove_file(dir.path().join(labels)).unwrap();
        assert!(is_in(dir.path()));
        let text = read(dir.path(), "x".into(), None).unwrap_err().to_string();
        assert!(text.contains("train-labels-idx1-ubyte.gz"), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(dimensions in 1u8..4, sides in prop::collection::vec(0u32..5, 3), rest in any::<Vec<u8>>(), honest in any::<bool>()) {
            let bytes = if honest { idx(&sides[..dimensions.into()], &rest) } else { rest.clone() };
            if let Ok(array) = parse(&mut &bytes[..], Path::new("x"), dimensions) {
                prop_assert_eq!(array.sides.iter().product::<usize>(), array.bytes.len());
                prop_assert!(rest.starts_with(&array.bytes) || !honest);
            }
        }
    }
}
