//! `asap bench`: step times on this machine.

use std::fmt::Write;

use asap::latency::NetworkLatency;
use asap::memory::memory_for_images;
use asap::search::bench::{self, BenchConfig, Measurement, Reading};
use asap_core::{Family, NetworkShape, SearchSpace, Stem};
use asap_data::LoadOptions;

use crate::args::{BenchArgs, BenchCommand, BenchSize, Common};
use crate::failure::Usage;
use crate::output;

pub(crate) fn run(args: &BenchArgs, common: &Common) -> anyhow::Result<()> {
    let measured = match &args.command {
        BenchCommand::Search { size, space, alive } => {
            let whole = SearchSpace::of(*space);
            let alive = if alive.is_empty() { whole.candidates } else { alive.clone() };
            let cells = if *space == Family::Darts { 8 } else { 15 };
            let space = SearchSpace::new(*space, whole.nodes, alive)?;
            bench::search(&config(size, [16, cells, 64], common)?, &space)?
        }
        BenchCommand::Eval { size, cell } => {
            let design = super::cells::read_design(cell)?;
            let [channels, cells] = super::cells::network_size(&design, size.cells)?;
            bench::evaluation(&config(size, [channels, cells, 32], common)?, &design)?
        }
        BenchCommand::Latency { cell, size, anew } => {
            let design = super::cells::read_design(cell)?;
            let shape = super::cells::shape(&design, size, Stem::Small)?;
            let threads = common.threads.filter(|&threads| threads > 0).unwrap_or(1);
            let found = NetworkLatency::of(&design, shape, threads, *anew)?;
            return output::print(common.json, &found, &pieces(&found));
        }
        BenchCommand::Data { source, batch, size, memory } => {
            let options = LoadOptions {
                size: size.map(|side| (side, side)),
                memory: memory_for_images(*memory),
                ..LoadOptions::default()
            };
            let batch = at_least_one("--batch", *batch)?;
            let measured = bench::reading(|| super::data::load(source, &options), batch)??;
            return output::print(common.json, &measured, &read(&measured));
        }
        BenchCommand::Predict { run, batch, steps } => {
            let network = asap::run::folder::open_trained(run, common.device.unwrap_or_default())?;
            let (batch, steps) =
                (at_least_one("--batch", *batch)?, at_least_one("--steps", *steps)?);
            let measured = bench::prediction(&network, batch, steps)?;
            let text = inference(measured.forward, measured.batch)
                + &cost(measured.multiply_adds, measured.peak_rss_mb);
            return output::print(common.json, &measured, &text);
        }
    };
    output::print(common.json, &measured, &text(&measured)?)
}

fn config(
    size: &BenchSize,
    [channels, cells, batch]: [usize; 3],
    common: &Common,
) -> anyhow::Result<BenchConfig> {
    let batch = at_least_one("--batch", size.batch.unwrap_or(batch))?;
    let steps = at_least_one("--steps", size.steps)?;
    let shape = NetworkShape {
        channels: size.channels.unwrap_or(channels),
        cells: size.cells.unwrap_or(cells),
        height: size.size,
        width: size.size,
        in_channels: size.in_channels,
        classes: 10,
        stem: Stem::Small,
    };
    let device = common.device.unwrap_or_default();
    Ok(BenchConfig { shape, batch, steps, device, precision: size.precision })
}

fn read(measured: &Reading) -> String {
    let Reading {
        images,
        image,
        in_memory,
        load_seconds,
        epoch_images,
        epoch_seconds,
        peak_rss_mb,
    } = measured;
    let [height, width, channels] = image;
    let place = if *in_memory { "in memory" } else { "on disk" };
    format!(
        "{images} images of {height}x{width}x{channels}, {place}\n\
         read                 {load_seconds:>9.3} s   {:.0} images/s\n\
         an epoch of batches  {epoch_seconds:>9.3} s   {:.0} images/s\n\
         peak memory          {}\n",
        *images as f64 / load_seconds,
        *epoch_images as f64 / epoch_seconds,
        output::megabytes(*peak_rss_mb)
    )
}

fn at_least_one(flag: &str, number: usize) -> anyhow::Result<usize> {
    if number == 0 {
        return Err(Usage(format!("{flag}: expected at least 1, found 0")).into());
    }
    Ok(number)
}

fn inference(seconds: f64, images: usize) -> String {
    format!("inference            {seconds:>9.3} s   {:.1} images/s\n", images as f64 / seconds)
}

fn cost(multiply_adds: u64, peak_rss_mb: Option<f64>) -> String {
    format!(
        "multiply-adds        {:>9.1} M per image\npeak memory          {:>9}\n",
        multiply_adds as f64 / 1e6,
        output::megabytes(peak_rss_mb),
    )
}

fn pieces(found: &NetworkLatency) -> String {
    let NetworkLatency { measured_ms, sum_ms, pieces, threads, .. } = found;
    let plural = if *threads == 1 { "" } else { "s" };
    let mut text = format!(
        "measured {measured_ms:>10.3} ms for one image, with {threads} thread{plural}\n\
         sum      {sum_ms:>10.3} ms ({:+.1} %), of\n",
        100.0 * (sum_ms / measured_ms - 1.0)
    );
    for piece in pieces {
        let (times, ms) = (piece.times, piece.ms);
        writeln!(text, "{:>10.3} ms = {times:>3} x {ms:.3}  {}", piece.sum_ms(), piece.name)
            .expect("text can be written to");
    }
    text
}

fn text(measured: &Measurement) -> anyhow::Result<String> {
    let mut text = format!(
        "step on the weights  {:>9.3} s   {:.1} images/s\n",
        measured.w_step, measured.w_images_per_s
    );
    if let Some(alpha_step) = measured.alpha_step {
        writeln!(text, "step on alpha        {alpha_step:>9.3} s")?;
    }
    text += &inference(measured.forward, measured.batch);
    writeln!(text, "weights              {:>9}", measured.params)?;
    text += &cost(measured.multiply_adds, measured.peak_rss_mb);
    if let Some(seconds) = measured.paper_search_seconds() {
        writeln!(
            text,
            "At this speed a search of 50 epochs on 2 x 25,000 such images takes at most {};\n\
             pruning makes it faster.",
            output::duration(seconds),
        )?;
    }
    Ok(text)
}
