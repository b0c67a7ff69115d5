//! CIFAR-10 and CIFAR-100 in their authors' binary format (per image the labels, then three planes of 32x32 bytes) and in their
//! Python format (the same, in pickles).

use std::fs;
use std::path::{Path, PathBuf};

use crate::dataset::{check_labels, check_no_class_empty};
use crate::pickle::{Id, Pickle};
use crate::{DataError, Dataset, Splits};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

/// Largest pickle that is read; the largest published one has 155 MB.
const MAX_PICKLE: u64 = 1 << 30;

/// The differences between the forms.
pub(crate) struct Form {
    /// The folder inside the published archive.
    pub(crate) folder: &'static str,
    /// The published archives, which are read as they are.
    pub(crate) archive: &'static str,
    pub(crate) train: &'static [&'static str],
    pub(crate) test: &'static str,
    pub(crate) names: &'static str,
    classes: usize,
    labels: Labels,
    /// Images in each training file, as published.
    train_images: usize,
}

/// Where the labels are.
#[derive(Clone, Copy)]
enum Labels {
    /// So many bytes before the pixels; the last one is the label.
    Bytes(usize),
    /// The keys of labels and, in the file of names, of the names.
    Keys(&'static str, &'static str),
}

pub(crate) const CIFAR10: Form = Form {
    folder: "cifar-10-batches-bin",
    archive: "cifar-10-binary.tar.gz",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    names: "batches.meta.txt",
    classes: 10,
    labels: Labels::Bytes(1),
    train_images: 10_000,
};

pub(crate) const CIFAR100: Form = Form {
    folder: "cifar-100-binary",
    archive: "cifar-100-binary.tar.gz",
    train: &["train.bin"],
    test: "test.bin",
    names: "fine_label_names.txt",
    classes: 100,
    labels: Labels::Bytes(2),
    train_images: 50_000,
};

pub(crate) const CIFAR10_PYTHON: Form = Form {
    folder: "cifar-10-batches-py",
    archive: "cifar-10-python.tar.gz",
    train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
    test: "test_batch",
    names: "batches.meta",
    labels: Labels::Keys("labels", "label_names"),
    ..CIFAR10
};

pub(crate) const CIFAR100_PYTHON: Form = Form {
    folder: "cifar-100-python",
    archive: "cifar-100-python.tar.gz",
    train: &["train"],
    test: "test",
    names: "meta",
    labels: Labels::Keys("fine_labels", "fine_label_names"),
    ..CIFAR100
};

/// All forms; the binary one first.
pub(crate) static FORMS: [Form; 4] = [CIFAR10, CIFAR100, CIFAR10_PYTHON, CIFAR100_PYTHON];

const TEST_IMAGES: usize = 10_000;

impl Form {
    /// The folder with the files: `folder`, or the published archive's folder in it.
    pub(crate) fn find(&self, folder: &Path) -> Option<PathBuf> {
        let has_files = |folder: &PathBuf| {
            self.train.iter().chain([&self.test]).all(|f| folder.join(f).is_file())
        };
        let has_some = |folder: &PathBuf| {
            folder.join(self.train[0]).is_file() || folder.join(self.test).is_file()
        };
        // Folders of a user's own images may have files called `train` and `test`, too.
        let has_names = |folder: &PathBuf| folder.join(self.names).is_file();
        let candidates = [folder.to_owned(), folder.join(self.folder)];
        if matches!(self.labels, Labels::Keys(..)) && !candidates.iter().any(has_names) {
            return None;
        }
        candidates
            .iter()
            .find(|f| has_files(f))
            .or(candidates.iter().find(|f| has_some(f)))
            .cloned()
    }

    /// Reads both parts from a folder that [`Form::find`] returned.
    pub(crate) fn read(&self, folder: &Path, name: String) -> Result<Splits, DataError> {
        let mut warnings = Vec::new();
        let names = folder.join(self.names);
        let bytes = read_bytes(&names, MAX_PICKLE)?;
        let classes = match self.labels {
            Labels::Bytes(_) => parse_names(&names, &bytes, self.classes)?,
            Labels::Keys(_, key) => pickled_names(&names, &bytes, key, self.classes)?,
        };
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for file in self.train {
            self.read_file(
                &folder.join(file),
                self.train_images,
                &mut images,
                &mut labels,
                &mut warnings,
            )?;
        }
        check_no_class_empty(folder, &labels, &classes, "download the files again")?;
        let train = Dataset::new(images, labels, [SIDE, SIDE, 3], classes.clone())?;
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        self.read_file(
            &folder.join(self.test),
            TEST_IMAGES,
            &mut images,
            &mut labels,
            &mut warnings,
        )?;
        let test = Dataset::new(images, labels, [SIDE, SIDE, 3], classes)?;
        Ok(Splits { name, train, valid: None, test: Some(test), warnings, unreadable: Vec::new() })
    }

    fn read_file(
        &self,
        path: &Path,
        published: usize,
        images: &mut Vec<u8>,
        labels: &mut Vec<u16>,
        warnings: &mut Vec<String>,
    ) -> Result<(), DataError> {
        let (new_images, new_labels) = match self.labels {
            Labels::Bytes(label_bytes) => {
                let record = label_bytes + 3 * PIXELS;
                let bytes = read_bytes(path, (published * record) as u64)?;
                parse(path, &bytes, label_bytes, self.classes)?
            }
            Labels::Keys(key, _) => {
                let bytes = read_bytes(path, MAX_PICKLE)?;
                parse_pickle(path, &bytes, key, self.classes)?
            }
        };
        if new_labels.len() < published {
            let count = new_labels.len();
            warnings.push(format!(
                "{} has {count} images, the published file has {published}",
                path.display()
            ));
        }
        images.extend(new_images);
        labels.extend(new_labels);
        Ok(())
    }
}

/// The bytes of a file that has at most `most`.
fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let length = fs::metadata(path).map_err(|e| DataError::io(path, e))?.len();
    if length > most {
        let (expected, found) = (format!("at most {most} bytes"), format!("{length}"));
        return Err(DataError::format(path, expected, found, "download the file again"));
    }
    fs::read(path).map_err(|e| DataError::io(path, e))
}

/// Images `[n, 32, 32, 3]` and labels in a pickle.
fn parse_pickle(
    path: &Path,
    bytes: &[u8],
    key: &str,
    classes: usize,
) -> Result<(Vec<u8>, Vec<u16>), DataError> {
    let expected = format!("a pickle with the keys data (bytes [n, 3072]) and {key}");
    let fail =
        |found: String| DataError::format(path, expected.clone(), found, "download the file again");
    let pickle = Pickle::parse(bytes).map_err(&fail)?;
    let array = pickle.get("data").and_then(|data| pickle.array(data));
    let fits = |shape: &[usize]| matches!(shape, [_, width] if *width == 3 * PIXELS);
    let Some((shape, planes)) = array.filter(|(shape, _)| fits(shape)) else {
        return Err(fail("no such data".to_owned()));
    };
    let label = |&id: &Id| pickle.number(id).and_then(|label| u16::try_from(label).ok());
    let labels = pickle.get(key).and_then(|labels| pickle.items(labels));
    let labels = labels.and_then(|labels| labels.iter().map(label).collect::<Option<Vec<u16>>>());
    let labels = labels.ok_or_else(|| fail("no such labels".to_owned()))?;
    if labels.len() != shape[0] || labels.is_empty() {
        return Err(fail(format!("{} images and {} labels", shape[0], labels.len())));
    }
    check_labels(path, &labels, classes)?;
    Ok((planes.chunks_exact(3 * PIXELS).flat_map(interleaved).collect(), labels))
}

/// The class names in a pickle.
fn pickled_names(
    path: &Path,
    bytes: &[u8],
    key: &str,
    count: usize,
) -> Result<Vec<String>, DataError> {
    let fail = |found: String| {
        let expected = format!("a pickle with {count} names under the key {key}");
        DataError::format(path, expected, found, "download the file again")
    };
    let pickle = Pickle::parse(bytes).map_err(&fail)?;
    let name = |&id: &Id| pickle.bytes(id).map(|name| String::from_utf8_lossy(name).into_owned());
    let names = pickle.get(key).and_then(|names| pickle.items(names));
    let names = names.and_then(|names| names.iter().map(name).collect::<Option<Vec<_>>>());
    let names = names.ok_or_else(|| fail("none".to_owned()))?;
    if names.len() == count { Ok(names) } else { Err(fail(names.len().to_string())) }
}

/// Three planes as pixels.
fn interleaved(planes: &[u8]) -> impl Iterator<Item = u8> {
    (0..PIXELS).flat_map(|at| [planes[at], planes[PIXELS + at], planes[2 * PIXELS + at]])
}

/// Images `[n, 32, 32, 3]` and labels in the bytes of a file.
fn parse(
    path: &Path,
    bytes: &[u8],
    label_bytes: usize,
    classes: usize,
) -> Result<(Vec<u8>, Vec<u16>), DataError> {
    let record = label_bytes + 3 * PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let expected = (bytes.len() / record + 1) * record;
        return Err(DataError::Truncated {
            path: path.to_owned(),
            expected: expected as u64,
            found: bytes.len() as u64,
        });
    }
    let mut images = Vec::with_capacity(bytes.len() / record * 3 * PIXELS);
    let mut labels = Vec::with_capacity(bytes.len() / record);
    for record in bytes.chunks_exact(record) {
        let (label, planes) = record.split_at(label_bytes);
        labels.push(u16::from(label[label_bytes - 1]));
        images.extend(interleaved(planes));
    }
    check_labels(path, &labels, classes)?;
    Ok((images, labels))
}

/// Class names in a text file, one per line; empty lines are skipped.
fn parse_names(path: &Path, bytes: &[u8], count: usize) -> Result<Vec<String>, DataError> {
    let wrong = |found: String| {
        let expected = format!("{count} class names, one per line");
        DataError::format(path, expected, found, "download the file again")
    };
    let text =
        std::str::from_utf8(bytes).map_err(|e| wrong(format!("a file that is not text ({e})")))?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if names.len() == count { Ok(names) } else { Err(wrong(format!("{} names", names.len()))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATH: &str = "x.bin";

    /// An image whose planes hold 1, 2 and 3, but for the second pixel: 11, 12, 13.
    fn record(labels: &[u8]) -> Vec<u8> {
        let mut record = labels.to_vec();
        for plane in 1..=3 {
            record.extend([plane; PIXELS]);
            let second = record.len() - PIXELS + 1;
            record[second] = 10 + plane;
        }
        record
    }

    /// A folder in the published form of CIFAR-10 or CIFAR-100, with one image of every class in every file.
    fn folder(form: &Form) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join(form.folder);
        fs::create_dir(&inner).unwrap();
        let labels = |class| match form.labels {
            Labels::Bytes(2) => vec![7, class as u8],
            _ => vec![class as u8],
        };
        let bytes: Vec<u8> = (0..form.classes).flat_map(|class| record(&labels(class))).collect();
        for file in form.train.iter().chain([&form.test]) {
            fs::write(inner.join(file), &bytes).unwrap();
        }
        let names: String = (0..form.classes).map(|i| format!("name {i}\n")).collect();
        fs::write(inner.join(form.names), names + "\n").unwrap();
        dir
    }

    #[test]
    fn reads_both_forms() {
        for form in [CIFAR10, CIFAR100] {
            let dir = folder(&form);
            let found = form.find(dir.path()).unwrap();
            assert_eq!(found, dir.path().join(form.folder));
            assert_eq!(form.find(&found).as_ref(), Some(&found));
            let splits = form.read(&found, "x".into()).unwrap();
            assert_eq!(splits.train.len(), form.train.len() * form.classes);
            assert_eq!(splits.train.image_shape(), [32, 32, 3]);
            assert_eq!(splits.train.image(1).unwrap()[..9], [1, 2, 3, 11, 12, 13, 1, 2, 3]);
            assert_eq!(splits.train.labels()[form.classes - 1], form.classes as u16 - 1);
            assert_eq!(splits.train.classes()[1], "name 1");
            assert_eq!(splits.test.unwrap().len(), form.classes);
            assert_eq!(
                splits.warnings.len(),
                form.train.len() + 1,
                "every file is shorter than published"
            );
        }
    }

    #[test]
    fn broken_files_are_named() {
        let good = record(&[3]);
        let error = |bytes: &[u8]| parse(Path::new(PATH), bytes, 1, 10).unwrap_err();
        assert!(matches!(
            error(&good[..3000]),
            DataError::Truncated { expected: 3073, found: 3000, .. }
        ));
        assert!(matches!(error(&[]), DataError::Truncated { expected: 3073, found: 0, .. }));
        assert!(matches!(error(&record(&[10])), DataError::Label { index: 0, label: 10, .. }));
        let one_based: Vec<u8> = (1..=10).flat_map(|label| record(&[label])).collect();
        assert!(error(&one_based).to_string().contains("index 9; the labels seem to count from 1"));

        let dir = folder(&CIFAR10);
        let inner = dir.path().join(CIFAR10.folder);
        fs::File::create(inner.join("data_batch_2.bin")).unwrap().set_len(1 << 40).unwrap();
        let text = CIFAR10.read(&inner, "x".into()).unwrap_err().to_string();
        assert!(text.contains("data_batch_2.bin: expected at most 30730000 bytes"), "{text}");
        fs::remove_file(inner.join("data_batch_2.bin")).unwrap();
        let text =
            CIFAR10.read(&CIFAR10.find(dir.path()).unwrap(), "x".into()).unwrap_err().to_string();
        assert!(text.contains("cannot read") && text.contains("data_batch_2.bin"), "{text}");
        fs::write(inner.join(CIFAR10.names), "cat\ndog\n").unwrap();
        let text = CIFAR10.read(&inner, "x".into()).unwrap_err().to_string();
        assert!(text.contains("expected 10 class names, one per line, found 2 names"), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(start in any::<Vec<u8>>(), length in 0usize..10_000, label_bytes in 1usize..3) {
            let mut bytes = start;
            bytes.resize(length, 9);
            let length = bytes.len();
            if let Ok((images, labels)) = parse(Path::new(PATH), &bytes, label_bytes, 10) {
                prop_assert_eq!(images.len() + label_bytes * labels.len(), length);
            }
        }

        #[test]
        fn any_pickle_parses_or_fails(bytes in any::<Vec<u8>>()) {
            if let Ok((images, labels)) = parse_pickle(Path::new(PATH), &bytes, "labels", 10) {
                prop_assert_eq!(images.len(), 3 * PIXELS * labels.len());
            }
        }

        #[test]
        fn any_names_parse_or_fail(bytes in any::<Vec<u8>>(), count in 0usize..4) {
            if let Ok(names) = parse_names(Path::new(PATH), &bytes, count) {
                prop_assert_eq!(names.len(), count);
            }
        }
    }
}
