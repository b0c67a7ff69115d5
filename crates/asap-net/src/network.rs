//! A plan that can run: the search network and the network that is trained with a cell.

use asap_core::plan::{Body, Plan};
use asap_core::{Architecture, Genotype, MixingTables, Pruned, SearchSpace};
use burn::tensor::{Device, Tensor};

use crate::engine::{Engine, Mixing, Value};
use crate::parameters::Parameters;
use crate::pass::{Mode, Pass};

/// The output of a network for a batch: unnormalized log probabilities, `[images, classes]`.
#[derive(Clone, Debug)]
pub struct Logits {
    /// The output of the classifier.
    pub main: Tensor<2>,
    /// The output of the auxiliary head, if there is one and the pass trains the weights. It belongs in the
    /// loss: outputs that no gradient comes back through stay in memory.
    pub auxiliary: Option<Tensor<2>>,
}

/// A network: a plan and the engine that runs it. Its tensors live in [`Parameters`].
#[derive(Clone, Debug)]
pub struct Network {
    plan: Plan,
    engine: Engine,
}

impl Network {
    /// A network of a plan.
    pub fn new(plan: Plan, engine: Engine) -> Self {
        Self { plan, engine }
    }

    /// The layers of the network.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The engine that runs it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its tensors with fresh values, on `device`.
    pub fn parameters(&self, device: &Device, seed: u64) -> Parameters {
        Parameters::new(&self.plan, device, seed)
    }

    /// Images `[n, h, w, c]` to logits. `mixing` holds the mixing weights of each kind of cell, in the order of
    /// [`asap_core::Family::kinds`] (see [`mixing_tensors`]); a network of a genotype takes none.
    pub fn forward(&self, pass: &Pass<'_>, images: Tensor<4>, mixing: &[Mixing]) -> Logits {
        let Self { plan, engine } = self;
        let layers = engine.layers();
        let auxiliary = plan.auxiliary.filter(|_| pass.mode() == Mode::Weights);
        let needed = plan.needed(auxiliary.is_some());
        let last_reader = self.last_readers(&needed);
        let mut images = Some(images);
        let mut values: Vec<Option<Value>> = Vec::with_capacity(plan.layers.len());
        for (id, layer) in plan.layers.iter().enumerate() {
            if !needed[id] {
                values.push(None);
                continue;
            }
            let map = |id: usize| match &values[id] {
                Some(Value::Map(map)) => map,
                _ => unreachable!("a layer that is read gives a map and was computed"),
            };
            let value = match &layer.body {
                Body::Images => {
                    Value::Map(images.take().expect("only the first layer is the images"))
                }
                Body::Chain { input, steps } => layers.chain(pass, steps, map(*input).clone()),
                Body::Node(node) => {
                    let kind = plan.family.kind_index(node.kind);
                    let sum = engine.node(pass, node, map, mixing.get(kind));
                    Value::Map(sum.expect("a node that is needed has an operation left"))
                }
                Body::Concat { inputs } => {
                    let maps = inputs.iter().map(|&input| map(input).clone()).collect();
                    release(engine, &mut values, layer.inputs(), id, &last_reader);
                    Value::Map(layers.concat(pass, maps))
                }
                Body::Sum { inputs } => {
                    let maps: Vec<_> = inputs.iter().map(|&input| map(input).clone()).collect();
                    release(engine, &mut values, layer.inputs(), id, &last_reader);
                    Value::Map(
                        maps.into_iter().reduce(|sum, map| sum + map).expect("a sum has terms"),
                    )
                }
                body => unreachable!("{body:?} has an arm above"),
            };
            values.push(Some(value));
            release(engine, &mut values, layer.inputs(), id, &last_reader);
        }
        let mut logits = |id: usize| values[id].take().expect("the logits are needed").flat();
        Logits { main: logits(plan.logits), auxiliary: auxiliary.map(logits) }
    }

    /// The last needed layer that reads each layer.
    fn last_readers(&self, needed: &[bool]) -> Vec<usize> {
        let mut last: Vec<usize> = (0..self.plan.layers.len()).collect();
        for (id, layer) in self.plan.layers.iter().enumerate().filter(|(id, _)| needed[*id]) {
            layer.inputs().for_each(|input| last[input] = id);
        }
        last
    }

    /// Removes pruned operations and edges, with their weights and optimizer state.
    pub fn prune(&mut self, parameters: &mut Parameters, pruned: &[Pruned]) {
        parameters.remove(&self.plan.prune(pruned));
    }

    /// Removes everything that is no longer alive in `architecture`, to restore a checkpoint.
    pub fn prune_to(&mut self, parameters: &mut Parameters, architecture: &Architecture) {
        parameters.remove(&self.plan.prune_to(architecture));
    }

    /// Removes everything that is not in `genotype`.
    pub fn keep(&mut self, parameters: &mut Parameters, space: &SearchSpace, genotype: &Genotype) {
        parameters.remove(&self.plan.keep(space, genotype));
    }
}

/// Gives back the maps that `reader` is the last to read.
fn release(
    engine: &Engine,
    values: &mut [Option<Value>],
    inputs: impl Iterator<Item = usize>,
    reader: usize,
    last_reader: &[usize],
) {
    for input in inputs {
        if last_reader[input] == reader
            && let Some(Value::Map(map)) = values[input].take()
        {
            engine.layers().release(&mut std::iter::once(map));
        }
    }
}

/// Mixing tables as tensors `[edges * candidates]`, one per kind of cell.
pub fn mixing_tensors(tables: &MixingTables, device: &Device) -> Vec<Mixing> {
    let tensor = |table: &Vec<Vec<f64>>| {
        let flat: Vec<f32> = table.iter().flatten().map(|&weight| weight as f32).collect();
        Mixing::new(&flat, device)
    };
    tables.iter().map(tensor).collect()
}
