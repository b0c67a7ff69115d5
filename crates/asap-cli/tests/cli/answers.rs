//! Quick commands: help, cells, configuration, data, the reference.

use std::fs;
use std::path::Path;

use crate::{asap, command, json, refused};

#[test]
fn every_command_has_help_with_an_example() {
    let here = tempfile::tempdir().unwrap();
    let commands = [
        "search",
        "train",
        "run",
        "evaluate",
        "predict",
        "transfer",
        "compare",
        "reproduce",
        "export",
        "cells",
        "data",
        "config",
        "bench",
        "watch",
        "docs",
        "pac",
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
    let by_ending = ["cells", "draw", "ASAP", "--out", "other.png"];
    assert!(asap(&by_ending, here.path()).status.success());
    let read = |name: &str| fs::read(here.path().join(name)).unwrap();
    assert_eq!(read("other.png"), read("cell.png"));
    let jpeg = ["cells", "draw", "ASAP", "--out", "cell.jpg"];
    refused(&jpeg, here.path(), &[".svg, .png or .dot", ".jpg"]);
    let both = ["cells", "draw", "ASAP", "--format", "png", "--out", "cell2.svg"];
    refused(&both, here.path(), &["--format", ".svg"]);

    // A folder with the name of a published cell is not that cell.
    let random = ["search", "--set", "search.method=random", "--seed", "5", "--out", "asap"];
    assert!(asap(&random, here.path()).status.success());
    let shown = |cell: &str| asap(&["cells", "show", cell], here.path()).stdout;
    assert_eq!(shown("asap"), read("asap/genotype.txt"));
    assert_ne!(shown("asap"), shown("ASAP"));
    // What is exported for Python is read again.
    let export = ["export", "asap", "--format", "darts", "--out", "genotypes.py"];
    assert!(asap(&export, here.path()).status.success());
    assert_eq!(shown("genotypes.py"), shown("asap"));
    fs::rename(here.path().join("asap"), here.path().join("ASAP")).unwrap();
    refused(&["cells", "show", "ASAP"], here.path(), &["found the published one", "./ASAP"]);
    assert_eq!(shown("./ASAP"), shown("genotypes.py"));
    fs::rename(here.path().join("ASAP"), here.path().join("asap")).unwrap();

    let again = ["cells", "draw", "ASAP", "--out", "cell.svg"];
    refused(&again, here.path(), &["cell.svg", "expected a new file"]);
    refused(&["cells", "show", "no_such"], here.path(), &["no_such", "DARTS_V2"]);
    let unknown =
        "Genotype(normal=[('conv_9x9', 0)], normal_concat=[2], reduce=[], reduce_concat=[])";
    refused(&["cells", "show", unknown], here.path(), &["conv_9x9", "sep_conv_3x3"]);
}

#[test]
fn config_show_reports_the_origin_of_each_value() {
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
    assert!(line("weights.momentum = 0.9").ends_with("# preset paper"));
    assert!(line("network.cells").ends_with("# preset quick"));
}

#[test]
fn data_is_described() {
    let here = tempfile::tempdir().unwrap();
    let checked = json(&asap(&["data", "check", "embedded", "--json"], here.path()));
    assert_eq!((&checked["height"], &checked["channels"]), (&28.into(), &1.into()));
    assert_eq!(checked["splits"][0]["images"], 5000);
    let listed = asap(&["data", "list"], here.path()).stdout;
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.contains("fashion-mnist") && listed.contains("always available"), "{listed}");
}

#[test]
fn known_data_sets_are_found_in_the_cache() {
    let here = tempfile::tempdir().unwrap();
    let place = here.path().join("asap/cifar10");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("cifar-10-binary.tar.gz"), "").unwrap();
    let found_with = |cache: &Path| {
        let mut list = command(&["data", "list"], here.path());
        let output = list.env("XDG_CACHE_HOME", cache).output().unwrap();
        String::from_utf8(output.stdout).unwrap().contains(&*place.to_string_lossy())
    };
    assert!(found_with(here.path()));
    assert!(!found_with(&here.path().join("another")));
}

#[test]
fn the_reference_is_that_of_this_program() {
    let here = tempfile::tempdir().unwrap();
    let output = asap(&["docs", "reference"], here.path());
    let program = String::from_utf8(output.stdout).unwrap();
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
    let committed = fs::read_to_string(committed).unwrap_or_default();
    assert!(program == committed, "regenerate it: asap docs reference > docs/reference.md");
    assert!(!program.contains("|  |"), "each key has a description");
    let quoted = json(&asap(&["docs", "reference", "--json"], here.path()));
    assert_eq!(quoted, program);
    asap(&["docs", "man", "man"], here.path());
    let page = fs::read_to_string(here.path().join("man/asap-search.1")).unwrap();
    assert!(page.contains("dry\\-run"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let script = asap(&["docs", "completions", shell], here.path());
        let script = String::from_utf8(script.stdout).unwrap();
        assert!(script.contains("compare") && script.contains("pc-darts"), "{shell}");
    }
}
