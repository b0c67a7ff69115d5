//! The paper's tables and figures.

use std::fs;

use crate::{SMALL, TINY, asap, json, refused};

fn arguments<'a>(what: &[&'a str]) -> Vec<&'a str> {
    ["reproduce"].into_iter().chain(what.iter().copied()).chain(TINY).chain(SMALL).collect()
}

#[test]
fn every_method_of_table_1_is_compared_beside_the_papers_numbers() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let table = json(&asap(&arguments(&["figure-1", "--out", "t", "--json"]), at));
    let paper = table["paper"].as_array().unwrap();
    let of = |name: &str| paper.iter().find(|row| row["architecture"] == name).unwrap();
    assert_eq!(
        (&of("ASAP-Small")["error"], &of("PARSEC")["gpu_days"]),
        (&1.99.into(), &1.0.into())
    );
    let rows = table["ours"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 15);
    for row in rows {
        assert_eq!(row["failures"].as_array().map(Vec::len), Some(0), "{row}");
        assert!(row["error"]["mean"].as_f64().is_some_and(|error| error < 1.0), "{row}");
        let known = paper.iter().any(|theirs| theirs["method"] == row["method"]);
        assert!(known || row["method"] == "random", "{row}");
    }
    let svg = fs::read_to_string(at.join("t/figure-1.svg")).unwrap();
    assert!(svg.contains(">dso-nas<") && !svg.contains(">ASAP-Large<"), "{svg}");
    let svg = fs::read_to_string(at.join("t/figure-1-paper.svg")).unwrap();
    assert!(svg.contains(">ASAP-Large<") && !svg.contains(">dso-nas<"), "{svg}");
    // The same comparison as a table, without doing it again.
    let output = asap(&["reproduce", "table-1", "--resume", "t"], at);
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("pr-darts")).unwrap();
    assert!(line.contains("PC-DARTS (Laube)") && line.contains("2.51 ± 0.09"), "{text}");
    assert!(text.contains("AmoebaNet-B"), "{text}");
    refused(
        &["reproduce", "table-3", "--resume", "t"],
        at,
        &["expected a reproduction of table-3", "magnitude", "found a comparison of evolution"],
    );
}

#[test]
fn figures_are_drawn_from_a_search_by_the_papers_method() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let mut seen = arguments(&["figure-2", "--out", "f", "--json"]);
    // Its own settings, not those of the test, make it the paper's.
    for name in ["search.relaxation=mixture", "search.cost=0", "alpha.every=1"] {
        let place = seen.iter().position(|argument| *argument == name).unwrap();
        seen.drain(place - 1..=place);
    }
    let figure = json(&asap(&seen, at));
    assert_eq!(figure["pictures"].as_array().map(Vec::len), Some(2));
    let config = fs::read_to_string(at.join("f/config.toml")).unwrap();
    assert!(config.contains("relaxation = \"mixture\""), "{config}");
    for kind in ["normal", "reduction"] {
        let svg = fs::read_to_string(at.join(format!("f/figure-2-{kind}.svg"))).unwrap();
        assert!(svg.contains("after epoch 1: T = ") && svg.contains("sep_conv_3x3"), "{svg}");
    }
    let report = fs::read_to_string(at.join("f/search-asap-0/report.html")).unwrap();
    assert!(report.contains("Annealing and pruning of the normal cell"));
    let output = asap(&["reproduce", "figure-3", "--resume", "f"], at);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("sparsity.svg") && text.contains("epoch-time.svg"), "{text}");
}

#[test]
fn cells_are_trained_beside_table_2_and_wrong_uses_refused() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let short = ["--set", "train.epochs=1"];
    let table = [&arguments(&["table-2", "--out", "t", "--json"])[..], &short].concat();
    let table = json(&asap(&table, at));
    assert_eq!(table["ours"]["rows"].as_array().map(Vec::len), Some(7));
    assert_eq!(table["paper"][6]["errors"][4], 3.73);
    refused(&["reproduce", "table-2", "--minutes", "3"], at, &["nothing is searched", "--preset"]);
    refused(&["reproduce", "table-1", "--data", "a,b"], at, &["one data set", "table-2"]);
    refused(&["reproduce", "table-4"], at, &["figure-7"]);
    refused(
        &["reproduce", "table-3", "--data", "nowhere"],
        at,
        &["nowhere", "neither a known data set"],
    );
    refused(&["reproduce", "figure-6", "--seeds", "0"], at, &["at least one seed"]);
    refused(&["reproduce", "figure-6", "--resume", "t"], at, &["compare.json"]);
    let parts =
        ["jobs", "list", "--json", "--", "reproduce", "table-3", "--seeds", "2", "--out", "x"];
    let list = json(&asap(&parts, at));
    assert_eq!(list.as_array().map(Vec::len), Some(10));
}
