//! Commands of several runs, divided among processes.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{SMALL, TINY, asap, command, json, refused};

const COMPARE: [&str; 7] =
    ["compare", "--methods", "random,asap", "--seeds", "2", "--json", "--threads=1"];
const TRANSFER: [&str; 7] =
    ["transfer", "--cells", "ASAP,DARTS_V2", "--repeat", "2", "--json", "--threads=1"];

/// A table with everything that a time or the memory decides taken out.
fn timeless(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| {
                !key.contains("seconds") && !key.contains("peak") && !key.contains("time")
            });
            kept.map(|(key, value)| (key.clone(), timeless(value))).collect()
        }
        Value::Array(items) => items.iter().map(timeless).collect(),
        other => other.clone(),
    }
}

fn result(folder: &Path) -> Value {
    let file = fs::read(folder.join("result.json")).unwrap();
    timeless(&serde_json::from_slice(&file).unwrap())
}

fn start(arguments: &[&str], at: &Path) -> Child {
    command(arguments, at).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs a command alone, then in three parts at once of which one is killed and run again; the tables are the same.
fn parts_make_the_same(arguments: &[&str]) {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    json(&asap(&[arguments, &["--out", "alone"]].concat(), at));

    let part = |part: &'static str| [arguments, &["--out", "parts", "--shard", part]].concat();
    let mut killed = start(&part("2/3"), at);
    let others = [start(&part("1/3"), at), start(&part("3/3"), at)];
    std::thread::sleep(Duration::from_millis(300));
    killed.kill().unwrap();
    killed.wait().unwrap();
    for mut other in others {
        assert!(other.wait().unwrap().success());
    }
    let again = json(&asap(&part("2/3"), at));
    assert_eq!(timeless(&again), result(&at.join("alone")));
    assert!(again.get("missing").is_none());
    assert_eq!(result(&at.join("parts")), result(&at.join("alone")));
    // Nothing is left to do.
    let resumed = asap(&[arguments[0], "--resume", "parts", "--json"], at);
    assert_eq!(timeless(&json(&resumed)), result(&at.join("alone")));
}

#[test]
fn a_comparison_in_parts() {
    parts_make_the_same(&[&COMPARE[..], &TINY, &["--no-train"]].concat());
}

#[test]
fn a_transfer_in_parts() {
    parts_make_the_same(&[&TRANSFER[..], &SMALL].concat());
}

#[test]
fn searches_with_their_trainings_in_parts() {
    let run = ["run", "--no-final", "--repeat-search", "3", "--repeat-train", "2", "--json"];
    parts_make_the_same(&[&run[..], &TINY, &SMALL].concat());
}

#[test]
fn trainings_of_several_seeds_in_parts() {
    let train = ["train", "--cell", "ASAP", "--repeat", "3", "--json"];
    parts_make_the_same(&[&train[..], &SMALL].concat());
}

#[test]
fn a_part_says_what_is_missing_and_an_array_job_decides_it() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let arguments = [&COMPARE[..], &TINY, &["--no-train", "--out", "c"]].concat();
    let array = |variables: &[(&str, &str)]| {
        command(&arguments, at).envs(variables.iter().copied()).output().unwrap()
    };
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "2"),
        ("SLURM_ARRAY_TASK_MIN", "1"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
    ];
    let first = array(&slurm);
    let notes = String::from_utf8_lossy(&first.stderr);
    assert!(notes.contains("part 2/2 of 4 runs, by SLURM_ARRAY_TASK_ID"), "{notes}");
    assert!(notes.contains("2 of 4 runs are not done yet"), "{notes}");
    assert!(notes.contains("asap compare --resume c"), "{notes}");
    let table = json(&first);
    // The heavy runs are dealt first: one search by annealing for each part.
    assert_eq!(table["missing"], serde_json::json!(["random, seed 0", "asap, seed 0"]));
    let report = fs::read_to_string(at.join("c/report.html")).unwrap();
    assert!(report.contains("Not done yet"));
    let rest = json(&array(&[("JOB_COMPLETION_INDEX", "0"), ("ASAP_SHARDS", "2")]));
    assert!(rest.get("missing").is_none());

    let output = array(&[("JOB_COMPLETION_INDEX", "0")]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(message.contains("expected the number of tasks in ASAP_SHARDS"), "{message}");
    // A single run is not divided.
    let search = [&["search", "--out", "s", "--json"], &TINY[..]].concat();
    json(&command(&search, at).envs([("JOB_COMPLETION_INDEX", "7")]).output().unwrap());
}

#[test]
fn parts_that_cannot_be() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let compare = |more: &[&'static str]| [&COMPARE[..], &TINY, &["--no-train"], more].concat();
    refused(&compare(&["--shard", "1/2"]), at, &["--shard: expected --out PATH"]);
    refused(&compare(&["--shard", "3/2", "--out", "c"]), at, &["3/2", "such as 3/8"]);
    let time = ["compare", "--seeds", "2", "--time", "1m", "--shard", "1/2", "--out", "c"];
    refused(&time, at, &["--shard 1/2: a time is divided", "--minutes"]);
    refused(
        &["run", "--repeat-search", "2", "--shard", "1/2", "--out", "r"],
        at,
        &["--shard 1/2: the final", "--no-final"],
    );
    refused(
        &["train", "--cell", "ASAP", "--shard", "1/2", "--out", "t"],
        at,
        &["there is one training", "--repeat N"],
    );
    let latency = ["--max-latency", "5ms", "--shard", "1/2", "--out", "c"];
    refused(&compare(&latency), at, &["machines differ in latency", "--max-multiply-adds"]);
    assert!(!at.join("c").exists() && !at.join("r").exists() && !at.join("t").exists());

    json(&asap(&compare(&["--out", "c", "--shard", "1/2"]), at));
    let other = compare(&["--out", "c", "--shard", "2/2", "--seed", "5"]);
    refused(&other, at, &["expected the folder of the same command, found other settings"]);
    let mut other = compare(&["--out", "c", "--shard", "2/2"]);
    other[2] = "random";
    refused(&other, at, &["found other runs", "--resume"]);
    fs::create_dir(at.join("mine")).unwrap();
    fs::write(at.join("mine/notes.txt"), "x").unwrap();
    refused(&compare(&["--out", "mine", "--shard", "1/2"]), at, &["a new or empty folder"]);
}

#[test]
fn commands_and_scripts() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let compare =
        ["--", "compare", "--methods", "random,asap", "--seeds", "2", "--out", "my study"];
    let lines = json(&asap(&[&["jobs", "list", "--json"], &compare[..]].concat(), at));
    let lines: Vec<&str> = lines.as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[2].starts_with("cd ") && lines[2].ends_with("--out 'my study' --shard 3/4"));

    // The lines are commands as they are.
    let tiny = [&["jobs", "list", "--shards", "2", "--"], &COMPARE[..], &TINY].concat();
    let tiny = [&tiny[..], &["--no-train", "--out", "c"]].concat();
    let lines = String::from_utf8(asap(&tiny, at).stdout).unwrap();
    for line in lines.lines() {
        let shell = std::process::Command::new("sh").args(["-c", line]).output().unwrap();
        assert!(shell.status.success(), "{line}: {}", String::from_utf8_lossy(&shell.stderr));
    }
    assert!(result(&at.join("c")).get("missing").is_none());

    let slurm = asap(&[&["jobs", "script", "slurm", "--shards", "3"], &compare[..]].concat(), at);
    let slurm = String::from_utf8(slurm.stdout).unwrap();
    assert!(slurm.starts_with("#!/bin/sh\n#SBATCH") && slurm.contains("--array=1-3\n"), "{slurm}");
    assert!(slurm.contains("'my study' --threads 2 --shard \"$SLURM_ARRAY_TASK_ID/3\""), "{slurm}");
    let cluster = ["jobs", "script", "kubernetes", "--image", "registry/asap:1", "--claim", "work"];
    let cluster = asap(&[&cluster[..], &compare].concat(), at);
    let cluster = String::from_utf8(cluster.stdout).unwrap();
    for part in [
        "\n  name: asap-compare-my-study\n",
        "completions: 4\n",
        "completionMode: Indexed\n",
        "\"my study\"",
        "name: ASAP_SHARDS",
    ] {
        assert!(cluster.contains(part), "{cluster}");
    }

    let jobs = |command: &[&'static str]| [&["jobs", "list", "--"], command].concat();
    refused(
        &jobs(&["search"]),
        at,
        &["expected compare, reproduce, transfer, train or run, found search"],
    );
    refused(&jobs(&["compare", "--sedes", "2"]), at, &["the command after --", "--sedes"]);
    refused(&jobs(&["compare", "--seeds", "2"]), at, &["expected --out PATH"]);
    refused(&jobs(&["run", "--repeat-search", "2", "--out", "r"]), at, &["--no-final"]);
    refused(&jobs(&["train", "--cell", "ASAP", "--out", "t"]), at, &["--repeat 2 or more"]);
    refused(&jobs(&["compare", "--time", "1h", "--out", "c"]), at, &["--time is divided"]);
    refused(
        &["jobs", "list", "--shards", "9", "--", "compare", "--out", "c"],
        at,
        &["--shards: expected 1 to 5, the number of runs, found 9"],
    );
    refused(&["jobs", "script", "kubernetes", "--", "compare", "--out", "c"], at, &["--image"]);
}
