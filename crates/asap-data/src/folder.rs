//! Users' own images: one folder per class, or one folder with a list of labels; optionally in `train/`, `valid/` and `test/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::dataset::check_no_class_empty;
use crate::encoded::{Images, Part};
use crate::list;
use crate::listing::{Listing, TEST, TRAIN, VALID, is_image, part_of};
use crate::picture::{Encoded, IMAGE_ENDINGS};
use crate::{DataError, Dataset, LoadOptions, Splits};

/// Folders in a folder of a class are followed this deep.
const DEEPEST: usize = 8;

/// The remedy for a class without images.
const NO_FILES: &str = "put image files into its folder, or remove the folder";

/// Reads the images below `root`, all in one size; in colour if any of them is.
pub(crate) fn read(root: &Path, options: &LoadOptions) -> Result<Splits, DataError> {
    images(root, options)?.read(root, options)
}

/// Lists the images below a folder.
fn images(root: &Path, options: &LoadOptions) -> Result<Images, DataError> {
    let mut warnings = Vec::new();
    let top = Listing::of(root)?.kept;
    let split = |part: usize| {
        let named = top.iter().filter(|path| is_called(path, part));
        let mut parts = named.filter(|path| is_part(path, &top)).cloned();
        match (parts.next(), parts.next()) {
            (Some(first), Some(second)) => {
                let found = format!("{} and {}", first.display(), second.display());
                let expected = "one folder for each part";
                Err(DataError::format(root, expected, found, "merge or rename them"))
            }
            (first, _) => Ok(first),
        }
    };
    let train = split(TRAIN)?;
    if train.is_none()
        && let Some(list) = list::beside_images(root, &top)?
    {
        return list.images(options, warnings);
    }
    let (valid, test) = (split(VALID)?, split(TEST)?);
    if train.is_none()
        && !top.is_empty()
        && class_folders(root)?.iter().all(|(name, _)| part_of(name).is_some())
        && let Some((_, folder)) =
            class_folders(root)?.into_iter().find(|(name, _)| part_of(name) == Some(TRAIN))
    {
        // Folders of parts are no classes.
        return Err(no_classes(&folder, 0));
    }
    if let (None, Some(folder)) = (&train, valid.as_ref().or(test.as_ref())) {
        let expected = format!("a folder train/ next to {}", folder.display());
        return Err(DataError::format(root, expected, "none", "add it"));
    }
    let unlabelled = |path: &&PathBuf| is_called(path, VALID) || is_called(path, TEST);
    if let (None, Some(folder)) = (&train, top.iter().filter(|path| path.is_dir()).find(unlabelled))
    {
        let expected = "class folders, or a folder train/ that contains them";
        let found = format!("{} next to class folders", folder.display());
        let remedy = "move it to another place, or rename it if it is a class";
        return Err(DataError::format(root, expected, found, remedy));
    }
    let top = train.as_deref().unwrap_or(root);
    let folders = class_folders(top)?;
    check_distinct(top, &folders)?;
    let listing = Listing::of(top)?;
    note_litter(&listing.litter, &mut warnings);
    warnings.extend(list::overruled(top, &listing.kept));
    let classes: Vec<String> = folders.into_iter().map(|(name, _)| name).collect();
    if !(2..=Dataset::MAX_CLASSES).contains(&classes.len()) {
        return Err(no_classes(top, classes.len()));
    }
    let mut listed = Listed::default();
    let whole = listed.part(top, &classes)?;
    check_no_class_empty(top, &whole.labels(), &classes, NO_FILES)?;
    let (train, valid, test) = if train.is_some() {
        let mut parts = [None, None];
        for (part, (folder, kind)) in parts.iter_mut().zip([(valid, VALID), (test, TEST)]) {
            *part = match folder {
                Some(folder) if !is_flat(&folder, &classes) => {
                    Some(listed.part(&folder, &classes)?)
                }
                _ => flat_part(root, kind, &classes, &mut warnings)?,
            };
        }
        let [valid, test] = parts;
        for (name, _) in
            class_folders(root)?.into_iter().filter(|(name, _)| part_of(name).is_none())
        {
            warnings.push(format!("ignored the folder {name}/ next to train/"));
        }
        (whole, valid, test)
    } else {
        let (train, test) = whole.divide(&classes, options);
        (train, None, test)
    };
    listed.note(&mut warnings);
    Ok(Images { classes, train, valid, test, warnings, if_empty: NO_FILES })
}

/// True if a path is called like this part.
fn is_called(path: &Path, part: usize) -> bool {
    path.file_name().is_some_and(|name| part_of(&name.to_string_lossy()) == Some(part))
}

/// True if a folder that is called like a part is one. It is a class, such as the trains of CIFAR-100, if it has images in itself
/// only, or beside images in other classes.
fn is_part(path: &Path, top: &[PathBuf]) -> bool {
    let holds_images = |path: &Path| {
        Listing::of(path).is_ok_and(|listing| listing.kept.iter().any(|path| is_image(path)))
    };
    let is_class = |other: &&PathBuf| {
        let name = other.file_name().unwrap_or_default().to_string_lossy();
        other.is_dir() && part_of(&name).is_none() && holds_images(other)
    };
    class_folders(path).is_ok_and(|inner| !inner.is_empty())
        && !(holds_images(path) && top.iter().any(|other| is_class(&other)))
}

/// The error for a folder without folders of classes, by what it does have.
fn no_classes(top: &Path, count: usize) -> DataError {
    let expected = format!("2 to {} folders, one per class", Dataset::MAX_CLASSES);
    let remedy = "put the images of every class into a folder with its name";
    let files = Listing::of(top).map(|listing| listing.kept).unwrap_or_default();
    let images = files.iter().filter(|path| is_image(path)).count();
    let archive = files.iter().find(|path| crate::archive::is_archive(path));
    match archive {
        Some(archive) if count == 0 && images == 0 => {
            let found = format!("the archive {}", archive.display());
            DataError::format(top, expected, found, "give the archive itself as --data")
        }
        _ if count == 0 && images > 0 => {
            let found = format!("{images} images without a class");
            let remedy = format!(
                "{remedy}, or put a table labels.csv beside them, with the columns file,label"
            );
            DataError::format(top, expected, found, remedy)
        }
        _ => DataError::format(top, expected, count.to_string(), remedy),
    }
}

/// Folders in the folder of a part that hold all its images, as Tiny ImageNet's.
const FLAT: [&str; 2] = ["images", "img"];

/// True for the folder of a part with one folder in it that is no class.
fn is_flat(folder: &Path, classes: &[String]) -> bool {
    let inner = class_folders(folder).unwrap_or_default();
    let is_usual = |name: &str| FLAT.iter().any(|usual| name.eq_ignore_ascii_case(usual));
    matches!(&inner[..], [(name, _)] if is_usual(name) && !classes.contains(name))
}

/// A validation or test folder that has its images in one folder, as ImageNet's: with labels in a list in it or beside it.
fn flat_part(
    root: &Path,
    part: usize,
    classes: &[String],
    warnings: &mut Vec<String>,
) -> Result<Option<Part>, DataError> {
    let listing = Listing::of(root)?.kept;
    let is = |path: &&PathBuf| path.is_dir() && is_called(path, part);
    let Some(folder) = listing.iter().find(is) else { return Ok(None) };
    let inner = class_folders(folder)?.into_iter().map(|(_, inner)| inner);
    let folders: Vec<PathBuf> =
        [folder.clone(), root.to_owned()].into_iter().chain(inner).collect();
    let mut images = Vec::new();
    for place in folders.iter().filter(|place| *place != root) {
        images.extend(Listing::of(place)?.kept.into_iter().filter(|path| is_image(path)));
    }
    if images.is_empty() {
        warnings.push(format!("ignored the folder {}, which has no images", folder.display()));
        return Ok(None);
    }
    match list::labels_of(&folders, part, &images, classes)? {
        Some(files) => Ok(Some(Part::new(folder, files))),
        None => {
            warnings.push(format!(
                "ignored {}: its {} images have no labels; put them into one folder per class, or a list with `file class` per line \
                 beside them",
                folder.display(),
                images.len()
            ));
            Ok(None)
        }
    }
}

/// What was found while files were listed.
#[derive(Default)]
struct Listed {
    ignored: Vec<PathBuf>,
    litter: Vec<PathBuf>,
    deeper: Vec<PathBuf>,
    /// Images beside the folders of the classes.
    loose: Vec<PathBuf>,
}

impl Listed {
    /// Lists the files of every class, sorted by name.
    fn part(&mut self, folder: &Path, classes: &[String]) -> Result<Part, DataError> {
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
            let remedy = "use the same class folders in every part";
            return Err(DataError::format(folder, expected, found, remedy));
        }
        self.loose.extend(Listing::of(folder)?.kept.into_iter().filter(|path| is_image(path)));
        let mut files = Vec::new();
        for (label, (_, path)) in folders.iter().enumerate() {
            let mut found = Vec::new();
            self.collect(path, &mut vec![path.clone()], &mut found)?;
            files.extend(found.into_iter().map(|path| (Encoded::file(path), label as u16)));
        }
        Ok(Part::new(folder, files))
    }

    /// The images in a folder, and in the folders in it; `around` are the folders that it is in, itself included.
    fn collect(
        &mut self,
        folder: &Path,
        around: &mut Vec<PathBuf>,
        files: &mut Vec<PathBuf>,
    ) -> Result<(), DataError> {
        let listing = Listing::of(folder)?;
        self.litter.extend(listing.litter);
        for path in listing.kept {
            if path.is_dir() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if around.len() == 1 && part_of(&name).is_some() {
                    let expected = "the folders of the parts around those of the classes: train/cat, and not cat/train";
                    let found = format!("a part in a class, {}", path.display());
                    let remedy = "turn the folders round, or rename this one if it is none";
                    return Err(DataError::format(folder, expected, found, remedy));
                }
                let place = fs::canonicalize(&path).map_err(|e| DataError::io(&path, e))?;
                let inside = |outer: &PathBuf| fs::canonicalize(outer).is_ok_and(|o| o == place);
                if around.len() > DEEPEST || around.iter().any(inside) {
                    self.ignored.push(path);
                    continue;
                }
                let before = files.len();
                around.push(path.clone());
                self.collect(&path, around, files)?;
                around.pop();
                if files.len() > before {
                    self.deeper.push(path);
                }
            } else if is_image(&path) {
                files.push(path);
            } else {
                self.ignored.push(path);
            }
        }
        Ok(())
    }

    fn note(&self, warnings: &mut Vec<String>) {
        note_litter(&self.litter, warnings);
        if let [first, ..] = &self.ignored[..] {
            let (count, first) = (self.ignored.len(), first.display());
            let endings = IMAGE_ENDINGS.join(", ");
            warnings.push(format!(
                "ignored {count} entries without an image file extension ({endings}), such as {first}"
            ));
        }
        if let [first, ..] = &self.loose[..] {
            warnings.push(format!(
                "left out {} images beside the folders of the classes, such as {}",
                self.loose.len(),
                first.display()
            ));
        }
        if let [first, ..] = &self.deeper[..] {
            warnings.push(format!(
                "took the images in {} folders inside those of the classes, such as {}",
                self.deeper.len(),
                first.display()
            ));
        }
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

/// The folder in `root` that holds everything, as the outer folder of an archive does: there is no other, and no image or list beside it.
pub(crate) fn only_folder(root: &Path) -> Option<PathBuf> {
    let kept = Listing::of(root).ok()?.kept;
    let about = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        ["readme", "license", "licence", "copying", "classes"].contains(&stem.as_str())
    };
    let (folders, files): (Vec<_>, Vec<_>) = kept.into_iter().partition(|path| path.is_dir());
    let [only] = &folders[..] else { return None };
    let name = only.file_name()?.to_string_lossy();
    let alone = !files.iter().any(|path| is_image(path) || (list::is_list(path) && !about(path)));
    // A folder of images only is a class, and the others are missing.
    let inner = Listing::of(only).ok()?.kept;
    let holds_more = inner.iter().any(|path| path.is_dir() || !is_image(path));
    (alone && part_of(&name).is_none() && holds_more).then(|| only.clone())
}
