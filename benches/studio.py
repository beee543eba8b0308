#!/usr/bin/env python3
"""The studio under load: 100,000 images in a set, 50 runs of 1,000 epochs, 20 pages that watch a run.

    cargo build --release && target/release/onsa demo --fetch-only
    python3 benches/studio.py [--onsa target/release/onsa] [--images 100000] [--pairs 20]

Rows are written into the studio's own database while it is stopped; requests then go over HTTP on this machine, each 30
times, and the median and the slowest are printed in ms. Bars: a page of the image browser within 200 ms, the comparison
within 500 ms, a watched training at most 1 % slower.

A watched training is measured twice: its images a second in epochs that are watched beside neighbouring ones that are not
(the median of the pairs' ratios, with its interval), and by processor time, which other work on the machine does not blur: what the
training itself takes for an epoch, and what the studio's own process takes, as a share of what the machine has. Needs Linux and Python's standard library only.
"""

import argparse
import http.client
import json
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlparse


class Studio:
    def __init__(self, onsa, dir, roots):
        command = [onsa, "studio", "port=0", f"dir={dir}", f"roots={roots}", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        text = ""
        while True:
            text += self.process.stdout.readline()
            try:
                link = urlparse(json.loads(text)["address"])
                break
            except json.JSONDecodeError:
                assert self.process.poll() is None, "the studio ended at its start"
        self.port = link.port
        self.headers = {"Authorization": "Bearer " + parse_qs(link.query)["token"][0], "Content-Type": "application/json"}

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request(method, path, None if body is None else json.dumps(body), self.headers)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, (method, path, answer.status, data[:300])
        connection.close()
        return data

    def json(self, method, path, body=None):
        return json.loads(self.ask(method, path, body))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def timed(studio, name, path, times=30):
    taken, size = [], 0
    for _ in range(times):
        began = time.perf_counter()
        size = len(studio.ask("GET", path))
        taken.append(1000 * (time.perf_counter() - began))
    print(f"{name:<44}{statistics.median(taken):8.1f}{max(taken):8.1f}   {size / 1000:8.1f} kB", flush=True)


def fill(database, images, runs, epochs, classes=20):
    connection = sqlite3.connect(database)
    names = json.dumps([f"class {i}" for i in range(classes)])
    insert = "INSERT INTO datasets (name, state, origin, root, classes, audit, created) VALUES ('big', 'ready', 'folder', '/x', ?, '{}', 0)"
    dataset = connection.execute(insert, (names,)).lastrowid
    boxes = [json.dumps([[(i + j) % classes, 0.5, 0.5, 0.1 + 0.01 * j, 0.2] for j in range(i % 14)]) for i in range(140)]
    rows, counts = [], []
    for i in range(images):
        some = boxes[i % 140]
        split = "train" if i < images * 0.8 else "val" if i < images * 0.9 else "test"
        rows.append((dataset, i, f"/x/{i}.jpg", f"{i}.jpg", split, 640, 480, some, i % 14, int(i % 1000 == 0)))
        counts.extend((dataset, c, i, split, 1) for c in {(i % 140 + j) % classes for j in range(i % 14)})
    sql = "INSERT INTO images (dataset, position, path, name, split, width, height, boxes, box_count, faults) VALUES (?,?,?,?,?,?,?,?,?,?)"
    connection.executemany(sql, rows)
    connection.executemany("INSERT INTO image_classes VALUES (?,?,?,?,?)", counts)
    for run in range(runs):
        sql = """INSERT INTO jobs (name, state, model, model_name, strategy, arguments, epochs, created)
                 VALUES (?, 'done', 'm', 'yolo11n', 'gentle', '[["lr0","0.001"]]', ?, 0)"""
        job = connection.execute(sql, (f"run {run}", epochs)).lastrowid
        figures = ["metric/mAP50", "metric/mAP50-95", "metric/precision", "metric/recall", "loss/box", "loss/cls", "loss/dfl", "speed", "data_wait"]
        values = ((job, name, e, 1 - 1 / (1 + 0.01 * e + 0.001 * run)) for name in figures for e in range(1, epochs + 1))
        connection.executemany("INSERT INTO figures VALUES (?,?,?,?)", values)
    connection.commit()
    ids = [row[0] for row in connection.execute("SELECT id FROM jobs ORDER BY id DESC LIMIT ?", (runs,))]
    connection.close()
    return dataset, ids


class Watchers:
    """So many open pages of a run: each follows the events, and loads the curves and the list of pictures anew after an epoch,
    as the page does."""

    def __init__(self, studio, job, many):
        self.studio, self.job, self.events, self.loads = studio, job, 0, 0
        self.streams = [self.stream() for _ in range(many)]
        self.threads = [threading.Thread(target=self.follow, args=stream, daemon=True) for stream in self.streams]
        for thread in self.threads:
            thread.start()

    def stream(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.studio.port, timeout=600)
        connection.connect()
        held = connection.sock
        connection.request("GET", "/api/events", None, self.studio.headers)
        return connection.getresponse(), held

    def follow(self, answer, _):
        try:
            while line := answer.readline():
                if line.startswith(b"data:"):
                    self.events += 1
                    if b'"type":"epoch"' in line:
                        self.studio.ask("GET", f"/api/jobs/{self.job}/curves")
                        self.studio.ask("GET", f"/api/jobs/{self.job}/drawings")
                        self.loads += 2
        except (OSError, ValueError):
            pass  # Closed from the other thread.

    def close(self):
        for _, held in self.streams:
            held.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()


def processor(pid):
    """Seconds of processor time that a process has taken so far, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def worker_of(pid):
    """The training process that the studio has started; other processes of it are short."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if b"ONSA_JOB=" in Path(f"/proc/{child}/environ").read_bytes():
                return int(child)
    return None


def epochs(progress, job_over):
    """The epochs of a run as its worker writes them, in the moment in which it does. Nothing is asked of the studio."""
    seen = 0
    while True:
        text = progress.read_text() if progress.exists() else ""
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line]
        done = [line for line in lines if line["type"] == "epoch"]
        yield from done[seen:]
        seen = len(done)
        if job_over():
            return
        time.sleep(0.02)


def over(worker, mark):
    """The training's processor time so far; once its process has ended, as it was last."""
    try:
        return processor(worker)
    except (OSError, IndexError):
        return mark[3] if mark else 0.0


def interval(values, times=4000):
    """The median and its 95 % bootstrap interval."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(times))
    return statistics.median(values), medians[int(0.025 * times)], medians[int(0.975 * times)]


def watched(studio, dir, dataset, model, pairs, watchers, imgsz):
    """Trains once; in every pair of neighbouring epochs one is watched and one is not, in turn the first or the second. Noise of the
    machine that lasts longer than two epochs is in both halves of a pair."""
    count = 2 * pairs + 2  # The first warms up; the last one's end is the run's.
    settings = {"epochs": count, "imgsz": imgsz, "batch": 8, "workers": 1, "plots": "false"}
    arguments = [[name, str(value)] for name, value in settings.items()]
    new = {"name": "watched", "dataset": dataset, "model": {"model": model}, "strategy": "gentle", "arguments": arguments}
    job = studio.json("POST", "/api/jobs", new)["id"]
    pid, cores = studio.process.pid, os.cpu_count()
    # A browser's own work is not what watching costs the training; what is started later inherits this.
    os.nice(19)
    folder = dir / "jobs" / str(job)
    kinds = [kind for pair in range(pairs) for kind in ((0, 1) if pair % 2 else (1, 0))]
    speeds, works, shares, clients, open_pages, told = [], [], ([], []), [], None, [0, 0]
    mark, worker = None, None
    for epoch in epochs(folder / "progress.jsonl", (folder / "outcome.json").exists):
        worker = worker or worker_of(pid)
        now = time.perf_counter(), processor(pid), time.process_time(), over(worker, mark)
        place = epoch["epoch"] - 2  # The epoch that has just ended, among those that count.
        if 0 <= place < len(kinds):
            wall, studios, own, work = (b - a for a, b in zip(mark, now))
            works.append(work)
            speeds.append(epoch["images_per_second"])
            shares[kinds[place]].append((studios, wall * cores))
            if kinds[place]:
                clients.append(own / (wall * cores))
        following = place + 1 < len(kinds) and kinds[place + 1]
        if following and not open_pages:
            open_pages = Watchers(studio, job, watchers)
        elif not following and open_pages:
            open_pages.close()
            told = [told[0] + open_pages.events, told[1] + open_pages.loads]
            open_pages = None
        mark = time.perf_counter(), processor(pid), time.process_time(), now[3]
    state = None
    while state not in ("done", "failed", "stopped"):
        state = studio.json("GET", f"/api/jobs/{job}")["state"]
        time.sleep(0.2)
    assert state == "done", state
    print(f"{pairs} pairs of epochs, {watchers} pages open in one of each; {told[0]} events and {told[1]} loads answered")
    for name, values in (("the training's processor time an epoch", works), ("images a second", speeds)):
        halves = (values[2 * pair : 2 * pair + 2] for pair in range(pairs))
        ratios = [second / first if pair % 2 else first / second for pair, (first, second) in enumerate(halves)]
        median, low, high = interval(ratios)
        print(f"{name}, watched / not: median {median:.4f}, 95 % interval {low:.4f} to {high:.4f}")
    print(f"   (the clients, at the lowest priority, took {statistics.median(clients):.2%} of the machine in watched epochs)")
    for name, kind in (("watched", 1), ("not watched", 0)):
        taken, had = (sum(column) for column in zip(*shares[kind]))
        print(f"the studio's process, {name}: {taken:.2f} s, {taken / had:.3%} of the machine's processor time", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onsa", default=Path(__file__).parents[1] / "target/release/onsa")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=0, help="pairs of epochs, one of each watched; 0 leaves it out")
    parser.add_argument("--watchers", type=int, default=20, help="pages that are open in a watched epoch")
    parser.add_argument("--imgsz", type=int, default=416, help="image size of the watched training")
    args = parser.parse_args()
    assets = Path(os.environ.get("ONSA_ASSETS", Path.home() / ".cache/onsa/assets"))
    with tempfile.TemporaryDirectory() as dir:
        studio = Studio(args.onsa, dir, assets)
        studio.stop()
        dataset, runs = fill(Path(dir) / "studio.sqlite", args.images, args.runs, args.epochs)
        studio = Studio(args.onsa, dir, assets)
        page = f"/api/datasets/{dataset}/images?limit=100"
        print(f"{'median and slowest of 30, ms':<44}{'median':>8}{'most':>8}")
        timed(studio, "first page of 100 images", page)
        timed(studio, "a page in the middle", f"{page}&offset={args.images // 2}")
        timed(studio, "the last page", f"{page}&offset={args.images - 100}")
        timed(studio, "of a class, the middle", f"{page}&class=3&offset={args.images // 8}")
        timed(studio, "of a class and a split, the middle", f"{page}&class=3&split=train&offset={args.images // 8}")
        timed(studio, "of a split, the middle", f"{page}&split=train&offset={args.images // 3}")
        timed(studio, "with faults", f"{page}&only=faulty")
        timed(studio, "the data set's own page", f"/api/datasets/{dataset}")
        timed(studio, "histograms (their own tab)", f"/api/datasets/{dataset}/histograms", 5)
        listed = ",".join(map(str, runs))
        timed(studio, f"{args.runs} runs of {args.epochs} epochs compared", f"/api/compare?runs={listed}&figure=metric%2FmAP50-95")
        timed(studio, "the list of runs", "/api/jobs")
        if args.pairs:
            data = studio.json("POST", "/api/datasets", {"name": "trees", "from": {"sample": True}})["id"]
            while not studio.json("GET", f"/api/datasets/{data}/versions")["versions"]:
                time.sleep(0.2)
            models = studio.json("GET", "/api/models")["models"]
            model = next(m["id"] for m in models if m["about"].get("family") and m["about"]["task"] == "detect")
            watched(studio, Path(dir), data, model, args.pairs, args.watchers, args.imgsz)
        studio.stop()


if __name__ == "__main__":
    main()
