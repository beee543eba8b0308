"""The whole training loop beside the reference's, on the same tiles, paired: both programs are started in turn.

    cpu_training.py --onsa target/release/onsa --python PYTHON --data trees/data.yaml [--models yolo12n,yolo11n,yolov8n]
                    [--threads 2,1] [--rounds 3] [--epochs 3] [--imgsz 416] [--batch 8] [--through "nice -n 0"]

PYTHON has the pinned reference (fixtures/requirements.txt). A steady figure is one epoch's images a second, each run's first epoch left
out; what is printed is the median of all rounds' figures. Peak memory is the program's own largest resident set (the reference's
loader processes are not counted). The first step's time counts from the start of the process. `--through` is a command that starts each
program (a wrapper that keeps the machine quiet, say).
"""
import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

from terminal import FIRST_STEP, watched

HERE = os.path.dirname(os.path.abspath(__file__))

p = argparse.ArgumentParser()
p.add_argument("--onsa", required=True)
p.add_argument("--python", default=sys.executable)
p.add_argument("--data", required=True)
p.add_argument("--models", default="yolo12n,yolo11n,yolov8n")
p.add_argument("--threads", default="2,1")
p.add_argument("--rounds", type=int, default=3)
p.add_argument("--epochs", type=int, default=3)
p.add_argument("--imgsz", type=int, default=416)
p.add_argument("--batch", type=int, default=8)
p.add_argument("--through", default="")
p.add_argument("--json", help="also writes the figures to this file")
args = p.parse_args()
through = shlex.split(args.through)
runs = tempfile.mkdtemp(prefix="onsa-bench-")
env = {**os.environ, "BENCH_RUNS": runs, "TERM": "xterm", "YOLO_OFFLINE": "true"}


def peak_of(command):
    """The command behind a small program that prints its child's largest resident set (kB) and start time to fd 3's file."""
    path = os.path.join(runs, f"peak-{time.monotonic_ns()}")
    wrap = (
        "import json,os,resource,subprocess,sys,time;at=time.time();code=subprocess.call(sys.argv[2:]);"
        "json.dump([at,resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,code],open(sys.argv[1],'w'))"
    )
    return path, [*through, args.python, "-c", wrap, path, *command]


def finish(path):
    at, peak, code = json.load(open(path))
    if code:
        raise SystemExit(f"the program failed with code {code}")
    return at, peak * 1024


def reference(model, threads):
    path, command = peak_of(
        [args.python, os.path.join(HERE, "reference", "train.py"), f"{model}.yaml", args.data, str(threads), str(args.epochs),
         str(args.imgsz), str(args.batch)]
    )
    out = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # The reference's progress bar may share a line with an event.
    events = [json.loads(text) for text in re.findall(r'\{"at".*?\}', out.stdout)]
    if out.returncode or not events:
        raise SystemExit(out.stdout[-2000:] + out.stderr[-2000:])
    start, peak = finish(path)
    assert all(e["threads"] == threads for e in events if e["event"] == "epoch")
    return {
        "first_step": next(e["at"] for e in events if e["event"] == "first_step") - start,
        "rates": [e["images_per_second"] for e in events if e["event"] == "epoch"][1:],
        "peak": peak,
    }


def onsa(model, threads):
    """On a terminal of its own, where the progress bar shows the first finished step."""
    name = f"onsa-{time.monotonic_ns()}"
    path, command = peak_of(
        [args.onsa, "train", "device=cpu", f"model={model}", f"data={args.data}", f"epochs={args.epochs}", f"imgsz={args.imgsz}",
         f"batch={args.batch}", f"threads={threads}", "pretrained=False", "val=False", "plots=False", f"project={runs}", f"name={name}"]
    )
    _, seen, text = watched(command, {"first": FIRST_STEP}, env)
    start, peak = finish(path)
    rates = {int(e): float(r) for e, r in re.findall(r"epoch (\d+)/\d+  box[^\n\r]*?([\d.]+) img/s  data wait", text) if "plan" not in e}
    final = {int(e): float(r) for e, r in re.findall(r"epoch (\d+)/\d+  box[^\n\r]*?([\d.]+) img/s  data wait \d+ %(?!  left)", text)}
    rates = [final.get(e, rates.get(e)) for e in sorted(rates)]
    return {"first_step": seen["first"] - start, "rates": rates[1:], "peak": peak}


def gemm_rate(threads):
    code = (
        "import sys,time,torch;torch.set_num_threads(int(sys.argv[1]));a=torch.randn(2048,2048);b=torch.randn(2048,2048);a@b;best=1e9\n"
        "for _ in range(8):\n t=time.perf_counter();a@b;best=min(best,time.perf_counter()-t)\nprint(2*2048**3/best/1e9)"
    )
    out = subprocess.run([*through, args.python, "-c", code, str(threads)], stdout=subprocess.PIPE, text=True, check=True)
    return float(out.stdout)


def work(model):
    """GFLOP of one training image: convolutions and attention, forward and both gradients."""
    command = [args.onsa, "bench", f"model={model}", f"imgsz={args.imgsz}", "batch=1", "mode=train", "rounds=1", "--json"]
    out = subprocess.run([*through, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    found = json.loads(out.stdout)
    return found["gflops"] / found["images_per_second"]


table = []
gemm = {t: gemm_rate(t) for t in map(int, args.threads.split(","))}
print("large GEMM, GFLOP/s: " + ", ".join(f"{t} threads {r:.0f}" for t, r in gemm.items()), flush=True)
for model in args.models.split(","):
    gflop = work(model)
    for threads in gemm:
        ours, theirs = [], []
        for _ in range(args.rounds):
            theirs.append(reference(model, threads))
            ours.append(onsa(model, threads))
        row = {"model": model, "threads": threads, "gflop_per_image": gflop, "gemm": gemm[threads]}
        for who, found in (("onsa", ours), ("reference", theirs)):
            rates = [r for f in found for r in f["rates"]]
            row[who] = {
                "images_per_second": statistics.median(rates), "figures": len(rates), "low": min(rates), "high": max(rates),
                "first_step": statistics.median(f["first_step"] for f in found),
                "peak": max(f["peak"] for f in found),
            }
        a, b = row["onsa"], row["reference"]
        rate = gflop * a["images_per_second"]
        print(
            f"{model} {threads} threads: onsa {a['images_per_second']:.1f} img/s ({a['low']:.1f}-{a['high']:.1f}, n={a['figures']}), "
            f"reference {b['images_per_second']:.2f} ({b['low']:.2f}-{b['high']:.2f}, n={b['figures']}): "
            f"{a['images_per_second'] / b['images_per_second']:.2f}x; {rate:.0f} GFLOP/s, {100 * rate / gemm[threads]:.0f} % of GEMM; "
            f"peak {a['peak'] / 2**20:.0f} / {b['peak'] / 2**20:.0f} MiB ({a['peak'] / b['peak']:.2f}); "
            f"first step {a['first_step']:.2f} / {b['first_step']:.2f} s ({a['first_step'] / b['first_step']:.3f})",
            flush=True,
        )
        table.append(row)
if args.json:
    with open(args.json, "w") as f:
        json.dump(table, f, indent=1)
