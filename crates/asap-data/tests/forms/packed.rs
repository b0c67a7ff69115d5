//! Packed data sets.

use std::fs;
use std::path::PathBuf;

use asap_data::{LoadOptions, Splits, pack};

use crate::{Folder, check_same, fixture, read, refusal, says, whole};

/// A data set with all three parts, packed into `a.asap`.
fn packed() -> (Splits, Folder, PathBuf) {
    let splits = read(&fixture("medmnist-colour.npz"), &whole()).unwrap();
    let folder = Folder::new();
    let path = folder.path().join("a.asap");
    let mut seen = Vec::new();
    let length = pack(&splits, &path, &mut |done, all| seen.push((done, all))).unwrap();
    assert_eq!(length, fs::metadata(&path).unwrap().len());
    assert_eq!(seen, [(4, 9), (6, 9), (9, 9)]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    (splits, folder, path)
}

#[test]
fn packed_is_the_original() {
    let (splits, _folder, path) = packed();
    for memory in [None, Some(0)] {
        let found = read(&path, &LoadOptions { memory, ..whole() }).unwrap();
        assert_eq!(found.train.is_in_memory(), memory.is_none());
        check_same(&found, &splits);
        assert_eq!(found.name, path.display().to_string());
        assert_eq!(found.train.checksum().unwrap(), splits.train.checksum().unwrap());
        assert!(found.warnings.is_empty());
    }
    let size = LoadOptions { size: Some((9, 4)), channels: Some(1), limit: Some(3), ..whole() };
    let later = LoadOptions { memory: Some(0), ..size.clone() };
    check_same(&read(&path, &later).unwrap(), &read(&path, &size).unwrap());
}

#[test]
fn a_folder_that_is_not_in_memory_is_packed_alike() {
    let folder = Folder::new();
    for seed in 0..30 {
        folder
            .image(&format!("{}/{seed}.png", ["cat", "dog", "newt"][usize::from(seed % 3)]), seed);
    }
    let options = LoadOptions { test_fraction: 0.3, ..LoadOptions::default() };
    let original = read(folder.path(), &options).unwrap();
    let later = read(folder.path(), &LoadOptions { memory: Some(0), ..options }).unwrap();
    let out = Folder::new();
    let [one, two] = ["one.asap", "two.asap"].map(|name| out.path().join(name));
    pack(&original, &one, &mut |_, _| ()).unwrap();
    pack(&later, &two, &mut |_, _| ()).unwrap();
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
    check_same(&read(&one, &LoadOptions::default()).unwrap(), &original);
    // What is packed again is the same but for its name.
    pack(&read(&one, &whole()).unwrap(), &two, &mut |_, _| ()).unwrap();
    check_same(&read(&two, &whole()).unwrap(), &original);
}

#[test]
fn an_image_that_cannot_be_read_leaves_no_file() {
    let folder = Folder::of(&[("cat/0.png", 0), ("cat/1.png", 1), ("dog/0.png", 2)]);
    let splits = read(folder.path(), &LoadOptions { memory: Some(0), ..whole() }).unwrap();
    fs::remove_file(folder.path().join("cat/1.png")).unwrap();
    let out = Folder::new();
    let error = pack(&splits, &out.path().join("a.asap"), &mut |_, _| ()).unwrap_err();
    says(&error.to_string(), &["cannot read", "1.png"]);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_truncated_file() {
    let (_, folder, path) = packed();
    let whole = fs::read(&path).unwrap();
    for length in [whole.len() - 1, whole.len() / 2] {
        folder.write("a.asap", &whole[..length]);
        says(&refusal(&path), &["a.asap is truncated", &format!("found {length}")]);
    }
    for length in [23, 60, 200] {
        folder.write("a.asap", &whole[..length]);
        says(&refusal(&path), &["a.asap: expected", "make it again with `asap data convert`"]);
    }
    folder.write("a.asap", [&whole[..], b"x"].concat());
    says(&refusal(&path), &["a.asap"]);
}

/// Every bit counts: no file with a changed byte is read as another data set.
#[test]
fn a_flipped_bit() {
    let (splits, folder, path) = packed();
    let good = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(good[12..20].try_into().unwrap()) as usize;
    let pixels = 24 + length + 6 * splits.train.len();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        folder.write("a.asap", bytes);
        let error = refusal(&path);
        match at {
            0..8 => says(&error, &["a packed data set", "found another file"]),
            8..12 => says(&error, &["version"]),
            _ if at < 24 + length => says(&error, &["an intact header, found a damaged one"]),
            _ if at < pixels => says(&error, &["train", "as", "written"]),
            _ => says(&error, &["as", "written", "damaged"]),
        }
    }
    // Read image by image, the other images are not touched by it.
    let mut bytes = good;
    bytes[pixels] ^= 1;
    folder.write("a.asap", bytes);
    let later = read(&path, &LoadOptions { memory: Some(0), ..whole() }).unwrap();
    says(&later.train.image(0).unwrap_err().to_string(), &["train image 0 as it was written"]);
    assert_eq!(later.train.image(1).unwrap(), splits.train.image(1).unwrap());
}

#[test]
fn a_later_version() {
    let (_, folder, path) = packed();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    folder.write("a.asap", bytes);
    says(&refusal(&path), &["expected a packed data set of version 1, found version 2"]);
}
