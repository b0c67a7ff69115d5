//! `asap export`: what other tools read.

use std::fs;
use std::path::{Path, PathBuf};

use asap_net::export::{Input, onnx, pytorch};
use serde::Serialize;

use crate::args::{Common, ExportArgs};
use crate::failure::Usage;
use crate::output;

/// The files that an export has written.
#[derive(Serialize)]
struct Exported {
    format: String,
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &ExportArgs, common: &Common) -> anyhow::Result<()> {
    let format = args.format.as_str();
    let open = || {
        asap::run::folder::open_trained(&args.run, super::evaluate::device(common)?)
            .map_err(anyhow::Error::from)
    };
    if args.normalize && format != "onnx" {
        return Err(Usage("--normalize: expected --format onnx beside it".to_owned()).into());
    }
    let out = |default: &str| common.out.clone().unwrap_or_else(|| PathBuf::from(default));
    let files = match format {
        "onnx" => {
            let input = if args.normalize { Input::Unit } else { Input::Normalized };
            vec![write(&out("network.onnx"), &onnx(&open()?, input))?]
        }
        "pytorch" => {
            let network = open()?;
            let folder = out("pytorch");
            let (module, weights) = (folder.join("network.py"), folder.join("weights.safetensors"));
            for path in [&module, &weights] {
                refuse_existing(path)?;
            }
            fs::create_dir_all(&folder).map_err(|e| cannot_write(&folder, &e))?;
            network.save(&weights)?;
            vec![write(&module, pytorch(&network, "weights.safetensors").as_bytes())?, weights]
        }
        "safetensors" => {
            let path = out("weights.safetensors");
            refuse_existing(&path)?;
            open()?.save(&path)?;
            vec![path]
        }
        "darts" => {
            let genotype = match super::cells::read(&args.run.to_string_lossy()) {
                Ok(genotype) => genotype,
                Err(_) => open()?.card().genotype.clone(),
            };
            let text = format!(
                "from collections import namedtuple\n\n\
                 Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')\n\n\
                 ASAP_FOUND = {genotype}\n"
            );
            vec![write(&out("genotypes.py"), text.as_bytes())?]
        }
        other => {
            let choices = "onnx, pytorch, safetensors, darts";
            let fault = format!("--format: unknown `{other}`; choose one of {choices}");
            return Err(Usage(fault).into());
        }
    };
    let text = files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n");
    output::print(common.json, &Exported { format: format.to_owned(), files }, &text)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    refuse_existing(path)?;
    fs::write(path, bytes).map_err(|error| cannot_write(path, &error))?;
    Ok(path.to_owned())
}

fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        let path = path.display();
        let fault = format!(
            "{path}: expected a new file, found one; nothing was changed; choose another with --out"
        );
        return Err(Usage(fault).into());
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> anyhow::Error {
    Usage(format!("cannot write {}: {error}", path.display())).into()
}
