//! `asap compare`: search methods side by side.

use std::fmt::Write;
use std::path::Path;

use asap::jobs::compare::{Compare, Plan, TableFile};
use asap::jobs::planned::Plan as _;
use asap::jobs::queries;
use asap::run::spread::Spread;
use asap::run::tables::{Comparison, QueryTable, TabularSummary};

use crate::args::{Common, CompareArgs, Limits};
use crate::failure::Usage;
use crate::output::{self, duration, megabytes, percent};
use crate::progress::Progress;

pub(crate) fn run(args: &CompareArgs, common: &Common) -> anyhow::Result<()> {
    if let (Some(evaluations), Some(table)) = (args.evaluations, &args.table) {
        return on_table(args, common, table, evaluations);
    }
    let compare = prepare(args, common, "compare")?;
    let (table, path) = (to_the_end(&compare, "compare")?, super::shell_path(compare.folder()));
    output::print(common.json, &table, &text(&table, &path)?)?;
    after(&compare, &table, "compare")
}

/// Refuses limits of trained networks where nothing is trained.
fn no_limits_of_trainings(limits: Limits) -> anyhow::Result<()> {
    let given = [
        ("--max-multiply-adds", limits.max_multiply_adds.is_some()),
        ("--max-weights", limits.max_weights.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Usage(format!(
            "{flag}: limits the networks that are trained, and with --no-train or --table none is; leave it out"
        ))
        .into()),
        None => Ok(()),
    }
}

/// A new comparison in its folder, or the one to resume.
pub(crate) fn prepare(
    args: &CompareArgs,
    common: &Common,
    command: &str,
) -> anyhow::Result<Compare> {
    Ok(match &args.resume {
        Some(path) => {
            super::no_settings(common)?;
            let compare = Compare::open(path)?.with_threads(common.threads);
            let shard = super::shard(args.part, common, true, compare.plan().runs())?;
            compare.with_shard(shard)?
        }
        None => {
            let train = !args.no_train && args.table.is_none();
            if !train {
                no_limits_of_trainings(args.limits)?;
            }
            let mut layers = super::layers(&args.settings, common)?;
            super::limit(&mut layers, args.limits);
            super::no_decided_settings(args.limit.flag(), &layers, &super::decided())?;
            let minutes = args.minutes.map(|_| "--minutes");
            super::no_decided_settings(minutes, &layers, &["search.epochs"])?;
            let config = layers.resolve()?;
            let table = args.table.as_deref().map(std::path::absolute).transpose()?;
            let column = args.table_column.clone();
            let table = table.map(|path| TableFile { path, column });
            let plan = Plan {
                methods: args.methods.clone(),
                seeds: config.seeds(args.seeds),
                train,
                minutes: args.minutes,
                seconds: args.limit.time,
                table,
            };
            let place = super::place(common, command);
            let shard = super::shard(args.part, common, false, plan.runs())?;
            Compare::create(&place, &config, plan, shard, &mut Progress::new())?
        }
    })
}

/// Does the runs that are not done yet.
pub(crate) fn to_the_end(compare: &Compare, command: &str) -> anyhow::Result<Box<Comparison>> {
    eprintln!("run folder: {}", super::shell_path(compare.folder()));
    super::to_the_end(command, compare.folder(), |progress, stop| compare.run(progress, stop))
}

/// What is to be said after the table: runs that are still to be done, or failed.
pub(crate) fn after(compare: &Compare, table: &Comparison, command: &str) -> anyhow::Result<()> {
    let folder = compare.folder();
    super::note_missing(&table.missing, compare.plan().runs(), command, folder);
    let failures = table.rows.iter().map(|row| row.failures.len()).sum();
    super::fail_after_table(failures, "runs", command, folder)
}

/// Searches that ask the table, without images.
fn on_table(
    args: &CompareArgs,
    common: &Common,
    table: &Path,
    evaluations: usize,
) -> anyhow::Result<()> {
    let config = super::layers(&args.settings, common)?.resolve()?;
    let plan = queries::Plan {
        methods: args.methods.clone(),
        seeds: config.seeds(args.seeds),
        evaluations,
        table: table.to_owned(),
        judge: args.table_column.clone(),
        ask: args.ask_column.clone(),
    };
    let place = super::place(common, "compare");
    let mut progress = Progress::new();
    let stop = super::stop_on_signals()?;
    let outcome = plan.run(&place, &config, &mut progress, &stop);
    progress.finish();
    let (folder, result) = outcome?;
    output::print(common.json, &result, &text_of_queries(&result, &super::shell_path(&folder))?)
}

fn text_of_queries(result: &QueryTable, path: &str) -> anyhow::Result<String> {
    let mut text = format!(
        "{:<15} {:>16} {:>17} {:>16} {:>22}\n",
        "method", "true accuracy", "better than", "as seen", "against random"
    );
    for row in &result.rows {
        writeln!(
            text,
            "{:<15} {:>16} {:>17} {:>16} {:>22}",
            row.method,
            spread(&row.accuracy),
            spread(&row.percentile),
            spread(&row.asked),
            row.against_random(),
        )?;
    }
    writeln!(
        text,
        "{} evaluations each, {} seeds; true accuracy: {} of the cell that looked best by {}, among {} cells with a mean of {}; against random: \
         difference of the means in points, and how likely chance alone makes one as large\nreport: {path}/report.html",
        result.evaluations,
        result.rows.first().map_or(0, |row| row.accuracy.count),
        result.table.column,
        result.asked,
        result.table.cells,
        percent(result.table.mean)
    )?;
    Ok(text)
}

pub(crate) fn text(table: &Comparison, path: &str) -> anyhow::Result<String> {
    let mut text = format!(
        "{:<21} {:>16} {:>9} {:>14} {:>14} {:>10} {:>16} {:>16}\n",
        "method",
        "test error",
        "weights",
        "multiply-adds",
        "search time",
        "memory",
        "search network",
        "derived network"
    );
    let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
    for row in &table.rows {
        writeln!(
            text,
            "{:<21} {:>16} {:>9} {:>14} {:>14} {:>10} {:>16} {:>16}",
            row.method,
            or_dash(row.error.as_ref().map(spread)),
            or_dash(row.params.map(|params| format!("{:.0}", params.mean))),
            or_dash(row.multiply_adds.map(|m| format!("{:.1} M", m.mean / 1e6))),
            or_dash(row.search_seconds.map(|seconds| duration(seconds.mean))),
            megabytes(row.search_peak_mb),
            or_dash(row.search_accuracy.as_ref().map(spread)),
            or_dash(row.derived_accuracy.as_ref().map(spread)),
        )?;
    }
    for failure in table.rows.iter().flat_map(|row| &row.failures) {
        writeln!(text, "failed: {failure}")?;
    }
    if let Some(summary) = &table.table {
        truths(&mut text, table, summary)?;
    }
    writeln!(
        text,
        "search and derived network: validation accuracy with the same weights, batch norm statistics recomputed\n\
         report: {path}/report.html"
    )?;
    Ok(text)
}

/// The table of true accuracies.
fn truths(text: &mut String, table: &Comparison, summary: &TabularSummary) -> anyhow::Result<()> {
    writeln!(
        text,
        "\n{:<21} {:>16} {:>17} {:>17} {:>8}",
        "method", "true accuracy", "better than", "at lower cost", "chance"
    )?;
    for row in &table.rows {
        let Some(truth) = &row.truth else { continue };
        writeln!(
            text,
            "{:<21} {:>16} {:>17} {:>17} {:>8}",
            row.method,
            spread(&truth.accuracy),
            spread(&truth.percentile),
            spread(&truth.percentile_of_cost),
            truth.chance(),
        )?;
        let unknown = truth.cells.iter().filter(|cell| cell.is_none()).count();
        if unknown > 0 {
            writeln!(text, "{unknown} cells of {} are not in the table", row.method)?;
        }
    }
    writeln!(
        text,
        "true accuracy: {} in the table of {} cells, whose mean is {}; better than: fraction of these cells, and of those of no \
         more multiply-adds; chance: that as many random cells are as good on average\n",
        summary.column,
        summary.cells,
        percent(summary.mean)
    )?;
    Ok(())
}

/// A mean with its standard deviation, as percentages.
pub(crate) fn spread(spread: &Spread) -> String {
    match spread.deviation {
        Some(deviation) => format!("{} ± {:.2}", percent(spread.mean), 100.0 * deviation),
        None => percent(spread.mean),
    }
}
