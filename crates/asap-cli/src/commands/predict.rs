//! `asap predict`: the classes of image files, with probabilities.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use asap_data::{DataError, FEW_BITS, IMAGE_ENDINGS, is_image, is_litter, read_picture};
use asap_net::evaluation::softmax;
use rayon::prelude::*;
use serde::Serialize;

use crate::args::{Common, PredictArgs};
use crate::failure::Usage;
use crate::output::counted;

/// Number of files read, and then classified, at a time.
const FILES: usize = 256;

/// One line of `--json`.
#[derive(Serialize)]
struct Prediction<'a> {
    /// With a replacement character for what is not UTF-8.
    path: &'a str,
    class: &'a str,
    probability: f32,
    top: Vec<Ranked<'a>>,
    /// In the order of the network's classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<&'a [f32]>,
}

#[derive(Serialize)]
struct Ranked<'a> {
    class: &'a str,
    probability: f32,
}

pub(crate) fn run(args: &PredictArgs, common: &Common) -> anyhow::Result<()> {
    let network = asap::run::folder::open_trained(&args.run, common.device.unwrap_or_default())?;
    let network = network.averaging_flips(args.flips);
    let classes = &network.card().classes;
    if args.top == 0 {
        return Err(Usage("--top: expected at least 1, found 0".to_owned()).into());
    }
    let files = files(&args.images)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for files in files.chunks(FILES) {
        let shape = network.image_shape();
        let read: Vec<Result<Vec<u8>, DataError>> =
            files.par_iter().map(|file| read(file, shape)).collect();
        let (mut paths, mut images) = (Vec::new(), Vec::new());
        for (path, image) in files.iter().zip(read) {
            match image {
                Ok(image) => {
                    paths.push(path);
                    images.extend(image);
                }
                Err(error) if args.skip_corrupt => eprintln!("note: skipped: {error}"),
                Err(error) => {
                    out.flush()?;
                    return Err(error.into());
                }
            }
        }
        for (path, logits) in paths.into_iter().zip(network.logits(&images)?) {
            let row = softmax(&logits);
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let top: Vec<Ranked<'_>> = order
                .iter()
                .take(args.top)
                .map(|&i| Ranked { class: &classes[i], probability: row[i] })
                .collect();
            if common.json {
                let Ranked { class, probability } = top[0];
                let logits = args.logits.then_some(logits.as_slice());
                let path = &path.to_string_lossy();
                let line = Prediction { path, class, probability, top, logits };
                serde_json::to_writer(&mut out, &line).map_err(io::Error::from)?;
                writeln!(out)?;
            } else {
                write!(out, "{}", path.display())?;
                for Ranked { class, probability } in &top {
                    write!(out, "\t{class} {:.1} %", 100.0 * probability)?;
                }
                writeln!(out)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// An image; what its network can't see of it is told.
fn read(path: &Path, shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
    let picture = read_picture(path, shape)?;
    if let Some(bits) = picture.bits.filter(|&bits| bits <= FEW_BITS) {
        eprintln!(
            "note: {}: its 16-bit values use only {bits} bits, and are nearly black after conversion to 8",
            path.display()
        );
    }
    if picture.transparent {
        eprintln!("note: {}: transparent in places, and laid on white", path.display());
    }
    Ok(picture.bytes)
}

/// All files that the arguments name, in their order; the files of a folder are sorted.
fn files(arguments: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        let before = files.len();
        if argument.as_os_str() == "-" {
            listed(&mut files)?;
            if files.len() == before {
                eprintln!("note: the list on standard input is empty");
            }
        } else if argument.is_dir() {
            pictures(argument, &mut HashSet::new(), &mut files)?;
            if files.len() == before {
                let fault = format!(
                    "{}: expected image files ({}) in the folder, found none; give another folder, or the files",
                    argument.display(),
                    IMAGE_ENDINGS.join(", ")
                );
                return Err(Usage(fault).into());
            }
        } else {
            files.push(argument.clone());
        }
    }
    Ok(files)
}

/// The files of the list on standard input, one per line, in any encoding that contains ASCII.
fn listed(files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .context("cannot read the list of files on standard input")?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let fault = "the list on standard input: expected UTF-8, found UTF-16; convert it, for example with iconv";
        return Err(Usage(fault.to_owned()).into());
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let lines =
        text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines = lines.filter(|line| !line.is_empty());
    files.extend(lines.map(|line| from_windows(line).unwrap_or_else(|| path(line))));
    Ok(())
}

/// The path of a line that Windows wrote, with backslashes, if there is a file only under its name with slashes.
fn from_windows(line: &[u8]) -> Option<PathBuf> {
    let slashes: Vec<u8> = line.iter().map(|&b| if b == b'\\' { b'/' } else { b }).collect();
    let there = path(&slashes);
    (line.contains(&b'\\') && !path(line).exists() && there.exists()).then_some(there)
}

#[cfg(unix)]
fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(not(unix))]
fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// The images below a folder, without hidden ones and those that systems make; `seen` are the folders so far, since links may lead in
/// circles.
fn pictures(
    folder: &Path,
    seen: &mut HashSet<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    let mut list = || -> io::Result<Vec<PathBuf>> {
        if !seen.insert(std::fs::canonicalize(folder)?) {
            return Ok(Vec::new());
        }
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut entries =
        list().map_err(|error| Usage(format!("cannot read {}: {error}", folder.display())))?;
    let all = entries.len();
    entries.retain(|entry| !entry.file_name().is_some_and(is_litter));
    if entries.len() < all {
        let (count, folder) = (all - entries.len(), folder.display());
        eprintln!("note: left out {count} hidden entries, or ones that systems make, in {folder}");
    }
    entries.sort();
    let mut others = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            pictures(&entry, seen, files)?;
        } else if is_image(&entry) {
            files.push(entry);
        } else {
            others.push(entry);
        }
    }
    if let [first, ..] = &others[..] {
        eprintln!(
            "note: left out {} without an image's extension ({}), such as {}",
            counted(others.len(), "file"),
            IMAGE_ENDINGS.join(", "),
            first.display()
        );
    }
    Ok(())
}
