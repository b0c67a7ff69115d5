//! `asap data`: the known data sets, what is in one, and packing it into a file.

use std::fmt::Write;
use std::path::Path;

use asap::memory::memory_for_images;
use asap_data::{DataSpec, DatasetName, LoadOptions, Splits};
use bytesize::ByteSize;
use serde_json::json;

use crate::args::{Common, DataArgs, DataCommand, DataSource};
use crate::failure::Usage;
use crate::files::refuse_existing;
use crate::output::{self, shell_word};
use crate::progress::Count;

pub(crate) fn run(args: &DataArgs, common: &Common) -> anyhow::Result<()> {
    let options = |skip_corrupt| LoadOptions {
        seed: common.seed.unwrap_or(0),
        skip_corrupt,
        memory: memory_for_images(0),
        ..LoadOptions::default()
    };
    match &args.command {
        DataCommand::List => list(common),
        DataCommand::Check { source, skip_corrupt: _ } => {
            let description = asap_data::describe(&load(source, &options(true))?)?;
            output::print(common.json, &description, &description.to_string())
        }
        DataCommand::Convert { source, out, size, skip_corrupt } => {
            refuse_existing(out)?;
            let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                let expected = "expected a folder that exists; make it first";
                return Err(Usage(format!("--out {}: {expected}", folder.display())).into());
            }
            let size = size.map(|side| (side, side));
            // Each image is needed once.
            let options = LoadOptions { size, memory: Some(0), ..options(*skip_corrupt) };
            let splits = load(source, &options)?;
            convert(&splits, out, common)
        }
    }
}

pub(super) fn load(source: &DataSource, options: &LoadOptions) -> anyhow::Result<Splits> {
    if let Some(dir) = &source.data_dir {
        super::no_unused_folder(Some(&source.data), dir)?;
    }
    let spec: DataSpec = source.data.parse()?;
    Ok(asap_data::load(&spec, source.data_dir.as_deref(), options)?)
}

fn convert(splits: &Splits, out: &Path, common: &Common) -> anyhow::Result<()> {
    for warning in &splits.warnings {
        eprintln!("note: {warning}");
    }
    let bar = Count::new("images");
    let written = asap_data::pack(splits, out, &mut |done, all| bar.at(done, all));
    bar.finish();
    let bytes = written?;
    let [height, width, channels] = splits.train.image_shape();
    let parts: Vec<_> = splits.parts().map(|(name, data)| (name, data.len())).collect();
    let counts: Vec<_> = parts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let text = format!(
        "{}: {} images of {height}x{width}x{channels} in {} classes, {}\nnext: asap run --data {} --time 1h",
        out.display(),
        counts.join(" + "),
        splits.train.classes().len(),
        ByteSize(bytes),
        shell_word(&out.display().to_string())
    );
    let value = json!({
        "path": out,
        "bytes": bytes,
        "shape": [height, width, channels],
        "classes": splits.train.classes(),
        "images": parts.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "notes": splits.warnings,
    });
    output::print(common.json, &value, &text)
}

fn list(common: &Common) -> anyhow::Result<()> {
    let known = asap_data::known();
    let mut text = String::new();
    for dataset in &known {
        let place = match (dataset.name, &dataset.found_at) {
            (DatasetName::Embedded, _) => dataset.remedy.to_owned(),
            (_, Some(path)) => format!("found in {}", path.display()),
            (_, None) => format!("not found: {}", dataset.remedy),
        };
        writeln!(text, "{:<14} {}\n{:14} {place}", dataset.name.to_string(), dataset.form, "")?;
    }
    text.push_str(
        "PATH           your own images (PNG, JPEG, GIF, WebP, BMP, TIFF, PPM) in one folder per class, optionally\n\
         \x20              split into train/ and test/, or in a table with the columns file,label (.csv); the files of\n\
         \x20              a data set above, of SVHN or in their forms; .npz (MedMNIST), .parquet (model hubs), an\n\
         \x20              archive of any of these (.tar, .tar.gz, .zip), or a file of `asap data convert`\n",
    );
    output::print(common.json, &known, &text)
}
