//! The exported ONNX graph, run by tract.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;

use asap_core::{Design, Genotype, PublishedCell, Stem};
use asap_data::Normalization;
use asap_net::TrainedNetwork;
use asap_net::export::{Input, onnx};
use tract_onnx::prelude::*;

#[path = "../../../crates/asap-net/tests/it/trained.rs"]
mod trained;

use trained::network;

/// A cell of NAS-Bench-201 with every operation.
const NAS_BENCH_201: &str =
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";

fn published(name: &str) -> Genotype {
    PublishedCell::find(name).unwrap().genotype()
}

fn plain(name: &str) -> Design {
    Design::Plain(name.parse().unwrap())
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
    // Behind a cell of NAS-Bench-201 no size is fixed by a stem or a preprocess: odd sizes all the way down, and a node
    // of `none` alone.
    let hollow = "|none~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|";
    let networks = [
        (Design::from(published("ASAP")), Stem::Small, [9, 7]),
        (plain("resnet-8"), Stem::Small, [9, 7]),
        (plain("mobilenet-14"), Stem::Small, [10, 13]),
        (plain("resnet-9"), Stem::Small, [11, 13]),
        (published("AmoebaNet").into(), Stem::Small, [8, 8]),
        (published("SNAS_aggressive").into(), Stem::Small, [10, 11]),
        (published("NASNet").into(), Stem::Large, [33, 37]),
        (Design::Cells(NAS_BENCH_201.parse().unwrap()), Stem::Small, [9, 7]),
        (Design::Cells(hollow.parse().unwrap()), Stem::Small, [10, 13]),
    ];
    for (design, stem, [height, width]) in networks {
        let mut network = network(design.clone(), stem, [height, width]);
        for (form, flips) in
            [(Input::Normalized, false), (Input::Unit, false), (Input::Normalized, true)]
        {
            network = network.averaging_flips(flips);
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
                assert_eq!(theirs[0].shape(), [count, 4], "{design}");
                let theirs = theirs[0].to_plain_array_view::<f32>().unwrap();
                let pairs = || ours.iter().zip(theirs.iter());
                let spread = ours.iter().fold(0.0, |most: f32, logit| most.max(logit.abs()));
                assert!(spread > 0.1, "{design}: the logits say nothing: {ours:?}");
                let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-4, "{design}, {form:?}, {flips}, {count} images: {worst}");
            }
        }
    }
}
