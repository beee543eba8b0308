#!/usr/bin/env python3
"""The studio under load: 100,000 images in a set, 50 runs of 1,000 epochs, 20 browsers that watch a run.

    cargo build --release && target/release/onsa demo --fetch-only
    python3 benches/studio.py [--onsa target/release/onsa] [--images 100000] [--watch-epochs 20]

Rows are written into the studio's own database while it is stopped; requests then go over HTTP on this machine, each 30
times, and the median and the slowest are printed in ms. Bars: a page of the image browser within 200 ms, the comparison
within 500 ms, a watched training at most 1 % slower. Needs Python's standard library only.
"""

import argparse
import http.client
import json
import os
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


def watch(studio, stop, seen):
    connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=600)
    connection.request("GET", "/api/events", None, studio.headers)
    answer = connection.getresponse()
    while not stop.is_set():
        line = answer.readline()
        if not line:
            break
        if line.startswith(b"data:"):
            seen.append(1)


def train(studio, dataset, model, epochs, watchers):
    stop, seen = threading.Event(), []
    threads = [threading.Thread(target=watch, args=(studio, stop, seen), daemon=True) for _ in range(watchers)]
    for thread in threads:
        thread.start()
    arguments = [["epochs", str(epochs)], ["imgsz", "160"], ["batch", "8"], ["workers", "1"], ["plots", "false"]]
    job = studio.json("POST", "/api/jobs", {"name": "watched", "dataset": dataset, "model": {"model": model}, "strategy": "gentle", "arguments": arguments})["id"]
    while (state := studio.json("GET", f"/api/jobs/{job}")["state"]) in ("queued", "running"):
        time.sleep(0.5)
    assert state == "done", state
    stop.set()
    speeds = next(c for c in studio.json("GET", f"/api/jobs/{job}/curves")["curves"] if c["name"] == "speed")["values"]
    return speeds[1:], len(seen)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onsa", default=Path(__file__).parents[1] / "target/release/onsa")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--watch-epochs", type=int, default=0, help="epochs of each watched training; 0 leaves it out")
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
        if args.watch_epochs:
            data = studio.json("POST", "/api/datasets", {"name": "trees", "from": {"sample": True}})["id"]
            while not studio.json("GET", f"/api/datasets/{data}/versions")["versions"]:
                time.sleep(0.2)
            model = next(m["id"] for m in studio.json("GET", "/api/models")["models"] if m["about"].get("family"))
            alone, watched = [], []
            for turn in range(4):
                watchers = 20 * (turn % 2)
                speeds, told = train(studio, data, model, args.watch_epochs, watchers)
                (watched if watchers else alone).extend(speeds)
                print(f"{watchers} watching: {statistics.median(speeds):.2f} images a second, {told} events", flush=True)
            ratio = statistics.median(watched) / statistics.median(alone)
            print(f"watched by 20 / by none: {ratio:.4f}")
        studio.stop()


if __name__ == "__main__":
    main()
