//! A configuration file, and its lines as `--set` gets them.
#![no_main]

use std::sync::LazyLock;

use asap::{Layers, Preset};
use asap_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

/// Lines that are set.
const LINES: usize = 3;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.write("a.toml", data);
    let preset = Preset::ALL[data.len() % Preset::ALL.len()];
    let mut layers = Layers::preset(preset);
    if layers.file(&path).is_ok() {
        let _ = (layers.effective(), layers.resolve());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut layers = Layers::preset(preset);
    let set = text.lines().take(LINES).filter(|line| layers.set(line).is_ok()).count();
    if set > 0 {
        let _ = (layers.effective(), layers.resolve());
    }
});
