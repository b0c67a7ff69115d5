//! The pieces of a network whose times add up to its own, for a table of latencies.

use std::fmt::Write;

use super::{Body, Layer, Map, MixedEdge, Node, Norms, Plan, Primitive, Step};
use crate::{CellKind, Family, Operation};

/// A computation with its shapes: an operation of an edge, a chain, a concatenation or a sum. Equal pieces have equal names, and are
/// equally fast on one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The computation and the shape of its input, such as `sep_conv_3x3 / 2 of 16x16x24`.
    pub name: String,
    /// The number of times that [`Piece::plan`] computes it.
    pub times: usize,
    /// A network of it alone, whose images are its input.
    pub plan: Plan,
}

impl Piece {
    /// An operation as it is in a network that is trained, on maps of this shape.
    pub fn of_operation(family: Family, operation: Operation, map: Map, stride: usize) -> Self {
        let mut plan = empty(family);
        plan.layers.push(images(map));
        let norms = Norms { affine: true, after_pool: false };
        let candidate = plan.candidate((0, operation), "edge".to_owned(), map, stride, norms);
        let edge = MixedEdge {
            name: "edge".to_owned(),
            input: 0,
            stride,
            row: None,
            columns: 1,
            candidates: vec![candidate],
        };
        // Two of them, so that half of each pair is added to a sum that exists.
        let node = Node { kind: CellKind::Normal, edges: vec![edge.clone(), edge], partial: 1 };
        plan.layer("node".to_owned(), map.strided(stride), Body::Node(node));
        Self { name: format!("{operation} / {stride} of {}", shape(map)), times: 2, plan }
    }
}

impl Plan {
    /// The pieces of inference, in the order of the layers; more than one may have the same name.
    pub fn pieces(&self) -> Vec<Piece> {
        let needed = self.needed(false);
        let layers = self.layers.iter().zip(needed).filter(|(_, needed)| *needed);
        layers.flat_map(|(layer, _)| self.pieces_of(layer)).collect()
    }

    pub(super) fn pieces_of(&self, layer: &Layer) -> Vec<Piece> {
        let one = |name: String, times, input, body| {
            let plan = self.alone(input, Layer { body, ..layer.clone() });
            Piece { name, times, plan }
        };
        let of = |inputs: &[usize], what: &str| {
            let map = self.layers[inputs[0]].output;
            let name = format!("{what} {} of {}", inputs.len(), shape(map));
            (name, 1, inputs[0], vec![0; inputs.len()])
        };
        match &layer.body {
            Body::Images => Vec::new(),
            Body::Chain { input, steps } => {
                let name = steps.iter().map(described).collect::<Vec<_>>().join(", ");
                let name = format!("{name} of {}", shape(self.layers[*input].output));
                vec![one(name, 1, *input, Body::Chain { input: 0, steps: steps.clone() })]
            }
            Body::Concat { inputs } => {
                let (name, times, input, inputs) = of(inputs, "concatenation of");
                vec![one(name, times, input, Body::Concat { inputs })]
            }
            Body::Sum { inputs } => {
                let (name, times, input, inputs) = of(inputs, "sum of");
                vec![one(name, times, input, Body::Sum { inputs })]
            }
            Body::Node(node) => {
                let edges = node.counting().flat_map(|edge| {
                    let map = self.layers[edge.input].output;
                    let operations = edge.candidates.iter().map(|candidate| candidate.operation);
                    operations.map(move |o| Piece::of_operation(self.family, o, map, edge.stride))
                });
                edges.collect()
            }
        }
    }

    /// A chain, concatenation or sum alone, which reads the output of layer `input` as its images.
    fn alone(&self, input: usize, mut layer: Layer) -> Plan {
        let mut parameters = Vec::new();
        let mut own = |step: &mut Step| {
            let start = parameters.len();
            parameters.extend_from_slice(&self.parameters[step.parameters.clone()]);
            step.parameters = start..parameters.len();
        };
        if let Body::Chain { steps, .. } = &mut layer.body {
            steps.iter_mut().for_each(&mut own);
        }
        Plan {
            layers: vec![images(self.layers[input].output), layer],
            parameters,
            ..empty(self.family)
        }
    }
}

fn images(output: Map) -> Layer {
    Layer { name: "images".to_owned(), output, body: Body::Images }
}

/// A network of nothing yet, with its logits after the first layer.
fn empty(family: Family) -> Plan {
    Plan { family, layers: Vec::new(), parameters: Vec::new(), logits: 1, auxiliary: None }
}

fn shape(map: Map) -> String {
    format!("{}x{}x{}", map.height, map.width, map.channels)
}

fn described(step: &Step) -> String {
    let mut text = match step.primitive {
        Primitive::Zero { stride } => format!("zero / {stride}"),
        Primitive::Relu => "relu".to_owned(),
        Primitive::Conv {
            kernel: [height, width],
            stride: [down, right],
            dilation,
            depthwise,
            ..
        } => {
            let kind = if depthwise { "depthwise" } else { "conv" };
            let stride =
                if down * right > 1 { format!(" / {down}x{right}") } else { String::new() };
            let dilation =
                if dilation > 1 { format!(" dilation {dilation}") } else { String::new() };
            format!("{kind} {height}x{width}{stride}{dilation}")
        }
        Primitive::FactorizedConv => "factorized conv".to_owned(),
        Primitive::BatchNorm { .. } => return "bn".to_owned(),
        Primitive::MaxPool { stride } => format!("max pool 3x3 / {stride}"),
        Primitive::AvgPool { stride } => format!("avg pool 3x3 / {stride}"),
        Primitive::AvgPool2x2 => "avg pool 2x2".to_owned(),
        Primitive::AdaptivePool2x2 => "adaptive pool 2x2".to_owned(),
        Primitive::GlobalPool => "global pool".to_owned(),
        Primitive::Linear => "linear".to_owned(),
    };
    if step.output.channels != step.input.channels {
        write!(text, " to {}", step.output.channels).expect("text can be written to");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Design, Error, NetworkShape, PlainNetwork, PublishedCell, Stem};

    #[test]
    fn the_pieces_cost_what_the_network_does() -> Result<(), Error> {
        let shape = NetworkShape {
            channels: 8,
            cells: 5,
            height: 17,
            width: 16,
            in_channels: 3,
            classes: 10,
            stem: Stem::Small,
        };
        let plain = |name: &str| name.parse::<PlainNetwork>().map(Design::from);
        let cell = PublishedCell::find("ASAP")?.genotype();
        for design in
            [Design::from(cell), plain("resnet-20")?, plain("resnet-9")?, plain("mobilenet-14")?]
        {
            let plan = Plan::of(&design, &shape, true)?;
            let pieces = plan.pieces();
            let sum = |cost: fn(super::super::Cost) -> u64| -> u64 {
                pieces.iter().map(|piece| cost(piece.plan.cost()) / piece.times as u64).sum()
            };
            assert_eq!(sum(|cost| cost.multiply_adds), plan.cost().multiply_adds, "{design:?}");
            assert_eq!(sum(|cost| cost.params), plan.cost().params, "{design:?}");
            for (a, b) in pieces.iter().zip(pieces.iter().skip(1)) {
                if a.name == b.name {
                    assert_eq!(a.plan.cost(), b.plan.cost(), "{}", a.name);
                }
            }
        }
        Ok(())
    }
}
