//! Image data sets in Parquet, in the form that model hubs publish: a column of encoded images, and one of labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use crate::archive::most_unpacked;
use crate::encoded::{Images, Part};
use crate::guard::guarded;
use crate::listing::{Listing, is_image, part_of};
use crate::picture::Encoded;
use crate::text::counted;
use crate::{DataError, Dataset, LoadOptions, Splits};

/// Names of columns of labels, the preferred one first.
const LABELS: [&str; 8] =
    ["label", "labels", "fine_label", "class", "category", "target", "coarse_label", "species"];

/// The label with which hubs publish test images without labels.
const UNLABELLED: &str = "-1";

/// The remedy for a class without images.
const IF_EMPTY: &str = "add the missing files of the data set";

/// The Parquet files of a data set in a folder, or in the folders in it.
pub(crate) fn find(folder: &Path) -> Vec<PathBuf> {
    let Ok(listing) = Listing::of(folder) else { return Vec::new() };
    let is_parquet = |path: &PathBuf| path.is_file() && is_parquet(path);
    let here: Vec<PathBuf> = listing.kept.iter().filter(|path| is_parquet(path)).cloned().collect();
    if !here.is_empty() {
        return here;
    }
    let inner = listing.kept.iter().filter(|path| path.is_dir());
    let inner = inner.filter_map(|folder| Listing::of(folder).ok());
    inner.flat_map(|listing| listing.kept).filter(|path| is_parquet(path)).collect()
}

/// A note on image files in the same folders, which are not read.
pub(crate) fn beside(folder: &Path) -> Option<String> {
    let here = Listing::of(folder).ok()?.kept;
    let inner = here.iter().filter_map(|path| Listing::of(path).ok());
    let all = here.iter().cloned().chain(inner.flat_map(|listing| listing.kept));
    let images: Vec<PathBuf> = all.filter(|path| is_image(path)).collect();
    let first = images.first()?.display();
    Some(format!(
        "ignored {} next to the Parquet files, such as {first}",
        counted(images.len(), "image file")
    ))
}

/// True if a file is called like one.
pub(crate) fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"))
}

/// Reads the files of a data set. The beginning of a file's name says which part it belongs to.
pub(crate) fn read(
    root: &Path,
    files: &[PathBuf],
    options: &LoadOptions,
) -> Result<Splits, DataError> {
    check_shards(root, files)?;
    let mut folders: BTreeMap<usize, BTreeSet<PathBuf>> = BTreeMap::new();
    let mut tables: Vec<(usize, Table)> = Vec::new();
    let mut warnings = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        // The folder of the data set itself may be called anything.
        let folder = path.parent().filter(|folder| *folder != root && path != root);
        let folder = folder.and_then(Path::file_name).unwrap_or_default();
        let folder = folder.to_string_lossy().to_lowercase();
        let part = match [&name, &folder]
            .map(|name| name.split(['-', '_', '.']).next().unwrap_or_default())
        {
            [first, second] => part_of(first).or(part_of(second)),
        };
        if let (Some(part), None) = (part, part_of(&folder)) {
            folders.entry(part).or_default().extend(path.parent().map(Path::to_owned));
        }
        match part {
            Some(part) => tables.push((part, Table::read_guarded(path)?)),
            None if files.len() == 1 => tables.push((0, Table::read_guarded(path)?)),
            None => warnings.push(format!(
                "ignored {}, whose name begins with none of train, validation and test",
                path.display()
            )),
        }
    }
    // A hub has the same images again in each configuration, larger or with other labels.
    if let Some(several) = folders.values().find(|folders| folders.len() > 1) {
        let found: Vec<_> = several.iter().map(|folder| folder.display().to_string()).collect();
        let expected = "the files of a part in one folder";
        let remedy = "give the folder of one of them as --data";
        return Err(DataError::format(root, expected, found.join(", "), remedy));
    }
    let mut named =
        tables.iter().filter_map(|(_, table)| Some((&table.path, table.names.as_ref()?)));
    let names = named.next().map(|(_, names)| names.clone());
    if let Some(names) = &names
        && let Some((path, _)) = named.find(|(_, others)| *others != names)
    {
        let expected = format!("the class names {}, as in the other files", names.join(", "));
        let remedy = "use files of one data set";
        return Err(DataError::format(path, expected, "others, or in another order", remedy));
    }
    let numbered = names.is_some();
    let labels = tables.iter().flat_map(|(_, table)| &table.labels);
    let found = || labels.clone().filter(|label| *label != UNLABELLED);
    let classes = names.unwrap_or_else(|| {
        let numbers = found().map(|label| label.parse::<u16>().ok()).collect::<Option<Vec<_>>>();
        match numbers {
            Some(numbers) => {
                let most = numbers.into_iter().max().unwrap_or(0);
                (0..=most).map(|class| class.to_string()).collect()
            }
            None => found().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
        }
    });
    if !(2..=Dataset::MAX_CLASSES).contains(&classes.len()) {
        let expected = format!("labels of 2 to {} classes", Dataset::MAX_CLASSES);
        let remedy = "check the column of labels";
        return Err(DataError::format(root, expected, classes.len().to_string(), remedy));
    }
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    let mut unlabelled = 0;
    for (part, table) in tables {
        let Table { path, images, labels, .. } = table;
        for (row, (bytes, label)) in images.into_iter().zip(labels).enumerate() {
            if label == UNLABELLED {
                unlabelled += 1;
                continue;
            }
            let class = match label.parse::<usize>() {
                Ok(number) if numbered || !classes.contains(&label) => {
                    Some(number).filter(|&n| n < classes.len())
                }
                _ => classes.iter().position(|class| *class == label),
            };
            let Some(class) = class else {
                let expected = format!("a label from 0 to {}", classes.len() - 1);
                let found = format!("`{label}` in row {row}");
                return Err(DataError::format(&path, expected, found, "correct the table"));
            };
            let place = path.join(format!("row {row}"));
            let image = Encoded { path: place, bytes: Some(bytes) };
            parts[part].push((image, class as u16));
        }
    }
    if unlabelled > 0 {
        warnings.push(format!("left out {unlabelled} images without a label (-1, or none)"));
    }
    let [train, valid, test] = parts.map(|files| Part::new(root, files));
    if train.is_empty() {
        let remedy = "add the files train-*.parquet";
        return Err(DataError::format(root, "training images", "none", remedy));
    }
    let some = |part: Part| Some(part).filter(|part| !part.is_empty());
    let (train, test) = match some(test) {
        Some(test) => (train, Some(test)),
        None if valid.is_empty() => train.divide(&classes, options),
        None => (train, None),
    };
    let valid = some(valid);
    Images { classes, train, valid, test, warnings, if_empty: IF_EMPTY }.read(root, options)
}

/// Refuses files named `...-00000-of-00003` of which one is missing.
fn check_shards(root: &Path, files: &[PathBuf]) -> Result<(), DataError> {
    let mut found: BTreeMap<(PathBuf, String, usize), BTreeSet<usize>> = BTreeMap::new();
    for path in files {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let shard = stem.rsplit_once("-of-").and_then(|(start, count)| {
            let (name, index) = start.rsplit_once('-')?;
            // Hubs write a hash behind the number.
            let count = count.split('-').next()?;
            let folder = path.parent()?.to_owned();
            Some(((folder, name.to_owned(), count.parse().ok()?), index.parse().ok()?))
        });
        if let Some((of, index)) = shard {
            found.entry(of).or_default().insert(index);
        }
    }
    for ((_, name, count), indices) in found {
        if let Some(missing) = (0..count).find(|index| !indices.contains(index)) {
            let expected = format!("all {count} files {name}-*-of-{count:05}.parquet");
            let found = format!("no {name}-{missing:05}-of-{count:05}.parquet");
            return Err(DataError::format(root, expected, found, "download it, too"));
        }
    }
    Ok(())
}

/// Stack of the thread that reads a file: the crate descends into nested columns.
const STACK: usize = 1 << 30;
/// Longest description at the end of a file; with it go the nested columns that fit into the stack.
const MAX_FOOTER: u32 = 1 << 20;

/// A file at whose end reading fails: the crate skips what is not there in lists of any length, read by read.
struct Strict(File);

impl Length for Strict {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Strict {
    type T = BufReader<StrictRead>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut file = self.0.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(StrictRead(file)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.get_bytes(start, length)
    }
}

/// A part of such a file.
struct StrictRead(File);

impl Read for StrictRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

/// The images and labels of a file, as they are.
struct Table {
    path: PathBuf,
    images: Vec<Arc<[u8]>>,
    labels: Vec<String>,
    /// The class names, if the file has them.
    names: Option<Vec<String>>,
}

impl Table {
    /// Reads a file; the crate panics at some damaged ones, which is an error like others, and said as such.
    fn read_guarded(path: &Path) -> Result<Self, DataError> {
        let outcome = thread::scope(|scope| {
            let reader = thread::Builder::new().stack_size(STACK);
            let reader = reader.spawn_scoped(scope, || guarded(|| Self::read(path)))?;
            Ok(reader.join().ok().flatten())
        });
        let outcome = outcome.map_err(|error: io::Error| DataError::io(path, error))?;
        outcome.unwrap_or_else(|| {
            let remedy = "download the file again";
            Err(DataError::format(path, "an intact Parquet file", "a damaged one", remedy))
        })
    }

    fn read(path: &Path) -> Result<Self, DataError> {
        let expected = "a Parquet file with a column of encoded images and one of labels";
        let fail = |found: String| {
            DataError::format(path, expected, found, "check the file, or download it again")
        };
        let mut file = File::open(path).map_err(|e| DataError::io(path, e))?;
        let mut end = [0; 8];
        let at_end = file.seek(SeekFrom::End(-8)).and_then(|_| file.read_exact(&mut end));
        at_end.map_err(|error| fail(error.to_string()))?;
        let footer = u32::from_le_bytes([end[0], end[1], end[2], end[3]]);
        if footer > MAX_FOOTER {
            return Err(fail(format!("a description of {footer} bytes")));
        }
        let reader =
            SerializedFileReader::new(Strict(file)).map_err(|error| fail(error.to_string()))?;
        let meta = reader.metadata().file_metadata();
        let columns = meta.schema().get_fields();
        let image = columns.iter().find(|column| holds_images(column));
        let named = |name: &&str| columns.iter().find(|column| column.name() == *name);
        let label = LABELS.iter().find_map(named);
        let (Some(image), Some(label)) = (image, label) else {
            let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
            return Err(fail(format!("the columns {}", names.join(", "))));
        };
        let of_hub = meta
            .key_value_metadata()
            .and_then(|all| all.iter().find(|pair| pair.key == "huggingface"));
        let of_hub = of_hub.and_then(|pair| pair.value.as_deref());
        let names = of_hub.and_then(|json| class_names(json, label.name()));
        check_pages(&reader, [image.name(), label.name()]).map_err(&fail)?;
        let chosen =
            Type::group_type_builder("schema").with_fields(vec![image.clone(), label.clone()]);
        let chosen = chosen.build().map_err(|error| fail(error.to_string()))?;
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        let (image, label) = (image.name().to_owned(), label.name().to_owned());
        for row in reader.get_row_iter(Some(chosen)).map_err(|error| fail(error.to_string()))? {
            let row = row.map_err(|error| fail(error.to_string()))?;
            let at = images.len();
            let cell = |name: &str| {
                row.get_column_iter().find(|(column, _)| *column == name).map(|(_, field)| field)
            };
            let bytes = cell(&image).and_then(encoded);
            let bytes = bytes.ok_or_else(|| {
                fail(format!("row {at} without an image in it (a path alone is no image)"))
            })?;
            let text = cell(&label).and_then(label_of);
            let text = text.ok_or_else(|| {
                fail(format!("row {at} with a label that is neither a text nor a whole number"))
            })?;
            labels.push(text);
            images.push(bytes);
        }
        Ok(Self { path: path.to_owned(), images, labels, names })
    }
}

/// Refuses pages of these columns that promise more values than they can hold: the crate allocates what they promise.
fn check_pages(reader: &SerializedFileReader<Strict>, columns: [&str; 2]) -> Result<(), String> {
    let text = |error: ParquetError| error.to_string();
    for index in 0..reader.num_row_groups() {
        let group = reader.get_row_group(index).map_err(text)?;
        let rows = u64::try_from(group.metadata().num_rows()).unwrap_or(0);
        for (at, column) in group.metadata().columns().iter().enumerate() {
            if !columns.contains(&column.column_path().parts()[0].as_str()) {
                continue;
            }
            let [whole, packed] = [column.uncompressed_size(), column.compressed_size()]
                .map(|bytes| u64::try_from(bytes).unwrap_or(0));
            if whole > most_unpacked(packed) {
                return Err(format!("{whole} bytes in {packed} compressed ones"));
            }
            for page in group.get_column_page_reader(at).map_err(text)? {
                let page = page.map_err(text)?;
                let held = match page.is_dictionary_page() {
                    true => page.buffer().len() as u64,
                    false => rows,
                };
                if u64::from(page.num_values()) > held {
                    return Err(format!(
                        "a page of {} values that holds {held}",
                        page.num_values()
                    ));
                }
            }
        }
    }
    Ok(())
}

/// True for a column of bytes, or of groups with bytes.
fn holds_images(column: &Type) -> bool {
    let is_bytes = |column: &Type| {
        column.is_primitive()
            && column.get_physical_type() == Physical::BYTE_ARRAY
            && column.get_basic_info().logical_type_ref().is_none()
    };
    if column.is_primitive() {
        return is_bytes(column)
            && ["image", "img", "bytes", "picture", "photo"].contains(&column.name());
    }
    column.get_fields().iter().any(|inner| inner.name() == "bytes" && is_bytes(inner))
}

fn encoded(field: &Field) -> Option<Arc<[u8]>> {
    match field {
        Field::Bytes(bytes) => Some(bytes.data().into()),
        Field::Group(row) => bytes_of(row),
        _ => None,
    }
}

fn bytes_of(row: &Row) -> Option<Arc<[u8]>> {
    let (_, field) = row.get_column_iter().find(|(name, _)| *name == "bytes")?;
    match field {
        Field::Bytes(bytes) => Some(bytes.data().into()),
        _ => None,
    }
}

fn label_of(field: &Field) -> Option<String> {
    match field {
        Field::Str(text) => Some(text.clone()),
        Field::Bytes(bytes) => bytes.as_utf8().ok().map(String::from),
        Field::Null => Some(UNLABELLED.to_owned()),
        Field::Bool(value) => Some(u8::from(*value).to_string()),
        Field::Byte(_)
        | Field::Short(_)
        | Field::Int(_)
        | Field::Long(_)
        | Field::UByte(_)
        | Field::UShort(_)
        | Field::UInt(_)
        | Field::ULong(_) => Some(field.to_string()),
        _ => None,
    }
}

/// The names of a column's classes in the description that Hugging Face's `datasets` writes.
fn class_names(json: &str, column: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_str(json).ok()?;
    let names = json.get("info")?.get("features")?.get(column)?.get("names")?;
    let name = |name: &serde_json::Value| name.as_str().map(String::from);
    names.as_array()?.iter().map(name).collect()
}
