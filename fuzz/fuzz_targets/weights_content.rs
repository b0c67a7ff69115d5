//! The description of a trained network, in a file with the right checksum: with the tensors that it asks for if they are few, else
//! with one. The network is used if its images are small.
#![no_main]

use std::sync::LazyLock;

use asap_core::plan::Plan;
use asap_fuzz::Folder;
use asap_net::trained::NetworkCard;
use asap_net::{DeviceName, Parameters, TrainedNetwork, tensor_file};
use libfuzzer_sys::fuzz_target;

/// Most weights, and multiply-adds, of a network that is run.
const MOST: u64 = 100_000;

static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fuzz_target!(|data: &[u8]| {
    let Ok(card) = serde_json::from_slice::<NetworkCard>(data) else { return };
    let plan = Plan::of(&card.design, &card.shape, false).ok();
    let plan = plan.filter(|plan| plan.cost().params < MOST && plan.layers.len() < 1000);
    let values = match &plan {
        Some(plan) => {
            let device = DeviceName::Cpu.open().expect("every machine has one");
            Parameters::new(plan, &device, 0).values()
        }
        None => [("a".to_owned(), (vec![1], vec![0.5]))].into(),
    };
    let path = FOLDER.path("weights.safetensors");
    tensor_file::save(&path, &card, &values).expect("a file in memory");
    let Ok(network) = TrainedNetwork::open(&path, DeviceName::Cpu) else { return };
    if plan.is_some_and(|plan| plan.cost().multiply_adds < MOST) {
        let pixels = network.image_shape().iter().product::<usize>();
        if let Ok(rows) = network.averaging_flips(data.len() % 2 == 0).predict(&vec![7; pixels]) {
            assert_eq!(rows[0].len(), card.classes.len());
        }
    }
});
