"""Logits of the generated module in PyTorch against those of asap, training on, and back."""

import importlib.util
import sys

import numpy as np
import torch

from common import export, folder, images, logits

asap, run, out, flips = sys.argv[1], sys.argv[2], folder(sys.argv[3]), sys.argv[4:]
export(asap, run, "--format", "pytorch", "--out", str(out / "module"), *flips)
spec = importlib.util.spec_from_file_location("network", out / "module" / "network.py")
network = importlib.util.module_from_spec(spec)
spec.loader.exec_module(network)

side = network.IMAGE[1]
made = images(out / "images", 9, side)
unit = np.stack([np.frombuffer(pixels, np.uint8).reshape(1, side, side) for _, pixels in made])
x = network.normalize(torch.from_numpy(unit.astype(np.float32) / 255))


def difference(net, weights):
    net.eval()
    with torch.no_grad():
        theirs = net(x).numpy()
    return float(np.abs(theirs - np.float32(logits(asap, weights, [path for path, _ in made], *flips))).max())


before = difference(network.load(), run)

net = network.load(train=True)
optimizer = torch.optim.SGD(net.parameters(), 0.05)
labels = torch.arange(len(made)) % len(network.CLASSES)
losses = []
for _ in range(10):
    loss = torch.nn.functional.cross_entropy(net(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
trained = out / "trained.safetensors"
network.save(net, trained)
network.save(net, trained, like=trained)  # again, with what it wrote itself
after = difference(net, str(trained))
print(f"torch {torch.__version__}: {run}: largest difference of a logit {before:.1e}, trained on and back {after:.1e}")
assert before < 1e-4 and after < 1e-4
