#!/usr/bin/env python3
"""What a search of a few minutes is worth: its command against the default recipe, on images that the search did not see.

    cargo build --release && target/release/onsa demo --fetch-only
    python3 benches/tune.py [--minutes 10] [--model FILE] [--data DATA] [--task detect] [--imgsz 416] [--batch 8]
        [--device auto] [--seeds 0 1 2] [--folds 5] [--extra key=value ...] [--search key=value ...] [--keep FOLDER]

`onsa tune` measures on folds of the training images, so the validation images stay unseen. Then its command and the default
recipe with as many epochs are trained on all training images, several seeds each, and measured on the validation images:
the last epoch's mAP50-95, or top-1 (--task classify). Differences are paired by seed. Needs Python's standard library only.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

from strategies import FIGURE, ROOT, interval


def main():
    assets = Path(os.environ.get("ONSA_ASSETS", Path.home() / ".cache/onsa/assets"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onsa", type=Path, default=ROOT / "target/release/onsa")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", default=str(assets / "yolov12n.onnx"))
    parser.add_argument("--data", default=str(assets / "trees/data.yaml"))
    parser.add_argument("--task", default="detect", choices=["detect", "classify"])
    parser.add_argument("--imgsz", type=int, default=416)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--extra", nargs="*", default=[], help="further train arguments, key=value")
    parser.add_argument("--search", nargs="*", default=[], help="further arguments of the search alone, key=value")
    parser.add_argument("--keep", type=Path, help="where the folders stay; by default they are removed")
    args = parser.parse_args()
    common = [
        f"task={args.task}", f"model={args.model}", f"data={args.data}", f"imgsz={args.imgsz}", f"batch={args.batch}",
        f"device={args.device}", *args.extra,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        project = args.keep or Path(scratch)
        search = [str(args.onsa), "tune", *common, *args.search, f"minutes={args.minutes}", f"folds={args.folds}", f"project={project}"]
        begun = time.time()
        found = json.loads(subprocess.run([*search, "name=tune", "--json"], stdout=subprocess.PIPE, check=True).stdout)
        print(f"searched for {(time.time() - begun) / 60:.2f} of {args.minutes} minutes: {found['best']} ({found['verdict']})")
        if found["comparison"]:
            c = found["comparison"]
            print(f"on folds: {c['difference']['mean']:+.3f} {c['difference']['interval']}, {len(c['pairs'])} pairs, {c['method']}")
        print(found["command"])
        tuned = shlex.split(found["command"])[2:]
        epochs = next(word for word in tuned if word.startswith("epochs="))
        figures = {"default": [], "tuned": []}
        for seed in args.seeds:
            for name, words in (("default", [*(w for w in common if not w.startswith("epochs=")), epochs]), ("tuned", tuned)):
                own = [word for word in words if not word.startswith("seed=")]
                figures[name].append(run(args, project, own, name, seed))
        print(f"on the validation images, {epochs}, seeds {args.seeds}, {FIGURE[args.task]} of the last epoch:")
        for name, values in figures.items():
            print(f"{name:<8} {interval(values)}   {[round(v, 3) for v in values]}")
        print(f"tuned less default {interval([t - d for t, d in zip(figures['tuned'], figures['default'])])}")


def run(args, project, words, name, seed):
    command = [str(args.onsa), "train", *words, f"seed={seed}", "plots=false", f"project={project}", f"name={name}-{seed}", "--json"]
    document = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    with open(Path(document["run_dir"]) / "results.csv") as file:
        return [float(row[FIGURE[args.task]]) for row in csv.DictReader(file) if row[FIGURE[args.task]]][-1]


if __name__ == "__main__":
    main()
