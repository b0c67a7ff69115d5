//! Networks as training leaves them.

use asap_core::plan::Plan;
use asap_core::{Design, NetworkShape, Stem};
use asap_data::Normalization;
use asap_net::TrainedNetwork;
use asap_net::parameters::Parameters;
use asap_net::trained::NetworkCard;
use burn::tensor::Device;

/// A network whose batch norms have statistics and an affine part that matter.
pub(crate) fn network(
    design: impl Into<Design>,
    stem: Stem,
    [height, width]: [usize; 2],
) -> TrainedNetwork {
    let (channels, cells, in_channels, classes) = (5, 4, 3, 4);
    let shape = NetworkShape { channels, cells, height, width, in_channels, classes, stem };
    let design = design.into();
    let plan = Plan::of(&design, &shape, false).unwrap();
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
        design,
        shape,
        classes: (0..classes).map(|class| format!("class {class}")).collect(),
        normalization: Normalization { mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.25, 0.3] },
        data: "made up".to_owned(),
        test: None,
    };
    TrainedNetwork::new(card, values, &Device::flex()).unwrap()
}
