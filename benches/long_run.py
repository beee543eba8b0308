#!/usr/bin/env python3
"""Trains over 2,000 steps and watches the process: resident memory, file handles, threads.

    python3 benches/long_run.py [--steps 2000] [--onsa target/release/onsa]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import drawn

ROOT = Path(__file__).resolve().parent.parent


def status(pid):
    """Resident bytes, threads, open handles."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    handles = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(fields["VmRSS"].split()[0]) * 1024, int(fields["Threads"]), handles


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--onsa", default=str(ROOT / "target/release/onsa"))
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="onsa-long-"))
    data = drawn.lay(work / "data", 40, 8)
    shutil.copy(ROOT / "fixtures/pt/v8_4_190_mid.pt", work / "model.pt")
    epochs = -(-args.steps // 10)
    line = [str(Path(args.onsa).resolve()), "train", "model=model.pt", f"data={data}", "imgsz=64", "batch=4", f"epochs={epochs}", "save_every=50",
            "patience=0", "plots=false", "project=runs", "verbose=false"]
    process = subprocess.Popen(line, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    csv, seen = work / "runs/train/results.csv", {}
    while process.poll() is None:
        try:
            done = len(csv.read_text().splitlines()) - 1 if csv.exists() else 0
            if done > 0:
                seen.setdefault(done * 10, status(process.pid))
        except (OSError, KeyError, ValueError):
            pass
        time.sleep(0.02)
    if process.returncode:
        sys.exit(process.stderr.read())
    print("step      resident MB   threads   handles")
    steps = sorted(seen)
    for step in [s for s in steps if s in (steps[0], steps[-1]) or s % (epochs * 10 // 10) == 0]:
        rss, threads, handles = seen[step]
        print(f"{step:<9} {rss / 1e6:<13.1f} {threads:<9} {handles}")
    half = [seen[s] for s in steps if s >= steps[-1] // 2]
    growth = max(r for r, _, _ in half) / half[0][0] - 1
    print(f"from step {steps[-1] // 2} on resident memory grew by {100 * growth:.1f} %; most threads {max(t for _, t, _ in seen.values())},"
          f" most handles {max(h for _, _, h in seen.values())}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
