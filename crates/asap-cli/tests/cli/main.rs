//! The command as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod mistakes;
mod own_images;
mod reproduce;
mod search;
mod shards;
mod tour;
mod train;

use std::fs;
use std::path::Path;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

fn asap(args: &[&str], directory: &Path) -> Output {
    command(args, directory).output().unwrap()
}

fn command(args: &[&str], directory: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("asap"));
    // Tables of latencies and unpacked archives stay out of the user's own cache.
    let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");
    command.args(args).current_dir(directory).env("XDG_CACHE_HOME", cache);
    command
}

/// Settings of a search that takes seconds: the paper's mixture, annealed.
const TINY: [&str; 28] = [
    "--set",
    "network.channels=2",
    "--set",
    "network.nodes=2",
    "--set",
    "network.candidates=[\"max_pool_3x3\", \"skip_connect\", \"sep_conv_3x3\"]",
    "--set",
    "search.epochs=6",
    "--set",
    "search.batch=16",
    "--set",
    "data.limit=200",
    "--set",
    "alpha.lr=0.1",
    "--set",
    "network.cells=3",
    "--set",
    "search.relaxation=mixture",
    "--set",
    "search.cost=0",
    "--set",
    "search.schedule=epoch",
    "--set",
    "search.warmup=0",
    "--set",
    "annealing.decay=0.75",
    "--set",
    "alpha.every=1",
];

fn tiny(more: &[&'static str]) -> Vec<&'static str> {
    ["search"].into_iter().chain(TINY).chain(more.iter().copied()).collect()
}

/// Settings of a training that takes seconds.
const SMALL: [&str; 16] = [
    "--set",
    "train.channels=3",
    "--set",
    "train.cells=3",
    "--set",
    "train.epochs=3",
    "--set",
    "train.batch=32",
    "--set",
    "data.limit=200",
    "--set",
    "train.drop_path=0.1",
    "--set",
    "train.augment.auto_augment=cifar",
    "--set",
    "train.augment.random_erasing=0.2",
];

fn small(more: &[&'static str]) -> Vec<&'static str> {
    more.iter().copied().chain(SMALL).collect()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asserts exit code 2, nothing on standard output, and each part in the message.
fn refused(args: &[&str], directory: &Path, parts: &[&str]) {
    let output = asap(args, directory);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert!(!message.contains("panicked"), "{args:?}: {message}");
    for part in parts {
        assert!(message.contains(part), "{args:?}: no `{part}` in: {message}");
    }
}

/// The result without times and memory.
fn outcome(mut result: Value) -> Value {
    result["seconds"] = Value::Null;
    result["peak_rss_mb"] = Value::Null;
    result
}

fn wait_for_epochs(events: &Path, count: usize, child: &mut Child) {
    let started = Instant::now();
    loop {
        let lines = fs::read_to_string(events).map_or(0, |text| text.lines().count());
        if lines >= count {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "the search ended before it was killed");
        assert!(started.elapsed() < Duration::from_secs(300), "no epoch within five minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
}
