//! Any cell of any family as a network.

use asap_core::plan::Plan;
use asap_core::{CellGenotype, CellKind, Family, Gene, Genotype, NetworkShape, Operation, Stem};
use asap_net::pass::{DropPath, Mode, Pass};
use proptest::prelude::*;
use proptest::test_runner::{TestRng, TestRunner};

use crate::small::{
    CLASSES, assert_alike, evaluate, host, images, networks, plain, shape, weight_pass,
};

const DROP_PATH: DropPath = DropPath { probability: 0.3, seed: 1, step: 2, first: 0 };

/// A DARTS cell of up to six nodes with any operations and any output: of a reduction cell only nodes.
fn darts_cell(kind: CellKind) -> impl Strategy<Value = CellGenotype> {
    let operations: Vec<Operation> = Operation::all()
        .filter(|operation| Family::Darts.operation(operation.name()).is_ok())
        .collect();
    let gene = (prop::sample::select(operations), any::<prop::sample::Index>());
    let first = if kind == CellKind::Reduction { 2 } else { 0 };
    let output = prop::collection::vec(any::<prop::sample::Index>(), 1..5);
    (prop::collection::vec([gene.clone(), gene], 1..7), output).prop_map(move |(nodes, output)| {
        let states = 2 + nodes.len();
        let nodes = nodes.into_iter().enumerate().map(|(node, pair)| {
            let gene = |(operation, input): (Operation, prop::sample::Index)| Gene {
                operation,
                input: input.index(2 + node),
            };
            pair.map(gene).to_vec()
        });
        let mut concat = Vec::new();
        for state in output.iter().map(|index| first + index.index(states - first)) {
            if !concat.contains(&state) {
                concat.push(state);
            }
        }
        CellGenotype { nodes: nodes.collect(), output: concat }
    })
}

fn darts() -> impl Strategy<Value = Genotype> {
    (darts_cell(CellKind::Normal), darts_cell(CellKind::Reduction))
        .prop_map(|(normal, reduce)| Genotype::new(Family::Darts, vec![normal, reduce]).unwrap())
}

/// One of the 15,625 cells of NAS-Bench-201.
fn nas_bench_201() -> impl Strategy<Value = Genotype> {
    let operations = Family::NasBench201.operations();
    prop::array::uniform6(prop::sample::select(operations)).prop_map(|operations| {
        let mut operations = operations.into_iter();
        let mut node = |inputs: usize| -> Vec<Gene> {
            let genes = operations.by_ref().take(inputs).enumerate();
            genes.map(|(input, operation)| Gene { operation, input }).collect()
        };
        let nodes = vec![node(1), node(2), node(3)];
        Genotype::new(Family::NasBench201, vec![CellGenotype { nodes, output: vec![3] }]).unwrap()
    })
}

/// The weights are those that the plan counts, and both engines give finite logits and gradients.
fn check(genotype: &Genotype, shape: &NetworkShape, auxiliary: bool, count: usize) {
    let plan = Plan::evaluation(genotype, shape, auxiliary).unwrap();
    let cost = plan.cost().params + plan.auxiliary_cost().params;
    let images = images(count, [shape.height, shape.width]);
    for (network, parameters) in networks(&plan, 1) {
        assert_eq!(parameters.weight_count() as u64, cost, "{genotype}");
        let found = weight_pass(&network, &parameters, images.clone(), &[], Some(DROP_PATH));
        assert_eq!(found[0].1.len(), count * CLASSES);
        assert_eq!(found[1].0 == "auxiliary logits", auxiliary);
        for (name, values) in found {
            assert!(values.iter().all(|v| v.is_finite()), "{genotype}: {name}");
        }
        let pass = Pass::new(&parameters, Mode::Evaluation);
        let logits = network.forward(&pass, images.clone(), &[]);
        assert!(logits.auxiliary.is_none());
        assert_eq!(logits.main.dims(), [count, CLASSES]);
        assert!(host(logits.main).iter().all(|v| v.is_finite()), "{genotype}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_darts_genotype_makes_a_network(
        genotype in darts(),
        (channels, cells, count) in (1..7_usize, 1..5_usize, 1..4_usize),
        size in [1..10_usize, 1..10_usize],
        large in any::<bool>(),
    ) {
        let stem = if large { Stem::Large } else { Stem::Small };
        check(&genotype, &NetworkShape { stem, ..shape(channels, cells, size) }, true, count);
    }

    #[test]
    fn any_nas_bench_201_genotype_makes_a_network(
        genotype in nas_bench_201(),
        (channels, cells, count) in (1..7_usize, 1..6_usize, 1..4_usize),
        size in [1..10_usize, 1..10_usize],
    ) {
        check(&genotype, &shape(channels, cells, size), false, count);
    }
}

/// Rounding is compared, so the cells are the same in every run; images are large enough that no batch norm divides by
/// the deviation of a few nearly equal values.
#[test]
fn engines_agree_on_any_nas_bench_201_genotype() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let sizes = [5..12_usize, 5..12_usize];
    let strategy = (nas_bench_201(), 2..7_usize, 3..5_usize, sizes, any::<bool>());
    let run = |(genotype, channels, cells, size, drops): (Genotype, usize, usize, _, bool)| {
        let plan = Plan::evaluation(&genotype, &shape(channels, cells, size), false).unwrap();
        let drop_path = drops.then_some(DROP_PATH);
        let [fused, composed] = networks(&plan, 2).map(|(network, parameters)| {
            let mut found = weight_pass(&network, &parameters, images(6, size), &[], drop_path);
            let logits = evaluate(&network, &parameters, images(6, size), &[]);
            found.push(("logits of evaluation".to_owned(), logits));
            found
        });
        let what = format!("{genotype}, {channels} channels, {cells} cells, {size:?}");
        assert_alike(&what, &fused, &composed, 5e-4);
        Ok(())
    };
    TestRunner::new_with_rng(config, rng).run(&strategy, run).unwrap();
}

const CASES: u32 = 40;

#[test]
fn engines_agree_on_plain_networks() {
    for (name, size) in [
        ("resnet-8", [11, 8]),
        ("mobilenet-8", [11, 8]),
        ("mobilenet-14", [9, 10]),
        ("resnet-9", [11, 9]),
    ] {
        let plan = Plan::of(&plain(name), &shape(4, 1, size), true).unwrap();
        let [fused, composed] = networks(&plan, 2).map(|(network, parameters)| {
            let mut found = weight_pass(&network, &parameters, images(6, size), &[], None);
            let logits = evaluate(&network, &parameters, images(6, size), &[]);
            found.push(("logits of evaluation".to_owned(), logits));
            found
        });
        assert_alike(name, &fused, &composed, 5e-4);
    }
}

#[test]
fn wide_outputs_and_empty_cells_are_networks_too() {
    let gene = |operation, input| Gene { operation, input };
    let chain = |node| vec![gene(Operation::SkipConnect, node), gene(Operation::None, node + 1)];
    let wide = CellGenotype { nodes: (0..40).map(chain).collect(), output: (2..42).collect() };
    let nothing = vec![vec![gene(Operation::None, 0); 2]];
    let empty = CellGenotype { nodes: nothing, output: vec![2] };
    let darts = |normal| Genotype::new(Family::Darts, vec![normal, empty.clone()]).unwrap();
    let none = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|";
    for genotype in [darts(wide), darts(empty.clone()), none.parse().unwrap()] {
        let plan = Plan::evaluation(&genotype, &shape(2, 4, [5, 4]), false).unwrap();
        for (network, parameters) in networks(&plan, 1) {
            for mode in [Mode::Weights, Mode::Evaluation] {
                let pass = Pass::new(&parameters, mode);
                let logits = network.forward(&pass, images(2, [5, 4]), &[]).main;
                assert_eq!(logits.dims(), [2, CLASSES]);
                let logits = host(logits);
                // Nothing of the images comes through a cell of `none`.
                let bias = host(parameters.iter().last().unwrap().1.value.clone());
                assert_eq!(logits, [bias.clone(), bias].concat(), "{genotype}");
            }
        }
    }
}
