"""Many runs of `onsa` for a bench: several at a time, within a time limit, each kept as soon as it is done.

A finished run is one line of JSON in a file, with the key that it is known by. A bench that is started again, after an
interruption or a time limit, takes what stands there and runs the rest. Needs Python's standard library only.
"""

import csv
import json
import math
import os
import shutil
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# 97.5 % quantiles of Student's distribution for 1 to 11 degrees of freedom.
T975 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201]


def assets():
    return Path(os.environ.get("ONSA_ASSETS", Path.home() / ".cache/onsa/assets"))


def arguments(parser):
    """What every bench of many runs takes."""
    parser.add_argument("--onsa", type=Path, default=Path(os.environ.get("ONSA", ROOT / "target/release/onsa")))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; times are then not those of a run alone")
    parser.add_argument("--threads", type=int, help="compute threads of a run; by default the machine's, shared among the runs")
    parser.add_argument("--limit", type=float, default=1e6, help="minutes after which everything ends; what is done is kept")
    parser.add_argument("--results", type=Path, help="JSON lines: finished runs are added, and those there are not repeated")
    parser.add_argument("--done", type=Path, nargs="*", default=[], help="further such files, to read only")
    parser.add_argument("--dry", action="store_true", help="print what stands in the files, run nothing")


class Failed(Exception):
    """A run that ended with an error; its text is the program's."""


class OutOfTime(Exception):
    """The limit came first."""


class Runs:
    """`figures(key)` for many keys: from the files, or by running what is missing."""

    def __init__(self, args):
        self.args = args
        self.end = time.time() + args.limit * 60
        self.lock = threading.Lock()
        self.known = {}
        for path in [*args.done, *([args.results] if args.results else [])]:
            if path.is_file():
                for line in path.read_text().splitlines():
                    row = json.loads(line)
                    self.known[self.name(row["key"])] = row["figures"]
        if args.results:
            args.results.parent.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def name(key):
        return json.dumps(key, sort_keys=True)

    def threads(self, jobs):
        """`threads=` of a run, where so many run at a time."""
        threads = self.args.threads or max(1, len(os.sched_getaffinity(0)) // jobs)
        return [f"threads={threads}", f"workers={min(8, threads)}"]

    def get(self, key):
        return self.known.get(self.name(key))

    def all(self, tasks, jobs=None):
        """Runs each (key, function of the end time) that is not known; prints what goes wrong and goes on."""
        missing = [] if self.args.dry else [task for task in tasks if self.get(task[0]) is None]
        with ThreadPoolExecutor(jobs or self.args.jobs) as pool:
            list(pool.map(self.one, missing))

    def one(self, task):
        key, work = task
        what = " ".join(str(value) for value in key.values() if value not in ([], None))
        if time.time() >= self.end:
            return
        try:
            figures = work(self.end)
        except OutOfTime:
            print(f"out of time: {what}", flush=True)
            return
        except Failed as error:
            print(f"FAILED {what}: {error}", flush=True)
            return
        with self.lock:
            self.known[self.name(key)] = figures
            if self.args.results:
                with open(self.args.results, "a") as file:
                    file.write(json.dumps({"key": key, "figures": figures}) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            short = {name: value for name, value in figures.items() if not isinstance(value, (list, dict))}
            print(f"done {what}: {short}", flush=True)


def train(onsa, words, figure, end, alone=False, scratch=None):
    """One `onsa train` with these words in a folder of its own: its figures, times and memory.

    `figure` is the column of results.csv; `alone`: nothing else uses the GPU, so its memory can be told."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = [str(onsa), "train", *words, f"project={folder}", "name=run", "--json"]
        watch = GpuMemory() if alone else None
        begun = time.time()
        errors = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        timer = threading.Timer(max(0.1, end - begun), process.kill)
        timer.start()
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        timer.cancel()
        seconds, gpu = time.time() - begun, watch.end() if watch else None
        errors.seek(0)
        text = errors.read()
        if process.returncode == -9 and time.time() >= end:
            raise OutOfTime
        if process.returncode != 0:
            raise Failed(" ".join(text.split("\n")[-6:]).strip() or f"ended with {process.returncode}")
        document = json.loads(answer)
        with open(Path(folder) / "run/results.csv") as file:
            rows = [{name.strip(): value for name, value in row.items()} for row in csv.DictReader(file)]
        column = [float(row[figure]) for row in rows if row[figure]]
        times = [float(row["time"]) for row in rows]
        chosen = [line.split(":")[1].split(",")[0].strip() for line in text.splitlines() if line.startswith("strategy=auto")]
        return {
            "last": column[-1], "best": max(column), "seconds": round(seconds, 2), "rss": round(usage.ru_maxrss / 1024),
            "gpu": gpu, "images_per_second": document["images_per_second"], "chosen": "".join(chosen[:1]),
            "epoch_seconds": [round(b - a, 4) for a, b in zip([0.0, *times], times)], "document": slim(document),
        }  # fmt: skip


def slim(document):
    """What a run says, without curves and paths."""
    kept = {name: document[name] for name in ("metrics", "added_classes") if document.get(name)}
    for name in ("confusion", "per_class"):
        if name in kept.get("metrics", {}) and len(json.dumps(kept["metrics"][name])) > 4000:
            del kept["metrics"][name]
    return kept


def interval(values):
    """The mean and its 95 % t interval."""
    mean, n = sum(values) / len(values), len(values)
    if n < 2 or n - 2 >= len(T975):
        return f"{mean:.3f}"
    half = T975[n - 2] * math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def table(head, rows):
    """A Markdown table."""
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


class GpuMemory(threading.Thread):
    """The largest use of the GPU's memory until `end`, MiB, less what was in use before; None without a GPU."""

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
            time.sleep(0.1)

    def end(self):
        if self.before is None:
            return None
        self.ended = True
        self.join()
        return self.most
