//! Trainings, and runs of several of them.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::{SMALL, TINY, asap, command, json, outcome, refused, small, wait_for_epochs};

#[test]
fn a_plain_network_is_trained_and_used_like_that_of_a_cell() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let train = ["train", "--network", "mobilenet-8", "--out", "run", "--json"];
    let trained = json(&asap(&small(&train), at));
    assert_eq!(trained["genotype"], "mobilenet-8");
    let warnings = trained["warnings"].to_string();
    assert!(warnings.contains("train.drop_path had no effect: mobilenet-8"), "{warnings}");
    assert!(fs::read_to_string(at.join("run/report.html")).unwrap().contains("mobilenet-8"));
    let again = json(&asap(&["evaluate", "run", "--json"], at));
    assert_eq!((&again["images"], &again["error"]), (&200.into(), &trained["test"]["error"]));
    assert!(asap(&["export", "run", "--format", "onnx", "--out", "a.onnx"], at).status.success());
    let darts = ["export", "run", "--format", "darts", "--out", "genotypes.py"];
    refused(&darts, at, &["run: expected a network of cells", "mobilenet-8"]);
    refused(&["train", "--cell", "run"], at, &["found mobilenet-8", "--network mobilenet-8"]);
    assert_eq!(json(&asap(&["train", "--resume", "run", "--json"], at)), trained);

    let cost = json(&asap(&["cells", "cost", "resnet-20", "--json"], at));
    assert_eq!(cost["params"], 272_410);
    let both = ["transfer", "--cells", "ASAP,resnet-8", "--out", "both", "--json"];
    let table = json(&asap(&small(&both), at));
    assert_eq!(table["rows"][1]["cell"], "resnet-8");
    assert!(table["rows"][1]["error"]["mean"].is_number());

    refused(
        &["train", "--network", "vgg-16"],
        at,
        &["vgg-16", "resnet-9, resnet-20, mobilenet-20"],
    );
    refused(&["train", "--network", "resnet-19"], at, &["`depth` is 19", "6 n + 2"]);
    refused(&["train", "--network", "resnet-20", "--cell", "ASAP"], at, &["cannot be used with"]);
    refused(&["train"], at, &["--cell"]);
}

#[test]
fn a_cell_is_trained_evaluated_and_used() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let trained = json(&asap(&small(&["train", "--cell", "ASAP", "--out", "run", "--json"]), at));
    assert_eq!(trained["epochs"], 3);
    // The run was limited to 200 test images.
    let all = json(&asap(&["evaluate", "run", "--json"], at));
    assert_eq!(all["images"], 200);
    assert_eq!(all["error"], trained["test"]["error"], "the images of the training's own test");
    let sum = |row: &Value| row.as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(all["confusion"].as_array().unwrap().iter().map(sum).sum::<u64>(), 200);
    let flips = json(&asap(&["evaluate", "run", "--flips", "--json"], at));
    assert_ne!(flips["loss"], all["loss"]);
    refused(
        &["export", "run", "--format", "darts", "--flips"],
        at,
        &["--flips", "onnx or pytorch"],
    );
    let text = asap(&["evaluate", "run/weights.safetensors", "--split", "train"], at).stdout;
    let text = String::from_utf8(text).unwrap();
    // Of 200 images a tenth was held out.
    assert!(text.contains("of 180 images") && text.contains("Ankle boot"), "{text}");
    let held_out = json(&asap(&["evaluate", "run", "--split", "valid", "--json"], at));
    assert_eq!(held_out["images"], 20);
    let accuracy = 1.0 - held_out["error"].as_f64().unwrap();
    assert!((accuracy - trained["valid_accuracy"].as_f64().unwrap()).abs() < 1e-9);
    let whole = json(&asap(&["evaluate", "run", "--split", "all", "--json"], at));
    assert_eq!(whole["images"], 400, "of training, held out, and for testing");
    refused(&["evaluate", "run", "--seed", "3"], at, &["--seed: would change nothing"]);
    refused(&["cells", "list", "--device", "cpu"], at, &["--device: would change nothing"]);

    // A result without its network is made again.
    let weights = fs::read(at.join("run/weights.safetensors")).unwrap();
    fs::remove_file(at.join("run/weights.safetensors")).unwrap();
    let again = json(&asap(&["train", "--resume", "run", "--json"], at));
    assert_eq!(again["test"], trained["test"]);
    let trained = again;
    assert_eq!(fs::read(at.join("run/weights.safetensors")).unwrap(), weights);
    let device = ["train", "--resume", "run", "--device", "cpu"];
    refused(&device, at, &["--resume", "no --set, --config, --seed or --device"]);

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

    // A broken file among the others is an error, or skipped on request.
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

    // Exports for other tools; nothing is overwritten.
    for (format, out, part) in [
        ("onnx", "net.onnx", "GlobalAveragePool"),
        ("pytorch", "torch/network.py", "LAYERS = ["),
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

    let timed = json(&asap(&["bench", "latency", "--channels", "4", "--cells", "3", "--json"], at));
    let pieces = timed["pieces"].as_array().unwrap();
    let number = |piece: &serde_json::Value, key: &str| piece[key].as_f64().unwrap();
    let sum: f64 = pieces.iter().map(|p| number(p, "times") * number(p, "ms")).sum();
    assert!((number(&timed, "sum_ms") - sum).abs() < 1e-9 && sum > 0.0, "{timed}");
    assert!(number(&timed, "measured_ms") > 0.0 && pieces.len() > 10, "{timed}");
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
    refused(&["evaluate", "run", "--split", "half"], at, &["--split", "test, valid, train, all"]);
    refused(&["train", "--resume", "nowhere"], at, &["nowhere"]);
    refused(&["search", "--resume", "run"], at, &["search"]);
}

/// As `2>&1 | head` does it.
#[test]
fn a_training_goes_on_when_nobody_reads_its_progress() {
    let here = tempfile::tempdir().unwrap();
    let mut child = command(&small(&["train", "--cell", "ASAP", "--out", "run"]), here.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(here.path().join("run/result.json").exists());
}

#[test]
fn a_killed_training_resumes_to_the_same_result() {
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
fn one_command_searches_and_trains_and_resumes() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let mut arguments = vec!["run", "--no-final", "--repeat-train", "2", "--out", "run", "--json"];
    arguments.extend(TINY);
    arguments.extend(SMALL);
    let mut child =
        command(&arguments, at).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_epochs(&at.join("run/train-0-0/events.jsonl"), 1, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    for command in ["search", "train"] {
        refused(
            &[command, "--resume", "run"],
            at,
            &["command with several; resume it with: asap run --resume run"],
        );
    }
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
    let shown = |folder: &str| asap(&["cells", "show", folder], at).stdout;
    assert!(!shown("run").is_empty() && shown("run") == shown("run/search-0"), "its only cell");
    assert!(asap(&["evaluate", "run/train-0-1"], at).status.success());

    // Weights can be inherited only between networks of the same size.
    let mut inherit = vec!["run", "--no-final", "--out", "inherit", "--json"];
    inherit.extend(TINY);
    inherit.extend(SMALL);
    inherit.extend(["--set", "train.inherit=true"]);
    let output = asap(&inherit, at);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("train.channels = 3 and network.channels = 2"), "{message}");
    inherit[3] = "inherit2";
    inherit.extend(["--set", "train.channels=2"]);
    let inherited = json(&asap(&inherit, at));
    let first = |result: &Value| result["searches"][0]["trainings"][0][1]["test"].clone();
    assert_ne!(first(&inherited), Value::Null);

    let by_hand = small(&["train", "--cell", "run/search-0", "--out", "hand", "--json"]);
    let by_hand = json(&asap(&by_hand, at));
    assert_eq!(outcome(by_hand), outcome(found["trainings"][0][1].clone()));
}

#[test]
fn images_that_are_too_easy_are_not_searched_on() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    for (class, level) in [("dark", 40_u8), ("light", 200)] {
        fs::create_dir_all(at.join("photos").join(class)).unwrap();
        for number in 0..330_u16 {
            let mut bytes = b"P6 8 8 255\n".to_vec();
            bytes.extend((0..8 * 8 * 3).map(|i| level + ((i * 31 + number * 17) % 50) as u8));
            fs::write(at.join(format!("photos/{class}/{number}.ppm")), bytes).unwrap();
        }
    }
    let run = |more: &[&'static str]| {
        let start = ["run", "--json", "--data", "photos", "--set", "train.channels=4"];
        asap(&[&start[..], more].concat(), at)
    };
    let easy = json(&run(&["--set", "train.epochs=15", "--out", "easy"]));
    assert_eq!(easy["searches"].as_array().map(Vec::len), Some(0));
    assert_eq!(easy["final"]["winner"], "resnet-9");
    assert!(easy["final"]["note"].as_str().unwrap().contains("too easy"), "{easy}");
    assert_eq!(easy["final"]["candidates"].as_array().map(Vec::len), Some(1));
    assert!(fs::read_to_string(at.join("easy/report.html")).unwrap().contains("too easy"));
}

#[test]
fn a_final_decides_what_is_trained() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let few = ["--set", "data.limit=600", "--set", "search.epochs=2", "--set", "train.epochs=5"];
    let run = |more: &[&'static str]| -> Vec<&'static str> {
        let start = ["run", "--json"].into_iter().chain(TINY).chain(SMALL);
        start.chain(few).chain(more.iter().copied()).collect()
    };
    let whole = json(&asap(&run(&["--sizes", "2", "--out", "whole"]), at));
    let candidates = whole["final"]["candidates"].as_array().unwrap();
    let names: Vec<&str> = candidates.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["resnet-9", "resnet-20", "mobilenet-20", "search-0", "ASAP", "random"]);
    assert_eq!(candidates[0]["genotype"], "resnet-9");
    let accuracy = |candidate: &Value| candidate["accuracy"].as_f64().unwrap();
    let best = candidates.iter().map(accuracy).fold(0.0, f64::max);
    let winner = candidates.iter().find(|candidate| accuracy(candidate) == best).unwrap();
    assert_eq!(whole["final"]["winner"], winner["name"]);
    // At equal cost, as far as whole channels allow.
    let cost = |candidate: &Value| candidate["multiply_adds"].as_f64().unwrap();
    for candidate in candidates {
        let ratio = cost(candidate) / cost(&candidates[0]);
        assert!((0.5..2.0).contains(&ratio), "{}: {ratio}", candidate["name"]);
    }
    // The candidates are judged on training images, and only the winner on the test images.
    let short: Value =
        serde_json::from_slice(&fs::read(at.join("whole/candidates/ASAP/result.json")).unwrap())
            .unwrap();
    assert_eq!((&short["test"], &short["data"]["test_images"]), (&Value::Null, &0.into()));
    assert!(short["data"]["valid_images"].as_u64().unwrap() >= 60);
    assert!(whole["final"]["trainings"][0][1]["test"]["error"].is_number());
    // The search does not see the images on which its cell is judged.
    let count = |of: &Value, part: &str| of["data"][part].as_u64().unwrap();
    let search = &whole["searches"][0]["search"];
    let searched = count(search, "train_images") + count(search, "valid_images");
    assert_eq!(searched, count(&short, "train_images"));
    let config = fs::read_to_string(at.join("whole/search-0/config.toml")).unwrap();
    assert!(config.contains("held_out = 0.1\nheld_out_seed = 0\n"), "{config}");
    assert!(asap(&["evaluate", "whole"], at).status.success());
    let page = fs::read_to_string(at.join("whole/report.html")).unwrap();
    assert!(page.contains("Final") && page.contains("candidates/resnet-20/report.html"));

    let sizes = &whole["final"]["smaller"];
    assert_eq!(sizes.as_array().map(Vec::len), Some(1));
    let ratio = cost(&sizes[0][1]) / cost(&whole["final"]["trainings"][0][1]);
    assert!((0.2..0.75).contains(&ratio), "{ratio}");
    assert!(page.contains("Error against cost") && page.contains("smaller/1/report.html"));

    // Broken off in the final, it goes on to the same result.
    let mut child = command(&run(&["--sizes", "2", "--out", "broken"]), at)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_epochs(&at.join("broken/candidates/random/events.jsonl"), 1, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = json(&asap(&["run", "--resume", "broken", "--json"], at));
    let without_times = |result: &Value| {
        let mut of_final = result["final"].clone();
        for candidate in of_final["candidates"].as_array_mut().unwrap() {
            candidate["seconds"] = Value::Null;
        }
        for trainings in ["trainings", "smaller"] {
            of_final[trainings] = outcome(of_final[trainings][0][1].clone());
        }
        of_final
    };
    assert_eq!(without_times(&resumed), without_times(&whole));

    // What the final decided stays, although a candidate that was left out might do better now.
    fs::remove_file(at.join("broken/result.json")).unwrap();
    fs::remove_dir_all(at.join("broken/candidates")).unwrap();
    let decided = json(&asap(&["run", "--resume", "broken", "--json"], at));
    assert_eq!(without_times(&decided), without_times(&whole));
    assert!(!at.join("broken/candidates").exists());

    refused(&["run", "--sizes", "9"], at, &["sizes: expected 1 to 8", "found 9"]);

    // A candidate that cannot keep a limit is left out with its reason; a limit that none can keep is refused at once.
    let limited = json(&asap(&run(&["--max-weights", "1500", "--out", "limited"]), at));
    let left_out = limited["final"]["left_out"].as_array().unwrap();
    assert_eq!(left_out[0]["name"], "resnet-9");
    assert!(left_out[0]["reason"].as_str().unwrap().contains("expected at least 1787"));
    let smaller = limited["final"]["candidates"].as_array().unwrap();
    assert!(smaller.iter().any(|candidate| candidate["name"] == "ASAP"));
    assert!(smaller.iter().all(|candidate| candidate["params"].as_u64() <= Some(1500)));
    let page = fs::read_to_string(at.join("limited/report.html")).unwrap();
    assert!(page.contains("Without resnet-9: "));
    let impossible = run(&["--max-weights", "20", "--out", "impossible"]);
    refused(
        &impossible,
        at,
        &["limits.weights (--max-weights): expected at least 582", "mobilenet-20"],
    );
    let slow = run(&["--max-latency", "1us", "--out", "slow"]);
    refused(&slow, at, &["limits.latency_ms (--max-latency): expected at least", "resnet-9"]);
    assert!(!at.join("slow/search-0").exists(), "nothing is searched for that cannot be trained");
    let inherit = run(&["--set", "train.inherit=true", "--out", "impossible"]);
    refused(&inherit, at, &["train.inherit", "network.channels = 2"]);
    assert!(!at.join("impossible").exists());

    // Too few images to search on.
    let small = json(&asap(&run(&["--out", "few", "--set", "data.limit=200"]), at));
    assert_eq!(small["searches"].as_array().unwrap().len(), 0);
    assert_eq!(small["final"]["winner"], "resnet-9");
    assert_eq!(small["final"]["trainings"][0][1]["genotype"], "resnet-9");
    let limits = ["--out", "few-weights", "--set", "data.limit=200", "--max-weights", "1500"];
    let small = json(&asap(&run(&limits), at));
    assert_ne!(small["final"]["winner"], "resnet-9", "its smallest network has more weights");
    assert!(small["final"]["trainings"][0][1]["params"].as_u64() <= Some(1500));
}

#[test]
fn a_time_decides_sizes_and_epochs() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let limit = ["--set", "data.limit=300", "--json"];
    let train = ["train", "--network", "resnet-8", "--time", "4s", "--out", "train"];
    let trained = json(&asap(&[&train[..], &limit].concat(), at));
    let config = fs::read_to_string(at.join("train/config.toml")).unwrap();
    let of_training = &config[config.find("[train]").unwrap()..];
    assert!(trained["epochs"].as_u64().unwrap() > 1 && !of_training.contains("seconds = 0.0"));
    let events = fs::read_to_string(at.join("train/events.jsonl")).unwrap();
    assert!(events.lines().all(|line| line.contains("\"epochs\":")), "{events}");
    // With the size given, only the epochs are decided.
    let sized = [&train[..5], &["--set", "train.channels=5", "--out", "sized"], &limit].concat();
    let sized = json(&asap(&sized, at));
    assert_eq!(
        sized["params"],
        json(&asap(
            &[
                "cells",
                "cost",
                "resnet-8",
                "--channels",
                "5",
                "--size",
                "28",
                "--in-channels",
                "1",
                "--json"
            ],
            at
        ))["params"]
    );

    // Workers share the batch that is decided.
    let shared = ["train", "--network", "resnet-8", "--time", "2s", "--set", "workers=4"];
    assert!(asap(&[&shared[..], &limit].concat(), at).status.success());
    // A dry run does not take the time.
    let dry = ["train", "--network", "resnet-8", "--time", "1m", "--dry-run"];
    assert!(asap(&[&dry[..], &limit].concat(), at).status.success());
    // All seeds train a network of the same size.
    let twice = ["train", "--cell", "ASAP", "--time", "6s", "--repeat", "2", "--out", "twice"];
    let twice = json(&asap(&[&twice[..], &limit].concat(), at));
    assert_eq!(
        (&twice["rows"][0]["error"]["count"], &twice["rows"][0]["failures"]),
        (&2.into(), &serde_json::json!([]))
    );

    // A whole run: every part has its plan, and the time is kept across processes.
    let run = ["run", "--time", "14s", "--out", "run", "--repeat-train", "2", "--sizes", "2"];
    let search = ["--set", "network.cells=2", "--set", "network.channels=4"];
    let result = json(&asap(&[&run[..], &limit, &search].concat(), at));
    assert_eq!(result["time"], 14.0);
    let trainings = result["final"]["trainings"].as_array().unwrap();
    assert_eq!(trainings.len(), 2);
    assert_eq!(trainings[0][1]["params"], trainings[1][1]["params"]);
    let spent: Value =
        serde_json::from_slice(&fs::read(at.join("run/spent.json")).unwrap()).unwrap();
    let spent = spent["seconds"].as_f64().unwrap();
    assert!(spent > 0.0 && spent <= result["seconds"].as_f64().unwrap());
    assert_eq!(json(&asap(&["run", "--resume", "run", "--json"], at)), result, "it is over");

    let refuse = |arguments: &[&str], parts: &[&str]| refused(arguments, at, parts);
    for command in ["search", "run", "compare"] {
        refuse(&[command, "--time", "soon"], &["soon", "20m or 1h30m"]);
        let twice = [command, "--time", "1h", "--set", "search.epochs=3"];
        refuse(&twice, &["--time: decides search.epochs", "leave out one of them"]);
    }
    refuse(&["train", "--cell", "ASAP", "--time", "0s"], &["a time above 0"]);
    refuse(&["train", "--cell", "ASAP", "--time", "10ms"], &["time: expected at least", "found"]);
    refuse(&["run", "--time", "10ms", "--out", "none"], &["time: expected at least"]);
    refuse(&["run", "--time", "1h", "--set", "train.channels=8"], &["decides train.channels"]);
    refuse(&["compare", "--time", "1h", "--minutes", "3"], &["--time", "--minutes"]);
    refuse(&["compare", "--time", "1s"], &["time: expected at least", "left for it"]);
    assert!(!at.join("none").exists(), "nothing was written");
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
    assert!(text.contains("ASAP                 gone "), "{text}");
    assert!(text.contains("SNAS_mild") && text.contains("gone, seed 0"), "{text}");
    assert!(message.contains("2 of the trainings failed"), "{message}");
    let table: Value =
        serde_json::from_slice(&fs::read(at.join("t/result.json")).unwrap()).unwrap();
    let errors = |table: &Value| -> Vec<bool> {
        table["rows"].as_array().unwrap().iter().map(|row| row["error"].is_object()).collect()
    };
    assert_eq!(errors(&table), [true, false, true, false]);

    // Once the cause is fixed, only the missing trainings run.
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

/// No step needs more memory than the first ones.
#[test]
fn memory_does_not_grow_from_step_to_step() {
    // An epoch of training has 28 steps of 64 images; the images of seven epochs would take 37 MiB. The search grew by
    // 85 MiB per epoch when its steps kept Burn's buffers; its last epoch builds another network.
    let train = "train --cell ASAP --set train.channels=2 --set train.cells=2 --set train.epochs=10 \
                 --set data.limit=2000";
    let search = "search --method pc-darts --set network.channels=4 --set network.cells=2 \
                  --set search.epochs=3 --set data.limit=1000";
    for (command, settled, allowed) in [(train, 2, 12.0), (search, 0, 64.0)] {
        let here = tempfile::tempdir().unwrap();
        let arguments = command.split_whitespace().chain(["--out", "run"]);
        assert!(asap(&arguments.collect::<Vec<_>>(), here.path()).status.success());
        let events = fs::read_to_string(here.path().join("run/events.jsonl")).unwrap();
        let peaks: Vec<f64> = events
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["peak_rss_mb"].as_f64())
            .collect();
        // Only Linux reports it.
        if let Some(last) = peaks.last() {
            assert!(last - peaks[settled] < allowed, "{command:?}: {peaks:?}");
        }
    }
}
