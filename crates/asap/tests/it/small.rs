//! Small data, and settings that end in seconds.

use std::sync::atomic::{AtomicBool, Ordering};

use asap::run::record::{Event, Observer};
use asap::settings::config::Config;
use asap::{Layers, Preset};
use asap_data::{Dataset, Splits};

/// Grey 8x8 images in three classes: bright rows, bright columns, or neither.
pub(crate) fn stripes(images: usize) -> Splits {
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for i in 0..images {
        labels.push((i % 3) as u16);
        for y in 0..8 {
            for x in 0..8 {
                let noise = (i * 31 + y * 17 + x * 7) % 64;
                let bright = match i % 3 {
                    0 => y % 2 == 0,
                    1 => x % 2 == 0,
                    _ => false,
                };
                pixels.push((noise + if bright { 150 } else { 0 }) as u8);
            }
        }
    }
    let classes = ["rows", "columns", "none"].map(str::to_owned).to_vec();
    let train = Dataset::new(pixels, labels, [8, 8, 1], classes).unwrap();
    let name = "stripes".to_owned();
    Splits { name, train, valid: None, test: None, warnings: Vec::new(), unreadable: Vec::new() }
}

/// A search and a training that end in seconds.
pub(crate) fn tiny() -> Config {
    let mut layers = Layers::preset(Preset::Quick);
    for setting in [
        "network.channels=2",
        "network.cells=3",
        "network.nodes=2",
        "network.candidates=[\"max_pool_3x3\", \"skip_connect\", \"sep_conv_3x3\"]",
        "search.relaxation=mixture",
        "search.schedule=epoch",
        "search.warmup=0",
        "search.statistics=0",
        "search.cost=0",
        "search.size=0",
        "weights.lr=0.025",
        "weights.weight_decay=3e-4",
        "alpha.every=1",
        "search.epochs=7",
        "search.batch=8",
        "alpha.lr=0.1",
        "annealing.decay=0.6",
        "augment.pad=1",
        "train.channels=4",
        "train.cells=3",
        "train.epochs=4",
        "train.batch=16",
        "train.augment.pad=1",
    ] {
        layers.set(setting).unwrap();
    }
    layers.resolve().unwrap()
}

/// Asks to stop after a number of steps.
pub(crate) struct StopAfter<'a>(pub(crate) usize, pub(crate) &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn on_event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Step(_) | Event::TrainStep(_)) {
            self.0 = self.0.saturating_sub(1);
            self.1.store(self.0 == 0, Ordering::Relaxed);
        }
    }
}
