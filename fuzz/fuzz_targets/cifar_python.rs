//! A pickle of CIFAR's Python form beside intact ones.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::{Folder, head};
use libfuzzer_sys::fuzz_target;

const KEYS: [[&str; 2]; 2] = [["labels", "label_names"], ["fine_labels", "fine_label_names"]];

/// A text of Python 2.
fn text(text: &str) -> Vec<u8> {
    [&[b'U', text.len() as u8], text.as_bytes()].concat()
}

/// A batch with an image of every class.
fn batch(classes: u8, key: &str) -> Vec<u8> {
    let pixels = vec![7; usize::from(classes) * 3072];
    let length = (pixels.len() as u32).to_le_bytes();
    let labels: Vec<u8> = (0..classes).flat_map(|class| [b'K', class]).collect();
    let (data, key, u1, order) = (text("data"), text(key), text("u1"), text("C"));
    [
        &b"\x80\x02}("[..],
        &data,
        b"cnumpy.core.numeric\n_frombuffer\n(B",
        &length,
        &pixels,
        b"cnumpy\ndtype\n",
        &u1,
        &[0x85, b'R', b'K', classes, b'M', 0, 12, 0x86],
        &order,
        b"tR",
        &key,
        b"](",
        &labels,
        b"eu.",
    ]
    .concat()
}

fn names(classes: u8, key: &str) -> Vec<u8> {
    let names: Vec<u8> = (0..classes).flat_map(|class| text(&format!("name {class}"))).collect();
    [&b"\x80\x02}("[..], &text(key), b"](", &names, b"eu."].concat()
}

type Form = [(&'static str, Vec<u8>); 3];

static FORMS: LazyLock<(Folder, [Form; 2])> = LazyLock::new(|| {
    let folder = Folder::new();
    let [[labels, label_names], [fine, fine_names]] = KEYS;
    let forms = [
        [
            ("ten/data_batch_1", batch(10, labels)),
            ("ten/batches.meta", names(10, label_names)),
            ("ten/test_batch", batch(10, labels)),
        ],
        [
            ("hundred/train", batch(100, fine)),
            ("hundred/meta", names(100, fine_names)),
            ("hundred/test", batch(2, fine)),
        ],
    ];
    forms.iter().flatten().for_each(|(name, bytes)| drop(folder.write(name, bytes)));
    (2..=5).for_each(|i| drop(folder.write(&format!("ten/data_batch_{i}"), &batch(10, labels))));
    for place in ["ten", "hundred"] {
        folder.load(&folder.path(place), 0).expect("intact files");
    }
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
