"""Loads exported weights into the reference's own model: run_torch.py WEIGHTS INPUT.raw DTYPE SHAPE OUT_DIR DESCRIPTION.

DESCRIPTION is the model's dictionary as JSON. Loading is strict, and the .pt is read with weights_only=True.
"""

import json
import os
import sys
from pathlib import Path

os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false", YOLO_CONFIG_DIR=sys.argv[5])

import numpy as np
import torch
from safetensors.torch import load
from ultralytics.nn.tasks import DetectionModel

weights, source, dtype, shape, out, description = sys.argv[1:]
raw = Path(weights).read_bytes()
state = torch.load(weights, weights_only=True) if raw[:2] == b"PK" else load(raw)
model = DetectionModel(json.loads(description), verbose=False)
model.load_state_dict(state, strict=True)
model.eval()
x = np.fromfile(source, dtype=dtype).reshape([int(d) for d in shape.split("x")])
with torch.no_grad():
    y = model(torch.from_numpy(x))[0].numpy()
np.ascontiguousarray(y).tofile(Path(out) / "output0.raw")
print(json.dumps({"outputs": {"output0": {"dtype": str(y.dtype), "shape": list(y.shape)}}, "metadata": {}}))
