"""What the checks share: images as files, and what asap says of them."""

import json
import pathlib
import struct
import subprocess
import zlib


def png(path, pixels, width, height):
    """Writes a grey image."""
    rows = b"".join(b"\0" + pixels[y * width : (y + 1) * width] for y in range(height))

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def images(folder, count, side):
    """Grey images as files, and their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i in range(count):
        pixels = bytes((i * 37 + (x * y * (i + 1)) // 3 + 5 * x) % 256 for y in range(side) for x in range(side))
        path = folder / f"{i:03}.png"
        png(path, pixels, side, side)
        made.append((path, pixels))
    return made


def logits(asap, network, paths, *arguments):
    """What asap says of image files."""
    command = [asap, "predict", network, *map(str, paths), "--json", "--logits", *arguments]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line)["logits"] for line in lines]


def export(asap, run, *arguments):
    subprocess.run([asap, "export", run, *arguments], check=True, stdout=subprocess.DEVNULL)


def folder(path):
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    return path
