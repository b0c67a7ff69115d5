//! `asap config show`: the effective configuration and its origins.

use std::fmt::Write;

use serde::Serialize;

use crate::args::{Common, ConfigArgs, ConfigCommand};
use crate::output;

#[derive(Serialize)]
struct Setting {
    key: String,
    value: serde_json::Value,
    origin: String,
}

pub(crate) fn run(args: &ConfigArgs, common: &Common) -> anyhow::Result<()> {
    let ConfigCommand::Show(settings) = &args.command;
    let layers = super::layers(settings, common)?;
    layers.resolve()?;
    let mut text = String::new();
    let mut shown = Vec::new();
    for (key, value, origin) in layers.effective() {
        writeln!(text, "{:<50} # {origin}", format!("{key} = {value}"))?;
        shown.push(Setting {
            key,
            value: serde_json::to_value(value)?,
            origin: origin.to_string(),
        });
    }
    output::print(common.json, &shown, &text)
}
