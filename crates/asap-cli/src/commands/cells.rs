//! `asap cells`: published cells and the user's own.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use asap::report::picture::picture;
use asap::run::folder::{GENOTYPE_JSON, cells_found};
use asap_core::plan::Plan;
use asap_core::{
    CellKind, Design, Family, Genotype, NetworkShape, PlainNetwork, PublishedCell, Stem,
};
use clap::ValueEnum as _;
use serde::Serialize;

use crate::args::{CellsArgs, CellsCommand, Common, NetworkSize, Notation, PictureFormat};
use crate::failure::Usage;
use crate::output;

pub(crate) fn run(args: &CellsArgs, common: &Common) -> anyhow::Result<()> {
    match &args.command {
        CellsCommand::List => list(common),
        CellsCommand::Show { cell, space } => {
            let genotype = read_of(cell, *space)?;
            output::print(common.json, &genotype, &genotype.to_string())
        }
        &CellsCommand::Draw { ref cell, space, kind, format } => {
            draw(&read_of(cell, space)?, kind, format, common)
        }
        CellsCommand::Cost { cell, space, size, imagenet } => {
            let design = match space {
                Some(_) => read_of(cell, *space)?.into(),
                None => read_design(cell)?,
            };
            let stem = if *imagenet { Stem::Large } else { Stem::Small };
            cost(&design, &shape(&design, size, stem)?, common)
        }
        CellsCommand::Convert { cell, space, to } => {
            let genotype = read_of(cell, *space)?;
            let text = match to {
                Notation::Python => genotype.to_string(),
                Notation::Json => serde_json::to_string(&genotype)?,
            };
            output::print(common.json, &genotype, &text)
        }
    }
}

/// Channels of the published network of a design, and its cells if no number is given. A plain network takes its depth from its name, and
/// a number of cells for one is refused.
pub(crate) fn network_size(design: &Design, cells: Option<usize>) -> anyhow::Result<[usize; 2]> {
    if let (Design::Plain(network), Some(cells)) = (design, cells) {
        return Err(Usage(format!(
            "--cells {cells}: {network} has no cells, its name gives its depth; leave it out"
        ))
        .into());
    }
    let [channels, usual] = match design.family() {
        Some(Family::Darts) => [36, 20],
        _ => [16, 15],
    };
    Ok([channels, cells.unwrap_or(usual)])
}

/// The shape of the network of a design; its published size where none is given.
pub(crate) fn shape(
    design: &Design,
    size: &NetworkSize,
    stem: Stem,
) -> anyhow::Result<NetworkShape> {
    let [channels, cells] = network_size(design, size.cells)?;
    Ok(NetworkShape {
        channels: size.channels.unwrap_or(channels),
        cells,
        height: size.size,
        width: size.size,
        in_channels: size.in_channels,
        classes: size.classes,
        stem,
    })
}

/// Reads a cell as [`read`] does, or the name of a plain network.
pub(crate) fn read_design(text: &str) -> anyhow::Result<Design> {
    match text.parse::<PlainNetwork>() {
        Ok(network) => Ok(network.into()),
        Err(asap_core::Error::UnknownName { .. }) => Ok(read(text)?.into()),
        Err(error) => Err(error.into()),
    }
}

/// Reads a cell, which is expected to be of this family if one is given.
pub(crate) fn read_of(cell: &str, space: Option<Family>) -> anyhow::Result<Genotype> {
    let genotype = read(cell)?;
    match space.filter(|&space| space != genotype.family()) {
        None => Ok(genotype),
        Some(space) => Err(Usage(format!(
            "{cell}: expected a cell of --space {space}, found one of {}",
            genotype.family()
        ))
        .into()),
    }
}

/// Reads a cell from a published name, a file, a run folder, or text.
pub(crate) fn read(cell: &str) -> anyhow::Result<Genotype> {
    if let Ok(published) = PublishedCell::find(cell) {
        if !Path::new(cell).exists() {
            return Ok(published.genotype());
        }
        if cell == published.name {
            return Err(Usage(format!(
                "{cell}: expected one cell, found the published one and a file or folder of that name; write ./{cell} for the latter, and for \
                 the former rename it or go to another folder"
            ))
            .into());
        }
    }
    let mut path = Path::new(cell).to_owned();
    if path.is_dir() {
        path = genotype_in(&path)?;
    }
    if path.is_file() {
        let text = asap::text::read(&path).map_err(|error| {
            Usage(format!("{cell}: expected a text file with a genotype: {error}"))
        })?;
        if let Ok(Design::Plain(network)) = serde_json::from_str(&text) {
            return Err(Usage(format!(
                "{cell}: expected a network of cells, found {network}, which has none; train it with --network {network}"
            ))
            .into());
        }
        return text.parse::<Genotype>().with_context(|| cell.to_owned());
    }
    let looks_like_name = cell.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c));
    if looks_like_name {
        let unknown = PublishedCell::find(cell).err().map(|e| e.to_string()).unwrap_or_default();
        return Err(Usage(format!(
            "{unknown}; a file, a run folder or a genotype as text will do too"
        ))
        .into());
    }
    Ok(cell.parse::<Genotype>()?)
}

/// The file with the cell of a run folder: of a search or a training, or of the only search of `asap run`.
fn genotype_in(folder: &Path) -> anyhow::Result<PathBuf> {
    let file = folder.join(GENOTYPE_JSON);
    if file.is_file() {
        return Ok(file);
    }
    let found = cells_found(folder);
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => Err(Usage(format!(
            "{}: expected the run folder of a finished search, found no {GENOTYPE_JSON} in it",
            folder.display()
        ))
        .into()),
        several => {
            let folders = several.iter().filter_map(|file| file.parent());
            let folders: Vec<String> = folders.map(|folder| folder.display().to_string()).collect();
            Err(Usage(format!(
                "{}: expected one cell; choose one of: {}",
                folder.display(),
                folders.join(", ")
            ))
            .into())
        }
    }
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    source: &'static str,
    note: Option<&'static str>,
    genotype: Genotype,
}

fn list(common: &Common) -> anyhow::Result<()> {
    let mut text = String::new();
    let mut listed = Vec::new();
    for cell in PublishedCell::all() {
        let note = cell.note.map(|note| format!(" ({note})")).unwrap_or_default();
        writeln!(text, "{:<18} {}{note}", cell.name, cell.source)?;
        listed.push(Listed {
            name: cell.name,
            source: cell.source,
            note: cell.note,
            genotype: cell.genotype(),
        });
    }
    output::print(common.json, &listed, &text)
}

#[derive(Serialize)]
struct Drawing {
    format: PictureFormat,
    /// The picture, if the format is text.
    drawing: Option<String>,
    path: Option<std::path::PathBuf>,
}

fn draw(
    genotype: &Genotype,
    kind: CellKind,
    format: Option<PictureFormat>,
    common: &Common,
) -> anyhow::Result<()> {
    let format = picture_format(format, common.out.as_deref())?;
    let family = genotype.family();
    if !family.kinds().contains(&kind) {
        let kinds: Vec<&str> = family.kinds().iter().map(|kind| kind.name()).collect();
        return Err(Usage(format!(
            "--kind: expected {} for a cell of {family}, found {kind}",
            kinds.join(" or ")
        ))
        .into());
    }
    let title = format!("{kind} cell");
    let text = match format {
        PictureFormat::Svg => Some(asap_core::svg(genotype, kind, &title)),
        PictureFormat::Dot => Some(asap_core::dot(genotype, kind, &title)),
        PictureFormat::Png => None,
    };
    let Some(path) = &common.out else {
        let Some(text) = text else {
            let fault = "--format png: expected a file to write to, found none; add --out cell.png";
            return Err(Usage(fault.to_owned()).into());
        };
        let shown = Drawing { format, drawing: Some(text.clone()), path: None };
        return output::print(common.json, &shown, &text);
    };
    let bytes = match &text {
        Some(text) => text.clone().into_bytes(),
        None => picture(genotype, kind, &title).png,
    };
    crate::files::write(path, &bytes)?;
    let shown = Drawing { format, drawing: text, path: Some(path.clone()) };
    output::print(common.json, &shown, &path.display().to_string())
}

/// The format of a picture: as asked for, or that of the file's ending, which must not contradict each other; otherwise SVG.
fn picture_format(
    asked: Option<PictureFormat>,
    path: Option<&Path>,
) -> anyhow::Result<PictureFormat> {
    let ending = path.and_then(|path| path.extension()?.to_str()).unwrap_or_default();
    let of_ending = PictureFormat::from_str(ending, true).ok();
    match (asked, of_ending) {
        (Some(asked), Some(other)) if asked != other => Err(Usage(format!(
            "--format: expected that of the file's ending, .{ending}; leave one of them out"
        ))
        .into()),
        (None, None) if !ending.is_empty() => Err(Usage(format!(
            "--out: expected a file that ends in .svg, .png or .dot, or --format, found .{ending}"
        ))
        .into()),
        (asked, of_ending) => Ok(asked.or(of_ending).unwrap_or(PictureFormat::Svg)),
    }
}

#[derive(Serialize)]
struct Costs {
    params: u64,
    multiply_adds: u64,
    auxiliary_params: u64,
    activations: u64,
}

fn cost(design: &Design, shape: &NetworkShape, common: &Common) -> anyhow::Result<()> {
    let plan = Plan::of(design, shape, true)?;
    let cost = plan.cost();
    anyhow::ensure!(
        [cost.params, cost.multiply_adds, cost.activations].iter().all(|&sum| sum < u64::MAX),
        "expected a network whose cost is below 2^64, found a larger one; take fewer channels, cells or smaller images"
    );
    let mut text = format!(
        "parameters      {:>14}\nmultiply-adds   {:>14}\n",
        thousands(cost.params),
        thousands(cost.multiply_adds)
    );
    let auxiliary = plan.auxiliary_cost().params;
    writeln!(text, "auxiliary head  {:>14} more parameters", thousands(auxiliary))?;
    let costs = Costs {
        params: cost.params,
        multiply_adds: cost.multiply_adds,
        auxiliary_params: auxiliary,
        activations: cost.activations,
    };
    output::print(common.json, &costs, &text)
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are text"))
        .collect();
    groups.join(",")
}
