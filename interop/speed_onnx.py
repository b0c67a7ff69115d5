"""Inference of asap and of onnxruntime with the same network, images and threads, in alternation."""

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime

from common import export, folder

asap, run, out = sys.argv[1], sys.argv[2], folder(sys.argv[3])
threads = int(sys.argv[4]) if len(sys.argv) > 4 else len(os.sched_getaffinity(0))
graph = out / "network.onnx"
export(asap, run, "--format", "onnx", "--out", str(graph))


def ours(batch):
    command = [asap, "bench", "predict", run, "--batch", str(batch), "--steps", "8"]
    command += ["--threads", str(threads), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["forward"]


def theirs(batch):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    _, *image = session.get_inputs()[0].shape
    images = np.random.default_rng(0).uniform(-1.7, 1.7, (batch, *image)).astype(np.float32)
    fastest = float("inf")
    for call in range(9):
        started = time.perf_counter()
        session.run(None, {"images": images})
        if call:
            fastest = min(fastest, time.perf_counter() - started)
    return fastest


print(f"{threads} threads, onnxruntime {onnxruntime.__version__}; medians of 5, seconds of a call")
for batch in (1, 8, 64):
    pairs = [(ours(batch), theirs(batch)) for _ in range(5)]
    mine, other = (statistics.median(column) for column in zip(*pairs))
    print(f"batch {batch:3}: asap {mine:.4f}, onnxruntime {other:.4f}, {other / mine:.2f} times as fast")
