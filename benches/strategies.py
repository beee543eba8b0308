#!/usr/bin/env python3
"""Every strategy of fine-tuning on a detection set and on a classification set, several seeds each.

    cargo build --release && target/release/onsa demo --fetch-only && python3 benches/classify_data.py /tmp/sets
    python3 benches/strategies.py --classify /tmp/sets/stamps [--classify-model FILE] [--detect DATA] [--detect-model FILE]
        [--device auto] [--seeds 0 1 2] [--strategies default head freeze full gradual auto scratch] [--epochs 60]
        [--detect-imgsz 416] [--classify-imgsz 224] [--batch 16] [--only detect|classify] [--csv FILE] [--extra key=value ...]

The detection set is by default the tree tiles with YOLO12n, the classification model EfficientNet-Lite0, both from `onsa demo
--fetch-only`. `scratch` is the default recipe from random values. Of each strategy: mean and 95 % t interval over seeds of
the last epoch's figure on the validation images (mAP50-95; top-1) and of the best epoch's, the mean time of a run, and the
peak memory of the process and, with an NVIDIA GPU, of the GPU (nvidia-smi, less what was in use before). A strategy that a
device does not have says so and is left out. Needs Python's standard library only.
"""

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALL = ["default", "head", "freeze", "full", "gradual", "auto", "scratch"]
# 97.5 % quantiles of Student's distribution for 1 to 9 degrees of freedom.
T975 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]
FIGURE = {"detect": "metrics/mAP50-95(B)", "classify": "metrics/accuracy_top1"}


def main():
    assets = Path(os.environ.get("ONSA_ASSETS", Path.home() / ".cache/onsa/assets"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onsa", type=Path, default=ROOT / "target/release/onsa")
    parser.add_argument("--detect", default=str(assets / "trees/data.yaml"))
    parser.add_argument("--detect-model", default=str(assets / "yolov12n.onnx"))
    parser.add_argument("--classify")
    parser.add_argument("--classify-model", default=str(assets / "efficientnet-lite0-57934424.pth"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strategies", nargs="+", default=ALL, choices=ALL)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--detect-imgsz", type=int, default=416)
    parser.add_argument("--classify-imgsz", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", choices=["detect", "classify"])
    parser.add_argument("--csv", type=Path, help="every run's figures")
    parser.add_argument("--extra", nargs="*", default=[], help="further train arguments, key=value")
    args = parser.parse_args()
    sets = [("detect", args.detect, args.detect_model, args.detect_imgsz)]
    if args.classify:
        sets.append(("classify", args.classify, args.classify_model, args.classify_imgsz))
    elif args.only == "classify":
        parser.error("--only classify needs --classify FOLDER")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for task, data, model, imgsz in sets:
            if args.only in (None, task):
                rows += compare(args, Path(scratch), task, data, model, imgsz)
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def compare(args, scratch, task, data, model, imgsz):
    print(f"\n{task}: {data}, {Path(model).name}, {args.epochs} epochs, {imgsz} px, batch {args.batch}, device={args.device}")
    print(f"{'strategy':<9} {'last epoch':<26} {'best epoch':<26} {'s a run':>8} {'RSS MiB':>8} {'GPU MiB':>8}  chosen")
    rows = []
    for strategy in args.strategies:
        runs = []
        for seed in args.seeds:
            run = train(args, scratch, (task, data, model, imgsz), strategy, seed)
            if isinstance(run, str):
                print(f"{strategy:<9} {run}", flush=True)
                break
            runs.append(run)
        else:
            mean = lambda key: sum(run[key] for run in runs) / len(runs)
            gpu = max(run["gpu"] for run in runs)
            print(
                f"{strategy:<9} {interval([run['last'] for run in runs]):<26} {interval([run['best'] for run in runs]):<26} "
                f"{mean('seconds'):>8.1f} {max(run['rss'] for run in runs):>8.0f} {gpu if gpu else '':>8}  "
                f"{', '.join(sorted({run['chosen'] for run in runs}))}",
                flush=True,
            )
            rows += runs
    return rows


def interval(values):
    """The mean and its 95 % t interval."""
    mean, n = sum(values) / len(values), len(values)
    if n < 2 or n - 2 >= len(T975):
        return f"{mean:.3f}"
    half = T975[n - 2] * math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def train(args, scratch, job, strategy, seed):
    """One run's figures; a text where the device does not have the strategy."""
    task, data, model, imgsz = job
    command = [
        str(args.onsa), "train", f"task={task}", f"model={model}", f"data={data}", f"epochs={args.epochs}", f"imgsz={imgsz}",
        f"batch={args.batch}", f"seed={seed}", f"device={args.device}", "plots=false", f"project={scratch}",
        f"name={task}-{strategy}-{seed}", *args.extra, "--json",
    ]  # fmt: skip
    command.append("pretrained=false" if strategy == "scratch" else f"strategy={strategy}")
    watch = GpuMemory()
    begun = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    noise = []
    reader = threading.Thread(target=lambda: noise.extend(process.stderr), daemon=True)
    reader.start()
    answer = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    seconds = time.time() - begun
    gpu = watch.end()
    text = "".join(noise)
    if process.returncode != 0:
        if "on the processor only" in text:
            return "not on this device"
        sys.exit(f"{' '.join(command)}\n{text}")
    document = json.loads(answer)
    with open(Path(document["run_dir"]) / "results.csv") as file:
        column = [float(row[FIGURE[task]]) for row in csv.DictReader(file) if row[FIGURE[task]]]
    chosen = next((line.split(":")[1].split(",")[0].strip() for line in text.splitlines() if line.startswith("strategy=auto")), "")
    shutil.rmtree(document["run_dir"])
    return {
        "task": task, "strategy": strategy, "seed": seed, "last": column[-1], "best": max(column), "seconds": round(seconds, 2),
        "rss": usage.ru_maxrss / 1024, "gpu": gpu, "chosen": chosen,
    }  # fmt: skip


class GpuMemory(threading.Thread):
    """The largest use of the GPU's memory until `end`, MiB; 0 without one."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ended, self.most = False, 0
        self.before = self.used()
        if self.before is not None:
            self.start()

    def used(self):
        if not shutil.which("nvidia-smi"):
            return None
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
        answer = subprocess.run(query, stdout=subprocess.PIPE, text=True)
        return int(answer.stdout) if answer.returncode == 0 else None

    def run(self):
        while not self.ended:
            self.most = max(self.most, (self.used() or 0) - self.before)
            time.sleep(0.2)

    def end(self):
        if self.before is None:
            return 0
        self.ended = True
        self.join()
        return self.most


if __name__ == "__main__":
    main()
