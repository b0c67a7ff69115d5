//! The parts that the targets share: a folder in memory, files in their formats with right checksums, and a limit on memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;

use asap_data::{DataError, DataSpec, LoadOptions, Splits};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// Most bytes of one allocation.
const MOST: usize = 1 << 30;

/// The system's allocator, which aborts when asked for more than [`MOST`]. libFuzzer's own limit needs a sanitizer.
struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

fn limit(size: usize) {
    if size > MOST {
        eprintln!("an allocation of {size} bytes\n{}", Backtrace::force_capture());
        std::process::abort();
    }
}

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        limit(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        limit(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        limit(size);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

/// A folder of this process in memory.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder, empty. All work stays in this thread.
    pub fn new() -> Self {
        static ONE_THREAD: Once = Once::new();
        ONE_THREAD.call_once(|| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
            pool.build_global().expect("the first pool");
        });
        let folder = Path::new("/dev/shm").join(format!("asap-fuzz-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a new folder");
        Self(folder)
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, in a folder that is made if it is missing.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        if fs::write(&path, bytes).is_err() {
            fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
            fs::write(&path, bytes).expect("a file");
        }
        path
    }

    /// Removes a folder.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_dir_all(self.path(name));
    }

    /// Loads the data set at a path, in one of several ways, and reads all of its images.
    pub fn load(&self, path: &Path, way: u8) -> Result<Splits, DataError> {
        let bit = |at: u8| way >> at & 1 == 1;
        let options = LoadOptions {
            size: bit(0).then_some((5, 4)),
            channels: if bit(1) { Some(if bit(2) { 3 } else { 1 }) } else { None },
            skip_corrupt: bit(3),
            limit: bit(4).then_some(2),
            memory: bit(5).then_some(0),
            cache: Some(self.path("cache")),
            ..LoadOptions::default()
        };
        let splits = asap_data::load(&DataSpec::Path(path.to_owned()), None, &options)?;
        for (_, data) in splits.parts() {
            let classes = data.classes().len();
            assert!(data.labels().iter().all(|&label| usize::from(label) < classes));
            for index in 0..data.len() {
                let size = data.image_shape().iter().product::<usize>();
                data.image(index)
                    .inspect(|image| assert_eq!(image.len(), size))
                    .map(drop)
                    .or_else(|error| if bit(5) { Ok(()) } else { Err(error) })?;
            }
        }
        Ok(splits)
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// Splits off `N` bytes.
pub fn head<const N: usize>(data: &[u8]) -> Option<([u8; N], &[u8])> {
    data.split_first_chunk().map(|(head, rest)| (*head, rest))
}

/// Splits off a piece behind its length, two bytes; a shorter rest is a piece, too.
pub fn piece(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = head::<2>(data)?;
    Some(rest.split_at(usize::from(u16::from_le_bytes(length)).min(rest.len())))
}

/// CRC-32.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A gzip file.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
}

/// A zlib stream.
pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
}

/// A zip archive of these files, not compressed.
pub fn zip(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let at = out.len() as u32;
        let (size, name_length) = (bytes.len() as u32, name.len() as u16);
        let mut common = [20u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat();
        common.extend([crc32(bytes), size, size].map(u32::to_le_bytes).concat());
        common.extend([name_length, 0].map(u16::to_le_bytes).concat());
        out.extend([&b"PK\x03\x04"[..], &common, name, bytes].concat());
        let after = [&[0; 6][..], &0o100_644_u32.to_le_bytes(), &at.to_le_bytes()].concat();
        central.extend([&b"PK\x01\x02\x14\x03"[..], &common, &after, name].concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let [size, at] = [central.len(), out.len()].map(|n| (n as u32).to_le_bytes());
    [&out, &central, &b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size, &at, &[0, 0]].concat()
}

/// Corrects the checksums of a tar archive's headers, as far as their sizes lead from one to the next.
pub fn fix_tar(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + 512) {
        if header.iter().all(|&byte| byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..136]).unwrap_or_default();
        let size = size.trim_matches(['\0', ' ']);
        let size = usize::from_str_radix(size, 8).unwrap_or(0).min(tar.len());
        at += 512 + size.next_multiple_of(512);
    }
}
