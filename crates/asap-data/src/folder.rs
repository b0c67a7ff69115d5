//! Users' own images: one folder per class, optionally split into `train/`, `valid/` and `test/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::dataset::check_no_class_empty;
use crate::error::FORMATS;
use crate::picture::{Header, IMAGE_ENDINGS, MADE_GREY, buffer, header, read_image};
use crate::{DataError, Dataset, LoadOptions, Splits, stratified_halves};

/// Longest side of images if no size is given.
const MAX_DEFAULT_SIDE: usize = 64;

/// Number of unreadable files named in a warning.
const NAMED: usize = 3;

/// The remedy for a class without images.
const NO_FILES: &str = "put image files into its folder, or remove the folder";

/// Reads the images below `root`, all in one size; in colour if any of them is.
///
/// File names, headers and pixels are read in three passes, so that limit and size are known before memory is
/// allocated.
pub(crate) fn read(root: &Path, options: &LoadOptions) -> Result<Splits, DataError> {
    let mut warnings = Vec::new();
    let Tree { classes, mut train, mut valid, mut test } =
        Tree::list(root, options, &mut warnings)?;
    for part in [Some(&mut train), valid.as_mut(), test.as_mut()].into_iter().flatten() {
        part.limit(classes.len(), options);
        part.read_headers(options.skip_corrupt)?;
    }
    let all = || {
        [Some(&train), valid.as_ref(), test.as_ref()].into_iter().flatten().flat_map(|p| &p.headers)
    };
    let found = if all().all(|header| header.grey) { 1 } else { 3 };
    let channels = options.channels.unwrap_or(found);
    let (height, width) = options.size.unwrap_or_else(|| common_size(&train.headers));
    let odd = all().filter(|header| (header.height, header.width) != (height, width)).count();
    if odd > 0 && options.size.is_none() {
        warnings.push(format!(
            "resized {odd} images to {height}x{width}, the most common size with sides up to {MAX_DEFAULT_SIDE}; \
             set data.size to choose another"
        ));
    }
    let coloured = all().filter(|header| !header.grey).count();
    if channels == 1 && coloured > 0 {
        warnings.push(format!("{coloured} {MADE_GREY}"));
    }
    let mut pixels =
        |part: Part| part.read_pixels([height, width, channels], &classes, options, &mut warnings);
    let train_data = pixels(train)?;
    let valid = valid.map(&mut pixels).transpose()?;
    let test = test.map(&mut pixels).transpose()?;
    if options.limit.is_none() {
        check_no_class_empty(root, train_data.labels(), &classes, NO_FILES)?;
    }
    Ok(Splits { name: root.display().to_string(), train: train_data, valid, test, warnings })
}

/// The most common height and width (the smallest in a tie), reduced to the default limit.
fn common_size(headers: &[Header]) -> (usize, usize) {
    let mut counts = BTreeMap::new();
    for header in headers {
        *counts.entry((header.height * header.width, header.height, header.width)).or_insert(0) +=
            1;
    }
    let common = counts.into_iter().rev().max_by_key(|&(_, count)| count);
    let (height, width) = common.map_or((1, 1), |((_, height, width), _)| (height, width));
    let longest = height.max(width);
    if longest <= MAX_DEFAULT_SIDE {
        return (height, width);
    }
    let shrink = |side: usize| (side * MAX_DEFAULT_SIDE).div_ceil(longest);
    (shrink(height), shrink(width))
}

/// The image files below a folder.
struct Tree {
    classes: Vec<String>,
    train: Part,
    valid: Option<Part>,
    test: Option<Part>,
}

impl Tree {
    fn list(
        root: &Path,
        options: &LoadOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Self, DataError> {
        // A folder of that name that holds images is a class, such as the trains of CIFAR-100.
        let holds_classes =
            |path: &PathBuf| class_folders(path).is_ok_and(|inner| !inner.is_empty());
        let split = |names: &[&str]| names.iter().map(|name| root.join(name)).find(holds_classes);
        let (train, valid, test) = (split(&["train"]), split(&["valid", "val"]), split(&["test"]));
        if let (None, Some(folder)) = (&train, valid.as_ref().or(test.as_ref())) {
            let expected = format!("a folder train/ next to {}", folder.display());
            return Err(DataError::format(root, expected, "none", "add it"));
        }
        let top = train.as_deref().unwrap_or(root);
        let classes: Vec<String> = class_folders(top)?.into_iter().map(|(name, _)| name).collect();
        if !(2..=Dataset::MAX_CLASSES).contains(&classes.len()) {
            let expected = format!("2 to {} folders, one per class", Dataset::MAX_CLASSES);
            let remedy = "put the images of every class into a folder with its name";
            return Err(DataError::format(top, expected, classes.len().to_string(), remedy));
        }
        let whole = Part::list(top, &classes, warnings)?;
        check_no_class_empty(top, &whole.labels(), &classes, NO_FILES)?;
        if train.is_some() {
            let used = |path: &PathBuf| {
                [&train, &valid, &test].into_iter().flatten().any(|folder| folder == path)
            };
            for (name, _) in class_folders(root)?.into_iter().filter(|(_, path)| !used(path)) {
                warnings.push(format!("ignored the folder {name}/ next to train/"));
            }
            let mut part = |folder: PathBuf| Part::list(&folder, &classes, warnings);
            let valid = valid.map(&mut part).transpose()?;
            let test = test.map(&mut part).transpose()?;
            return Ok(Self { classes, train: whole, valid, test });
        }
        let (train, test) = whole.divide(&classes, options)?;
        Ok(Self { classes, train, valid: None, test })
    }
}

/// Image files with their labels.
struct Part {
    folder: PathBuf,
    files: Vec<(PathBuf, u16)>,
    headers: Vec<Header>,
    skipped: Vec<DataError>,
}

impl Part {
    /// Lists the files of every class, sorted by name.
    fn list(
        folder: &Path,
        classes: &[String],
        warnings: &mut Vec<String>,
    ) -> Result<Self, DataError> {
        let folders = class_folders(folder)?;
        let names: Vec<&String> = folders.iter().map(|(name, _)| name).collect();
        if let Some(odd) = classes
            .iter()
            .find(|c| !names.contains(c))
            .or(names.into_iter().find(|n| !classes.contains(n)))
        {
            let expected = format!("the same {} class folders as for training", classes.len());
            let found = if classes.contains(odd) {
                format!("no folder `{odd}`")
            } else {
                format!("an additional folder `{odd}`")
            };
            return Err(DataError::format(
                folder,
                expected,
                found,
                "use the same class folders in every part",
            ));
        }
        let (mut files, mut ignored) = (Vec::new(), Vec::new());
        for (label, (_, path)) in folders.iter().enumerate() {
            for path in entries(path)? {
                let kind = path.extension().map(|e| e.to_string_lossy().to_lowercase());
                let known = kind.is_some_and(|kind| IMAGE_ENDINGS.contains(&kind.as_str()));
                if known && !path.is_dir() {
                    files.push((path, label as u16))
                } else {
                    ignored.push(path)
                }
            }
        }
        if let [first, ..] = &ignored[..] {
            let (count, first) = (ignored.len(), first.display());
            let endings = IMAGE_ENDINGS.join(", ");
            warnings.push(format!(
                "ignored {count} entries without an image file extension ({endings}), such as {first}"
            ));
        }
        Ok(Self { folder: folder.to_owned(), files, headers: Vec::new(), skipped: Vec::new() })
    }

    fn labels(&self) -> Vec<u16> {
        self.files.iter().map(|(_, label)| *label).collect()
    }

    /// Splits into a training and a test part, stratified.
    fn divide(
        self,
        classes: &[String],
        options: &LoadOptions,
    ) -> Result<(Self, Option<Self>), DataError> {
        let (test, train) =
            stratified_halves(&self.labels(), classes.len(), options.test_fraction, options.seed);
        let pick = |indices: Vec<usize>| Self {
            folder: self.folder.clone(),
            files: indices.into_iter().map(|i| self.files[i].clone()).collect(),
            headers: Vec::new(),
            skipped: Vec::new(),
        };
        let (train, test) = (pick(train), pick(test));
        let remedy = "all its images went into the test set: add images, or lower test_fraction";
        check_no_class_empty(&self.folder, &train.labels(), classes, remedy)?;
        Ok((train, Some(test).filter(|test| !test.files.is_empty())))
    }

    fn limit(&mut self, classes: usize, options: &LoadOptions) {
        if let Some(chosen) = options.choose(&self.labels(), classes) {
            self.files = chosen.into_iter().map(|i| self.files[i].clone()).collect();
        }
    }

    fn read_headers(&mut self, skip_corrupt: bool) -> Result<(), DataError> {
        let headers: Vec<_> = self.files.par_iter().map(|(path, _)| header(path)).collect();
        let kept = self.keep(headers, skip_corrupt)?;
        self.headers = kept.into_iter().map(|(_, header)| header).collect();
        Ok(())
    }

    fn read_pixels(
        mut self,
        shape: [usize; 3],
        classes: &[String],
        options: &LoadOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Dataset, DataError> {
        let size = shape.iter().product::<usize>();
        let mut images = buffer(self.files.len(), shape)?;
        let decode = |(out, (path, _)): (&mut [u8], &(PathBuf, u16))| {
            read_image(path, shape).map(|bytes| out.copy_from_slice(&bytes))
        };
        let results: Vec<_> =
            images.par_chunks_exact_mut(size).zip(&self.files).map(decode).collect();
        let kept = self.keep(results, options.skip_corrupt)?;
        for (to, (from, ())) in kept.into_iter().enumerate() {
            images.copy_within(from * size..(from + 1) * size, to * size);
        }
        images.truncate(self.files.len() * size);
        if !self.skipped.is_empty() {
            let (count, folder) = (self.skipped.len(), self.folder.display());
            let named: Vec<_> = self.skipped.iter().take(NAMED).map(ToString::to_string).collect();
            let which = if count > NAMED { format!("the first {NAMED}: ") } else { String::new() };
            warnings.push(format!(
                "skipped {count} unreadable image files in {folder}: {which}{}",
                named.join("; ")
            ));
        }
        if self.files.is_empty() {
            let found = format!("none, and {} unreadable files", self.skipped.len());
            return Err(DataError::format(
                &self.folder,
                format!("{FORMATS} images"),
                found,
                "add images",
            ));
        }
        Dataset::new(images, self.labels(), shape, classes.to_vec())
    }

    /// Drops the files with a broken image, or fails with the first error that cannot be skipped. Returns the other
    /// results with their former positions.
    fn keep<T>(
        &mut self,
        results: Vec<Result<T, DataError>>,
        skip_corrupt: bool,
    ) -> Result<Vec<(usize, T)>, DataError> {
        let mut kept = Vec::with_capacity(results.len());
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) => kept.push((index, value)),
                Err(error @ DataError::Image { .. }) if skip_corrupt => self.skipped.push(error),
                Err(error) => return Err(error),
            }
        }
        self.files = kept.iter().map(|(index, _)| self.files[*index].clone()).collect();
        Ok(kept)
    }
}

/// Names and paths of the folders in a folder, sorted.
fn class_folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(entries(folder)?
        .into_iter()
        .filter(|p| p.is_dir())
        .map(|path| (name(&path), path))
        .collect())
}

/// The sorted entries of a folder, without hidden files.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let fail = |error| DataError::io(folder, error);
    let paths: Result<Vec<PathBuf>, _> =
        fs::read_dir(folder).map_err(fail)?.map(|e| e.map(|e| e.path())).collect();
    let hidden = |path: &PathBuf| {
        path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut paths: Vec<PathBuf> =
        paths.map_err(fail)?.into_iter().filter(|path| !hidden(path)).collect();
    paths.sort();
    Ok(paths)
}
