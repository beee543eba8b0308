#!/usr/bin/env python3
"""How long a training run takes from its start to its first step: begun, and finished.

    python3 benches/first_step.py --model yolov12n.onnx --data trees/data.yaml [--onsa target/release/onsa] [--device cpu]
                                  [--imgsz 416] [--batch 8] [--rounds 5] [--cold]

The bar shows 0 images as the first step begins and the first batch as it has ended. With --cold every round starts with an
empty cache folder (ONSA_CACHE: compiled kernels), without it the first round fills it and is told apart.
"""

import argparse
import os
import statistics
import tempfile

from terminal import FIRST_STEP, watched

SHOWN = {"begun": r"epoch 1/\d+ .{24} 0/\d+", "finished": FIRST_STEP}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--onsa", default="target/release/onsa")
    p.add_argument("--device", default="cpu")
    p.add_argument("--imgsz", type=int, default=416)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--cold", action="store_true")
    args = p.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as work:
        for i in range(args.rounds):
            cache = f"{work}/cache-{i if args.cold else 0}"
            command = [args.onsa, "train", f"model={args.model}", f"data={args.data}", "epochs=2", f"imgsz={args.imgsz}",
                       f"batch={args.batch}", f"device={args.device}", "plots=False", f"project={work}/runs", f"name={i}"]
            start, seen, _ = watched(command, SHOWN, {**os.environ, "ONSA_CACHE": cache}, stop="finished")
            seen = {name: at - start for name, at in seen.items()}
            found.append(seen)
            print(f"round {i + 1}: first step begun after {seen['begun']:.2f} s, finished after {seen['finished']:.2f} s", flush=True)
    rest = found if args.cold or len(found) == 1 else found[1:]
    for name in SHOWN:
        print(f"median, {name}: {statistics.median(s[name] for s in rest):.2f} s")


if __name__ == "__main__":
    main()
