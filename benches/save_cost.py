#!/usr/bin/env python3
"""What saving within an epoch costs: the same training with `save_every` and without, in turn.

    python3 benches/save_cost.py [--every 20] [--epochs 4] [--rounds 3] [--imgsz 416] [--device cpu] [--onsa target/release/onsa]

YOLO12n from the real weights on the tree tiles; the images a second of all epochs but the first. Needs `onsa demo --fetch-only`.
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path


def rates(args, assets, project, every, name):
    command = [
        str(args.onsa), "train", f"model={assets / 'yolov12n.onnx'}", f"data={assets / 'trees/data.yaml'}", f"epochs={args.epochs}",
        f"imgsz={args.imgsz}", "batch=4", "plots=false", "val=false", f"device={args.device}", f"project={project}", f"name={name}",
    ] + ([f"save_every={every}"] if every else [])  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return [float(r) for r in re.findall(r"([\d.]+) img/s", done.stderr)][1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--imgsz", type=int, default=416)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--onsa", type=Path, default=Path(__file__).parents[1] / "target/release/onsa")
    args = parser.parse_args()
    assets = Path(os.environ.get("ONSA_ASSETS", Path.home() / ".cache/onsa/assets"))
    found = {0: [], args.every: []}
    with tempfile.TemporaryDirectory() as project:
        for turn in range(args.rounds):
            for every, seen in found.items():
                seen += rates(args, assets, project, every, f"{every}-{turn}")
    plain, saving = statistics.median(found[0]), statistics.median(found[args.every])
    print(f"epochs saved at their ends only: {plain:.2f} img/s ({min(found[0]):.2f}-{max(found[0]):.2f}, {len(found[0])} epochs)")
    print(f"and after every {args.every} steps: {saving:.2f} img/s ({min(found[args.every]):.2f}-{max(found[args.every]):.2f})")
    print(f"cost: {100 * (1 - saving / plain):.1f} %")


if __name__ == "__main__":
    main()
