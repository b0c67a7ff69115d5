//! The exported graph, run by another engine.

use std::io::Cursor;

use asap::TrainedNetwork;
use asap_core::{NetworkShape, PublishedCell, Stem};
use asap_data::Normalization;
use asap_net::export::{Input, onnx};
use asap_net::network::Network;
use asap_net::trained::NetworkCard;
use burn::tensor::Device;
use tract_onnx::prelude::*;

/// A network whose batch norms have statistics and an affine part that matter.
fn network(cell: &str, stem: Stem, [height, width]: [usize; 2]) -> TrainedNetwork {
    let genotype = PublishedCell::find(cell).unwrap().genotype();
    let (channels, cells, in_channels, classes) = (5, 4, 3, 4);
    let shape = NetworkShape { channels, cells, height, width, in_channels, classes, stem };
    let (_, parameters) = Network::new(&genotype, &shape, false, &Device::flex(), 7).unwrap();
    let mut values = parameters.values();
    for (number, (name, (_, values))) in values.iter_mut().enumerate() {
        let varied = |i: usize| ((i * 37 + number * 11) % 23) as f32 / 23.0;
        let base = match name.rsplit('.').next().unwrap() {
            "gamma" | "running_var" => 0.75,
            "beta" | "running_mean" | "bias" => -0.5,
            _ => continue,
        };
        values.iter_mut().enumerate().for_each(|(i, value)| *value = base + varied(i));
    }
    let card = NetworkCard {
        version: String::new(),
        genotype,
        shape,
        classes: (0..classes).map(|class| format!("class {class}")).collect(),
        normalization: Normalization { mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.25, 0.3] },
        data: "made up".to_owned(),
    };
    TrainedNetwork::new(card, values, &Device::flex()).unwrap()
}

/// Images `[n, height, width, channels]` of bytes as the graph takes them, `[n, channels, height, width]`.
fn input(network: &TrainedNetwork, images: &[u8], form: Input) -> Tensor {
    let [height, width, channels] = network.image_shape();
    let Normalization { mean, std } = &network.card().normalization;
    let count = images.len() / (height * width * channels);
    tract_ndarray::Array4::from_shape_fn([count, channels, height, width], |(n, c, y, x)| {
        let unit = f32::from(images[((n * height + y) * width + x) * channels + c]) / 255.0;
        if form == Input::Unit { unit } else { (unit - mean[c]) / std[c] }
    })
    .into()
}

#[test]
fn tract_computes_the_logits_of_the_exported_graph() {
    let networks = [
        ("ASAP", Stem::Small, [9, 7]),
        ("AmoebaNet", Stem::Small, [8, 8]),
        ("SNAS_aggressive", Stem::Small, [10, 11]),
        ("NASNet", Stem::Large, [33, 37]),
    ];
    for (cell, stem, [height, width]) in networks {
        let network = network(cell, stem, [height, width]);
        for form in [Input::Normalized, Input::Unit] {
            let graph = tract_onnx::onnx()
                .model_for_read(&mut Cursor::new(onnx(&network, form)))
                .and_then(|graph| graph.into_optimized())
                .and_then(|graph| graph.into_runnable())
                .unwrap();
            for count in [1, 3] {
                let pixels = count * height * width * 3;
                let images: Vec<u8> = (0..pixels).map(|i| (i * 7919 % 251) as u8).collect();
                let ours = network.logits(&images).unwrap().concat();
                let theirs = graph.run(tvec!(input(&network, &images, form).into())).unwrap();
                assert_eq!(theirs[0].shape(), [count, 4], "{cell}");
                let theirs = theirs[0].to_plain_array_view::<f32>().unwrap();
                let pairs = || ours.iter().zip(theirs.iter());
                let spread = ours.iter().fold(0.0, |most: f32, logit| most.max(logit.abs()));
                assert!(spread > 0.1, "{cell}: the logits say nothing: {ours:?}");
                let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-4, "{cell}, {form:?}, {count} images: {worst}");
            }
        }
    }
}
