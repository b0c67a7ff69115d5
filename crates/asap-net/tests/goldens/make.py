"""Writes the golden files: `pip install torch==2.11.0 safetensors numpy`, then `python make.py`.

A plain PyTorch implementation of the search space, independent of the Rust code. Inputs and weights are
float32 numbers; everything is computed from them in float64 and stored as float32. README.md explains the keys.
"""

import math
from itertools import count
from pathlib import Path
from zlib import crc32

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

FOLDER = Path(__file__).parent
SIZE_LIMIT = 3_600_000

SEARCHED = [
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
]  # in the order of the columns of alpha
OPERATIONS = [*SEARCHED, "sep_conv_7x7", "conv_7x1_1x7"]
AFFINE = ["avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7"]
NODES = 4
EDGES = [(node, source) for node in range(NODES) for source in range(2 + node)]
NORMAL, REDUCE = 0, 1

# Reductions at cells // 3 and 2 * cells // 3, as everywhere. Channels and the rate of alive operations set the size.
SUPERNETS = {
    "a": dict(channels=4, cells=3, input_shape=(4, 1, 9, 9), classes=3, temperature=1.3, alive_rate=1.0),
    "b": dict(channels=8, cells=4, input_shape=(3, 3, 12, 12), classes=5, temperature=0.7, alive_rate=0.25),
}

# The cells that ASAP found: (operation, state) pairs, two for each node.
ASAP_CELLS = [
    [("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 1), ("skip_connect", 0),
     ("skip_connect", 0), ("skip_connect", 2), ("skip_connect", 1), ("skip_connect", 2)],
    [("avg_pool_3x3", 0), ("sep_conv_3x3", 1), ("avg_pool_3x3", 0), ("dil_conv_5x5", 2),
     ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0), ("skip_connect", 2)],
]
# NAS-Bench-201: one operation left out of the second network, every other on some edge of both kinds.
NB201 = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
NB201_EDGES = [(node, source) for node in range(3) for source in range(1 + node)]
NB201_CELL = ["nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "skip_connect", "none", "nor_conv_3x3"]
NB201_SHAPE = dict(channels=4, cells=4, input_shape=(4, 2, 9, 7), classes=3)
NETWORK = dict(channels=6, cells=5, input_shape=(4, 2, 9, 7), classes=3)
LABEL_SMOOTHING, AUXILIARY_WEIGHT = 0.1, 0.4
# Weights from this many elements on follow `formula`, so that the file need not hold them, and every 97th element
# of their gradients is stored.
LARGE, SAMPLE = 10_000, 97

# Distances to a kink in the forward pass: |x| at each ReLU, the winner's lead in each max pool.
# Float32 code must fall on the same side of all of them, or its gradients differ for no fault of its own.
# Exact ties do not count: they are the constants that factorized reduce makes of its zero padding, and which of
# them wins changes no gradient (`golden_supernet` asserts it).
kink_distances = []


def note_kink(distances):
    if torch.is_grad_enabled():  # a forward without gradient has none to protect
        kink_distances.append(distances.min().item())


def draw(*shape):
    """Normal float32 numbers, as float64."""
    return torch.randn(shape, dtype=torch.float32).double()


def weight(*shape):
    """A convolution or linear weight [out, in, ...] that keeps the variance of its input."""
    return nn.Parameter((draw(*shape) / math.sqrt(math.prod(shape[1:]))).float().double())


# ---- operations ----------------------------------------------------------------------------------------------------


def relu(x):
    note_kink(x.abs())
    return F.relu(x)


class BatchNorm(nn.Module):
    """Batch norm (eps 1e-5, momentum 0.1), with gamma and beta only if `affine`."""

    def __init__(self, channels, affine=False):
        super().__init__()
        self.gamma = nn.Parameter((1 + 0.3 * draw(channels)).float().double()) if affine else None
        self.beta = nn.Parameter((0.3 * draw(channels)).float().double()) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("running_var", torch.ones(channels, dtype=torch.float64))

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.gamma, self.beta, self.training, 0.1, 1e-5)


class Pool(nn.Module):
    """3x3 pooling, batch norm after it only in the search variant; the average leaves the padding out."""

    split_ties = False  # hand a maximum's gradient to all equal winners, not to the first

    def __init__(self, kind, channels, stride, affine):
        super().__init__()
        self.kind, self.stride = kind, stride
        self.bn = None if affine else BatchNorm(channels)

    def forward(self, x):
        if self.kind == "max":
            windows = F.pad(x, (1, 1, 1, 1), value=-math.inf).unfold(2, 3, self.stride).unfold(3, 3, self.stride)
            maxima = windows.amax((4, 5))
            leads = maxima[..., None, None] - windows
            note_kink(leads[leads > 0])
            y = maxima if Pool.split_ties else F.max_pool2d(x, 3, self.stride, 1)
        else:
            y = F.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False)
        return y if self.bn is None else self.bn(y)


class Half(nn.Module):
    """ReLU, depthwise kxk, 1x1, batch norm: half a separable convolution, or a whole dilated one."""

    def __init__(self, channels, kernel, stride, dilation, affine):
        super().__init__()
        self.depthwise = weight(channels, 1, kernel, kernel)
        self.pointwise = weight(channels, channels, 1, 1)
        self.bn = BatchNorm(channels, affine)
        self.stride, self.dilation, self.padding = stride, dilation, dilation * (kernel // 2)

    def forward(self, x):
        channels = x.shape[1]
        x = F.conv2d(relu(x), self.depthwise, None, self.stride, self.padding, self.dilation, groups=channels)
        return self.bn(F.conv2d(x, self.pointwise))


class Halves(nn.Module):
    def __init__(self, *halves):
        super().__init__()
        self.halves = nn.ModuleList(halves)

    def forward(self, x):
        for half in self.halves:
            x = half(x)
        return x


class FactorizedReduce(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2, the second shifted by a pixel, concatenated, batch norm."""

    def __init__(self, c_in, c_out, affine=False):
        super().__init__()
        self.conv_a = weight((c_out + 1) // 2, c_in, 1, 1)
        self.conv_b = weight(c_out // 2, c_in, 1, 1)
        self.bn = BatchNorm(c_out, affine)

    def forward(self, x):
        x = relu(x)
        shifted = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))  # the zeros are read only where a side is odd
        return self.bn(torch.cat([F.conv2d(x, self.conv_a, stride=2), F.conv2d(shifted, self.conv_b, stride=2)], 1))


class Conv7x1(nn.Module):
    """ReLU, 1x7, 7x1, batch norm; the 1x7 strides along the width, the 7x1 along the height."""

    def __init__(self, channels, stride, affine):
        super().__init__()
        self.conv_1x7 = weight(channels, channels, 1, 7)
        self.conv_7x1 = weight(channels, channels, 7, 1)
        self.bn = BatchNorm(channels, affine)
        self.stride = stride

    def forward(self, x):
        x = F.conv2d(relu(x), self.conv_1x7, stride=(1, self.stride), padding=(0, 3))
        return self.bn(F.conv2d(x, self.conv_7x1, stride=(self.stride, 1), padding=(3, 0)))


class ReluConvBn(nn.Module):
    """ReLU, 1x1, batch norm: the preprocess of a cell input."""

    def __init__(self, c_in, c_out, affine=False):
        super().__init__()
        self.conv = weight(c_out, c_in, 1, 1)
        self.bn = BatchNorm(c_out, affine)

    def forward(self, x):
        return self.bn(F.conv2d(relu(x), self.conv))


class Stem(nn.Module):
    """3x3 convolution and a batch norm that is affine in every network."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = weight(c_out, c_in, 3, 3)
        self.bn = BatchNorm(c_out, affine=True)

    def forward(self, x):
        return self.bn(F.conv2d(x, self.conv, padding=1))


class LargeStem(nn.Module):
    """DARTS NetworkImageNet: three convolutions of stride 2; the inputs of the first cell are the last two results."""

    def __init__(self, c_in, channels):
        super().__init__()
        half = (channels + 1) // 2
        for i, (c_in, c_out) in enumerate([(c_in, half), (half, channels), (channels, channels)]):
            layer = nn.Module()
            layer.conv, layer.bn = weight(c_out, c_in, 3, 3), BatchNorm(c_out, affine=True)
            self.add_module(str(i), layer)

    def forward(self, x):
        outputs = []
        for i, layer in enumerate(self.children()):
            x = layer.bn(F.conv2d(relu(x) if i else x, layer.conv, stride=2, padding=1))
            outputs.append(x)
        return outputs[1:]


class Head(nn.Module):
    """Global average pool and linear layer."""

    def __init__(self, channels, classes):
        super().__init__()
        self.weight = weight(classes, channels)
        self.bias = nn.Parameter(draw(classes))

    def forward(self, x):
        return F.linear(x.mean((2, 3)), self.weight, self.bias)


class AuxiliaryHead(nn.Module):
    """DARTS AuxiliaryHeadCIFAR with an adaptive pool: 2x2 pixels whatever the size."""

    def __init__(self, channels, classes):
        super().__init__()
        self.conv_1x1, self.bn_1x1 = weight(128, channels, 1, 1), BatchNorm(128, affine=True)
        self.conv_2x2, self.bn_2x2 = weight(768, 128, 2, 2), BatchNorm(768, affine=True)
        self.weight, self.bias = weight(classes, 768), nn.Parameter(draw(classes))

    def forward(self, x):
        x = F.adaptive_avg_pool2d(relu(x), 2)
        x = relu(self.bn_1x1(F.conv2d(x, self.conv_1x1)))
        x = relu(self.bn_2x2(F.conv2d(x, self.conv_2x2)))
        return F.linear(x.flatten(1), self.weight, self.bias)


def operation(name, channels, stride, affine=False):
    kernel = int(name[-1]) if name[-1].isdigit() else None
    match name.split("_")[0]:
        case "max" | "avg" as kind:
            return Pool(kind, channels, stride, affine)
        case "skip":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
        case "sep":
            return Halves(Half(channels, kernel, stride, 1, affine), Half(channels, kernel, 1, 1, affine))
        case "dil":
            return Halves(Half(channels, kernel, stride, 2, affine))
        case "conv":
            return Conv7x1(channels, stride, affine)


# ---- search network ------------------------------------------------------------------------------------------------


class Cell(nn.Module):
    """14 edges, each the phi-weighted sum of its alive operations; the output is the concat of the 4 nodes."""

    def __init__(self, c_before_last, c_last, channels, kind, after_reduction, alive):
        super().__init__()
        self.kind = kind
        self.preprocess0 = (FactorizedReduce if after_reduction else ReluConvBn)(c_before_last, channels)
        self.preprocess1 = ReluConvBn(c_last, channels)
        self.edges = nn.ModuleList()
        for (_, source), row in zip(EDGES, alive[kind]):
            stride = 2 if kind == REDUCE and source < 2 else 1
            names = [name for name, lives in zip(SEARCHED, row) if lives]
            self.edges.append(nn.ModuleDict({name: operation(name, channels, stride) for name in names}))

    def forward(self, before_last, last, phi):
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        for node in range(NODES):
            total = 0
            for e, (target, source) in enumerate(EDGES):
                if target == node:
                    for name, op in self.edges[e].items():
                        total = total + phi[self.kind, e, SEARCHED.index(name)] * op(states[source])
            states.append(total)
        return torch.cat(states[2:], 1)


class Supernet(nn.Module):
    def __init__(self, channels, cells, c_in, classes, alive):
        super().__init__()
        self.stem = Stem(c_in, 3 * channels)
        self.cells = nn.ModuleList()
        c_before_last = c_last = 3 * channels
        after_reduction = False
        for i in range(cells):
            reduction = i in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(Cell(c_before_last, c_last, channels, int(reduction), after_reduction, alive))
            c_before_last, c_last, after_reduction = c_last, NODES * channels, reduction
        self.head = Head(c_last, classes)

    def forward(self, x, phi):
        before_last = last = self.stem(x)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last, phi)
        return self.head(last)


# ---- evaluation network --------------------------------------------------------------------------------------------


class FoundCell(nn.Module):
    """Two operations for each node, affine batch norms; the output is the concat of the 4 nodes."""

    def __init__(self, c_before_last, c_last, channels, kind, after_reduction):
        super().__init__()
        self.genes = ASAP_CELLS[kind]
        self.preprocess0 = (FactorizedReduce if after_reduction else ReluConvBn)(c_before_last, channels, affine=True)
        self.preprocess1 = ReluConvBn(c_last, channels, affine=True)
        strides = [2 if kind == REDUCE and source < 2 else 1 for _, source in self.genes]
        ops = [operation(name, channels, stride, affine=True) for (name, _), stride in zip(self.genes, strides)]
        self.ops = nn.ModuleList(ops)

    def forward(self, before_last, last):
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        for node in range(NODES):
            first, second = (self.ops[i](states[self.genes[i][1]]) for i in (2 * node, 2 * node + 1))
            states.append(first + second)
        return torch.cat(states[2:], 1)


class Network(nn.Module):
    def __init__(self, channels, cells, c_in, classes):
        super().__init__()
        self.stem = Stem(c_in, 3 * channels)
        self.cells = nn.ModuleList()
        self.tap = 2 * cells // 3
        c_before_last = c_last = 3 * channels
        after_reduction = False
        for i in range(cells):
            reduction = i in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(FoundCell(c_before_last, c_last, channels, int(reduction), after_reduction))
            c_before_last, c_last, after_reduction = c_last, NODES * channels, reduction
            if i == self.tap:
                self.auxiliary = AuxiliaryHead(c_last, classes)
        self.head = Head(c_last, classes)

    def forward(self, x):
        before_last = last = self.stem(x)
        for i, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last)
            if i == self.tap and self.training:
                auxiliary = self.auxiliary(last)
        return (self.head(last), auxiliary) if self.training else self.head(last)


# ---- NAS-Bench-201 -------------------------------------------------------------------------------------------------


class Conv3x3(nn.Module):
    """ReLU, 3x3 convolution, batch norm."""

    def __init__(self, c_in, c_out, stride=1, affine=True):
        super().__init__()
        self.conv, self.bn, self.stride = weight(c_out, c_in, 3, 3), BatchNorm(c_out, affine), stride

    def forward(self, x):
        return self.bn(F.conv2d(relu(x), self.conv, stride=self.stride, padding=1))


class Shortcut(nn.Module):
    """2x2 average pool, 1x1 convolution; at the end of an odd side the average is over the pixels that there are."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = weight(c_out, c_in, 1, 1)

    def forward(self, x):
        return F.conv2d(F.avg_pool2d(x, 2, 2, ceil_mode=True), self.conv)


class ResidualBlock(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv_a, self.conv_b, self.shortcut = Conv3x3(c_in, c_out, 2), Conv3x3(c_out, c_out), Shortcut(c_in, c_out)

    def forward(self, x):
        return self.shortcut(x) + self.conv_b(self.conv_a(x))


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def nb201_operation(name, channels, affine):
    match name:
        case "none":
            return Zero()
        case "skip_connect":
            return nn.Identity()
        case "nor_conv_1x1":
            return ReluConvBn(channels, channels, affine)
        case "nor_conv_3x3":
            return Conv3x3(channels, channels, 1, affine)
        case "avg_pool_3x3":
            return Pool("avg", channels, 1, affine=True)


class Nb201(nn.Module):
    """Three stages of cells; `cell` names the operation of each edge, or without it every edge mixes all by `phi`."""

    def __init__(self, channels, cells, c_in, classes, cell=None):
        super().__init__()
        self.stem = Stem(c_in, channels)
        self.cells, self.blocks, self.cell, self.reductions = nn.ModuleList(), nn.ModuleList(), cell, []
        for i in range(cells):
            if i in (cells // 3, 2 * cells // 3):
                self.reductions.append(i)
                self.blocks.append(ResidualBlock(channels, 2 * channels))
                channels *= 2
            one = nn.Module()
            if cell:
                one.ops = nn.ModuleList(nb201_operation(name, channels, True) for name in cell)
            else:
                names = [{name: nb201_operation(name, channels, False) for name in NB201} for _ in NB201_EDGES]
                one.edges = nn.ModuleList(nn.ModuleDict(edge) for edge in names)
            self.cells.append(one)
        self.head = Head(channels, classes)
        self.head.bn = BatchNorm(channels, affine=True)

    def forward(self, x, phi=None):
        x, blocks = self.stem(x), iter(self.blocks)
        for i, cell in enumerate(self.cells):
            if i in self.reductions:
                x = next(blocks)(x)
            states = [x, 0, 0, 0]
            for e, (node, source) in enumerate(NB201_EDGES):
                if self.cell:
                    y = cell.ops[e](states[source])
                else:
                    y = sum(phi[e, o] * op(states[source]) for o, op in enumerate(cell.edges[e].values()))
                states[1 + node] = states[1 + node] + y
            x = states[3]
        return self.head(relu(self.head.bn(x)))


# ---- golden files --------------------------------------------------------------------------------------------------


def away_from_kinks(name, margin, build):
    """The tensors of `build()` under the first seed that keeps every ReLU and max pool `margin` away from its kink."""
    for seed in count(crc32(name.encode())):
        torch.manual_seed(seed)
        kink_distances.clear()
        tensors = build()
        if min(kink_distances, default=math.inf) > margin:
            return {f"{name}.{key}": value for key, value in tensors.items()}


def weights_and_gradients(module):
    parameters = dict(module.named_parameters())
    return {f"param.{k}": p for k, p in parameters.items()} | {f"grad.{k}": p.grad for k, p in parameters.items()}


def running_statistics(module):
    """`running_mean.{bn}` and `running_var.{bn}`, from the buffers `{bn}.running_mean` and `{bn}.running_var`."""
    split = [(*key.rpartition("."), value) for key, value in module.named_buffers()]
    return {f"{statistic}.{bn}": value for bn, _, statistic, value in split}


def golden_module(make, shape):
    """One training forward and backward of loss = sum(y * cotangent), then one evaluation forward."""
    module, x = make(), draw(*shape).requires_grad_()
    y = module(x)
    cotangent = draw(*y.shape)
    (y * cotangent).sum().backward()
    tensors = {"x": x, "y": y, "cotangent": cotangent, "grad_x": x.grad, **weights_and_gradients(module)}
    tensors |= {key: value.clone() for key, value in running_statistics(module).items()}
    if any(key.endswith("bn.gamma") for key in tensors):
        with torch.no_grad():
            tensors["y_eval"] = module.eval()(x)
    return tensors


def golden_head(shape, classes):
    head, x = Head(shape[1], classes), draw(*shape).requires_grad_()
    labels = torch.randint(classes, (shape[0],))
    logits = head(x)
    tensors = {"x": x, "labels": labels, "logits": logits, **{f"param.{k}": p for k, p in head.named_parameters()}}
    for prefix, smoothing in [("", 0.0), ("smooth.", 0.1)]:
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        gradients = torch.autograd.grad(loss, [x, head.weight, head.bias], retain_graph=True)
        named = zip(["grad_x", "grad.weight", "grad.bias"], gradients)
        tensors |= {f"{prefix}loss": loss, **{prefix + key: value for key, value in named}}
    return tensors


def golden_supernet(channels, cells, input_shape, classes, temperature, alive_rate):
    alive = torch.rand(2, len(EDGES), len(SEARCHED)) < alive_rate
    survivor = torch.randint(len(SEARCHED), (2, len(EDGES), 1))
    alive.scatter_(2, survivor, True)
    net = Supernet(channels, cells, input_shape[1], classes, alive)
    x, labels = draw(*input_shape), torch.randint(classes, (input_shape[0],))
    alpha = draw(2, len(EDGES), len(SEARCHED)).requires_grad_()
    temperature = torch.tensor([temperature], dtype=torch.float32).double()

    phi = torch.softmax((alpha / temperature).masked_fill(~alive, -math.inf), 2)  # eq. 3
    phi.retain_grad()
    logits = net(x, phi)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    expected = phi * (phi.grad - (phi * phi.grad).sum(2, keepdim=True)) / temperature
    assert torch.allclose(alpha.grad, expected, rtol=1e-10, atol=1e-14), "the gradient of alpha must include 1/T"

    tensors = {
        "x": x, "labels": labels, "alpha": alpha, "alive": alive.double(), "temperature": temperature,
        "logits": logits, "loss": loss, "grad_alpha": alpha.grad, "grad_mixing": phi.grad,
    }
    tensors |= weights_and_gradients(net)
    tensors |= {key: value.clone() for key, value in running_statistics(net).items()}
    with torch.no_grad():
        tensors["logits_eval"] = net.eval()(x, phi)

    assert_ties_decide_nothing(net.train(), lambda: F.cross_entropy(net(x, phi.detach()), labels))
    return tensors


def assert_ties_decide_nothing(net, loss):
    """The gradients that `net` has are those of `loss()` with ties split."""
    Pool.split_ties = True
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    Pool.split_ties = False
    for parameter, gradient in zip(parameters, gradients):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-9, atol=1e-12), "a tie decides a gradient"


def formula(shape):
    """Weights that a reader can make: element i is (7919 i mod 1009 - 504) / 2^13."""
    return ((torch.arange(math.prod(shape)) * 7919 % 1009 - 504).double() / 2**13).reshape(shape)


def golden_network(channels, cells, input_shape, classes):
    net = Network(channels, cells, input_shape[1], classes)
    for parameter in net.parameters():
        if parameter.numel() >= LARGE:
            parameter.data = formula(parameter.shape)
    x, labels = draw(*input_shape), torch.randint(classes, (input_shape[0],))

    def loss(main, auxiliary):
        each = [F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING) for logits in (main, auxiliary)]
        return each[0] + AUXILIARY_WEIGHT * each[1]

    main, auxiliary = net(x)
    total = loss(main, auxiliary)
    total.backward()
    tensors = {"x": x, "labels": labels, "logits": main, "auxiliary_logits": auxiliary, "loss": total}
    for key, value in weights_and_gradients(net).items():
        if value.numel() < LARGE:
            tensors[key] = value
        elif key.startswith("grad."):
            tensors[f"sampled_{key}"] = value.flatten()[::SAMPLE].clone()
    tensors |= {key: value.clone() for key, value in running_statistics(net).items()}
    with torch.no_grad():
        tensors["logits_eval"] = net.eval()(x)
    assert_ties_decide_nothing(net.train(), lambda: loss(*net(x)))
    return tensors


def golden_nb201(channels, cells, input_shape, classes, cell):
    net = Nb201(channels, cells, input_shape[1], classes, cell)
    x, labels = draw(*input_shape), torch.randint(classes, (input_shape[0],))
    phi = None if cell else torch.softmax(draw(len(NB201_EDGES), len(NB201)), 1).float().double().requires_grad_()
    logits = net(x, phi)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    tensors = {"x": x, "labels": labels, "logits": logits, "loss": loss, **weights_and_gradients(net)}
    if phi is not None:
        tensors |= {"mixing": phi, "grad_mixing": phi.grad}
    tensors |= {key: value.clone() for key, value in running_statistics(net).items()}
    with torch.no_grad():
        tensors["logits_eval"] = net.eval()(x, phi)
    return tensors


def golden_large_stem(shape, channels):
    """As `golden_module`, for a layer of two outputs."""
    stem, x = LargeStem(shape[1], channels), draw(*shape).requires_grad_()
    outputs = stem(x)
    cotangents = [draw(*y.shape) for y in outputs]
    sum((y * c).sum() for y, c in zip(outputs, cotangents)).backward()
    tensors = {"x": x, "grad_x": x.grad, **weights_and_gradients(stem), **running_statistics(stem)}
    for i, (y, cotangent) in enumerate(zip(outputs, cotangents)):
        tensors |= {f"y{i}": y, f"cotangent{i}": cotangent}
    return tensors


def golden_steps(make_optimizer, learning_rates, gradient_scales, clip):
    """Every state of three parameters under given gradients; `clip` bounds the global gradient norm."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(draw(*shape)) for shape in [(4, 3), (7,), (2, 3, 1, 5)]]
    optimizer = make_optimizer(parameters)
    tensors = {f"param.{k}.init": p.detach().clone() for k, p in enumerate(parameters)}
    tensors["lr"] = torch.tensor(learning_rates)
    norms = []
    for step, (lr, scale) in enumerate(zip(learning_rates, gradient_scales)):
        for k, p in enumerate(parameters):
            p.grad = (scale * draw(*p.shape)).float().double()
            tensors[f"grad.{step}.{k}"] = p.grad.clone()
        if clip:
            norms.append(nn.utils.clip_grad_norm_(parameters, clip))
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        tensors |= {f"param.{k}.after.{step}": p.detach().clone() for k, p in enumerate(parameters)}
    if clip:
        assert min(norms) < clip < max(norms), "some steps must be clipped, and some not"
        tensors["grad_norm"] = torch.stack(norms)
    return tensors


def operations_file():
    shapes = {"even": (2, 6, 8, 8), "odd": (3, 5, 7, 9)}
    tensors = {}

    def add(name, make, shape):
        tensors.update(away_from_kinks(name, 1e-5, lambda: golden_module(make, shape)))

    for name in OPERATIONS:
        for stride in (1, 2):
            for parity, shape in shapes.items():
                add(f"{name}.s{stride}.{parity}", lambda: operation(name, shape[1], stride), shape)
            if name in AFFINE:
                add(f"affine.{name}.s{stride}.odd", lambda: operation(name, 5, stride, affine=True), (2, 5, 5, 7))
    for parity, shape in {"even": (2, 10, 6, 4), "odd": (2, 10, 5, 7)}.items():
        add(f"relu_conv_bn.10to6.{parity}", lambda: ReluConvBn(10, 6), shape)
        for c_out in (6, 5):
            add(f"factorized_reduce.10to{c_out}.{parity}", lambda: FactorizedReduce(10, c_out), shape)
    add("stem", lambda: Stem(2, 12), (2, 2, 7, 9))
    tensors |= away_from_kinks("head", 0, lambda: golden_head((5, 6, 3, 4), classes=7))
    return tensors


def supernet_file():
    everything = torch.ones(2, len(EDGES), len(SEARCHED), dtype=torch.bool)
    weights = sum(p.numel() for p in Supernet(16, 8, 3, 10, everything).parameters())
    assert weights == 1_930_618, f"the paper's search network has 1,930,618 weights, this one {weights}"
    tensors = {}
    for name, configuration in SUPERNETS.items():
        tensors |= away_from_kinks(name, 1e-5, lambda: golden_supernet(**configuration))
    return tensors


def network_file():
    weights = {n: p.numel() for n, p in Network(36, 20, 3, 10).named_parameters()}
    auxiliary = sum(count for name, count in weights.items() if name.startswith("auxiliary."))
    found = (sum(weights.values()) - auxiliary, auxiliary)
    assert found == (2_538_046, 476_426), f"not the weights of the paper's network and its auxiliary head: {found}"
    tensors = away_from_kinks("network", 1e-5, lambda: golden_network(**NETWORK))
    return tensors | away_from_kinks("large_stem", 1e-5, lambda: golden_large_stem((3, 2, 11, 18), channels=5))


def nas_bench_201_file():
    for name, expected in [("nor_conv_3x3", 1_531_546), ("skip_connect", 73_306)]:
        found = sum(p.numel() for p in Nb201(16, 15, 3, 10, [name] * 6).parameters())
        assert found == expected, f"{name}: {expected} weights expected, found {found}"
    tensors = away_from_kinks("search", 1e-5, lambda: golden_nb201(**NB201_SHAPE, cell=None))
    return tensors | away_from_kinks("network", 1e-5, lambda: golden_nb201(**NB201_SHAPE, cell=NB201_CELL))


def optimizers_file():
    steps = range(6)
    cosine = [0.001 + (0.025 - 0.001) * (1 + math.cos(math.pi * step / len(steps))) / 2 for step in steps]
    scales = [0.1, 1.0, 3.0, 0.5, 10.0, 0.3]
    sgd = dict(lr=cosine[0], momentum=0.9, dampening=0, weight_decay=3e-4)
    adam = dict(lr=3e-4, betas=(0.5, 0.999), eps=1e-8, weight_decay=1e-3)
    runs = {
        "sgd": golden_steps(lambda p: torch.optim.SGD(p, **sgd), cosine, scales, clip=5.0),
        "nesterov": golden_steps(lambda p: torch.optim.SGD(p, **sgd, nesterov=True), cosine, scales, clip=5.0),
        "adam": golden_steps(lambda p: torch.optim.Adam(p, **adam), [3e-4] * len(steps), scales, clip=None),
    }
    return {f"{name}.{key}": value for name, tensors in runs.items() for key, value in tensors.items()}


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    total = 0
    files = [
        ("ops", operations_file), ("supernet", supernet_file), ("network", network_file), ("optimizers", optimizers_file),
        ("nas_bench_201", nas_bench_201_file),
    ]
    for name, make in files:
        tensors = {key: value.detach() for key, value in make().items()}
        path = FOLDER / f"{name}.safetensors"
        save_file({k: (v.float() if v.is_floating_point() else v).contiguous() for k, v in tensors.items()}, path)
        total += path.stat().st_size
        print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size:,} bytes")
    assert total < SIZE_LIMIT, f"{total:,} bytes of golden files, at most {SIZE_LIMIT:,} wanted"


if __name__ == "__main__":
    main()
