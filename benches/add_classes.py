#!/usr/bin/env python3
"""Adding a class to YOLO12n (COCO's 80 kept, Tree added): what the old classes lose, beside plain fine-tuning.

    cargo build --release && target/release/onsa demo --fetch-only
    python3 benches/add_classes.py [--epochs 60] [--imgsz 416] [--seeds 0 1 2] [--photos FOLDER] [--shared N ...] [--only NAME ...]
        [--variant NAME key=value ...]... [--replay FOLDER] [--device cpu] [--jobs 1] [--limit MINUTES] [--results FILE.jsonl]

For each seed, on the tree tiles at batch 8 with the default recipe:

- alone: plain fine-tuning, the head replaced by one for the new class (it can find nothing else);
- plain: both in one head, without anything that teaches the old classes (add_classes=plain), at the learning rate of "alone" (.002), on the
  processor;
- kept: add_classes=true, a branch for the new class; for each N of --shared also one that shares the first N layers;
- each --variant: the arguments given, such as add_classes=distil; with replay=photos, the photographs of --replay.

mAP50 of trees is that of the best epoch on the 9 validation tiles. Old classes: agreement with the starting model on the
photographs (--photos; by default the two that the assets carry), that is mAP50 with its own detections of confidence .25 and more
taken for the truth; what that itself has ("before") is nothing lost. Needs Python's standard library only.
"""

import argparse
from pathlib import Path

from runs import Runs, arguments, assets, interval, table, train


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    parser.set_defaults(device="cpu")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--imgsz", type=int, default=416)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--photos", type=Path, default=assets() / "photos")
    parser.add_argument("--replay", type=Path, help="a folder of photographs to be mixed in, best others than --photos")
    parser.add_argument("--shared", type=int, nargs="*", default=[], help="numbers of layers that the branch shares")
    parser.add_argument("--variant", nargs="+", action="append", default=[], metavar=("NAME", "KEY=VALUE"))
    parser.add_argument("--only", nargs="*", help="which of the rows to run, such as kept; variants always are")
    args = parser.parse_args()
    photos = f"old_data={args.photos}"
    rows = {"alone": [], "plain": ["add_classes=plain", photos, "lr0=0.002", "device=cpu"], "kept": ["add_classes=true", photos]}
    rows |= {f"kept, {n} shared": ["add_classes=true", photos, f"freeze={n}"] for n in args.shared}
    rows = {name: words for name, words in rows.items() if args.only is None or name in args.only}
    for name, *more in args.variant:
        rows[name] = [photos, *(f"replay={args.replay}" if word == "replay=photos" else word for word in more)]
    keep = Runs(args)

    def key(name, seed):
        short = {f"replay={args.replay}": "replay=photos"}
        words = [short.get(word, word) for word in rows[name] if not word.startswith("old_data=")]
        own = {"row": name, "seed": seed, "words": words}
        return {"bench": "add_classes", **own, "epochs": args.epochs, "imgsz": args.imgsz, "device": args.device}

    def task(name, seed):
        words = [
            f"model={assets() / 'yolov12n.onnx'}", f"data={assets() / 'trees/data.yaml'}", f"imgsz={args.imgsz}", "batch=8",
            f"epochs={args.epochs}", "plots=false", f"seed={seed}", f"device={args.device}", *keep.threads(args.jobs),
        ]  # fmt: skip
        # A variant's own arguments hold.
        own = {word.split("=")[0] for word in rows[name]}
        words = [word for word in words if word.split("=")[0] not in own] + rows[name]
        return key(name, seed), lambda end: train(args.onsa, words, "metrics/mAP50-95(B)", end)

    keep.all([task(name, seed) for seed in args.seeds for name in rows])
    print(f"\n{args.epochs} epochs, {args.imgsz} px, batch 8, device={args.device}, {args.jobs} runs at a time, seeds {args.seeds}")
    lines, lost = [], []
    for name in rows:
        done = [run for seed in args.seeds if (run := keep.get(key(name, seed)))]
        if done:
            lines.append([name, len(done), *line(done)])
            lost += [f"{name}: {what}" for what in losses(done)]
    table(["run", "seeds", "Tree mAP50", "each", "Tree mAP50-95", "old classes before", "after", "each", "objects", "img/s"], lines)
    print("\n".join(lost))


def line(done):
    trees = [next(c for c in run["document"]["metrics"]["per_class"] if c["name"] == "Tree") for run in done]
    ap50 = [tree["ap50"] for tree in trees]
    kept = [run["document"]["added_classes"] for run in done if "added_classes" in run["document"]]
    after = [k["after"] for k in kept if k["after"] is not None]
    before = f"{kept[0]['before']:.3f}" if after else "-"
    each = lambda values: " ".join(f"{value:.3f}" for value in values)
    objects = sum(c["count"] for c in kept[0]["old"]) if kept else "-"
    old = [interval(after), each(after), objects] if after else ["-", "-", "-"]
    rate = sum(run["images_per_second"] for run in done) / len(done)
    return [interval(ap50), each(ap50), interval([tree["ap"] for tree in trees]), before, *old, f"{rate:.1f}"]


def losses(done):
    """Old classes that are below what the starting model has, in some seed."""
    for run in done:
        classes = run["document"].get("added_classes", {}).get("old", [])
        lost = [c for c in classes if c["after"] < c["before"] - 0.005]
        worst = [f"{c['name']} {c['before']:.2f} -> {c['after']:.2f} ({c['count']})" for c in lost]
        if worst:
            yield ", ".join(worst)


if __name__ == "__main__":
    main()
