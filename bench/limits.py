"""Are limits kept? Short trainings of random networks with random limits: docs/results/time.md.

    python3 bench/limits.py ASAP FOLDER [SETTINGS] [latency]

ASAP is the binary, FOLDER a new folder for the runs. One JSON line per setting; `latency` tries only latencies, shorter ones.
"""

import json
import pathlib
import random
import subprocess
import sys

NETWORKS = ["resnet-8", "resnet-20", "resnet-9", "mobilenet-20", "ASAP", "DARTS_V2", "random"]
KINDS = ["macs", "weights", "latency", "memory"]
FLAGS = {"macs": "--max-multiply-adds", "weights": "--max-weights", "latency": "--max-latency", "memory": "--max-memory"}
UNITS = {"latency": "ms", "memory": "MiB"}
TRAINING = ["data.limit=400", "data.size=32", "train.epochs=1", "train.channels=64", "train.batch=32"]


def draw(kind, short):
    return {
        "macs": lambda: round(10 ** random.uniform(5.8, 7.8)),
        "weights": lambda: round(10 ** random.uniform(4.3, 6)),
        "latency": lambda: round(10 ** (random.uniform(-1.1, 0) if short else random.uniform(-0.5, 0.9)), 3),
        "memory": lambda: random.choice([150, 250, 400, 800]),
    }[kind]()


def main(binary, folder, settings="20", only=None):
    random.seed(2026)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    for number in range(int(settings)):
        network = random.choice(NETWORKS)
        plain = network.startswith(("resnet", "mobilenet"))
        if network == "random":
            network = folder / f"cell-{number}"
            search = ["--set", "search.method=random", "--set", "data.limit=200", "--seed", str(1000 + number)]
            subprocess.run([binary, "search", *search, "--out", network], check=True, capture_output=True)
        kinds = [only] if only else random.sample(KINDS, random.choice([1, 2, 3]))
        limits = {kind: draw(kind, only is not None) for kind in kinds}
        command = [binary, "train", "--network" if plain else "--cell", network, "--out", folder / str(number)]
        command += ["--threads", "1", "--json"] + [word for setting in TRAINING for word in ("--set", setting)]
        for kind, limit in limits.items():
            command += [FLAGS[kind], f"{limit}{UNITS.get(kind, '')}"]
        made = subprocess.run(command, capture_output=True, text=True)
        line = {"network": str(network), "limits": limits}
        if made.returncode:
            line["refused"] = made.stderr.strip().splitlines()[-1]
        else:
            result = json.loads(made.stdout)
            found = {"macs": result["multiply_adds"], "weights": result["params"], "latency": result.get("latency_ms"), "memory": result["peak_rss_mb"]}
            line["used"] = {kind: round(found[kind] / limit, 3) for kind, limit in limits.items()}
            line["kept"] = max(line["used"].values()) <= 1
        print(json.dumps(line), flush=True)


main(*sys.argv[1:])
