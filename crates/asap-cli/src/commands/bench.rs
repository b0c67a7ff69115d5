//! `asap bench`: times on this machine.

use asap::bench::{self, BenchConfig};
use asap::supernet::SupernetConfig;

use crate::args::{BenchArgs, BenchCommand, Common};
use crate::failure::Usage;
use crate::output;

/// Images of CIFAR-10's training halves, the paper's epochs, and those of them without alpha.
const PAPER: (f64, f64, f64) = (25_000.0, 50.0, 5.0);

pub(crate) fn run(args: &BenchArgs, common: &Common) -> anyhow::Result<()> {
    super::start_threads(common.threads.unwrap_or(0))?;
    let &BenchCommand::Search { channels, cells, batch, size, in_channels, steps } = &args.command;
    if batch == 0 {
        return Err(Usage("--batch: expected at least 1, found 0".to_owned()).into());
    }
    let device = common.device.as_deref().unwrap_or("cpu").parse().map_err(Usage)?;
    let network = SupernetConfig {
        channels,
        cells,
        image_channels: in_channels,
        image_size: [size, size],
        classes: 10,
    };
    let measured = bench::search(&BenchConfig { network, batch, steps, device })?;
    let (images, epochs, grace) = PAPER;
    let per_image = |seconds: f64| seconds / batch as f64;
    let search = images
        * (epochs * (per_image(measured.w_step) + per_image(measured.forward))
            + (epochs - grace) * per_image(measured.alpha_step));
    let text = format!(
        "step on the weights  {:>9.3} s   {:.1} images/s\n\
         step on alpha        {:>9.3} s\n\
         inference            {:>9.3} s\n\
         weights              {:>9}\n\
         peak memory          {:>9}\n\
         A search of {epochs} epochs on 2 x {images} such images takes {} at most here;\n\
         pruning makes it shorter.",
        measured.w_step,
        measured.w_images_per_s,
        measured.alpha_step,
        measured.forward,
        measured.params,
        measured.peak_rss_mb.map_or("unknown".to_owned(), |mb| format!("{mb:.0} MiB")),
        output::duration(search),
    );
    output::print(common.json, &measured, &text)
}
