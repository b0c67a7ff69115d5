//! Archives of data sets.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use asap_data::{LoadOptions, Splits};
use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::{Folder, SMALL, check, check_same, fixture, says};

/// Reads an archive; returns the data set or the error, and what lies in the cache then.
fn read_in(cache: &Path, archive: &Path) -> Result<Splits, String> {
    let options = LoadOptions { cache: Some(cache.to_owned()), ..crate::whole() };
    crate::read(archive, &options).map_err(|error| error.to_string())
}

/// The error of an archive, which must leave nothing behind.
fn error(archive: &Path) -> String {
    let cache = Folder::new();
    let error = read_in(cache.path(), archive).unwrap_err();
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "{error}");
    error
}

/// Class folders in an outer folder, with a README and what macOS adds.
fn pets() -> Folder {
    let folder = Folder::of(&[
        ("pets/cat/0.png", 0),
        ("pets/cat/1.png", 1),
        ("pets/dog/0.png", 2),
        ("pets/dog/more/1.png", 3),
    ]);
    folder.write("pets/README.txt", "Pets of ours.\n");
    folder.write("__MACOSX/pets/cat/._0.png", "x");
    folder
}

const EXPECTED: [(u8, u16); 4] = [(0, 0), (1, 0), (2, 1), (3, 1)];

fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

fn write_tar(content: &Path, to: impl Write) -> impl Write {
    let mut tar = tar::Builder::new(to);
    tar.append_dir_all("", content).unwrap();
    tar.into_inner().unwrap()
}

fn write_zip(content: &Path, to: &Path) {
    let mut zip = ZipWriter::new(File::create(to).unwrap());
    for path in files(content) {
        let name = path.strip_prefix(content).unwrap().to_string_lossy().replace('\\', "/");
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&fs::read(path).unwrap()).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn zip_and_tar_of_class_folders() {
    let (content, out, cache) = (pets(), Folder::new(), Folder::new());
    let expected = content.read();
    check(&expected.train, SMALL, &EXPECTED);
    assert_eq!(expected.train.classes(), ["cat", "dog"]);
    let [tar, tar_gz, tgz, zip] =
        ["pets.tar", "pets.tar.gz", "pets.TGZ", "pets.zip"].map(|name| out.path().join(name));
    write_tar(content.path(), File::create(&tar).unwrap()).flush().unwrap();
    for path in [&tar_gz, &tgz] {
        let file = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
        write_tar(content.path(), file).flush().unwrap();
    }
    write_zip(content.path(), &zip);
    for archive in [&tar, &tar_gz, &tgz, &zip] {
        let splits = read_in(cache.path(), archive).unwrap();
        check_same(&splits, &expected);
        assert_eq!(splits.name, archive.display().to_string());
        says(&splits.warnings.join("\n"), &["the archive is unpacked in", "pets-"]);
    }
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 4, "one folder per archive");
}

#[test]
fn a_fault_in_an_archive_names_the_archive() {
    let (content, out, cache) = (pets(), Folder::new(), Folder::new());
    content.write("pets/cat/broken.png", "no image");
    let zip = out.path().join("pets.zip");
    write_zip(content.path(), &zip);
    let error = read_in(cache.path(), &zip).unwrap_err();
    says(&error, &[&zip.display().to_string(), "pets/cat/broken.png", "give the folder"]);
}

/// The split into training and test images is that of the folder.
#[test]
fn an_archive_is_split_as_its_folder() {
    let (content, out, cache) = (Folder::new(), Folder::new(), Folder::new());
    for seed in 0..20 {
        content.image(&format!("images/BEANS/BEANS{seed:04}.png"), seed);
        content.image(&format!("images/CAKE/CAKE{seed:04}.png"), 100 + seed);
    }
    let archive = out.path().join("freiburg_groceries_dataset.tar.gz");
    let file = GzEncoder::new(File::create(&archive).unwrap(), Compression::fast());
    write_tar(content.path(), file).flush().unwrap();
    let options = LoadOptions { cache: Some(cache.path().into()), ..LoadOptions::default() };
    let expected = crate::read(content.path(), &options).unwrap();
    assert!(expected.test.as_ref().is_some_and(|test| test.len() > 1));
    check_same(&crate::read(&archive, &options).unwrap(), &expected);
    let later = LoadOptions { memory: Some(0), ..options };
    check_same(&crate::read(&archive, &later).unwrap(), &expected);
}

#[test]
fn published_archives() {
    let (out, cache) = (Folder::new(), Folder::new());
    for name in ["cifar-10-python.tar.gz", "cifar-100-python.tar.gz"] {
        let expected = crate::unpacked(name).read();
        check_same(&read_in(cache.path(), &fixture(name)).unwrap(), &expected);
    }
    let zip = out.path().join("svhn.zip");
    write_zip(&fixture("svhn/uint8"), &zip);
    let expected = crate::read(&fixture("svhn/uint8"), &crate::whole()).unwrap();
    check_same(&read_in(cache.path(), &zip).unwrap(), &expected);
    let zip = out.path().join("hub.zip");
    write_zip(&fixture("parquet/zstd"), &zip);
    let expected = crate::read(&fixture("parquet/zstd"), &crate::whole()).unwrap();
    check_same(&read_in(cache.path(), &zip).unwrap(), &expected);
}

#[test]
fn an_archive_is_unpacked_once_unless_it_changed() {
    let (content, out, cache) = (pets(), Folder::new(), Folder::new());
    let zip = out.path().join("pets.zip");
    write_zip(content.path(), &zip);
    let first = read_in(cache.path(), &zip).unwrap();
    let unpacked = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let odd = unpacked.join("pets/cat/0.png");
    fs::write(&odd, crate::encoded(9, image::ImageFormat::Png)).unwrap();
    assert_ne!(read_in(cache.path(), &zip).unwrap().train, first.train, "read from the cache");
    fs::remove_file(odd).unwrap();
    check_same(&read_in(cache.path(), &zip).unwrap(), &first); // unpacked again
    content.image("pets/dog/2.png", 50);
    write_zip(content.path(), &zip);
    let splits = read_in(cache.path(), &zip).unwrap();
    check(&splits.train, SMALL, &[(0, 0), (1, 0), (2, 1), (50, 1), (3, 1)]);
}

#[test]
fn several_threads_unpack_one_archive() {
    let (content, out, cache) = (pets(), Folder::new(), Folder::new());
    let zip = out.path().join("pets.zip");
    write_zip(content.path(), &zip);
    std::thread::scope(|scope| {
        let read = || check(&read_in(cache.path(), &zip).unwrap().train, SMALL, &EXPECTED);
        (0..8).for_each(|_| drop(scope.spawn(read)));
    });
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
}

/// A tar archive with entries of these names, as they are.
fn tar_of(path: &Path, names: &[&str]) {
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    for name in names {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(1);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
    }
    tar.finish().unwrap();
}

#[test]
fn paths_that_lead_outside() {
    let out = Folder::new();
    let outside = out.path().join("cache-escape");
    let absolute = outside.display().to_string();
    for name in ["../escape", "a/../../escape", &absolute] {
        let tar = out.path().join("a.tar");
        tar_of(&tar, &["a/0.png", name]);
        says(&error(&tar), &["a.tar: expected an intact archive", "which leads outside"]);
        let path = out.path().join("a.zip");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        // The writer would clean a path, so a placeholder of its length is replaced.
        let placeholder = "#".repeat(name.len());
        zip.start_file(&placeholder, SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() - name.len() {
            if bytes[at..].starts_with(placeholder.as_bytes()) {
                bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
            }
        }
        fs::write(&path, bytes).unwrap();
        says(&error(&path), &["a.zip: expected an intact archive", "which leads outside"]);
    }
    assert!(!outside.exists());
}

/// A link is not followed, so that nothing is written through it.
#[test]
fn links_are_left_out() {
    let (out, cache, aim) = (Folder::new(), Folder::new(), Folder::new());
    let path = out.path().join("a.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "cat", aim.path()).unwrap();
    for (name, seed) in [("cat/0.png", 0), ("dog/0.png", 1)] {
        let image = crate::encoded(seed, image::ImageFormat::Png);
        let mut header = tar::Header::new_ustar();
        header.set_size(image.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &image[..]).unwrap();
    }
    tar.finish().unwrap();
    drop(tar);
    for _ in 0..2 {
        let splits = read_in(cache.path(), &path).unwrap();
        check(&splits.train, SMALL, &[(0, 0), (1, 1)]);
        says(&splits.warnings.join("\n"), &["left out 1 special file in the archive"]);
    }
    assert_eq!(fs::read_dir(aim.path()).unwrap().count(), 0);
}

#[test]
fn bombs() {
    let zeros = || io::repeat(0).take(2 << 30);
    let out = Folder::new();
    let path = out.path().join("bomb.zip");
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    let options = SimpleFileOptions::default().compression_level(Some(1));
    zip.start_file("a/0.png", options).unwrap();
    io::copy(&mut zeros(), &mut zip).unwrap();
    zip.finish().unwrap();
    says(&error(&path), &["bomb.zip", "more than 100 times as large as the archive"]);

    let path = out.path().join("bomb.tar.gz");
    let file = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
    let mut tar = tar::Builder::new(file);
    let mut header = tar::Header::new_gnu();
    header.set_size(2 << 30);
    header.set_mode(0o644);
    tar.append_data(&mut header, "a/0.png", zeros()).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    says(&error(&path), &["bomb.tar.gz", "more than 100 times as large as the archive"]);
}

#[test]
fn damaged_archives() {
    let (content, out) = (pets(), Folder::new());
    let [tar, tar_gz, zip] = ["a.tar", "a.tar.gz", "a.zip"].map(|name| out.path().join(name));
    write_tar(content.path(), File::create(&tar).unwrap()).flush().unwrap();
    let file = GzEncoder::new(File::create(&tar_gz).unwrap(), Compression::fast());
    write_tar(content.path(), file).flush().unwrap();
    write_zip(content.path(), &zip);
    for (path, parts) in [(tar, [0.0, 0.2]), (tar_gz, [0.5, 0.9]), (zip, [0.5, 0.9])] {
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(&path).unwrap();
        for part in parts {
            out.write(name, &bytes);
            out.cut(name, part);
            says(&error(&path), &[name, "expected an intact archive", "download it again"]);
        }
        out.write(name, "<html>Not found</html>".repeat(99));
        says(&error(&path), &[name, "expected an intact archive"]);
    }
    // A wrong checksum, which is all that tells of a changed pixel.
    let wrong = out.path().join("wrong.tar.gz");
    let file = GzEncoder::new(File::create(&wrong).unwrap(), Compression::fast());
    write_tar(content.path(), file).flush().unwrap();
    let mut bytes = fs::read(&wrong).unwrap();
    let at = bytes.len() - 8;
    bytes[at] ^= 1;
    fs::write(&wrong, bytes).unwrap();
    says(&error(&wrong), &["wrong.tar.gz: expected an intact archive"]);
    let twice = out.path().join("twice.tar");
    tar_of(&twice, &["a/0.png", "a/0.png"]);
    says(&error(&twice), &["two files of the name a/0.png"]);
}

#[test]
fn a_zip_with_two_files_of_one_name() {
    let folder = Folder::new();
    let zip = folder.path().join("pets.zip");
    write_zip(pets().path(), &zip);
    // The writer refuses a name that it has: another of the same length is changed into it.
    let bytes = fs::read(&zip).unwrap();
    let (from, to) = (b"pets/cat/1.png", b"pets/cat/0.png");
    let mut changed = bytes.clone();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            changed[at..][..to.len()].copy_from_slice(to);
        }
    }
    assert_ne!(bytes, changed);
    fs::write(&zip, changed).unwrap();
    says(&error(&zip), &["found 6 files of 5 names"]);
}
