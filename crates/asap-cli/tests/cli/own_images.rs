//! Users' own images: whose they are, what they are called, and what is told of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt;
use serde_json::Value;

use crate::{asap, json, refused};

const TRAIN: [&str; 10] = [
    "train",
    "--network",
    "resnet-8",
    "--data",
    "photos",
    "--set",
    "train.channels=4",
    "--set",
    "train.epochs=8",
    "--json",
];

/// Pictures of stripes that lie or stand, in two classes, numbered from `first` on.
fn stripes(root: &Path, classes: [&str; 2], first: u32, count: u32) {
    for (class, name) in (0..).zip(classes) {
        fs::create_dir_all(root.join(name)).unwrap();
        for number in first..first + count {
            let stripe = |x: u32, y: u32| {
                let bright = (if class == 0 { x } else { y } + number) % 2;
                image::Luma([(bright * 150 + (x * 31 + y * 17 + number * 7) % 90) as u8])
            };
            let path = root.join(format!("{name}/{number}.png"));
            image::ImageBuffer::from_fn(8, 8, stripe).save(path).unwrap();
        }
    }
}

fn train(at: &Path, more: &[&str]) -> Value {
    json(&asap(&[&TRAIN, more].concat(), at))
}

#[test]
fn a_network_is_tested_on_the_images_of_its_own_run() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let elsewhere = at.join("elsewhere");
    stripes(&at.join("photos"), ["lying", "standing"], 0, 60);
    stripes(&elsewhere.join("photos"), ["lying", "standing"], 500, 30);
    let trained = train(at, &["--set", "data.seed=5", "--out", "run"]);
    let tested =
        |args: &[&str], at: &Path| json(&asap(&[&["evaluate"], args, &["--json"]].concat(), at));
    let own = tested(&["run"], at);
    assert_eq!(own["images"], trained["test"]["images"]);
    assert_eq!(own["loss"], trained["test"]["loss"]);
    for (args, at) in [
        (&["run/weights.safetensors"][..], at),
        (&["run", "--data", "photos"], at),
        // Another folder has photos, too.
        (&["../run"], &elsewhere),
    ] {
        assert_eq!(tested(args, at), own, "{args:?}");
    }
    let other = tested(&["../run", "--data", "photos"], &elsewhere);
    assert_ne!(other["loss"], own["loss"]);
    // Moved images are split as before, and none of the training is tested on.
    let moved = at.join("moved");
    fs::rename(at.join("photos"), &moved).unwrap();
    assert_eq!(tested(&["run", "--data", "moved"], at), own);
    fs::rename(&moved, at.join("photos")).unwrap();

    let held_out = ["evaluate", "run", "--split", "valid"];
    let output = asap(&held_out, at);
    assert!(
        output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("changed")
    );
    // Images that are added change sides with no other one, and are told.
    stripes(&at.join("photos"), ["lying", "standing"], 60, 40);
    let note = asap(&held_out, at).stderr;
    let note = String::from_utf8_lossy(&note);
    assert!(note.contains("the images have changed since the training"), "{note}");
    let output = asap(&["evaluate", "run", "--json"], at);
    let note = String::from_utf8_lossy(&output.stderr);
    let count = own["images"].as_u64().unwrap();
    assert!(note.contains(&format!("it had {count}, there are")), "{note}");
    assert!(json(&output)["images"].as_u64().unwrap() > count);
}

#[test]
fn all_runs_of_a_command_have_the_same_images() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    let elsewhere = at.join("elsewhere");
    stripes(&at.join("photos"), ["lying", "standing"], 0, 30);
    stripes(&elsewhere.join("photos"), ["lying", "standing"], 0, 70);
    let train = ["train", "--network", "resnet-8", "--set", "data.source=photos", "--repeat", "2"];
    let few = ["--set", "train.channels=4", "--set", "train.epochs=1", "--shard", "1/2", "--out"];
    for out in ["one", "two"] {
        assert!(asap(&[&train[..], &few, &[out]].concat(), at).status.success());
    }
    // The images of the first run, and not those of that name where the second one is started.
    let table = json(&asap(&["train", "--resume", "../one", "--json"], &elsewhere));
    assert!(
        table["rows"][0]["data"]
            .as_str()
            .unwrap()
            .ends_with(&at.join("photos").display().to_string())
    );
    let images = |run: &str| {
        let result = fs::read(at.join(run).join("result.json")).unwrap();
        serde_json::from_slice::<Value>(&result).unwrap()["data"]["train_images"].clone()
    };
    assert_eq!(images("one/resnet-8-photos-0"), images("one/resnet-8-photos-1"));

    // Other commands look at them, too, wherever the path came from.
    let compare = ["compare", "--methods", "random", "--seeds", "2", "--no-train", "--out", "c"];
    let part = ["--set", "data.source=photos", "--shard", "1/2"];
    assert!(asap(&[&compare[..], &part].concat(), at).status.success());
    stripes(&at.join("photos"), ["lying", "standing"], 30, 10);
    refused(
        &["compare", "--resume", "c"],
        at,
        &["photos: expected the same images as in the earlier"],
    );
    let output = asap(&["train", "--resume", "two"], at);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("expected the same images as in the earlier runs (48 + 0 + 12 of 8x8x1"),
        "{text}"
    );
}

#[test]
fn classes_are_matched_by_name_and_never_by_their_place_alone() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    stripes(&at.join("photos"), ["lying", "standing"], 0, 30);
    stripes(&at.join("german"), ["liegend", "stehend"], 0, 30);
    stripes(&at.join("numbers"), ["0", "1"], 0, 30);
    train(at, &["--out", "run"]);
    let parts = ["classes lying, standing", "liegend, stehend", "rename the classes"];
    refused(&["evaluate", "run", "--data", "german"], at, &parts);
    let output = asap(&["evaluate", "run", "--data", "numbers"], at);
    let note = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && note.contains("matched by their number"), "{note}");
    // Numbers that are names on both sides are names.
    stripes(&at.join("later"), ["1", "2"], 0, 30);
    let numbered = ["--data", "numbers", "--out", "numbered"];
    json(&asap(&[&TRAIN[..3], &numbered, &TRAIN[5..]].concat(), at));
    refused(&["evaluate", "numbered", "--data", "later"], at, &["classes", "among them 2"]);
}

#[test]
fn parts_of_a_data_set_have_many_names_and_what_an_epoch_leaves_out_is_said() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    for (part, first, count) in [("Train", 0, 33), ("VALIDATION", 40, 5), ("testing", 50, 7)] {
        stripes(&at.join("photos").join(part), ["lying", "standing"], first, count);
    }
    let output = asap(&[&TRAIN[..], &["--set", "train.batch=16", "--out", "run"]].concat(), at);
    let trained = json(&output);
    let data = &trained["data"];
    assert_eq!(
        (&data["train_images"], &data["valid_images"], &data["test_images"]),
        (&66.into(), &10.into(), &14.into())
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("each epoch leaves out 2 images"), "{text}");
}

#[test]
fn a_search_names_the_classes_that_are_in_one_half_only() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    stripes(&at.join("photos"), ["lying", "standing"], 0, 20);
    fs::create_dir(at.join("photos/rare")).unwrap();
    fs::copy(at.join("photos/lying/1.png"), at.join("photos/rare/1.png")).unwrap();
    let search = ["search", "--data", "photos", "--dry-run"];
    let output = asap(&[&search[..], &["--set", "network.channels=2"]].concat(), at);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("in both halves of the search") && text.contains("see them: rare"),
        "{text}"
    );
}

#[test]
fn a_check_names_every_image_that_is_wrong_and_a_packed_file_is_the_same_data_set() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    stripes(&at.join("photos"), ["lying", "standing"], 0, 30);
    let good = fs::read(at.join("photos/lying/1.png")).unwrap();
    fs::write(at.join("photos/lying/half.png"), &good[..good.len() / 2]).unwrap();
    fs::write(at.join("photos/standing/copy.png"), &good).unwrap();
    let checked = json(&asap(&["data", "check", "photos", "--json"], at));
    let of = |kind: &str| -> Vec<String> {
        let faults = checked["faults"].as_array().unwrap().iter();
        let of_kind = faults.filter(|fault| fault["kind"] == kind);
        of_kind
            .flat_map(|fault| fault["images"].as_array().unwrap())
            .map(|i| i.to_string())
            .collect()
    };
    assert!(of("unreadable")[0].contains("half.png"), "{checked}");
    let two = of("two_labels");
    assert!(two[0].contains("lying/1.png") && two[0].contains("copy.png"), "{checked}");

    refused(
        &["data", "convert", "photos", "--out", "all.asap"],
        at,
        &["half.png", "--skip-corrupt"],
    );
    assert!(!at.join("all.asap").exists());
    let convert = ["data", "convert", "photos", "--out", "all.asap", "--skip-corrupt", "--json"];
    let packed = json(&asap(&convert, at));
    let count = |part: &str| packed["images"][part].as_u64().unwrap();
    assert_eq!(count("train") + count("test"), 61);
    refused(&convert, at, &["all.asap", "an existing one"]);
    let again = json(&asap(&["data", "check", "all.asap", "--json"], at));
    for key in ["classes", "normalization", "splits", "height", "width", "channels"] {
        assert_eq!(again[key], checked[key], "{key}");
    }
    let loose = train(at, &["--set", "data.skip_corrupt=true", "--out", "loose"]);
    let from_file = ["--data", "all.asap", "--out", "packed"];
    // The first --data counts no more.
    let args: Vec<&str> =
        TRAIN.iter().copied().filter(|arg| !["--data", "photos"].contains(arg)).collect();
    let from_file = json(&asap(&[&args[..], &from_file].concat(), at));
    assert_eq!(from_file["test"], loose["test"]);
}

#[test]
fn images_that_do_not_fit_into_memory_give_the_same_network() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    stripes(&at.join("photos"), ["lying", "standing"], 0, 1000);
    // 2,000 grey images of 24x24 take 1.1 MiB.
    let few = ["--set", "train.epochs=1", "--set", "data.size=24"];
    let trained = |memory: &str, out: &str| {
        let memory = format!("data.memory_mb={memory}");
        let output = asap(&[&TRAIN[..], &few, &["--set", &memory, "--out", out]].concat(), at);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (json(&output)["test"].clone(), text)
    };
    let (in_memory, text) = trained("2", "a");
    assert!(!text.contains("read again in every epoch"), "{text}");
    let (from_disk, text) = trained("1", "b");
    assert!(text.contains("read again in every epoch"), "{text}");
    assert_eq!(from_disk, in_memory);
    let weights = |run: &str| fs::read(at.join(run).join("weights.safetensors")).unwrap();
    assert!(weights("a") == weights("b"), "to the bit");
}

#[cfg(target_os = "linux")]
#[test]
fn names_in_other_encodings_make_whole_lines() {
    use std::ffi::OsStr;
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    stripes(&at.join("photos"), ["lying", "standing"], 0, 30);
    train(at, &["--out", "run"]);
    let odd = at.join("new").join(OsStr::from_bytes(b"na\xefve.png"));
    fs::create_dir_all(at.join("new/.thumbnails")).unwrap();
    fs::copy(at.join("photos/lying/1.png"), &odd).unwrap();
    fs::copy(at.join("photos/lying/2.png"), at.join("new/plain.png")).unwrap();
    fs::copy(at.join("photos/lying/2.png"), at.join("new/.thumbnails/plain.png")).unwrap();
    fs::write(at.join("new/._plain.png"), "resource fork").unwrap();
    fs::write(at.join("new/IMG_1.heic"), "not read").unwrap();
    std::os::unix::fs::symlink("../new", at.join("new/circle")).unwrap();
    let lines = |output: &[u8]| -> Vec<Value> {
        let text = std::str::from_utf8(output).unwrap().lines();
        text.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let output = asap(&["predict", "run", "new", "--json"], at);
    let found = lines(&output.stdout);
    assert!(output.status.success() && found.len() == 2, "{found:?}");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("left out 1 file without an image's extension"), "{notes}");
    assert_eq!(found[0]["path"], "new/na\u{fffd}ve.png");

    let predict = |list: &[u8]| {
        let mut command = Command::cargo_bin("asap").unwrap();
        command.args(["predict", "run", "-", "--json"]).current_dir(at);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(list).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = predict(b"\xef\xbb\xbfnew/na\xefve.png\r\nnew/plain.png\r\n");
    assert_eq!(lines(&output.stdout).len(), 2, "{}", String::from_utf8_lossy(&output.stderr));
    let output = predict(b"new\\plain.png\r\n");
    assert_eq!(lines(&output.stdout)[0]["path"], "new/plain.png", "as Windows writes it");
    let output = predict(b"\xff\xfen\0e\0w\0");
    assert!(String::from_utf8_lossy(&output.stderr).contains("found UTF-16"));
    let output = predict(b"");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input is empty"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_at_the_start_stops_nothing() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path();
    stripes(&at.join("photos"), ["lying", "standing"], 0, 60);
    let binary = assert_cmd::cargo::cargo_bin("asap");
    let run = |start: &str, name: &str| {
        let script = format!(
            "{start}; exec {} train --network resnet-8 --data photos --set train.channels=4 \
             --set train.epochs=400 --out {name}",
            binary.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(at).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let events = at.join(name).join("events.jsonl");
        crate::wait_for_epochs(&events, 2, &mut child);
        let signal = |name: &str| {
            let kill = Command::new("kill").args([name, &child.id().to_string()]).status();
            assert!(kill.unwrap().success());
        };
        signal("-HUP");
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(2) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = child.try_wait().unwrap().is_some();
        if !ended {
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(1), "stopped with a checkpoint");
        ended
    };
    assert!(!run("trap '' HUP", "nohup"), "as under nohup");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    if u64::from_str_radix(mask, 16).unwrap() & 1 == 1 {
        eprintln!("not tried: SIGHUP is ignored here, and so in every child");
        return;
    }
    assert!(run("true", "plain"));
}
