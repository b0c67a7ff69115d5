//! A file of CIFAR's binary form beside intact ones.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::{Folder, head};
use libfuzzer_sys::fuzz_target;

const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];

/// An image of every class.
fn images(classes: u8, label_bytes: usize) -> Vec<u8> {
    (0..classes).flat_map(|class| [vec![class; label_bytes], vec![class; 3072]].concat()).collect()
}

fn names(classes: u8) -> Vec<u8> {
    (0..classes).flat_map(|class| format!("name {class}\n").into_bytes()).collect()
}

type Form = [(&'static str, Vec<u8>); 3];

static FORMS: LazyLock<(Folder, [Form; 2])> = LazyLock::new(|| {
    let folder = Folder::new();
    let forms = [
        [
            ("ten/data_batch_1.bin", images(10, 1)),
            ("ten/batches.meta.txt", names(10)),
            ("ten/test_batch.bin", images(10, 1)),
        ],
        [
            ("hundred/train.bin", images(100, 2)),
            ("hundred/fine_label_names.txt", names(100)),
            ("hundred/test.bin", images(2, 2)),
        ],
    ];
    forms.iter().flatten().for_each(|(name, bytes)| drop(folder.write(name, bytes)));
    TRAIN[1..].iter().for_each(|file| drop(folder.write(&format!("ten/{file}"), &images(10, 1))));
    (folder, forms)
});

fuzz_target!(|data: &[u8]| {
    let Some(([way], content)) = head(data) else { return };
    let (folder, forms) = &*FORMS;
    let form = usize::from(way & 1);
    let (name, intact) = &forms[form][usize::from(way >> 1 & 3) % 3];
    folder.write(name, content);
    let _ = folder.load(&folder.path(["ten", "hundred"][form]), way >> 3);
    folder.write(name, intact);
});
