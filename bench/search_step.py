"""Times the two steps of the search network in PyTorch, to be put beside `asap bench search`.

    python3 bench/search_step.py --mode eager|graph [--channels 16] [--cells 8] [--batch 64] [--steps 20] [--device cuda]

The network is that of the paper's search: stem, cells of 4 nodes with 14 edges of 7 operations, batch norm without parameters inside cells,
32x32 images. `graph` replays a whole step as one CUDA graph. Prints one line of JSON.
"""

import argparse
import json
import time

import torch
from torch import nn
from torch.nn import functional as F

NODES = 4


def norm(channels, affine=False):
    return nn.BatchNorm2d(channels, affine=affine)


class FactorizedReduce(nn.Module):
    def __init__(self, inputs, outputs, affine=False):
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.norm = norm(outputs, affine)

    def forward(self, x):
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))


def half(channels, kernel, stride, dilation):
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels),
    ]


def operations(channels, stride):
    def separable(kernel):
        return nn.Sequential(*half(channels, kernel, stride, 1), *half(channels, kernel, 1, 1))

    return nn.ModuleList([
        nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(channels)),
        nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(channels)),
        nn.Identity() if stride == 1 else FactorizedReduce(channels, channels),
        separable(3),
        separable(5),
        nn.Sequential(*half(channels, 3, stride, 2)),
        nn.Sequential(*half(channels, 5, stride, 2)),
    ])


class Cell(nn.Module):
    def __init__(self, before, last, channels, reduction, reduced):
        super().__init__()
        one_by_one = lambda c: nn.Sequential(nn.ReLU(), nn.Conv2d(c, channels, 1, bias=False), norm(channels))
        self.first = FactorizedReduce(before, channels) if reduced else one_by_one(before)
        self.second = one_by_one(last)
        self.edges = nn.ModuleList(
            operations(channels, 2 if reduction and source < 2 else 1)
            for node in range(NODES) for source in range(2 + node)
        )

    def forward(self, x, y, weights):
        states, edge = [self.first(x), self.second(y)], 0
        for _ in range(NODES):
            total = 0
            for state in states:
                for operation, weight in zip(self.edges[edge], weights[edge]):
                    total = total + weight * operation(state)
                edge += 1
            states.append(total)
        return torch.cat(states[2:], 1)


class SearchNetwork(nn.Module):
    def __init__(self, channels, cells, classes=10):
        super().__init__()
        stem = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem))
        self.cells, self.kinds = nn.ModuleList(), []
        before, last, reduced = stem, stem, False
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(Cell(before, last, channels, reduction, reduced))
            self.kinds.append(int(reduction))
            before, last, reduced = last, NODES * channels, reduction
        self.classifier = nn.Linear(last, classes)
        edges = sum(2 + node for node in range(NODES))
        self.alpha = nn.Parameter(torch.zeros(2, edges, 7))

    def forward(self, images):
        weights = (self.alpha / 1.3).softmax(-1)
        x = y = self.stem(images)
        for cell, kind in zip(self.cells, self.kinds):
            x, y = y, cell(x, y, weights[kind])
        return self.classifier(y.mean((2, 3)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["eager", "graph"], default="eager")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    device = torch.device(args.device)
    network = SearchNetwork(args.channels, args.cells).to(device, memory_format=torch.channels_last)
    images = torch.randn(args.batch, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (args.batch,), device=device)
    weights = [p for name, p in network.named_parameters() if name != "alpha"]
    graph = args.mode == "graph"
    of_weights = torch.optim.SGD(weights, 0.025, 0.9, weight_decay=3e-4, foreach=True)
    of_alpha = torch.optim.Adam([network.alpha], 3e-3, (0.5, 0.999), weight_decay=1e-3, capturable=graph)

    def weight_step():
        of_weights.zero_grad(set_to_none=not graph)
        F.cross_entropy(network(images), labels).backward()
        nn.utils.clip_grad_norm_(weights, 5.0, foreach=True)
        of_weights.step()

    def alpha_step():
        of_alpha.zero_grad(set_to_none=not graph)
        F.cross_entropy(network(images), labels).backward(inputs=[network.alpha])
        of_alpha.step()

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    def captured(step):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            step()
        return recorded.replay

    def timed(step):
        step = captured(step) if graph else step
        for _ in range(3):
            step()
        best = float("inf")
        for _ in range(args.steps):
            wait()
            started = time.perf_counter()
            step()
            wait()
            best = min(best, time.perf_counter() - started)
        return best

    result = {"net": "search", "pytorch": torch.__version__, **vars(args), "weights": sum(p.numel() for p in weights)}
    result["w_step"], result["alpha_step"] = timed(weight_step), timed(alpha_step)
    if device.type == "cuda":
        result["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
        # The rate at which memory is copied, reads and writes together.
        source = torch.empty(2**28, dtype=torch.float32, device=device)
        target = torch.empty_like(source)
        seconds = []
        for _ in range(5):
            wait()
            started = time.perf_counter()
            target.copy_(source)
            wait()
            seconds.append(time.perf_counter() - started)
        result["copy_gb_per_s"] = 2 * source.numel() * 4 / min(seconds) / 1e9
    print(json.dumps(result))


main()
