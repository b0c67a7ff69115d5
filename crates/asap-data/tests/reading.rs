//! Data sets on disk, as a user has them, read through the public interface.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use asap_data::{
    DataError, DataSpec, DatasetName, LoadOptions, Splits, describe, known, load, read_image,
};
use image::{ImageBuffer, Luma, Rgb};

const FASHION: &str = "/usr/share/datasets/fashion-mnist";

/// A folder of the tests, with images in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn grey(&self, name: &str, side: u32, value: u8) {
        ImageBuffer::from_pixel(side, side, Luma([value])).save(self.file(name)).unwrap();
    }

    fn colour(&self, name: &str, width: u32, height: u32) {
        ImageBuffer::from_pixel(width, height, Rgb([10u8, 20, 30])).save(self.file(name)).unwrap();
    }

    fn read(&self, options: &LoadOptions) -> Result<Splits, DataError> {
        load(&DataSpec::Path(self.path().into()), None, options)
    }

    fn error(&self) -> String {
        self.read(&LoadOptions::default()).unwrap_err().to_string()
    }
}

/// Ten grey images of each of two classes in one folder; their bytes differ.
fn two_classes() -> Folder {
    let folder = Folder::new();
    for i in 0..10 {
        folder.grey(&format!("cat/{i}.png"), 6, i);
        folder.grey(&format!("dog/{i}.png"), 6, 100 + i);
    }
    folder
}

#[test]
fn embedded_images() {
    let splits = load(&"embedded".parse().unwrap(), None, &LoadOptions::default()).unwrap();
    let found = describe(&splits).unwrap();
    assert_eq!((found.height, found.width, found.channels), (28, 28, 1));
    assert_eq!(found.splits[0].class_counts, [500; 10]);
    assert_eq!(found.splits[1].class_counts, [100; 10]);
    assert_eq!(found.classes[9], "Ankle boot");
    // The whole data set has 0.2860 and 0.3530.
    assert!((found.normalization.mean[0] - 0.286).abs() < 0.005, "{found}");
    assert!((found.normalization.std[0] - 0.353).abs() < 0.005, "{found}");
    assert!(found.faults.is_empty(), "{found}");
    let licence =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("embedded/LICENSE")).unwrap();
    assert!(licence.contains("Zalando SE") && licence.contains("Permission is hereby granted"));
}

/// The embedded images are the first ones of every class. CI installs the published files.
#[test]
fn embedded_images_are_those_of_fashion_mnist() {
    if !Path::new(FASHION).exists() {
        eprintln!("not compared: Debian's package dataset-fashion-mnist is not installed");
        return;
    }
    let whole =
        load(&"fashion-mnist".parse().unwrap(), Some(Path::new(FASHION)), &LoadOptions::default())
            .unwrap();
    let small = load(&"embedded".parse().unwrap(), None, &LoadOptions::default()).unwrap();
    assert_eq!((whole.train.len(), whole.test.as_ref().unwrap().len()), (60_000, 10_000));
    assert_eq!(whole.train.classes(), small.train.classes());
    for ((_, whole), (_, small)) in whole.parts().zip(small.parts()) {
        let per_class = small.len() / 10;
        let mut seen = [0; 10];
        let mut firsts = Vec::new();
        for (index, &label) in whole.labels().iter().enumerate() {
            seen[usize::from(label)] += 1;
            if seen[usize::from(label)] <= per_class {
                firsts.push(index);
            }
        }
        assert!(whole.subset(&firsts).unwrap() == *small);
    }
    let entry = known().into_iter().find(|k| k.name == DatasetName::FashionMnist).unwrap();
    assert!(entry.found_at.is_some() && entry.files.len() == 4);
}

#[test]
fn limit_and_size_for_any_data_set() {
    let options = LoadOptions { size: Some((14, 20)), limit: Some(50), ..LoadOptions::default() };
    let splits = load(&"embedded".parse().unwrap(), None, &options).unwrap();
    for (_, data) in splits.parts() {
        assert_eq!((data.class_counts(), data.image_shape()), (vec![5; 10], [14, 20, 1]));
    }
    let bad = |options: LoadOptions| {
        load(&DataSpec::Named(DatasetName::Embedded), None, &options).unwrap_err().to_string()
    };
    assert!(
        bad(LoadOptions { size: Some((0, 9)), ..options.clone() })
            .contains("sides of 1 to 4096 pixels, found 0x9")
    );
    assert!(bad(LoadOptions { limit: Some(0), ..options.clone() }).contains("limit"));
    assert!(bad(LoadOptions { test_fraction: 1.0, ..options }).contains("test_fraction"));
}

#[test]
fn names_paths_and_places() {
    assert_eq!("cifar100".parse::<DataSpec>().unwrap(), DataSpec::Named(DatasetName::Cifar100));
    assert_eq!("./cifar100".parse::<DataSpec>().unwrap(), DataSpec::Path("./cifar100".into()));
    assert!(" ".parse::<DataSpec>().is_err());
    let names: Vec<String> = known().iter().map(|k| k.name.to_string()).collect();
    assert_eq!(names, ["embedded", "fashion-mnist", "cifar10", "cifar100"]);
    let text = "cifar1".parse::<DatasetName>().unwrap_err().to_string();
    assert!(
        text.contains("one of embedded, fashion-mnist, cifar10, cifar100, found cifar1"),
        "{text}"
    );

    let text =
        load(&"cifar11".parse().unwrap(), None, &LoadOptions::default()).unwrap_err().to_string();
    assert!(
        text.contains(
            "`cifar11` is neither a known data set nor an existing path: expected embedded, \
             fashion-mnist, cifar10, cifar100, or the path"
        ),
        "{text}"
    );

    let empty = Folder::new();
    for (name, remedy) in [
        ("fashion-mnist", "apt-get install dataset-fashion-mnist"),
        ("cifar10", "cifar-10-binary.tar.gz"),
    ] {
        let text = load(&name.parse().unwrap(), Some(empty.path()), &LoadOptions::default())
            .unwrap_err()
            .to_string();
        let tried = empty.path().join(name);
        assert!(text.contains(remedy) && text.contains(&tried.display().to_string()), "{text}");
    }
}

#[test]
fn known_forms_are_recognised_by_path() {
    let folder = Folder::new();
    let sides = |sides: &[u32]| sides.iter().flat_map(|s| s.to_be_bytes()).collect::<Vec<u8>>();
    for (part, n) in [("train", 4u32), ("t10k", 2)] {
        let images = [sides(&[0x0803, n, 1, 1]), vec![5; n as usize]].concat();
        let labels = [sides(&[0x0801, n]), (0..n as u8).map(|i| i % 2).collect()].concat();
        fs::write(folder.file(&format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.file(&format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
    assert_eq!(folder.read(&LoadOptions::default()).unwrap().train.len(), 4);
    let file = DataSpec::Path(folder.file("t10k-labels-idx1-ubyte"));
    assert_eq!(load(&file, None, &LoadOptions::default()).unwrap().train.len(), 4);

    let other = Folder::new();
    fs::write(other.file("notes.txt"), "x").unwrap();
    let text = load(&DataSpec::Path(other.file("notes.txt")), None, &LoadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(text.contains("expected a head with the columns file and label"), "{text}");

    fs::write(other.file("cifar-10-batches-bin/data_batch_1.bin"), [0; 3000]).unwrap();
    fs::write(
        other.file("cifar-10-batches-bin/batches.meta.txt"),
        "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n",
    )
    .unwrap();
    assert!(matches!(
        other.read(&LoadOptions::default()),
        Err(DataError::Truncated { expected: 3073, .. })
    ));
}

#[test]
fn packed_colours_made_grey_are_noted() {
    let folder = Folder::new();
    let record = |label: u8| [vec![label], vec![100; 3072]].concat();
    for (batch, labels) in (1..=5).zip([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]) {
        let file = folder.file(&format!("cifar-10-batches-bin/data_batch_{batch}.bin"));
        fs::write(file, labels.map(record).concat()).unwrap();
    }
    let test: Vec<u8> = (0..10).flat_map(record).collect();
    fs::write(folder.file("cifar-10-batches-bin/test_batch.bin"), test).unwrap();
    let names = folder.file("cifar-10-batches-bin/batches.meta.txt");
    fs::write(names, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n").unwrap();
    let read = |channels| folder.read(&LoadOptions { channels, ..LoadOptions::default() }).unwrap();
    let grey = read(Some(1));
    assert_eq!(grey.train.image_shape(), [32, 32, 1]);
    let note = "colour images were converted to grey, because one channel was requested".to_owned();
    assert!(grey.warnings.contains(&note), "{:?}", grey.warnings);
    assert!([Some(3), None].iter().all(|&channels| !read(channels).warnings.contains(&note)));
}

#[test]
fn one_folder_is_split_by_seed_with_any_number_of_threads() {
    let folder = two_classes();
    let options = LoadOptions { test_fraction: 0.3, ..LoadOptions::default() };
    let splits = folder.read(&options).unwrap();
    let test = splits.test.as_ref().unwrap();
    let both: Vec<usize> =
        splits.train.class_counts().iter().zip(test.class_counts()).map(|(a, b)| a + b).collect();
    assert_eq!(both, [10, 10]);
    assert!((3..=9).contains(&test.len()), "about three of ten: {}", test.len());
    assert_eq!(
        (splits.train.image_shape(), splits.train.classes()),
        ([6, 6, 1], &["cat".into(), "dog".into()][..])
    );
    for (_, data) in splits.parts() {
        assert!(
            (0..data.len()).all(|i| (data.image(i).unwrap()[0] >= 100) == (data.labels()[i] == 1))
        );
    }
    assert_eq!(
        describe(&splits)
            .unwrap()
            .faults
            .iter()
            .filter(|f| f.text.contains("also training images"))
            .count(),
        0
    );
    assert!(splits.warnings.is_empty());

    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| folder.read(&options)).unwrap().train == splits.train);
    }
    assert!(
        folder.read(&LoadOptions { seed: 1, ..options.clone() }).unwrap().train != splits.train
    );
    let limited = folder.read(&LoadOptions { limit: Some(4), ..options.clone() }).unwrap();
    assert_eq!(limited.train.class_counts(), [2, 2]);
    assert!(folder.read(&LoadOptions { test_fraction: 0.0, ..options }).unwrap().test.is_none());
}

#[test]
fn split_folders_of_mixed_images() {
    let folder = Folder::new();
    folder.grey("train/a/1.png", 8, 5);
    folder.grey("train/b/1.png", 8, 5);
    folder.colour("train/b/2.JPG", 100, 50);
    folder.grey("val/a/1.png", 8, 5);
    fs::create_dir_all(folder.path().join("val/b")).unwrap();
    folder.grey("test/a/1.png", 8, 5);
    folder.grey("test/b/1.png", 9, 5);
    fs::write(folder.file("test/b/notes.txt"), "x").unwrap();
    fs::write(folder.file("train/.DS_Store"), "x").unwrap();
    fs::create_dir_all(folder.path().join("more")).unwrap();

    let splits = folder.read(&LoadOptions::default()).unwrap();
    assert_eq!(splits.train.image_shape(), [8, 8, 3]);
    assert_eq!(splits.train.class_counts(), [1, 2]);
    assert_eq!(splits.valid.as_ref().unwrap().class_counts(), [1, 0]);
    assert_eq!(splits.test.as_ref().unwrap().class_counts(), [1, 1]);
    assert_eq!(splits.train.image(0).unwrap()[..3], [5, 5, 5]);
    let parts = [
        "left out 1 entries",
        "ignored the folder more/ next to train/",
        "notes.txt",
        "resized 2 images to 8x8",
        "2.JPG",
    ];
    assert_eq!(splits.warnings.len(), 5, "{:?}", splits.warnings);
    for (warning, part) in splits.warnings.iter().zip(parts) {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    assert!(splits.warnings[4].contains("2.JPG (50x100)"), "{}", splits.warnings[4]);
    assert!(
        describe(&splits).unwrap().faults.iter().any(|f| f.text == "no valid images of class `b`")
    );

    folder.grey("test/c/1.png", 8, 5);
    assert!(folder.error().contains(
        "expected the same 2 class folders as for training, found an additional folder `c`"
    ));
    fs::remove_dir_all(folder.path().join("test/c")).unwrap();
    fs::remove_dir_all(folder.path().join("test/a")).unwrap();
    assert!(folder.error().contains("found no folder `a`"));
}

#[test]
fn images_that_are_added_or_removed_move_no_other_one() {
    let folder = Folder::new();
    // The grey level of an image is its name.
    let add = |range: std::ops::Range<u8>| {
        for i in range {
            folder.grey(&format!("{}/{i}.png", ["cat", "dog"][usize::from(i % 2)]), 4, i);
        }
    };
    let parts = || {
        let splits = folder.read(&LoadOptions::default()).unwrap();
        let levels = |data: &asap_data::Dataset| {
            (0..data.len())
                .map(|i| data.image(i).unwrap()[0])
                .collect::<std::collections::BTreeSet<_>>()
        };
        (levels(&splits.train), levels(splits.test.as_ref().unwrap()))
    };
    add(20..120);
    let (train, test) = parts();
    assert!((10..=30).contains(&test.len()), "about a fifth of 100: {}", test.len());
    add(0..20);
    add(120..220);
    let (more_train, more_test) = parts();
    assert!(train.is_subset(&more_train) && test.is_subset(&more_test));
    fs::remove_file(folder.file("dog/37.png")).unwrap();
    let (fewer_train, fewer_test) = parts();
    assert!(fewer_train.is_subset(&more_train) && fewer_test.is_subset(&more_test));
}

#[test]
fn what_systems_leave_behind_is_no_class_and_no_image() {
    let folder = two_classes();
    for litter in ["__MACOSX", "@eaDir", "#recycle", ".thumbnails"] {
        folder.grey(&format!("{litter}/1.png"), 6, 1);
        folder.grey(&format!("cat/{litter}/1.png"), 6, 1);
    }
    fs::write(folder.file("dog/._1.png"), "resource fork").unwrap();
    let splits = folder.read(&LoadOptions::default()).unwrap();
    assert_eq!(splits.train.classes(), ["cat", "dog"]);
    let all = splits.train.len() + splits.test.map_or(0, |test| test.len());
    assert_eq!(all, 20);
    let notes: Vec<_> = splits.warnings.iter().filter(|note| note.contains("left out")).collect();
    assert!(notes[0].contains("left out 4") && notes[1].contains("left out 5"), "{notes:?}");
}

#[cfg(unix)]
#[test]
fn links_to_nowhere_pipes_and_second_names_of_a_class_are_named() {
    use std::os::unix::fs::symlink;
    let folder = two_classes();
    symlink("/nowhere/1.png", folder.file("cat/gone.png")).unwrap();
    let pipe = folder.file("dog/pipe.png");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    assert!(folder.error().contains("gone.png") || folder.error().contains("pipe.png"));
    let options = LoadOptions { skip_corrupt: true, ..LoadOptions::default() };
    let splits = folder.read(&options).unwrap();
    let text = splits.warnings.join(" ");
    assert!(text.contains("skipped 2") && text.contains("a folder, a pipe or a device"), "{text}");
    symlink(folder.file("dog"), folder.file("hund")).unwrap();
    assert!(
        folder.error().contains("`hund` and `dog`, which are one folder"),
        "{}",
        folder.error()
    );
}

#[cfg(target_os = "linux")]
#[test]
fn classes_that_become_one_name_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = two_classes();
    for name in [b"caf\xe8", b"caf\xe9"] {
        let class = folder.path().join(OsStr::from_bytes(name));
        fs::create_dir(&class).unwrap();
        fs::copy(folder.file("cat/1.png"), class.join("1.png")).unwrap();
    }
    assert!(folder.error().contains("two with the name `caf\u{fffd}`"), "{}", folder.error());
}

#[test]
fn one_small_image_does_not_shrink_the_others() {
    let folder = Folder::new();
    for i in 0..12 {
        folder.colour(&format!("{}/{i}.png", ["a", "b"][i as usize % 2]), 40 + i, 30 + 2 * i);
    }
    folder.colour("a/tiny.png", 1, 1);
    folder.colour("b/banner.png", 1500, 20);
    let splits =
        folder.read(&LoadOptions { test_fraction: 0.0, ..LoadOptions::default() }).unwrap();
    let [height, width, _] = splits.train.image_shape();
    assert!((36..=48).contains(&height) && (44..=50).contains(&width), "{height}x{width}");
    let odd = splits.warnings.last().unwrap();
    assert!(odd.contains("tiny.png (1x1)") && odd.contains("banner.png (20x1500)"), "{odd}");
}

#[test]
fn dark_deep_images_and_transparent_ones_are_told() {
    let folder = two_classes();
    let deep = |name: &str, value: u16| {
        image::ImageBuffer::from_pixel(6, 6, image::Luma([value])).save(folder.file(name)).unwrap();
    };
    deep("cat/deep.png", 4000);
    image::ImageBuffer::from_pixel(6, 6, image::Rgba([0u8, 0, 0, 9]))
        .save(folder.file("dog/clear.png"))
        .unwrap();
    let notes = |folder: &Folder| {
        folder
            .read(&LoadOptions { test_fraction: 0.0, ..LoadOptions::default() })
            .unwrap()
            .warnings
            .join("\n")
    };
    let text = notes(&folder);
    assert!(
        text.contains("of which at most 12 are used, nearly black after conversion to 8: 1 image;"),
        "{text}"
    );
    assert!(text.contains("transparent in places, and laid on white: 1 image"), "{text}");
    let few = LoadOptions { memory: Some(1), test_fraction: 0.0, ..LoadOptions::default() };
    let text = folder.read(&few).unwrap().warnings.join("\n");
    assert!(text.contains("conversion to 8: 1 image of 22 sampled;"), "{text}");
    assert!(text.contains("laid on white: 1 image of 22 sampled"), "{text}");
    deep("dog/deep.png", 60_000);
    assert!(!notes(&folder).contains("16 bits"), "a bright image shows that the range is used");
    deep("dog/dark.png", 900);
    assert!(notes(&folder).contains("conversion to 8: 2 images;"), "most are dark");
}

#[test]
fn large_images_are_shrunk() {
    let folder = Folder::new();
    for (name, width) in [("a/1.jpg", 300), ("a/2.jpg", 300), ("b/1.jpg", 300), ("b/2.jpg", 20)] {
        folder.colour(name, width, 200);
    }
    let splits =
        folder.read(&LoadOptions { test_fraction: 0.0, ..LoadOptions::default() }).unwrap();
    assert_eq!(splits.train.image_shape(), [43, 64, 3]);
    assert!(splits.warnings[0].contains("resized 4 images to 43x64"), "{:?}", splits.warnings);
    let bytes = read_image(&folder.file("b/2.jpg"), splits.train.image_shape()).unwrap();
    assert_eq!(bytes, *splits.train.image(3).unwrap());
}

#[test]
fn a_folder_is_read_in_the_shape_of_a_network() {
    let folder = Folder::new();
    for name in ["a/1.jpg", "a/2.webp", "a/3.gif", "b/1.bmp", "b/2.ppm", "b/3.png"] {
        folder.colour(name, 30, 20);
    }
    folder.grey("b/4.pgm", 9, 200);
    let read = |channels| {
        let options = LoadOptions {
            size: Some((28, 28)),
            channels,
            test_fraction: 0.0,
            ..LoadOptions::default()
        };
        folder.read(&options)
    };
    let colour = read(None).unwrap().train;
    assert_eq!((colour.image_shape(), colour.class_counts()), ([28, 28, 3], vec![3, 4]));
    assert_eq!(read(Some(3)).unwrap().train, colour);
    let grey = read(Some(1)).unwrap();
    assert_eq!(
        grey.warnings,
        ["6 colour images were converted to grey, because one channel was requested"]
    );
    assert_eq!(grey.train, colour.with_image_shape([28, 28, 1]).unwrap());
    assert_eq!((grey.train.image(4).unwrap()[0], grey.train.image(6).unwrap()[0]), (18, 200));
    let text = read(Some(4)).unwrap_err().to_string();
    assert!(text.contains("channels: expected 1 (grey) or 3 (colour), found 4"), "{text}");

    let options = LoadOptions { channels: Some(3), limit: Some(10), ..LoadOptions::default() };
    let splits = load(&"embedded".parse().unwrap(), None, &options).unwrap();
    for (_, data) in splits.parts() {
        assert_eq!(data.image_shape(), [28, 28, 3]);
        assert!(data.image(0).unwrap().chunks(3).all(|pixel| pixel == [pixel[0]; 3]));
    }
}

#[test]
fn broken_images_are_named_or_skipped() {
    let folder = two_classes();
    fs::write(folder.file("dog/text.png"), "this is text").unwrap();
    let cut = fs::read(folder.file("cat/1.png")).unwrap();
    fs::write(folder.file("cat/cut.png"), &cut[..cut.len() - 20]).unwrap();
    let text = folder.error();
    assert!(
        text.contains("text.png: expected a PNG, JPEG, GIF, WebP, BMP, TIFF, PPM or PGM image"),
        "{text}"
    );

    let options = LoadOptions { skip_corrupt: true, test_fraction: 0.0, ..LoadOptions::default() };
    let splits = folder.read(&options).unwrap();
    assert_eq!(splits.train.class_counts(), [10, 10]);
    assert!(
        (0..20).all(|i| splits.train.image(i).unwrap()[0] == [0, 100][i / 10] + i as u8 % 10),
        "the others stay in place"
    );
    assert!(
        splits.warnings[0].starts_with("skipped 2 unreadable image files in ")
            && splits.warnings[0].contains("text.png: ")
            && splits.warnings[0].contains("cut.png: ")
            && !splits.warnings[0].contains("the first"),
        "{:?}",
        splits.warnings
    );

    for i in 0..10 {
        fs::write(folder.file(&format!("dog/{i}.png")), "this is text").unwrap();
        if i == 2 {
            let warning = &folder.read(&options).unwrap().warnings[0];
            assert!(
                warning.starts_with("skipped 5 ") && warning.contains("the first 3: "),
                "{warning}"
            );
            assert_eq!(warning.matches(".png").count(), 3, "{warning}");
        }
    }
    assert!(
        matches!(folder.read(&options), Err(DataError::EmptyClass { class, .. }) if class == "dog")
    );
}

#[test]
fn folders_that_are_no_data_set() {
    let folder = Folder::new();
    assert!(folder.error().contains("folders, one per class, found 0; put the images"));
    folder.grey("cat/1.png", 8, 5);
    assert!(folder.error().contains("found 1;"));
    fs::create_dir(folder.path().join("dog")).unwrap();
    assert!(folder.error().contains("none of class `dog`; put image files into its folder"));
    folder.grey("dog/1.png", 8, 5);
    let options = LoadOptions { test_fraction: 0.5, ..LoadOptions::default() };
    let splits = folder.read(&options).unwrap();
    assert_eq!((splits.train.class_counts(), splits.test.is_none()), (vec![1, 1], true));
    folder.grey("cat/2.png", 8, 5);
    folder.grey("dog/2.png", 8, 5);
    fs::rename(folder.path().join("dog"), folder.path().join("train")).unwrap();
    let splits = folder.read(&options).unwrap();
    assert_eq!(splits.train.classes(), ["cat", "train"], "a class may be called train");
    folder.grey("test/1.png", 8, 5);
    let error = folder.error();
    assert!(error.contains("test next to class folders; move it to another place"), "{error}");

    let folder = Folder::new();
    folder.grey("val/cat/1.png", 8, 5);
    folder.grey("val/dog/1.png", 8, 5);
    assert!(folder.error().contains("expected a folder train/ next to"));
}
