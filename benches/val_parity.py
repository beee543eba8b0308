#!/usr/bin/env python3
"""The same weights on the same images: `onsa val` beside the reference's own validation.

    ref/bin/python benches/val_parity.py WEIGHTS.safetensors DATA.yaml [--yaml yolo12n.yaml] [--imgsz 416] [--onsa target/release/onsa]

WEIGHTS is a file that `onsa train` wrote. Needs the packages of fixtures/requirements.txt and ultralytics 8.4.190.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

os.environ["YOLO_OFFLINE"] = "true"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--yaml", default="yolo12n.yaml")
    parser.add_argument("--imgsz", type=int, default=416)
    parser.add_argument("--onsa", type=Path, default=Path(__file__).parents[1] / "target/release/onsa")
    args = parser.parse_args()
    ours = onsa(args)
    theirs = reference(args, ours["per_class"])
    print(f"{'figure':<12}{'onsa':>10}{'reference':>11}{'difference':>12}")
    for name, value in theirs.items():
        print(f"{name:<12}{ours[name]:>10.5f}{value:>11.5f}{ours[name] - value:>12.5f}")


def onsa(args):
    command = [args.onsa, "val", f"model={args.weights}", f"data={args.data}", f"imgsz={args.imgsz}", "plots=false", "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def reference(args, classes):
    import torch
    from safetensors.torch import load_file
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    own = load_file(args.weights)
    # A head that was made for other classes keeps its branches' width: build it so wide, then cut its last layers.
    last = sorted(name for name in own if re.fullmatch(r"model\.\d+\.cv3\.\d\.2\.weight", name))
    model = DetectionModel(args.yaml, nc=max(own[last[0]].shape[1], len(classes)), verbose=False)
    head = model.model[-1]
    for branch in head.cv3:
        branch[2] = torch.nn.Conv2d(branch[2].in_channels, len(classes), 1)
    head.nc, head.no = len(classes), len(classes) + 4 * head.reg_max
    state = model.state_dict()
    needed = [name for name in state if "num_batches_tracked" not in name and ".dfl." not in name]
    missing = [name for name in needed if name not in own]
    assert not missing, f"not in the file: {missing[:3]}"
    model.load_state_dict({**state, **{name: own[name] for name in needed}})
    model.names = {c["class"]: c["name"] for c in classes}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model.pt"
        torch.save({"model": model, "train_args": {}}, checkpoint)
        result = YOLO(checkpoint).val(
            data=str(args.data), imgsz=args.imgsz, batch=8, workers=0, plots=False, device="cpu", project=folder, verbose=False
        )
    box = result.box
    return {"map50": box.map50, "map50_95": box.map, "precision": box.mp, "recall": box.mr}


if __name__ == "__main__":
    main()
