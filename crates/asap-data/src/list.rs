//! Lists of image files with their labels: tables in CSV, or lines of `file label`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::dataset::check_no_class_empty;
use crate::encoded::{Images, Part};
use crate::listing::{Listing, is_image, part_of};
use crate::picture::{Encoded, IMAGE_ENDINGS};
use crate::{DataError, Dataset, LoadOptions, text};

/// Extensions of lists.
const ENDINGS: [&str; 4] = ["csv", "tsv", "txt", "lst"];

/// Names of columns, in lower case and without `_`, `-` and spaces.
/// The first one that is there counts.
const FILE: [&str; 12] = [
    "file",
    "filename",
    "filepath",
    "path",
    "imagepath",
    "imagefile",
    "imagename",
    "image",
    "img",
    "imageid",
    "id",
    "name",
];
const LABEL: [&str; 9] = [
    "label",
    "labels",
    "class",
    "classname",
    "target",
    "category",
    "y",
    "predictionstring",
    "species",
];
const PART: [&str; 5] = ["split", "part", "subset", "set", "partition"];
/// A column that says of every image if it is for validation.
const IS_VALID: &str = "isvalid";
/// The column of ImageNet's published table, which has boxes behind the class.
const BOXES: &str = "predictionstring";

/// Folders beside a list in which its files may be.
const FOLDERS: [&str; 5] = ["", "images", "img", "train", "data"];

/// A list that was read: its files exist.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) path: PathBuf,
    pub(crate) classes: Vec<String>,
    /// Training, validation and test images.
    pub(crate) parts: [Vec<(Encoded, u16)>; 3],
    pub(crate) notes: Vec<String>,
}

impl List {
    /// The images of a list, with a part held out by name unless the list says which part an image is in.
    pub(crate) fn images(
        self,
        options: &LoadOptions,
        mut warnings: Vec<String>,
    ) -> Result<Images, DataError> {
        const IF_EMPTY: &str = "add images of this class to the list, or remove the class";
        let Self { path, classes, parts: [train, valid, test], notes } = self;
        warnings.extend(notes);
        if train.is_empty() {
            let expected = "training images in the column of parts";
            return Err(DataError::format(&path, expected, "none", "name a part `train`"));
        }
        let [train, valid, test] = [train, valid, test].map(|files| Part::new(&path, files));
        check_no_class_empty(&path, &train.labels(), &classes, IF_EMPTY)?;
        let (train, test) =
            if test.is_empty() { train.divide(&classes, options) } else { (train, Some(test)) };
        let valid = Some(valid).filter(|valid| !valid.is_empty());
        Ok(Images { classes, train, valid, test, warnings, if_empty: IF_EMPTY })
    }
}

/// A row: file, label and part as they are written.
struct Row {
    line: u64,
    file: String,
    label: String,
    part: Option<String>,
}

/// The rows of a list.
struct Table {
    rows: Vec<Row>,
    /// A note that names the columns that are not used.
    ignored: Option<String>,
}

/// True for a file that may be a list.
pub(crate) fn is_list(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Reads a list; its files are beside it, or in a folder there.
pub(crate) fn read(path: &Path) -> Result<List, DataError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut folders: Vec<PathBuf> = FOLDERS.map(|name| folder.join(name)).into();
    if !FOLDERS.contains(&stem.as_str()) {
        folders.push(folder.join(&stem));
    }
    // Beside the list; in the folder of the row's part, or of the list's name; or in the only one that has it.
    let find = |file: &str, part: Option<&str>| -> Result<Option<PathBuf>, DataError> {
        let likely = [Some(""), part, Some(stem.as_str())].into_iter().flatten();
        if let Some(image) =
            likely.map(|name| image_in(&folder.join(name), file)).find(Option::is_some)
        {
            return Ok(image);
        }
        let mut found = folders.iter().filter_map(|folder| image_in(folder, file));
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => {
                let expected = format!("one image `{file}`");
                let found = format!("{} and {}", first.display(), second.display());
                Err(DataError::format(path, expected, found, "write the folder before its name"))
            }
            (first, _) => Ok(first),
        }
    };
    let Table { rows, ignored } = rows(path, &|file| !matches!(find(file, None), Ok(None)))?;
    let mut files: BTreeMap<PathBuf, (usize, usize, u64)> = BTreeMap::new();
    let classes = classes(&rows);
    if !(2..=Dataset::MAX_CLASSES).contains(&classes.len()) {
        let expected = format!("labels of 2 to {} classes", Dataset::MAX_CLASSES);
        let remedy = "check the column of labels: `file,label` is expected";
        return Err(DataError::format(path, expected, classes.len().to_string(), remedy));
    }
    let (mut parts, mut twice) = ([Vec::new(), Vec::new(), Vec::new()], 0);
    for row in rows {
        let Some(file) = find(&row.file, row.part.as_deref())? else {
            let expected = format!("the image `{}` of line {}", row.file, row.line);
            let remedy = "correct its path, which is relative to the list, or remove the line";
            return Err(DataError::format(path, expected, "no such file", remedy));
        };
        let label = classes.iter().position(|class| *class == row.label).unwrap_or_default();
        let part = match &row.part {
            None => 0,
            Some(name) => part_of(name).ok_or_else(|| {
                let expected = "train, valid or test in the column of parts";
                let found = format!("`{name}` in line {}", row.line);
                DataError::format(path, expected, found, "correct it")
            })?,
        };
        match files.insert(file.clone(), (label, part, row.line)) {
            None => parts[part].push((Encoded::file(file), label as u16)),
            Some((before, other, _)) if (before, other) == (label, part) => twice += 1,
            Some((before, _, line)) if before == label => {
                let expected = format!("one part for `{}`", row.file);
                let found = format!("different ones in the lines {line} and {}", row.line);
                return Err(DataError::format(path, expected, found, "remove one of the lines"));
            }
            Some((before, _, line)) => {
                let expected = format!("one label for `{}`", row.file);
                let found = format!(
                    "`{}` in line {line} and `{}` in line {}",
                    classes[before], row.label, row.line
                );
                return Err(DataError::format(path, expected, found, "remove one of the lines"));
            }
        }
    }
    let twice =
        (twice > 0).then(|| format!("{twice} images are in the list more than once: used once"));
    let beside = folders.iter().filter_map(|folder| Listing::of(folder).ok());
    let beside = beside.flat_map(|listing| listing.kept).filter(|file| is_image(file));
    let mut unlisted = beside.filter(|file| !files.contains_key(file));
    let unlisted = unlisted.next().map(|first| {
        let count = 1 + unlisted.count();
        format!(
            "{count} images beside the list are not in it, and are left out, such as {}",
            first.display()
        )
    });
    let notes = [ignored, twice, unlisted].into_iter().flatten().collect();
    Ok(List { path: path.to_owned(), classes, parts, notes })
}

/// The list of the images that lie in a folder without folders of classes.
///
/// # Errors
/// Several lists, or one that is wrong.
pub(crate) fn beside_images(root: &Path, entries: &[PathBuf]) -> Result<Option<List>, DataError> {
    let lists: Vec<&PathBuf> = entries.iter().filter(|path| is_list(path)).collect();
    if lists.is_empty() {
        return Ok(None);
    }
    let folders: Vec<&PathBuf> = entries.iter().filter(|path| path.is_dir()).collect();
    let has_classes = |folder: &&&PathBuf| {
        Listing::of(folder).is_ok_and(|inner| inner.kept.iter().any(|path| path.is_dir()))
    };
    let flat = entries.iter().any(|path| is_image(path));
    let known = |folder: &&&PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        FOLDERS.contains(&name.as_str())
    };
    let in_folders = folders.iter().any(|f| known(&f)) && !folders.iter().any(|f| has_classes(&f));
    if !(flat || in_folders) {
        return Ok(None);
    }
    let named = |path: &&&PathBuf| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        ["labels", "label", "train", "metadata", "annotations", "classes"].contains(&stem.as_str())
    };
    let likely: Vec<_> = lists.iter().filter(named).collect();
    match (&lists[..], &likely[..]) {
        ([only], _) => read(only).map(Some),
        (_, [only]) => {
            let mut list = read(only)?;
            let others =
                lists.iter().filter(|path| **path != **only).map(|path| path.display().to_string());
            let others: Vec<_> = others.collect();
            list.notes.push(format!(
                "took the labels from {}, and not from {}",
                only.display(),
                others.join(", ")
            ));
            Ok(Some(list))
        }
        _ => {
            let names: Vec<_> = lists.iter().map(|path| path.display().to_string()).collect();
            let expected = "one list of labels beside the images";
            let remedy = "give the list itself as --data";
            Err(DataError::format(root, expected, names.join(", "), remedy))
        }
    }
}

/// Labels of the images of a part, from a list in one of these folders: class names, or numbers of the sorted classes. Paths in it begin
/// in one of the folders, too. A list that is called like another part is not meant, nor is the form of a competition's submission.
pub(crate) fn labels_of(
    folders: &[PathBuf],
    part: usize,
    images: &[PathBuf],
    classes: &[String],
) -> Result<Option<Vec<(Encoded, u16)>>, DataError> {
    let known: BTreeSet<&PathBuf> = images.iter().collect();
    let find = |file: &str| {
        let mut found = folders.iter().filter_map(|folder| image_in(folder, file));
        found.find(|path| known.contains(path))
    };
    let mut lists = Vec::new();
    for folder in folders {
        lists.extend(Listing::of(folder)?.kept);
    }
    let of_another = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let named: Vec<usize> = stem.split(['-', '_', '.', ' ']).filter_map(part_of).collect();
        let is_form = stem.to_lowercase().contains("submission");
        is_form || !named.is_empty() && !named.contains(&part)
    };
    let mut conflict = None;
    'lists: for path in lists.iter().filter(|path| is_list(path) && !of_another(path)) {
        let Ok(Table { rows, .. }) = rows(path, &|file| find(file).is_some()) else { continue };
        let mut labels: BTreeMap<PathBuf, String> = BTreeMap::new();
        for Row { line, file, label, .. } in rows {
            let Some(image) = find(&file) else { continue };
            if let Some(before) = labels.insert(image, label.clone()).filter(|b| *b != label) {
                let expected = format!("one label for `{file}`");
                let found = format!("`{before}`, and `{label}` in line {line}");
                let fault = DataError::format(path, expected, found, "remove one of the lines");
                conflict.get_or_insert(fault);
                // It may be of something else, such as boxes.
                continue 'lists;
            }
        }
        if labels.is_empty() {
            continue;
        }
        // A form to be filled in has the same value everywhere.
        if labels.len() > 1 && labels.values().collect::<BTreeSet<_>>().len() == 1 {
            continue;
        }
        let numbers = labels.values().all(|label| label.parse::<usize>().is_ok());
        let by_number = numbers && !labels.values().all(|label| classes.contains(label));
        let mut files = Vec::with_capacity(images.len());
        for image in images {
            let wrong = |expected: String, found: String| {
                let remedy = "correct the list, or put the images into one folder per class";
                DataError::format(path, expected, found, remedy)
            };
            let label = labels.get(image).ok_or_else(|| {
                wrong(format!("a label of {}", image.display()), "none".to_owned())
            })?;
            let class = match by_number {
                true => label.parse().ok().filter(|&number: &usize| number < classes.len()),
                false => classes.iter().position(|class| class == label),
            };
            let class = class.ok_or_else(|| {
                let most = classes.len() - 1;
                let expected = format!(
                    "the name of a training class, or its number from 0 to {most} in the order of the names"
                );
                wrong(expected, format!("`{label}` for {}", image.display()))
            })?;
            files.push((Encoded::file(image.clone()), class as u16));
        }
        return Ok(Some(files));
    }
    conflict.map_or(Ok(None), Err)
}

/// A note on the lists of images beside folders of classes, which decide.
pub(crate) fn overruled(folder: &Path, entries: &[PathBuf]) -> Option<String> {
    let exists = |file: &str| image_in(folder, file).is_some();
    let is_of_images = |path: &&PathBuf| {
        is_list(path)
            && rows(path, &exists).is_ok_and(|table| table.rows.iter().any(|row| exists(&row.file)))
    };
    let lists: Vec<_> =
        entries.iter().filter(is_of_images).map(|path| path.display().to_string()).collect();
    (!lists.is_empty()).then(|| {
        format!(
            "ignored {}: the folders say which class an image has; give a list itself as --data to use it instead",
            lists.join(", ")
        )
    })
}

/// The image of this name in a folder; the name may lack its extension.
fn image_in(folder: &Path, name: &str) -> Option<PathBuf> {
    let name = if cfg!(windows) { name.to_owned() } else { name.replace('\\', "/") };
    let path = folder.join(&name);
    if path.is_file() {
        return Some(path);
    }
    let with = |ending: &str| Some(folder.join(format!("{name}.{ending}"))).filter(|p| p.is_file());
    let upper = |ending: &str| with(&ending.to_uppercase());
    let endings = || IMAGE_ENDINGS.iter();
    endings().find_map(|ending| with(ending)).or_else(|| endings().find_map(|ending| upper(ending)))
}

/// All labels, sorted; by number if all of them are.
fn classes(rows: &[Row]) -> Vec<String> {
    let names: BTreeSet<&String> = rows.iter().map(|row| &row.label).collect();
    let mut names: Vec<String> = names.into_iter().cloned().collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names
}

/// The rows of a list, in which `exists` recognises a file.
fn rows(path: &Path, exists: &dyn Fn(&str) -> bool) -> Result<Table, DataError> {
    let text = text::read(path).map_err(|e| DataError::io(path, e))?;
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let delimiter = [',', '\t', ';'].into_iter().find(|&delimiter| first.contains(delimiter));
    let cells: Vec<(u64, Vec<String>)> = match delimiter {
        Some(delimiter) => {
            let mut reader = csv::ReaderBuilder::new();
            reader.delimiter(delimiter as u8).has_headers(false).flexible(true);
            let reader = reader.trim(csv::Trim::All).from_reader(text.as_bytes());
            let row = |row: csv::Result<csv::StringRecord>| {
                let row = row.map_err(|error| {
                    DataError::format(path, "a table", error.to_string(), "correct the line")
                })?;
                let line = row.position().map_or(0, csv::Position::line);
                Ok((line, row.iter().map(String::from).collect()))
            };
            reader.into_records().map(row).collect::<Result<_, DataError>>()?
        }
        // A file's name may have spaces, a label has none.
        None => (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(at, line)| match line.trim().rsplit_once(char::is_whitespace) {
                Some((file, label)) => (at, vec![file.trim().to_owned(), label.to_owned()]),
                None => (at, vec![line.trim().to_owned()]),
            })
            .collect(),
    };
    let Some((_, head)) = cells.first() else {
        let remedy = "write a line `file,label` per image";
        return Err(DataError::format(path, "a list of images", "an empty file", remedy));
    };
    let plain = |cell: &String| cell.to_lowercase().replace(['_', '-', ' '], "");
    let column = |names: &[&str]| {
        names.iter().find_map(|name| head.iter().position(|cell| plain(cell) == *name))
    };
    let is_row = head.iter().any(|cell| exists(cell));
    let columns = head.len();
    if is_row && columns != 2 && !exists(&head[0]) {
        let expected =
            "a head that names the columns, or lines that begin with a file and its label";
        let found = format!("`{}`", head.join(", "));
        return Err(DataError::format(
            path,
            expected,
            found,
            "write a first line such as file,label",
        ));
    }
    let (file, label, part) = match (column(&FILE), column(&LABEL)) {
        (Some(file), Some(label)) if !is_row => {
            (file, label, column(&PART).or_else(|| column(&[IS_VALID])))
        }
        _ if is_row => {
            let file = head.iter().position(|cell| exists(cell)).unwrap_or_default();
            (file, usize::from(file == 0), None)
        }
        _ => {
            let pixels = head.iter().filter(|cell| plain(cell).starts_with("pixel")).count() > 1;
            let found = if pixels {
                "a table of pixels".to_owned()
            } else {
                format!("`{}`", head.join(", "))
            };
            let remedy = match pixels {
                true => "give the images as files, or as IDX or NPZ",
                false => "name the columns file and label, and write paths relative to the list",
            };
            let expected = "a head with the columns file and label, or lines of an existing file and its label";
            return Err(DataError::format(path, expected, found, remedy));
        }
    };
    let boxes = !is_row && plain(&head[label]) == BOXES;
    let is_valid = part.is_some_and(|at| plain(&head[at]) == IS_VALID);
    let used = [Some(file), Some(label), part];
    let other = |at: &usize| !used.contains(&Some(*at));
    let name = |at: usize| match is_row {
        true => (at + 1).to_string(),
        false => format!("`{}`", head[at]),
    };
    let others: Vec<_> = (0..columns).filter(other).map(name).collect();
    let ignored = (!others.is_empty()).then(|| {
        format!(
            "images are those in column {} of {}, labels those in column {}; ignored: {}",
            name(file),
            path.display(),
            name(label),
            others.join(", ")
        )
    });
    let head = usize::from(!is_row);
    let row = |(line, cells): (u64, Vec<String>)| {
        if cells.len() > columns {
            let expected = format!("{columns} columns in line {line}");
            let found = format!("{}: `{}`", cells.len(), cells.join(", "));
            let remedy = "put quotes around a text with the delimiter in it";
            return Err(DataError::format(path, expected, found, remedy));
        }
        let cell = |at: usize| cells.get(at).filter(|cell| !cell.is_empty());
        let (Some(found), Some(named)) = (cell(file), cell(label)) else {
            let expected = format!("a file and a label in line {line}");
            let found = format!("`{}`", cells.join(", "));
            return Err(DataError::format(path, expected, found, "complete or remove the line"));
        };
        let named = match boxes {
            true => named.split_whitespace().next().unwrap_or_default().to_owned(),
            false => named.clone(),
        };
        let part = part.map(|at| cell(at).cloned().unwrap_or_default());
        let part = match part.as_deref().filter(|_| is_valid).map(str::to_lowercase).as_deref() {
            None => part,
            Some("true" | "1" | "yes") => Some("valid".to_owned()),
            Some("false" | "0" | "no" | "") => Some("train".to_owned()),
            Some(_) => {
                let expected = format!("true or false in the column `is_valid` in line {line}");
                let found = format!("`{}`", part.unwrap_or_default());
                return Err(DataError::format(path, expected, found, "correct it"));
            }
        };
        Ok(Row { line, file: found.clone(), label: named, part })
    };
    let rows = cells.into_iter().skip(head).map(row).collect::<Result<_, _>>()?;
    Ok(Table { rows, ignored })
}
