//! A file in the folder of a run.
#![no_main]

use std::sync::LazyLock;

use asap::jobs::overview;
use asap::run::folder::{CONFIG, EVENTS, GENOTYPE_JSON, RESULT, config_of};
use asap::run::tables::{Comparison, RunResult, TransferTable};
use asap::{Genotype, Layers, Preset, RunFolder, SearchResult, TrainResult};
use asap_fuzz::{Folder, head};
use libfuzzer_sys::fuzz_target;

const FILES: [&str; 4] = [EVENTS, RESULT, GENOTYPE_JSON, CONFIG];

static FOLDER: LazyLock<(Folder, Vec<u8>)> = LazyLock::new(|| {
    let folder = Folder::new();
    let config = Layers::preset(Preset::Quick).resolve().expect("a preset");
    let run = RunFolder::create(&folder.path("run"), &config).expect("a new folder");
    let config = std::fs::read(run.file(CONFIG)).expect("just written");
    (folder, config)
});

fuzz_target!(|data: &[u8]| {
    let Some(([way], content)) = head(data) else { return };
    let (folder, config) = &*FOLDER;
    let name = FILES[usize::from(way & 3)];
    let path = folder.write(&format!("run/{name}"), content);
    let root = folder.path("run");
    let _ = (overview::runs(&root), overview::curves(&root), config_of(&path));
    if let Ok((run, _)) = RunFolder::open(&root) {
        let _ = (run.read_json::<SearchResult>(RESULT), run.read_json::<TrainResult>(RESULT));
        let _ = (run.read_json::<RunResult>(RESULT), run.read_json::<Comparison>(RESULT));
        let _ = (run.read_json::<TransferTable>(RESULT), run.read_json::<Genotype>(GENOTYPE_JSON));
    }
    match name {
        CONFIG => drop(folder.write(&format!("run/{CONFIG}"), config)),
        _ => std::fs::remove_file(path).expect("just written"),
    }
});
