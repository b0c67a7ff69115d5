//! Partial channel connections (Xu et al. 2020).

use asap_core::plan::{Body, Map, MixedEdge, Node, Norms, Plan};
use asap_core::{CellKind, Family, NetworkShape, Operation, SearchSpace};
use asap_net::engine::Mixing;
use asap_net::network::Network;
use asap_net::parameters::Parameters;
use asap_net::pass::{Mode, Pass};
use burn::tensor::{Device, Tensor, TensorData};

use crate::small::{engines, host, shape};

#[test]
fn operations_have_the_weights_of_a_part_of_the_channels() {
    let (shape, whole) = (shape(8, 3, [9, 7]), SearchSpace::default());
    let partial = whole.clone().with_partial(4);
    let count = |space| {
        let plan = Plan::search(space, &shape).unwrap();
        let weights = Parameters::new(&plan, &Device::flex(), 0).weight_count();
        assert_eq!(weights as u64, plan.cost().params);
        weights
    };
    assert!(2 * count(&partial) < count(&whole));
    let odd = NetworkShape { channels: 6, ..shape };
    let error = Plan::search(&partial, &odd).unwrap_err().to_string();
    assert!(error.contains("expected a multiple of 4"), "{error}");
}

/// A node of two edges of `none` with 4 channels in 2 parts, on an image of 1 x 3 pixels and on twice that image.
fn node(stride: usize) -> Plan {
    let map = Map { channels: 4, height: 1, width: 3 };
    let mut plan = Plan::of_images(Family::Darts, map);
    let twice = plan.layer("twice".to_owned(), map, Body::Sum { inputs: vec![0, 0] });
    let seen = Map { channels: 2, ..map };
    let norms = Norms { affine: false, after_pool: true };
    let edges = [0, twice].into_iter().enumerate().map(|(row, input)| {
        let name = format!("edges.{row}");
        let operation = (0, Operation::None);
        let candidates = vec![plan.candidate(operation, name.clone(), seen, stride, norms)];
        MixedEdge { name, input, stride, row: Some(row), columns: 1, candidates }
    });
    let node = Node { kind: CellKind::Normal, edges: edges.collect(), partial: 2 };
    plan.logits = plan.layer("node".to_owned(), map.strided(stride), Body::Node(node));
    plan
}

#[test]
fn the_channels_that_an_edge_does_not_see_pass_by_and_are_shuffled() {
    let values: Vec<f32> = (0..12_u8).map(f32::from).collect();
    let x = Tensor::<4>::from_data(TensorData::new(values, [1, 1, 3, 4]), &Device::flex());
    let mixing = Mixing::new(&[0.25, 0.75], &Device::flex());
    for (stride, expected) in [
        // Nothing on channels 0 and 1; 0.25 x + 0.75 (2 x) on 2 and 3, which come to 1 and 3.
        (1, vec![0.0, 3.5, 0.0, 5.25, 0.0, 10.5, 0.0, 12.25, 0.0, 17.5, 0.0, 19.25]),
        (2, vec![0.0, 10.5, 0.0, 12.25, 0.0, 17.5, 0.0, 19.25]),
    ] {
        for engine in engines() {
            let network = Network::new(node(stride), engine);
            let parameters = network.parameters(&Device::flex(), 0);
            let pass = Pass::new(&parameters, Mode::Evaluation);
            let found = network.forward(&pass, x.clone(), std::slice::from_ref(&mixing)).main;
            assert_eq!(host(found), expected, "stride {stride}");
        }
    }
}
