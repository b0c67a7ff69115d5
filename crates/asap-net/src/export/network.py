"""A network found and trained by asap, in PyTorch. Generated; needs torch and safetensors.

    import network
    net = network.load()                        # ready for inference
    logits = net(network.normalize(images))     # images [N, C, H, W], values 0 to 1

`load(train=True)` gives the same network ready to be trained on; `save(net, path)` writes weights that
`asap evaluate` and `asap predict` read.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import pad

# CONSTANTS

def batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-5)


class ReLUConvBN(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn = batch_norm(c_out)

    def forward(self, x):
        return self.bn(self.conv(torch.relu(x)))


class FactorizedReduce(nn.Module):
    """Even rows and columns by one convolution, odd ones by the other; a missing last one counts as zero."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv_a = nn.Conv2d(c_in, (c_out + 1) // 2, 1, stride=2, bias=False)
        self.conv_b = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = batch_norm(c_out)

    def forward(self, x):
        x = torch.relu(x)
        odd = pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        return self.bn(torch.cat([self.conv_a(x), self.conv_b(odd)], 1))


class Half(nn.Module):
    """ReLU, depthwise, 1x1, batch norm."""

    def __init__(self, channels, kernel, stride, dilation):
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.depthwise = nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = batch_norm(channels)

    def forward(self, x):
        return self.bn(self.pointwise(self.depthwise(torch.relu(x))))


class Separable(nn.Module):
    def __init__(self, channels, kernel, strides, dilation):
        super().__init__()
        self.halves = nn.ModuleList(Half(channels, kernel, s, dilation) for s in strides)

    def forward(self, x):
        for half in self.halves:
            x = half(x)
        return x


class Conv7x1Then1x7(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.conv_1x7 = nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False)
        self.conv_7x1 = nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False)
        self.bn = batch_norm(channels)

    def forward(self, x):
        return self.bn(self.conv_7x1(self.conv_1x7(torch.relu(x))))


class Zero(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return x[:, :, :: self.stride, :: self.stride] * 0.0


OPERATIONS = {
    "none": lambda c, s: Zero(s),
    "max_pool_3x3": lambda c, s: nn.MaxPool2d(3, s, 1),
    "avg_pool_3x3": lambda c, s: nn.AvgPool2d(3, s, 1, count_include_pad=False),
    "skip_connect": lambda c, s: nn.Identity() if s == 1 else FactorizedReduce(c, c),
    "sep_conv_3x3": lambda c, s: Separable(c, 3, [s, 1], 1),
    "sep_conv_5x5": lambda c, s: Separable(c, 5, [s, 1], 1),
    "sep_conv_7x7": lambda c, s: Separable(c, 7, [s, 1], 1),
    "dil_conv_3x3": lambda c, s: Separable(c, 3, [s], 2),
    "dil_conv_5x5": lambda c, s: Separable(c, 5, [s], 2),
    "conv_7x1_1x7": Conv7x1Then1x7,
}


class Cell(nn.Module):
    def __init__(self, inputs, channels, reduction, halve):
        super().__init__()
        first = FactorizedReduce if halve else ReLUConvBN
        self.preprocess0 = first(inputs[0], channels)
        self.preprocess1 = ReLUConvBN(inputs[1], channels)
        self.nodes, self.concat = (REDUCE, REDUCE_CONCAT) if reduction else (NORMAL, NORMAL_CONCAT)
        self.ops = nn.ModuleList(
            OPERATIONS[name](channels, 2 if reduction and state < 2 else 1)
            for node in self.nodes
            for name, state in node
        )

    def forward(self, before, last):
        states = [self.preprocess0(before), self.preprocess1(last)]
        ops = iter(self.ops)
        for node in self.nodes:
            states.append(sum(next(ops)(states[state]) for _, state in node))
        return torch.cat([states[state] for state in self.concat], 1)


class ConvBN(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn = batch_norm(c_out)

    def forward(self, x):
        return self.bn(self.conv(x))


class Network(nn.Module):
    """Normalised images [N, C, H, W] to logits [N, classes]."""

    def __init__(self):
        super().__init__()
        channels = CHANNELS
        if STEM == "small":
            self.stem = ConvBN(IMAGE[0], 3 * channels, 1)
            inputs = [3 * channels, 3 * channels]
        else:
            self.stem = nn.ModuleList(
                [
                    ConvBN(IMAGE[0], (channels + 1) // 2, 2),
                    ConvBN((channels + 1) // 2, channels, 2),
                    ConvBN(channels, channels, 2),
                ]
            )
            inputs = [channels, channels]
        self.cells = nn.ModuleList()
        halve = STEM != "small"
        for i in range(CELLS):
            reduction = i in REDUCTIONS
            channels *= 2 if reduction else 1
            self.cells.append(Cell(inputs, channels, reduction, halve))
            concat = REDUCE_CONCAT if reduction else NORMAL_CONCAT
            inputs, halve = [inputs[1], len(concat) * channels], reduction
        self.head = nn.Linear(inputs[1], len(CLASSES))

    def forward(self, x):
        if STEM == "small":
            before = last = self.stem(x)
        else:
            before = self.stem[1](torch.relu(self.stem[0](x)))
            last = self.stem[2](torch.relu(before))
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.head(last.mean((2, 3)))


def normalize(images):
    """Images [N, C, H, W] with values from 0 to 1, as the network was trained on them."""
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1).to(images) for v in (MEAN, STD))
    return (images - mean) / std


def asap_name(name):
    """What asap calls a parameter of the network."""
    path, _, last = name.rpartition(".")
    if last.startswith("running") or path == "head":
        return name
    if path.endswith("bn"):
        return path + {"weight": ".gamma", "bias": ".beta"}[last]
    return path


def parameters_of(network):
    return {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


def load(path=None, train=False):
    """The network with its weights; those beside this file, unless a path is given."""
    network = Network()
    with safe_open(path or Path(__file__).with_name(WEIGHTS), "pt") as file:
        state = {name: file.get_tensor(asap_name(name)) for name in parameters_of(network)}
    missing, unexpected = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    assert not missing and not unexpected, (missing, unexpected)
    return network.train(train)


def save(network, path, like=None):
    """Writes weights that asap reads; what it says of the network is copied from the file beside this one."""
    with safe_open(like or Path(__file__).with_name(WEIGHTS), "pt") as file:
        metadata = file.metadata()
    tensors = {asap_name(k): v.detach().cpu().contiguous() for k, v in parameters_of(network).items()}
    save_file(tensors, path, metadata)
