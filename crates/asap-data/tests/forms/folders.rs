//! Folders of images, in the layouts of published data sets.

use std::fs;

use asap_data::LoadOptions;
use image::{ImageFormat, Rgb, RgbImage};

use crate::{Folder, SMALL, check, encoded, read, says, whole};

const WORDNET: [&str; 3] = ["n01443537", "n01629819", "n02124075"];

/// Folders of classes with two images each, below `prefix`; the first has the seeds 0 and 1.
fn classes(prefix: &str, suffix: &str) -> Vec<(String, u8)> {
    let images = (0u8..).zip(WORDNET).flat_map(|(class, name)| {
        (0..2).map(move |i| (format!("{name}{suffix}/{name}_{i}.JPEG"), 2 * class + i))
    });
    images.map(|(name, seed)| (format!("{prefix}{name}"), seed)).collect()
}

fn folder(images: &[(String, u8)]) -> Folder {
    Folder::of(&images.iter().map(|(name, seed)| (name.as_str(), *seed)).collect::<Vec<_>>())
}

/// The images of [`classes`].
const TRAIN: [(u8, u16); 6] = [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)];

#[test]
fn tiny_imagenet() {
    let folder = folder(&classes("train/", "/images"));
    let boxes = |name: &str| format!("{name}_0.JPEG\t0\t0\t62\t62\n");
    for name in WORDNET {
        folder.write(&format!("train/{name}/{name}_boxes.txt"), boxes(name));
    }
    folder.write("wnids.txt", WORDNET.map(|name| format!("{name}\n")).concat());
    folder.write("words.txt", "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\n");
    for (index, seed) in [60, 61, 62].into_iter().enumerate() {
        folder.image(&format!("val/images/val_{index}.JPEG"), seed);
        folder.image(&format!("test/images/test_{index}.JPEG"), 40 + seed);
    }
    let table = "val_0.JPEG\tn02124075\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t52\t55\t57\t59\nval_2.JPEG\tn01629819\t4\t0\t60\t55\n";
    folder.write("val/val_annotations.txt", table);
    let splits = folder.read();
    check(&splits.train, SMALL, &TRAIN);
    check(splits.valid.as_ref().unwrap(), SMALL, &[(60, 2), (61, 0), (62, 1)]);
    assert_eq!(splits.train.classes(), WORDNET);
    assert!(splits.test.is_none());
    says(&splits.warnings.join("\n"), &["test: its 3 images have no labels", "_boxes.txt"]);
}

/// ImageNet's folders, with two validation and two test images that are called alike.
fn imagenet() -> Folder {
    let folder = folder(&classes("train/", ""));
    for (index, seed) in [60, 61].into_iter().enumerate() {
        folder.image(&format!("val/ILSVRC2012_val_0000000{index}.JPEG"), seed);
    }
    folder
}

#[test]
fn imagenet_with_a_list_beside_its_validation_images() {
    let name = |index: u32| format!("ILSVRC2012_val_0000000{index}");
    let lists = [
        ("val.txt", format!("{}.JPEG 2\n{}.JPEG 0\n", name(0), name(1))),
        ("val.txt", format!("val/{}.JPEG 2\nval/{}.JPEG 0\n", name(0), name(1))),
        (
            "val/labels.csv",
            format!("file,label\n{}.JPEG,n02124075\n{},n01443537\n", name(0), name(1)),
        ),
        (
            "LOC_val_solution.csv",
            format!(
                "ImageId,PredictionString\n{},n01443537 111 108 441 193 \n{},n02124075 85 1 499 272 n02124075 1 2 3 4 \n",
                name(1),
                name(0)
            ),
        ),
    ];
    for (path, list) in lists {
        let folder = imagenet();
        folder.write(path, list);
        let splits = folder.read();
        check(&splits.train, SMALL, &TRAIN);
        check(splits.valid.as_ref().unwrap(), SMALL, &[(60, 2), (61, 0)]);
        assert_eq!(splits.train.classes(), WORDNET);
    }
}

#[test]
fn a_list_of_another_part_is_not_meant() {
    let folder = folder(&classes("train/", ""));
    for (part, seed) in [("val", 60), ("test", 100)] {
        folder.image(&format!("{part}/0.png"), seed);
        folder.image(&format!("{part}/1.png"), seed + 1);
    }
    folder.write("test.txt", "0.png 0\n1.png 1\n");
    folder.write("val.txt", "0.png 1\n1.png 2\n");
    let splits = folder.read();
    check(splits.valid.as_ref().unwrap(), SMALL, &[(60, 1), (61, 2)]);
    check(splits.test.as_ref().unwrap(), SMALL, &[(100, 0), (101, 1)]);
}

#[test]
fn the_form_of_a_submission_has_no_labels() {
    for (name, label) in [("sample_submission.csv", "n01443537"), ("form.csv", "0")] {
        let folder = folder(&classes("train/", ""));
        folder.image("test/0.png", 100);
        folder.image("test/1.png", 101);
        folder.write(name, format!("file,species\n0.png,{label}\n1.png,{label}\n"));
        let splits = folder.read();
        assert!(splits.test.is_none(), "{name}");
        says(&splits.warnings.join("\n"), &["test: its 2 images have no labels"]);
    }
}

#[test]
fn images_that_are_called_alike_are_drawn_apart() {
    let folder = Folder::new();
    for class in ["cat", "dog"] {
        for sample in 0..40 {
            folder.image(&format!("{class}/sample{sample}/rgb.png"), sample);
        }
    }
    let splits = read(folder.path(), &LoadOptions::default()).unwrap();
    let test = splits.test.unwrap();
    assert!(test.class_counts().iter().all(|count| (1..=20).contains(count)), "{test:?}");
}

#[test]
fn flat_validation_images_without_labels_are_noted() {
    let splits = imagenet().read();
    check(&splits.train, SMALL, &TRAIN);
    assert!(splits.valid.is_none());
    says(&splits.warnings.join("\n"), &["val: its 2 images have no labels; put them"]);
}

#[test]
fn wrong_labels_of_flat_validation_images() {
    let with = |list: &str| {
        let folder = imagenet();
        folder.write("val.txt", list);
        folder.error()
    };
    let (first, second) = ("ILSVRC2012_val_00000000.JPEG", "ILSVRC2012_val_00000001.JPEG");
    let error = with(&format!("{first} 3\n{second} 0\n"));
    says(&error, &["val.txt", "its number from 0 to 2", "found `3` for", first]);
    says(&with(&format!("{first} 1\n")), &["val.txt: expected a label of", second, "found none"]);
    says(&with(&format!("{first} n01443537\n{second} cat\n")), &["found `cat` for", second]);
    let error = with(&format!("{first} 1\n{second} 0\n{first} 2\n"));
    says(&error, &["one label for", first, "found `1`, and `2` in line 3"]);
}

#[test]
fn flat_training_images_without_labels() {
    let folder = Folder::of(&[("train/0.png", 0), ("train/1.png", 1), ("val/0.png", 2)]);
    says(&folder.error(), &["train", "2 images without a class", "labels.csv"]);
}

#[test]
fn cinic10() {
    let images =
        [("train", 0u8), ("valid", 60), ("test", 100)].into_iter().flat_map(|(part, first)| {
            [("bird", 0), ("cat", 1)].into_iter().flat_map(move |(class, seed)| {
                (0..2).map(move |i| {
                    (format!("{part}/{class}/cifar10-{part}-{i}.png"), first + 2 * seed + i)
                })
            })
        });
    let splits = folder(&images.collect::<Vec<_>>()).read();
    let part = |first: u8| [(first, 0), (first + 1, 0), (first + 2, 1), (first + 3, 1)];
    check(&splits.train, SMALL, &part(0));
    check(splits.valid.as_ref().unwrap(), SMALL, &part(60));
    check(splits.test.as_ref().unwrap(), SMALL, &part(100));
    assert_eq!(splits.train.classes(), ["bird", "cat"]);
}

/// JPEG loses a little; the bright square at the top, right of the middle, is where it was.
#[test]
fn photographs() {
    let folder = Folder::new();
    let write = |name: &str, seed: u8| {
        let image = RgbImage::from_fn(64, 48, |x, y| match (x, y) {
            (40..48, 8..16) => Rgb([240, 220, 40]),
            _ => Rgb([seed, seed + 50, seed + 100]),
        });
        let mut file = std::io::Cursor::new(Vec::new());
        image::DynamicImage::from(image).write_to(&mut file, ImageFormat::Jpeg).unwrap();
        folder.write(name, file.into_inner());
    };
    write("images/BEANS/BEANS0000.jpg", 10);
    write("images/CAKE/CAKE0000.jpg", 60);
    let splits = folder.read();
    assert_eq!(splits.train.classes(), ["BEANS", "CAKE"]);
    assert_eq!(splits.train.image_shape(), [48, 64, 3]);
    for (index, seed) in [10, 60].into_iter().enumerate() {
        let image = splits.train.image(index).unwrap();
        let near = |y: usize, x: usize, colour: [u8; 3]| {
            let found = &image[(y * 64 + x) * 3..][..3];
            assert!(
                found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 30),
                "{found:?} {colour:?}"
            );
        };
        near(12, 44, [240, 220, 40]);
        near(44, 12, [seed, seed + 50, seed + 100]);
        near(12, 20, [seed, seed + 50, seed + 100]);
        near(36, 44, [seed, seed + 50, seed + 100]);
    }
}

#[test]
fn a_folder_read_image_by_image() {
    let folder = folder(&classes("", ""));
    folder.write("n01443537/broken.png", &encoded(7, ImageFormat::Png)[..40]);
    let options = LoadOptions { skip_corrupt: true, test_fraction: 0.3, ..LoadOptions::default() };
    let expected = read(folder.path(), &options).unwrap();
    for memory in [0, 200] {
        let options = LoadOptions { memory: Some(memory), ..options.clone() };
        let splits = read(folder.path(), &options).unwrap();
        assert!(!splits.train.is_in_memory());
        crate::check_same(&splits, &expected);
        crate::check_same(&splits, &expected); // now partly from memory
        assert_eq!(splits.train.checksum().unwrap(), expected.train.checksum().unwrap());
        assert_eq!(splits.unreadable, expected.unreadable);
        let notes = splits.warnings.join("\n");
        says(&notes, &["skipped 1 unreadable"]);
        assert_eq!(notes.contains("read again in every epoch"), memory > 0, "asked for, or told");
    }
    // An image that is gone in the middle of a training is named.
    let options = LoadOptions { memory: Some(0), skip_corrupt: true, ..whole() };
    let splits = read(folder.path(), &options).unwrap();
    fs::remove_file(folder.path().join("n01443537/n01443537_0.JPEG")).unwrap();
    says(&splits.train.image(0).unwrap_err().to_string(), &["cannot read", "n01443537_0.JPEG"]);
}
