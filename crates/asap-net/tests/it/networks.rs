//! The networks: their size, their shapes, and what of them is computed.

use asap_core::plan::{Plan, Role};
use asap_core::{
    CellGenotype, Family, Gene, Genotype, NetworkShape, Operation, PublishedCell, SearchSpace,
    Stem, auxiliary_cost, evaluation_cost,
};
use asap_net::parameters::Parameters;
use asap_net::pass::{Mode, Pass};
use burn::tensor::Device;

use crate::small::{CLASSES, NAS_BENCH_201, host, images, networks, published, shape};

fn weight_count(plan: &Plan) -> u64 {
    Parameters::new(plan, &Device::flex(), 0).weight_count() as u64
}

#[test]
fn the_search_network_has_the_published_number_of_weights() {
    let plan = Plan::search(&SearchSpace::default(), &shape(16, 8, [32, 32])).unwrap();
    assert_eq!(weight_count(&plan), 1_930_618);
}

#[test]
fn built_networks_have_exactly_the_weights_that_the_cost_counts() {
    let mut genotypes: Vec<Genotype> =
        PublishedCell::all().iter().map(PublishedCell::genotype).collect();
    genotypes.push(NAS_BENCH_201.parse().unwrap());
    for genotype in genotypes {
        let stems: &[Stem] = match genotype.family() {
            Family::Darts => &[Stem::Small, Stem::Large],
            Family::NasBench201 => &[Stem::Small],
        };
        for (&stem, channels) in stems.iter().zip([6, 5]) {
            let shape = NetworkShape { stem, ..shape(channels, 5, [8, 8]) };
            for auxiliary in [false, true] {
                let plan = Plan::evaluation(&genotype, &shape, auxiliary).unwrap();
                let mut cost = evaluation_cost(&genotype, &shape).unwrap().params;
                if auxiliary {
                    cost += auxiliary_cost(&genotype, &shape).unwrap().params;
                }
                assert_eq!(weight_count(&plan), cost, "{genotype}, {stem:?}");
            }
        }
    }
}

#[test]
fn what_the_logits_do_not_depend_on_is_not_computed() {
    let gene = |operation, input| Gene { operation, input };
    // Node 0 is read by a `none` only, node 2 by nobody, the cell before the last not at all.
    let nodes = vec![
        vec![gene(Operation::SepConv3x3, 0), gene(Operation::DilConv3x3, 1)],
        vec![gene(Operation::SepConv3x3, 0), gene(Operation::None, 2)],
        vec![gene(Operation::SepConv5x5, 3), gene(Operation::SkipConnect, 1)],
    ];
    let cell = CellGenotype { nodes, output: vec![3] };
    let darts = Genotype::new(Family::Darts, vec![cell.clone(), cell]).unwrap();
    let of_darts = |name: &str| {
        ["stem.", "head."].iter().any(|prefix| name.starts_with(prefix))
            || ["cells.1.", "cells.3."].iter().any(|prefix| name.starts_with(prefix))
                && [".preprocess0.", ".ops.2."].iter().any(|part| name.contains(part))
    };
    // Nodes 1 and 2 are read by `none`s only.
    let unread = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|nor_conv_3x3~0|none~1|none~2|";
    let of_nas_bench_201 = |name: &str| !name.starts_with("cells.") || name.contains(".ops.3.");
    check_computed(&darts, of_darts);
    check_computed(&unread.parse().unwrap(), of_nas_bench_201);
}

/// The gradients and statistics of a pass are those of the parameters that count.
fn check_computed(genotype: &Genotype, counts: impl Fn(&str) -> bool) {
    let plan = Plan::evaluation(genotype, &shape(4, 4, [9, 7]), false).unwrap();
    for (network, mut parameters) in networks(&plan, 3) {
        let pass = Pass::new(&parameters, Mode::Weights);
        let logits = network.forward(&pass, images(4, [9, 7]), &[]).main;
        let (gradients, statistics) = pass.finish(&mut logits.powi_scalar(2).sum().backward());
        statistics.apply(&mut parameters);
        let trained: Vec<&str> =
            gradients.iter().map(|(id, _)| parameters.get(*id).name.as_str()).collect();
        for (_, p) in parameters.iter() {
            let name = p.name.as_str();
            match p.role {
                Role::Weight | Role::Bias => {
                    assert_eq!(trained.contains(&name), counts(name), "{name}")
                }
                Role::Buffer => {
                    let start = if name.ends_with("running_var") { 1.0 } else { 0.0 };
                    let moved = host(p.value.clone()).iter().any(|&v| v != start);
                    assert_eq!(moved, counts(name), "{name}");
                }
            }
        }
    }
}

#[test]
fn networks_take_any_size_and_any_number_of_channels() {
    let genotypes = ["ASAP", "AmoebaNet", "SNAS_aggressive"].map(published);
    let nas_bench_201 = NAS_BENCH_201.parse().unwrap();
    for (channels, size) in [(1, [1, 1]), (3, [5, 4]), (5, [17, 3]), (20, [12, 12])] {
        for genotype in genotypes.iter().chain([&nas_bench_201]) {
            let plan = Plan::evaluation(genotype, &shape(channels, 5, size), false).unwrap();
            let (network, parameters) = networks(&plan, 0).into_iter().next().unwrap();
            for mode in [Mode::Weights, Mode::Evaluation] {
                let pass = Pass::new(&parameters, mode);
                let logits = network.forward(&pass, images(2, size), &[]).main;
                let what = format!("{genotype} at {channels} channels, {size:?}");
                assert_eq!(logits.dims(), [2, CLASSES], "{what}");
                assert!(host(logits).iter().all(|v| v.is_finite()), "{what}");
            }
        }
    }
}

#[test]
fn a_genotype_that_cannot_be_built_is_refused_with_the_place() {
    let refused = |change: fn(&mut [CellGenotype])| {
        let mut cells = published("ASAP").cells().to_vec();
        change(&mut cells);
        Genotype::new(Family::Darts, cells).unwrap_err().to_string()
    };
    let message = refused(|cells| cells[1].output[1] = 0);
    assert!(message.contains("reduction cell, concat: state 0 is an input"), "{message}");
    let message = refused(|cells| cells[0].nodes[1][0].input = 3);
    assert!(message.contains("normal cell, node 1") && message.contains("state 3"), "{message}");
    let message = refused(|cells| cells[1].output.clear());
    assert!(message.contains("reduction cell, concat: no states"), "{message}");
}

#[test]
fn a_shape_without_classes_is_refused() {
    let none = NetworkShape { classes: 0, ..shape(4, 3, [8, 8]) };
    for family in Family::ALL {
        let error = Plan::search(&SearchSpace::of(family), &none).unwrap_err();
        assert!(error.to_string().contains("classes"), "{error}");
    }
}
