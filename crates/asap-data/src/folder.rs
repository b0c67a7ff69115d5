//! Users' own images: one folder per class, optionally split into `train/`, `valid/` and `test/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rayon::prelude::*;

use crate::dataset::check_no_class_empty;
use crate::error::FORMATS;
use crate::listing::Listing;
use crate::picture::{FEW_BITS, Header, IMAGE_ENDINGS, MADE_GREY, buffer, header, read_picture};
use crate::random::{Stream, fnv1a, generator};
use crate::{DataError, Dataset, LoadOptions, Splits};

/// Names of the folders of the parts, in any case.
const TRAIN: [&str; 3] = ["train", "training", "training_set"];
const VALID: [&str; 4] = ["valid", "val", "validation", "dev"];
const TEST: [&str; 3] = ["test", "testing", "test_set"];

/// Longest side of images if no size is given.
const MAX_DEFAULT_SIDE: usize = 64;

/// Shortest side, if no size is given.
const MIN_DEFAULT_SIDE: usize = 8;

/// An image is odd if a side is shorter or longer than that of most by this factor.
const ODD: usize = 4;

/// Number of files named in a warning.
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
    let resized = all().filter(|header| (header.height, header.width) != (height, width)).count();
    if resized > 0 && options.size.is_none() {
        warnings.push(format!(
            "resized {resized} images to {height}x{width}, the size of most, with sides of up to {MAX_DEFAULT_SIDE}; \
             a picture of another shape is stretched; --set data.size=N chooses another size"
        ));
        let parts = [Some(&train), valid.as_ref(), test.as_ref()];
        warnings.extend(odd_sizes(&parts.into_iter().flatten().collect::<Vec<_>>()));
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

/// The height and width that half of the images have or, if there are none, their medians; within the default limits.
fn common_size(headers: &[Header]) -> (usize, usize) {
    let mut counts = BTreeMap::new();
    for header in headers {
        *counts.entry((header.height, header.width)).or_insert(0) += 1;
    }
    let common = counts.into_iter().find(|&(_, count)| 2 * count >= headers.len());
    let (height, width) = common.map_or_else(|| median_size(headers), |(size, _)| size);
    let longest = height.max(width);
    let shrink = |side: usize| (side * MAX_DEFAULT_SIDE).div_ceil(longest);
    match longest {
        0..=MAX_DEFAULT_SIDE => (height, width),
        _ => (shrink(height).max(MIN_DEFAULT_SIDE), shrink(width).max(MIN_DEFAULT_SIDE)),
    }
}

fn median_size(headers: &[Header]) -> (usize, usize) {
    let median = |side: fn(&Header) -> usize| {
        let mut sides: Vec<usize> = headers.iter().map(side).collect();
        sides.sort_unstable();
        sides.get(sides.len() / 2).map_or(MIN_DEFAULT_SIDE, |&side| side.max(MIN_DEFAULT_SIDE))
    };
    (median(|header| header.height), median(|header| header.width))
}

/// A warning that names the images whose sides are very different from those of most.
fn odd_sizes(parts: &[&Part]) -> Option<String> {
    let all = || parts.iter().flat_map(|part| part.files.iter().zip(&part.headers));
    let headers: Vec<Header> = all().map(|(_, header)| *header).collect();
    let usual = median_size(&headers);
    let far = |side: usize, usual: usize| side * ODD < usual || side > usual * ODD;
    let odd = |header: &Header| far(header.height, usual.0) || far(header.width, usual.1);
    let mut named = all().filter(|(_, header)| odd(header));
    let first: Vec<String> = (named.by_ref().take(NAMED))
        .map(|((path, _), header)| {
            format!("{} ({}x{})", path.display(), header.height, header.width)
        })
        .collect();
    let more = match named.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!first.is_empty()).then(|| {
        format!("unusually small, large, long or narrow images: {}{more}", first.join(", "))
    })
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
        let top = Listing::of(root)?.kept;
        let split = |names: &[&str]| {
            let is = |path: &&PathBuf, name: &&str| {
                path.file_name().is_some_and(|found| found.eq_ignore_ascii_case(name))
            };
            let named = |name: &&str| top.iter().filter(|path| is(path, name)).cloned().collect();
            names.iter().flat_map(|name| -> Vec<PathBuf> { named(name) }).find(holds_classes)
        };
        let (train, valid, test) = (split(&TRAIN), split(&VALID), split(&TEST));
        if let (None, Some(folder)) = (&train, valid.as_ref().or(test.as_ref())) {
            let expected = format!("a folder train/ next to {}", folder.display());
            return Err(DataError::format(root, expected, "none", "add it"));
        }
        let top = train.as_deref().unwrap_or(root);
        let folders = class_folders(top)?;
        check_distinct(top, &folders)?;
        note_litter(&Listing::of(top)?.litter, warnings);
        let classes: Vec<String> = folders.into_iter().map(|(name, _)| name).collect();
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
        let (train, test) = whole.divide(&classes, options);
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
        let (mut files, mut ignored, mut litter) = (Vec::new(), Vec::new(), Vec::new());
        for (label, (_, path)) in folders.iter().enumerate() {
            let listing = Listing::of(path)?;
            litter.extend(listing.litter);
            for path in listing.kept {
                let kind = path.extension().map(|e| e.to_string_lossy().to_lowercase());
                let known = kind.is_some_and(|kind| IMAGE_ENDINGS.contains(&kind.as_str()));
                if known && !path.is_dir() {
                    files.push((path, label as u16))
                } else {
                    ignored.push(path)
                }
            }
        }
        note_litter(&litter, warnings);
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

    /// Splits into a training and a test part. A number drawn for the class and the name of a file decides on which side it is,
    /// so that files that are added or removed move no other one. Every class keeps an image to train on.
    fn divide(self, classes: &[String], options: &LoadOptions) -> (Self, Option<Self>) {
        let draw = |(path, label): &(PathBuf, u16)| -> f64 {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            let name = [classes[usize::from(*label)].as_bytes(), b"/", name].concat();
            generator(options.seed, Stream::Split, fnv1a(&name), u64::MAX).random()
        };
        let draws: Vec<f64> = self.files.iter().map(draw).collect();
        let mut tested: Vec<bool> =
            draws.iter().map(|&drawn| drawn < options.test_fraction).collect();
        let mut of_class = vec![Vec::new(); classes.len()];
        for (index, (_, label)) in self.files.iter().enumerate() {
            of_class[usize::from(*label)].push(index);
        }
        let by_draw = |a: &&usize, b: &&usize| draws[**a].total_cmp(&draws[**b]);
        for members in &of_class {
            if let Some(&last) = members.iter().max_by(by_draw) {
                tested[last] = false;
            }
        }
        if options.test_fraction > 0.0 && !tested.contains(&true) {
            // Few images, none of which was drawn.
            let spare = of_class.iter().filter(|members| members.len() > 1).flatten();
            if let Some(&first) = spare.min_by(by_draw) {
                tested[first] = true;
            }
        }
        let pick = |part: bool| Self {
            folder: self.folder.clone(),
            files: (self.files.iter().zip(&tested))
                .filter(|&(_, &tested)| tested == part)
                .map(|(file, _)| file.clone())
                .collect(),
            headers: Vec::new(),
            skipped: Vec::new(),
        };
        (pick(false), Some(pick(true)).filter(|test| !test.files.is_empty()))
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
            let picture = read_picture(path, shape)?;
            out.copy_from_slice(&picture.bytes);
            Ok((picture.transparent, picture.bits))
        };
        let results: Vec<_> =
            images.par_chunks_exact_mut(size).zip(&self.files).map(decode).collect();
        let kept = self.keep(results, options.skip_corrupt)?;
        let (mut transparent, mut bits) = (0, Vec::new());
        for (to, (from, (seen_through, used))) in kept.into_iter().enumerate() {
            images.copy_within(from * size..(from + 1) * size, to * size);
            transparent += usize::from(seen_through);
            bits.extend(used);
        }
        if transparent > 0 {
            warnings.push(format!("{transparent} images are transparent in places: laid on white"));
        }
        if let Some(&most) = bits.iter().max().filter(|&&most| most <= FEW_BITS) {
            warnings.push(format!(
                "{} images have 16 bits per channel but use at most {most} of them, and are nearly black after conversion to 8; \
                 scale their values to the whole range first",
                bits.len()
            ));
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
                Err(error @ (DataError::Image { .. } | DataError::Io { .. })) if skip_corrupt => {
                    self.skipped.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        self.files = kept.iter().map(|(index, _)| self.files[*index].clone()).collect();
        Ok(kept)
    }
}

/// A warning about entries that were left out.
fn note_litter(litter: &[PathBuf], warnings: &mut Vec<String>) {
    if let [first, ..] = litter {
        warnings.push(format!(
            "left out {} entries that are hidden or made by a system, such as {}",
            litter.len(),
            first.display()
        ));
    }
}

/// Refuses two classes of one name, and two names of one folder.
fn check_distinct(top: &Path, folders: &[(String, PathBuf)]) -> Result<(), DataError> {
    let expected = "a folder of its own for every class, with a name of its own";
    let refuse = |found, remedy| Err(DataError::format(top, expected, found, remedy));
    let (mut names, mut places) = (BTreeMap::new(), BTreeMap::new());
    for (name, path) in folders {
        if names.insert(name, path).is_some() {
            let found = format!("two with the name `{name}`, as far as it is UTF-8");
            return refuse(found, "rename them with characters in UTF-8");
        }
        let place = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        if let Some(other) = places.insert(place, name) {
            return refuse(
                format!("`{name}` and `{other}`, which are one folder"),
                "remove the link",
            );
        }
    }
    Ok(())
}

/// Names and paths of the folders in a folder, sorted.
fn class_folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Listing::of(folder)?
        .kept
        .into_iter()
        .filter(|p| p.is_dir())
        .map(|path| (name(&path), path))
        .collect())
}
