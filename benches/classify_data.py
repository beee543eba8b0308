"""Lays out the two classification data sets of the benches, from Debian packages:

    python3 benches/classify_data.py OUT

OUT/stamps: the photographs of tuxpaint-stamps-default (GPL-2) on white, train/ and val/ with one folder a category. A
category is a folder of the second level with at least 20 images, or what is left of a folder of the first level if
that has as many; drawings (cartoon) and symbols are left out. Of each category the images with an even place in the
order of the SHA-256 of their names train; none is larger than 256 px. OUT/fashion-mnist: the IDX files of dataset-fashion-mnist
(MIT), and OUT/fashion-2000 the same of the first 200 training and the first 200 test images of each class. 11 MB without the packages
and the whole Fashion-MNIST.

Needs apt-get, dpkg-deb and Pillow.
"""

import collections
import gzip
import hashlib
import pathlib
import shutil
import struct
import subprocess
import sys

from PIL import Image

PACKAGES = ["tuxpaint-stamps-default", "dataset-fashion-mnist"]
LEAST = 20
SIDE = 256


def unpacked(out):
    """The packages' files, downloaded and unpacked once; nothing of them is installed or run."""
    root = out / "packages"
    if not (root / "usr").is_dir():
        root.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=root, check=True)
        for package in root.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=root, check=True)
    return root / "usr" / "share"


def stamps(share, out):
    root = share / "tuxpaint" / "stamps"
    found = collections.defaultdict(list)
    for path in sorted(root.rglob("*.png")):
        parts = path.relative_to(root).parts
        if "cartoon" not in parts and "symbols" not in parts:
            found[parts[:2] if len(parts) > 2 else parts[:1]].append(path)
    categories, rest = {}, collections.defaultdict(list)
    for key, paths in found.items():
        if len(key) == 2 and len(paths) >= LEAST:
            categories["-".join(key)] = paths
        else:
            rest[key[0]] += paths
    categories |= {key: paths for key, paths in rest.items() if len(paths) >= LEAST}
    for name, paths in sorted(categories.items()):
        relative = {p: str(p.relative_to(root)) for p in paths}
        paths.sort(key=lambda p: hashlib.sha256(relative[p].encode()).digest())
        for i, path in enumerate(paths):
            to = out / ("train" if i % 2 == 0 else "val") / name
            to.mkdir(parents=True, exist_ok=True)
            image = Image.open(path).convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image)
            white = white.convert("RGB")
            white.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            white.save(to / (relative[path].replace("/", "_")))
        print(f"{name}: {len(paths)} images")


def fashion(share, out):
    source = share / "datasets" / "fashion-mnist"
    (out / "fashion-mnist").mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.gz"):
        shutil.copy(file, out / "fashion-mnist" / file.name)
    to = out / "fashion-2000"
    to.mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        images = gzip.decompress((source / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
        labels = gzip.decompress((source / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
        seen, kept = collections.Counter(), []
        for i, label in enumerate(labels):
            if seen[label] < 200:
                seen[label] += 1
                kept.append(i)
        pixels = b"".join(images[784 * i : 784 * (i + 1)] for i in kept)
        header = struct.pack(">IIII", 0x803, len(kept), 28, 28)
        (to / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels, mtime=0))
        header = struct.pack(">II", 0x801, len(kept))
        (to / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + bytes(labels[i] for i in kept), mtime=0))
        print(f"fashion-2000 {part}: {len(kept)} images")


def main():
    out = pathlib.Path(sys.argv[1])
    share = unpacked(out)
    stamps(share, out / "stamps")
    fashion(share, out)


if __name__ == "__main__":
    main()
