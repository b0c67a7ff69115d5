//! ONNX: the trained network as a graph of standard operators, with its parameters under their own names.

use asap_core::plan::{Body, LayerId, Plan, Primitive, Step};
use prost::Message;

use super::proto::{
    Attribute, Dimension, Entry, FLOAT, Graph, INT64, Model, Node, OperatorSet, Shape, Tensor,
    TensorType, Type, ValueInfo,
};
use crate::engine::BATCH_NORM_EPSILON;
use crate::parameters::NamedValues;
use crate::trained::{NetworkCard, TrainedNetwork};

/// The oldest operator set that has every operator in the form used here; runtimes have read it since 2022.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// Names of the graph's input and output.
const INPUT: &str = "images";
const OUTPUT: &str = "logits";

/// The input of an ONNX file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// Normalised images: `(x / 255 - mean) / std`.
    #[default]
    Normalized,
    /// `x / 255`; the graph normalises.
    Unit,
}

/// The bytes of an ONNX file: images `[N, channels, height, width]` to logits `[N, classes]`, for any N.
///
/// Classes, mean and standard deviation are in the metadata as JSON.
pub fn onnx(network: &TrainedNetwork, input: Input) -> Vec<u8> {
    let card = network.card();
    let mut writer = Writer {
        plan: network.plan(),
        parameters: network.values(),
        nodes: vec![],
        tensors: vec![],
    };
    let images = match input {
        Input::Normalized => INPUT.to_owned(),
        Input::Unit => writer.normalize(card),
    };
    let logits = if network.averages_flips() {
        let both = writer.with_mirror_images(images);
        let logits = writer.network(both);
        writer.mean_of_two(logits, card.shape.classes)
    } else {
        writer.network(images)
    };
    if let Some(node) = writer.nodes.iter_mut().find(|node| node.output[0] == logits) {
        OUTPUT.clone_into(&mut node.output[0]);
    }
    let mut metadata = vec![("genotype", card.design.to_string()), ("data", card.data.clone())];
    for (key, value) in [
        ("classes", serde_json::to_string(&card.classes)),
        ("mean", serde_json::to_string(&card.normalization.mean)),
        ("std", serde_json::to_string(&card.normalization.std)),
    ] {
        metadata.push((key, value.expect("plain data is JSON")));
    }
    let shape = &card.shape;
    let image = [shape.in_channels, shape.height, shape.width];
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "asap".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(Graph {
            node: writer.nodes,
            name: "asap".to_owned(),
            initializer: writer.tensors,
            input: vec![value(INPUT, &image)],
            output: vec![value(OUTPUT, &[shape.classes])],
        }),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata
            .into_iter()
            .map(|(key, value)| Entry { key: key.to_owned(), value })
            .collect(),
    };
    model.encode_to_vec()
}

/// A tensor of floats with these sides behind the number of images.
fn value(name: &str, sides: &[usize]) -> ValueInfo {
    let images = Dimension { dim_value: None, dim_param: Some("N".to_owned()) };
    let sides =
        sides.iter().map(|&side| Dimension { dim_value: Some(side as i64), dim_param: None });
    let dim = std::iter::once(images).chain(sides).collect();
    let tensor_type = TensorType { elem_type: FLOAT, shape: Some(Shape { dim }) };
    ValueInfo { name: name.to_owned(), r#type: Some(Type { tensor_type: Some(tensor_type) }) }
}

struct Writer<'a> {
    plan: &'a Plan,
    parameters: NamedValues,
    nodes: Vec<Node>,
    tensors: Vec<Tensor>,
}

impl Writer<'_> {
    /// Every layer of the plan that the logits depend on; returns the name of the logits.
    fn network(&mut self, images: String) -> String {
        let plan = self.plan;
        let needed = plan.needed(false);
        let mut outputs: Vec<String> = Vec::with_capacity(plan.layers.len());
        for (id, layer) in plan.layers.iter().enumerate() {
            let name = |inputs: &[LayerId]| inputs.iter().map(|&i| outputs[i].clone()).collect();
            let output = match &layer.body {
                _ if !needed[id] => String::new(),
                Body::Images => images.clone(),
                Body::Chain { input, steps } => {
                    let x = outputs[*input].clone();
                    self.steps(steps, &layer.name, x)
                }
                Body::Node(node) => {
                    let terms = node.counting().map(|edge| {
                        let x = outputs[edge.input].clone();
                        self.steps(&edge.candidates[0].steps, &edge.name, x)
                    });
                    let terms: Vec<String> = terms.collect();
                    self.sum(terms, &layer.name)
                }
                Body::Concat { inputs } => {
                    let axis = vec![Attribute::int("axis", 1)];
                    self.node("Concat", &layer.name, name(inputs), axis)
                }
                Body::Sum { inputs } => self.sum(name(inputs), &layer.name),
                body => unreachable!("{body:?} has an arm above"),
            };
            outputs.push(output);
        }
        outputs.swap_remove(plan.logits)
    }

    /// The images, and behind them their mirror images.
    fn with_mirror_images(&mut self, images: String) -> String {
        let mut inputs = vec![images.clone()];
        for (name, value) in
            [("starts", -1), ("ends", -i64::from(i32::MAX)), ("axes", 3), ("steps", -1)]
        {
            inputs.push(self.integers(&format!("flips.{name}"), &[value]));
        }
        let mirrored = self.node("Slice", "flips.mirrored", inputs, vec![]);
        let axis = vec![Attribute::int("axis", 0)];
        self.node("Concat", "flips", vec![images, mirrored], axis)
    }

    /// The mean of the first and the second half of the rows.
    fn mean_of_two(&mut self, rows: String, columns: usize) -> String {
        let shape = self.integers("flips.shape", &[2, -1, columns as i64]);
        let halves = self.node("Reshape", "flips.halves", vec![rows, shape], vec![]);
        let attributes = vec![Attribute::ints("axes", &[0]), Attribute::int("keepdims", 0)];
        self.node("ReduceMean", "flips.mean", vec![halves], attributes)
    }

    fn sum(&mut self, terms: Vec<String>, name: &str) -> String {
        let sum =
            terms.into_iter().reduce(|sum, term| self.node("Add", name, vec![sum, term], vec![]));
        sum.expect("a sum has terms")
    }

    fn steps(&mut self, steps: &[Step], path: &str, x: String) -> String {
        steps.iter().fold(x, |x, step| self.step(step, path, x))
    }

    fn step(&mut self, step: &Step, path: &str, x: String) -> String {
        let kernel = |side, stride| {
            vec![
                Attribute::ints("kernel_shape", &[side; 2]),
                Attribute::ints("strides", &[stride; 2]),
            ]
        };
        let pool = |stride| [kernel(3, stride), vec![Attribute::ints("pads", &[1; 4])]].concat();
        match step.primitive {
            Primitive::Zero { stride } => {
                let x = self.node("MaxPool", &format!("{path}.shape"), vec![x], kernel(1, stride));
                let zero = self.floats(&format!("{path}.zero"), &[], &[0.0]);
                self.node("Mul", &format!("{path}.out"), vec![x, zero], vec![])
            }
            Primitive::Relu => self.relu(x),
            Primitive::Conv { .. } => self.conv(step, x),
            Primitive::FactorizedConv => self.factorized_conv(step, path, x),
            Primitive::BatchNorm { .. } => self.batch_norm(step, x),
            Primitive::MaxPool { stride } => {
                self.node("MaxPool", &format!("{path}.out"), vec![x], pool(stride))
            }
            Primitive::AvgPool { stride } => {
                self.node("AveragePool", &format!("{path}.out"), vec![x], pool(stride))
            }
            Primitive::AvgPool2x2 => {
                let [bottom, right] = [step.input.height % 2, step.input.width % 2];
                let pads = vec![Attribute::ints("pads", &[0, 0, bottom, right])];
                let attributes = [kernel(2, 2), pads].concat();
                self.node("AveragePool", &format!("{path}.pool"), vec![x], attributes)
            }
            Primitive::GlobalPool => {
                let pooled =
                    self.node("GlobalAveragePool", &format!("{path}.pool"), vec![x], vec![]);
                self.node("Flatten", &format!("{path}.flatten"), vec![pooled], vec![])
            }
            Primitive::Linear => {
                let mut inputs = vec![x];
                inputs.extend(step.parameters.clone().map(|id| self.parameter(id)));
                self.node("Gemm", path, inputs, vec![Attribute::int("transB", 1)])
            }
            primitive => unreachable!("{primitive:?} is in no network that is exported"),
        }
    }

    fn relu(&mut self, x: String) -> String {
        let name = format!("{x}.relu");
        // Several operations read the same state.
        if !self.nodes.iter().any(|node| node.output[0] == name) {
            self.node("Relu", &name, vec![x], vec![]);
        }
        name
    }

    fn conv(&mut self, step: &Step, x: String) -> String {
        let Primitive::Conv { kernel, stride, padding, dilation, depthwise } = step.primitive
        else {
            unreachable!("a convolution's step");
        };
        let [pad_h, pad_w] = padding;
        let group = if depthwise { step.input.channels } else { 1 };
        let attributes = vec![
            Attribute::ints("kernel_shape", &kernel),
            Attribute::ints("strides", &stride),
            Attribute::ints("pads", &[pad_h, pad_w, pad_h, pad_w]),
            Attribute::ints("dilations", &[dilation; 2]),
            Attribute::int("group", group as i64),
        ];
        let parameter = self.parameter(step.parameters.start);
        let name = format!("{parameter}.out");
        self.node("Conv", &name, vec![x, parameter], attributes)
    }

    /// Even rows and columns by one convolution, odd ones by the other; if the last odd one is missing it counts as
    /// zero.
    fn factorized_conv(&mut self, step: &Step, path: &str, x: String) -> String {
        let conv = |stride: usize| {
            vec![Attribute::ints("kernel_shape", &[1, 1]), Attribute::ints("strides", &[stride; 2])]
        };
        let parameters: Vec<String> =
            step.parameters.clone().map(|id| self.parameter(id)).collect();
        let name = |i: usize| format!("{}.out", parameters[i]);
        let even = self.node("Conv", &name(0), vec![x.clone(), parameters[0].clone()], conv(2));
        let mut odd = x;
        let (h, w) = (step.input.height, step.input.width);
        if h % 2 + w % 2 > 0 {
            let pads = [0, 0, 0, 0, 0, 0, h % 2, w % 2].map(|pad| pad as i64);
            let pads = self.integers(&format!("{path}.pads"), &pads);
            odd = self.node("Pad", &format!("{path}.pad"), vec![odd, pads], vec![]);
        }
        let slice: Vec<String> = [
            ("starts", [1, 1]),
            ("ends", [i64::from(i32::MAX); 2]),
            ("axes", [2, 3]),
            ("steps", [2, 2]),
        ]
        .into_iter()
        .map(|(name, values)| self.integers(&format!("{path}.{name}"), &values))
        .collect();
        let inputs = std::iter::once(odd).chain(slice).collect();
        let odd = self.node("Slice", &format!("{path}.odd"), inputs, vec![]);
        let odd = self.node("Conv", &name(1), vec![odd, parameters[1].clone()], conv(1));
        let axis = vec![Attribute::int("axis", 1)];
        self.node("Concat", &format!("{path}.concat"), vec![even, odd], axis)
    }

    fn batch_norm(&mut self, step: &Step, x: String) -> String {
        let [mean, variance, gamma, beta] =
            [0, 1, 2, 3].map(|i| self.parameter(step.parameters.start + i));
        let name = gamma.trim_end_matches("gamma").to_owned() + "out";
        let epsilon = vec![Attribute::float("epsilon", BATCH_NORM_EPSILON)];
        self.node("BatchNormalization", &name, vec![x, gamma, beta, mean, variance], epsilon)
    }

    fn normalize(&mut self, card: &NetworkCard) -> String {
        let channels = card.shape.in_channels;
        let mean =
            self.floats("normalization.mean", &[1, channels, 1, 1], &card.normalization.mean);
        let std = self.floats("normalization.std", &[1, channels, 1, 1], &card.normalization.std);
        let centred =
            self.node("Sub", "normalization.centred", vec![INPUT.to_owned(), mean], vec![]);
        self.node("Div", "normalization", vec![centred, std], vec![])
    }

    /// Adds a node and returns the name of its output: `name`, with a number if that is taken.
    fn node(
        &mut self,
        operator: &str,
        name: &str,
        input: Vec<String>,
        attribute: Vec<Attribute>,
    ) -> String {
        let taken = |name: &str| self.nodes.iter().any(|node| node.output[0] == name);
        let output = (0..)
            .map(|n| if n == 0 { name.to_owned() } else { format!("{name}.{n}") })
            .find(|name| !taken(name))
            .expect("numbers do not run out");
        self.nodes.push(Node {
            input,
            output: vec![output.clone()],
            name: output.clone(),
            op_type: operator.to_owned(),
            attribute,
        });
        output
    }

    fn parameter(&mut self, id: usize) -> String {
        let name = self.plan.parameters[id].name.as_str();
        let (shape, values) = self.parameters[name].clone();
        self.floats(name, &shape, &values)
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, dims.to_vec(), FLOAT, bytes)
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, vec![values.len()], INT64, bytes)
    }

    fn tensor(&mut self, name: &str, dims: Vec<usize>, kind: i32, raw_data: Vec<u8>) -> String {
        self.tensors.push(Tensor {
            dims: dims.into_iter().map(|side| side as i64).collect(),
            data_type: kind,
            name: name.to_owned(),
            raw_data,
        });
        name.to_owned()
    }
}
