//! Operations, the whole search network and the optimizers against numbers made by PyTorch
//! (`tests/goldens/make.py`).

use std::collections::BTreeMap;
use std::path::Path;

use asap_core::plan::{
    Body, Init, Layer, Map, MixedEdge, Node, Norms, Parameter, Plan, Primitive, Role, Step,
    factorized_reduce,
};
use asap_core::{
    Adam, CellKind, Choice, Family, Genotype, NetworkShape, Operation, Pruned, PublishedCell,
    SearchSpace, Stem,
};
use asap_net::engine::{Engine, Mixing};
use asap_net::network::Network;
use asap_net::optimizer::Sgd;
use asap_net::parameters::{ParameterId, Parameters};
use asap_net::pass::{Mode, Pass};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Of the largest element, for outputs.
const CLOSE: f32 = 2e-5;
/// Of the largest element, for gradients of a deep network in float32.
const LOOSE: f32 = 2e-4;

/// Tensors by name: shape and values.
struct Goldens(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Goldens {
    fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, view): (String, TensorView<'_>)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => {
                    data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
                }
                Dtype::I64 => data
                    .chunks(8)
                    .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32)
                    .collect(),
                other => panic!("{name}: {other:?}"),
            };
            (name, (view.shape().to_vec(), values))
        };
        Self(file.tensors().into_iter().map(tensor).collect())
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    fn get(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        self.0.get(name).cloned()
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

/// Everything is checked twice: on our kernels, and composed of Burn's operations.
fn engines() -> [Engine; 2] {
    [Engine::new(&Device::flex()), Engine::composed()]
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

/// A plan of this input alone.
fn images(channels: usize) -> Plan {
    Plan::of_images(Family::Darts, Map { channels, height: 8, width: 8 })
}

/// Forward, input gradient, weight gradients and running statistics of a plan that ends in a map.
fn check_layer(goldens: &Goldens, prefix: &str, plan: &Plan, root: &str) {
    engines().into_iter().for_each(|engine| check_with(goldens, prefix, plan, root, engine));
}

fn check_with(goldens: &Goldens, prefix: &str, plan: &Plan, root: &str, engine: Engine) {
    let network = Network::new(plan.clone(), engine);
    let mut parameters = network.parameters(&Device::flex(), 0);
    goldens.load(&mut parameters, prefix, root);
    let dims = goldens.map(&format!("{prefix}y")).dims();
    let forward = |pass: &Pass<'_>, x| network.forward(pass, x, &[]).main.reshape(dims);
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
        goldens.names().filter(|n| n.starts_with(&format!("{prefix}grad."))).count();
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

/// An edge of one operation into a node.
fn node_of(operation: Operation, channels: usize, stride: usize, norms: Norms) -> Plan {
    let mut plan = images(channels);
    let map = plan.layers[0].output;
    let candidate = plan.candidate((0, operation), "op".to_owned(), map, stride, norms);
    let (name, candidates) = ("edge".to_owned(), vec![candidate]);
    let edge = MixedEdge { name, input: 0, stride, row: None, columns: 1, candidates };
    let node = Node { kind: CellKind::Normal, edges: vec![edge], partial: 1 };
    plan.logits = plan.layer("node".to_owned(), map.strided(stride), Body::Node(node));
    plan
}

#[test]
fn operations_match_pytorch() {
    let goldens = Goldens::open("ops.safetensors");
    let search = Norms { affine: false, after_pool: true };
    let evaluation = Norms { affine: true, after_pool: false };
    let mut checked = 0;
    for operation in Operation::all().filter(|&o| o != Operation::None) {
        for stride in [1, 2] {
            for (prefix, norms) in [
                (format!("{operation}.s{stride}.even."), search),
                (format!("{operation}.s{stride}.odd."), search),
                (format!("affine.{operation}.s{stride}.odd."), evaluation),
            ] {
                let Some((shape, _)) = goldens.get(&format!("{prefix}x")) else { continue };
                let plan = node_of(operation, shape[1], stride, norms);
                check_layer(&goldens, &prefix, &plan, "op.");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 9 * 4 + 5 * 2);
}

fn shape(channels: usize, in_channels: usize, stem: Stem) -> NetworkShape {
    NetworkShape { channels, cells: 3, height: 8, width: 8, in_channels, classes: 3, stem }
}

/// The first layers of the paper's search network.
fn stem(channels: usize, in_channels: usize, stem: Stem, layers: usize) -> Plan {
    let space = SearchSpace::of(Family::Darts);
    let mut plan = Plan::search(&space, &shape(channels, in_channels, stem)).unwrap();
    plan.layers.truncate(1 + layers);
    (plan.logits, plan.auxiliary) = (layers, None);
    plan
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
            let mut plan = images(10);
            plan.logits = plan.chain("p", 0, |chain| match halve {
                true => factorized_reduce(chain, c_out, false),
                false => chain.relu().pointwise("conv", c_out).norm("bn", false),
            });
            check_layer(&goldens, &prefix, &plan, "p.");
        }
    }
    check_layer(&goldens, "stem.", &stem(4, 2, Stem::Small, 1), "stem.");
}

#[test]
fn large_stem_matches_pytorch() {
    let (goldens, prefix) = (Goldens::open("network.safetensors"), "large_stem.");
    let key = |name: &str| format!("{prefix}{name}");
    // The second and third step are the inputs of the first cell; the third reads the second, whose map is then free.
    let mut plan = stem(5, 2, Stem::Large, 3);
    let second = plan.layers[2].output;
    plan.logits = plan.layer("second".to_owned(), second, Body::Sum { inputs: vec![2] });
    plan.auxiliary = Some(3);
    for engine in engines() {
        let network = Network::new(plan.clone(), engine);
        let mut parameters = network.parameters(&Device::flex(), 0);
        goldens.load(&mut parameters, prefix, "stem.");
        let x = goldens.map(&key("x")).autodiff().require_grad();
        let pass = Pass::new(&parameters, Mode::Weights);
        let found = network.forward(&pass, x.clone(), &[]);
        let first = found.main.reshape([3, 3, 5, 5]);
        let second = found.auxiliary.unwrap().reshape([3, 2, 3, 5]);
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
    let mut plan = images(6);
    plan.logits = plan.chain("head", 0, |chain| chain.global_pool().linear(7));
    for engine in engines() {
        let network = Network::new(plan.clone(), engine);
        let mut parameters = network.parameters(&Device::flex(), 0);
        goldens.load(&mut parameters, "head.", "head.");
        let x = goldens.map("head.x").autodiff().require_grad();
        let pass = Pass::new(&parameters, Mode::Weights);
        let logits = network.forward(&pass, x.clone(), &[]).main;
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

/// A step on the weights, one on alpha and an evaluation of a search network: loss, gradients of the weights and of the
/// mixing weights (flat, kind by kind), statistics. `tables` are the mixing weights of each kind.
fn check_search(
    goldens: &Goldens,
    prefix: &str,
    network: &Network,
    mut parameters: Parameters,
    tables: &[Vec<f32>],
) {
    let key = |name: &str| format!("{prefix}{name}");
    let (x, labels) = (goldens.map(&key("x")), goldens.values(&key("labels")));
    let logits = goldens.values(&key("logits"));
    let mixing = |track: bool| -> Vec<Mixing> {
        let of = |table: &Vec<f32>| {
            let mixing = Mixing::new(table, &Device::flex());
            if track { mixing.tracked() } else { mixing }
        };
        tables.iter().map(of).collect()
    };
    goldens.load(&mut parameters, prefix, "");
    let pass = Pass::new(&parameters, Mode::Weights);
    let found = network.forward(&pass, x.clone(), &mixing(false)).main;
    assert_close(&key("logits"), &host(found.clone()), &logits, CLOSE);
    let loss = cross_entropy(found, &labels);
    assert_close(&key("loss"), &host(loss.clone()), &goldens.values(&key("loss")), CLOSE);
    let mut gradients = loss.backward();
    let (weights, statistics) = pass.finish(&mut gradients);
    let names: Vec<&String> = goldens.names().filter(|n| n.starts_with(&key("grad."))).collect();
    assert_eq!(weights.len(), names.len());
    let size = |values: &[f32]| values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    let largest = names.iter().map(|name| size(&goldens.values(name))).fold(0.0, f32::max);
    for (id, gradient) in weights {
        let name = key(&format!("grad.{}", parameters.get(id).name));
        let (found, expected) = (host(gradient), goldens.values(&name));
        if size(&expected) < 1e-9 {
            // A shift before a batch norm, whose gradient is all rounding.
            assert!(size(&found) < 1e-6 * largest, "{name}: expected 0, found {found:?}");
        } else {
            assert_close(&name, &found, &expected, LOOSE);
        }
    }

    // A step on alpha: the same loss, the gradient of each mixing weight, nothing else.
    if !tables.is_empty() {
        let pass = Pass::new(&parameters, Mode::Architecture);
        let tracked = mixing(true);
        let found = network.forward(&pass, x.clone(), &tracked).main;
        assert_close(&key("logits"), &host(found.clone()), &logits, CLOSE);
        let mut gradients = cross_entropy(found, &labels).backward();
        let by_weight: Vec<f32> =
            tracked.iter().flat_map(|m| host(m.tensor().grad(&gradients).unwrap())).collect();
        let expected = goldens.values(&key("grad_mixing"));
        assert_close(&key("grad_mixing"), &by_weight, &expected, LOOSE);
        assert!(pass.finish(&mut gradients).0.is_empty());
    }

    statistics.apply(&mut parameters);
    check_statistics(goldens, prefix, &parameters, "");
    let pass = Pass::new(&parameters, Mode::Evaluation);
    let found = network.forward(&pass, x, &mixing(false)).main;
    let expected = goldens.values(&key("logits_eval"));
    assert_close(&key("logits_eval"), &host(found), &expected, LOOSE);
}

#[test]
fn search_network_matches_pytorch() {
    let goldens = Goldens::open("supernet.safetensors");
    let space = SearchSpace::of(Family::Darts);
    for (configuration, cells) in [("a", 3), ("b", 4)] {
        let prefix = format!("{configuration}.");
        let key = |name: &str| format!("{prefix}{name}");
        let [_, height, width, in_channels] = goldens.map(&key("x")).dims();
        let shape = NetworkShape {
            channels: goldens.values(&key("param.stem.conv")).len() / (3 * 9 * in_channels),
            cells,
            in_channels,
            height,
            width,
            classes: goldens.get(&key("logits")).unwrap().0[1],
            stem: Stem::Small,
        };
        let alive = goldens.values(&key("alive"));
        let mut pruned = Vec::new();
        for (k, &kind) in space.kinds().iter().enumerate() {
            for edge in space.edges() {
                for (candidate, &operation) in space.candidates.iter().enumerate() {
                    if alive[(k * 14 + edge.index) * 7 + candidate] == 0.0 {
                        let operation = Some(operation);
                        pruned.push(Pruned { kind, edge, operation });
                    }
                }
            }
        }
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
        let tables: Vec<Vec<f32>> = phi.chunks(98).map(<[f32]>::to_vec).collect();
        for engine in engines() {
            let mut network = Network::new(Plan::search(&space, &shape).unwrap(), engine);
            let mut parameters = network.parameters(&Device::flex(), 0);
            network.prune(&mut parameters, &pruned);
            check_search(&goldens, &prefix, &network, parameters, &tables);
        }
        check_alpha_gradient(&goldens, &prefix, &alive, temperature);
    }
}

#[test]
fn nas_bench_201_matches_pytorch() {
    let goldens = Goldens::open("nas_bench_201.safetensors");
    let family = Family::NasBench201;
    let space = SearchSpace::new(family, 3, family.operations().to_vec()).unwrap();
    let cell =
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";
    let genotype: Genotype = cell.parse().unwrap();
    let stem = Stem::Small;
    let shape = NetworkShape {
        channels: 4,
        cells: 4,
        height: 9,
        width: 7,
        in_channels: 2,
        classes: 3,
        stem,
    };
    let mixing = goldens.values("search.mixing");
    for engine in engines() {
        for (prefix, plan, tables) in [
            ("search.", Plan::search(&space, &shape), vec![mixing.clone()]),
            ("network.", Plan::evaluation(&genotype, &shape, false), vec![]),
        ] {
            let network = Network::new(plan.unwrap(), engine.clone());
            let parameters = network.parameters(&Device::flex(), 0);
            check_search(&goldens, prefix, &network, parameters, &tables);
        }
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
    let (channels, cells, classes, stem) = (6, 5, 3, Stem::Small);
    let shape = NetworkShape { channels, cells, height, width, in_channels, classes, stem };
    for engine in engines() {
        let network = Network::new(Plan::evaluation(&genotype, &shape, true).unwrap(), engine);
        let mut parameters = network.parameters(&Device::flex(), 0);
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
        let found = network.forward(&pass, x.clone(), &[]);
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
        assert_eq!(weights.len(), goldens.names().filter(stored).count());
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
        let logits = network.forward(&Pass::new(&parameters, Mode::Evaluation), x.clone(), &[]);
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

/// Weights of these shapes.
fn table(shapes: [Vec<usize>; 3]) -> Parameters {
    let mut plan = images(1);
    plan.parameters = shapes
        .into_iter()
        .enumerate()
        .map(|(k, shape)| {
            let init = Init::Constant(0.0);
            Parameter { name: k.to_string(), shape, role: Role::Weight, init }
        })
        .collect();
    let map = plan.layers[0].output;
    let step = Step { primitive: Primitive::Relu, input: map, output: map, parameters: 0..3 };
    let body = Body::Chain { input: 0, steps: vec![step] };
    plan.layers.push(Layer { name: "all".to_owned(), output: map, body });
    Parameters::new(&plan, &Device::flex(), 0)
}

#[test]
fn sgd_matches_pytorch() {
    let goldens = Goldens::open("optimizers.safetensors");
    for (method, nesterov) in [("sgd", false), ("nesterov", true)] {
        let sgd = Sgd { nesterov, ..Sgd::default() };
        let initial = |k: usize| goldens.get(&format!("{method}.param.{k}.init")).unwrap();
        let mut parameters = table([0, 1, 2].map(|k| initial(k).0));
        let ids = [0, 1, 2];
        for id in ids {
            parameters.set(id, Tensor::from_floats(initial(id).1.as_slice(), &Device::flex()));
        }
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
