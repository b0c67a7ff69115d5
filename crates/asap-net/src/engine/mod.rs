//! Engines, which run the layers of a plan on a device.
//!
//! Feature maps are `[images, height, width, channels]` throughout. The *composed* engine is made of Burn's operations,
//! runs on every device and is the reference in tests; the *fused* one runs whole mixed edges and layers on our own CPU
//! kernels. The choice between the two is made once, when the engine is created.

mod composed;
mod fused;
mod whole;

use std::fmt;
use std::sync::Arc;

use asap_core::plan::{Candidate, LayerId, MixedEdge, Node, Step};
use asap_kernels::Precision;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use self::composed::{Composed, channels_last};
use self::fused::Fused;
use crate::device::is_host;
use crate::pass::Pass;

/// Added to a variance before its root is taken.
pub const BATCH_NORM_EPSILON: f32 = 1e-5;

/// The mixing weights of one kind of cell, `[edges * candidates]`.
#[derive(Clone, Debug)]
pub struct Mixing {
    tensor: Tensor<1>,
    /// Their values, if nobody needs their gradients.
    constants: Option<Vec<f32>>,
}

impl Mixing {
    /// Weights whose gradients nobody needs. An operation with a weight of 0 is not run.
    pub fn new(weights: &[f32], device: &Device) -> Self {
        Self { tensor: Tensor::from_floats(weights, device), constants: Some(weights.to_vec()) }
    }

    /// The same with gradients, for which every operation is run.
    #[must_use]
    pub fn tracked(self) -> Self {
        Self { tensor: self.tensor.autodiff().require_grad(), constants: None }
    }

    /// The weights.
    pub fn tensor(&self) -> &Tensor<1> {
        &self.tensor
    }

    /// True if the operation with the weight at a position is run.
    fn counts(&self, at: usize) -> bool {
        self.constants.as_ref().is_none_or(|weights| weights[at] != 0.0)
    }
}

/// Runs the layers of a plan. It owns the memory that steps share and the edges prepared for inference; copies share both.
#[derive(Clone)]
pub struct Engine {
    layers: Arc<dyn Layers>,
    precision: Precision,
}

/// The computations of an engine.
pub(crate) trait Layers: Send + Sync {
    /// Adds a mixed edge to the sum of a node so far: `partial + sum_o w_o * o(x)` (eqs. 1 and 2); `weights` are those of
    /// its kind of cell. If the pass drops operations, the sum of each image is multiplied by its weight of
    /// [`Pass::image_weights`], after the batch norms.
    fn edge(
        &self,
        pass: &Pass<'_>,
        edge: &MixedEdge,
        x: &Tensor<4>,
        weights: Option<&Mixing>,
        partial: Option<Tensor<4>>,
    ) -> Option<Tensor<4>>;

    /// Runs steps one after the other.
    fn chain(&self, pass: &Pass<'_>, steps: &[Step], x: Tensor<4>) -> Value;

    /// Joins maps along the channels, `[n, h, w, maps * c]`.
    fn concat(&self, pass: &Pass<'_>, maps: Vec<Tensor<4>>) -> Tensor<4>;

    /// Takes back maps; the memory of those that nobody else holds may be reused.
    fn release(&self, _maps: &mut dyn Iterator<Item = Tensor<4>>) {}

    /// True if inference is faster a few images at a time, because the output of a layer is then still in the cache when the
    /// next one reads it.
    fn prefers_few_images(&self) -> bool {
        false
    }

    /// Frees memory that was not in use since the last call.
    fn trim(&self) {}
}

/// The output of a layer: a map, or features without rows and columns `[n, c]`.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Map(Tensor<4>),
    Flat(Tensor<2>),
}

impl Engine {
    /// The engine for a device: fused on the CPU, composed elsewhere.
    pub fn new(device: &Device) -> Self {
        Self::with_precision(device, Precision::F32)
    }

    /// The same with a different precision of the training steps; only the fused engine supports others than `f32`.
    pub fn with_precision(device: &Device, precision: Precision) -> Self {
        if is_host(device) {
            return Self { layers: Arc::new(Fused::new(precision)), precision };
        }
        Self::composed()
    }

    /// Layers composed of Burn's operations, on any device.
    pub fn composed() -> Self {
        Self { layers: Arc::new(Composed), precision: Precision::F32 }
    }

    /// The precision of the training steps.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Frees memory that no step used since the last call, for example after pruning; the rest is kept, since fresh
    /// pages are expensive.
    pub fn trim(&self) {
        self.layers.trim();
    }

    /// See [`Layers::prefers_few_images`].
    pub(crate) fn prefers_few_images(&self) -> bool {
        self.layers.prefers_few_images()
    }

    pub(crate) fn layers(&self) -> &dyn Layers {
        &*self.layers
    }

    /// The sum of a node's edges; `input` gives the output of a layer.
    pub(crate) fn node<'t>(
        &self,
        pass: &Pass<'_>,
        node: &Node,
        input: impl Fn(LayerId) -> &'t Tensor<4>,
        weights: Option<&Mixing>,
    ) -> Option<Tensor<4>> {
        let layers = self.layers();
        if node.partial > 1 {
            let edges = node.edges.iter().map(|edge| (edge, input(edge.input)));
            return partial_node(layers, pass, edges, node.partial, weights?);
        }
        node.counting()
            .fold(None, |sum, edge| layers.edge(pass, edge, input(edge.input), weights, sum))
    }
}

/// A node with partial channel connections: the first of `parts` equal parts of the channels of each input goes
/// through the mixed edge, and the others pass it by, multiplied by the sum of the edge's mixing weights; if the edge
/// has stride 2 they go through a 2x2 max pool. Finally the channels are shuffled, so that the next node sees different
/// ones (Xu et al. 2020, section 3.2, and the published code).
fn partial_node<'a>(
    layers: &dyn Layers,
    pass: &Pass<'_>,
    edges: impl Iterator<Item = (&'a MixedEdge, &'a Tensor<4>)>,
    parts: usize,
    mixing: &Mixing,
) -> Option<Tensor<4>> {
    let (mut mixed, mut passing) = (None, None);
    for (edge, x) in edges {
        let channels = x.dims()[3];
        let seen = channels / parts;
        let x_seen = x.clone().narrow(3, 0, seen);
        mixed = layers.edge(pass, edge, &x_seen, Some(mixing), mixed);
        let candidates = edge.candidates.iter();
        let weights = candidates
            .filter_map(|c| Some(mixing.tensor.clone().narrow(0, place(edge, c.index)?, 1)));
        let weight = Tensor::cat(weights.collect(), 0).sum().reshape([1, 1, 1, 1]);
        let mut by = x.clone().narrow(3, seen, channels - seen);
        if edge.stride == 2 {
            let options = MaxPoolOptions::new([2, 2]).with_stride([2, 2]).with_ceil_mode(true);
            by = channels_last(by, |x| max_pool2d(x, options));
        }
        let by = by * weight;
        passing = Some(match passing {
            Some(passing) => passing + by,
            None => by,
        });
    }
    let node = Tensor::cat(vec![mixed?, passing?], 3);
    let [n, h, w, c] = node.dims();
    Some(node.reshape([n, h, w, parts, c / parts]).swap_dims(3, 4).reshape([n, h, w, c]))
}

/// The candidates of an edge that are run: those whose weights are not 0, unless gradients of the weights are needed.
fn counting<'a>(
    edge: &'a MixedEdge,
    weights: Option<&'a Mixing>,
) -> impl Iterator<Item = &'a Candidate> {
    edge.candidates.iter().filter(move |candidate| {
        let at = weights.zip(place(edge, candidate.index));
        at.is_none_or(|(weights, at)| weights.counts(at))
    })
}

/// The position of a candidate's weight in the mixing table of its kind of cell.
fn place(edge: &MixedEdge, candidate: usize) -> Option<usize> {
    Some(edge.row? * edge.columns + candidate)
}

impl Value {
    pub(crate) fn map(self) -> Tensor<4> {
        match self {
            Self::Map(map) => map,
            Self::Flat(features) => {
                let [n, c] = features.dims();
                features.reshape([n, 1, 1, c])
            }
        }
    }

    pub(crate) fn flat(self) -> Tensor<2> {
        match self {
            Self::Map(map) => {
                let [n, h, w, c] = map.dims();
                map.reshape([n, h * w * c])
            }
            Self::Flat(features) => features,
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("precision", &self.precision).finish_non_exhaustive()
    }
}
