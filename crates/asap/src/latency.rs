//! Latencies on this CPU: measured for a whole network, and added up from a table of its pieces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use asap_core::plan::{Piece, Plan};
use asap_core::{Design, NetworkShape};
use asap_data::{Normalization, cache_folder, fnv1a};
use asap_kernels::Level;
use asap_net::device::DeviceName;
use asap_net::engine::Engine;
use asap_net::network::Network;
use asap_net::parameters::Parameters;
use asap_net::pass::{Mode, Pass};
use asap_net::team::on_worker;
use asap_net::trained::{NetworkCard, TrainedNetwork};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::run::threads::with_threads;

/// Calls that warm up, and those of which the median counts: at least and at most, as long as they take less than this.
const CALLS: (usize, usize, usize, Duration) = (3, 4, 21, Duration::from_millis(500));

/// Median milliseconds from the bytes of one image to its logits.
///
/// # Errors
/// Those of [`Plan::of`].
pub fn measure(design: &Design, shape: NetworkShape, threads: usize) -> Result<f64, Error> {
    let device = DeviceName::Cpu.open()?;
    let plan = Plan::of(design, &shape, false)?;
    let values = Parameters::new(&plan, &device, 0).values();
    let card = NetworkCard {
        version: String::new(),
        design: design.clone(),
        shape,
        classes: (0..shape.classes).map(|class| class.to_string()).collect(),
        normalization: Normalization {
            mean: vec![0.5; shape.in_channels],
            std: vec![0.25; shape.in_channels],
        },
        data: String::new(),
        test: None,
    };
    let network = TrainedNetwork::new(card, values, &device)?;
    let pixels: usize = network.image_shape().iter().product();
    let image: Vec<u8> = (0..pixels).map(|i| (i * 37 % 251) as u8).collect();
    with_threads(threads, || median(|| Ok(network.logits(&image).map(drop)?)))?
}

/// Latencies of the pieces of networks on this CPU. They are measured when they are first asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    version: String,
    cpu: String,
    threads: usize,
    /// Milliseconds by the name of the piece.
    milliseconds: BTreeMap<String, f64>,
}

impl Latencies {
    /// No latencies yet, for a number of threads.
    pub fn new(threads: usize) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        // The name alone does not say which instructions there are, and a machine may share its folder with others.
        let debug = if cfg!(debug_assertions) { ", debug" } else { "" };
        let cpu = format!("{}, {}{debug}", cpu(), Level::available()[0]);
        Self { version, cpu, threads, milliseconds: BTreeMap::new() }
    }

    /// The latencies kept by earlier runs of this version on this CPU, in the user's cache folder.
    pub fn open(threads: usize) -> Self {
        let fresh = Self::new(threads);
        let kept = fresh.file().and_then(|file| std::fs::read(file).ok());
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let fits = |kept: &Self| {
            (&kept.version, &kept.cpu, kept.threads) == (&fresh.version, &fresh.cpu, threads)
                && kept.milliseconds.values().all(|&ms| ms.is_finite() && ms >= 0.0)
        };
        kept.filter(fits).unwrap_or(fresh)
    }

    /// Keeps them for later runs. If that fails, they are measured again.
    pub fn keep(&self) {
        let write = |file: PathBuf| -> std::io::Result<()> {
            let folder = file.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            // Another process may read it at any time.
            let part = file.with_extension(format!("{}.part", std::process::id()));
            std::fs::write(&part, serde_json::to_vec_pretty(self)?)?;
            std::fs::rename(part, file)
        };
        if let Some(file) = self.file() {
            let _ = write(file);
        }
    }

    /// The file in which they are kept, if there is a place for it.
    fn file(&self) -> Option<PathBuf> {
        let cpu = fnv1a(self.cpu.as_bytes()) as u32;
        Some(cache_folder()?.join(format!("latencies-{}-{cpu:08x}.json", self.threads)))
    }

    /// The milliseconds of a piece.
    ///
    /// # Errors
    /// If the threads can't be started.
    pub fn of_piece(&mut self, piece: &Piece) -> Result<f64, Error> {
        if let Some(&known) = self.milliseconds.get(&piece.name) {
            return Ok(known);
        }
        let device = DeviceName::Cpu.open()?;
        let network = Network::new(piece.plan.clone(), Engine::new(&device));
        let parameters = network.parameters(&device, 0);
        let map = piece.plan.layers[0].output;
        let input = Tensor::<4>::ones([1, map.height, map.width, map.channels], &device);
        let call = || {
            on_worker(|| {
                let pass = Pass::new(&parameters, Mode::Evaluation);
                drop(network.forward(&pass, input.clone(), &[]));
            });
            Ok(())
        };
        let all = with_threads(self.threads, || median(call))??;
        let found = all / piece.times as f64;
        self.milliseconds.insert(piece.name.clone(), found);
        Ok(found)
    }

    /// The sum of the milliseconds of a network's pieces.
    ///
    /// # Errors
    /// As [`Latencies::of_piece`].
    pub fn of_plan(&mut self, plan: &Plan) -> Result<f64, Error> {
        plan.pieces().iter().map(|piece| self.of_piece(piece)).sum()
    }
}

/// The latency of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkLatency {
    /// Threads.
    pub threads: usize,
    /// Milliseconds from the bytes of one image to its logits.
    pub measured_ms: f64,
    /// The sum of its pieces.
    pub sum_ms: f64,
    /// Its pieces, those that take most of the time first.
    pub pieces: Vec<PieceLatency>,
}

/// The latency of a piece of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PieceLatency {
    /// See [`Piece::name`].
    pub name: String,
    /// How often it is in the network.
    pub times: usize,
    /// Milliseconds of one.
    pub ms: f64,
}

impl PieceLatency {
    /// Milliseconds of all of them.
    pub fn sum_ms(&self) -> f64 {
        self.times as f64 * self.ms
    }
}

impl NetworkLatency {
    /// Measures a network, and adds up its pieces; `anew` measures these even if their times are known.
    ///
    /// # Errors
    /// Those of [`measure`].
    pub fn of(
        design: &Design,
        shape: NetworkShape,
        threads: usize,
        anew: bool,
    ) -> Result<Self, Error> {
        let measured_ms = measure(design, shape, threads)?;
        let mut latencies = Latencies::open(threads);
        let found = Plan::of(design, &shape, false)?.pieces();
        if anew {
            latencies.milliseconds.retain(|name, _| found.iter().all(|piece| piece.name != *name));
        }
        let mut pieces: BTreeMap<String, PieceLatency> = BTreeMap::new();
        for piece in &found {
            let ms = latencies.of_piece(piece)?;
            let new = || PieceLatency { name: piece.name.clone(), times: 0, ms };
            pieces.entry(piece.name.clone()).or_insert_with(new).times += 1;
        }
        latencies.keep();
        let mut pieces: Vec<_> = pieces.into_values().collect();
        pieces.sort_by(|a, b| b.sum_ms().total_cmp(&a.sum_ms()));
        let sum_ms = pieces.iter().map(PieceLatency::sum_ms).sum();
        Ok(Self { threads, measured_ms, sum_ms, pieces })
    }
}

/// The name of the CPU, where the system tells it (Linux).
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
}

/// Median milliseconds of a call.
fn median(mut call: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    let (warm_up, least, calls, longest) = CALLS;
    let started = Instant::now();
    let mut times = Vec::with_capacity(calls);
    for number in 0..warm_up + calls {
        let began = Instant::now();
        call()?;
        if number >= warm_up {
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        if times.len() >= least && started.elapsed() > longest {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
