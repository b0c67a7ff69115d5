//! Times the very steps that a search makes, on made-up images.

use std::time::Instant;

use asap_core::{Adam, EdgePolicy, SearchSpace, ThresholdPolicy};
use asap_data::Batch;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::device::DeviceName;
use crate::error::Error;
use crate::memory::peak_rss_mb;
use crate::optimizer::Sgd;
use crate::steps::Learner;
use crate::supernet::SupernetConfig;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BenchConfig {
    /// The search network.
    pub network: SupernetConfig,
    /// Images of a step.
    pub batch: usize,
    /// Timed steps of each kind; one more is made before them.
    pub steps: usize,
    /// Where it runs.
    pub device: DeviceName,
}

/// Seconds of the steps, the smallest of those timed; keys as other tools print them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// `search`.
    pub net: String,
    /// Version of asap.
    pub asap: String,
    /// Worker threads.
    pub threads: usize,
    /// Images of a step.
    pub batch: usize,
    /// Channels C.
    pub channels: usize,
    /// Number of cells.
    pub cells: usize,
    /// Side of an image.
    pub size: usize,
    /// Trained weights.
    pub params: usize,
    /// Seconds of a step on the weights.
    pub w_step: f64,
    /// Seconds of a step on alpha.
    pub alpha_step: f64,
    /// Seconds of inference on the same batch.
    pub forward: f64,
    /// Images a second in steps on the weights.
    pub w_images_per_s: f64,
    /// Largest resident memory in MiB.
    pub peak_rss_mb: Option<f64>,
}

/// Times a search network with every operation alive.
///
/// # Errors
/// When a size is zero, the device is missing, or a loss is not finite.
pub fn search(config: &BenchConfig) -> Result<Measurement, Error> {
    let device = config.device.open()?;
    let space = SearchSpace::default();
    let mut learner = Learner::new(&config.network, &space, EdgePolicy::Anneal, &device, 0)?;
    let batch = images(&config.network, config.batch);
    let mut fault = None;
    let params = learner.parameters.weight_count();
    let (temperature, sgd, adam) = (1.3, Sgd::default(), Adam::default());
    let w_step = timed(config.steps, || {
        if let Err(error) = learner.weight_step(&batch, temperature, &sgd, 0.025) {
            fault.get_or_insert(error);
        }
    });
    let never = ThresholdPolicy::Fixed { fraction: 0.0 };
    let alpha_step = timed(config.steps, || {
        if let Err(error) = learner.alpha_step(&batch, temperature, &adam, &never, 0.0) {
            fault.get_or_insert(error);
        }
    });
    let forward = timed(config.steps, || {
        learner.evaluate(&batch, temperature);
    });
    if let Some(error) = fault {
        return Err(Error::NonFinite {
            what: error.what,
            value: error.value,
            epoch: 0,
            step: 0,
            key: error.key,
        });
    }
    Ok(Measurement {
        net: "search".to_owned(),
        asap: env!("CARGO_PKG_VERSION").to_owned(),
        threads: rayon::current_num_threads(),
        batch: config.batch,
        channels: config.network.channels,
        cells: config.network.cells,
        size: config.network.image_size[0],
        params,
        w_step,
        alpha_step,
        forward,
        w_images_per_s: config.batch as f64 / w_step,
        peak_rss_mb: peak_rss_mb(),
    })
}

/// Random images with random labels.
fn images(network: &SupernetConfig, batch: usize) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let [height, width] = network.image_size;
    let shape = [batch, height, width, network.image_channels];
    let images = (0..shape.iter().product()).map(|_| rng.random_range(-1.7..1.7)).collect();
    let labels = (0..batch).map(|_| rng.random_range(0..network.classes as u16)).collect();
    Batch { images, labels, shape }
}

fn timed(steps: usize, mut step: impl FnMut()) -> f64 {
    step();
    let time = |_| {
        let started = Instant::now();
        step();
        started.elapsed().as_secs_f64()
    };
    (0..steps.max(1)).map(time).fold(f64::INFINITY, f64::min)
}
