"""Loads an exported classifier's weights into PyTorch's own network: run_torch_classify.py WEIGHTS INPUT.raw DTYPE SHAPE OUT_DIR SOURCE DESCRIPTION NAME.

NAME is a case of fixtures/export_classify.py, whose network takes the weights strictly, read with weights_only=True; SOURCE is
the file that they came from, whose values they must equal.
"""

import json
import os
import sys
from pathlib import Path

os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false", YOLO_CONFIG_DIR=sys.argv[5])
sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "fixtures"))

import numpy as np
import torch
from export_classify import cases, logits_of
from safetensors.torch import load_file

weights, source, dtype, shape, out, origin, _, name = sys.argv[1:]
state = torch.load(weights, weights_only=True)
for key, value in load_file(origin).items():
    assert torch.equal(state[key], value.float()), key
model, (mean, std) = next((model, norm) for case, _, model, norm in cases() if case == name)
model.load_state_dict(state, strict=True)
model.eval()
x = torch.from_numpy(np.fromfile(source, dtype=dtype).reshape([int(d) for d in shape.split("x")]))
mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (mean, std))
with torch.no_grad():
    y = logits_of(model, (x - mean) / std).softmax(1).numpy()
np.ascontiguousarray(y).tofile(Path(out) / "output0.raw")
print(json.dumps({"outputs": {"output0": {"dtype": str(y.dtype), "shape": list(y.shape)}}, "metadata": {}}))
