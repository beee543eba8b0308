#!/usr/bin/env python3
"""The whole training loop on one NVIDIA GPU, beside the reference's where a Python with it is given.

    gpu_training.py --onsa target/release/onsa [--python PYTHON] [--models yolo11n,yolov8n] [--batches 16,64]
                    [--epochs 4] [--imgsz 640] [--images 1980] [--keep FOLDER] [--with NAME=VALUE ...]

Data: 1,980 drawn JPEGs of 640x480 (colour fields with noise, quality 88, 1-13 boxes of 20 classes), the default recipe with
mosaic. A steady rate is the median of the epochs after the first; validation and saving stand apart. Memory is the GPU's
in use as nvidia-smi shows it, polled every tenth of a second, less what was in use before. --with gives onsa further arguments,
cache=gpu for example. Needs numpy and Pillow.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
VALIDATION = 200


def draw(job):
    folder, split, i = job
    r = np.random.RandomState(i)
    pixels = np.zeros((480, 640, 3), np.float32) + r.randint(0, 255, 3)
    lines = []
    for _ in range(r.randint(1, 14)):
        w, h, c = r.randint(20, 260), r.randint(20, 220), r.randint(0, 20)
        x, y = r.randint(0, 640 - w), r.randint(0, 480 - h)
        pixels[y : y + h, x : x + w] = [(c * 53) % 256, (c * 97) % 256, (c * 31) % 256]
        lines.append(f"{c} {(x + w / 2) / 640:.6f} {(y + h / 2) / 480:.6f} {w / 640:.6f} {h / 480:.6f}\n")
    pixels = np.clip(pixels + r.randn(480, 640, 1) * 12, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(f"{folder}/images/{split}/{i:05d}.jpg", quality=88)
    with open(f"{folder}/labels/{split}/{i:05d}.txt", "w") as file:
        file.writelines(lines)


def make_set(folder, images):
    if os.path.exists(f"{folder}/data.yaml"):
        return
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            os.makedirs(f"{folder}/{kind}/{split}", exist_ok=True)
    jobs = [(folder, "train" if i < images else "val", i) for i in range(images + VALIDATION)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(draw, jobs, chunksize=32))
    names = "".join(f"  {c}: class{c}\n" for c in range(20))
    with open(f"{folder}/data.yaml", "w") as file:
        file.write(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}")


def used():
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout)


class Memory(threading.Thread):
    """The largest use of the GPU's memory while this runs, MiB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.before, self.most, self.ended = used(), 0, False

    def run(self):
        while not self.ended:
            self.most = max(self.most, used() - self.before)
            time.sleep(0.1)


def measured(command, env):
    memory = Memory()
    memory.start()
    begun = time.time()
    out = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wall = time.time() - begun
    memory.ended = True
    memory.join()
    if out.returncode:
        raise SystemExit(f"{' '.join(command)}\n{out.stdout[-2000:]}\n{out.stderr[-2000:]}")
    return out, wall, memory.most


def onsa(args, env, data, model, batch, runs):
    command = [args.onsa, "train", f"model={model}.yaml", f"data={data}", f"epochs={args.epochs}", f"batch={batch}",
               f"imgsz={args.imgsz}", "device=cuda", "workers=16", "plots=False", f"project={runs}", f"name={model}-{batch}", *args.further]
    out, wall, memory = measured(command, env)
    lines = re.findall(r"epoch \d+/\d+ .*?([\d.]+) img/s  data wait (\d+) %", out.stderr)
    return [float(r) for r, _ in lines][1:], max(int(w) for _, w in lines[1:]), wall, memory


def reference(args, env, data, model, batch):
    script = os.path.join(HERE, "reference", "train.py")
    command = [args.python, script, f"{model}.yaml", data, "16", str(args.epochs), str(args.imgsz), str(batch), "0"]
    out, wall, memory = measured(command, env)
    events = [json.loads(text) for text in re.findall(r'\{"at".*?\}', out.stdout)]
    return [e["images_per_second"] for e in events if e["event"] == "epoch"][1:], None, wall, memory


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--onsa", required=True)
    p.add_argument("--python")
    p.add_argument("--models", default="yolo11n,yolov8n")
    p.add_argument("--batches", default="16,64")
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--imgsz", type=int, default=640)
    p.add_argument("--images", type=int, default=1980)
    p.add_argument("--keep")
    p.add_argument("--with", dest="further", nargs="*", default=[])
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or scratch
        make_set(f"{folder}/set", args.images)
        env = {**os.environ, "BENCH_RUNS": f"{folder}/runs"}
        print(f"{'program':<10}{'model':<10}{'batch':>6}{'img/s':>9}{'data wait':>11}{'wall s':>8}{'GPU MiB':>9}", flush=True)
        for model in args.models.split(","):
            for batch in map(int, args.batches.split(",")):
                rates = {}
                for program in ["onsa"] + (["reference"] if args.python else []):
                    run = onsa(args, env, f"{folder}/set/data.yaml", model, batch, f"{folder}/runs") if program == "onsa" else \
                        reference(args, env, f"{folder}/set/data.yaml", model, batch)
                    steady, wait, wall, memory = run
                    rates[program] = statistics.median(steady)
                    shown = "" if wait is None else f"{wait} %"
                    print(f"{program:<10}{model:<10}{batch:>6}{rates[program]:>9.0f}{shown:>11}{wall:>8.1f}{memory:>9}", flush=True)
                if len(rates) == 2:
                    print(f"{'ratio':<10}{model:<10}{batch:>6}{rates['onsa'] / rates['reference']:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
