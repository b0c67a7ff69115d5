//! `asap predict`: the classes of image files, with probabilities.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use asap_data::{DataError, IMAGE_ENDINGS, read_image};
use asap_net::evaluation::softmax;
use rayon::prelude::*;
use serde::Serialize;

use crate::args::{Common, PredictArgs};
use crate::failure::Usage;

/// Number of files read, and then classified, at a time.
const FILES: usize = 256;

/// One line of `--json`.
#[derive(Serialize)]
struct Prediction<'a> {
    path: &'a Path,
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
    super::start_threads(common.threads.unwrap_or(0))?;
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
            files.par_iter().map(|file| read_image(file, shape)).collect();
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

/// All files that the arguments name, in their order; the files of a folder are sorted.
fn files(arguments: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        if argument.as_os_str() == "-" {
            for line in io::stdin().lock().lines() {
                let line = line.context("cannot read the list of files on standard input")?;
                if !line.is_empty() {
                    files.push(PathBuf::from(line));
                }
            }
        } else if argument.is_dir() {
            let before = files.len();
            pictures(argument, &mut files)?;
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

fn pictures(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let list = || -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut entries =
        list().map_err(|error| Usage(format!("cannot read {}: {error}", folder.display())))?;
    entries.sort();
    for entry in entries {
        let ending = entry.extension().map(|e| e.to_string_lossy().to_lowercase());
        if entry.is_dir() {
            pictures(&entry, files)?;
        } else if ending.is_some_and(|ending| IMAGE_ENDINGS.contains(&ending.as_str())) {
            files.push(entry);
        }
    }
    Ok(())
}
