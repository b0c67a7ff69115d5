//! PyTorch: a Python module of one file that builds the network and reads the weights beside it.

use asap_core::{CellGenotype, Stem, reduction_cells};

use crate::trained::TrainedNetwork;

/// The fixed part of the module: the layers, and how cells are stacked.
const LAYERS: &str = include_str!("network.py");

/// The text of the module; `weights` is the name of the safetensors file that it looks for in its own folder.
///
/// The file is the one that [`TrainedNetwork::save`] writes. `load()` gives the network with its weights, and
/// `save(network, path)` writes weights that asap reads.
pub fn pytorch(network: &TrainedNetwork, weights: &str) -> String {
    let card = network.card();
    let shape = &card.shape;
    let stem = match shape.stem {
        Stem::Small => "small",
        Stem::Large => "large",
    };
    let constants = [
        ("WEIGHTS", python_string(weights)),
        ("IMAGE", format!("({}, {}, {})", shape.in_channels, shape.height, shape.width)),
        ("CHANNELS", shape.channels.to_string()),
        ("CELLS", shape.cells.to_string()),
        ("REDUCTIONS", list(reduction_cells(shape.cells).map(|cell| cell.to_string()))),
        ("STEM", python_string(stem)),
        ("CLASSES", list(card.classes.iter().map(|name| python_string(name)))),
        ("MEAN", list(card.normalization.mean.iter().map(ToString::to_string))),
        ("STD", list(card.normalization.std.iter().map(ToString::to_string))),
        ("NORMAL", cell(&card.genotype.normal)),
        ("NORMAL_CONCAT", list(card.genotype.normal.concat.iter().map(ToString::to_string))),
        ("REDUCE", cell(&card.genotype.reduce)),
        ("REDUCE_CONCAT", list(card.genotype.reduce.concat.iter().map(ToString::to_string))),
    ];
    let constants: String =
        constants.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    LAYERS.replace("# CONSTANTS\n", &constants)
}

/// Two pairs of operation and input a node.
fn cell(cell: &CellGenotype) -> String {
    let nodes = cell.nodes.iter().map(|genes| {
        list(genes.iter().map(|gene| format!("('{}', {})", gene.operation, gene.input)))
    });
    list(nodes)
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// JSON's strings are Python's, too, but for the characters outside of the basic plane, which stay as they are.
fn python_string(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}
