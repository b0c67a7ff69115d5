//! Operations, the whole search network and the optimizers against numbers made by PyTorch
//! (`tests/goldens/make.py`).

use std::collections::BTreeSet;
use std::path::Path;

use asap_core::{
    Adam, Choice, NetworkShape, Operation, PublishedCell, SearchSpace, Stem as StemKind,
};
use asap_net::layers::{Candidate, FactorizedReduce, Head, MixedEdge, Norm, Preprocess, Stem};
use asap_net::network::Network;
use asap_net::ops;
use asap_net::optimizer::Sgd;
use asap_net::parameters::{Init, ParameterId, Parameters};
use asap_net::pass::{Mode, Pass};
use asap_net::supernet::Supernet;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};

/// Of the largest element, for outputs.
const CLOSE: f32 = 2e-5;
/// Of the largest element, for gradients of a deep network in float32.
const LOOSE: f32 = 2e-4;

struct Goldens(Vec<u8>);

impl Goldens {
    fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
        Self(std::fs::read(&path).unwrap())
    }

    fn names(&self) -> BTreeSet<String> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.names().into_iter().map(ToString::to_string).collect()
    }

    fn get(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).ok()?;
        let values = match view.dtype() {
            Dtype::F32 => {
                view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            }
            Dtype::I64 => view
                .data()
                .chunks(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32)
                .collect(),
            other => panic!("{name}: {other:?}"),
        };
        Some((view.shape().to_vec(), values))
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.get(name).unwrap_or_else(|| panic!("no golden {name}")).1
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (shape, values) = self.get(name).unwrap_or_else(|| panic!("no golden {name}"));
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    /// A feature map, brought from channels first to channels last.
    fn map(&self, name: &str) -> Tensor<4> {
        self.tensor::<4>(name).permute([0, 2, 3, 1])
    }

    /// Gives each parameter the value that the golden has for it under `prefix`; the goldens' names
    /// start at `root`.
    fn load(&self, parameters: &mut Parameters, prefix: &str, root: &str) {
        let ids: Vec<_> =
            parameters.iter().map(|(id, p)| (id, p.name.clone(), p.shape.clone())).collect();
        for (id, name, shape) in ids {
            let key = format!("{prefix}param.{}", below(&name, root));
            if let Some((golden, values)) = self.get(&key) {
                assert_eq!(golden, shape, "{name}");
                parameters.set(id, Tensor::from_floats(values.as_slice(), &Device::flex()));
            }
        }
    }
}

/// `halves.0.depthwise` of `op.halves.0.depthwise`.
fn below<'a>(name: &'a str, root: &str) -> &'a str {
    name.strip_prefix(root).unwrap()
}

/// Logits that a choice has reached.
fn choice(logits: &[f64]) -> Choice {
    let mut choice = Choice::new(logits.len(), 1);
    choice.descend(&logits.iter().map(|a| -a).collect::<Vec<_>>(), 1.0);
    choice
}

/// Every layer is checked twice: on our kernels, and composed of Burn's operations.
fn tables() -> [Parameters; 2] {
    let parameters = Parameters::new(Device::flex(), 0);
    assert!(parameters.kernels());
    [parameters.clone(), parameters.without_kernels()]
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.without_autodiff().into_data().try_into_vec::<f32>().unwrap()
}

fn channels_first(tensor: Tensor<4>) -> Vec<f32> {
    host(tensor.permute([0, 3, 1, 2]))
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let error = (f - e).abs() / scale;
        assert!(error <= tolerance, "{what}[{i}]: expected {e}, found {f}, off by {error:e}");
    }
}

/// Forward, input gradient, weight gradients and running statistics of one layer.
fn check_layer(
    goldens: &Goldens,
    prefix: &str,
    (mut parameters, root): (Parameters, &str),
    forward: impl Fn(&Pass, Tensor<4>) -> Tensor<4>,
) {
    goldens.load(&mut parameters, prefix, root);
    let x = goldens.map(&format!("{prefix}x")).autodiff().require_grad();
    let pass = Pass::new(&parameters, Mode::Weights);
    let y = forward(&pass, x.clone());
    let value = channels_first(y.clone());
    assert_close(&format!("{prefix}y"), &value, &goldens.values(&format!("{prefix}y")), CLOSE);
    let loss = (y * goldens.map(&format!("{prefix}cotangent"))).sum();
    let mut gradients = loss.backward();
    let grad_x = channels_first(x.grad(&gradients).unwrap());
    let expected = goldens.values(&format!("{prefix}grad_x"));
    assert_close(&format!("{prefix}grad_x"), &grad_x, &expected, CLOSE);
    let (weights, statistics) = pass.finish(&mut gradients);
    let expected: usize =
        goldens.names().iter().filter(|n| n.starts_with(&format!("{prefix}grad."))).count();
    assert_eq!(weights.len(), expected, "{prefix}: number of weight gradients");
    for (id, gradient) in weights {
        let name = format!("{prefix}grad.{}", below(&parameters.get(id).name, root));
        assert_close(&name, &host(gradient), &goldens.values(&name), CLOSE);
    }
    statistics.apply(&mut parameters);
    check_statistics(goldens, prefix, &parameters, root);
    if let Some((_, expected)) = goldens.get(&format!("{prefix}y_eval")) {
        let pass = Pass::new(&parameters, Mode::Evaluation);
        let y = forward(&pass, goldens.map(&format!("{prefix}x")));
        assert_close(&format!("{prefix}y_eval"), &channels_first(y), &expected, CLOSE);
    }
}

fn check_statistics(goldens: &Goldens, prefix: &str, parameters: &Parameters, root: &str) {
    for (_, p) in parameters.iter() {
        for kind in ["running_mean", "running_var"] {
            let Some(bn) = p.name.strip_suffix(&format!(".{kind}")) else { continue };
            let name = format!("{prefix}{kind}.{}", below(bn, root));
            assert_close(&name, &host(p.value.clone()), &goldens.values(&name), CLOSE);
        }
    }
}

#[test]
fn operations_match_pytorch() {
    let goldens = Goldens::open("ops.safetensors");
    let mut checked = 0;
    for operation in Operation::all().filter(|&o| o != Operation::None) {
        for stride in [1, 2] {
            for (prefix, norm) in [
                (format!("{operation}.s{stride}.even."), Norm::Search),
                (format!("{operation}.s{stride}.odd."), Norm::Search),
                (format!("affine.{operation}.s{stride}.odd."), Norm::Evaluation),
            ] {
                let Some((shape, _)) = goldens.get(&format!("{prefix}x")) else { continue };
                for mut parameters in tables() {
                    let size = [shape[1], stride];
                    let candidate =
                        Candidate::new(&mut parameters, "op", (0, operation), size, norm);
                    let edge = MixedEdge {
                        path: "edge".to_owned(),
                        offset: 0,
                        input: 0,
                        stride,
                        candidates: vec![candidate],
                    };
                    check_layer(&goldens, &prefix, (parameters, "op."), |pass, x| {
                        let mixing = Tensor::from_floats([1.0], &Device::flex());
                        ops::mixed_edge(pass, &edge, &x, &mixing, None).unwrap()
                    });
                }
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 9 * 4 + 5 * 2);
}

#[test]
fn preprocess_and_stem_match_pytorch() {
    let goldens = Goldens::open("ops.safetensors");
    for size in ["even", "odd"] {
        for (prefix, c_out, halve) in [
            (format!("relu_conv_bn.10to6.{size}."), 6, false),
            (format!("factorized_reduce.10to6.{size}."), 6, true),
            (format!("factorized_reduce.10to5.{size}."), 5, true),
        ] {
            for mut parameters in tables() {
                let layer = Preprocess::new(&mut parameters, "p", [10, c_out], halve, false);
                assert_eq!(halve, matches!(layer, Preprocess::Reduce(FactorizedReduce { .. })));
                check_layer(&goldens, &prefix, (parameters, "p."), |pass, x| {
                    ops::preprocess(pass, &layer, x)
                });
            }
        }
    }
    for mut parameters in tables() {
        let stem = Stem::new(&mut parameters, StemKind::Small, [2, 4]);
        check_layer(&goldens, "stem.", (parameters, "stem."), |pass, x| {
            let [first, second] = ops::stem(pass, &stem, x);
            assert_eq!(host(first.clone()), host(second));
            first
        });
    }
}

#[test]
fn large_stem_matches_pytorch() {
    let (goldens, prefix) = (Goldens::open("network.safetensors"), "large_stem.");
    let key = |name: &str| format!("{prefix}{name}");
    for mut parameters in tables() {
        let stem = Stem::new(&mut parameters, StemKind::Large, [2, 5]);
        goldens.load(&mut parameters, prefix, "stem.");
        let x = goldens.map(&key("x")).autodiff().require_grad();
        let pass = Pass::new(&parameters, Mode::Weights);
        let [first, second] = ops::stem(&pass, &stem, x.clone());
        assert_eq!([first.dims(), second.dims()], [[3, 3, 5, 5], [3, 2, 3, 5]]);
        for (name, y) in [("y0", &first), ("y1", &second)] {
            let found = channels_first(y.clone());
            assert_close(&key(name), &found, &goldens.values(&key(name)), CLOSE);
        }
        let loss = (first * goldens.map(&key("cotangent0"))).sum()
            + (second * goldens.map(&key("cotangent1"))).sum();
        let mut gradients = loss.backward();
        let grad_x = channels_first(x.grad(&gradients).unwrap());
        assert_close(&key("grad_x"), &grad_x, &goldens.values(&key("grad_x")), LOOSE);
        let (weights, statistics) = pass.finish(&mut gradients);
        assert_eq!(weights.len(), 9);
        for (id, gradient) in weights {
            let name = key(&format!("grad.{}", below(&parameters.get(id).name, "stem.")));
            assert_close(&name, &host(gradient), &goldens.values(&name), LOOSE);
        }
        statistics.apply(&mut parameters);
        check_statistics(&goldens, prefix, &parameters, "stem.");
    }
}

fn cross_entropy(logits: Tensor<2>, labels: &[f32]) -> Tensor<1> {
    let labels: Vec<i64> = labels.iter().map(|&l| l as i64).collect();
    let n = labels.len();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [n, 1]), &Device::flex());
    log_softmax(logits, 1).gather(1, labels).mean().neg()
}

#[test]
fn head_matches_pytorch() {
    let goldens = Goldens::open("ops.safetensors");
    for mut parameters in tables() {
        let head = Head::new(&mut parameters, 6, 7);
        goldens.load(&mut parameters, "head.", "head.");
        let x = goldens.map("head.x").autodiff().require_grad();
        let pass = Pass::new(&parameters, Mode::Weights);
        let logits = ops::head(&pass, &head, x.clone());
        assert_close("logits", &host(logits.clone()), &goldens.values("head.logits"), CLOSE);
        let loss = cross_entropy(logits, &goldens.values("head.labels"));
        assert_close("loss", &host(loss.clone()), &goldens.values("head.loss"), CLOSE);
        let mut gradients = loss.backward();
        let grad_x = channels_first(x.grad(&gradients).unwrap());
        assert_close("grad_x", &grad_x, &goldens.values("head.grad_x"), CLOSE);
        let (weights, _) = pass.finish(&mut gradients);
        assert_eq!(weights.len(), 2);
        for (id, gradient) in weights {
            let name = format!("head.grad.{}", below(&parameters.get(id).name, "head."));
            assert_close(&name, &host(gradient), &goldens.values(&name), CLOSE);
        }
    }
}

#[test]
fn search_network_matches_pytorch() {
    let goldens = Goldens::open("supernet.safetensors");
    for (configuration, cells, kernels) in
        [("a", 3, true), ("b", 4, true), ("a", 3, false), ("b", 4, false)]
    {
        let prefix = format!("{configuration}.");
        let key = |name: &str| format!("{prefix}{name}");
        let x = goldens.map(&key("x"));
        let [_, height, width, image_channels] = x.dims();
        let (logits_shape, logits) = goldens.get(&key("logits")).unwrap();
        let shape = NetworkShape {
            channels: goldens.values(&key("param.stem.conv")).len() / (3 * 9 * image_channels),
            cells,
            in_channels: image_channels,
            height,
            width,
            classes: logits_shape[1],
            stem: StemKind::Small,
        };
        let space = SearchSpace::default();
        let (mut supernet, mut parameters) =
            Supernet::new(&shape, &space, &Device::flex(), 0).unwrap();
        if !kernels {
            parameters = parameters.without_kernels();
        }
        let alive = goldens.values(&key("alive"));
        supernet.retain(&mut parameters, |kind, edge, candidate| {
            alive[(kind as usize * 14 + edge.index) * 7 + candidate] == 1.0
        });
        goldens.load(&mut parameters, &prefix, "");

        let temperature = f64::from(goldens.values(&key("temperature"))[0]);
        let alpha = goldens.values(&key("alpha"));
        let phi: Vec<f32> = alpha
            .chunks(7)
            .zip(alive.chunks(7))
            .flat_map(|(alpha, alive)| {
                let weight = |(a, alive): (&f32, &f32)| {
                    f64::from(*alive) * (f64::from(*a) / temperature).exp()
                };
                let weights: Vec<f64> = alpha.iter().zip(alive).map(weight).collect();
                let sum: f64 = weights.iter().sum();
                weights.into_iter().map(move |w| (w / sum) as f32)
            })
            .collect();
        let mixing = |track: bool| {
            [0, 1].map(|kind| {
                let phi = Tensor::<1>::from_floats(&phi[kind * 98..][..98], &Device::flex());
                if track { phi.autodiff().require_grad() } else { phi }
            })
        };

        // A step on the weights: loss, gradients, statistics.
        let labels = goldens.values(&key("labels"));
        let pass = Pass::new(&parameters, Mode::Weights);
        let found = supernet.forward(&pass, x.clone(), &mixing(false));
        assert_close(&key("logits"), &host(found.clone()), &logits, CLOSE);
        let loss = cross_entropy(found, &labels);
        assert_close(&key("loss"), &host(loss.clone()), &goldens.values(&key("loss")), CLOSE);
        let mut gradients = loss.backward();
        let (weights, statistics) = pass.finish(&mut gradients);
        let expected = goldens.names().iter().filter(|n| n.starts_with(&key("grad."))).count();
        assert_eq!(weights.len(), expected);
        for (id, gradient) in weights {
            let name = key(&format!("grad.{}", parameters.get(id).name));
            assert_close(&name, &host(gradient), &goldens.values(&name), LOOSE);
        }

        // A step on alpha: the same loss, the gradient of each mixing weight, nothing else.
        let pass = Pass::new(&parameters, Mode::Architecture);
        let tracked = mixing(true);
        let found = supernet.forward(&pass, x.clone(), &tracked);
        assert_close(&key("logits"), &host(found.clone()), &logits, CLOSE);
        let mut gradients = cross_entropy(found, &labels).backward();
        let by_weight: Vec<f32> =
            tracked.iter().flat_map(|m| host(m.grad(&gradients).unwrap())).collect();
        let expected = goldens.values(&key("grad_mixing"));
        assert_close(&key("grad_mixing"), &by_weight, &expected, LOOSE);
        assert!(pass.finish(&mut gradients).0.is_empty());

        statistics.apply(&mut parameters);
        check_statistics(&goldens, &prefix, &parameters, "");
        let pass = Pass::new(&parameters, Mode::Evaluation);
        let found = supernet.forward(&pass, x, &mixing(false));
        let expected = goldens.values(&key("logits_eval"));
        assert_close(&key("logits_eval"), &host(found), &expected, LOOSE);

        check_alpha_gradient(&goldens, &prefix, &alive, temperature);
    }
}

/// The mean over the images of `(1 - smoothing) * -log p(label) + smoothing * mean of -log p`.
fn smoothed(logits: Tensor<2>, labels: &[f32], smoothing: f32) -> Tensor<1> {
    let uniform = log_softmax(logits.clone(), 1).mean().neg();
    cross_entropy(logits, labels) * (1.0 - smoothing) + uniform * smoothing
}

#[test]
fn evaluation_network_matches_pytorch() {
    let goldens = Goldens::open("network.safetensors");
    let prefix = "network.";
    let key = |name: &str| format!("{prefix}{name}");
    let x = goldens.map(&key("x"));
    let genotype = PublishedCell::find("ASAP").unwrap().genotype();
    let [_, height, width, in_channels] = x.dims();
    let (channels, cells, classes, stem) = (6, 5, 3, StemKind::Small);
    let shape = NetworkShape { channels, cells, height, width, in_channels, classes, stem };
    for kernels in [true, false] {
        let (network, mut parameters) =
            Network::new(&genotype, &shape, true, &Device::flex(), 0).unwrap();
        if !kernels {
            parameters = parameters.without_kernels();
        }
        goldens.load(&mut parameters, prefix, "");
        let large: Vec<(ParameterId, usize)> = parameters
            .iter()
            .filter(|(_, p)| p.shape.iter().product::<usize>() >= 10_000)
            .map(|(id, p)| (id, p.shape.iter().product()))
            .collect();
        for (id, count) in large {
            let element = |i: usize| ((i * 7919 % 1009) as f32 - 504.0) / 8192.0;
            let values: Vec<f32> = (0..count).map(element).collect();
            parameters.set(id, Tensor::from_floats(values.as_slice(), &Device::flex()));
        }

        let labels = goldens.values(&key("labels"));
        let pass = Pass::new(&parameters, Mode::Weights);
        let found = network.forward(&pass, x.clone());
        let auxiliary = found.auxiliary.unwrap();
        for (name, logits) in [("logits", &found.main), ("auxiliary_logits", &auxiliary)] {
            let found = host(logits.clone());
            assert_close(&key(name), &found, &goldens.values(&key(name)), CLOSE);
        }
        let loss = smoothed(found.main, &labels, 0.1) + smoothed(auxiliary, &labels, 0.1) * 0.4;
        assert_close(&key("loss"), &host(loss.clone()), &goldens.values(&key("loss")), CLOSE);
        let mut gradients = loss.backward();
        let (weights, statistics) = pass.finish(&mut gradients);
        let stored = |n: &&String| n.starts_with("network.grad.") || n.contains(".sampled_grad.");
        assert_eq!(weights.len(), goldens.names().iter().filter(stored).count());
        for (id, gradient) in weights {
            let name = &parameters.get(id).name;
            let (found, name) = match goldens.get(&key(&format!("sampled_grad.{name}"))) {
                None => (host(gradient), key(&format!("grad.{name}"))),
                Some(_) => {
                    let sampled = host(gradient).into_iter().step_by(97).collect();
                    (sampled, key(&format!("sampled_grad.{name}")))
                }
            };
            assert_close(&name, &found, &goldens.values(&name), LOOSE);
        }

        statistics.apply(&mut parameters);
        check_statistics(&goldens, prefix, &parameters, "");
        let logits = network.forward(&Pass::new(&parameters, Mode::Evaluation), x.clone());
        assert!(logits.auxiliary.is_none());
        let expected = goldens.values(&key("logits_eval"));
        assert_close(&key("logits_eval"), &host(logits.main), &expected, LOOSE);
    }
}

/// Equation 4 with the 1/T that it drops: from the gradient of phi to that of alpha.
fn check_alpha_gradient(goldens: &Goldens, prefix: &str, alive: &[f32], temperature: f64) {
    let alpha = goldens.values(&format!("{prefix}alpha"));
    let by_weight = goldens.values(&format!("{prefix}grad_mixing"));
    let expected = goldens.values(&format!("{prefix}grad_alpha"));
    for edge in 0..28 {
        let row = edge * 7..edge * 7 + 7;
        let logits: Vec<f64> = alpha[row.clone()].iter().map(|&a| f64::from(a)).collect();
        let mut choice = choice(&logits);
        for (candidate, &alive) in alive[row.clone()].iter().enumerate() {
            if alive == 0.0 {
                assert!(choice.remove(candidate));
            }
        }
        let weights: Vec<f64> = by_weight[row.clone()].iter().map(|&g| f64::from(g)).collect();
        let found: Vec<f32> =
            choice.logit_gradient(&weights, temperature).iter().map(|&g| g as f32).collect();
        assert_close(&format!("{prefix}grad_alpha[{edge}]"), &found, &expected[row], LOOSE);
    }
}

#[test]
fn sgd_matches_pytorch() {
    let goldens = Goldens::open("optimizers.safetensors");
    for (method, nesterov) in [("sgd", false), ("nesterov", true)] {
        let sgd = Sgd { momentum: 0.9, weight_decay: 3e-4, gradient_clip: 5.0, nesterov };
        let mut parameters = Parameters::new(Device::flex(), 0);
        let ids = [0, 1, 2].map(|k| {
            let (shape, values) = goldens.get(&format!("{method}.param.{k}.init")).unwrap();
            let id = parameters.weight(k.to_string(), &shape, Init::Constant(0.0));
            parameters.set(id, Tensor::from_floats(values.as_slice(), &Device::flex()));
            id
        });
        let rates = goldens.values(&format!("{method}.lr"));
        let norms = goldens.values(&format!("{method}.grad_norm"));
        for (step, (&lr, &norm)) in rates.iter().zip(&norms).enumerate() {
            let gradient = |k| {
                let values = goldens.values(&format!("{method}.grad.{step}.{k}"));
                Tensor::from_floats(values.as_slice(), &Device::flex())
            };
            let gradients = ids.iter().enumerate().map(|(k, &id)| (id, gradient(k))).collect();
            let found = sgd.step(&mut parameters, gradients, f64::from(lr));
            assert_close("norm", &[found as f32], &[norm], CLOSE);
            for (k, &id) in ids.iter().enumerate() {
                let name = format!("{method}.param.{k}.after.{step}");
                let found = host(parameters.get(id).value.clone());
                assert_close(&name, &found, &goldens.values(&name), CLOSE);
            }
        }
    }
}

#[test]
fn adam_matches_pytorch() {
    let goldens = Goldens::open("optimizers.safetensors");
    let adam = Adam { lr: f64::from(goldens.values("adam.lr")[0]), ..Adam::default() };
    for k in 0..3 {
        let double = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
        let init = double(goldens.values(&format!("adam.param.{k}.init")));
        let mut choice = choice(&init);
        for step in 0..6 {
            choice.step(&double(goldens.values(&format!("adam.grad.{step}.{k}"))), &adam);
            let found: Vec<f32> = choice.logits().iter().map(|&a| a as f32).collect();
            let name = format!("adam.param.{k}.after.{step}");
            assert_close(&name, &found, &goldens.values(&name), CLOSE);
        }
    }
}
