//! `asap transfer`: several cells on several data sets with one recipe.

use std::fmt::Write;
use std::path::Path;

use asap::jobs::planned::Plan as _;
use asap::jobs::transfer::{NamedCell, Plan, Transfer};
use asap::run::tables::TransferTable;
use asap_core::{PlainNetwork, PublishedCell};

use crate::args::{Common, TransferArgs};
use crate::output::{self, duration};
use crate::progress::Progress;

pub(crate) fn run(args: &TransferArgs, common: &Common) -> anyhow::Result<()> {
    to_the_end(&prepare(args, common, "transfer")?, "transfer", common)
}

/// A new transfer in its folder, or the one to resume.
pub(crate) fn prepare(
    args: &TransferArgs,
    common: &Common,
    command: &str,
) -> anyhow::Result<Transfer> {
    Ok(match &args.resume {
        Some(path) => {
            super::no_settings(common)?;
            let transfer = Transfer::open(path)?.with_threads(common.threads);
            let shard = super::shard(args.part, common, true, transfer.plan().runs())?;
            transfer.with_shard(shard)?
        }
        None => {
            let layers = super::shared_layers(args.preset, common)?;
            if let Some((key, value, origin)) = super::given(&layers, &["data.source", "data.dir"])
            {
                return Err(crate::failure::Usage(format!(
                    "{key} = {value} ({origin}): would change nothing; --data gives the data sets here"
                ))
                .into());
            }
            let config = layers.resolve()?;
            let named = |cell: &String| -> anyhow::Result<NamedCell> {
                Ok(NamedCell { name: cell_name(cell), design: super::cells::read_design(cell)? })
            };
            let plan = Plan {
                cells: args.cells.iter().map(named).collect::<anyhow::Result<_>>()?,
                data: args.data.iter().map(|data| super::anywhere(data)).collect(),
                seeds: config.seeds(args.repeat),
            };
            let place = super::place(common, command);
            let shard = super::shard(args.part, common, false, plan.runs())?;
            Transfer::create(&place, &config, plan, shard, &mut Progress::new())?
        }
    })
}

/// Runs the trainings that are not done yet, and prints the table.
pub(crate) fn to_the_end(
    transfer: &Transfer,
    command: &str,
    common: &Common,
) -> anyhow::Result<()> {
    let table = finish(transfer, command)?;
    output::print(common.json, &table, &text(&table, &super::shell_path(transfer.folder()))?)?;
    after(transfer, &table, command)
}

/// Runs the trainings that are not done yet.
pub(crate) fn finish(transfer: &Transfer, command: &str) -> anyhow::Result<Box<TransferTable>> {
    eprintln!("run folder: {}", super::shell_path(transfer.folder()));
    super::to_the_end(command, transfer.folder(), |progress, stop| transfer.run(progress, stop))
}

/// What is to be said after the table: trainings that are still to be done, or failed.
pub(crate) fn after(
    transfer: &Transfer,
    table: &TransferTable,
    command: &str,
) -> anyhow::Result<()> {
    let folder = transfer.folder();
    super::note_missing(&table.missing, transfer.plan().runs(), command, folder);
    let failures = table.rows.iter().map(|row| row.failures.len()).sum();
    super::fail_after_table(failures, "trainings", command, folder)
}

fn text(table: &TransferTable, path: &str) -> anyhow::Result<String> {
    let mut text = format!(
        "{:<20} {:<16} {:>10} {:>14} {:>18} {:>14}\n",
        "cell", "data", "weights", "multiply-adds", "test error", "time"
    );
    for row in &table.rows {
        let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
        let error = row.error.as_ref().map(super::compare::spread);
        writeln!(
            text,
            "{:<20} {:<16} {:>10} {:>14} {:>18} {:>14}",
            row.cell,
            Path::new(&row.data).file_name().unwrap_or_default().display(),
            or_dash(row.params.map(|params| params.to_string())),
            or_dash(row.multiply_adds.map(|m| format!("{:.1} M", m as f64 / 1e6))),
            or_dash(error),
            or_dash(row.seconds.map(duration)),
        )?;
    }
    for failure in table.rows.iter().flat_map(|row| &row.failures) {
        writeln!(text, "failed: {failure}")?;
    }
    writeln!(text, "report: {path}/report.html")?;
    Ok(text)
}

/// The name of a cell in a table: that of a published one, a file or a folder, or `cell`.
pub(crate) fn cell_name(cell: &str) -> String {
    if let Ok(published) = PublishedCell::find(cell) {
        return published.name.to_owned();
    }
    if let Ok(network) = cell.parse::<PlainNetwork>() {
        return network.to_string();
    }
    let path = Path::new(cell);
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    match name {
        Some(name) if path.exists() => name.to_string_lossy().into_owned(),
        _ => "cell".to_owned(),
    }
}
