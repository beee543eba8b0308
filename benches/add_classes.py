#!/usr/bin/env python3
"""Adding a class to YOLO12n (COCO's 80 kept, Tree added): what the old classes lose, beside plain fine-tuning.

    cargo build --release && target/release/onsa demo --fetch-only
    python3 benches/add_classes.py [--epochs 20] [--imgsz 416] [--seeds 0] [--photos FOLDER] [--replay FOLDER] [--onsa FILE] [--keep FOLDER]

For each seed, on the tree tiles at batch 8 with the default recipe:

- tree alone: plain fine-tuning, the head replaced by one for the new class (it can find nothing else);
- plain: both, without anything that teaches the old classes (add_classes=plain), at the learning rate of "tree alone" (.002);
- kept: add_classes=true;
- kept, replay: the same with the photographs of --replay mixed in, without labels, where that is given.

mAP50 of trees is that of the best epoch on the 9 validation tiles. Old classes: agreement with the starting model on the
photographs (--photos; by default the two that the assets carry), that is mAP50 with its own detections of confidence .25 and more
taken for the truth; 1 is nothing lost. Needs Python's standard library only.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    assets = Path(os.environ.get("ONSA_ASSETS", Path.home() / ".cache/onsa/assets"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--imgsz", type=int, default=416)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--photos", type=Path, default=assets / "photos")
    parser.add_argument("--replay", type=Path, help="a folder of photographs to be mixed in, best others than --photos")
    parser.add_argument("--more", nargs="*", default=[], help="further arguments of add_classes=true, such as distill=2")
    parser.add_argument("--only", nargs="*", help="which of the rows to run, such as kept")
    parser.add_argument("--onsa", type=Path, default=Path(__file__).parents[1] / "target/release/onsa")
    parser.add_argument("--keep", type=Path, help="where the run folders stay; by default they are removed")
    args = parser.parse_args()
    photos = f"old_data={args.photos}"
    rows = {
        "tree alone": [],
        "plain": ["add_classes=plain", photos, "lr0=0.002"],
        "kept": ["add_classes=true", photos, *args.more],
    }
    if args.replay:
        rows["kept, replay"] = ["add_classes=true", photos, f"replay={args.replay}", *args.more]
    with tempfile.TemporaryDirectory() as scratch:
        project = args.keep or Path(scratch)
        print(f"{'run':<14}{'seed':>5}{'tree mAP50':>12}{'mAP50-95':>10}{'agreement':>11}{'objects':>9}{'img/s':>7}")
        for seed in args.seeds:
            for name, more in rows.items():
                if not args.only or name in args.only:
                    run(args, assets, project, name, seed, more)


def run(args, assets, project, name, seed, more):
    command = [
        args.onsa, "train", f"model={assets / 'yolov12n.onnx'}", f"data={assets / 'trees/data.yaml'}",
        f"epochs={args.epochs}", f"imgsz={args.imgsz}", "batch=8", f"seed={seed}", "device=cpu",
        f"project={project}", f"name={name.replace(', ', '-').replace(' ', '-')}-{seed}", "--json", *more,
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    trees = next(c for c in document["metrics"]["per_class"] if c["name"] == "Tree")
    kept = document.get("added_classes")
    agreement = f"{kept['after']:.3f}" if kept and kept["after"] is not None else "-"
    objects = sum(c["boxes"] for c in kept["old"]) if kept else "-"
    rate = document["images_per_second"]
    print(
        f"{name:<14}{seed:>5}{trees['ap50']:>12.3f}{trees['ap']:>10.3f}{agreement:>11}{objects:>9}{rate:>7.1f}", flush=True
    )
    for c in kept["old"] if kept else []:
        print(f"    {c['name']:<20}{c['boxes']:>4} objects  {c['after']:.3f}", flush=True)


if __name__ == "__main__":
    main()
