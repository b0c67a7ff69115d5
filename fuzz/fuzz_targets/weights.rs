//! A file of tensors as it is, as a trained network and as the checkpoint of a search. Files of the first format have no checksum.
#![no_main]

use std::sync::LazyLock;

use asap::run::checkpoint::State;
use asap_fuzz::Folder;
use asap_net::{DeviceName, TrainedNetwork, tensor_file};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.write("weights.safetensors", data);
    let _ = TrainedNetwork::open(&path, DeviceName::Cpu);
    let _ = tensor_file::load::<State>(&path);
});
