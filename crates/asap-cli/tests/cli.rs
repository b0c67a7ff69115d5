//! The command as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn asap(args: &[&str], directory: &Path) -> Output {
    command(args, directory).output().unwrap()
}

fn command(args: &[&str], directory: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("asap"));
    command.args(args).current_dir(directory);
    command
}

/// Settings of a search that ends in seconds.
const TINY: [&str; 16] = [
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
];

fn tiny(more: &[&'static str]) -> Vec<&'static str> {
    ["search"].into_iter().chain(TINY).chain(more.iter().copied()).collect()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit code 2, nothing on standard output, and each part in the message.
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

#[test]
fn every_command_has_help_with_an_example() {
    let here = tempfile::tempdir().unwrap();
    let commands = [
        "search", "train", "run", "evaluate", "predict", "transfer", "compare", "export", "cells",
        "data", "config", "bench", "pac",
    ];
    for command in commands {
        let output = asap(&[command, "--help"], here.path());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && help.contains("Example"), "{command}: {help}");
        for option in ["--json", "--threads", "--seed", "--device", "--config", "--set", "--out"] {
            assert!(help.contains(option), "{command}: {option}");
        }
    }
}

#[test]
fn cost_gives_the_published_numbers() {
    let here = tempfile::tempdir().unwrap();
    let cost = json(&asap(
        &["cells", "cost", "asap", "--channels", "36", "--cells", "20", "--json"],
        here.path(),
    ));
    assert_eq!(cost["params"], 2_538_046);
    assert_eq!(cost["auxiliary_params"], 476_426);
    assert_eq!(cost["multiply_adds"].as_f64().map(|m| (m / 1e5).round()), Some(4007.0));
}

#[test]
fn cells_are_listed_shown_drawn_and_converted() {
    let here = tempfile::tempdir().unwrap();
    let listed = json(&asap(&["cells", "list", "--json"], here.path()));
    assert!(listed.as_array().is_some_and(|cells| cells.len() >= 14));
    let python = asap(&["cells", "show", "DARTS_V2"], here.path()).stdout;
    fs::write(here.path().join("cell.txt"), &python).unwrap();
    let back = json(&asap(&["cells", "convert", "cell.txt", "--json"], here.path()));
    assert_eq!(back, json(&asap(&["cells", "show", "darts_v2", "--json"], here.path())));

    let drawn = asap(&["cells", "draw", "ASAP", "--out", "cell.svg"], here.path());
    assert!(drawn.status.success());
    assert!(fs::read_to_string(here.path().join("cell.svg")).unwrap().contains("sep_conv_3x3"));
    let png = ["cells", "draw", "ASAP", "--format", "png", "--out", "cell.png"];
    assert!(asap(&png, here.path()).status.success());
    assert!(fs::read(here.path().join("cell.png")).unwrap().starts_with(b"\x89PNG"));
    refused(&png[..5], here.path(), &["--out cell.png"]);
    let again = ["cells", "draw", "ASAP", "--out", "cell.svg"];
    refused(&again, here.path(), &["cell.svg", "expected a new file"]);
    refused(&["cells", "show", "no_such"], here.path(), &["no_such", "DARTS_V2"]);
    let unknown =
        "Genotype(normal=[('conv_9x9', 0)], normal_concat=[2], reduce=[], reduce_concat=[])";
    refused(&["cells", "show", unknown], here.path(), &["conv_9x9", "sep_conv_3x3"]);
}

#[test]
fn mistakes_are_named_and_end_with_2() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    refused(&["search", "--preset", "fast"], at, &["fast", "quick", "paper"]);
    refused(&["search", "--set", "search.epoch=3"], at, &["search.epoch", "search.epochs"]);
    refused(&["search", "--set", "search.epochs=many"], at, &["epochs"]);
    refused(&["search", "--set", "search.epochs=0"], at, &["search.epochs", "at least 1"]);
    refused(&["search", "--set", "annealing.decay=1.5"], at, &["annealing.decay", "1.5"]);
    refused(&["search", "--device", "abacus"], at, &["abacus", "cpu"]);
    refused(&["search", "--data", "cifar10"], at, &["cifar10", "--data-dir"]);
    refused(&["search", "--data", "nowhere/"], at, &["nowhere"]);
    refused(&["search", "--resume", "nowhere"], at, &["nowhere", "run"]);
    refused(&["search", "--resume", "x", "--preset", "paper"], at, &["--resume"]);
    refused(&["search", "--config", "none.toml"], at, &["none.toml"]);
    refused(&["bench", "search", "--channels", "0"], at, &["channels"]);
    refused(&["bench", "search", "--steps", "0"], at, &["--steps", "at least 1"]);
    refused(
        &["bench", "search", "--set", "search.method=xnas"],
        at,
        &["--set", "no configuration"],
    );
    refused(&["bench", "eval", "--precision", "f16"], at, &["f16", "choose f32 or bf16"]);
    let elsewhere = ["bench", "eval", "--precision", "bf16", "--device", "vulkan"];
    refused(&elsewhere, at, &["precision", "expected f32 on the device vulkan"]);
    refused(&["search", "--set", "precision=half"], at, &["half", "choose f32 or bf16"]);
    let elsewhere = ["search", "--set", "precision=bf16", "--device", "vulkan"];
    refused(&elsewhere, at, &["precision", "expected f32 on the device vulkan"]);
    refused(&["pac", "--delta", "2"], at, &["delta"]);

    fs::write(at.join("bad.toml"), "[search]\nepoch = 3\n").unwrap();
    refused(&["search", "--config", "bad.toml"], at, &["bad.toml", "search.epoch"]);

    fs::create_dir_all(at.join("one/cats")).unwrap();
    refused(&["search", "--data", "one"], at, &["one", "class"]);
    for class in ["cats", "dogs"] {
        fs::create_dir_all(at.join("text").join(class)).unwrap();
        fs::write(at.join("text").join(class).join("a.png"), "not an image").unwrap();
    }
    refused(&["search", "--data", "text"], at, &["a.png"]);

    fs::create_dir_all(at.join("used")).unwrap();
    fs::write(at.join("used/mine.txt"), "keep me").unwrap();
    refused(&["search", "--out", "used"], at, &["used", "--out"]);
    assert_eq!(fs::read_to_string(at.join("used/mine.txt")).unwrap(), "keep me");
    fs::write(at.join("file"), "").unwrap();
    refused(&["search", "--out", "file/run"], at, &["file/run"]);
    assert!(!at.join("runs").exists(), "a refused search leaves nothing behind");
}

#[test]
fn config_show_tells_where_each_value_comes_from() {
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("my.toml"), "[search]\nbatch = 12\n").unwrap();
    let arguments =
        ["config", "show", "--config", "my.toml", "--set", "search.epochs=7", "--seed", "5"];
    let shown = asap(&arguments, here.path());
    let text = String::from_utf8(shown.stdout).unwrap();
    let line = |key: &str| text.lines().find(|l| l.starts_with(key)).unwrap().to_owned();
    assert!(line("search.batch = 12").ends_with("# my.toml"));
    assert!(line("search.epochs = 7").ends_with("# command line"));
    assert!(line("seed = 5").ends_with("# command line"));
    assert!(line("weights.lr = 0.025").ends_with("# preset paper"));
    assert!(line("network.cells").ends_with("# preset quick"));
}

#[test]
fn data_is_described() {
    let here = tempfile::tempdir().unwrap();
    let checked = json(&asap(&["data", "check", "embedded", "--json"], here.path()));
    assert_eq!((&checked["height"], &checked["channels"]), (&28.into(), &1.into()));
    assert_eq!(checked["splits"][0]["images"], 5000);
    let listed = asap(&["data", "list"], here.path());
    assert!(String::from_utf8(listed.stdout).unwrap().contains("fashion-mnist"));
}

#[test]
fn a_dry_run_goes_through_everything_and_leaves_nothing() {
    let here = tempfile::tempdir().unwrap();
    let shown = json(&asap(&tiny(&["--dry-run", "--json"]), here.path()));
    assert_eq!((&shown["epochs"], &shown["steps_per_epoch"]), (&6.into(), &7.into()));
    assert!(shown["weights"].as_u64().is_some_and(|weights| weights > 0));
    let shown =
        json(&asap(&small(&["train", "--cell", "ASAP", "--dry-run", "--json"]), here.path()));
    assert_eq!((&shown["epochs"], &shown["steps_per_epoch"]), (&3.into(), &5.into()));
    let arguments: Vec<&str> =
        ["run", "--dry-run", "--json"].into_iter().chain(TINY).chain(SMALL).collect();
    let both = json(&asap(&arguments, here.path()));
    assert_eq!((&both["search"]["epochs"], &both["training"]["epochs"]), (&6.into(), &3.into()));
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 0);
}

/// The result without times and memory.
fn outcome(mut result: Value) -> Value {
    result["seconds"] = Value::Null;
    result["peak_rss_mb"] = Value::Null;
    result
}

#[test]
fn a_search_that_is_killed_goes_on_to_the_same_end() {
    let here = tempfile::tempdir().unwrap();
    let whole = outcome(json(&asap(&tiny(&["--json", "--out", "whole"]), here.path())));

    let mut child = command(&tiny(&["--out", "killed"]), here.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_epochs(&here.path().join("killed/events.jsonl"), 3, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let result = here.path().join("killed/result.json");
    assert!(!result.exists(), "the search was killed before its end");

    let resumed = asap(&["search", "--resume", "killed", "--json"], here.path());
    assert_eq!(outcome(json(&resumed)), whole);
    let events = |run: &str| {
        let text = fs::read_to_string(here.path().join(run).join("events.jsonl")).unwrap();
        let strip = |line: &str| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            event["epoch_seconds"] = Value::Null;
            event["peak_rss_mb"] = Value::Null;
            event["rss_mb"] = Value::Null;
            event
        };
        text.lines().map(strip).collect::<Vec<_>>()
    };
    assert_eq!(events("killed"), events("whole"));

    let again = asap(&["search", "--resume", "killed", "--json"], here.path());
    assert!(String::from_utf8_lossy(&again.stderr).contains("finished"));
    assert_eq!(outcome(json(&again)), whole);
    refused(&["search", "--out", "killed"], here.path(), &["killed", "--resume"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_with_a_checkpoint() {
    let here = tempfile::tempdir().unwrap();
    let mut child = command(&tiny(&["--out", "stopped"]), here.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_epochs(&here.path().join("stopped/events.jsonl"), 2, &mut child);
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("asap search --resume stopped"), "{message}");

    let resumed = json(&asap(&["search", "--resume", "stopped", "--json"], here.path()));
    let whole = json(&asap(&tiny(&["--json", "--out", "whole"]), here.path()));
    assert_eq!(outcome(resumed), outcome(whole));
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

/// Settings of a training that ends in seconds.
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

#[test]
fn a_cell_is_trained_evaluated_and_used() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let trained = json(&asap(&small(&["train", "--cell", "ASAP", "--out", "run", "--json"]), at));
    assert_eq!(trained["epochs"], 3);
    let error = trained["test"]["error"].as_f64().unwrap();
    // The run tested on as many images as it was limited to.
    assert_eq!(trained["test"]["images"], 200);
    let all = json(&asap(&["evaluate", "run", "--json"], at));
    assert_eq!(all["images"], 1000);
    let sum = |row: &Value| row.as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(all["confusion"].as_array().unwrap().iter().map(sum).sum::<u64>(), 1000);
    assert!((all["error"].as_f64().unwrap() - error).abs() < 0.2);
    let text = asap(&["evaluate", "run/weights.safetensors", "--split", "train"], at).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("of 5000 images") && text.contains("Ankle boot"), "{text}");

    fs::create_dir(at.join("photos")).unwrap();
    for (name, side) in [("photos/b.png", 64u32), ("photos/a.jpg", 28)] {
        image::RgbImage::from_fn(side, side, |x, y| image::Rgb([x as u8, y as u8, 90]))
            .save(at.join(name))
            .unwrap();
    }
    let lines = asap(&["predict", "run", "photos", "--json", "--top", "2"], at);
    assert!(lines.status.success(), "{}", String::from_utf8_lossy(&lines.stderr));
    let lines: Vec<Value> = String::from_utf8(lines.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["path"], &lines[1]["path"]),
        (&"photos/a.jpg".into(), &"photos/b.png".into())
    );
    assert_eq!(lines[0]["top"].as_array().unwrap().len(), 2);
    assert_eq!(lines[0]["class"], lines[0]["top"][0]["class"]);

    // A broken file among the others: named, and left out only when asked.
    fs::write(at.join("photos/broken.png"), "no image").unwrap();
    refused(&["predict", "run", "photos"], at, &["broken.png"]);
    let skipped = asap(&["predict", "run", "photos", "--skip-corrupt"], at);
    assert_eq!(String::from_utf8(skipped.stdout).unwrap().lines().count(), 2);
    assert!(String::from_utf8_lossy(&skipped.stderr).contains("broken.png"));
    let mut child = command(&["predict", "run", "-"], at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"photos/b.png\n").unwrap();
    let listed = child.wait_with_output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().starts_with("photos/b.png\t"));

    // Other tools: the files are there, and nothing is overwritten.
    for (format, out, part) in [
        ("onnx", "net.onnx", "GlobalAveragePool"),
        ("pytorch", "torch/network.py", "NORMAL = [[('sep_conv_3x3', 0)"),
        ("darts", "genotypes.py", "ASAP_FOUND = Genotype(normal=[('sep_conv_3x3', 0)"),
    ] {
        let target = if format == "pytorch" { "torch" } else { out };
        let arguments = ["export", "run", "--format", format, "--out", target, "--json"];
        assert!(json(&asap(&arguments, at))["files"].is_array());
        let text = fs::read(at.join(out)).unwrap();
        assert!(String::from_utf8_lossy(&text).contains(part), "{format}");
        refused(&arguments, at, &[out, "expected a new file"]);
    }
    let copied = json(&asap(&["evaluate", "torch/weights.safetensors", "--json"], at));
    assert_eq!(copied, all);
    refused(&["export", "run", "--format", "tflite"], at, &["tflite", "onnx, pytorch"]);
    refused(&["export", "photos", "--format", "onnx"], at, &["photos", "finished training"]);

    let timed = json(&asap(&["bench", "predict", "run", "--batch", "3", "--json"], at));
    assert_eq!((&timed["batch"], &timed["params"]), (&3.into(), &trained["params"]));
    assert!(timed["images_per_s"].as_f64().unwrap() > 0.0);
    refused(&["bench", "predict", "run", "--batch", "0"], at, &["--batch", "at least 1"]);
    refused(&["bench", "predict", "photos"], at, &["photos", "finished training"]);

    let again = json(&asap(&["train", "--resume", "run", "--json"], at));
    assert_eq!(again, trained);
    refused(&["predict", "run", "none.png"], at, &["none.png"]);
    refused(&["predict", "run", "photos/a.jpg", "--top", "0"], at, &["--top"]);
    refused(&["predict", "photos", "photos/a.jpg"], at, &["photos", "finished training"]);
    refused(&["evaluate", "run", "--data", "nowhere"], at, &["nowhere"]);
    refused(&["evaluate", "run", "--split", "all"], at, &["--split", "test, valid, train"]);
    refused(&["evaluate", "run", "--split", "valid"], at, &["valid images, found none"]);
    refused(&["train", "--resume", "nowhere"], at, &["nowhere"]);
    refused(&["search", "--resume", "run"], at, &["search"]);
}

#[test]
fn mistakes_of_a_training_are_named_and_end_with_2() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    refused(&["train"], at, &["--cell"]);
    refused(&["train", "--cell", "no_such"], at, &["no_such", "DARTS_V2"]);
    refused(&["train", "--cell", "ASAP", "--set", "train.drop_path=1"], at, &["train.drop_path"]);
    refused(&["train", "--cell", "ASAP", "--set", "train.epoch=3"], at, &["train.epochs"]);
    refused(
        &["train", "--cell", "ASAP", "--set", "train.augment.auto_augment=best"],
        at,
        &["train.augment.auto_augment", "svhn", "best"],
    );
    refused(&["train", "--cell", "ASAP", "--repeat", "0"], at, &["at least one seed"]);
    refused(&["transfer", "--cells", "ASAP,ASAP"], at, &["ASAP", "twice"]);
    refused(&["run", "--repeat-train", "0"], at, &["at least one"]);
    refused(&["run", "--data", "nowhere"], at, &["nowhere"]);
    fs::create_dir(at.join("empty")).unwrap();
    refused(&["train", "--cell", "empty"], at, &["empty", "finished search"]);
    refused(&["run", "--resume", "empty"], at, &["empty"]);
    refused(&["transfer", "--resume", "empty"], at, &["empty"]);
    assert!(!at.join("runs").exists(), "a refused training leaves nothing behind");
}

#[test]
fn a_training_that_is_killed_goes_on_to_the_same_end() {
    let here = tempfile::tempdir().unwrap();
    let whole = small(&["train", "--cell", "ASAP", "--json", "--out", "whole"]);
    let whole = outcome(json(&asap(&whole, here.path())));
    let mut child = command(&small(&["train", "--cell", "ASAP", "--out", "killed"]), here.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_epochs(&here.path().join("killed/events.jsonl"), 1, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = asap(&["train", "--resume", "killed", "--json"], here.path());
    assert_eq!(outcome(json(&resumed)), whole);
}

#[test]
fn one_command_searches_and_trains_and_goes_on_where_it_was() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let mut arguments = vec!["run", "--repeat-train", "2", "--out", "run", "--json"];
    arguments.extend(TINY);
    arguments.extend(SMALL);
    let mut child =
        command(&arguments, at).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_epochs(&at.join("run/train-0-0/events.jsonl"), 1, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let result = json(&asap(&["run", "--resume", "run", "--json"], at));
    let found = &result["searches"][0];
    assert_eq!((&found["folder"], &found["search"]["seed"]), (&"search-0".into(), &0.into()));
    assert_eq!(found["trainings"].as_array().unwrap().len(), 2);
    let errors = [0, 1].map(|i| found["trainings"][i][1]["test"]["error"].as_f64().unwrap());
    let mean = result["error"]["mean"].as_f64().unwrap();
    assert!((mean - (errors[0] + errors[1]) / 2.0).abs() < 1e-12);
    assert!(result["training_deviation"].is_number() && result["search_deviation"].is_null());
    let page = fs::read_to_string(at.join("run/report.html")).unwrap();
    assert!(page.contains("train-0-1/report.html"));
    assert!(at.join("run/train-0-1/report.html").is_file());
    refused(&["evaluate", "run"], at, &["train-0-0", "train-0-1"]);
    assert!(asap(&["evaluate", "run/train-0-1"], at).status.success());

    // The weights of the search, only where the networks are of one size.
    let mut inherit = vec!["run", "--out", "inherit", "--json"];
    inherit.extend(TINY);
    inherit.extend(SMALL);
    inherit.extend(["--set", "train.inherit=true"]);
    let output = asap(&inherit, at);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("train.channels = 3 and network.channels = 2"), "{message}");
    inherit[2] = "inherit2";
    inherit.extend(["--set", "train.channels=2"]);
    let inherited = json(&asap(&inherit, at));
    let first = |result: &Value| result["searches"][0]["trainings"][0][1]["test"].clone();
    assert_ne!(first(&inherited), Value::Null);

    let by_hand = small(&["train", "--cell", "run/search-0", "--out", "hand", "--json"]);
    let by_hand = json(&asap(&by_hand, at));
    assert_eq!(outcome(by_hand), outcome(found["trainings"][0][1].clone()));
}

#[test]
fn a_failure_does_not_lose_the_other_trainings_of_a_transfer() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let arguments =
        small(&["transfer", "--cells", "ASAP,SNAS_mild", "--data", "embedded,gone", "--out", "t"]);
    let output = asap(&arguments, at);
    let (text, message) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(text.contains("SNAS_mild") && text.contains("failed: ASAP on gone, seed 0"), "{text}");
    assert!(message.contains("2 of the trainings failed"), "{message}");
    let table: Value =
        serde_json::from_slice(&fs::read(at.join("t/result.json")).unwrap()).unwrap();
    let errors = |table: &Value| -> Vec<bool> {
        table["rows"].as_array().unwrap().iter().map(|row| row["error"].is_object()).collect()
    };
    assert_eq!(errors(&table), [true, false, true, false]);

    // Once the cause is mended, only what is missing is done.
    for class in ["a", "b"] {
        fs::create_dir_all(at.join("gone").join(class)).unwrap();
        for i in 0..40u8 {
            let image = image::GrayImage::from_pixel(28, 28, image::Luma([i + class.len() as u8]));
            image.save(at.join(format!("gone/{class}/{i}.png"))).unwrap();
        }
    }
    let before = fs::read(at.join("t/ASAP-embedded-0/result.json")).unwrap();
    let table = json(&asap(&["transfer", "--resume", "t", "--json"], at));
    assert_eq!(errors(&table), [true; 4]);
    assert_eq!(fs::read(at.join("t/ASAP-embedded-0/result.json")).unwrap(), before);
}

#[test]
fn the_tutorial_works_as_it_is_written() {
    let here = tempfile::tempdir().unwrap();
    let draw = |path: &str, class: u32, seed: u32| {
        let path = here.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x: u32, y: u32| {
            let bright = if class == 0 { x % 4 < 2 } else { y % 4 < 2 };
            let noise = (x * 31 + y * 17 + seed * 7) % 64;
            image::Luma([(noise + if bright { 150 } else { 0 }) as u8])
        };
        image::GrayImage::from_fn(12, 12, pixel).save(path).unwrap();
    };
    for seed in 0..48 {
        let (class, name) = [(0, "cat"), (1, "dog")][seed as usize % 2];
        draw(&format!("photos/{name}/{seed:03}.png"), class, seed);
    }
    draw("new/one.png", 0, 90);
    draw("new/two.png", 1, 91);

    let tutorial = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tutorial.md");
    let tutorial = fs::read_to_string(tutorial).unwrap();
    let commands: Vec<&str> =
        tutorial.lines().filter_map(|line| line.strip_prefix("    asap ")).collect();
    assert!(commands.len() > 12, "{commands:?}");
    for line in commands {
        let mut arguments: Vec<&str> = line.split_whitespace().collect();
        let long = ["search", "train", "run", "compare"].contains(&arguments[0]);
        if long && !arguments.contains(&"--resume") {
            arguments.extend(TINY);
            arguments.extend(SMALL);
        }
        let output = asap(&arguments, here.path());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for file in ["runs/photos/report.html", "cell.svg", "network.onnx", "pytorch/network.py"] {
        assert!(here.path().join(file).exists(), "{file}");
    }
    let network = fs::read_dir(here.path().join("runs/compared")).unwrap();
    assert!(network.count() > 8, "searches and trainings of two methods with two seeds");
}

#[test]
fn runs_are_watched_on_the_loopback_address_only() {
    let here = tempfile::tempdir().unwrap();
    refused(&["watch", "nothing", "--port", "0"], here.path(), &["nothing"]);
    asap(&tiny(&["--out", "runs/one", "--set", "search.epochs=2"]), here.path());
    let mut server =
        command(&["watch", "--port", "0"], here.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(server.stderr.take().unwrap()).read_line(&mut told).unwrap();
    let address = told.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let get = |path: &str, host: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(address.starts_with("127.0.0.1:"), "{told}");
    assert!(get("/", &address).contains("EventSource"));
    let runs = get("/api/runs", &address);
    assert!(runs.contains("\"path\":\"one\"") && runs.contains("\"epochs\":2"), "{runs}");
    assert!(get("/api/curves?run=one", &address).contains("\"accuracy/validation\":[[1,"));
    assert!(get("/report?run=one", &address).contains("<h2>Decisions</h2>"));
    for outside in ["../runs/one", "/etc", "one/..", "two"] {
        let answer = get(&format!("/api/curves?run={outside}"), &address);
        assert!(answer.starts_with("HTTP/1.1 404"), "{outside}: {answer}");
    }
    assert!(get("/api/runs", "evil.example").starts_with("HTTP/1.1 403"));
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn the_reference_is_that_of_this_program() {
    let here = tempfile::tempdir().unwrap();
    let output = asap(&["docs", "reference"], here.path());
    let program = String::from_utf8(output.stdout).unwrap();
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
    let committed = fs::read_to_string(committed).unwrap_or_default();
    assert!(program == committed, "write it anew: asap docs reference > docs/reference.md");
    assert!(!program.contains("|  |"), "each key has a description");
    asap(&["docs", "man", "man"], here.path());
    let page = fs::read_to_string(here.path().join("man/asap-search.1")).unwrap();
    assert!(page.contains("dry\\-run"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let script = asap(&["docs", "completions", shell], here.path());
        assert!(String::from_utf8_lossy(&script.stdout).contains("compare"));
    }
}

#[test]
fn methods_are_compared_and_what_failed_is_told() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let mut arguments =
        vec!["compare", "--methods", "asap,random", "--seeds", "2", "--out", "c", "--json"];
    arguments.extend(TINY);
    arguments.extend(SMALL);
    let mut child =
        command(&arguments, at).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_epochs(&at.join("c/train-asap-0/events.jsonl"), 1, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let table = json(&asap(&["compare", "--resume", "c", "--json"], at));
    let rows = table["rows"].as_array().unwrap();
    assert_eq!((&rows[0]["method"], &rows[1]["method"]), (&"asap".into(), &"random".into()));
    for row in rows {
        assert_eq!(row["error"]["count"], 2, "{row}");
        assert_eq!(row["failures"].as_array().map(Vec::len), Some(0));
    }
    assert!(rows[0]["sparsity"]["mean"].as_f64().is_some_and(|sparsity| sparsity > 0.5));
    for figure in ["epoch-time", "sparsity", "validation-accuracy", "entropy-normal"] {
        let svg = fs::read_to_string(at.join(format!("c/{figure}.svg"))).unwrap();
        assert!(svg.contains("<polyline") && svg.contains(">asap<"), "{figure}");
    }
    let mut arguments = vec!["compare", "--methods", "asap,darts", "--minutes", "0.03"];
    arguments.extend(["--no-train", "--out", "m", "--json"]);
    arguments.extend(TINY);
    arguments.extend(SMALL);
    let table = json(&asap(&arguments, at));
    assert!(table["rows"][0]["error"].is_null() && table["rows"][1]["sparsity"].is_object());
    let config = fs::read_to_string(at.join("m/search-darts-0/config.toml")).unwrap();
    let epochs =
        fs::read_to_string(at.join("m/search-darts-0/events.jsonl")).unwrap().lines().count();
    assert!(config.contains(&format!("epochs = {epochs}\n")), "{config}");
    refused(&["compare", "--minutes", "0"], at, &["minutes", "above 0"]);
    refused(&["compare", "--methods", "asap,best"], at, &["best", "accumulated-gradient"]);
    refused(&["compare", "--methods", "asap,asap"], at, &["asap twice"]);
    refused(&["compare", "--seeds", "0"], at, &["at least one seed"]);
    refused(&["search", "--method", "best"], at, &["best", "random-trained"]);
    refused(&["compare", "--resume", "c/search-asap-0"], at, &["compare.json"]);
}

/// Steps need no memory beyond that of the first ones.
#[test]
fn memory_does_not_grow_from_step_to_step() {
    // Of the training an epoch is 28 steps of 64 images: their images alone would be 5 MiB. The steps of the search
    // grew by 85 MiB an epoch when they kept what Burn had made; its last epoch makes another network.
    let train = "train --cell ASAP --set train.channels=2 --set train.cells=2 --set train.epochs=6 \
                 --set data.limit=2000";
    let search = "search --method pc-darts --set network.channels=4 --set network.cells=2 \
                  --set search.epochs=3 --set data.limit=1000";
    for (command, allowed) in [(train, 8.0), (search, 64.0)] {
        let here = tempfile::tempdir().unwrap();
        let arguments = command.split_whitespace().chain(["--out", "run"]);
        assert!(asap(&arguments.collect::<Vec<_>>(), here.path()).status.success());
        let events = fs::read_to_string(here.path().join("run/events.jsonl")).unwrap();
        let peaks: Vec<f64> = events
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["peak_rss_mb"].as_f64())
            .collect();
        // Only Linux tells.
        if let [first, second, .., last] = peaks[..] {
            let before = if command == train { second } else { first };
            assert!(last - before < allowed, "{command:?}: {peaks:?}");
        }
    }
}
