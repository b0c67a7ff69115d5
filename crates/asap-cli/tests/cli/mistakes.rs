//! Mistakes are reported with a remedy.

use std::fs;

use crate::refused;

#[test]
fn mistakes_are_named_and_end_with_2() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    for nothing in [&["cells", "list"][..], &["data", "check", "embedded"], &["bench", "latency"]] {
        let out = [nothing, &["--out", "o"]].concat();
        refused(&out, at, &["--out o: this command has nothing to write there", "--json"]);
    }
    refused(&["search", "--preset", "fast"], at, &["fast", "quick", "paper"]);
    refused(&["cells", "draw", "ASAP", "--kind", "small"], at, &["small", "normal, reduction"]);
    refused(&["cells", "convert", "ASAP", "--to", "yaml"], at, &["yaml", "python, json"]);
    refused(&["bench", "search", "--alive", "s3,conv"], at, &["conv", "sep_conv_3x3"]);
    refused(&["search", "--set", "search.epoch=3"], at, &["search.epoch", "search.epochs"]);
    refused(&["search", "--set", "search.epochs=many"], at, &["epochs"]);
    let misspelt = ["search", "--set", "serch.epochs=3"];
    refused(
        &misspelt,
        at,
        &["`serch.epochs`; expected search.epochs or train.epochs; asap config"],
    );
    let cold = ["search", "--set", "search.relaxation=mixture", "--set"];
    let cold = [&cold[..], &["annealing.initial_temperature=0.05"]].concat();
    refused(&cold, at, &["annealing.initial_temperature: expected at least 0.1"]);
    refused(&["search", "--set", "search.batch=0"], at, &["search.batch", "at least 1"]);
    refused(&["search", "--set", "annealing.decay=1.5"], at, &["annealing.decay", "1.5"]);
    refused(&["search", "--device", "abacus"], at, &["abacus", "cpu"]);
    refused(&["search", "--data", "cifar10"], at, &["cifar10", "--data-dir"]);
    refused(&["search", "--data", "nowhere/"], at, &["nowhere"]);
    refused(&["search", "--resume", "nowhere"], at, &["nowhere", "run"]);
    refused(&["search", "--resume", "x", "--preset", "paper"], at, &["--resume"]);
    refused(&["search", "--config", "none.toml"], at, &["none.toml"]);
    refused(&["bench", "search", "--channels", "0"], at, &["channels"]);
    let untrained = ["compare", "--methods", "random", "--no-train", "--max-weights", "20k"];
    refused(&untrained, at, &["--max-weights", "--no-train"]);
    let little = ["run", "--no-final", "--max-weights", "100"];
    refused(
        &little,
        at,
        &["limits.weights (--max-weights)", "the cheapest cell in a network of 5"],
    );
    for job in [&["run", "--no-final"][..], &["compare", "--methods", "random"]] {
        let slow = [job, &["--max-latency", "1us", "--set", "train.cells=2"]].concat();
        let least = "limits.latency_ms (--max-latency): expected at least";
        refused(&slow, at, &[least, "the cheapest cell in a network of 2 cells"]);
    }
    let little = ["compare", "--methods", "random", "--max-multiply-adds", "2k"];
    refused(&little, at, &["--max-multiply-adds): expected at least", "found 2000"]);
    refused(&["search", "--max-memory", "2"], at, &["at least 1 MiB", "2GiB"]);
    let little = ["--set", "train.channels=16", "--set", "train.batch=200", "--max-memory"];
    let train = [&["train", "--cell", "ASAP"][..], &little, &["200MiB"]].concat();
    refused(&train, at, &["limits.memory_mb: expected at least", "train.batch=", "would fit"]);
    refused(&["search", "--max-memory", "101MiB"], at, &["search.batch=32", "found 101"]);
    let many = ["train", "--cell", "ASAP", "--set", "train.channels=99999999999"];
    refused(&many, at, &["channels", "1 to 100000"]);
    let many = ["train", "--cell", "ASAP", "--set", "train.channels=50000", "--dry-run"];
    refused(&many, at, &["memory of this machine, in MiB: expected at least", "fewer channels"]);
    let many = ["search", "--set", "network.channels=50000"];
    refused(&many, at, &["memory of this machine, in MiB: expected at least", "fewer channels"]);
    refused(&["cells", "cost", "ASAP", "--channels", "99999999999"], at, &["1 to 100000"]);
    refused(&["bench", "latency", "--channels", "0"], at, &["channels"]);
    refused(&["bench", "latency", "--cell", "ASAPP"], at, &["ASAPP", "ASAP"]);
    refused(&["bench", "search", "--steps", "0"], at, &["--steps", "at least 1"]);
    refused(
        &["bench", "search", "--set", "search.method=xnas"],
        at,
        &["--set", "no configuration"],
    );
    refused(&["bench", "eval", "--precision", "f16"], at, &["f16", "f32, bf16"]);
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
fn options_that_would_change_nothing_are_refused() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    refused(&["search", "--dry-run", "--out", "o"], at, &["--out o", "nothing to write"]);
    refused(&["bench", "latency", "--device", "wgpu"], at, &["--device: would change nothing"]);
    refused(&["bench", "data", "embedded", "--device", "wgpu"], at, &["--device: would change"]);
    refused(&["bench", "search", "--seed", "1"], at, &["--seed: would change nothing"]);
    for command in [&["cells", "cost"][..], &["bench", "latency", "--cell"]] {
        let cells = [command, &["resnet-20", "--cells", "9"]].concat();
        refused(&cells, at, &["--cells 9: resnet-20 has no cells", "leave it out"]);
    }
    let folder = ["search", "--data-dir", "photos"];
    refused(&folder, at, &["not to --data embedded", "--data photos"]);
    let folder = ["data", "check", "photos/", "--data-dir", "cifar"];
    refused(&folder, at, &["not to --data photos/", "--data cifar"]);
    let named = ["search", "--set", "data.source=cifar10", "--data-dir", "nowhere"];
    refused(&named, at, &["cifar10", "nowhere"]);
    let source = ["transfer", "--cells", "ASAP", "--set", "data.source=cifar10"];
    refused(&source, at, &["data.source = \"cifar10\" (command line)", "--data gives"]);
}

#[test]
fn mistakes_of_a_training_are_named_and_end_with_2() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    refused(&["train"], at, &["--cell"]);
    refused(&["train", "--cell", "no_such"], at, &["no_such", "DARTS_V2"]);
    refused(&["train", "--cell", "ASAP", "--set", "train.drop_path=1"], at, &["train.drop_path"]);
    refused(&["train", "--cell", "ASAP", "--set", "train.epoch=3"], at, &["train.epochs"]);
    refused(&["train", "--cell", "ASAP", "--set", "workers=3"], at, &["workers", "a power of two"]);
    let shared = ["train", "--cell", "ASAP", "--set", "workers=4", "--set", "train.batch=50"];
    refused(&shared, at, &["train.batch: expected a multiple of workers = 4, found 50"]);
    refused(
        &["train", "--cell", "ASAP", "--set", "train.augment.auto_augment=best"],
        at,
        &["train.augment.auto_augment", "svhn", "best"],
    );
    refused(&["train", "--cell", "ASAP", "--repeat", "0"], at, &["at least one seed"]);
    refused(&["transfer", "--cells", "ASAP,ASAP"], at, &["ASAP", "twice"]);
    // Settings that would be dropped.
    let inherit = ["--set", "train.inherit=true"];
    refused(
        &[&["train", "--cell", "ASAP"], &inherit[..]].concat(),
        at,
        &["train.inherit", "asap run"],
    );
    refused(&[&["transfer", "--cells", "ASAP"], &inherit[..]].concat(), at, &["train.inherit"]);
    let held_out = ["run", "--set", "search.held_out=0.4"];
    refused(&held_out, at, &["search.held_out: expected 0 with a final", "found 0.4"]);
    let minutes = ["compare", "--minutes", "1", "--set", "search.epochs=3"];
    refused(&minutes, at, &["--minutes: decides search.epochs"]);
    refused(&["run", "--repeat-train", "0"], at, &["at least one"]);
    refused(&["run", "--data", "nowhere"], at, &["nowhere"]);
    fs::create_dir(at.join("empty")).unwrap();
    refused(&["train", "--cell", "empty"], at, &["empty", "finished search"]);
    refused(&["run", "--resume", "empty"], at, &["empty"]);
    refused(&["transfer", "--resume", "empty"], at, &["empty"]);
    assert!(!at.join("runs").exists(), "a refused training leaves nothing behind");
}
