#!/usr/bin/env python3
"""What a search of a few minutes is worth: its command against the default recipe, on images that the search did not see.

    cargo build --release && target/release/onsa demo --fetch-only
    python3 benches/tune.py [--minutes 10] [--model FILE] [--data DATA] [--task detect] [--imgsz 416] [--batch 8] [--device auto]
        [--seeds 0 1 2 3 4 5] [--folds 5] [--extra key=value ...] [--search key=value ...] [--keep FOLDER] [--jobs 1]
        [--limit MINUTES] [--results FILE.jsonl]

`onsa tune` measures on folds of the training images, so the validation images stay unseen. It says itself by how much its
recipe is ahead of the default on folds that did not choose it. Then its command and the default recipe with as many
epochs are trained on all training images, several seeds each, and measured on the validation images: the last epoch's
mAP50-95, or top-1 (--task classify). Differences are paired by seed.

With --keep and --results the bench goes on where a limit ended it: the search itself is interrupted and resumed, with
the same answer. Needs Python's standard library only.
"""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from runs import Runs, arguments, assets, interval, table, train
from strategies import FIGURE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", default=str(assets() / "yolov12n.onnx"))
    parser.add_argument("--data", default=str(assets() / "trees/data.yaml"))
    parser.add_argument("--task", default="detect", choices=["detect", "classify"])
    parser.add_argument("--imgsz", type=int, default=416)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--extra", nargs="*", default=[], help="further train arguments, key=value")
    parser.add_argument("--search", nargs="*", default=[], help="further arguments of the search alone, key=value")
    parser.add_argument("--keep", type=Path, help="where the search's folder stays; by default it is removed")
    args = parser.parse_args()
    common = [
        f"task={args.task}", f"model={args.model}", f"data={args.data}", f"imgsz={args.imgsz}", f"batch={args.batch}",
        f"device={args.device}", *args.extra,
    ]  # fmt: skip
    keep = Runs(args)
    with tempfile.TemporaryDirectory() as scratch:
        found = search(args, args.keep or Path(scratch), common, keep.end)
    print(f"searched for at most {args.minutes} minutes: {found['best']} ({found['verdict']})")
    if found["comparison"]:
        c = found["comparison"]
        print(f"on folds: {c['difference']['mean']:+.3f} {c['difference']['interval']}, {len(c['pairs'])} pairs, {c['method']}")
    print(found["command"])
    compare(args, keep, common, shlex.split(found["command"])[2:])


def search(args, project, common, end):
    """The search's document, from an earlier call where it is finished, resumed where it is not."""
    document = project / "found.json"
    if document.is_file():
        return json.loads(document.read_text())
    folder = project / "tune"
    if (folder / "journal.jsonl").is_file():
        command = [str(args.onsa), "resume", str(folder), "--json"]
    else:
        own = [*args.search, f"minutes={args.minutes}", f"folds={args.folds}", f"project={project}", "name=tune"]
        command = [str(args.onsa), "tune", *common, *own, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(max(1, end - time.time()), process.send_signal, [signal.SIGINT])
    timer.start()
    answer, _ = process.communicate()
    timer.cancel()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    found = json.loads(answer)
    if found["stopped"]:
        sys.exit("the limit ended the search; the same command goes on with it")
    document.write_text(answer)
    return found


def compare(args, keep, common, tuned):
    own = [word for word in tuned if not word.startswith("seed=")]
    epochs = next(word for word in own if word.startswith("epochs="))
    recipes = {"default": [*(w for w in common if not w.startswith("epochs=")), epochs], "tuned": own}

    def key(name, seed):
        return {"bench": "tune", "recipe": name, "seed": seed, "words": recipes[name]}

    def task(name, seed):
        words = [*recipes[name], f"seed={seed}", "plots=false", *keep.threads(args.jobs)]
        return key(name, seed), lambda end: train(args.onsa, words, FIGURE[args.task], end)

    keep.all([task(name, seed) for seed in args.seeds for name in recipes])
    both = [s for s in args.seeds if all(keep.get(key(name, s)) for name in recipes)]
    print(f"on the validation images, {epochs}, seeds {both}, {FIGURE[args.task]} of the last epoch:")
    figures = {name: [keep.get(key(name, seed))["last"] for seed in both] for name in recipes}
    if both:
        rows = [[name, interval(values), " ".join(f"{v:.3f}" for v in values)] for name, values in figures.items()]
        paired = [t - d for t, d in zip(figures["tuned"], figures["default"])]
        table(["recipe", "mean", "each seed"], [*rows, ["tuned less default", interval(paired), ""]])


if __name__ == "__main__":
    main()
