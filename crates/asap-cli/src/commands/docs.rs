//! `asap docs`: what is generated from the definition of the command line and of the configuration.

use std::fmt::Write;
use std::{fs, io};

use anyhow::Context;
use asap::{Config, Layers, Preset};
use clap::CommandFactory;
use serde_json::Value;

use crate::args::{Arguments, DocsArgs, DocsCommand};

pub(crate) fn run(args: &DocsArgs) -> anyhow::Result<()> {
    let mut program = Arguments::command();
    match &args.command {
        DocsCommand::Completions { shell } => {
            clap_complete::generate(*shell, &mut program, "asap", &mut io::stdout());
        }
        DocsCommand::Man { folder } => {
            let cannot = || format!("cannot write manual pages to {}", folder.display());
            fs::create_dir_all(folder).with_context(cannot)?;
            clap_mangen::generate_to(program, folder).with_context(cannot)?;
            eprintln!(
                "{}: read with `man -M`, or one page with `man {0}/asap.1`",
                folder.display()
            );
        }
        DocsCommand::Reference => print!("{}", reference(program)?),
    }
    Ok(())
}

fn reference(program: clap::Command) -> anyhow::Result<String> {
    let mut text = String::from(
        "# Reference\n\nWritten by `asap docs reference`; the tests compare it with the program.\n\n## Commands\n",
    );
    let mut program = narrow(program).disable_help_subcommand(true);
    program.build();
    for command in program.get_subcommands_mut() {
        commands(&mut text, command)?;
    }
    text.push_str(
        "\n## Configuration keys\n\nFor `--set`, and for a file given with `--config`. The values are those of the \
         preset `paper`; `asap config show --preset ...` lists those of another.\n",
    );
    let schema = Config::schema();
    let section = |key: &str| key.rsplit_once('.').map_or(String::new(), |(of, _)| of.to_owned());
    let mut keys = Layers::preset(Preset::Paper).effective();
    keys.sort_by_key(|(key, ..)| (section(key), key.clone()));
    for (i, (key, value, _)) in keys.iter().enumerate() {
        if i == 0 || section(&keys[i - 1].0) != section(key) {
            text.push_str("\n| key | value | what |\n|---|---|---|\n");
        }
        let what = description(&schema, key).replace('\n', " ");
        writeln!(text, "| `{key}` | `{}` | {what} |", value.to_string().replace('\n', " "))?;
    }
    Ok(text)
}

/// The command and those below it at one width, whatever the terminal's is.
fn narrow(command: clap::Command) -> clap::Command {
    command.term_width(100).mut_subcommands(narrow)
}

/// A command and those below it.
fn commands(text: &mut String, command: &mut clap::Command) -> anyhow::Result<()> {
    let name = command.get_bin_name().unwrap_or_default().to_owned();
    let help = command.render_help().to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    write!(text, "\n### {name}\n\n```text\n{}\n```\n", help.join("\n"))?;
    for below in command.get_subcommands_mut() {
        commands(text, below)?;
    }
    Ok(())
}

/// What the schema says of a key.
fn description(schema: &Value, key: &str) -> String {
    let mut at = schema;
    for part in key.split('.') {
        let name = at["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        at = &name.map_or(at, |name| &schema["$defs"][name])["properties"][part];
    }
    at["description"].as_str().unwrap_or_default().to_owned()
}
