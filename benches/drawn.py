"""Small drawn data sets for the benches, with Python's own library alone."""

import random
import struct
import zlib


def png(side, rng, boxes):
    """Grey noise with bright rectangles: (x, y, w, h) in pixels."""
    rows = []
    for y in range(side):
        row = bytearray(rng.randbytes(side * 3))
        for x, top, w, h in boxes:
            if top <= y < top + h:
                row[x * 3:(x + w) * 3] = bytes([250, 200, 40]) * w
        rows.append(b"\0" + bytes(row))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(rows), 1)) + chunk(b"IEND", b"")


def lay(folder, train, val, side=64, seed=0):
    """Writes a YOLO data set of one class and returns its data.yaml."""
    rng = random.Random(seed)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            boxes = []
            for _ in range(rng.randint(1, 3)):
                w, h = rng.randint(8, side // 3), rng.randint(8, side // 3)
                boxes.append((rng.randint(0, side - w), rng.randint(0, side - h), w, h))
            (folder / "images" / split / f"{i}.png").write_bytes(png(side, rng, boxes))
            rows = [f"0 {(x + w / 2) / side} {(y + h / 2) / side} {w / side} {h / side}\n" for x, y, w, h in boxes]
            (folder / "labels" / split / f"{i}.txt").write_text("".join(rows))
    data = folder / "data.yaml"
    data.write_text("train: images/train\nval: images/val\nnames: [block]\n")
    return data
