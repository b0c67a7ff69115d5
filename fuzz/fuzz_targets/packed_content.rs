//! Header and content of a packed data set whose checksums are right.
#![no_main]

use std::sync::LazyLock;

use asap_fuzz::{Folder, crc32, head, piece};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

/// Writes the checksums of labels into the header, and those of images behind the labels.
fn fix(header: &mut Value, mut content: &mut [u8]) -> Option<()> {
    let mut sides = header.get("shape")?.as_array()?.iter();
    let size = sides.try_fold(1usize, |size, side| size.checked_mul(usize::try_from(side.as_u64()?).ok()?))?;
    for part in header.get_mut("parts")?.as_array_mut()? {
        let count = usize::try_from(part.get("images")?.as_u64()?).ok()?;
        let (labels, rest) = content.split_at_mut_checked(count.checked_mul(2)?)?;
        *part.get_mut("labels")? = crc32(labels).into();
        let (sums, rest) = rest.split_at_mut_checked(count.checked_mul(4)?)?;
        let (images, rest) = rest.split_at_mut_checked(count.checked_mul(size)?)?;
        if size > 0 {
            for (sum, image) in sums.as_chunks_mut::<4>().0.iter_mut().zip(images.chunks_exact(size)) {
                *sum = crc32(image).to_le_bytes();
            }
        }
        content = rest;
    }
    Some(())
}

fuzz_target!(|data: &[u8]| {
    let Some(([way], rest)) = head(data) else { return };
    let Some((header, content)) = piece(rest) else { return };
    let mut content = content.to_vec();
    let header = match serde_json::from_slice::<Value>(header) {
        Ok(mut json) => {
            fix(&mut json, &mut content);
            json.to_string().into_bytes()
        }
        Err(_) => header.to_vec(),
    };
    let [length, sum] = [(header.len() as u64).to_le_bytes().to_vec(), crc32(&header).to_le_bytes().to_vec()];
    let file = [&b"ASAPPACK\x01\0\0\0"[..], &length, &sum, &header, &content].concat();
    let path = FOLDER.write("a.pack", &file);
    let _ = FOLDER.load(&path, way);
});
