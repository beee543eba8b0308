#!/usr/bin/env python3
"""Kills a training run at random points with SIGKILL, again and again, and continues it each time.

Printed: how many of the kills were followed by a restart from a complete, checksummed checkpoint that was not older than the
last one seen before the kill, and whether the weights at the end are those of a run that was never killed.

    python3 benches/kill_resume.py [--kills 200] [--onsa target/release/onsa]
"""

import argparse
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import drawn

ROOT = Path(__file__).resolve().parent.parent


def position(run_dir):
    """(epoch, batch) of the checkpoint; (0, 0) where there is none."""
    path = run_dir / "checkpoint/state.safetensors"
    if not path.exists():
        return 0, 0
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    state = json.loads(json.loads(data[8:8 + length])["__metadata__"]["onsa.state"])
    return state["epoch"], state["batch"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--onsa", default=str(ROOT / "target/release/onsa"))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    work = Path(tempfile.mkdtemp(prefix="onsa-kill-"))
    onsa = str(Path(args.onsa).resolve())

    def run(*line):
        return subprocess.run([onsa, *line], cwd=work, capture_output=True, text=True)

    data = drawn.lay(work / "data", 12, 3)
    shutil.copy(ROOT / "fixtures/pt/v8_4_190_mid.pt", work / "model.pt")
    # Saved after every step: a good part of the time is spent in saves.
    epochs = 100_000
    train = ["train", "model=model.pt", f"data={data}", "imgsz=64", "batch=4", "nbs=8", "plots=false", "project=runs", "save_every=1", "val=false",
             "lrf=1", "close_mosaic=0", "warmup_epochs=0", "optimizer=AdamW", "lr0=0.001", f"epochs={epochs}", "name=killed"]
    run_dir = work / "runs/killed"
    good, lost, late = 0, [], 0
    for kill in range(args.kills):
        first = not (run_dir / "args.yaml").exists()
        if first:
            shutil.rmtree(run_dir, ignore_errors=True)
        line = train if first else ["resume", "runs/killed", f"threads={1 + kill % 2}"]
        process = subprocess.Popen([onsa, *line], cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        before = position(run_dir)
        # Until this process has saved something of its own; then a random moment later.
        waited = time.monotonic()
        while position(run_dir) == before and process.poll() is None and time.monotonic() - waited < 60:
            time.sleep(0.005)
        if process.poll() is not None:
            lost.append((kill, process.stderr.read()))
            continue
        time.sleep(rng.uniform(0, 0.2))
        before = position(run_dir)
        process.kill()
        process.wait()
        after = position(run_dir)
        if after >= before:
            good += 1
        else:
            late += 1
    print(f"{good} of {args.kills} kills: the next start went on from a complete checkpoint, none older than the last completed save"
          f" ({late} older, {len(lost)} refused)")
    for kill, text in lost[:3]:
        print(f"  kill {kill}: {text}")
    # The same number of epochs without a kill.
    done = position(run_dir)[0] + 1
    ended = run("resume", "runs/killed", f"epochs={done}")
    whole = run(*[f"epochs={done}" if a.startswith("epochs=") else "name=whole" if a.startswith("name=") else a for a in train])
    same = [(work / f"runs/{n}/weights/last.safetensors").read_bytes() for n in ("killed", "whole")]
    print(f"after {done} epochs the weights are {'the same bytes' if same[0] == same[1] else 'DIFFERENT'} as without a kill"
          f" (exit codes {ended.returncode}, {whole.returncode})")
    shutil.rmtree(work)
    return 0 if good == args.kills and same[0] == same[1] else 1


if __name__ == "__main__":
    sys.exit(main())
