//! What an engine keeps between passes never shows.

use asap_core::plan::Plan;
use asap_core::{Family, Genotype, MixingTables, SearchSpace};
use asap_net::engine::{Engine, Mixing};
use asap_net::network::{Network, mixing_tensors};
use asap_net::parameters::Parameters;
use burn::tensor::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::small::{assert_alike, evaluate, images, networks, shape, weight_pass};

const SIZE: [usize; 2] = [9, 7];

/// Mixing weights that differ from edge to edge and from operation to operation.
fn mixing(space: &SearchSpace, step: f64) -> Vec<Mixing> {
    let row = |edge: usize| {
        let weight = |i: usize| 0.1 + step * ((edge * 5 + i * 3) % 7) as f64;
        (0..space.candidates.len()).map(weight).collect::<Vec<f64>>()
    };
    let table = || (0..space.edge_count()).map(row).collect();
    let tables: MixingTables = space.kinds().iter().map(|_| table()).collect();
    mixing_tensors(&tables, &Device::flex())
}

fn search_network(space: &SearchSpace) -> (Network, Parameters) {
    let plan = Plan::search(space, &shape(4, 3, SIZE)).unwrap();
    let network = Network::new(plan, Engine::new(&Device::flex()));
    let parameters = network.parameters(&Device::flex(), 3);
    (network, parameters)
}

#[test]
fn inference_follows_every_change_of_parameters_mixing_weights_and_images() {
    for family in Family::ALL {
        let space = SearchSpace::of(family);
        let (network, parameters) = search_network(&space);
        let (few, many) = (mixing(&space, 0.05), mixing(&space, 0.1));
        let mut results = Vec::new();
        let mut check = |parameters: &Parameters, size, mixing: &[Mixing]| {
            let fresh = Network::new(network.plan().clone(), Engine::new(&Device::flex()));
            for _ in 0..2 {
                let found = evaluate(&network, parameters, images(2, size), mixing);
                let expected = evaluate(&fresh, parameters, images(2, size), mixing);
                assert_eq!(found, expected, "to the bit");
                results.push(found);
            }
        };
        check(&parameters, SIZE, &few);
        check(&parameters, SIZE, &many);
        check(&parameters, [6, 11], &few);
        // One tensor at a time: weights, statistics, and what a copy has in their place.
        let mut changed = parameters.clone();
        for (id, _) in parameters.iter().step_by(17) {
            let value = changed.get(id).value.clone() * 1.5 + 0.25;
            changed.set(id, value);
            check(&changed, SIZE, &few);
        }
        check(&parameters, SIZE, &few);
        let mut loaded = parameters.clone();
        loaded.load_named(&changed.to_named()).unwrap();
        check(&loaded, SIZE, &few);
        changed.update_average(0.5);
        let average = changed.averaged();
        changed.load_named(&parameters.to_named()).unwrap();
        check(&changed, SIZE, &few);
        check(&average, SIZE, &few);
        let (first, last) = (&results[0], &results[results.len() - 1]);
        assert_ne!(first, last, "the changes must show");
    }
}

#[test]
fn engines_and_their_copies_do_not_disturb_each_other() {
    for family in Family::ALL {
        let space = SearchSpace::of(family);
        let (network, parameters) = search_network(&space);
        let mixing = mixing(&space, 0.05);
        let run = |network: &Network, count| {
            weight_pass(network, &parameters, images(count, SIZE), &mixing, None)
        };
        let alone = [4, 3].map(|count| run(&network, count));
        let other = search_network(&space).0;
        let copy = network.clone();
        // Passes of all three at once, with memory freed in between.
        std::thread::scope(|scope| {
            let threads = [&network, &copy, &other].map(|network| {
                let (alone, run) = (&alone, &run);
                scope.spawn(move || {
                    for _ in 0..3 {
                        for (count, expected) in [4, 3].into_iter().zip(alone) {
                            assert!(run(network, count) == *expected, "to the bit");
                        }
                        network.engine().trim();
                    }
                })
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

/// The operations that a path leaves out have no gradients, with either engine.
#[test]
fn an_operation_with_a_weight_of_zero_is_not_run() {
    for family in Family::ALL {
        let space = SearchSpace::of(family);
        let plan = Plan::search(&space, &shape(4, 3, SIZE)).unwrap();
        let path = Genotype::random(&space, &mut ChaCha8Rng::seed_from_u64(4));
        let mixing = mixing_tensors(&space.one_hot(&path).unwrap(), &Device::flex());
        let [fused, composed] = networks(&plan, 3).map(|(network, parameters)| {
            weight_pass(&network, &parameters, images(2, SIZE), &mixing, None)
        });
        assert!(composed.len() < plan.parameters.len() / 2, "{family}: most are left out");
        assert_alike(family.name(), &fused, &composed, 1e-3);
    }
}
