"""Writes small intact inputs of every target into `corpus/`, and those of finished runs in the folders that are its arguments.

Needs NumPy, Pillow and PyArrow.
"""

import gzip, io, json, pathlib, pickle, struct, sys, tarfile, zipfile, zlib

import numpy
import pyarrow
import pyarrow.parquet
from PIL import Image

CORPUS = pathlib.Path(__file__).parent / "corpus"
# Most bytes of a seed of a run.
MOST = 16_384


def seed(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def piece(content):
    return struct.pack("<H", len(content)) + content


def picture(form, side=6, mode="RGB", **options):
    values = numpy.arange(side * side * 4, dtype=numpy.uint8).reshape(side, side, 4)
    image = Image.fromarray(values, "RGBA").convert(mode)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def idx(array):
    sides = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sides + array.tobytes()


def npy(array):
    out = io.BytesIO()
    numpy.save(out, array)
    return out.getvalue()


def matrix(name, array, kind, class_, small=False):
    def element(kind, content):
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    sides = struct.pack(f"<{array.ndim}i", *array.shape)
    title = struct.pack("<HH4s", 1, len(name), name) if small else element(1, name)
    flags = element(6, struct.pack("<II", class_, 0))
    content = flags + element(5, sides) + title + element(kind, array.tobytes("F"))
    return struct.pack("<II", 14, len(content)) + content


def seeds_idx():
    images = numpy.arange(8, dtype=numpy.uint8).reshape(4, 2, 1)
    labels = numpy.array([0, 1, 0, 1], dtype=numpy.uint8)
    for way in (0, 4, 2, 6, 8, 240):
        seed("idx", f"images-{way}", bytes([way]) + idx(images))
        seed("idx", f"labels-{way}", bytes([way | 1]) + idx(labels))
    seed("idx", "gz", bytes([0]) + gzip.compress(idx(images)))
    seed("idx", "page", b"\0 <html>")


def seeds_cifar():
    record = bytes(range(256)) * 12
    seed("cifar_binary", "ten", b"\0" + b"\3" + record)
    seed("cifar_binary", "hundred", b"\1" + b"\3\3" + record)
    seed("cifar_binary", "names", b"\2" + b"".join(b"name %d\n" % i for i in range(10)))
    names = [b"n%d" % i for i in range(10)]
    for protocol in range(6):
        batch = {b"data": numpy.zeros((1, 3072), numpy.uint8), b"labels": [3], b"batch_label": b"training batch 1 of 5"}
        fine = {b"data": numpy.zeros((1, 3072), numpy.uint8), b"fine_labels": [3], b"coarse_labels": [1]}
        meta = {b"label_names": names, b"num_cases_per_batch": 10000, b"x": (1.5, None, True, 1 << 40, "é")}
        seed("cifar_python", f"ten-{protocol}", b"\0" + pickle.dumps(batch, protocol))
        seed("cifar_python", f"hundred-{protocol}", b"\1" + pickle.dumps(fine, protocol))
        seed("cifar_python", f"meta-{protocol}", b"\2" + pickle.dumps(meta, protocol))


def seeds_npz():
    images = numpy.arange(48, dtype=numpy.uint8).reshape(4, 2, 2, 3)
    labels = numpy.array([[0], [1], [0], [1]], dtype=numpy.uint8)
    for name, dtype in (("u1", "u1"), ("i8", "i8"), ("big", ">i2")):
        six = images, labels.astype(dtype), images[:2, ...], labels[:2], images, labels[:, 0]
        grey = images[..., 0].copy(), labels[:, 0].astype(dtype)
        content = b"".join(piece(npy(array)) for array in six)
        seed("npz_content", f"six-{name}", b"\0" + content)
        seed("npz_content", f"grey-{name}", b"\1" + b"".join(piece(npy(array)) for array in grey))
        for save in (numpy.savez, numpy.savez_compressed):
            out = io.BytesIO()
            save(out, train_images=six[0], train_labels=six[1], test_images=six[4], test_labels=six[5])
            seed("npz", f"{save.__name__}-{name}", out.getvalue())


def seeds_mat():
    images = numpy.arange(2 * 2 * 3 * 10, dtype=numpy.uint8).reshape(2, 2, 3, 10)
    labels = numpy.arange(1, 11).reshape(10, 1)
    head = b" " * 124 + b"\0\1IM"
    for name, kind, class_, dtype in (("u1", 2, 9, "u1"), ("double", 9, 6, "f8")):
        both = matrix(b"X", images, 2, 9), matrix(b"y", labels.astype(dtype), kind, class_, small=True)
        seed("mat_content", name, b"".join(map(piece, both)))
        seed("mat", f"plain-{name}", head + b"".join(both))
        packed = map(zlib.compress, both)
        seed("mat", f"packed-{name}", head + b"".join(struct.pack("<II", 15, len(p)) + p for p in packed))


def seeds_parquet():
    image = picture("PPM", 2)
    rows = {"image": [{"bytes": image, "path": "a.ppm"}] * 4, "label": [0, 1, 0, 1]}
    plain = {"image": [image] * 4, "label": ["cat", "dog", "cat", "dog"]}
    names = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    for compression in ("none", "snappy", "zstd"):
        for version in ("1.0", "2.0"):
            for name, columns in (("group", rows), ("plain", plain)):
                table = pyarrow.table(columns)
                if name == "group":
                    table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
                out = io.BytesIO()
                pyarrow.parquet.write_table(
                    table, out, compression=compression, data_page_version=version, store_schema=False,
                    use_dictionary=version == "1.0", write_page_index=version == "2.0",
                )
                seed("parquet", f"{name}-{compression}-{version}", out.getvalue())


def seeds_packed():
    images, labels = bytes(range(24)), struct.pack("<4H", 0, 1, 0, 1)
    for name, parts in (("one", ["train"]), ("three", ["train", "valid", "test"])):
        count = [{"name": part, "images": 4, "labels": zlib.crc32(labels)} for part in parts]
        header = {"name": "x", "shape": [2, 1, 3], "classes": ["a", "b"], "parts": count}
        header = json.dumps(header).encode()
        sums = b"".join(struct.pack("<I", zlib.crc32(images[i : i + 6])) for i in range(0, 24, 6))
        content = (labels + sums + images) * len(parts)
        start = b"ASAPPACK" + struct.pack("<IQI", 1, len(header), zlib.crc32(header))
        seed("packed", name, start + header + content)
        for way in (0, 32):
            seed("packed_content", f"{name}-{way}", bytes([way]) + piece(header) + content)


def seeds_list():
    for name, text in {
        "csv": b"file,label,split\na.ppm,x,train\nb.ppm,y,train\nc d.ppm,y,test\n",
        "quoted": b'"id";"species"\n"a";"1"\n"b";"2"\n"images/e.ppm";"1"\n',
        "tab": b"a.ppm\tcat\nb.ppm\tdog\n",
        "lines": b"a.ppm 0\nb.ppm 1\nc d.ppm 1\n",
        "boxes": b"ImageId,PredictionString\na,n01 1 2 3 4\nb,n02 1 2 3 4\n",
        "reversed": b"\xef\xbb\xbfcat,a.ppm\r\ndog,b.ppm\r\n",
    }.items():
        for way in (0, 2, 32):
            seed("list", f"{name}-{way}", bytes([way]) + text)


def seeds_archive():
    files = {f"{folder}/{i}.ppm": picture("PPM", 2) for folder in "ab" for i in range(2)}
    files["a" * 120 + "/x.txt"] = b"long"
    for name, compression in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as archive:
            for path, content in files.items():
                archive.writestr(path, content)
        seed("archive", name, out.getvalue())
    for name, form in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT), ("ustar", tarfile.USTAR_FORMAT)):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                if name == "pax":
                    entry.pax_headers = {"comment": "é"}
                archive.addfile(entry, io.BytesIO(content))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        tar = out.getvalue().rstrip(b"\0")
        tar += bytes(-len(tar) % 512 + 1024)
        seed("archive", name, tar)
        seed("archive", f"{name}-gz", gzip.compress(tar))
        seed("archive_content", f"tar-{name}", b"\2" + tar)
        seed("archive_content", f"gz-{name}", b"\3" + tar)
    pairs = b"".join(piece(path.encode()) + piece(content) for path, content in files.items())
    seed("archive_content", "zip", b"\0" + pairs)


def seeds_image():
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA"):
        seed("image_png", mode, picture("PNG", mode=mode))
    seed("image_png", "I;16", io_16())
    for mode in ("L", "RGB", "CMYK"):
        seed("image_jpeg", mode, picture("JPEG", 20, mode))
        seed("image_jpeg", f"{mode}-progressive", picture("JPEG", 20, mode, progressive=True))
    exif = Image.Exif()
    exif[0x112] = 6
    seed("image_jpeg", "exif", picture("JPEG", 16, exif=exif))
    seed("image_gif", "P", picture("GIF", mode="P"))
    seed("image_gif", "L", picture("GIF", mode="L", interlace=1))
    frames = [Image.new("P", (4, 4), i) for i in range(2)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    seed("image_gif", "two", out.getvalue())
    for mode in ("RGB", "RGBA"):
        seed("image_webp", mode, picture("WEBP", mode=mode))
        seed("image_webp", f"{mode}-lossless", picture("WEBP", mode=mode, lossless=True))
    out = io.BytesIO()
    frames = [Image.new("RGBA", (4, 4), (i * 100, 0, 0, 100)) for i in range(2)]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    seed("image_webp", "two", out.getvalue())
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        seed("image_bmp", mode, picture("BMP", mode=mode))
        for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"):
            seed("image_tiff", f"{mode}-{compression}", picture("TIFF", mode=mode, compression=compression))
    seed("image_tiff", "jpeg", picture("TIFF", 16, compression="jpeg"))
    for mode in ("1", "L", "RGB"):
        seed("image_pnm", mode, picture("PPM", mode=mode))
    seed("image_pnm", "text", b"P3\n# x\n2 1 255\n1 2 3 4 5 6\n")
    seed("image_pnm", "text-grey", b"P2 2 1 65535\n1 60000\n")
    seed("image_pnm", "pam", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n\1\2\3\4")


def io_16():
    out = io.BytesIO()
    Image.fromarray(numpy.arange(36, dtype=numpy.uint16).reshape(6, 6) * 999).save(out, "PNG")
    return out.getvalue()


def genotype(nodes=4):
    cell = "[" + ", ".join(f"('sep_conv_3x3', {i})" for _ in range(nodes) for i in range(2)) + "]"
    return f"Genotype(normal={cell}, normal_concat=range(2, {nodes + 2}), reduce={cell}, reduce_concat=[{nodes + 1}])"


CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"


def seeds_genotype():
    pairs = [["sep_conv_3x3", 0], ["skip_connect", 1]]
    texts = {
        "darts": genotype(),
        "one": "X = " + genotype(1) + " # comment\n",
        "per-node": "Genotype(normal=[(('max_pool_3x3', 0), ('none', 1))], normal_concat=None, reduce=[(('skip_connect', 0, 1.5e-1), ('skip_connect', 1, 2))], reduce_concat=list(range(2, 3)), connects=None)",
        "json": json.dumps({"normal": pairs, "normal_concat": [2], "reduce": pairs, "reduce_concat": [2]}),
        "array": json.dumps([pairs, [2], pairs, [2]]),
        "cell": CELL,
        "cell-json": json.dumps({"space": "nas-bench-201", "cell": CELL}),
        "plain": '"resnet-20"',
        "name": "mobilenet-20",
        "nine": '"resnet-9"',
    }
    for name, text in texts.items():
        seed("genotype", name, text.encode())


def seeds_settings():
    presets = pathlib.Path(__file__).parent.parent / "crates/asap/src/settings"
    for path in presets.glob("*/*.toml"):
        text = path.read_text()
        seed("config", path.stem, text.encode())
    seed("config", "space", b'space = "nas-bench-201"\n[search]\nepochs = 3\n')
    table = f"cell,accuracy,other\n{CELL},93.5,70\n{CELL.replace('none', 'skip_connect')},91,60\n".encode()
    seed("tabular", "plain", b"\0" + table)
    seed("tabular", "gz", b"\1" + table)
    seed("tabular", "itself", b"\0" + gzip.compress(table))
    cells = genotype().replace('"', '""')
    seed("tabular", "darts", b"\2" + f'cell,accuracy\n"{cells}",97\n'.encode())


def seeds_run_folder():
    search = {
        "epoch": 0, "temperature": 1.0, "threshold": 0.1, "lr": 0.1, "alpha_lr": 0.0, "train_loss": 1.0,
        "train_accuracy": 0.5, "valid_loss": 1.0, "valid_accuracy": 0.5, "entropy_normal": 1.0, "entropy_reduce": 1.0,
        "alive_ops": 8, "sparsity": 0.0, "alpha_spread": 0.0, "epoch_seconds": 1.0, "peak_rss_mb": None,
        "rss_mb": 9.0, "pruned": ["x"], "probabilities": [[[0.5, 0.5]]],
    }
    lines = "".join(json.dumps(search | {"epoch": epoch}) + "\n" for epoch in range(2))
    seed("run_folder", "search", b"\0" + lines.encode())
    seed("run_folder", "result", b"\1" + json.dumps({"derived_valid_accuracy": 0.5}).encode())
    pairs = [["sep_conv_3x3", 0], ["skip_connect", 1]]
    cell = {"normal": pairs, "normal_concat": [2], "reduce": pairs, "reduce_concat": [2]}
    seed("run_folder", "genotype", b"\2" + json.dumps(cell).encode())
    seed("run_folder", "config", b"\3# Resolved configuration, asap 0.1.0\n[search]\nepochs = 1\n")


def seeds_weights():
    shape = {"channels": 2, "cells": 3, "height": 8, "width": 8, "in_channels": 1, "classes": 2, "stem": "small"}
    card = {
        "version": "0.1.0", "genotype": "resnet-9", "shape": shape, "classes": ["a", "b"],
        "normalization": {"mean": [0.5], "std": [0.25]}, "data": "x",
        "test": {"images": 3, "seed": 0, "limit": 0, "checksum": "00"},
    }
    seed("weights_content", "nine", json.dumps(card).encode())
    card["genotype"] = {"space": "nas-bench-201", "cell": CELL}
    seed("weights_content", "cell", json.dumps(card).encode())
    tensors = {"a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}}
    state = json.dumps(card)
    for name, metadata in {
        "first": {"asap.format": "1", "asap.kind": "trained network", "asap.state": state},
        "second": {"asap": json.dumps({"format": 2, "kind": "trained network", "state": state, "checksum": "00"})},
    }.items():
        header = json.dumps({"__metadata__": metadata} | tensors).encode()
        seed("weights", name, struct.pack("<Q", len(header)) + header + bytes(8))


def add_run(number, folder):
    for way, name in enumerate(("events.jsonl", "result.json", "genotype.json", "config.toml")):
        if (file := folder / name).is_file():
            lines = file.read_bytes().splitlines(True)
            seed("run_folder", f"run-{number}-{name}", bytes([way]) + b"".join(lines[:2] if way == 0 else lines))
            if way == 3:
                seed("config", f"run-{number}", b"".join(lines))
    for file in (folder / "weights.safetensors", folder / "checkpoint/latest.safetensors"):
        if file.is_file() and file.stat().st_size <= MOST:
            seed("weights", f"run-{number}-{file.stem}", file.read_bytes())


if __name__ == "__main__":
    for function in [value for name, value in list(globals().items()) if name.startswith("seeds_")]:
        function()
    for number, folder in enumerate(sys.argv[1:]):
        add_run(number, pathlib.Path(folder))
