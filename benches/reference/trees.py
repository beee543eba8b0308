"""Fine-tunes YOLO12n with the reference, as a program, on a data set: best mAP50 and mAP50-95 of each seed.

Usage: trees.py YOLOV12N.onnx DATA.yaml EPOCHS IMGSZ BATCH DEVICE SEED[,SEED...] [JOBS]

The weights are those of the ONNX file: its batch norms are folded, and given back by one pass over the training images, each
norm with the mean and variance of its own convolution's output, so that the network computes the same. Up to JOBS seeds
run at a time. Prints one JSON line a seed and one with the means.
"""
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["YOLO_OFFLINE"] = "true"

def starting_weights(source, data, imgsz, target):
    import cv2
    import numpy as np
    import onnx
    import torch
    import yaml
    from onnx import numpy_helper
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolo12n.yaml", nc=80, verbose=False)
    loaded = onnx.load(source)
    folded = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in loaded.graph.initializer}
    own = model.state_dict()
    own.update({name: folded[name] for name in own if name in folded and folded[name].shape == own[name].shape})
    norms = {}
    for name, module in model.named_modules():
        conv, norm = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(norm, torch.nn.BatchNorm2d) and f"{name}.conv.bias" in folded:
            norms[f"{name}.bn"] = (norm, folded[f"{name}.conv.bias"])
    model.load_state_dict(own)
    described = yaml.safe_load(open(data))
    root = pathlib.Path(described.get("path") or pathlib.Path(data).parent)
    root = root if root.is_absolute() else pathlib.Path(data).parent / root
    batch = []
    for file in sorted((root / described["train"]).iterdir()):
        picture = cv2.resize(cv2.imread(str(file)), (imgsz, imgsz))[:, :, ::-1]
        batch.append(torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255)

    def matched(norm, bias):
        def hook(_module, inputs, _output):
            x = inputs[0]
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
            norm.running_mean.copy_(mean), norm.running_var.copy_(var)
            norm.weight.data.copy_((var + norm.eps).sqrt()), norm.bias.data.copy_(bias + mean)
            return x + bias[None, :, None, None]

        return hook

    handles = [norm.register_forward_hook(matched(norm, bias)) for norm, bias in norms.values()]
    model.eval()
    with torch.no_grad():
        model(torch.stack(batch))
    for handle in handles:
        handle.remove()
    model.names = dict(enumerate(eval_names(loaded)))
    torch.save({"model": model, "train_args": {}}, target)
    return len(norms)

def eval_names(loaded):
    import ast

    text = next((p.value for p in loaded.metadata_props if p.key == "names"), None)
    return list(ast.literal_eval(text).values()) if text else [str(i) for i in range(80)]

def one(weights, data, epochs, imgsz, batch, device, seed, folder):
    from ultralytics import YOLO
    from ultralytics.engine import trainer as engine

    # On a GPU it would download a model to check mixed precision with.
    engine.check_amp = lambda _model: True
    YOLO(weights).train(data=data, epochs=epochs, imgsz=imgsz, batch=batch, device=device, seed=seed, workers=2, plots=False,
                        verbose=False, project=folder, name=f"seed{seed}", exist_ok=True)
    with open(f"{folder}/seed{seed}/results.csv") as file:
        rows = [{k.strip(): v for k, v in row.items()} for row in csv.DictReader(file)]
    best = max(rows, key=lambda row: float(row["metrics/mAP50-95(B)"]))
    print(json.dumps({"seed": seed, "epoch": int(best["epoch"]), "map50": float(best["metrics/mAP50(B)"]),
                      "map50_95": float(best["metrics/mAP50-95(B)"])}), flush=True)

def main():
    if sys.argv[1] == "--one":
        weights, data, epochs, imgsz, batch, device, seed, folder = sys.argv[2:]
        return one(weights, data, int(epochs), int(imgsz), int(batch), device, int(seed), folder)
    source, data, epochs, imgsz, batch, device, seeds = sys.argv[1:8]
    jobs = int(sys.argv[8]) if len(sys.argv) > 8 else 1
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/start.pt"
        print(f"{starting_weights(source, data, int(imgsz), weights)} norms given back", file=sys.stderr, flush=True)
        waiting, running, found = seeds.split(","), [], []
        while waiting or running:
            while waiting and len(running) < jobs:
                command = [sys.executable, __file__, "--one", weights, data, epochs, imgsz, batch, device, waiting.pop(0), folder]
                running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            out, err = running[0].communicate()
            if running.pop(0).returncode:
                raise SystemExit(out[-1500:] + err[-3000:])
            found.append(json.loads(out.strip().splitlines()[-1]))
            print(json.dumps(found[-1]), flush=True)
    means = {key: round(sum(f[key] for f in found) / len(found), 4) for key in ("map50", "map50_95")}
    print(json.dumps({"seeds": len(found), **means}))

if __name__ == "__main__":
    main()
