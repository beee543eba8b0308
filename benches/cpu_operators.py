"""The convolutions of ANCHORS.md beside PyTorch's, on the same cores: GFLOP/s forward and backward.

    cargo build --release -p onsa-compute --example operators
    cpu_operators.py --operators target/release/examples/operators [--python PYTHON] [--threads 2] [--batch 8]
                     [--storage bfloat16] [--through COMMAND]

Backward is both gradients, but the weight's alone where the input is an image (three channels). Each program's figure is its median of
`--rounds`; the programs run in turn, `--pairs` times, and the best pair of each counts, so that what else the machine does matters less.
"""
import argparse
import json
import shlex
import subprocess
import sys

SHAPES = [
    "3,16,416,3,2,1", "16,32,208,3,2,1", "32,32,104,1,1,1", "32,32,52,3,1,1", "64,64,52,3,1,1", "128,128,26,3,1,1", "128,256,26,3,2,1",
    "256,256,13,1,1,1", "128,128,52,3,1,128",
]
THEIRS = r"""
import json, statistics, sys, time, torch
threads, batch, rounds, *shapes = sys.argv[1:]
torch.set_num_threads(int(threads))
batch, rounds = int(batch), int(rounds)
for shape in shapes:
    i, o, w, k, s, g = map(int, shape.split(","))
    best = [0.0, 0.0]
    for layout in (torch.contiguous_format, torch.channels_last):
        conv = torch.nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False).to(memory_format=layout)
        x = torch.randn(batch, i, w, w).to(memory_format=layout).requires_grad_(i != 3)
        forward, backward = [], []
        for r in range(rounds + 2):
            t = time.perf_counter()
            y = conv(x)
            forward.append(time.perf_counter() - t)
            dy = torch.ones_like(y)
            t = time.perf_counter()
            y.backward(dy)
            backward.append(time.perf_counter() - t)
            x.grad = conv.weight.grad = None
        work = 2 * y.numel() * k * k * i // g / 1e9
        found = work / statistics.median(forward[2:]), (1 if i == 3 else 2) * work / statistics.median(backward[2:])
        # The faster of the two layouts counts for PyTorch.
        best = [max(a, b) for a, b in zip(best, found)]
    print(json.dumps({"shape": shape, "forward_gflops": best[0], "backward_gflops": best[1]}), flush=True)
"""

p = argparse.ArgumentParser()
p.add_argument("--operators", required=True)
p.add_argument("--python", default=sys.executable)
p.add_argument("--threads", default="2")
p.add_argument("--batch", default="8")
p.add_argument("--rounds", default="7")
p.add_argument("--pairs", type=int, default=3)
p.add_argument("--storage", default="float32", choices=["float32", "bfloat16"], help="of ours; PyTorch's is float32")
p.add_argument("--through", default="")
args = p.parse_args()
through = shlex.split(args.through)


def rates(command):
    out = subprocess.run([*through, *command], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {r["shape"]: (r["forward_gflops"], r["backward_gflops"]) for r in rows}


ours, theirs = {}, {}
for _ in range(args.pairs):
    for best, command in (
        (theirs, [args.python, "-c", THEIRS, args.threads, args.batch, args.rounds, *SHAPES]),
        (ours, [args.operators, args.threads, args.batch, args.rounds, args.storage, *SHAPES]),
    ):
        for shape, found in rates(command).items():
            best[shape] = tuple(map(max, found, best.get(shape, (0.0, 0.0))))
print("| in,out,size,kernel,stride,groups | onsa forward | PyTorch | ratio | onsa backward | PyTorch | ratio |")
print("|---|---|---|---|---|---|---|")
for shape in SHAPES:
    (f, b), (tf, tb) = ours[shape], theirs[shape]
    print(f"| {shape} | {f:.0f} | {tf:.0f} | {f / tf:.2f} | {b:.0f} | {tb:.0f} | {b / tb:.2f} |")
