"""Logits of the exported graph in onnxruntime against those of asap."""

import json
import sys

import numpy as np
import onnxruntime

from common import export, folder, images, logits

asap, run, out, flips = sys.argv[1], sys.argv[2], folder(sys.argv[3]), sys.argv[4:]
plain, inside = out / "network.onnx", out / "normalizing.onnx"
export(asap, run, "--format", "onnx", "--out", str(plain), *flips)
export(asap, run, "--format", "onnx", "--normalize", "--out", str(inside), *flips)

session = onnxruntime.InferenceSession(str(plain))
metadata = session.get_modelmeta().custom_metadata_map
mean, std = (np.float32(json.loads(metadata[key])).reshape(1, -1, 1, 1) for key in ("mean", "std"))
side = session.get_inputs()[0].shape[2]
made = images(out / "images", 9, side)
ours = np.float32(logits(asap, run, [path for path, _ in made], *flips))
assert len(json.loads(metadata["classes"])) == ours.shape[1]

unit = np.stack([np.frombuffer(pixels, np.uint8).reshape(1, side, side) for _, pixels in made])
unit = unit.astype(np.float32) / 255
normalizing = onnxruntime.InferenceSession(str(inside))
worst = 0.0
for count in (1, 2, 9):
    theirs = session.run(None, {"images": (unit[:count] - mean) / std})[0]
    also = normalizing.run(None, {"images": unit[:count]})[0]
    for logits_ in (theirs, also):
        assert logits_.shape == (count, ours.shape[1])
        worst = max(worst, float(np.abs(logits_ - ours[:count]).max()))
print(f"onnxruntime {onnxruntime.__version__}: {run}: largest difference of a logit {worst:.1e}")
assert worst < 1e-4
