//! Scheduled drop-path.

use asap_core::Operation;
use asap_core::plan::{Body, Plan};
use asap_net::engine::Engine;
use asap_net::network::Network;
use asap_net::parameters::Parameters;
use asap_net::pass::{DropPath, Mode, Pass};
use burn::tensor::Device;

use crate::small::{
    NAS_BENCH_201, assert_alike, evaluate, host, images, networks, operation, published, shape,
    weight_pass,
};

const DROP_PATH: DropPath = DropPath { probability: 0.3, seed: 11, step: 5, first: 0 };
const SIZE: [usize; 2] = [9, 7];

/// The network of the paper's cell with an auxiliary head, and one of NAS-Bench-201.
fn plans() -> [Plan; 2] {
    let darts = Plan::evaluation(&published("ASAP"), &shape(5, 4, SIZE), true);
    let nas_bench_201 =
        Plan::evaluation(&NAS_BENCH_201.parse().unwrap(), &shape(5, 4, SIZE), false);
    [darts.unwrap(), nas_bench_201.unwrap()]
}

fn fused(plan: &Plan) -> (Network, Parameters) {
    let network = Network::new(plan.clone(), Engine::new(&Device::flex()));
    let parameters = network.parameters(&Device::flex(), 3);
    (network, parameters)
}

#[test]
fn engines_agree_under_drop_path() {
    for plan in plans() {
        let [whole, dropped] = [None, Some(DROP_PATH)].map(|drop_path| {
            networks(&plan, 3).map(|(network, parameters)| {
                weight_pass(&network, &parameters, images(12, SIZE), &[], drop_path)
            })
        });
        assert_ne!(whole[0][0], dropped[0][0], "something must drop out");
        assert_alike("dropped", &dropped[0], &dropped[1], 2e-4);
    }
}

#[test]
fn drop_path_is_the_same_on_any_number_of_threads() {
    for plan in plans() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (network, parameters) = fused(&plan);
                weight_pass(&network, &parameters, images(12, SIZE), &[], Some(DROP_PATH))
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "bit-identical");
    }
}

#[test]
fn drop_path_of_zero_and_in_evaluation_is_none_to_the_bit() {
    for plan in plans() {
        let (network, parameters) = fused(&plan);
        let run = |drop_path| weight_pass(&network, &parameters, images(12, SIZE), &[], drop_path);
        assert_eq!(run(Some(DropPath { probability: 0.0, ..DROP_PATH })), run(None));
        let pass = Pass::new(&parameters, Mode::Evaluation).with_drop_path(Some(DROP_PATH));
        let logits = host(network.forward(&pass, images(4, SIZE), &[]).main);
        assert_eq!(logits, evaluate(&network, &parameters, images(4, SIZE), &[]));
    }
}

/// DARTS `drop_path`: x / keep * mask, after the batch norms of the operation and before the sum.
#[test]
fn an_operation_drops_out_image_by_image_and_the_identity_never() {
    let n = 12;
    for operation in Operation::all() {
        for stride in [1, 2] {
            let plan = self::operation(operation, stride, [5, 4]);
            let stays =
                operation == Operation::None || operation == Operation::SkipConnect && stride == 1;
            for (network, mut parameters) in networks(&plan, 0) {
                let run = |drop_path, parameters: &mut Parameters| {
                    let pass = Pass::new(parameters, Mode::Weights).with_drop_path(drop_path);
                    let x = images(n, [5, 4]).autodiff().require_grad();
                    let y = network.forward(&pass, x.clone(), &[]).main;
                    let Body::Node(node) = &plan.layers[plan.logits].body else { unreachable!() };
                    let weights = pass.image_weights(&node.edges[0], n);
                    let (_, statistics) = pass.finish(&mut (y.clone().sum() + x.sum()).backward());
                    statistics.apply(parameters);
                    (host(y), weights)
                };
                let mut other = parameters.clone();
                let (whole, _) = run(None, &mut other);
                let (found, weights) = run(Some(DROP_PATH), &mut parameters);
                assert_eq!(weights.is_none(), stays, "{operation} of stride {stride}");
                let weights = weights.unwrap_or(vec![1.0; n]);
                let rest = (1.0 / 0.7_f64) as f32;
                assert!(stays || weights.contains(&0.0) && weights.contains(&rest), "{weights:?}");
                assert!(stays || weights.iter().all(|w| [0.0, rest].contains(w)), "{weights:?}");
                let images = whole.chunks(whole.len() / n).zip(found.chunks(found.len() / n));
                for ((whole, found), weight) in images.zip(&weights) {
                    for (w, f) in whole.iter().zip(found) {
                        assert!((w * weight - f).abs() <= 1e-5 * w.abs().max(1.0), "{w} {f}");
                    }
                }
                assert_eq!(parameters.to_named(), other.to_named(), "statistics know no dropping");
            }
        }
    }
}
