//! Every tensor that a network owns, by name: weights, their momentum, and running statistics.
//!
//! A plan refers to its tensors by their position in [`Plan::parameters`]. With one flat table, removing a pruned
//! operation, strict loading, and an optimizer step are one loop each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use asap_core::plan::{Init, Plan, Role};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Error;

/// Position of a tensor in [`Plan::parameters`] and in [`Parameters`].
pub type ParameterId = usize;

/// One named tensor, stored flat.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Dotted path, such as `cells.0.edges.3.sep_conv_3x3.halves.0.depthwise`.
    pub name: String,
    /// Logical shape; convolutions are `[out, in / groups, height, width]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// The elements.
    pub value: Tensor<1>,
    /// Momentum of the optimizer, after its first step.
    pub momentum: Option<Tensor<1>>,
    /// Moving average of the value over the steps, if one is kept.
    pub average: Option<Tensor<1>>,
}

/// The tensors of a network.
#[derive(Clone, Debug)]
pub struct Parameters {
    device: Device,
    /// Identifies a state of the values: two tables with the same number hold the same values.
    revision: u64,
    table: Vec<Option<Parameter>>,
}

/// Suffixes of the names under which a checkpoint holds the state that belongs to a tensor.
const MOMENTUM: &str = ":momentum";
const AVERAGE: &str = ":average";

/// Gradients by parameter, in the order of the table.
pub type WeightGradients = Vec<(ParameterId, Tensor<1>)>;

/// Values by name, as a checkpoint holds them.
pub type NamedValues = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

impl Parameters {
    /// The tensors that a plan refers to, on `device`.
    ///
    /// An initial value depends on the seed and the tensor's name only, not on what else is in the plan.
    pub fn new(plan: &Plan, device: &Device, seed: u64) -> Self {
        let mut table: Vec<Option<Parameter>> = plan.parameters.iter().map(|_| None).collect();
        for id in plan.live_parameters() {
            let planned = &plan.parameters[id];
            let count = planned.shape.iter().product();
            let values = match planned.init {
                Init::Constant(value) => vec![value; count],
                Init::Uniform(bound) => {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    rng.set_stream(fnv1a(&planned.name));
                    (0..count).map(|_| rng.random_range(-bound..=bound)).collect()
                }
            };
            table[id] = Some(Parameter {
                name: planned.name.clone(),
                shape: planned.shape.clone(),
                role: planned.role,
                value: tensor(values, device),
                momentum: None,
                average: None,
            });
        }
        Self { device: device.clone(), revision: next_revision(), table }
    }

    /// The device that holds the tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A number that changes with every change of a value, and that no table with other values shares.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The tensor behind an id.
    ///
    /// # Panics
    /// If it was removed: the network kept a reference to a pruned operation.
    pub fn get(&self, id: ParameterId) -> &Parameter {
        self.table[id].as_ref().expect("a live network refers to live parameters")
    }

    /// Replaces the value behind an id.
    pub fn set(&mut self, id: ParameterId, value: Tensor<1>) {
        self.get_mut(id).value = value;
    }

    /// All live tensors, in the order of the plan.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Parameter)> {
        self.table.iter().enumerate().filter_map(|(id, p)| p.as_ref().map(|p| (id, p)))
    }

    pub(crate) fn get_mut(&mut self, id: ParameterId) -> &mut Parameter {
        self.revision = next_revision();
        self.table[id].as_mut().expect("a live network refers to live parameters")
    }

    /// Drops tensors with their momentum and statistics.
    pub fn remove(&mut self, ids: &[ParameterId]) {
        ids.iter().for_each(|&id| self.table[id] = None);
    }

    /// Number of trained elements.
    pub fn weight_count(&self) -> usize {
        self.iter()
            .filter(|(_, p)| p.role.is_trained())
            .map(|(_, p)| p.shape.iter().product::<usize>())
            .sum()
    }

    /// Moves the average of every tensor, running statistics included, a step towards its value.
    ///
    /// `decay` is the fraction of the old average that is kept; the first step starts the average.
    pub fn update_average(&mut self, decay: f64) {
        for parameter in self.table.iter_mut().flatten() {
            let value = parameter.value.clone();
            parameter.average = Some(match parameter.average.take() {
                Some(average) => average * decay + value * (1.0 - decay),
                None => value,
            });
        }
    }

    /// The table with some values moved by `scale` times a gradient.
    pub fn moved(&self, gradients: &WeightGradients, scale: f64) -> Self {
        let mut moved = self.clone();
        for (id, gradient) in gradients {
            let parameter = moved.get_mut(*id);
            parameter.value = parameter.value.clone() + gradient.clone() * scale;
        }
        moved
    }

    /// The table with the values replaced by their averages, where they are kept.
    pub fn averaged(&self) -> Self {
        let mut averaged = Self { revision: next_revision(), ..self.clone() };
        for parameter in averaged.table.iter_mut().flatten() {
            if let Some(average) = parameter.average.take() {
                parameter.value = average;
            }
        }
        averaged
    }

    /// Copies every value to the host.
    pub fn values(&self) -> NamedValues {
        self.iter().map(|(_, p)| (p.name.clone(), (p.shape.clone(), host(&p.value)))).collect()
    }

    /// Copies everything to the host: values and, with a suffix, momentum and averages.
    pub fn to_named(&self) -> NamedValues {
        let mut named = self.values();
        for (_, p) in self.iter() {
            for (suffix, state) in [(MOMENTUM, &p.momentum), (AVERAGE, &p.average)] {
                if let Some(state) = state {
                    named.insert(format!("{}{suffix}", p.name), (p.shape.clone(), host(state)));
                }
            }
        }
        named
    }

    /// Replaces every value, momentum and average by those of `named`.
    ///
    /// # Errors
    /// Lists each tensor that is missing, unexpected or has a different shape; nothing is changed then.
    pub fn load_named(&mut self, named: &NamedValues) -> Result<(), Error> {
        let (mut missing, mut misshaped) = (Vec::new(), Vec::new());
        let mut unexpected: BTreeSet<&str> = named.keys().map(String::as_str).collect();
        for (_, p) in self.iter() {
            for suffix in ["", MOMENTUM, AVERAGE] {
                let name = format!("{}{suffix}", p.name);
                unexpected.remove(name.as_str());
                match named.get(&name) {
                    None if suffix.is_empty() => missing.push(name),
                    Some((shape, _)) if *shape != p.shape => {
                        misshaped.push(format!("{name} (expected {:?}, found {shape:?})", p.shape));
                    }
                    _ => {}
                }
            }
        }
        if !(missing.is_empty() && unexpected.is_empty() && misshaped.is_empty()) {
            let unexpected = unexpected.into_iter().map(str::to_owned).collect();
            return Err(Error::TensorMismatch { missing, unexpected, misshaped });
        }
        for i in 0..self.table.len() {
            let Some(name) = self.table[i].as_ref().map(|p| p.name.clone()) else { continue };
            let saved = |suffix| {
                let values = named.get(&format!("{name}{suffix}"));
                values.map(|(_, values)| tensor(values.clone(), &self.device))
            };
            let value = saved("").expect("nothing is missing");
            let (momentum, average) = (saved(MOMENTUM), saved(AVERAGE));
            let parameter = self.get_mut(i);
            (parameter.value, parameter.momentum, parameter.average) = (value, momentum, average);
        }
        Ok(())
    }
}

fn tensor(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn next_revision() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn host(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().into_data().try_into_vec::<f32>().expect("tensors are f32")
}

/// 64-bit FNV-1a: the same number on every platform and version.
pub fn fnv1a(text: &str) -> u64 {
    asap_data::fnv1a(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use asap_core::Family;
    use asap_core::plan::{Body, Layer, Map, Primitive, Step};

    use super::*;

    fn plan() -> Plan {
        let parameter = |name: &str, shape: &[usize], role, init| asap_core::plan::Parameter {
            name: name.to_owned(),
            shape: shape.to_vec(),
            role,
            init,
        };
        let parameters = vec![
            parameter("a.one", &[2, 3], Role::Weight, Init::fan_in(4)),
            parameter("a.two", &[4], Role::Weight, Init::Constant(1.0)),
            parameter("ab.mean", &[3], Role::Buffer, Init::Constant(0.0)),
        ];
        let map = Map::flat(1);
        let step =
            |parameters| Step { primitive: Primitive::Relu, input: map, output: map, parameters };
        let body = Body::Chain { input: 0, steps: vec![step(0..2), step(2..3)] };
        let layers = vec![Layer { name: "a".to_owned(), output: map, body }];
        Plan { family: Family::Darts, layers, parameters, logits: 0, auxiliary: None }
    }

    fn table(seed: u64) -> Parameters {
        Parameters::new(&plan(), &Device::flex(), seed)
    }

    #[test]
    fn initial_values_depend_on_seed_and_name_only() {
        let (a, b, other) = (table(1), table(1), table(2));
        assert_eq!(a.to_named(), b.to_named());
        assert_ne!(a.to_named()["a.one"], other.to_named()["a.one"]);
        let mut later = plan();
        later.parameters.insert(0, later.parameters[2].clone());
        let Body::Chain { steps, .. } = &mut later.layers[0].body else { unreachable!() };
        steps[0].parameters = 1..2;
        let alone = Parameters::new(&later, &Device::flex(), 1);
        assert_eq!(alone.to_named()["a.one"], a.to_named()["a.one"]);
        assert!(a.to_named()["a.one"].1.iter().all(|v| v.abs() <= 0.5));
    }

    #[test]
    fn removal_and_change_are_seen_in_count_and_revision() {
        let mut parameters = table(1);
        assert_eq!(parameters.weight_count(), 10);
        parameters.remove(&[0, 1]);
        let names: Vec<_> = parameters.iter().map(|(_, p)| p.name.clone()).collect();
        assert_eq!(names, ["ab.mean"]);
        let (copy, before) = (parameters.clone(), parameters.revision());
        parameters.set(2, Tensor::full([3], 2.0, &Device::flex()));
        assert_eq!(copy.revision(), before);
        assert_ne!(parameters.revision(), before);
        assert_ne!(parameters.averaged().revision(), parameters.revision());
    }

    #[test]
    fn the_average_follows_the_values_and_survives_a_reload() {
        let mut parameters = table(1);
        let (id, _) = parameters.iter().nth(1).unwrap();
        for value in [1.0, 3.0, 5.0] {
            parameters.set(id, Tensor::full([4], value, &Device::flex()));
            parameters.update_average(0.5);
        }
        // 1, then (1 + 3) / 2, then (2 + 5) / 2.
        assert_eq!(parameters.averaged().values()["a.two"].1, [3.5; 4]);
        assert_eq!(parameters.values()["a.two"].1, [5.0; 4]);
        let mut reloaded = table(2);
        reloaded.load_named(&parameters.to_named()).unwrap();
        assert_eq!(reloaded.averaged().to_named(), parameters.averaged().to_named());
    }

    #[test]
    fn loading_is_strict_and_names_each_fault() {
        let mut parameters = table(1);
        let mut named = table(2).to_named();
        parameters.load_named(&named).unwrap();
        assert_eq!(parameters.to_named(), named);

        named.remove("a.two");
        named.insert("c".into(), (vec![1], vec![0.0]));
        named.insert("a.one".into(), (vec![3, 2], vec![0.0; 6]));
        let message = parameters.load_named(&named).unwrap_err().to_string();
        for part in ["a.two", "unexpected: c", "expected [2, 3], found [3, 2]"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(parameters.to_named(), table(2).to_named());
    }
}
