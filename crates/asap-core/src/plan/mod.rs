//! Networks as plain data: named layers with their inputs, shapes, parameters and cost.
//!
//! A [`Plan`] is made from a search space or a [`Design`] and a [`NetworkShape`], and is the only definition of a
//! network. Running, counting and exporting a network, and handing weights from one to another, all walk it.

mod chain;
pub mod cost;
pub mod design;
mod inherit;
mod operation;
mod operation_costs;
mod piece;
mod plain;
mod prune;
mod stack;
mod step;

pub use self::chain::Chain;
pub use self::cost::{Cost, NetworkShape, Stem};
pub use self::design::{Design, PlainNetwork};
pub use self::operation::{Norms, factorized_reduce};
pub use self::operation_costs::OperationCosts;
pub use self::piece::Piece;
pub use self::step::{Init, Map, Parameter, Primitive, Role, Step};
use crate::{CellKind, Family, Operation};

/// Position of a layer in [`Plan::layers`].
pub type LayerId = usize;

/// A network as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The family of its cells; of a network without cells, the one whose stages it has.
    pub family: Family,
    /// The layers, each after those that it reads. The first one is the images.
    pub layers: Vec<Layer>,
    /// Every tensor of the network. Pruning leaves those of removed operations in the list, so that positions stay; see
    /// [`Plan::live_parameters`].
    pub parameters: Vec<Parameter>,
    /// The layer that gives the logits.
    pub logits: LayerId,
    /// The layer that gives the logits of the auxiliary head, which only training computes.
    pub auxiliary: Option<LayerId>,
}

/// A named layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Dotted path, such as `cells.0.nodes.2`.
    pub name: String,
    /// The shape of its output for one image.
    pub output: Map,
    /// The computation.
    pub body: Body,
}

/// The computation of a layer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Body {
    /// The images.
    Images,
    /// Steps one after the other: a stem, a preprocess, a head.
    Chain {
        /// The layer that it reads.
        input: LayerId,
        /// The steps.
        steps: Vec<Step>,
    },
    /// A node of a cell.
    Node(Node),
    /// Layers side by side: the output of a cell.
    Concat {
        /// Layers of one shape.
        inputs: Vec<LayerId>,
    },
    /// The sum of layers of one shape.
    Sum {
        /// The layers.
        inputs: Vec<LayerId>,
    },
}

/// A node of a cell: the sum of its edges (eq. 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The kind of its cell.
    pub kind: CellKind,
    /// The edges into the node.
    pub edges: Vec<MixedEdge>,
    /// The operations see the first of this many equal parts of the channels, and the others pass by.
    pub partial: usize,
}

/// A mixed edge: the sum of its operations, each times its mixing weight (eq. 2).
#[derive(Clone, Debug, PartialEq)]
pub struct MixedEdge {
    /// Dotted path of its parameters.
    pub name: String,
    /// The layer that it reads.
    pub input: LayerId,
    /// Factor by which every operation divides the size, rounding up.
    pub stride: usize,
    /// Its row in the mixing table of its kind of cell; without one each operation has weight 1.
    pub row: Option<usize>,
    /// Columns of that table: the candidates of the space.
    pub columns: usize,
    /// The live operations, in the order of the search space.
    pub candidates: Vec<Candidate>,
}

/// An operation of a mixed edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its place among the candidates of the search space.
    pub index: usize,
    /// The operation.
    pub operation: Operation,
    /// Dotted path of its parameters.
    pub name: String,
    /// Its steps; none for the identity.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The exact cost of inference on one image: everything but the auxiliary head.
    pub fn cost(&self) -> Cost {
        let mut cost = Cost::default();
        for (id, layer) in self.layers.iter().enumerate() {
            if Some(id) != self.auxiliary {
                cost.add(self.layer_cost(layer));
            }
        }
        cost
    }

    /// The cost of the auxiliary head, which training adds.
    pub fn auxiliary_cost(&self) -> Cost {
        self.auxiliary.map_or(Cost::default(), |id| self.layer_cost(&self.layers[id]))
    }

    /// The exact cost of one layer for one image.
    pub fn layer_cost(&self, layer: &Layer) -> Cost {
        let mut cost = Cost::default();
        layer.steps().for_each(|step| cost.add(step.cost(&self.parameters)));
        cost
    }

    /// Positions of the parameters that the layers still refer to.
    pub fn live_parameters(&self) -> impl Iterator<Item = usize> + '_ {
        self.layers.iter().flat_map(|layer| layer.steps()).flat_map(|step| step.parameters.clone())
    }

    /// For each layer, true if it takes part in the logits or, with `auxiliary`, in those of the auxiliary head. The others
    /// must not be computed in training: no backward pass would take them off the graph.
    pub fn needed(&self, auxiliary: bool) -> Vec<bool> {
        let mut needed = vec![false; self.layers.len()];
        needed[self.logits] = true;
        if let Some(head) = self.auxiliary.filter(|_| auxiliary) {
            needed[head] = true;
        }
        for (id, layer) in self.layers.iter().enumerate().rev() {
            if needed[id] {
                layer.inputs().for_each(|input| needed[input] = true);
            }
        }
        needed
    }
}

impl Layer {
    /// The layers that it reads.
    pub fn inputs(&self) -> Box<dyn Iterator<Item = LayerId> + '_> {
        match &self.body {
            Body::Images => Box::new(std::iter::empty()),
            Body::Chain { input, .. } => Box::new(std::iter::once(*input)),
            Body::Node(node) => Box::new(node.counting().map(|edge| edge.input)),
            Body::Concat { inputs } | Body::Sum { inputs } => Box::new(inputs.iter().copied()),
        }
    }

    /// Every step of the layer.
    pub fn steps(&self) -> Box<dyn Iterator<Item = &Step> + '_> {
        match &self.body {
            Body::Chain { steps, .. } => Box::new(steps.iter()),
            Body::Node(node) => {
                let candidates = node.edges.iter().flat_map(|edge| &edge.candidates);
                Box::new(candidates.flat_map(|candidate| &candidate.steps))
            }
            Body::Images | Body::Concat { .. } | Body::Sum { .. } => Box::new(std::iter::empty()),
        }
    }
}

impl Node {
    /// The edges to compute: those that add nothing are skipped, except for a first one, which gives the shape. With
    /// partial channels every edge adds the channels that pass it by.
    pub fn counting(&self) -> impl Iterator<Item = &MixedEdge> {
        let counts =
            |&(i, edge): &(usize, &MixedEdge)| self.partial > 1 || i == 0 || !edge.is_zero();
        self.edges.iter().enumerate().filter(counts).map(|(_, edge)| edge)
    }
}

impl MixedEdge {
    /// True if the edge adds nothing to its node.
    pub fn is_zero(&self) -> bool {
        self.candidates.iter().all(|c| c.operation == Operation::None)
    }

    /// True if drop-path drops the edge: it is neither the identity nor `none`, which gives nothing anyway.
    pub fn drops(&self) -> bool {
        self.candidates.iter().any(|c| !c.steps.is_empty() && c.operation != Operation::None)
    }
}
