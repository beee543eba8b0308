"""Runs an exported detector in ONNX Runtime on raw pixels and prints its boxes as JSON.

usage: run_onnx.py MODEL PIXELS SIDE CONFIDENCE; PIXELS: SIDE x SIDE x 3 bytes, RGB
"""
import json
import sys

import numpy as np
import onnxruntime

model, pixels, side, least = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
image = np.fromfile(pixels, np.uint8).reshape(side, side, 3)
session = onnxruntime.InferenceSession(model)
given = session.get_inputs()[0]


def plain(output):
    """Boxes of the network alone: [1, 4 + classes, places], centre and size in pixels."""
    rows = output[0].T
    scores, classes = rows[:, 4:].max(1), rows[:, 4:].argmax(1)
    half = rows[:, 2:4] / 2
    boxes = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], 1)
    kept = []
    for i in np.argsort(-scores):
        if scores[i] < least:
            break
        if all(classes[i] != classes[j] or overlap(boxes[i], boxes[j]) <= 0.7 for j in kept):
            kept.append(i)
    return boxes[kept], scores[kept], classes[kept]


def overlap(a, b):
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = lambda r: (r[2] - r[0]) * (r[3] - r[1])
    return w * h / (area(a) + area(b) - w * h)


if given.type == "tensor(uint8)":
    boxes, scores, classes = session.run(["boxes", "scores", "classes"], {given.name: image})
    sure = scores[0] >= least
    found = boxes[0][sure], scores[0][sure], classes[0][sure]
else:
    planes = image.transpose(2, 0, 1)[None].astype(np.float32) / 255
    found = plain(session.run(None, {given.name: planes})[0])
print(json.dumps([{"xyxy": b.tolist(), "score": float(s), "class": int(c)} for b, s, c in zip(*found)]))
