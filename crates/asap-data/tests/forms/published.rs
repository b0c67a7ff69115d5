//! Published files: CIFAR in Python's form, SVHN, NumPy archives, Parquet and IDX.

use std::fs;
use std::io::Write;

use asap_data::{DataError, DataSpec, LoadOptions, load};

use crate::{Folder, SMALL, check, fixture, read, refusal, says, unpacked, whole};

const CIFAR: [usize; 3] = [32, 32, 3];
const GREY: [usize; 3] = [5, 7, 1];

fn cifar10_train() -> Vec<(u8, u16)> {
    (0..10).map(|seed| (seed, 3 * u16::from(seed) % 10)).collect()
}

#[test]
fn cifar10_as_python_2_and_3_wrote_it() {
    for archive in [
        "cifar-10-python.tar.gz",
        "cifar-10-protocol-2.tar.gz",
        "cifar-10-protocol-4.tar.gz",
        "cifar-10-protocol-5.tar.gz",
    ] {
        let folder = unpacked(archive);
        let splits = folder.read();
        check(&splits.train, CIFAR, &cifar10_train());
        check(splits.test.as_ref().unwrap(), CIFAR, &[(100, 9), (101, 2), (102, 0)]);
        assert!(splits.valid.is_none());
        assert_eq!(splits.train.classes()[..3], ["airplane", "automobile", "bird"]);
        assert_eq!(splits.train.classes().len(), 10);
        assert_eq!(splits.warnings.len(), 6, "files with fewer images than the published ones");
        let inner = folder.path().join("cifar-10-batches-py");
        crate::check_same(&read(&inner, &whole()).unwrap(), &splits);
        crate::check_same(&read(&inner.join("data_batch_1"), &whole()).unwrap(), &splits);
    }
}

#[test]
fn cifar100_as_python_2_wrote_it() {
    let splits = unpacked("cifar-100-python.tar.gz").read();
    let train: Vec<_> = (0..300u16).map(|i| ((i % 150) as u8, 7 * i % 100)).collect();
    check(&splits.train, CIFAR, &train);
    check(splits.test.as_ref().unwrap(), CIFAR, &[(100, 99), (101, 0)]);
    assert_eq!(splits.train.classes()[..2], ["fine 99", "fine 98"]);
    assert_eq!(splits.train.classes().len(), 100);
}

#[test]
fn cifar_by_name_in_its_archive() {
    let folder = Folder::new();
    let archive = "cifar-10-python.tar.gz";
    folder.write(archive, fs::read(fixture(archive)).unwrap());
    let cache = Folder::new();
    let options = LoadOptions { cache: Some(cache.path().into()), ..LoadOptions::default() };
    let spec: DataSpec = "cifar10".parse().unwrap();
    let splits = load(&spec, Some(folder.path()), &options).unwrap();
    check(&splits.train, CIFAR, &cifar10_train());
    assert_eq!(splits.name, "cifar10");
}

#[test]
fn broken_pickles() {
    let batch = |number: u32| format!("cifar-10-batches-py/data_batch_{number}");
    for part in [0.0, 0.2, 0.9] {
        let folder = unpacked("cifar-10-python.tar.gz");
        folder.cut(&batch(3), part);
        says(&folder.error(), &["data_batch_3: expected a pickle", "an end too early at byte"]);
    }
    let folder = unpacked("cifar-10-python.tar.gz");
    folder.replace(&batch(1), b"(K\x00K\x03e", b"(K\x00K\x0ae");
    says(
        &folder.error(),
        &["data_batch_1: expected labels from 0 to 9, found label 10 at index 1"],
    );
    let folder = unpacked("cifar-10-python.tar.gz");
    folder.replace(&batch(1), b"(K\x00K\x03e", b"(K\x00e");
    says(&folder.error(), &["data_batch_1", "found 2 images and 1 labels"]);
    let folder = unpacked("cifar-10-int64.tar.gz");
    says(
        &folder.error(),
        &["data_batch_4: expected a pickle with the keys data (bytes [n, 3072])"],
    );
    let folder = unpacked("cifar-10-python.tar.gz");
    fs::remove_file(folder.path().join(batch(5))).unwrap();
    says(&folder.error(), &["cannot read", "data_batch_5"]);
    // An array without dimensions, which has one byte.
    let folder = unpacked("cifar-10-python.tar.gz");
    folder.write(
        &batch(1),
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\n)R(K\x01)cnumpy\ndtype\nU\x02u1\x85R\x89U\x01xtbU\x06labels](K\x00eu.",
    );
    says(&folder.error(), &["data_batch_1", "no such data"]);
}

#[test]
fn svhn() {
    for kind in ["uint8", "double", "matlab"] {
        let folder = fixture("svhn").join(kind);
        let splits = read(&folder, &whole()).unwrap();
        let train: Vec<_> = (0..10).map(|digit| (digit as u8, digit)).collect();
        check(&splits.train, CIFAR, &train);
        check(splits.test.as_ref().unwrap(), CIFAR, &[(100, 0), (101, 4), (102, 9)]);
        assert_eq!(splits.train.classes()[..2], ["0", "1"], "the label 10 is the digit 0");
        crate::check_same(&read(&folder.join("train_32x32.mat"), &whole()).unwrap(), &splits);
    }
}

#[test]
fn broken_svhn() {
    let (train, test) = ("train_32x32.mat", "test_32x32.mat");
    for part in [0.0, 0.3, 0.6, 0.99] {
        let folder = Folder::copy(&fixture("svhn/uint8"));
        folder.cut(train, part);
        says(&folder.error(), &["train_32x32.mat: expected a MATLAB file of version 5"]);
    }
    for end in [5, 1] {
        let folder = Folder::copy(&fixture("svhn/uint8"));
        let mut bytes = fs::read(folder.path().join(test)).unwrap();
        let at = bytes.len() - end;
        bytes[at] ^= 1; // the last bytes are the checksum of the labels
        folder.write(test, bytes);
        says(&folder.error(), &["test_32x32.mat: expected a MATLAB file of version 5"]);
    }
    let broken = |name: &str| {
        let folder = Folder::copy(&fixture("svhn/uint8"));
        folder.write(test, fs::read(fixture("svhn/broken").join(name)).unwrap());
        folder.error()
    };
    says(&broken("doubles.mat"), &["test_32x32.mat", "X of other values than bytes"]);
    says(&broken("only-x.mat"), &["test_32x32.mat", "not both, X and y, as bytes or doubles"]);
    says(&broken("label-11.mat"), &["test_32x32.mat", "the label 11"]);
    let folder = Folder::copy(&fixture("svhn/uint8"));
    fs::remove_file(folder.path().join(test)).unwrap();
    says(&folder.error(), &["cannot read", test]);
}

#[test]
fn medmnist() {
    for (name, shape) in [("medmnist-grey.npz", GREY), ("medmnist-colour.npz", SMALL)] {
        let splits = read(&fixture(name), &whole()).unwrap();
        check(&splits.train, shape, &[(0, 2), (1, 0), (2, 1), (3, 0)]);
        check(splits.valid.as_ref().unwrap(), shape, &[(60, 1), (61, 2)]);
        check(splits.test.as_ref().unwrap(), shape, &[(100, 0), (101, 2), (102, 1)]);
        assert_eq!(splits.train.classes(), ["0", "1", "2"]);
        let folder = Folder::new();
        folder.write(name, fs::read(fixture(name)).unwrap());
        crate::check_same(&folder.read(), &splits);
    }
}

#[test]
fn keras() {
    for name in ["keras.npz", "keras-big-endian.npz"] {
        let splits = read(&fixture(name), &whole()).unwrap();
        check(&splits.train, GREY, &[(0, 2), (1, 0), (2, 1), (3, 0)]);
        check(splits.test.as_ref().unwrap(), GREY, &[(100, 1), (101, 2)]);
        assert!(splits.valid.is_none());
        assert_eq!(splits.train.classes(), ["0", "1", "2"]);
    }
}

/// A NumPy array of bytes.
fn npy(sides: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({sides}), }}");
    header.push_str(&" ".repeat(117 - header.len()));
    header.push('\n');
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), bytes]
        .concat()
}

#[test]
fn arrays_that_are_not_used_are_told() {
    let folder = Folder::new();
    let mut zip = zip::ZipWriter::new(fs::File::create(folder.path().join("a.npz")).unwrap());
    let arrays =
        [("x_train", "2, 1, 1"), ("y_train", "2,"), ("x_test", "2, 1, 1"), ("y_valid", "2,")];
    for (name, sides) in arrays {
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&npy(sides, &[0, 1])).unwrap();
    }
    zip.finish().unwrap();
    let splits = folder.read();
    assert_eq!((splits.train.len(), splits.test.is_none()), (2, true));
    says(&splits.warnings.join("\n"), &["ignored the arrays x_test, y_valid: only these are read"]);
}

#[test]
fn broken_npz() {
    let error = |name: &str| refusal(&fixture(name));
    says(&error("floats.npz"), &["x_train of unsigned bytes (uint8) in C order", "<f4"]);
    says(&error("fortran.npz"), &["x_train", "in C order", "Fortran"]);
    says(&error("negative.npz"), &["y_train", "a label below 0 or above 65534"]);
    says(&error("medmnist-several-labels.npz"), &["one label per image", "[4, 14]"]);
    says(&error("gap.npz"), &["none of class `1`; renumber the labels from 0"]);
    for part in [0.0, 0.5, 0.95] {
        let folder = Folder::new();
        folder.write("a.npz", fs::read(fixture("keras.npz")).unwrap());
        folder.cut("a.npz", part);
        says(&refusal(&folder.path().join("a.npz")), &["a NumPy archive (.npz)"]);
    }
    let folder = Folder::new();
    let mut bytes = fs::read(fixture("keras.npz")).unwrap();
    let pixel = bytes.windows(2).position(|two| two == [100, 250]).unwrap();
    bytes[pixel] ^= 1;
    folder.write("a.npz", bytes);
    says(&refusal(&folder.path().join("a.npz")), &["checksum"]);
}

/// The training images of the Parquet files.
const TRAIN: [(u8, u16); 4] = [(0, 2), (1, 0), (2, 1), (3, 0)];

#[test]
fn parquet_of_a_hub() {
    for compression in ["snappy", "zstd"] {
        let folder = fixture("parquet").join(compression);
        let splits = read(&folder, &whole()).unwrap();
        check(&splits.train, SMALL, &TRAIN);
        check(splits.test.as_ref().unwrap(), SMALL, &[(100, 1), (101, 2)]);
        assert_eq!(splits.valid.is_some(), compression == "zstd");
        splits.valid.as_ref().inspect(|valid| check(valid, SMALL, &[(60, 1)]));
        assert_eq!(splits.train.classes(), ["tench", "ant", "zebra"]);
        crate::check_same(&read(&folder.join("data"), &whole()).unwrap(), &splits);
        let later = LoadOptions { memory: Some(0), ..whole() };
        let later = read(&folder, &later).unwrap();
        assert!(!later.train.is_in_memory());
        crate::check_same(&later, &splits);
    }
    let file = fixture("parquet/snappy/data/train-00000-of-00001.parquet");
    check(&read(&file, &whole()).unwrap().train, SMALL, &TRAIN);
}

#[test]
fn parquet_of_several_configurations_is_refused() {
    let folder = Folder::new();
    for size in ["160px", "320px"] {
        fs::create_dir(folder.path().join(size)).unwrap();
        for entry in fs::read_dir(fixture("parquet/snappy/data")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(size).join(path.file_name().unwrap())).unwrap();
        }
    }
    says(&refusal(folder.path()), &["160px", "320px", "give the folder of one of them"]);
    check(&read(&folder.path().join("160px"), &whole()).unwrap().train, SMALL, &TRAIN);
}

#[test]
fn parquet_with_two_columns_of_labels() {
    let splits = read(&fixture("parquet/fine"), &whole()).unwrap();
    check(&splits.train, SMALL, &[(0, 2), (1, 0), (2, 1), (3, 0)]);
    check(splits.test.as_ref().unwrap(), SMALL, &[(100, 1), (101, 2)]);
    assert_eq!(splits.train.classes(), ["cup", "apple", "bed"]);
}

/// A label is the position of its name, even if the names look like labels.
#[test]
fn parquet_in_a_folder_that_is_called_like_a_part() {
    let folder = Folder::new();
    let test = folder.path().join("test");
    fs::create_dir(&test).unwrap();
    for entry in fs::read_dir(fixture("parquet/snappy/data")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, test.join(path.file_name().unwrap())).unwrap();
    }
    let one = fixture("parquet/snappy/data/train-00000-of-00001.parquet");
    let alone = folder.path().join("valid/pets.parquet");
    fs::create_dir(folder.path().join("valid")).unwrap();
    fs::copy(one, &alone).unwrap();
    check(&read(&test, &whole()).unwrap().train, SMALL, &TRAIN);
    check(&read(&alone, &whole()).unwrap().train, SMALL, &TRAIN);
}

#[test]
fn parquet_with_a_column_of_lists() {
    let splits = read(&fixture("parquet/lists.parquet"), &whole()).unwrap();
    check(&splits.train, SMALL, &TRAIN);
}

#[test]
fn parquet_with_numbers_as_names() {
    let splits = read(&fixture("parquet/ratings"), &whole()).unwrap();
    check(&splits.train, SMALL, &[(0, 2), (1, 0), (2, 1), (3, 0)]);
    assert_eq!(splits.train.classes(), ["1", "2", "3"]);
}

#[test]
fn parquet_without_names_and_test_labels() {
    let splits = read(&fixture("parquet/plain"), &whole()).unwrap();
    check(&splits.train, SMALL, &[(0, 2), (1, 0), (2, 1), (3, 0)]);
    assert_eq!(splits.train.classes(), ["0", "1", "2"]);
    assert!(splits.test.is_none());
    assert!(
        splits.warnings.contains(&"left out 2 images without a label (-1, or none)".to_owned())
    );
}

#[test]
fn parquet_with_a_hash_in_its_names() {
    let folder = Folder::new();
    let bytes = fs::read(fixture("parquet/snappy/data/train-00000-of-00001.parquet")).unwrap();
    folder.write("train-00000-of-00002-0123456789abcdef.parquet", &bytes);
    says(&folder.error(), &["all 2 files train-*-of-00002", "found no train-00001-of-00002"]);
    folder.write("train-00001-of-00002-fedcba9876543210.parquet", &bytes);
    assert_eq!(folder.read().train.len(), 2 * TRAIN.len());
}

#[test]
fn images_beside_parquet_are_told() {
    let folder = Folder::copy(&fixture("parquet/snappy"));
    assert!(!folder.read().warnings.join("").contains("next to the Parquet files"));
    folder.image("data/cat.png", 0);
    folder.image("dog/0.png", 0);
    let notes = folder.read().warnings.join("\n");
    says(&notes, &["ignored 2 image files next to the Parquet files, such as"]);
}

#[test]
fn broken_parquet() {
    let file = "train-00000-of-00001.parquet";
    for part in [0.0, 0.4, 0.95] {
        let folder = Folder::copy(&fixture("parquet/snappy/data"));
        folder.cut(file, part);
        says(&folder.error(), &[file, "expected a Parquet file"]);
    }
    says(
        &refusal(&fixture("parquet/floats.parquet")),
        &["row 0 with a label that is neither a text nor a whole number"],
    );
    let error = refusal(&fixture("parquet/out-of-range"));
    says(&error, &["train.parquet: expected a label from 0 to 2, found `3` in row 0"]);
}

/// An IDX file: the type of its values, its sides, and its bytes.
fn idx(kind: u8, sides: &[u32], bytes: &[u8]) -> Vec<u8> {
    let sides_bytes: Vec<u8> = sides.iter().flat_map(|side| side.to_be_bytes()).collect();
    [&[0, 0, kind, sides.len() as u8], &sides_bytes[..], bytes].concat()
}

/// The four files of MNIST's form, by their published names.
fn mnist() -> [(&'static str, Vec<u8>); 4] {
    let images = |seeds: &[u8]| {
        let bytes: Vec<u8> = seeds.iter().flat_map(|&seed| crate::pixels(GREY, seed)).collect();
        idx(8, &[seeds.len() as u32, 5, 7], &bytes)
    };
    [
        ("train-images-idx3-ubyte", images(&[0, 1, 2])),
        ("train-labels-idx1-ubyte", idx(8, &[3], &[2, 0, 1])),
        ("t10k-images-idx3-ubyte", images(&[100, 101])),
        ("t10k-labels-idx1-ubyte", idx(8, &[2], &[1, 2])),
    ]
}

#[test]
fn idx_in_every_layout() {
    let gzip = |bytes: &[u8]| {
        let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        file.write_all(bytes).unwrap();
        file.finish().unwrap()
    };
    let layouts: [&dyn Fn(&str) -> String; 6] = [
        &|name| name.to_owned(),
        &|name| format!("{name}.gz"),
        &|name| name.replace("-idx", ".idx"),
        &|name| format!("FashionMNIST/raw/{name}"),
        &|name| format!("raw/{name}.gz"),
        &|name| format!("{name}/{name}"),
    ];
    for layout in layouts {
        let folder = Folder::new();
        for (name, bytes) in mnist() {
            let name = layout(name);
            folder.write(&name, if name.ends_with("gz") { gzip(&bytes) } else { bytes });
        }
        let splits = folder.read();
        check(&splits.train, GREY, &[(0, 2), (1, 0), (2, 1)]);
        check(splits.test.as_ref().unwrap(), GREY, &[(100, 1), (101, 2)]);
        assert_eq!(splits.train.classes(), ["0", "1", "2"]);
    }
}

/// What is in other folders of the place that is searched is not what was asked for.
#[test]
fn one_of_several_data_sets_in_a_folder() {
    let folder = unpacked("cifar-10-python.tar.gz");
    let spec: DataSpec = "cifar10".parse().unwrap();
    let by_name = |folder: &Folder| load(&spec, Some(folder.path()), &whole()).unwrap();
    let cifar = by_name(&folder);
    mnist().iter().for_each(|(name, bytes)| folder.write(&format!("MNIST/raw/{name}"), bytes));
    crate::check_same(&by_name(&folder), &cifar);
    let error = folder.error();
    says(
        &error,
        &["expected one data set, found IDX files in", "MNIST/raw, cifar-10-batches-py in"],
    );
    let file = folder.path().join("cifar-10-batches-py/test_batch");
    check(&read(&file, &whole()).unwrap().train, CIFAR, &cifar10_train());

    folder.image("a.png", 0);
    folder.image("b.png", 1);
    folder.write("labels.csv", "file,label\na.png,cat\nb.png,dog\n");
    let list = read(&folder.path().join("labels.csv"), &whole()).unwrap();
    assert_eq!(list.train.classes(), ["cat", "dog"]);
    folder.write("notes.doc", "");
    says(&refusal(&folder.path().join("notes.doc")), &["found another file"]);
}

#[test]
fn broken_idx() {
    let with = |name: &str, bytes: &[u8]| {
        let folder = Folder::new();
        mnist().iter().for_each(|(name, bytes)| folder.write(&format!("{name}.gz"), bytes));
        folder.write(&format!("{name}.gz"), bytes);
        read(folder.path(), &whole()).unwrap_err()
    };
    let [(images, good), (labels, _), ..] = mnist();
    let html = b"\n<!DOCTYPE html><html><body>Not found</body></html>";
    says(&with(images, html).to_string(), &["found an HTML page", "download it again"]);
    assert!(matches!(with(images, &good[..50]), DataError::Truncated { found: 50, .. }));
    let floats = idx(0x0d, &[3, 5, 7], &[0; 420]);
    says(&with(images, &floats).to_string(), &["unsigned bytes", "found 0x00000d03"]);
    says(
        &with("t10k-labels-idx1-ubyte", &idx(8, &[2], &[1, 3])).to_string(),
        &["label 3 at index 1"],
    );
    says(&with(labels, &idx(8, &[2], &[1, 0])).to_string(), &["found 3 images and 2 labels"]);
}

/// The error of a Parquet file with these bytes.
fn fault_of_parquet(hex: &str) -> DataError {
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    fs::write(&path, bytes).unwrap();
    load(&DataSpec::Path(path), None, &LoadOptions::default()).unwrap_err()
}

/// Found by the fuzzer: the crate for Parquet panics at this file.
#[test]
fn a_parquet_file_that_its_crate_panics_at() {
    const HEX: &str = "5041523115041536153a4c1540150000001b68170000000a0a1504193c35001806736368656d61150400150c25021805696d61676500150c250218056c6162656c25004c1c0000001608191c192c26001c150c1935000610191805696d6167651502160816f60116fe01265e26081c3600281750360a3220320a3235350a00010204050608090a0c0d0e181750360a3220320a3235350a00010204050608090a0c0d0e111100192c15041500150200150015101502003c16b80119061926000800000026001c150c19350006101918056c6162656c15021608168c0116940126c2022686021c36002803646f671803636174111100192c15041500150200150015101502003c161819061926000800000016820316082608169203002820706172717565742d6370702d6172726f772076657273696f6e2032362e302e31192c1c00001c0000002e01000050415231";
    let error = fault_of_parquet(HEX);
    assert!(matches!(error, DataError::Format { .. }), "{error}");
}

/// A list of two thousand million entries in the header of a page, which ends with the file; found by fuzzing.
#[test]
fn a_parquet_file_that_its_crate_skips_for_half_a_minute() {
    const HEX: &str = "50415231150615dc0115dc015c15081500150815001504150012000017020800000050360ab220320a3235350a00010a04050608090a0cf3f31700000050330a3220320a3235350a00010204050608090a0c0d0e1700000050360a3220320a3235350a00010204050608090a0c0d0e1700000050360a3220320a3235350a00010204050608090a0c0d0e1506154c154c5c150815001508150015041500120000080205000000612e70706d05000000612e70706d05000000612e70706d05000000612e70706d1506154415445c1508150015081500eafdffc3e218190619260008000000150415001200000000000000010000080100080000000000000000000001000000000000000000000000000000010000000000000019110219181750360a3220320a3235350a00010204050608090a0c0d0e19181750360a3220328c021600001916b80100191c169402157816000019162800191c168c031570160000001504195c34001806736368656d6115040035021805696d616765150400150c25021805627974657300150c250218047061746825004c1c0000001504250218056c6162656c001608191c193c26001c150c19250600192805696d61676505627974657315001608168c02168c0226083c3500281750360a3220320a3235350a00010204050608090a0c0d0e181750360a3220320affffffffffffff24050608090a0c0d0e111100191c150015001502003c16b801190619360000080000168206151e16fc031584010026001c150c19250600192805696d616765047061746815001608167816782694023c36002805612e70706d1805612e70706d111100191c150015001502003c162819061936000008000016a006151c168005153c0026001c1504192506001918056c6162656c1500160816701670268c033c180801000000000000001808000000000000000016002808010000000000000018080000000000000000111100191c150015001502003c290619260008000016bc06151616bc0515460016f4031608260816f403002820706172717565742d6370702d6172726f772076657273696f6e2032362e302e31193c1c00001c00001c000000be01000050415231";
    let error = fault_of_parquet(HEX);
    says(&error.to_string(), &["expected a Parquet file"]);
}

#[test]
fn parquet_files_of_which_one_is_missing_or_names_other_classes() {
    let folder = Folder::copy(&fixture("parquet/snappy/data"));
    let train = folder.path().join("train-00000-of-00001.parquet");
    fs::rename(&train, folder.path().join("train-00001-of-00002.parquet")).unwrap();
    says(&refusal(folder.path()), &["no train-00000-of-00002.parquet", "download it, too"]);

    let folder = Folder::copy(&fixture("parquet/snappy/data"));
    let other =
        fs::read_dir(fixture("parquet/ratings/data")).unwrap().next().unwrap().unwrap().path();
    fs::copy(other, folder.path().join("test-00000-of-00001.parquet")).unwrap();
    says(&refusal(folder.path()), &["as in the other files"]);
}
