"""Makes the goldens of AutoAugment: `operations.txt` with Pillow, `policies.txt` from torchvision's tables.

    pip install pillow
    pip download --no-deps torchvision==0.26.0 && unzip torchvision-*.whl torchvision/transforms/autoaugment.py
    python make_augment.py torchvision/transforms/autoaugment.py

The tables are cut out of torchvision's source, so that neither torchvision nor PyTorch has to be installed.
"""

import re
import sys
import zlib
from pathlib import Path

import PIL
from PIL import Image, ImageEnhance, ImageOps

# Height, width, channels, smallest value, number of values.
IMAGES = [
    (7, 5, 3, 40, 150),
    (6, 9, 1, 0, 256),
    (2, 2, 3, 0, 256),
    (1, 4, 1, 3, 90),
    (3, 3, 3, 77, 1),
    (28, 28, 1, 10, 200),
    (32, 32, 3, 0, 256),
    (33, 47, 3, 60, 140),
]
FILL = 128
SIGNED = "ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness".split()


def make(height, width, channels, low, count):
    data = bytes(
        low + (x * x * 5 + y * 11 + c * 29 + x * y * 7 % 23) % count
        for y in range(height)
        for x in range(width)
        for c in range(channels)
    )
    return Image.frombytes("L" if channels == 1 else "RGB", (width, height), data)


def affine(image, *matrix):
    fill = FILL if image.mode == "L" else (FILL,) * 3
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=fill)


def apply(name, level, image):
    size, sign = abs(level), -1 if level < 0 else 1
    width, height = image.size
    fill = FILL if image.mode == "L" else (FILL,) * 3
    match name:
        case "ShearX":
            return affine(image, 1, level / 30, 0, 0, 1, 0)
        case "ShearY":
            return affine(image, 1, 0, 0, level / 30, 1, 0)
        case "TranslateX":
            return affine(image, 1, 0, sign * int(150 / 331 * width * size / 9), 0, 1, 0)
        case "TranslateY":
            return affine(image, 1, 0, 0, 0, 1, sign * int(150 / 331 * height * size / 9))
        case "Rotate":
            return image.rotate(level * 30 / 9, Image.Resampling.NEAREST, fillcolor=fill)
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return getattr(ImageEnhance, name)(image).enhance((10 + level) / 10)
        case "Posterize":
            return ImageOps.posterize(image, 8 - round(level * 4 / 9))
        case "Solarize":
            return ImageOps.solarize(image, 255 - level * 255 / 9)
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Invert":
            return ImageOps.invert(image)


def operations():
    yield f"# Operation, level, CRC-32 of the bytes of each image. Pillow {PIL.__version__}, make_augment.py."
    yield " ".join(f"{h}x{w}x{c}-{low}-{count}" for h, w, c, low, count in IMAGES)
    levels = {name: range(-9, 10) for name in SIGNED}
    levels |= {"Posterize": range(10), "Solarize": range(10), "AutoContrast": [0], "Equalize": [0], "Invert": [0]}
    for name, range_ in levels.items():
        for level in range_:
            sums = (zlib.crc32(apply(name, level, make(*image)).tobytes()) for image in IMAGES)
            yield f"{name} {level} " + " ".join(f"{value:08x}" for value in sums)


def policies(source):
    yield "# Policy, then operation, probability and level twice. torchvision 0.26.0, make_augment.py."
    for policy, name in [("IMAGENET", "imagenet"), ("CIFAR10", "cifar"), ("SVHN", "svhn")]:
        table = re.search(rf"policy == AutoAugmentPolicy\.{policy}:\s+return (\[.*?\n            \])", source, re.S)
        for pair in eval(table[1], {"__builtins__": {}}):
            yield " ".join([name, *(f"{op} {p} {level or 0}" for op, p, level in pair)])


if __name__ == "__main__":
    here = Path(__file__).parent
    source = Path(sys.argv[1]).read_text()
    (here / "operations.txt").write_text("\n".join(operations()) + "\n")
    (here / "policies.txt").write_text("\n".join(policies(source)) + "\n")
