#!/usr/bin/env python3
"""Short trainings in PyTorch, to compare recipes: docs/results/time.md, "The recipe beside another's".

    pip install torch==2.11.0 numpy pillow
    python3 bench/short_training.py nine|jordan DATA [--network nine|jordan|plain] [--without PART...] [--reflect] [--width 16|28] [--epochs 8] [--share 0.9] [--seed 0] [--threads 1]

DATA is a folder of images, train/CLASS/* and test/CLASS/*, of 32x32 pixels. Trains on a share of the training images and prints the test error.

nine    `asap train --network resnet-9` with a black border of 4 pixels, the filters of the first convolution drawn at random as all others: a step on 64
        images, rate 0.1 with a warm-up of one epoch.
jordan  The network and the recipe of Jordan 2024 (arXiv 2404.00498): whitened first filters, convolutions that start as the identity, batches of 1024,
        biases at 64 times the rate, a moving average that is put back into the network (Lookahead), and mirror images in turn. The paper's own training is
        --width 64 --epochs 9.9 --share 1.

--without leaves parts of Jordan's network out: convolutions that start as the identity (dirac), GELU (ReLU in its place), the whitened first filters, the pool before the
batch norm (order), batch norms without scales and with quick statistics (norms), and the largest of the last 3x3 pixels, divided by 9 (end; the mean in its place).
--network trains the network of one with the recipe of the other, or the form of his network, of the parts that `asap` has (plain).
"""
import argparse
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn


def images(folder):
    pixels, labels = [], []
    for label, of_class in enumerate(sorted(p for p in folder.iterdir() if p.is_dir())):
        for path in sorted(of_class.iterdir()):
            pixels.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    return torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2) / 255, torch.tensor(labels)


def block(before, after):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.blocks = nn.Sequential(block(width, width), block(width, width))

    def forward(self, x):
        return x + self.blocks(x)


class Blocks(nn.Module):
    """Some features, their mean over the pixels, and a linear layer."""

    def __init__(self, width, *features):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.linear = nn.Linear(width, 10)

    def forward(self, x):
        return self.linear(self.features(x).mean((2, 3)))


def nine(width):
    return Blocks(
        8 * width,
        nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        block(width, 2 * width), nn.MaxPool2d(2), Residual(2 * width),
        block(2 * width, 4 * width), nn.MaxPool2d(2),
        block(4 * width, 8 * width), nn.MaxPool2d(2), Residual(8 * width),
        nn.BatchNorm2d(8 * width), nn.ReLU())


def plain(width):
    """The form of Jordan's network, of the parts that `asap` has."""
    return Blocks(
        4 * width,
        nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24),
        block(24, width), nn.MaxPool2d(2), block(width, width),
        block(width, 4 * width), nn.MaxPool2d(2), block(4 * width, 4 * width),
        block(4 * width, 4 * width), nn.MaxPool2d(2), block(4 * width, 4 * width), nn.ReLU())


# What Jordan's network has and others have not; each can be left out.
PARTS = ["dirac", "gelu", "whiten", "order", "norms", "end"]


class Pair(nn.Module):
    """Two convolutions, the first before a pool; batch norms have shifts but no scales."""

    def __init__(self, before, after, parts):
        super().__init__()
        self.first = "order" in parts
        self.act = F.gelu if "gelu" in parts else F.relu
        self.convs = nn.ModuleList(nn.Conv2d(n, after, 3, padding=1, bias=False) for n in (before, after))
        quick = dict(eps=1e-12, momentum=0.4) if "norms" in parts else {}
        self.norms = nn.ModuleList(nn.BatchNorm2d(after, **quick) for _ in range(2))
        for conv, norm in zip(self.convs, self.norms):
            if "dirac" in parts:
                nn.init.dirac_(conv.weight[: conv.in_channels])
            norm.weight.requires_grad = "norms" not in parts

    def forward(self, x):
        x = self.convs[0](x)
        x = self.act(self.norms[0](F.max_pool2d(x, 2))) if self.first else F.max_pool2d(self.act(self.norms[0](x)), 2)
        return self.act(self.norms[1](self.convs[1](x)))


class Jordan(nn.Module):
    def __init__(self, width, examples, parts):
        super().__init__()
        self.end = "end" in parts
        self.act = F.gelu if "gelu" in parts else F.relu
        self.whiten = nn.Conv2d(3, 24, 2)
        if "whiten" in parts:
            patches = examples.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
            variances, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
            filters = (vectors / (variances + 5e-4).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
            self.whiten.weight = nn.Parameter(torch.cat([filters, -filters]), requires_grad=False)
            nn.init.zeros_(self.whiten.bias)
        self.pairs = nn.Sequential(Pair(24, width, parts), Pair(width, 4 * width, parts), Pair(4 * width, 4 * width, parts))
        self.linear = nn.Linear(4 * width, 10, bias=not self.end)

    def forward(self, x):
        x = self.pairs(self.act(self.whiten(x)))
        if self.end:
            return self.linear(F.max_pool2d(x, 3).flatten(1)) / 9
        return self.linear(x.mean((2, 3)))


def crops(padded, border, side):
    out = torch.empty(len(padded), 3, side, side)
    shifts = torch.randint(0, 2 * border + 1, (len(padded), 2))
    for down in range(2 * border + 1):
        for right in range(2 * border + 1):
            at = (shifts == torch.tensor([down, right])).all(1)
            out[at] = padded[at, :, down : down + side, right : right + side]
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", choices=["nine", "jordan"])
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--network", choices=["nine", "jordan", "plain"], help="[default: that of the recipe]")
    parser.add_argument("--without", nargs="*", choices=PARTS, default=[], help="parts of Jordan's network that are left out")
    parser.add_argument("--reflect", action="store_true", help="nine: crops out of a reflecting border of 2 pixels, as asap has them now")
    parser.add_argument("--width", type=int, help="channels of the first block [default: 16 for nine, 28 for jordan]")
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--share", type=float, default=0.9, help="of the training images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    name = args.network or args.recipe
    if args.without and name != "jordan":
        parser.error(f"--without leaves out parts of Jordan's network; the network is {name}")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    ours = args.recipe == "nine"
    x, y = images(args.data / "train")
    test_x, test_y = images(args.data / "test")
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: round(len(x) * args.share)]
    x, y = x[chosen], y[chosen]
    side = x.shape[-1]
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    x, test_x = (x - mean) / std, (test_x - mean) / std
    parts = [part for part in PARTS if part not in args.without]
    if name == "nine":
        network = nine(args.width or 16)
    elif name == "plain":
        network = plain(args.width or 28)
    else:
        network = Jordan(args.width or 28, x[:5000], parts)
    black = ours and not args.reflect
    border = 4 if black else 2
    padded = (F.pad(x * std + mean, (border,) * 4) - mean) / std if black else F.pad(x, (border,) * 4, mode="reflect")
    if ours:
        batch, momentum, rate, decay, smoothing, bias_rate = 64, 0.9, 0.1, 3e-4, 0.1, 8
    else:
        batch, momentum, smoothing, bias_rate = 1024, 0.85, 0.2, 64
        # The paper's numbers are for the sum of 1024 losses and decoupled from the momentum.
        rate, decay = 11.5 / (1 + 1 / (1 - momentum)), 0.0153 / 11.5
    network = network.to(memory_format=torch.channels_last)
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    shifts = [p for name, p in trained if name.endswith("bias") and not name.startswith("whiten")]
    others = [p for name, p in trained if not any(p is s for s in shifts)]
    groups = [dict(params=shifts, lr=rate * bias_rate, weight_decay=decay / bias_rate),
              dict(params=others, lr=rate, weight_decay=decay)]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    steps_per_epoch = -(-len(x) // batch) if ours else len(x) // batch
    steps = round(args.epochs * steps_per_epoch)

    def schedule(step):
        if ours:
            if step < steps_per_epoch:
                return (step + 1) / steps_per_epoch
            return (1 + math.cos(math.pi * (step - steps_per_epoch) / (steps - steps_per_epoch))) / 2
        at = step / steps
        return 0.2 + 0.8 * at / 0.23 if at < 0.23 else 1 - 0.93 * (at - 0.23) / 0.77

    def state():
        return [v for v in network.state_dict().values() if v.dtype.is_floating_point]

    def errors(flips, shifts=False):
        """Test error in %; `flips` and `shifts` average logits as the paper does."""

        def logits_of(part):
            return network(part) + network(part.flip(3)) if flips else network(part)

        network.eval()
        wrong = 0
        with torch.no_grad():
            for at in range(0, len(test_x), 500):
                part = test_x[at : at + 500]
                logits = logits_of(part)
                if shifts:
                    wide = F.pad(part, (1,) * 4, mode="reflect")
                    logits = logits + (logits_of(wide[:, :, :side, :side]) + logits_of(wide[:, :, 2:, 2:])) / 2
                wrong += (logits.argmax(1) != test_y[at : at + 500]).sum().item()
        return 100 * wrong / len(test_x)

    average = [v.clone() for v in state()]
    mirrored = torch.rand(len(x)) < 0.5
    started, step = time.time(), 0
    for epoch in range(math.ceil(args.epochs)):
        network.train()
        order, correct, count = torch.randperm(len(x)), 0, 0
        if isinstance(network, Jordan):
            network.whiten.bias.requires_grad = epoch < 3
        for at in range(min(steps_per_epoch, steps - step)):
            index = order[at * batch : (at + 1) * batch]
            flip = torch.rand(len(index)) < 0.5 if ours else mirrored[index] ^ bool(epoch % 2)
            seen = crops(padded[index], border, side)
            seen = torch.where(flip[:, None, None, None], seen.flip(3), seen).contiguous(memory_format=torch.channels_last)
            for group, usual in zip(optimizer.param_groups, rates):
                group["lr"] = usual * schedule(step)
            logits = network(seen)
            loss = F.cross_entropy(logits, y[index], label_smoothing=smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if ours:
                nn.utils.clip_grad_norm_(network.parameters(), 5)
            optimizer.step()
            step += 1
            correct += (logits.argmax(1) == y[index]).sum().item()
            count += len(index)
            if not ours and step % 5 == 0:
                keep = 0.95**5 * (step / steps) ** 3
                with torch.no_grad():
                    for old, new in zip(average, state()):
                        old.lerp_(new, 1 - keep)
                        new.copy_(old)
        print(f"epoch {epoch + 1}: train {100 * correct / count:.2f} %, test error {errors(False):.2f} %, "
              f"{time.time() - started:.0f} s", flush=True)
    if not ours:
        with torch.no_grad():
            for old, new in zip(average, state()):
                new.copy_(old)
    print(f"test error {errors(False):.2f} %, averaged over flips {errors(True):.2f} %, and shifts {errors(True, True):.2f} %")


if __name__ == "__main__":
    main()
