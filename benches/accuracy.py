#!/usr/bin/env python3
"""Tree tiles, YOLO12n, the default recipe at 416 px and batch 8: best mAP50 and mAP50-95 of each seed, and from scratch.

    cargo build --release && target/release/onsa demo --fetch-only
    python3 benches/accuracy.py [--epochs 60] [--seeds 0 1 2] [--scratch-seeds 0] [--onsa target/release/onsa] [--keep FOLDER]
                                [--device cpu] [--jobs 1]

--jobs runs so many seeds at a time (the rates are then not those of one run). benches/reference/trees.py is the reference's side.

The figures are those of the epoch with the best fitness, on the 9 validation tiles (320 boxes), as the run reports them.
Peers: the same data set and arguments in shared measurements of the reference, seeds 0 / 1 / 2: mAP50 .534 .571 .590
(mean .565), mAP50-95 .180 .190 .193 (mean .188). Needs Python's standard library only.
"""

import argparse
import csv
import json
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--scratch-seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--onsa", type=Path, default=Path(__file__).parents[1] / "target/release/onsa")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where the run folders stay; by default they are removed")
    args = parser.parse_args()
    assets = Path(os.environ.get("ONSA_ASSETS", Path.home() / ".cache/onsa/assets"))
    with tempfile.TemporaryDirectory() as scratch:
        project = args.keep or Path(scratch)
        print(f"{'start':<12}{'seed':>5}{'epochs':>8}{'best':>6}{'mAP50':>8}{'mAP50-95':>10}{'img/s':>8}")
        for start, seeds in (("pretrained", args.seeds), ("scratch", args.scratch_seeds)):
            with ThreadPoolExecutor(args.jobs) as pool:
                figures = list(pool.map(lambda seed: run(args, assets, project, start, seed), seeds))
            if len(figures) > 1:
                means = [sum(column) / len(figures) for column in zip(*figures)]
                print(f"{start:<12}{'mean':>5}{'':>14}{means[0]:>8.3f}{means[1]:>10.3f}", flush=True)


def run(args, assets, project, start, seed):
    command = [
        args.onsa, "train", f"model={assets / 'yolov12n.onnx'}", f"data={assets / 'trees/data.yaml'}",
        f"device={args.device}", f"epochs={args.epochs}", "imgsz=416", "batch=8", f"seed={seed}", f"pretrained={str(start == 'pretrained').lower()}",
        f"project={project}", f"name={start}-{seed}", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    with open(Path(document["run_dir"]) / "results.csv") as file:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(file)]
    column = "metrics/mAP50-95(B)"
    best = max((row for row in rows if row[column]), key=lambda row: float(row[column]))
    map50, map50_95 = float(best["metrics/mAP50(B)"]), float(best[column])
    rate = document["images_per_second"]
    print(f"{start:<12}{seed:>5}{len(rows):>8}{best['epoch']:>6}{map50:>8.3f}{map50_95:>10.3f}{rate:>8.1f}", flush=True)
    return map50, map50_95


if __name__ == "__main__":
    main()
