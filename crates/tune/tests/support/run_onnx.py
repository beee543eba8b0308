"""Runs an ONNX file in ONNX Runtime: run_onnx.py MODEL INPUT.raw DTYPE SHAPE OUT_DIR.

Writes each output's bytes to OUT_DIR/NAME.raw and prints their types and shapes, and the file's metadata, as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

model, source, dtype, shape, out = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
x = np.fromfile(source, dtype=dtype).reshape([int(d) for d in shape.split("x")])
names = [o.name for o in session.get_outputs()]
values = session.run(names, {session.get_inputs()[0].name: x})
for name, value in zip(names, values):
    np.ascontiguousarray(value).tofile(Path(out) / f"{name}.raw")
print(json.dumps({
    "outputs": {name: {"dtype": str(v.dtype), "shape": list(v.shape)} for name, v in zip(names, values)},
    "metadata": session.get_modelmeta().custom_metadata_map,
}))
