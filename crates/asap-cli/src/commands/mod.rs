//! One file a command.

pub(crate) mod bench;
pub(crate) mod cells;
pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod pac;
pub(crate) mod search;

use asap::{Layers, Preset};

use crate::args::{Common, Settings};

/// Preset, file, `--set` and flags, in this order.
pub(crate) fn layers(settings: &Settings, common: &Common) -> anyhow::Result<Layers> {
    let mut layers = Layers::preset(settings.preset.parse::<Preset>()?);
    if let Some(file) = &common.config {
        layers.file(file)?;
    }
    for assignment in &common.set {
        layers.set(assignment)?;
    }
    if let Some(seed) = common.seed {
        layers.put("seed", i64::try_from(seed).map_err(|_| seed_too_large(seed))?);
    }
    if let Some(threads) = common.threads {
        layers.put("threads", threads as i64);
    }
    if let Some(device) = &common.device {
        layers.put("device", device.as_str());
    }
    if let Some(data) = &settings.data {
        layers.put("data.source", data.as_str());
    }
    if let Some(dir) = &settings.data_dir {
        layers.put("data.dir", dir.to_string_lossy().as_ref());
    }
    Ok(layers)
}

fn seed_too_large(seed: u64) -> crate::failure::Usage {
    crate::failure::Usage(format!("--seed: expected at most {}, found {seed}", i64::MAX))
}

/// Sets the number of worker threads; 0 takes every core.
pub(crate) fn start_threads(threads: usize) -> anyhow::Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    Ok(())
}
