//! `asap reproduce`: a table or a figure of the paper, with the paper's numbers beside ours.

use std::fmt::Write;

use asap::jobs::reproduce::Reproduction;
use asap::paper::{Item, Searched, TABLE_2, Transferred};
use asap::run::tables::{Comparison, TransferTable};

use super::compare::spread;
use crate::args::{Common, CompareArgs, Limits, ReproduceArgs, Settings, TransferArgs};
use crate::failure::Usage;
use crate::output::{self, duration};

pub(crate) fn run(args: &ReproduceArgs, common: &Common) -> anyhow::Result<()> {
    match args.what {
        Item::Table2 => transferred(args, common),
        _ => searched(args, common),
    }
}

fn searched(args: &ReproduceArgs, common: &Common) -> anyhow::Result<()> {
    let item = args.what;
    let [data] = &args.data[..] else {
        return Err(Usage(format!(
            "--data: expected one data set for {item}, found {}; table-2 takes several",
            args.data.len()
        ))
        .into());
    };
    let of_compare = CompareArgs {
        settings: Settings {
            data: Some(data.clone()),
            data_dir: None,
            preset: args.preset,
            space: None,
        },
        limits: Limits::default(),
        limit: args.limit,
        methods: item.methods(),
        seeds: args.seeds,
        minutes: args.minutes,
        no_train: !item.trains(),
        table: None,
        table_column: None,
        evaluations: None,
        ask_column: None,
        part: args.part,
        resume: args.resume.clone(),
    };
    let common = &with_the_papers_method(args.preset, common, args.resume.is_some())?;
    let compare = super::compare::prepare(&of_compare, common, item.name())?;
    let (found, expected) = (&compare.plan().methods, item.methods());
    if *found != expected {
        let names = |methods: &[asap::MethodName]| {
            methods.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        return Err(Usage(format!(
            "--resume: expected a reproduction of {item}, which compares {}, found a comparison of {}",
            names(&expected),
            names(found)
        ))
        .into());
    }
    let command = format!("reproduce {item}");
    let ours = *super::compare::to_the_end(&compare, &command)?;
    let paper = item.rows().to_vec();
    let pictures = compare.draw(item, &ours)?;
    let result = Reproduction { item, paper, ours, pictures };
    let mut text = if item.trains() {
        beside(&result.ours, &result.paper)?
    } else {
        super::compare::text(&result.ours, &super::shell_path(compare.folder()))?
    };
    for picture in &result.pictures {
        writeln!(text, "picture: {}", picture.display())?;
    }
    if item.trains() {
        writeln!(text, "report: {}/report.html", super::shell_path(compare.folder()))?;
    }
    output::print(common.json, &result, &text)?;
    super::compare::after(&compare, &result.ours, &command)
}

/// Presets prune by evidence where that is better; what is reproduced is the method of the paper, unless it is asked for otherwise.
fn with_the_papers_method(
    preset: asap::Preset,
    common: &Common,
    resumed: bool,
) -> anyhow::Result<Common> {
    const PAPER: [(&str, &str); 4] = [
        ("search.relaxation", "mixture"),
        ("search.cost", "0"),
        ("alpha.lr", "auto"),
        ("annealing.decay", "auto"),
    ];
    let mut own = common.clone();
    if !resumed {
        let layers = super::shared_layers(preset, common)?;
        let open = PAPER.into_iter().filter(|(key, _)| super::given(&layers, &[key]).is_none());
        own.set.extend(open.map(|(key, value)| format!("{key}={value}")));
    }
    Ok(own)
}

/// Each method of ours with the paper's rows of it.
fn beside(ours: &Comparison, paper: &[Searched]) -> anyhow::Result<String> {
    let mut text = format!(
        "{:<21} {:>16} {:>9} {:>12} | {:<22} {:>14} {:>9} {:>9}\n",
        "method",
        "test error",
        "weights",
        "search",
        "the paper's",
        "test error",
        "weights",
        "GPU days"
    );
    let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
    for row in &ours.rows {
        let own = format!(
            "{:<21} {:>16} {:>9} {:>12}",
            row.method,
            or_dash(row.error.as_ref().map(spread)),
            or_dash(row.params.map(|params| weights(params.mean))),
            or_dash(row.search_seconds.map(|seconds| duration(seconds.mean))),
        );
        let theirs: Vec<String> = paper
            .iter()
            .filter(|theirs| theirs.method == row.method)
            .map(|theirs| {
                let deviation = theirs.deviation.map(|deviation| format!(" ± {deviation:.2}"));
                format!(
                    "{:<22} {:>14} {:>9} {:>9}",
                    theirs.architecture,
                    format!("{:.2}{} %", theirs.error, deviation.unwrap_or_default()),
                    format!("{:.1} M", theirs.params),
                    or_dash(theirs.gpu_days.map(|days| days.to_string())),
                )
            })
            .collect();
        writeln!(text, "{own} | {}", theirs.first().map_or("-", String::as_str))?;
        for more in theirs.iter().skip(1) {
            writeln!(text, "{:<61} | {more}", "")?;
        }
    }
    for failure in ours.rows.iter().flat_map(|row| &row.failures) {
        writeln!(text, "failed: {failure}")?;
    }
    writeln!(
        text,
        "left: this program, at the scale and on the images that were chosen; right: the paper's numbers, of CIFAR-10 with networks of 20 cells \
         and up to 1,500 epochs\nrandom: a cell drawn by chance, which the paper does not have"
    )?;
    Ok(text)
}

fn transferred(args: &ReproduceArgs, common: &Common) -> anyhow::Result<()> {
    let item = args.what;
    if args.minutes.is_some() || args.limit.time.is_some() {
        return Err(Usage(format!(
            "{item}: expected no --minutes and no --time, since nothing is searched for it and all cells are trained by one recipe; choose its \
             scale with --preset and --set train.epochs=..."
        ))
        .into());
    }
    let of_transfer = TransferArgs {
        cells: TABLE_2.iter().map(|row| row.cell.to_owned()).collect(),
        data: args.data.clone(),
        preset: args.preset,
        repeat: args.seeds,
        part: args.part,
        resume: args.resume.clone(),
    };
    let command = format!("reproduce {item}");
    let transfer = super::transfer::prepare(&of_transfer, common, item.name())?;
    if transfer.plan().cells.iter().map(|cell| &cell.name).ne(&of_transfer.cells) {
        return Err(Usage(format!(
            "--resume: expected a reproduction of {item}, found another transfer; expected the cells {}",
            of_transfer.cells.join(", ")
        ))
        .into());
    }
    let ours = *super::transfer::finish(&transfer, &command)?;
    let result = Reproduction { item, paper: TABLE_2.to_vec(), ours, pictures: Vec::new() };
    let text = transfers_beside(&result.ours, &super::shell_path(transfer.folder()))?;
    output::print(common.json, &result, &text)?;
    super::transfer::after(&transfer, &result.ours, &command)
}

/// Each cell on each data set, ours and the paper's error.
fn transfers_beside(ours: &TransferTable, path: &str) -> anyhow::Result<String> {
    let mut text = format!(
        "{:<15} {:<24} {:>9} {:>16} {:>14}\n",
        "cell", "data", "weights", "test error", "the paper's"
    );
    let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
    for row in &ours.rows {
        let data = std::path::Path::new(&row.data).file_name().unwrap_or_default();
        writeln!(
            text,
            "{:<15} {:<24} {:>9} {:>16} {:>14}",
            row.cell,
            data.display().to_string(),
            or_dash(row.params.map(|params| weights(params as f64))),
            or_dash(row.error.as_ref().map(spread)),
            or_dash(Transferred::error(&row.cell, &row.data).map(|error| format!("{error} %"))),
        )?;
    }
    for failure in ours.rows.iter().flat_map(|row| &row.failures) {
        writeln!(text, "failed: {failure}")?;
    }
    writeln!(
        text,
        "the paper's: with the training recipe of DARTS, where it has the data set\nreport: {path}/report.html"
    )?;
    Ok(text)
}

/// A number of weights, short.
fn weights(count: f64) -> String {
    if count < 1e6 { format!("{:.1} k", count / 1e3) } else { format!("{:.2} M", count / 1e6) }
}
