//! An image file; its bytes decide on the format.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new();
    folder.write("b.ppm", b"P6 2 1 255\n\x01\x02\x03\x04\x05\x06");
    folder.write("labels.csv", b"file,label,split\na.png,0,train\nb.ppm,1,train\n");
    folder
});

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.write("a.png", data);
    // A list reads the header first, and chooses the size.
    if data.len() % 4 == 0 {
        let _ = FOLDER.load(&FOLDER.path("labels.csv"), 0);
        return;
    }
    let shape = [5, 7, if data.len() % 2 == 0 { 1 } else { 3 }];
    if let Ok(bytes) = asap_data::read_image(&path, shape) {
        assert_eq!(bytes.len(), shape.iter().product::<usize>());
    }
});
