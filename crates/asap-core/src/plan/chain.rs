//! A writer for the steps of a chain, with the names and shapes of their parameters.

use super::step::{Init, Map, Parameter, Primitive, Role, Step};

/// A writer of consecutive steps, with parameters under one dotted path; see [`Plan::chain`](super::Plan::chain).
pub struct Chain<'a> {
    parameters: &'a mut Vec<Parameter>,
    path: String,
    /// The input of the next step.
    map: Map,
    steps: Vec<Step>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(parameters: &'a mut Vec<Parameter>, path: &str, input: Map) -> Self {
        Self { parameters, path: path.to_owned(), map: input, steps: Vec::new() }
    }

    /// The steps, and the output of the last one.
    pub(super) fn finish(self) -> (Vec<Step>, Map) {
        (self.steps, self.map)
    }

    /// `max(x, 0)`.
    pub fn relu(self) -> Self {
        let map = self.map;
        self.step(Primitive::Relu, map, vec![])
    }

    /// A convolution whose padding keeps the size at stride 1.
    pub fn conv(self, name: &str, out: usize, kernel: [usize; 2], stride: [usize; 2]) -> Self {
        let padding = kernel.map(|side| (side - 1) / 2);
        self.any_conv(name, out, kernel, stride, padding, 1, false)
    }

    /// A 1x1 convolution.
    pub fn pointwise(self, name: &str, out: usize) -> Self {
        self.conv(name, out, [1, 1], [1, 1])
    }

    /// A depthwise convolution whose padding keeps the size at stride 1.
    pub fn depthwise(self, name: &str, kernel: usize, stride: usize, dilation: usize) -> Self {
        let (channels, padding) = (self.map.channels, dilation * (kernel - 1) / 2);
        self.any_conv(name, channels, [kernel; 2], [stride; 2], [padding; 2], dilation, true)
    }

    /// A convolution over the whole 2x2 map, to one pixel.
    pub fn conv_2x2(self, name: &str, out: usize) -> Self {
        self.any_conv(name, out, [2, 2], [1, 1], [0, 0], 1, false)
    }

    #[expect(clippy::too_many_arguments, reason = "the numbers of a convolution")]
    fn any_conv(
        self,
        name: &str,
        out: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: usize,
        depthwise: bool,
    ) -> Self {
        let per_output = if depthwise { 1 } else { self.map.channels };
        let side = |size: usize, i: usize| {
            let reach = dilation * (kernel[i] - 1) + 1;
            size.saturating_add(2 * padding[i]).saturating_sub(reach) / stride[i] + 1
        };
        let output =
            Map { channels: out, height: side(self.map.height, 0), width: side(self.map.width, 1) };
        let fan_in = per_output.saturating_mul(kernel[0] * kernel[1]);
        let shape = vec![out, per_output, kernel[0], kernel[1]];
        let primitive = Primitive::Conv { kernel, stride, padding, dilation, depthwise };
        let weight = self.weight(name, shape, Init::fan_in(fan_in));
        self.step(primitive, output, vec![weight])
    }

    /// `conv_a` and `conv_b` of a factorized reduce to `out` channels.
    pub fn factorized_conv(self, out: usize) -> Self {
        let (channels, init) = (self.map.channels, Init::fan_in(self.map.channels));
        let a = self.weight("conv_a", vec![out.div_ceil(2), channels, 1, 1], init);
        let b = self.weight("conv_b", vec![out / 2, channels, 1, 1], init);
        let output = Map { channels: out, ..self.map.strided(2) };
        self.step(Primitive::FactorizedConv, output, vec![a, b])
    }

    /// A batch norm.
    pub fn norm(self, name: &str, affine: bool) -> Self {
        let channels = vec![self.map.channels];
        let of = |part: &str, role, value| Parameter {
            role,
            ..self.weight(&format!("{name}.{part}"), channels.clone(), Init::Constant(value))
        };
        let mut parameters =
            vec![of("running_mean", Role::Buffer, 0.0), of("running_var", Role::Buffer, 1.0)];
        if affine {
            parameters.extend([of("gamma", Role::Weight, 1.0), of("beta", Role::Bias, 0.0)]);
        }
        let map = self.map;
        self.step(Primitive::BatchNorm { affine }, map, parameters)
    }

    /// A map of zeros.
    pub fn zero(self, stride: usize) -> Self {
        let output = self.map.strided(stride);
        self.step(Primitive::Zero { stride }, output, vec![])
    }

    /// A 3x3 maximum.
    pub fn max_pool(self, stride: usize) -> Self {
        let output = self.map.strided(stride);
        self.step(Primitive::MaxPool { stride }, output, vec![])
    }

    /// A 3x3 average.
    pub fn avg_pool(self, stride: usize) -> Self {
        let output = self.map.strided(stride);
        self.step(Primitive::AvgPool { stride }, output, vec![])
    }

    /// A 2x2 average of stride 2.
    pub fn avg_pool_2x2(self) -> Self {
        let output = self.map.strided(2);
        self.step(Primitive::AvgPool2x2, output, vec![])
    }

    /// An average over a 2x2 grid.
    pub fn adaptive_pool_2x2(self) -> Self {
        let output = Map { height: 2, width: 2, ..self.map };
        self.step(Primitive::AdaptivePool2x2, output, vec![])
    }

    /// The mean over rows and columns.
    pub fn global_pool(self) -> Self {
        let output = Map::flat(self.map.channels);
        self.step(Primitive::GlobalPool, output, vec![])
    }

    /// A linear layer, `weight` and `bias`.
    pub fn linear(self, out: usize) -> Self {
        let (features, init) = (self.map.channels, Init::fan_in(self.map.channels));
        let weight = self.weight("weight", vec![out, features], init);
        let bias = Parameter { role: Role::Bias, ..self.weight("bias", vec![out], init) };
        self.step(Primitive::Linear, Map::flat(out), vec![weight, bias])
    }

    /// The same chain, with the parameters of the steps that `write` adds below `part`.
    pub fn under(mut self, part: &str, write: impl FnOnce(Self) -> Self) -> Self {
        let path = format!("{}.{part}", self.path);
        let outer = std::mem::replace(&mut self.path, path);
        let mut written = write(self);
        written.path = outer;
        written
    }

    fn weight(&self, name: &str, shape: Vec<usize>, init: Init) -> Parameter {
        Parameter { name: format!("{}.{name}", self.path), shape, role: Role::Weight, init }
    }

    fn step(mut self, primitive: Primitive, output: Map, parameters: Vec<Parameter>) -> Self {
        let first = self.parameters.len();
        self.parameters.extend(parameters);
        let parameters = first..self.parameters.len();
        self.steps.push(Step { primitive, input: self.map, output, parameters });
        self.map = output;
        self
    }
}
