"""Makes the fixtures of `forms`: tiny data sets in the binary forms in which people get them.

    pip install numpy pillow pyarrow scipy
    python make.py

An image has one colour, drawn from its seed, but for one pixel: row 1, column 2. So flips, transposes, swapped channels and shifted
labels are seen. The tests make the same images; see `pixels` in main.rs. Folders, lists, archives and IDX files are made by the tests.
"""

import gzip
import io
import json
import pickle
import pickletools
import struct
import tarfile
import zlib
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import scipy.io
from PIL import Image

HERE = Path(__file__).parent
ODD = [250, 240, 230]
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()


def pixels(height, width, channels, seed):
    """Image `seed`, bytes [height, width, channels]."""
    image = numpy.zeros((height, width, channels), numpy.uint8)
    image[:] = [seed, seed + 50, seed + 100][:channels]
    image[1, 2] = ODD[:channels]
    return image


def stack(height, width, channels, seeds):
    return numpy.stack([pixels(height, width, channels, seed) for seed in seeds])


# CIFAR


def planes(seeds):
    """Rows of three planes, as in all of CIFAR's forms."""
    return numpy.ascontiguousarray(stack(32, 32, 3, seeds).transpose(0, 3, 1, 2).reshape(-1, 3072))


class Python2:
    """Writes what `cPickle.dump(value, file, 2)` of Python 2 writes: texts as strings of bytes, every value remembered once."""

    def __init__(self, value):
        self.out, self.memo = bytearray(b"\x80\x02"), 0
        self.save(value)
        self.out += b"."
        pickletools.dis(bytes(self.out), io.StringIO())

    def remember(self):
        self.memo += 1
        self.out += b"q" + bytes([self.memo]) if self.memo < 256 else b"r" + struct.pack("<I", self.memo)

    def save(self, value):
        match value:
            case bool():
                self.out += b"\x88" if value else b"\x89"
            case None:
                self.out += b"N"
            case int() if 0 <= value < 256:
                self.out += b"K" + bytes([value])
            case int() if 0 <= value < 65536:
                self.out += b"M" + struct.pack("<H", value)
            case int():
                self.out += b"J" + struct.pack("<i", value)
            case str() | bytes():
                text = value.encode() if isinstance(value, str) else value
                short = len(text) < 256
                self.out += b"U" + bytes([len(text)]) if short else b"T" + struct.pack("<i", len(text))
                self.out += text
                self.remember()
            case list():
                self.out += b"]"
                self.remember()
                for first in range(0, len(value), 1000):
                    self.out += b"("
                    for item in value[first : first + 1000]:
                        self.save(item)
                    self.out += b"e"
            case dict():
                self.out += b"}"
                self.remember()
                self.out += b"("
                for key, item in value.items():
                    self.save(key)
                    self.save(item)
                self.out += b"u"
            case tuple():
                self.out += b"(" if len(value) > 3 else b""
                for item in value:
                    self.save(item)
                self.out += b"t" if len(value) > 3 else bytes([0x84 + len(value)])
                self.remember()
            case numpy.ndarray():
                self.named("numpy.core.multiarray", "_reconstruct")
                self.called([("numpy", "ndarray"), (0,), "b"])
                self.out += b"("
                self.save(1)
                self.save(value.shape)
                self.named("numpy", "dtype")
                self.called(["u1", 0, 1])
                self.save((3, "|", None, None, None, -1, -1, 0))
                self.out += b"b"
                self.save(False)
                self.out += b"T" + struct.pack("<i", value.nbytes) + value.tobytes()
                self.remember()
                self.out += b"t"
                self.remember()
                self.out += b"b"

    def named(self, module, name):
        self.out += f"c{module}\n{name}\n".encode()
        self.remember()

    def called(self, arguments):
        for argument in arguments:
            if isinstance(argument, tuple) and isinstance(argument[0], str):
                self.named(*argument)
            else:
                self.save(argument)
        self.out += b"\x87"
        self.remember()
        self.out += b"R"
        self.remember()


def cifar10():
    files = {"batches.meta": {"num_cases_per_batch": 10000, "label_names": CIFAR10, "num_vis": 3072}}
    for batch in range(1, 6):
        seeds = [2 * batch - 2, 2 * batch - 1]
        files[f"data_batch_{batch}"] = {
            "batch_label": f"training batch {batch} of 5",
            "labels": [3 * seed % 10 for seed in seeds],
            "data": planes(seeds),
            "filenames": [f"leptodactylus_pentadactylus_s_{seed:06}.png" for seed in seeds],
        }
    files["test_batch"] = {
        "batch_label": "testing batch 1 of 1",
        "labels": [9, 2, 0],
        "data": planes([100, 101, 102]),
        "filenames": ["a.png", "b.png", "c.png"],
    }
    return files


def cifar100():
    def part(name, seeds, labels):
        return {
            "filenames": [f"file_{index:06}.png" for index in range(len(seeds))],
            "batch_label": f"{name} batch 1 of 1",
            "fine_labels": labels,
            "coarse_labels": [label // 5 for label in labels],
            "data": planes(seeds),
        }

    return {
        "meta": {
            "fine_label_names": [f"fine {99 - index:02}" for index in range(100)],
            "coarse_label_names": [f"coarse {index:02}" for index in range(20)],
        },
        "train": part("training", [index % 150 for index in range(300)], [7 * index % 100 for index in range(300)]),
        "test": part("testing", [100, 101], [99, 0]),
    }


def archive(name, folder, files):
    """A tar.gz with the files in an outer folder."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
        for file, data in sorted(files.items()):
            entry = tarfile.TarInfo(f"{folder}/{file}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    (HERE / name).write_bytes(gzip.compress(content.getvalue(), 9, mtime=0))


def with_bytes(value):
    """The same with bytes for texts, as `pickle.load(file, encoding="bytes")` gives them."""
    match value:
        case dict():
            return {with_bytes(key): with_bytes(item) for key, item in value.items()}
        case list():
            return [with_bytes(item) for item in value]
        case str():
            return value.encode()
    return value


def write_cifar():
    python2 = {name: bytes(Python2(value).out) for name, value in cifar10().items()}
    # The length of the published file.
    assert len(python2["batches.meta"]) == 158
    for name, value in cifar10().items():
        found = pickle.loads(python2[name], encoding="latin1")
        assert pickletools.genops(python2[name]) and found.keys() == value.keys()
        assert all(numpy.array_equal(found[key], item) for key, item in value.items())
    archive("cifar-10-python.tar.gz", "cifar-10-batches-py", python2)
    python2 = {name: bytes(Python2(value).out) for name, value in cifar100().items()}
    archive("cifar-100-python.tar.gz", "cifar-100-python", python2)
    wide = cifar10()
    wide["data_batch_4"]["data"] = wide["data_batch_4"]["data"].astype(numpy.int64)
    archive("cifar-10-int64.tar.gz", "cifar-10-batches-py", {name: pickle.dumps(value, 2) for name, value in wide.items()})
    for protocol, change in [(2, lambda value: value), (4, with_bytes), (5, lambda value: value)]:
        files = {name: pickle.dumps(change(value), protocol) for name, value in cifar10().items()}
        archive(f"cifar-10-protocol-{protocol}.tar.gz", "cifar-10-batches-py", files)


# SVHN


def write_svhn():
    for kind in ["uint8", "double", "matlab"]:
        folder = HERE / "svhn" / kind
        folder.mkdir(parents=True, exist_ok=True)
        parts = {"train": (range(10), [10, 1, 2, 3, 4, 5, 6, 7, 8, 9]), "test": ([100, 101, 102], [10, 4, 9])}
        for part, (seeds, labels) in parts.items():
            path = folder / f"{part}_32x32.mat"
            images = stack(32, 32, 3, seeds).transpose(1, 2, 3, 0)
            if kind == "matlab":
                path.write_bytes(matlab(images, labels))
                found = scipy.io.loadmat(path, mat_dtype=True)
                assert numpy.array_equal(found["X"], images) and found["y"].ravel().tolist() == labels
            else:
                labels = numpy.array(labels, kind).reshape(-1, 1)
                scipy.io.savemat(path, {"X": images, "y": labels}, do_compression=True)
                date(path)


    folder = HERE / "svhn" / "broken"
    folder.mkdir(exist_ok=True)
    images = stack(32, 32, 3, range(3)).transpose(1, 2, 3, 0)
    (folder / "label-11.mat").write_bytes(matlab(images, [10, 1, 11]))
    scipy.io.savemat(folder / "doubles.mat", {"X": images / 255, "y": numpy.array([[1.0], [2.0], [3.0]])}, do_compression=True)
    date(folder / "doubles.mat")
    scipy.io.savemat(folder / "only-x.mat", {"X": images}, do_compression=True)
    date(folder / "only-x.mat")


def date(path):
    """Removes the time from a MATLAB file's text, so that the same data give the same file."""
    data = path.read_bytes()
    path.write_bytes(b"MATLAB 5.0 MAT-file, made by make.py".ljust(116) + data[116:])


def matlab(images, labels):
    """A file as MATLAB writes it: `y` holds doubles that are stored as bytes, because they fit; names are small elements."""

    def element(kind, data):
        if len(data) <= 4:
            return struct.pack("<HH", kind, len(data)) + data.ljust(4, b"\0")
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    def array(name, array_class, values):
        values = numpy.asfortranarray(values)
        parts = element(6, struct.pack("<II", array_class, 0)) + element(5, struct.pack(f"<{values.ndim}i", *values.shape))
        parts += element(1, name.encode()) + element(2, values.astype(numpy.uint8).tobytes("F"))
        inner = zlib.compress(struct.pack("<II", 14, len(parts)) + parts)
        return struct.pack("<II", 15, len(inner)) + inner

    head = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM"
    return head + array("X", 9, images) + array("y", 6, numpy.array(labels).reshape(-1, 1))


# NumPy


def write_npz():
    def parts(channels):
        def images(seeds):
            return stack(5, 7, channels, seeds)[..., 0] if channels == 1 else stack(5, 7, channels, seeds)

        def labels(values):
            return numpy.array(values, numpy.uint8).reshape(-1, 1)

        return {
            "train_images": images(range(4)),
            "val_images": images([60, 61]),
            "test_images": images([100, 101, 102]),
            "train_labels": labels([2, 0, 1, 0]),
            "val_labels": labels([1, 2]),
            "test_labels": labels([0, 2, 1]),
        }

    numpy.savez_compressed(HERE / "medmnist-grey.npz", **parts(1))
    numpy.savez_compressed(HERE / "medmnist-colour.npz", **parts(3))
    several = parts(1) | {"train_labels": numpy.zeros((4, 14), numpy.uint8)}
    numpy.savez_compressed(HERE / "medmnist-several-labels.npz", **several)
    keras = {
        "x_test": stack(5, 7, 1, [100, 101])[..., 0],
        "x_train": stack(5, 7, 1, range(4))[..., 0],
        "y_train": numpy.array([2, 0, 1, 0], numpy.int64),
        "y_test": numpy.array([1, 2], numpy.int64),
    }
    numpy.savez(HERE / "keras.npz", **keras)
    big = {name: value.astype(">i4") if name[0] == "y" else value for name, value in keras.items()}
    numpy.savez(HERE / "keras-big-endian.npz", **big)
    numpy.savez(HERE / "floats.npz", **keras | {"x_train": (keras["x_train"] / 255).astype(numpy.float32)})
    numpy.savez(HERE / "negative.npz", **keras | {"y_train": numpy.array([2, 0, 1, -1])})
    numpy.savez(HERE / "gap.npz", **keras | {"y_train": numpy.array([2, 0, 4, 0])})
    numpy.savez(HERE / "fortran.npz", **keras | {"x_train": numpy.asfortranarray(keras["x_train"])})


# Parquet


def png(seed):
    content = io.BytesIO()
    Image.fromarray(pixels(5, 7, 3, seed)).save(content, "png")
    return content.getvalue()


def write_parquet():
    def table(image, seeds, columns, names):
        """A table; with the description of a hub if the classes have names."""
        struct_type = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        rows = [{"bytes": png(seed), "path": f"{seed}.png"} for seed in seeds]
        fields, arrays = [pyarrow.field(image, struct_type)], [pyarrow.array(rows, struct_type)]
        features = {image: {"_type": "Image"}}
        for name, labels in columns.items():
            fields.append(pyarrow.field(name, pyarrow.int64()))
            arrays.append(pyarrow.array(labels, pyarrow.int64()))
            features[name] = {"names": names.get(name), "_type": "ClassLabel"}
        meta = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
        return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields, metadata=meta))

    def write(name, compression, *arguments):
        path = HERE / "parquet" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table(*arguments), path, compression=compression)

    names = {"label": ["tench", "ant", "zebra"]}
    one, two = "data/train-00000-of-00001", "data/train-0000{}-of-00002"
    write(f"snappy/{one}", "snappy", "image", range(4), {"label": [2, 0, 1, 0]}, names)
    write("snappy/data/test-00000-of-00001", "snappy", "image", [100, 101], {"label": [1, 2]}, names)
    for shard in range(2):
        seeds, labels = ([0, 1], [2, 0]) if shard == 0 else ([2, 3], [1, 0])
        write(f"zstd/{two.format(shard)}", "zstd", "image", seeds, {"label": labels}, names)
    write("zstd/data/validation-00000-of-00001", "zstd", "image", [60], {"label": [1]}, names)
    write("zstd/data/test-00000-of-00001", "zstd", "image", [100, 101], {"label": [1, 2]}, names)
    fine = {"fine_label": ["cup", "apple", "bed"], "coarse_label": ["things", "food"]}
    write("fine/cifar100/train-00000-of-00001", "snappy", "img", range(4), {"fine_label": [2, 0, 1, 0], "coarse_label": [0, 0, 1, 0]}, fine)
    write("fine/cifar100/test-00000-of-00001", "snappy", "img", [100, 101], {"fine_label": [1, 2], "coarse_label": [1, 0]}, fine)
    # Names that are numbers themselves, as those of ratings.
    write(f"ratings/{one}", "snappy", "image", range(4), {"label": [2, 0, 1, 0]}, {"label": ["1", "2", "3"]})
    # Without the hub's description, and test images without labels.
    write("plain/train", "snappy", "image", range(4), {"label": [2, 0, 1, 0]}, {})
    write("plain/test", "snappy", "image", [100, 101], {"label": [-1, -1]}, {})
    floats = table("image", range(4), {"label": [2, 0, 1, 0]}, {})
    floats = floats.set_column(1, "label", floats["label"].cast(pyarrow.float64()))
    pyarrow.parquet.write_table(floats, HERE / "parquet" / "floats.parquet")
    boxes = pyarrow.array([[[1, 2]], [], [[3, 4], [5, 6]], None])
    lists = table("image", range(4), {"label": [2, 0, 1, 0]}, {}).append_column("boxes", boxes)
    pyarrow.parquet.write_table(lists, HERE / "parquet" / "lists.parquet")
    write("out-of-range/train", "snappy", "image", range(4), {"label": [3, 0, 1, 0]}, names)


if __name__ == "__main__":
    write_cifar()
    write_svhn()
    write_npz()
    write_parquet()
