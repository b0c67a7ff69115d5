"""A network found and trained by asap, in PyTorch. Generated; needs torch and safetensors.

    import network
    net = network.load()                        # ready for inference
    logits = net(network.normalize(images))     # images [N, C, H, W], values 0 to 1

`load(train=True)` gives the same network ready to be trained on; `save(net, path)` writes weights that
`asap evaluate` and `asap predict` read.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d, pad

# CONSTANTS


class FactorizedConv(nn.Module):
    """Even rows and columns by one convolution, odd ones by the other; a missing last one counts as zero."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv_a = nn.Conv2d(c_in, (c_out + 1) // 2, 1, stride=2, bias=False)
        self.conv_b = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)

    def forward(self, x):
        odd = pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        return torch.cat([self.conv_a(x), self.conv_b(odd)], 1)


# Steps with parameters: the module of a step, from the numbers behind its name.
MODULES = {
    "conv": lambda c_in, c_out, kernel, stride, padding, dilation, groups: nn.Conv2d(
        c_in, c_out, kernel, stride, padding, dilation, groups, bias=False
    ),
    "factorized_conv": FactorizedConv,
    "batch_norm": lambda channels: nn.BatchNorm2d(channels, eps=EPSILON),
    "linear": nn.Linear,
}

# Steps without parameters.
FUNCTIONS = {
    "relu": torch.relu,
    "zero": lambda x, stride: x[:, :, ::stride, ::stride] * 0.0,
    "max_pool": lambda x, stride: max_pool2d(x, 3, stride, 1),
    "avg_pool": lambda x, stride: avg_pool2d(x, 3, stride, 1, count_include_pad=False),
    "avg_pool_2x2": lambda x: avg_pool2d(x, 2, 2, ceil_mode=True),
    "global_pool": lambda x: x.mean((2, 3)),
}


class Network(nn.Module):
    """Normalized images [N, C, H, W] to logits [N, classes]: the layers of LAYERS, each after those that it reads."""

    def __init__(self):
        super().__init__()
        for kind, _, arguments in LAYERS:
            chains = {"chain": lambda a: [a[1]], "node": lambda a: [steps for _, steps in a]}
            for step in sum(chains.get(kind, lambda _: [])(arguments), []):
                if step[0] in MODULES:
                    self.put(step[1], MODULES[step[0]](*step[2:]))

    def put(self, path, module):
        """Adds a module below a dotted path."""
        *parts, last = path.split(".")
        parent = self
        for part in parts:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent._modules[part]
        if last in parent._modules:  # a path that already has other modules below it
            module._modules.update(parent._modules[last]._modules)
        parent.add_module(last, module)

    def chain(self, steps, x):
        for name, *numbers in steps:
            if name in MODULES:
                x = self.get_submodule(numbers[0])(x)
            else:
                x = FUNCTIONS[name](x, *numbers)
        return x

    def forward(self, x):
        if FLIPS and not self.training:  # the mean over each image and its mirror image
            return (self.layers(x) + self.layers(x.flip(3))) / 2
        return self.layers(x)

    def layers(self, x):
        values = []
        for kind, _, arguments in LAYERS:
            if kind == "images":
                values.append(x)
            elif kind == "chain":
                values.append(self.chain(arguments[1], values[arguments[0]]))
            elif kind == "node":
                values.append(sum(self.chain(steps, values[i]) for i, steps in arguments))
            elif kind == "concat":
                values.append(torch.cat([values[i] for i in arguments], 1))
            elif kind == "sum":
                values.append(sum(values[i] for i in arguments))
        return values[LOGITS]


def normalize(images):
    """Images [N, C, H, W] with values from 0 to 1, as the network was trained on them."""
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1).to(images) for v in (MEAN, STD))
    return (images - mean) / std


def asap_name(name):
    """The name in asap of a parameter of the network."""
    path, _, last = name.rpartition(".")
    if last.startswith("running") or path == "head":
        return name
    if path.endswith("bn"):
        return path + {"weight": ".gamma", "bias": ".beta"}[last]
    return path


def parameters_of(network):
    return {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


def load(path=None, train=False):
    """The network with its weights, from the file next to this one unless a path is given."""
    network = Network()
    with safe_open(path or Path(__file__).with_name(WEIGHTS), "pt") as file:
        state = {name: file.get_tensor(asap_name(name)) for name in parameters_of(network)}
    missing, unexpected = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    assert not missing and not unexpected, (missing, unexpected)
    return network.train(train)


def save(network, path, like=None):
    """Writes weights that asap can read; the network's description is copied from the file next to this one."""
    with safe_open(like or Path(__file__).with_name(WEIGHTS), "pt") as file:
        found = file.metadata()
    # The first format, which has no checksum: that of the other is that of the old weights.
    label = json.loads(found["asap"]) if "asap" in found else {key: found["asap." + key] for key in ("kind", "state")}
    metadata = {"asap.format": "1", "asap.kind": label["kind"], "asap.state": label["state"]}
    tensors = {asap_name(k): v.detach().cpu().contiguous() for k, v in parameters_of(network).items()}
    save_file(tensors, path, metadata)
