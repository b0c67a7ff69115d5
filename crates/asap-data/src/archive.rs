//! Archives of data sets as they are downloaded, unpacked once into the user's cache.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, copy};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use flate2::bufread::MultiGzDecoder;

use crate::DataError;
use crate::cache::cache_folder;
use crate::listing::MADE;
use crate::random::fnv1a;

/// Most bytes that what is compressed may grow to, as a multiple of its own, above [`ALWAYS`].
const GROWTH: u64 = 100;
/// Bytes that anything may grow to.
const ALWAYS: u64 = 1 << 30;
/// Most entries of an archive.
const ENTRIES: usize = 5_000_000;

/// Extensions, in lower case.
const ENDINGS: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".zip"];

/// Most bytes that so many compressed ones may become: more is a bomb.
pub(crate) fn most_unpacked(compressed: u64) -> u64 {
    ALWAYS.max(compressed.saturating_mul(GROWTH))
}

/// True if a file is called like an archive.
pub(crate) fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    path.is_file() && ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The folder with the content of an archive, in `cache` or in the user's, and how many links and devices were left out. It is unpacked
/// unless it already was; only files and folders are, and none outside.
///
/// # Errors
/// A damaged archive, one that grows too much, or a cache that cannot be written to.
pub(crate) fn unpacked(path: &Path, cache: Option<&Path>) -> Result<(PathBuf, usize), DataError> {
    /// Tells the threads of this process apart.
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let fail = |error| DataError::io(path, error);
    let whole = fs::canonicalize(path).map_err(fail)?;
    let meta = fs::metadata(&whole).map_err(fail)?;
    let changed = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let identity = format!("{}\0{}\0{changed:?}", whole.display(), meta.len());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    let cache = cache.map_or_else(users_cache, Path::to_owned);
    let folder = cache.join(format!("{stem}-{:016x}", fnv1a(identity.as_bytes())));
    // Someone may have tidied up.
    if folder.is_dir() {
        let made = fs::read_to_string(folder.join(MADE)).unwrap_or_default();
        if let Some((count, left_out)) = made.split_once(' ')
            && count == files_in(&folder).to_string()
            && let Ok(left_out) = left_out.parse()
        {
            return Ok((folder, left_out));
        }
        fs::remove_dir_all(&folder).map_err(|e| DataError::io(&folder, e))?;
    }
    let refused = |folder: &Path, error| {
        let found = format!("{error}");
        let remedy = "free space there, choose another folder with XDG_CACHE_HOME, or unpack the archive yourself";
        DataError::format(folder, "a folder to unpack the archive into", found, remedy)
    };
    fs::create_dir_all(&cache).map_err(|error| refused(&cache, error))?;
    let started = STARTED.fetch_add(1, Ordering::Relaxed);
    let partial = cache.join(format!(".{stem}-{}-{started}", std::process::id()));
    let _ = fs::remove_dir_all(&partial);
    let mut budget = Budget::of(meta.len());
    let outcome = unpack(path, &partial, &mut budget);
    let outcome = outcome.map_err(|fault| match fault {
        Fault::Archive(found) => {
            let expected = "an intact archive of files (tar, tar.gz or zip)";
            DataError::format(path, expected, found, "download it again, or unpack it yourself")
        }
        Fault::Write(error) => refused(&partial, error),
    });
    if let Err(error) = outcome {
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    let count = 1 + files_in(&partial);
    let left_out = budget.left_out;
    let made = format!("{count} {left_out}");
    fs::write(partial.join(MADE), made).map_err(|error| refused(&partial, error))?;
    match fs::rename(&partial, &folder) {
        // Another process was faster.
        Err(_) if folder.is_dir() => {
            let _ = fs::remove_dir_all(&partial);
            Ok((folder, left_out))
        }
        Err(error) => Err(refused(&folder, error)),
        Ok(()) => Ok((folder, left_out)),
    }
}

/// Number of files in a folder, and in those in it.
fn files_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_in(&entry.path()) } else { 1 }).sum()
}

/// The user's folder of unpacked archives; its content can be deleted at any time.
fn users_cache() -> PathBuf {
    cache_folder().unwrap_or_else(|| std::env::temp_dir().join("asap")).join("unpacked")
}

enum Fault {
    /// The archive is damaged, or something else.
    Archive(String),
    /// Its content cannot be written.
    Write(io::Error),
}

/// What is left of the limits on an archive.
struct Budget {
    bytes: u64,
    entries: usize,
    /// Entries that were not unpacked.
    left_out: usize,
}

impl Budget {
    fn of(length: u64) -> Self {
        Self { bytes: most_unpacked(length), entries: ENTRIES, left_out: 0 }
    }

    /// Writes a file below `folder`, which the archive calls `name`.
    fn write(&mut self, name: &Path, folder: &Path, from: &mut impl Read) -> Result<(), Fault> {
        self.entries = self
            .entries
            .checked_sub(1)
            .ok_or_else(|| Fault::Archive(format!("more than {ENTRIES} entries")))?;
        let path = folder.join(inside(name)?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Fault::Write)?;
        }
        let mut file = File::create_new(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Fault::Archive(format!("two files of the name {}", name.display()))
            }
            _ => Fault::Write(error),
        })?;
        let mut limited = Tracked { from: from.take(self.bytes.saturating_add(1)), failed: None };
        let written = copy(&mut limited, &mut file);
        if let Some(error) = limited.failed {
            return Err(Fault::Archive(format!("a damaged one ({error} in {})", name.display())));
        }
        let written = written.map_err(Fault::Write)?;
        self.bytes = self.bytes.checked_sub(written).ok_or_else(|| {
            Fault::Archive("content that is more than 100 times as large as the archive".to_owned())
        })?;
        Ok(())
    }
}

/// A reader that remembers its error, to tell it from one of the writer.
struct Tracked<R> {
    from: R,
    failed: Option<String>,
}

impl<R: Read> Read for Tracked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer).inspect_err(|error| self.failed = Some(error.to_string()))
    }
}

/// Bytes of a block of a tar archive, which ends with blocks of zeros.
const BLOCK: u64 = 512;

/// A reader that counts the zeros that it read last.
struct Ending<R> {
    from: R,
    zeros: u64,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        let zeros = buffer[..read].iter().rev().take_while(|&&byte| byte == 0).count();
        self.zeros = if zeros == read { self.zeros + zeros as u64 } else { zeros as u64 };
        Ok(read)
    }
}

/// A path of an archive, if it does not leave the folder.
fn inside(name: &Path) -> Result<PathBuf, Fault> {
    let parts = name.components().filter(|part| *part != Component::CurDir);
    let part = |part: Component<'_>| match part {
        Component::Normal(part) => Ok(part.to_owned()),
        _ => Err(Fault::Archive(format!("the path {}, which leads outside", name.display()))),
    };
    parts.map(part).collect()
}

fn unpack(path: &Path, folder: &Path, budget: &mut Budget) -> Result<(), Fault> {
    let damaged = |error: &dyn std::fmt::Display| {
        Fault::Archive(format!("another file or a damaged one ({error})"))
    };
    fs::create_dir_all(folder).map_err(Fault::Write)?;
    let mut file = BufReader::new(File::open(path).map_err(|error| damaged(&error))?);
    let mut start = [0; 4];
    let start = match file.read_exact(&mut start) {
        Ok(()) => start,
        Err(error) => return Err(damaged(&error)),
    };
    let file = BufReader::new(File::open(path).map_err(|error| damaged(&error))?);
    match start {
        [b'P', b'K', ..] => {
            let mut zip = zip::ZipArchive::new(file).map_err(|error| damaged(&error))?;
            let count = files_of(path, zip.comment().len()).map_err(|error| damaged(&error))?;
            if let Some(count) = count.filter(|&count| count != zip.len()) {
                return Err(Fault::Archive(format!("{count} files of {} names", zip.len())));
            }
            for index in 0..zip.len() {
                let mut entry = zip.by_index(index).map_err(|error| damaged(&error))?;
                if entry.is_file() {
                    let name = entry.name().map_err(|error| damaged(&error))?;
                    let name = PathBuf::from(name.replace('\\', "/"));
                    budget.write(&name, folder, &mut entry)?;
                } else if !entry.is_dir() {
                    budget.left_out += 1;
                }
            }
            Ok(())
        }
        [0x1f, 0x8b, ..] => unpack_tar(MultiGzDecoder::new(file), folder, budget),
        _ => unpack_tar(file, folder, budget),
    }
}

/// The number of files of a zip archive, which its end tells; the crate keeps the last of those of one name.
fn files_of(path: &Path, comment: usize) -> io::Result<Option<usize>> {
    /// Bytes of the end without its comment, and where the number is in it.
    const END: usize = 22;
    const COUNT: usize = 10;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-((END + comment) as i64)))?;
    let mut end = [0; END];
    file.read_exact(&mut end)?;
    let count = u16::from_le_bytes([end[COUNT], end[COUNT + 1]]);
    // An archive of more files has the number elsewhere.
    Ok((end.starts_with(b"PK\x05\x06") && count < u16::MAX).then_some(count.into()))
}

fn unpack_tar(from: impl Read, folder: &Path, budget: &mut Budget) -> Result<(), Fault> {
    let damaged =
        |error: io::Error| Fault::Archive(format!("another file or a damaged one ({error})"));
    let mut archive = tar::Archive::new(Ending { from, zeros: 0 });
    let mut any = false;
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        any = true;
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            let name = entry.path().map_err(damaged)?.into_owned();
            budget.write(&name, folder, &mut entry)?;
        } else if kind.is_hard_link() {
            // Another name of a file before it.
            let (name, of) = (entry.path().map_err(damaged)?, entry.link_name().map_err(damaged)?);
            let of = of.ok_or_else(|| Fault::Archive("a link to nothing".to_owned()))?;
            let of = folder.join(inside(&of)?);
            let mut linked = File::open(&of).map_err(|_| {
                Fault::Archive(format!("a link to {}, which is not there", of.display()))
            })?;
            budget.write(&name, folder, &mut linked)?;
        } else if !kind.is_dir() && !kind.is_pax_global_extensions() {
            budget.left_out += 1;
        }
    }
    // A compressed archive has its checksum at the end, behind the last entry.
    let mut ending = archive.into_inner();
    let whole = ending.zeros >= BLOCK;
    copy(&mut ending.by_ref().take(budget.bytes), &mut io::sink()).map_err(damaged)?;
    if !whole {
        return Err(Fault::Archive("one that ends too early".to_owned()));
    }
    if any { Ok(()) } else { Err(Fault::Archive("no entries".to_owned())) }
}
