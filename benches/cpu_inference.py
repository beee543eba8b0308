"""Inference beside ONNX Runtime on the same cores: milliseconds a batch of one ONNX file.

    cpu_inference.py --onsa target/release/onsa --model yolov12n.onnx [--python PYTHON] [--batches 1,8] [--threads 2] [--pairs 5]
                     [--through COMMAND]

PYTHON has onnxruntime and onnx. For ONNX Runtime the file's fixed batch of one is made the batch that is timed; its graph optimisation is
at its highest. Each program gives its median batch; the programs run in turn and the median of those counts.
"""
import argparse
import json
import shlex
import statistics
import subprocess
import sys

THEIRS = r"""
import statistics, sys, time
import numpy as np, onnx, onnxruntime as ort
path, batch, threads, rounds, size = sys.argv[1], *map(int, sys.argv[2:6])
model = onnx.load(path)
if batch != 1:
    for value in list(model.graph.input) + list(model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del model.graph.value_info[:]
    # Shapes that the exporter wrote as constants for one image: the batch leads each.
    targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    tensors = [t for t in model.graph.initializer if t.name in targets]
    tensors += [n.attribute[0].t for n in model.graph.node if n.op_type == "Constant" and n.output[0] in targets]
    for tensor in tensors:
        a = onnx.numpy_helper.to_array(tensor).copy()
        if a[0] > 0:
            a[0] *= batch
        tensor.CopyFrom(onnx.numpy_helper.from_array(a, tensor.name))
options = ort.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
options.log_severity_level = 3
session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
x = np.random.rand(batch, 3, size, size).astype(np.float32)
name = session.get_inputs()[0].name
times = []
for _ in range(rounds + 2):
    t = time.perf_counter()
    session.run(None, {name: x})
    times.append(time.perf_counter() - t)
print(statistics.median(times[2:]) * 1e3)
"""

p = argparse.ArgumentParser()
p.add_argument("--onsa", required=True)
p.add_argument("--model", required=True)
p.add_argument("--python", default=sys.executable)
p.add_argument("--batches", default="1,8")
p.add_argument("--threads", default="2")
p.add_argument("--imgsz", default="640")
p.add_argument("--rounds", default="10")
p.add_argument("--pairs", type=int, default=5)
p.add_argument("--through", default="")
args = p.parse_args()
through = shlex.split(args.through)


def run(command):
    return subprocess.run([*through, *command], stdout=subprocess.PIPE, text=True, check=True).stdout


for batch in args.batches.split(","):
    theirs, ours = [], []
    for _ in range(args.pairs):
        theirs.append(float(run([args.python, "-c", THEIRS, args.model, batch, args.threads, args.rounds, args.imgsz])))
        command = [args.onsa, "bench", f"model={args.model}", f"imgsz={args.imgsz}", f"batch={batch}", "mode=predict",
                   f"rounds={args.rounds}", f"threads={args.threads}", "--json"]
        ours.append(json.loads(run(command))["ms_per_batch"])
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"batch {batch}, {args.threads} threads: onsa {a:.1f} ms, ONNX Runtime {b:.1f} ms: {a / b:.2f} of its time", flush=True)
