//! ONNX: the trained network as a graph of standard operators, with its parameters under their own names.

use asap_core::{CellGenotype, CellKind, Gene, OperationKind, Stem, reduction_cells, space};
use prost::Message;

use super::proto::{
    Attribute, Dimension, Entry, FLOAT, Graph, INT64, Model, Node, OperatorSet, Shape, Tensor,
    TensorType, Type, ValueInfo,
};
use crate::ops::BATCH_NORM_EPSILON;
use crate::parameters::NamedValues;
use crate::trained::{NetworkCard, TrainedNetwork};

/// The oldest operator set that has every operator as it is used here; runtimes read it since 2022.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// Names of the graph's input and output.
const INPUT: &str = "images";
const OUTPUT: &str = "logits";

/// What an ONNX file takes as its input.
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
    let mut writer = Writer { parameters: network.values(), nodes: vec![], tensors: vec![] };
    let images = match input {
        Input::Normalized => INPUT.to_owned(),
        Input::Unit => writer.normalize(card),
    };
    writer.network(card, images);
    let mut metadata = vec![("genotype", card.genotype.to_string()), ("data", card.data.clone())];
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

/// A value of the graph and the size of its maps.
#[derive(Clone)]
struct Map {
    name: String,
    size: [usize; 2],
}

struct Writer {
    parameters: NamedValues,
    nodes: Vec<Node>,
    tensors: Vec<Tensor>,
}

impl Writer {
    fn network(&mut self, card: &NetworkCard, images: String) {
        let shape = &card.shape;
        let images = Map { name: images, size: [shape.height, shape.width] };
        let [mut before, mut last] = match shape.stem {
            Stem::Small => {
                let stem = self.conv3x3(images, "stem", 1);
                [stem.clone(), stem]
            }
            Stem::Large => {
                let half = self.conv3x3(images, "stem.0", 2);
                let half = self.relu(half);
                let quarter = self.conv3x3(half, "stem.1", 2);
                let input = self.relu(quarter.clone());
                let eighth = self.conv3x3(input, "stem.2", 2);
                [quarter, eighth]
            }
        };
        let mut halve = shape.stem == Stem::Large;
        let reductions: Vec<usize> = reduction_cells(shape.cells).collect();
        for i in 0..shape.cells {
            let reduction = reductions.contains(&i);
            let kind = if reduction { CellKind::Reduction } else { CellKind::Normal };
            let path = format!("cells.{i}");
            let first = format!("{path}.preprocess0");
            let states = [
                if halve { self.reduce(before, &first) } else { self.relu_conv_bn(before, &first) },
                self.relu_conv_bn(last.clone(), &format!("{path}.preprocess1")),
            ];
            let output = self.cell(card.genotype.cell(kind), kind, &path, states);
            (before, last, halve) = (last, output, reduction);
        }
        let pooled = self.node("GlobalAveragePool", "head.pool", vec![last.name], vec![]);
        let flat = self.node("Flatten", "head.flatten", vec![pooled], vec![]);
        let inputs = vec![flat, self.parameter("head.weight"), self.parameter("head.bias")];
        let logits = self.node("Gemm", "head", inputs, vec![Attribute::int("transB", 1)]);
        if let Some(node) = self.nodes.last_mut().filter(|node| node.output[0] == logits) {
            OUTPUT.clone_into(&mut node.output[0]);
        }
    }

    fn cell(&mut self, cell: &CellGenotype, kind: CellKind, path: &str, inputs: [Map; 2]) -> Map {
        let mut states = Vec::from(inputs);
        let mut number = 0;
        for (node, genes) in cell.nodes.iter().enumerate() {
            let mut sum: Option<Map> = None;
            for gene in genes {
                let name = format!("{path}.ops.{number}");
                number += 1;
                let stride = space::stride(kind, gene.input);
                let Some(term) = self.operation(gene, stride, &name, states[gene.input].clone())
                else {
                    continue;
                };
                sum = Some(match sum {
                    Some(sum) => {
                        let inputs = vec![sum.name, term.name];
                        let name =
                            self.node("Add", &format!("{path}.nodes.{node}"), inputs, vec![]);
                        Map { name, size: sum.size }
                    }
                    None => term,
                });
            }
            let sum = sum.unwrap_or_else(|| {
                let gene = genes[0];
                let stride = space::stride(kind, gene.input);
                self.zeros(states[gene.input].clone(), stride, &format!("{path}.nodes.{node}"))
            });
            states.push(sum);
        }
        let names = cell.concat.iter().map(|&state| states[state].name.clone()).collect();
        let size = states[cell.concat[0]].size;
        let name = self.node("Concat", path, names, vec![Attribute::int("axis", 1)]);
        Map { name, size }
    }

    /// Nothing for `none`, which adds zero.
    fn operation(&mut self, gene: &Gene, stride: usize, path: &str, x: Map) -> Option<Map> {
        let pads = Attribute::ints("pads", &[1; 4]);
        let pool = vec![
            Attribute::ints("kernel_shape", &[3, 3]),
            Attribute::ints("strides", &[stride; 2]),
            pads,
        ];
        Some(match gene.operation.kind() {
            OperationKind::None => return None,
            OperationKind::MaxPool => self.strided("MaxPool", path, x, stride, pool),
            OperationKind::AvgPool => self.strided("AveragePool", path, x, stride, pool),
            OperationKind::Skip if stride == 1 => x,
            OperationKind::Skip => self.reduce(x, path),
            OperationKind::SepConv { kernel } => {
                let x = self.half(x, &format!("{path}.halves.0"), [kernel, stride, 1]);
                self.half(x, &format!("{path}.halves.1"), [kernel, 1, 1])
            }
            OperationKind::DilConv { kernel } => {
                self.half(x, &format!("{path}.halves.0"), [kernel, stride, 2])
            }
            OperationKind::Conv7x1Then1x7 => {
                let x = self.relu(x);
                let x = self.conv(x, &format!("{path}.conv_1x7"), [1, stride], [0, 3], 1);
                let x = self.conv(x, &format!("{path}.conv_7x1"), [stride, 1], [3, 0], 1);
                self.batch_norm(x, &format!("{path}.bn"))
            }
        })
    }

    /// ReLU, depthwise, 1x1, batch norm.
    fn half(&mut self, x: Map, path: &str, [kernel, stride, dilation]: [usize; 3]) -> Map {
        let x = self.relu(x);
        let pad = dilation * (kernel - 1) / 2;
        let x = self.conv(x, &format!("{path}.depthwise"), [stride; 2], [pad; 2], dilation);
        let x = self.conv(x, &format!("{path}.pointwise"), [1; 2], [0; 2], 1);
        self.batch_norm(x, &format!("{path}.bn"))
    }

    fn relu_conv_bn(&mut self, x: Map, path: &str) -> Map {
        let x = self.relu(x);
        let x = self.conv(x, &format!("{path}.conv"), [1; 2], [0; 2], 1);
        self.batch_norm(x, &format!("{path}.bn"))
    }

    fn conv3x3(&mut self, x: Map, path: &str, stride: usize) -> Map {
        let x = self.conv(x, &format!("{path}.conv"), [stride; 2], [1; 2], 1);
        self.batch_norm(x, &format!("{path}.bn"))
    }

    /// Factorized reduce: even rows and columns by one convolution, odd ones by the other; where the last odd one is
    /// missing it counts as zero.
    fn reduce(&mut self, x: Map, path: &str) -> Map {
        let x = self.relu(x);
        let [h, w] = x.size;
        let even = self.conv(x.clone(), &format!("{path}.conv_a"), [2; 2], [0; 2], 1);
        let mut odd = x;
        if h % 2 + w % 2 > 0 {
            let pads = [0, 0, 0, 0, 0, 0, h % 2, w % 2].map(|pad| pad as i64);
            let pads = self.integers(&format!("{path}.pads"), &pads);
            odd.name = self.node("Pad", &format!("{path}.pad"), vec![odd.name, pads], vec![]);
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
        let inputs = std::iter::once(odd.name).chain(slice).collect();
        let size = [h.div_ceil(2), w.div_ceil(2)];
        let name = self.node("Slice", &format!("{path}.odd"), inputs, vec![]);
        let odd = self.conv(Map { name, size }, &format!("{path}.conv_b"), [1; 2], [0; 2], 1);
        let inputs = vec![even.name, odd.name];
        let axis = vec![Attribute::int("axis", 1)];
        let name = self.node("Concat", &format!("{path}.concat"), inputs, axis);
        self.batch_norm(Map { name, size }, &format!("{path}.bn"))
    }

    fn zeros(&mut self, x: Map, stride: usize, path: &str) -> Map {
        let kernel = vec![
            Attribute::ints("kernel_shape", &[1, 1]),
            Attribute::ints("strides", &[stride; 2]),
        ];
        let x = self.strided("MaxPool", &format!("{path}.shape"), x, stride, kernel);
        let zero = self.floats(&format!("{path}.zero"), &[], &[0.0]);
        let name = self.node("Mul", path, vec![x.name, zero], vec![]);
        Map { name, ..x }
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

    fn relu(&mut self, x: Map) -> Map {
        let name = format!("{}.relu", x.name);
        // Several operations read the same state.
        if !self.nodes.iter().any(|node| node.output[0] == name) {
            self.node("Relu", &name, vec![x.name], vec![]);
        }
        Map { name, size: x.size }
    }

    /// A convolution whose groups follow from its weight.
    fn conv(
        &mut self,
        x: Map,
        path: &str,
        strides: [usize; 2],
        [pad_h, pad_w]: [usize; 2],
        dilation: usize,
    ) -> Map {
        let shape = self.parameters[path].0.clone();
        let depthwise = path.ends_with(".depthwise");
        let attributes = vec![
            Attribute::ints("kernel_shape", &shape[2..]),
            Attribute::ints("strides", &strides),
            Attribute::ints("pads", &[pad_h, pad_w, pad_h, pad_w]),
            Attribute::ints("dilations", &[dilation; 2]),
            Attribute::int("group", if depthwise { shape[0] as i64 } else { 1 }),
        ];
        let size = [x.size[0].div_ceil(strides[0]), x.size[1].div_ceil(strides[1])];
        let inputs = vec![x.name, self.parameter(path)];
        let name = self.node("Conv", &format!("{path}.out"), inputs, attributes);
        Map { name, size }
    }

    fn batch_norm(&mut self, x: Map, path: &str) -> Map {
        let mut inputs = vec![x.name];
        for part in ["gamma", "beta", "running_mean", "running_var"] {
            inputs.push(self.parameter(&format!("{path}.{part}")));
        }
        let epsilon = vec![Attribute::float("epsilon", BATCH_NORM_EPSILON)];
        let name = self.node("BatchNormalization", &format!("{path}.out"), inputs, epsilon);
        Map { name, size: x.size }
    }

    fn strided(
        &mut self,
        operator: &str,
        path: &str,
        x: Map,
        stride: usize,
        attributes: Vec<Attribute>,
    ) -> Map {
        let size = x.size.map(|side| side.div_ceil(stride));
        let name = self.node(operator, &format!("{path}.out"), vec![x.name], attributes);
        Map { name, size }
    }

    /// Adds a node and returns the name of its output: `name`, with a number where that is taken.
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

    fn parameter(&mut self, name: &str) -> String {
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
