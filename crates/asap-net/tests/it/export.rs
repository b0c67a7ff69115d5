//! What other tools read: the ONNX graph, run by another engine, and the PyTorch module.

use std::io::Cursor;

use asap_core::plan::{Body, Plan};
use asap_core::{Family, Genotype, NetworkShape, Stem};
use asap_data::Normalization;
use asap_net::TrainedNetwork;
use asap_net::export::{Input, onnx, pytorch};
use asap_net::parameters::Parameters;
use asap_net::trained::NetworkCard;
use burn::tensor::Device;
use tract_onnx::prelude::*;

use crate::small::{NAS_BENCH_201, published};

/// A network whose batch norms have statistics and an affine part that matter.
fn network(genotype: Genotype, stem: Stem, [height, width]: [usize; 2]) -> TrainedNetwork {
    let (channels, cells, in_channels, classes) = (5, 4, 3, 4);
    let shape = NetworkShape { channels, cells, height, width, in_channels, classes, stem };
    let plan = Plan::evaluation(&genotype, &shape, false).unwrap();
    let mut values = Parameters::new(&plan, &Device::flex(), 7).values();
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
    // Behind a cell of NAS-Bench-201 no size is fixed by a stem or a preprocess: odd sizes all the way down, and a node
    // of `none` alone.
    let hollow = "|none~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|";
    let networks = [
        (published("ASAP"), Stem::Small, [9, 7]),
        (published("AmoebaNet"), Stem::Small, [8, 8]),
        (published("SNAS_aggressive"), Stem::Small, [10, 11]),
        (published("NASNet"), Stem::Large, [33, 37]),
        (NAS_BENCH_201.parse().unwrap(), Stem::Small, [9, 7]),
        (hollow.parse().unwrap(), Stem::Small, [10, 13]),
    ];
    for (cell, stem, [height, width]) in networks {
        let network = network(cell.clone(), stem, [height, width]);
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

#[test]
fn the_pytorch_module_has_a_line_per_layer_and_names_every_tensor() {
    for cell in [published("ASAP"), published("SNAS_aggressive"), NAS_BENCH_201.parse().unwrap()] {
        let network = network(cell, Stem::Small, [9, 7]);
        let module = pytorch(&network, "best \"weights\".safetensors");
        let lines: Vec<&str> = module.lines().collect();
        for constant in [
            r#"WEIGHTS = "best \"weights\".safetensors""#,
            "IMAGE = (3, 9, 7)",
            r#"CLASSES = ["class 0", "class 1", "class 2", "class 3"]"#,
            "MEAN = [0.4, 0.5, 0.6]",
            "STD = [0.2, 0.25, 0.3]",
            &format!("LOGITS = {}", network.plan().logits),
            &format!("# {}", network.card().genotype),
        ] {
            assert!(lines.contains(&constant), "{constant} in {module}");
        }
        let first = lines.iter().position(|line| line.starts_with("LAYERS = [")).unwrap() + 1;
        let layers = &network.plan().layers;
        for (layer, line) in layers.iter().zip(&lines[first..]) {
            let kind = match layer.body {
                Body::Images => "images",
                Body::Chain { .. } => "chain",
                Body::Node(_) => "node",
                Body::Concat { .. } => "concat",
                _ => "sum",
            };
            let start = format!("    (\"{kind}\", \"{}\", ", layer.name);
            assert!(line.starts_with(&start) && line.ends_with("),"), "{line}, not {start}");
        }
        assert_eq!(lines[first + layers.len()], "]");
        let sums = layers.iter().filter(|layer| matches!(layer.body, Body::Sum { .. })).count();
        assert_eq!(sums > 0, network.plan().family == Family::NasBench201);
        let listed = lines[first..first + layers.len()].concat();
        for parameter in &network.plan().parameters {
            let (path, last) = parameter.name.rsplit_once('.').unwrap();
            let part = [
                "running_mean",
                "running_var",
                "gamma",
                "beta",
                "weight",
                "bias",
                "conv_a",
                "conv_b",
            ]
            .contains(&last);
            let path = if part && !listed.contains(&format!("\"{}\"", parameter.name)) {
                path
            } else {
                &parameter.name
            };
            assert!(listed.contains(&format!("\"{path}\"")), "{}", parameter.name);
        }
    }
}
