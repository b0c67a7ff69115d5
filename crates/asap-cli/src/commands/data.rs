//! `asap data`: the known data sets, and what is in one.

use std::fmt::Write;

use asap_data::{DataSpec, DatasetName, LoadOptions};

use crate::args::{Common, DataArgs, DataCommand};
use crate::output;

pub(crate) fn run(args: &DataArgs, common: &Common) -> anyhow::Result<()> {
    match &args.command {
        DataCommand::List => list(common),
        DataCommand::Check { data, data_dir, skip_corrupt } => {
            let spec: DataSpec = data.parse()?;
            let options = LoadOptions {
                seed: common.seed.unwrap_or(0),
                skip_corrupt: *skip_corrupt,
                ..LoadOptions::default()
            };
            let splits = asap_data::load(&spec, data_dir.as_deref(), &options)?;
            let description = asap_data::describe(&splits);
            output::print(common.json, &description, &description.to_string())
        }
    }
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
         \x20              split into train/ and test/; or a folder with the files of a data set above\n",
    );
    output::print(common.json, &known, &text)
}
