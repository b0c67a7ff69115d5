//! Searches: finished, killed, stopped and compared.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::{SMALL, TINY, asap, command, json, outcome, refused, small, tiny, wait_for_epochs};

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

#[test]
fn a_killed_search_resumes_to_the_same_result() {
    let here = tempfile::tempdir().unwrap();
    let whole = outcome(json(&asap(&tiny(&["--json", "--out", "whole"]), here.path())));
    // What is said of certainty is said of the cell that was found, also where alpha and not evidence chose it.
    for choice in whole["choices"].as_array().unwrap() {
        let name = choice["choice"].as_str().unwrap();
        let Some((node, input)) = name.split_once("<-") else { continue };
        let (kind, state) = node.split_once(' ').unwrap();
        let cell = if kind == "normal" { "normal" } else { "reduce" };
        let first = 2 * (state.parse::<usize>().unwrap() - 2);
        let genes = &whole["genotype"][cell].as_array().unwrap()[first..first + 2];
        let input: u64 = input.parse().unwrap();
        assert!(
            genes.iter().any(|gene| gene[0] == choice["chosen"] && gene[1] == input),
            "{choice}"
        );
    }

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
fn a_signal_stops_with_a_checkpoint() {
    let here = tempfile::tempdir().unwrap();
    let mut child = command(&tiny(&["--out", "stopped"]), here.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_epochs(&here.path().join("stopped/events.jsonl"), 2, &mut child);
    let pid = child.id().to_string();
    // SIGINT is ignored where the tests themselves run in the background of a script.
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("asap search --resume stopped"), "{message}");

    let resumed = json(&asap(&["search", "--resume", "stopped", "--json"], here.path()));
    let whole = json(&asap(&tiny(&["--json", "--out", "whole"]), here.path()));
    assert_eq!(outcome(resumed), outcome(whole));
}

#[test]
fn methods_are_compared_and_failures_reported() {
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
    arguments.extend(TINY.chunks(2).filter(|pair| pair[1] != "search.epochs=6").flatten());
    arguments.extend(SMALL);
    let table = json(&asap(&arguments, at));
    assert!(table["rows"][0]["error"].is_null() && table["rows"][1]["sparsity"].is_object());
    let config = fs::read_to_string(at.join("m/search-darts-0/config.toml")).unwrap();
    let epochs =
        fs::read_to_string(at.join("m/search-darts-0/events.jsonl")).unwrap().lines().count();
    assert!(config.contains(&format!("epochs = {epochs}\n")), "{config}");

    // A table of true accuracies, of three cells of which one has `none`.
    let cells = [
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
            "94.36",
        ),
        (
            "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
            "54.30",
        ),
        (
            "|none~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
            "55.00",
        ),
    ];
    let lines: Vec<_> =
        cells.iter().map(|(cell, accuracy)| format!("{cell},{accuracy}\n")).collect();
    fs::write(at.join("t.csv"), format!("cell,test\n{}", lines.concat())).unwrap();
    fn with<'a>(rest: &[&'a str]) -> Vec<&'a str> {
        let bench = ["compare", "--space", "nas-bench-201", "--methods", "random", "--table"];
        [&bench[..], rest, &SMALL].concat()
    }
    // The only candidate left decides which cell is found.
    let only = ["--set", "network.candidates=[\"skip_connect\"]", "--out", "t", "--json"];
    let table = json(&asap(&with(&[&["t.csv"], &only[..]].concat()), at));
    assert_eq!((&table["table"]["cells"], &table["table"]["column"]), (&1.into(), &"test".into()));
    let truth = &table["rows"][0]["truth"];
    let accuracy = truth["accuracy"]["mean"].as_f64().unwrap();
    assert!((accuracy - 0.543).abs() < 1e-9 && truth["chance"] == 1.0, "{truth}");
    assert!(fs::read_to_string(at.join("t/report.html")).unwrap().contains("54.30"));
    refused(&with(&["none.csv"]), at, &["cannot read", "none.csv"]);
    refused(&with(&["t.csv", "--table-column", "x"]), at, &["no column `x`", "test"]);
    fs::write(at.join("broken.csv"), format!("cell,test\n{},x\n", cells[0].0)).unwrap();
    refused(&with(&["broken.csv"]), at, &["broken.csv", "line 2", "percent", "`x`"]);
    fs::write(at.join("twice.csv"), format!("cell,test\n{}{}", lines[0], lines[0])).unwrap();
    refused(&with(&["twice.csv"]), at, &["line 3", "each cell once"]);
    // Searches that ask a table of the whole space, where 3x3 convolutions are what counts.
    let candidates = ["nor_conv_3x3", "skip_connect"];
    let cell = |k: usize| {
        let of = |edge: usize| candidates[k >> edge & 1];
        let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(of);
        let seen = 80 + (0..6).filter(|&edge| of(edge) == candidates[0]).count();
        format!("|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|,{}.5,{seen}\n", seen + 10)
    };
    let all: Vec<_> = (0..64).map(cell).collect();
    fs::write(at.join("all.csv"), format!("cell,test,validation_12\n{}", all.concat())).unwrap();
    fs::write(at.join("some.csv"), format!("cell,test\n{}", lines[0])).unwrap();
    let ask = |rest: &[&str]| {
        let candidates = "network.candidates=[\"nor_conv_3x3\",\"skip_connect\"]";
        let bench = ["compare", "--space", "nas-bench-201", "--set", candidates, "--table"];
        bench.iter().chain(rest).map(ToString::to_string).collect::<Vec<_>>()
    };
    let asked = |threads: &str, out: &str| {
        let methods = ["all.csv", "--methods", "random,evolution,nasnet", "--evaluations", "25"];
        let rest = ["--seeds", "8", "--threads", threads, "--out", out, "--json"];
        let args = ask(&[&methods[..], &rest].concat());
        json(&asap(&args.iter().map(String::as_str).collect::<Vec<_>>(), at))
    };
    let table = asked("1", "asked");
    assert_eq!(table, asked("2", "again"));
    assert_eq!(
        (&table["asked"], &table["table"]["column"]),
        (&"validation_12".into(), &"test".into())
    );
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    let of = |row: &Value, key: &str| row[key]["mean"].as_f64().unwrap();
    for row in rows {
        assert!((of(row, "accuracy") - of(row, "asked") - 0.105).abs() < 1e-9, "{row}");
        assert_eq!(row["curve"].as_array().unwrap().len(), 25);
        assert_eq!(row["found"].as_array().unwrap().len(), 8);
    }
    assert!(of(&rows[1], "accuracy") > of(&rows[0], "accuracy"), "evolution is ahead of chance");
    assert!(rows[0]["against_random"].is_null() && rows[1]["against_random"][1].is_f64());
    for file in ["report.html", "curves.svg", "result.json", "config.toml", "queries.json"] {
        assert!(at.join("asked").join(file).exists(), "{file}");
    }
    let wrong = |rest: &[&str], parts: &[&str]| {
        let args = ask(rest);
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), at, parts);
    };
    let of_images = ["all.csv", "--methods", "random,asap", "--evaluations", "9"];
    wrong(&of_images, &["asap trains a search network on images", "random", "evolution"]);
    wrong(&["all.csv", "--methods", "random", "--evaluations", "0"], &["at least 1, found 0"]);
    let none = ["all.csv", "--methods", "random", "--evaluations", "9", "--seeds", "0"];
    wrong(&none, &["at least one seed"]);
    let few = ["some.csv", "--methods", "random", "--evaluations", "99"];
    wrong(&few, &["some.csv", "expected every cell of the space, found none of |"]);
    let column = ["all.csv", "--methods", "random", "--evaluations", "9", "--ask-column", "x"];
    wrong(&column, &["no column `x`", "validation_12"]);
    let population =
        ["all.csv", "--methods", "evolution", "--evaluations", "9", "--set", "query.tournament=11"];
    wrong(&population, &["query.tournament", "1 to the population, 10"]);

    let other = ["compare", "--methods", "random", "--table", "t.csv"];
    refused(
        &other,
        at,
        &["cells of darts", "found cells of nas-bench-201 (`--space nas-bench-201`)"],
    );

    refused(&["compare", "--minutes", "0"], at, &["minutes", "above 0"]);
    refused(&["compare", "--methods", "asap,best"], at, &["best", "accumulated-gradient"]);
    refused(&["compare", "--methods", "asap,asap"], at, &["asap twice"]);
    refused(&["compare", "--seeds", "0"], at, &["at least one seed"]);
    refused(&["search", "--method", "best"], at, &["best", "random-trained"]);
    refused(&["compare", "--resume", "c/search-asap-0"], at, &["compare.json"]);
}
