#!/usr/bin/env python3
"""Every strategy of fine-tuning on three small sets, several seeds each: accuracy with intervals, time and memory.

    cargo build --release && target/release/onsa demo --fetch-only && python3 benches/classify_data.py /tmp/sets
    python3 benches/strategies.py --sets-folder /tmp/sets [--sets trees stamps fashion] [--seeds 0 1 2] [--tree-seeds 0 1 2 3 4 5]
        [--strategies default full ...] [--epochs N] [--device auto] [--jobs 1] [--limit MINUTES] [--results FILE.jsonl]
        [--extra key=value ...]

- trees: aerial tiles, YOLO12n with COCO weights, 416 px, batch 8, 60 epochs; mAP50-95 (mAP50 beside it);
- stamps: 162 training and 157 validation photographs of nine categories, EfficientNet-Lite0 with ImageNet weights, 160 px,
  batch 16, 60 epochs; top-1;
- fashion: 2,000 training and 2,000 test images of Fashion-MNIST, the same weights, 224 px, batch 32, 20 epochs; top-1.

`scratch` is the default recipe from random values, `backbone` is freeze=backbone. The tables give mean and 95 % t interval over
seeds of the last epoch's figure on the validation images and of the best epoch's. Time and memory are of a short run by
itself (--alone-epochs, seed 0, nothing beside it): the mean second of its epochs after the first, images a second, the
peak memory of the process and, with an NVIDIA GPU, what the GPU's use rose by (nvidia-smi). Needs Python's standard library only.
"""

import argparse
from pathlib import Path

from runs import Runs, arguments, assets, interval, table, train

ALL = ["default", "full", "backbone", "freeze", "gradual", "auto", "head", "lora", "scratch"]
FIGURE = {"detect": "metrics/mAP50-95(B)", "classify": "metrics/accuracy_top1"}


def sets(folder):
    photographs = {"task": "classify", "model": assets() / "efficientnet-lite0-57934424.pth"}
    classify = ["default", "head", "freeze", "full", "gradual", "auto", "lora", "scratch"]
    return {
        "trees": {
            "task": "detect", "model": assets() / "yolov12n.onnx", "data": assets() / "trees/data.yaml", "imgsz": 416, "batch": 8,
            "epochs": 60, "strategies": ["default", "full", "backbone", "gradual", "auto", "lora", "head"],
        },
        "stamps": {**photographs, "data": folder / "stamps", "imgsz": 160, "batch": 16, "epochs": 60, "strategies": classify},
        "fashion": {**photographs, "data": folder / "fashion-2000", "imgsz": 224, "batch": 32, "epochs": 20, "strategies": classify},
    }  # fmt: skip


def words(job, strategy, seed, epochs, args, jobs):
    how = {"scratch": "pretrained=false", "backbone": "freeze=backbone"}.get(strategy, f"strategy={strategy}")
    return [
        f"task={job['task']}", f"model={job['model']}", f"data={job['data']}", f"epochs={epochs}", f"imgsz={job['imgsz']}",
        f"batch={job['batch']}", f"seed={seed}", f"device={args.device}", "plots=false", how, *args.keep.threads(jobs), *args.extra,
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    parser.add_argument("--sets-folder", type=Path, default=Path("/tmp/sets"), help="what classify_data.py wrote")
    parser.add_argument("--sets", nargs="+", default=["trees", "stamps", "fashion"], choices=["trees", "stamps", "fashion"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tree-seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    parser.add_argument("--strategies", nargs="+", choices=ALL, help="by default those of each set")
    parser.add_argument("--epochs", type=int, help="by default those of each set")
    parser.add_argument("--alone-epochs", type=int, default=4, help="of the short runs for time and memory; 0: none")
    parser.add_argument("--extra", nargs="*", default=[], help="further train arguments, key=value")
    args = parser.parse_args()
    args.keep = Runs(args)
    for name in args.sets:
        measure(args, name, sets(args.sets_folder)[name])


def measure(args, name, job):
    strategies = [s for s in args.strategies or job["strategies"] if args.strategies or s in job["strategies"]]
    seeds = args.tree_seeds if name == "trees" else args.seeds
    epochs = args.epochs or job["epochs"]

    def key(strategy, seed, epochs, alone):
        own = {"set": name, "strategy": strategy, "seed": seed, "epochs": epochs, "alone": alone, "extra": args.extra}
        return {"bench": "strategies", **own, "device": args.device}

    def task(strategy, seed, epochs, alone):
        def work(end):
            given = words(job, strategy, seed, epochs, args, 1 if alone else args.jobs)
            return train(args.onsa, given, FIGURE[job["task"]], end, alone)

        return key(strategy, seed, epochs, alone), work

    short = args.alone_epochs
    # Seeds outside: what an interruption leaves has every strategy.
    args.keep.all([task(strategy, seed, epochs, False) for seed in seeds for strategy in strategies])
    args.keep.all([task(strategy, 0, short, True) for strategy in strategies if short], jobs=1)
    rows = []
    for strategy in strategies:
        done = [run for seed in seeds if (run := args.keep.get(key(strategy, seed, epochs, False)))]
        alone = args.keep.get(key(strategy, 0, short, True))
        rows.append([strategy, *figures(job, done), *cost(alone)])
    size = f"{job['imgsz']} px, batch {job['batch']}, {epochs} epochs, device={args.device}, {args.jobs} runs at a time"
    print(f"\n{name}: {job['model'].name}, {size}; time and memory of runs of {short} epochs alone")
    what = "mAP50-95" if job["task"] == "detect" else "top-1"
    beside = "mAP50, best epoch" if job["task"] == "detect" else "balanced accuracy, best epoch"
    head = ["strategy", "seeds", f"{what}, last epoch", f"{what}, best epoch", beside, "each seed's last", "s a run"]
    table([*head, "s an epoch", "images/s", "RSS MiB", "GPU MiB", "auto chose"], rows)


def figures(job, done):
    if not done:
        return [0, "-", "-", "-", "-", "-"]
    metrics = [run["document"].get("metrics", {}) for run in done]
    beside = [m["map50" if job["task"] == "detect" else "balanced_accuracy"] for m in metrics]
    last = [run["last"] for run in done]
    best = interval([run["best"] for run in done])
    each = " ".join(f"{value:.3f}" for value in last)
    return [len(done), interval(last), best, interval(beside), each, f"{sum(r['seconds'] for r in done) / len(done):.1f}"]


def cost(alone):
    if not alone:
        return ["-"] * 5
    epochs = alone["epoch_seconds"][1:] or alone["epoch_seconds"]
    mean = sum(epochs) / len(epochs)
    gpu = "-" if alone["gpu"] is None else alone["gpu"]
    return [f"{mean:.3f}", f"{alone['images_per_second']:.0f}", alone["rss"], gpu, alone["chosen"] or "-"]


if __name__ == "__main__":
    main()
