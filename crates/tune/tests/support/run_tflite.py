"""Runs a LiteRT file in LiteRT's interpreter: run_tflite.py MODEL INPUT.raw DTYPE SHAPE OUT_DIR."""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

model, source, dtype, shape, out = sys.argv[1:]
interpreter = Interpreter(model_content=Path(model).read_bytes(), num_threads=2)
interpreter.allocate_tensors()
x = np.fromfile(source, dtype=dtype).reshape([int(d) for d in shape.split("x")])
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
interpreter.invoke()
outputs = {}
for i, detail in enumerate(interpreter.get_output_details()):
    value = interpreter.get_tensor(detail["index"])
    np.ascontiguousarray(value).tofile(Path(out) / f"output{i}.raw")
    outputs[f"output{i}"] = {"dtype": str(value.dtype), "shape": list(value.shape)}
print(json.dumps({"outputs": outputs, "metadata": {}}))
