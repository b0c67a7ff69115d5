//! `asap export`: trained networks and cells for other tools.

use std::fs;
use std::path::PathBuf;

use asap_core::{Design, Family};
use asap_net::export::{Input, onnx, pytorch};
use serde::Serialize;

use crate::args::{Common, ExportArgs, ExportFormat};
use crate::failure::Usage;
use crate::files::{cannot_write, refuse_existing, write};
use crate::output;

/// The result of an export.
#[derive(Serialize)]
struct Exported {
    format: ExportFormat,
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &ExportArgs, common: &Common) -> anyhow::Result<()> {
    let format = args.format;
    let device = common.device.unwrap_or_default();
    let open = || {
        let network = asap::run::folder::open_trained(&args.run, device)?;
        Ok::<_, asap::Error>(network.averaging_flips(args.flips))
    };
    if args.flips && !matches!(format, ExportFormat::Onnx | ExportFormat::Pytorch) {
        return Err(Usage("--flips: expected --format onnx or pytorch with it".to_owned()).into());
    }
    if args.normalize && format != ExportFormat::Onnx {
        return Err(Usage("--normalize: expected --format onnx with it".to_owned()).into());
    }
    let out = |default: &str| common.out.clone().unwrap_or_else(|| PathBuf::from(default));
    let files = match format {
        ExportFormat::Onnx => {
            let input = if args.normalize { Input::Unit } else { Input::Normalized };
            vec![write(&out("network.onnx"), &onnx(&open()?, input))?]
        }
        ExportFormat::Pytorch => {
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
        ExportFormat::Safetensors => {
            let path = out("weights.safetensors");
            refuse_existing(&path)?;
            open()?.save(&path)?;
            vec![path]
        }
        ExportFormat::Darts => {
            let genotype = match super::cells::read(&args.run.to_string_lossy()) {
                Ok(genotype) => genotype,
                Err(_) => match &open()?.card().design {
                    Design::Cells(genotype) => genotype.clone(),
                    Design::Plain(network) => {
                        return Err(Usage(format!(
                            "{}: expected a network of cells for --format darts, found {network}, which has none",
                            args.run.display()
                        ))
                        .into());
                    }
                },
            };
            // The Python notation of the family; NAS-Bench-201's is a string.
            let text = match genotype.family() {
                Family::Darts => format!(
                    "from collections import namedtuple\n\n\
                 Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')\n\n\
                 ASAP_FOUND = {genotype}\n"
                ),
                _ => format!("ASAP_FOUND = \"{genotype}\"\n"),
            };
            vec![write(&out("genotypes.py"), text.as_bytes())?]
        }
    };
    let text = files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n");
    output::print(common.json, &Exported { format, files }, &text)
}
