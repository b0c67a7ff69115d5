//! PyTorch: a Python module of one file that builds the network and reads the weights next to it.

use asap_core::plan::{Body, Layer, Plan, Primitive, Step};

use crate::engine::BATCH_NORM_EPSILON;
use crate::trained::TrainedNetwork;

/// The fixed part of the module, which builds and runs layers.
const MODULE: &str = include_str!("network.py");

/// The text of the module; `weights` is the name of the safetensors file that it looks for in its own folder.
///
/// The file is the one that [`TrainedNetwork::save`] writes. `load()` gives the network with its weights, and
/// `save(network, path)` writes weights that asap reads.
pub fn pytorch(network: &TrainedNetwork, weights: &str) -> String {
    let (card, plan) = (network.card(), network.plan());
    let shape = &card.shape;
    let layers = plan.layers.iter().map(|layer| format!("    {},\n", self::layer(plan, layer)));
    let constants = [
        ("WEIGHTS", python_string(weights)),
        ("IMAGE", format!("({}, {}, {})", shape.in_channels, shape.height, shape.width)),
        ("CLASSES", list(card.classes.iter().map(|name| python_string(name)))),
        ("MEAN", list(card.normalization.mean.iter().map(ToString::to_string))),
        ("STD", list(card.normalization.std.iter().map(ToString::to_string))),
        ("EPSILON", BATCH_NORM_EPSILON.to_string()),
        ("LOGITS", plan.logits.to_string()),
        ("FLIPS", if network.averages_flips() { "True" } else { "False" }.to_owned()),
        (
            "LAYERS",
            format!(
                "[  # kind, name, and what it reads and computes\n{}]",
                layers.collect::<String>()
            ),
        ),
    ];
    let constants: String =
        constants.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    let design = format!("# {}\n", card.design);
    MODULE.replace("# CONSTANTS\n", &(design + &constants))
}

fn layer(plan: &Plan, layer: &Layer) -> String {
    let (kind, arguments) = match &layer.body {
        Body::Images => ("images", "()".to_owned()),
        Body::Chain { input, steps } => {
            ("chain", format!("({input}, {})", self::steps(plan, steps)))
        }
        Body::Node(node) => {
            let edges = node.edges.iter().map(|edge| {
                format!("({}, {})", edge.input, self::steps(plan, &edge.candidates[0].steps))
            });
            ("node", list(edges))
        }
        Body::Concat { inputs } => ("concat", format!("{inputs:?}")),
        Body::Sum { inputs } => ("sum", format!("{inputs:?}")),
        body => unreachable!("{body:?} has an arm above"),
    };
    format!("({}, {}, {arguments})", python_string(kind), python_string(&layer.name))
}

fn steps(plan: &Plan, steps: &[Step]) -> String {
    list(steps.iter().map(|step| self::step(plan, step)))
}

fn step(plan: &Plan, step: &Step) -> String {
    // A module's path is that of its parameters without their last part, if they have several.
    let first = || plan.parameters[step.parameters.start].name.as_str();
    let parent = || python_string(first().rsplit_once('.').map_or("", |(parent, _)| parent));
    let (c_in, c_out) = (step.input.channels, step.output.channels);
    match step.primitive {
        Primitive::Zero { stride } => format!("('zero', {stride})"),
        Primitive::Relu => "('relu',)".to_owned(),
        Primitive::Conv { kernel, stride, padding, dilation, depthwise } => {
            let groups = if depthwise { c_in } else { 1 };
            let pair = |[a, b]: [usize; 2]| format!("({a}, {b})");
            let (kernel, stride, padding) = (pair(kernel), pair(stride), pair(padding));
            let name = python_string(first());
            format!(
                "('conv', {name}, {c_in}, {c_out}, {kernel}, {stride}, {padding}, {dilation}, {groups})"
            )
        }
        Primitive::FactorizedConv => format!("('factorized_conv', {}, {c_in}, {c_out})", parent()),
        Primitive::BatchNorm { .. } => format!("('batch_norm', {}, {c_in})", parent()),
        Primitive::MaxPool { stride } => format!("('max_pool', {stride})"),
        Primitive::AvgPool { stride } => format!("('avg_pool', {stride})"),
        Primitive::AvgPool2x2 => "('avg_pool_2x2',)".to_owned(),
        Primitive::GlobalPool => "('global_pool',)".to_owned(),
        Primitive::Linear => format!("('linear', {}, {c_in}, {c_out})", parent()),
        primitive => unreachable!("{primitive:?} is in no network that is exported"),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// JSON's strings are also Python's, except for the characters outside of the basic plane, which stay as they are.
fn python_string(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}
