//! `asap data list` and `asap data check`.

use std::fmt::Write;

use asap_data::{DataSpec, LoadOptions};

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
        let place = match &dataset.found_at {
            Some(path) => format!("found at {}", path.display()),
            None => format!("not found; {}", dataset.remedy),
        };
        writeln!(text, "{:<14} {}\n{:14} {place}", dataset.name.to_string(), dataset.form, "")?;
    }
    text.push_str(
        "A path          a folder per class (PNG, JPEG, GIF, WebP, BMP, PPM), with train/ and test/ or to be split;\n",
    );
    text.push_str("                or a folder with the files of a form above\n");
    output::print(common.json, &known, &text)
}
