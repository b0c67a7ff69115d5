//! The tutorial and the live page.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use crate::{SMALL, TINY, asap, command, json, refused, small, tiny};

#[test]
fn the_tutorial_works_as_it_is_written() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
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

    // The test images that `data.seed` chose are chosen again.
    let seeded = ["train", "--cell", "ASAP", "--data", "photos", "--out", "seeded", "--json"];
    let trained = json(&asap(&small(&[&seeded[..], &["--set", "data.seed=3"]].concat()), at));
    assert_eq!(json(&asap(&["evaluate", "seeded", "--json"], at)), trained["test"]);
}

#[test]
fn runs_are_watched_on_the_loopback_address_only() {
    let here = tempfile::tempdir().unwrap();
    refused(&["watch", "nothing", "--port", "0"], here.path(), &["nothing"]);
    asap(&tiny(&["--out", "runs/one", "--set", "search.epochs=2"]), here.path());
    let mut server =
        command(&["watch", "--port", "0"], here.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let get = |path: &str, host: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(address.starts_with("127.0.0.1:"), "{line}");
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
