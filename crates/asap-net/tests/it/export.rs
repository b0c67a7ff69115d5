//! The PyTorch module. The ONNX graph is run by another engine in `interop/tract`.

use asap_core::plan::Body;
use asap_core::{Design, Family, Stem};
use asap_net::export::pytorch;

use crate::small::{NAS_BENCH_201, plain, published};
use crate::trained::network;

#[test]
fn averaged_flips_are_the_same_for_an_image_and_its_mirror_image() {
    let network = network(published("ASAP"), Stem::Small, [6, 5]);
    let image: Vec<u8> = (0..6 * 5 * 3).map(|i| (i * 7919 % 251) as u8).collect();
    let mirror: Vec<u8> =
        image.chunks(5 * 3).flat_map(|row| row.rchunks(3)).flatten().copied().collect();
    let both = [network.logits(&image).unwrap(), network.logits(&mirror).unwrap()];
    assert_ne!(both[0], both[1]);
    let mean = both[0][0].iter().zip(&both[1][0]).map(|(a, b)| 0.5 * (a + b));
    let mean: Vec<f32> = mean.collect();
    let network = network.averaging_flips(true);
    for image in [&image, &mirror] {
        let found = network.logits(image).unwrap().remove(0);
        assert!(found.iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {mean:?}");
    }
}

#[test]
fn the_pytorch_module_has_a_line_per_layer_and_names_every_tensor() {
    let cell = |text: &str| Design::Cells(text.parse().unwrap());
    for design in [
        published("ASAP").into(),
        published("SNAS_aggressive").into(),
        cell(NAS_BENCH_201),
        plain("mobilenet-8"),
        plain("resnet-9"),
        plain("resnet-8"),
    ] {
        let network = network(design, Stem::Small, [9, 7]);
        let module = pytorch(&network, "best \"weights\".safetensors");
        let lines: Vec<&str> = module.lines().collect();
        for constant in [
            r#"WEIGHTS = "best \"weights\".safetensors""#,
            "IMAGE = (3, 9, 7)",
            r#"CLASSES = ["class 0", "class 1", "class 2", "class 3"]"#,
            "MEAN = [0.4, 0.5, 0.6]",
            "STD = [0.2, 0.25, 0.3]",
            &format!("LOGITS = {}", network.plan().logits),
            "FLIPS = False",
            &format!("# {}", network.card().design),
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
