//! An image file; its bytes decide on the format. Most inputs of many pixels are left out, since they take most of the time and
//! run the same code.
#![no_main]

use std::io::Cursor;
use std::sync::LazyLock;

use asap_fuzz::Folder;
use image::ImageReader;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new();
    folder.write("b.ppm", b"P6 2 1 255\n\x01\x02\x03\x04\x05\x06");
    folder.write("labels.csv", b"file,label,split\na.png,0,train\nb.ppm,1,train\n");
    folder
});

/// The pixels that a header promises; 0 if it can't be read.
fn pixels(data: &[u8]) -> u64 {
    let reader = ImageReader::new(Cursor::new(data)).with_guessed_format().expect("memory");
    reader.into_dimensions().map_or(0, |(width, height)| u64::from(width) * u64::from(height))
}

fuzz_target!(|data: &[u8]| {
    if pixels(data) > 1 << 12 && data.len() % 128 != 0 {
        return;
    }
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
