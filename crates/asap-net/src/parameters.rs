//! Every tensor that a network owns, by name: weights, their momentum, and running statistics.
//!
//! A network is plain data that refers to its tensors by [`ParameterId`]. One flat table makes
//! removal of a pruned operation, strict loading, and an optimizer step one loop each.

use std::collections::{BTreeMap, BTreeSet};

use asap_kernels::Precision;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::pass::WeightGradients;

/// Refers to one tensor of [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParameterId(usize);

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained by the optimizer.
    Weight,
    /// Kept by the network itself: the running mean and variance of a batch norm.
    Buffer,
}

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `[-bound, bound]`.
    Uniform(f32),
    /// Every element the same.
    Constant(f32),
}

impl Init {
    /// PyTorch's default for convolutions and linear layers: the bound is `1 / sqrt(fan_in)`.
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in as f32).sqrt())
    }
}

/// One named tensor, stored flat.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Dotted path, such as `cells.0.edges.3.sep_conv_3x3.halves.0.depthwise`.
    pub name: String,
    /// Logical shape; convolutions are `[out, in / groups, height, width]`.
    pub shape: Vec<usize>,
    /// Weight or buffer.
    pub role: Role,
    /// The elements.
    pub value: Tensor<1>,
    /// Momentum of the optimizer, once it has made a step.
    pub momentum: Option<Tensor<1>>,
    /// Moving average of the value over the steps, where one is kept.
    pub average: Option<Tensor<1>>,
}

/// The table of a network's tensors.
#[derive(Clone, Debug)]
pub struct Parameters {
    device: Device,
    seed: u64,
    kernels: bool,
    precision: Precision,
    table: Vec<Option<Parameter>>,
}

/// Suffixes of the names under which a checkpoint holds what belongs to a tensor.
const MOMENTUM: &str = ":momentum";
const AVERAGE: &str = ":average";

/// Values by name, as a checkpoint holds them.
pub type NamedValues = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

impl Parameters {
    /// An empty table; `seed` decides every initial value.
    pub fn new(device: Device, seed: u64) -> Self {
        let kernels = device == Device::flex();
        Self { device, seed, kernels, precision: Precision::F32, table: Vec::new() }
    }

    /// The same table, with layers composed of Burn's operations also on the CPU.
    pub fn without_kernels(self) -> Self {
        Self { kernels: false, ..self }
    }

    /// The same table, with another precision of the kernels in training.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// How exactly the kernels compute in training.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether layers run on our own CPU kernels: on the CPU, unless they were refused.
    pub fn kernels(&self) -> bool {
        self.kernels
    }

    /// The device that holds the tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Adds a weight.
    ///
    /// Its initial value depends on the seed and its name only, not on what else is in the table.
    pub fn weight(&mut self, name: String, shape: &[usize], init: Init) -> ParameterId {
        let count = shape.iter().product();
        let values = match init {
            Init::Constant(value) => vec![value; count],
            Init::Uniform(bound) => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(fnv1a(&name));
                (0..count).map(|_| rng.random_range(-bound..=bound)).collect()
            }
        };
        self.add(name, shape, Role::Weight, values)
    }

    /// Adds a buffer of `len` equal elements.
    pub fn buffer(&mut self, name: String, len: usize, value: f32) -> ParameterId {
        self.add(name, &[len], Role::Buffer, vec![value; len])
    }

    fn add(&mut self, name: String, shape: &[usize], role: Role, values: Vec<f32>) -> ParameterId {
        let value = self.tensor(values);
        self.table.push(Some(Parameter {
            name,
            shape: shape.to_vec(),
            role,
            value,
            momentum: None,
            average: None,
        }));
        ParameterId(self.table.len() - 1)
    }

    fn tensor(&self, values: Vec<f32>) -> Tensor<1> {
        let shape = [values.len()];
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// The tensor behind an id.
    ///
    /// # Panics
    /// When it was removed: the network kept a reference to a pruned operation.
    pub fn get(&self, id: ParameterId) -> &Parameter {
        self.table[id.0].as_ref().expect("a live network refers to live parameters")
    }

    /// Replaces the value behind an id.
    pub fn set(&mut self, id: ParameterId, value: Tensor<1>) {
        self.table[id.0].as_mut().expect("a live network refers to live parameters").value = value;
    }

    /// All live tensors, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Parameter)> {
        self.table.iter().enumerate().filter_map(|(i, p)| p.as_ref().map(|p| (ParameterId(i), p)))
    }

    pub(crate) fn get_mut(&mut self, id: ParameterId) -> &mut Parameter {
        self.table[id.0].as_mut().expect("a live network refers to live parameters")
    }

    /// Drops everything below `path`: values, momentum and statistics.
    pub fn remove(&mut self, path: &str) {
        for slot in &mut self.table {
            let below = |p: &Parameter| {
                p.name
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if slot.as_ref().is_some_and(below) {
                *slot = None;
            }
        }
    }

    /// Number of trained elements.
    pub fn weight_count(&self) -> usize {
        self.iter()
            .filter(|(_, p)| p.role == Role::Weight)
            .map(|(_, p)| p.shape.iter().product::<usize>())
            .sum()
    }

    /// Moves the average of every tensor, running statistics included, a step towards its value.
    ///
    /// `decay` is the share of the old average that stays; the first step begins the average.
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

    /// The table with the averages in the place of the values, where they are kept.
    pub fn averaged(&self) -> Self {
        let mut averaged = self.clone();
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

    /// Copies everything to the host: values, and with a suffix what the optimizer and the average hold.
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
    /// Lists each tensor that is missing, unexpected or of another shape; nothing is changed then.
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
            let tensor = |suffix| {
                let values = named.get(&format!("{name}{suffix}"));
                values.map(|(_, values)| self.tensor(values.clone()))
            };
            let value = tensor("").expect("nothing is missing");
            let (momentum, average) = (tensor(MOMENTUM), tensor(AVERAGE));
            let parameter = self.get_mut(ParameterId(i));
            (parameter.value, parameter.momentum, parameter.average) = (value, momentum, average);
        }
        Ok(())
    }
}

fn host(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().into_data().try_into_vec::<f32>().expect("tensors are f32")
}

/// 64-bit FNV-1a: the same number on every platform and version.
pub fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(seed: u64) -> Parameters {
        let mut parameters = Parameters::new(Device::flex(), seed);
        parameters.weight("a.one".into(), &[2, 3], Init::fan_in(4));
        parameters.weight("a.two".into(), &[4], Init::Constant(1.0));
        parameters.buffer("ab.mean".into(), 3, 0.0);
        parameters
    }

    #[test]
    fn initial_values_depend_on_seed_and_name_only() {
        let (a, b, other) = (table(1), table(1), table(2));
        assert_eq!(a.to_named(), b.to_named());
        assert_ne!(a.to_named()["a.one"], other.to_named()["a.one"]);
        let mut alone = Parameters::new(Device::flex(), 1);
        alone.weight("a.one".into(), &[2, 3], Init::fan_in(4));
        assert_eq!(alone.to_named()["a.one"], a.to_named()["a.one"]);
        assert!(a.to_named()["a.one"].1.iter().all(|v| v.abs() <= 0.5));
    }

    #[test]
    fn removal_takes_a_path_and_not_its_namesakes() {
        let mut parameters = table(1);
        assert_eq!(parameters.weight_count(), 10);
        parameters.remove("a");
        let names: Vec<_> = parameters.iter().map(|(_, p)| p.name.clone()).collect();
        assert_eq!(names, ["ab.mean"]);
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
