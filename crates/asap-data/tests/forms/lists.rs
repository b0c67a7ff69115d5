//! Lists of images with their labels.

use asap_data::Splits;

use crate::{Folder, SMALL, check, read, refusal, says, whole};

/// Images of seeds 0 to 3 in a folder, and a list that is the only one there.
fn listed(names: [&str; 4], list: &str, text: impl AsRef<[u8]>) -> Folder {
    let folder = Folder::new();
    (0u8..).zip(names).for_each(|(seed, name)| folder.image(name, seed));
    folder.write(list, text);
    folder
}

const NAMES: [&str; 4] = ["a.png", "b.png", "c.png", "d.png"];
const EXPECTED: [(u8, u16); 4] = [(0, 1), (1, 0), (2, 1), (3, 0)];

/// Reads a list by its own name, and by that of the folder; both are the same.
fn read_both(folder: &Folder, list: &str) -> Splits {
    let splits = folder.read();
    crate::check_same(&read(&folder.path().join(list), &whole()).unwrap(), &splits);
    splits
}

fn check_cats(folder: &Folder, list: &str) {
    let splits = read_both(folder, list);
    check(&splits.train, SMALL, &EXPECTED);
    assert_eq!(splits.train.classes(), ["cat", "dog"]);
    assert!(splits.test.is_none() && splits.valid.is_none());
}

#[test]
fn columns_file_and_label() {
    let text = "file,label\na.png,dog\nb.png,cat\nc.png,dog\nd.png,cat\n";
    check_cats(&listed(NAMES, "labels.csv", text), "labels.csv");
    // Other columns, in another order, and quotes.
    let text =
        "species,size,Image_Name\n\"dog\",1,\"a.png\"\ncat,2,b.png\ndog,3,c.png\ncat,4,d.png\n";
    check_cats(&listed(NAMES, "labels.csv", text), "labels.csv");
}

#[test]
fn columns_that_are_not_used_are_named() {
    let text =
        "file,label,breed,class\na.png,dog,1,x\nb.png,cat,2,y\nc.png,dog,3,x\nd.png,cat,4,y\n";
    let folder = listed(NAMES, "labels.csv", text);
    check_cats(&folder, "labels.csv");
    let notes = folder.read().warnings.join("\n");
    says(&notes, &["column `file`", "labels those in column `label`; ignored: `breed`, `class`"]);
    let text = "file,label\na.png,dog\nb.png,cat\nc.png,dog\nd.png,cat\n";
    let notes = listed(NAMES, "labels.csv", text).read().warnings.join("\n");
    assert!(!notes.contains("ignored"), "{notes}");
}

#[test]
fn column_is_valid() {
    let text = "file,label,is_valid\na.png,dog,False\nb.png,cat,0\nc.png,dog,True\nd.png,cat,1\n";
    let splits = listed(NAMES, "labels.csv", text).read();
    check(&splits.train, SMALL, &[(0, 1), (1, 0)]);
    check(splits.valid.as_ref().unwrap(), SMALL, &[(2, 1), (3, 0)]);
    let folder = listed(NAMES, "labels.csv", text.replace("False", "maybe"));
    says(&refusal(folder.path()), &["true or false in the column `is_valid` in line 2", "`maybe`"]);
}

#[test]
fn classes_that_may_be_one() {
    for (one, other) in [("Cat", "cat"), ("1", "1.0"), ("01", "1")] {
        let text = format!("file,label\na.png,{one}\nb.png,{other}\nc.png,dog\nd.png,dog\n");
        let notes = listed(NAMES, "labels.csv", text).read().warnings.join("\n");
        says(&notes, &["told apart", &format!("`{one}`"), &format!("`{other}`")]);
    }
}

#[test]
fn a_list_beside_folders_of_classes() {
    let folder =
        listed(["cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png"], "notes.txt", "Ours.\n");
    assert_eq!(folder.read().warnings, Vec::<String>::new());
    folder.write("labels.csv", "file,label\ncat/a.png,dog\ndog/c.png,cat\n");
    let splits = folder.read();
    check(&splits.train, SMALL, &[(0, 0), (1, 0), (2, 1), (3, 1)]);
    says(&splits.warnings.join("\n"), &["ignored", "labels.csv: the folders say"]);
}

#[test]
fn columns_id_and_label_without_endings() {
    let names = ["train/a1.jpg", "train/b2.JPG", "train/c3.png", "train/d4.jpeg"];
    let text = "id,label\na1,dog\nb2,cat\nc3,dog\nd4,cat\n";
    let folder = listed(names, "labels.csv", text);
    check_cats(&folder, "labels.csv");
    // As Kaggle has it, with an example of what to send in.
    folder.write("sample_submission.csv", "id,cat,dog\ne5,0.5,0.5\n");
    check_cats(&folder, "labels.csv");
}

#[test]
fn other_separators() {
    let text = "file;label\r\na.png;dog\r\nb.png;cat\r\nc.png;dog\r\nd.png;cat\r\n";
    check_cats(&listed(NAMES, "labels.csv", text), "labels.csv");
    check_cats(&listed(NAMES, "labels.tsv", text.replace(';', "\t")), "labels.tsv");
}

#[test]
fn a_column_of_parts() {
    let text =
        "file,label,split\na.png,dog,train\nb.png,cat,Train\nc.png,dog,test\nd.png,cat,val\n";
    let folder = listed(NAMES, "labels.csv", text);
    let splits = read_both(&folder, "labels.csv");
    check(&splits.train, SMALL, &[(0, 1), (1, 0)]);
    check(splits.test.as_ref().unwrap(), SMALL, &[(2, 1)]);
    check(splits.valid.as_ref().unwrap(), SMALL, &[(3, 0)]);
    for (unknown, name) in [("unused", "`unused`"), ("", "``")] {
        folder.write("labels.csv", text.replace("val", unknown));
        let expected = ["labels.csv: expected train, valid or test in the column of parts"];
        says(&folder.error(), &[expected[0], &format!("found {name} in line 5")]);
    }
    folder.write("labels.csv", text.replace("train", "test").replace("Train", "test"));
    says(&folder.error(), &["labels.csv: expected training images", "name a part `train`"]);
}

#[test]
fn without_a_head() {
    let text = "a.png,dog\nb.png,cat\nc.png,dog\nd.png,cat\n";
    check_cats(&listed(NAMES, "labels.csv", text), "labels.csv");
    let text = "dog,a.png\ncat,b.png\ndog,c.png\ncat,d.png\n";
    check_cats(&listed(NAMES, "labels.csv", text), "labels.csv");
    let text = "a.png,dog,0,train\nb.png,cat,1,train\nc.png,dog,2,test\nd.png,cat,3,test\n";
    let folder = listed(NAMES, "labels.csv", text);
    check_cats(&folder, "labels.csv");
    let notes = folder.read().warnings.join("\n");
    says(&notes, &["images are those in column 1 of", "labels those in column 2; ignored: 3, 4"]);
}

#[test]
fn names_with_spaces() {
    let names = ["images/my dog.png", "images/a cat 1.png", "images/ dog.png", "images/cat.png"];
    let text = "images/my dog.png dog\nimages/a cat 1.png  cat\n\nimages/ dog.png dog\nimages/cat.png\tcat\n";
    let folder = listed(names, "list.txt", text.replace('\t', " "));
    check_cats(&folder, "list.txt");
}

#[test]
fn paths_of_windows_and_a_mark() {
    let names = ["pets/img/a.png", "pets/img/b.png", "pets/img/c.png", "pets/img/d.png"];
    let text = "\u{feff}file,label\r\nimg\\a.png,dog\r\nimg\\b.png,cat\r\nimg\\c.png,dog\r\nimg\\d.png,cat\r\n";
    let folder = listed(names, "pets/labels.csv", text);
    check_cats(&folder, "pets/labels.csv");
}

#[test]
fn numbers_are_sorted_as_numbers() {
    let text = "file,label\na.png,10\nb.png,9\nc.png,10\nd.png,9\n";
    let folder = listed(NAMES, "labels.csv", text);
    let splits = read_both(&folder, "labels.csv");
    check(&splits.train, SMALL, &EXPECTED);
    assert_eq!(splits.train.classes(), ["9", "10"]);
}

#[test]
fn wrong_lists() {
    let error = |text: &str| listed(NAMES, "labels.csv", text).error();
    let head = "file,label\na.png,dog\nb.png,cat\n";
    let missing = error(&format!("{head}e.png,dog\n"));
    says(&missing, &["labels.csv: expected the image `e.png` of line 4, found no such file"]);
    let two = error(&format!("{head}a.png,cat\n"));
    says(&two, &["one label for `a.png`", "`dog` in line 2 and `cat` in line 4"]);
    says(&error(&format!("{head}c.png\n")), &["expected a file and a label in line 4"]);
    says(&error("file,label\na.png,dog\nb.png,dog\n"), &["labels of 2 to 65535 classes, found 1"]);
    says(&error("label,pixel0,pixel1\n3,0,0\n"), &["a table of pixels", "as IDX or NPZ"]);
    says(&error(""), &["an empty file"]);
    says(&error("picture,kind\nx.png,dog\n"), &["a head with the columns file and label"]);
    let folder = listed(NAMES, "labels.csv", b"\xff\xfef\0");
    says(&folder.error(), &["UTF-16"]);

    let folder = listed(NAMES, "labels.csv", format!("{head}a.png,dog\n"));
    let splits = folder.read();
    check(&splits.train, SMALL, &[(0, 1), (1, 0)]);
    says(&splits.warnings.join("\n"), &["1 images are in the list more than once"]);

    let folder = listed(NAMES, "one.csv", head);
    folder.write("two.csv", head);
    says(&folder.error(), &["one list of labels beside the images", "one.csv", "two.csv"]);
    let error = refusal(&folder.path().join("a.png"));
    says(&error, &["a list of images with labels (.csv, .tsv, .txt)", "found another file"]);
}
