"""Reads a run's event file with TensorBoard: check_tensorboard.py FOLDER..."""

import json
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        check(folder)


def check(folder: Path) -> None:
    read = EventAccumulator(str(folder))
    read.Reload()
    records = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    for tag, key in [("loss/training", "train_loss"), ("accuracy/training", "train_accuracy")]:
        found = [(event.step, event.value) for event in read.Scalars(tag)]
        expected = [(record["epoch"], record[key]) for record in records]
        assert len(found) == len(expected) > 0, (tag, found, expected)
        for (step, value), (epoch, number) in zip(found, expected):
            assert step == epoch and abs(value - number) <= 1e-6 * max(1, abs(number)), (tag, step, value, number)
    searched = "temperature" in records[0]
    if searched:
        text = read.Tensors("genotype")[0].tensor_proto.string_val[0].decode()
        assert (folder / "genotype.txt").read_text().strip() in text, text
        for name in ("normal", "reduction"):
            (picture,) = read.Images(f"cell/{name}")
            assert picture.encoded_image_string[:8] == b"\x89PNG\r\n\x1a\n"
            assert struct.unpack(">II", picture.encoded_image_string[16:24]) == (picture.width, picture.height)
    print(f"tensorboard: {folder.name}: {len(read.Tags()['scalars'])} curves of {len(records)} epochs"
          + (", the genotype and its pictures" if searched else ""))


if __name__ == "__main__":
    main()
