"""Load on `onsa serve` over loopback: 1, 2 and 10 times its capacity, open loop.

    cargo build --release && target/release/onsa demo --fetch-only
    python3 benches/serve.py [--onsa target/release/onsa] [--model MODEL] [--images a.jpg b.jpg] [--imgsz 640] [--seconds 120]

Without arguments: YOLO12n at 640 px on the tree tiles and the two photographs, two minutes a load, on the processor. It takes seven
minutes on a machine that does nothing else, with a build by the release profile as it stands in Cargo.toml. Progress goes to stderr; stdout
is one table as benches/RESULTS.md has it.

Before and after the load: damaged and huge bodies, and clients that send one byte a second, which must get 4xx or be let go.

Requests start at fixed times whether or not earlier ones are answered. Each answer is held against the one that the same
picture got alone, so one that belongs to another request shows. Needs nothing but Python.
"""

import argparse
import datetime
import http.client
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSETS = Path(os.environ.get("ONSA_ASSETS", Path.home() / ".cache/onsa/assets"))


def say(text):
    print(text, file=sys.stderr, flush=True)


class Server:
    def __init__(self, args):
        line = [str(args.onsa), "serve", f"model={args.model}", "port=0", f"imgsz={args.imgsz}", f"queue={args.queue}", f"device={args.device}"]
        line += ["--json"] + ([f"threads={args.threads}"] if args.threads else [])
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        text = ""
        while not text.rstrip().endswith("}"):
            more = self.process.stdout.readline()
            if not more:
                sys.exit(f"{' '.join(line)} ended at once: run it by hand")
            text += more
        self.address = json.loads(text)["address"]

    def ask(self, name, picture, connection=None):
        """(status, document, connection to use again)."""
        connection = connection or http.client.HTTPConnection(self.address, timeout=60)
        connection.request("POST", f"/v1/predict?image={name}&conf=0.01", body=picture, headers={"Host": "localhost"})
        response = connection.getresponse()
        document = json.loads(response.read())
        if response.will_close:
            connection.close()
            connection = None
        return response.status, document, connection

    def memory(self):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request("GET", "/metrics", headers={"Host": "localhost"})
        text = connection.getresponse().read().decode()
        connection.close()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("process_resident"))

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)


def same(a, b):
    """Whether two answers are one picture's: batches of another size round otherwise in the last digits."""
    if (a["width"], a["height"], len(a["boxes"])) != (b["width"], b["height"], len(b["boxes"])):
        return False
    return all(
        x["class"] == y["class"] and abs(x["score"] - y["score"]) < 1e-3 and max(abs(p - q) for p, q in zip(x["xyxy"], y["xyxy"])) < 0.5
        for x, y in zip(a["boxes"], b["boxes"])
    )


def capacity(server, pictures, seconds, clients):
    """Answers a second with `clients` that each ask again as soon as they are answered."""
    done, end = [0] * clients, time.perf_counter() + seconds

    def client(i):
        connection = None
        while time.perf_counter() < end:
            status, _, connection = server.ask("c", pictures[i % len(pictures)], connection)
            done[i] += status == 200

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    start = time.perf_counter()
    [t.start() for t in threads]
    [t.join() for t in threads]
    return sum(done) / (time.perf_counter() - start)


def load(server, pictures, expected, rate, seconds, workers):
    work, results, lock = queue.Queue(), [], threading.Lock()

    def worker():
        connection = None
        while (item := work.get()) is not None:
            i, due = item
            # A connection that stood idle may have been closed meanwhile: as any client, ask again on a new one, once.
            for kept in ([connection, None] if connection else [None]):
                try:
                    status, document, connection = server.ask(f"n{i}", pictures[i % len(pictures)], kept)
                    break
                except OSError as error:
                    status, document, connection = f"{type(error).__name__}", {}, None
            took = time.perf_counter() - due
            mixed = status == 200 and (document["image"] != f"n{i}" or not same(document, expected[i % len(expected)]))
            with lock:
                results.append((status, took, mixed))

    threads = [threading.Thread(target=worker) for _ in range(workers)]
    [t.start() for t in threads]
    memory, start, sent = [server.memory()], time.perf_counter(), 0
    while (now := time.perf_counter() - start) < seconds:
        while sent < now * rate:
            work.put((sent, start + sent / rate))
            sent += 1
        if len(memory) < 2 + now / 5:
            memory.append(server.memory())
        time.sleep(0.002)
    [work.put(None) for _ in threads]
    [t.join() for t in threads]
    memory.append(server.memory())
    took = sorted(t for status, t, _ in results if status == 200)
    counts = {}
    for status, _, _ in results:
        counts[status] = counts.get(status, 0) + 1
    at = lambda q: took[min(len(took) - 1, int(q * len(took)))] * 1e3 if took else float("nan")
    return {
        "sent": sent,
        "answered": len(results),
        "by_status": counts,
        "served_per_second": len(took) / seconds,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "mixed_up": sum(m for _, _, m in results),
        "memory_mb_first_last_max": [round(m / 1e6, 1) for m in (memory[0], memory[-1], max(memory))],
    }


def bad_clients(server, picture):
    """Statuses of what is no picture or too large, and of clients that are slower than a server may wait for."""
    import socket
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bodies = {"text": b"no picture", "empty": b"", "cut off": picture[: len(picture) // 2], "bomb": bomb, "too long": b"x" * 21_000_000}
    found = {}
    for name, body in bodies.items():
        try:
            found[name] = server.ask(name.replace(" ", "-"), body)[0]
        except OSError as error:
            found[name] = type(error).__name__
    host, port = server.address.rsplit(":", 1)
    for name, head in (("slow head", b"POST /v1/predict HTTP/1.1\r\nHos"), ("slow body", b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")):
        start, connection = time.perf_counter(), socket.create_connection((host, int(port)))
        connection.settimeout(1)
        connection.sendall(head)
        answer = None
        while answer is None and time.perf_counter() - start < 40:
            try:
                connection.sendall(b"x")
                answer = connection.recv(200)
            except TimeoutError:
                pass
            except OSError:
                answer = b""
        word = answer.split()[1].decode() if answer and b" " in answer else "closed" if answer is not None else "held"
        found[name] = f"{word} after {time.perf_counter() - start:.0f} s"
    return found


def row(times, rate, r):
    other = {k: v for k, v in r["by_status"].items() if k not in (200, 429)}
    lost = r["sent"] - r["answered"] + sum(other.values())
    note = f" ({', '.join(f'{v} {k}' for k, v in other.items())})" if other else ""
    first, last, most = r["memory_mb_first_last_max"]
    count = lambda status: f"{r['by_status'].get(status, 0):,}"
    cells = [f"{times}x ({rate:.1f} a second)", f"{r['sent']:,}", count(200), count(429), f"{lost}{note}", r["mixed_up"], f"{r['served_per_second']:.1f}"]
    cells += [f"{r['p50_ms']:.0f} ms", f"{r['p99_ms']:.0f} ms", f"{first:.0f} / {last:.0f} / {most:.0f} MB"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onsa", type=Path, default=ROOT / "target/release/onsa")
    parser.add_argument("--model", default=str(ASSETS / "yolov12n.onnx"))
    parser.add_argument("--images", nargs="+", type=Path)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="compute threads of the server; by default all")
    parser.add_argument("--seconds", type=float, default=120, help="of each load")
    parser.add_argument("--calibrate", type=float, default=20, help="seconds in which the capacity is measured")
    args = parser.parse_args()
    images = args.images or sorted((ASSETS / "trees/images/val").iterdir()) + sorted((ASSETS / "photos").iterdir())
    pictures = [path.read_bytes() for path in images]
    before = os.getloadavg()[0]
    if before > 1:
        say(f"the load average is {before:.1f}: other work runs on this machine, and the figures are not its own")
    server = Server(args)
    expected = [server.ask("alone", p)[1] for p in pictures]
    bad = [bad_clients(server, pictures[0])]
    say(f"bad clients: {json.dumps(bad[0])}")
    # The plans of all batch sizes are made before anything is measured.
    capacity(server, pictures, min(5, args.calibrate), 8)
    most = capacity(server, pictures, args.calibrate, 8)
    say(f"capacity: {most:.2f} a second")
    rows = []
    for times in (1, 2, 10):
        result = load(server, pictures, expected, times * most, args.seconds, 64)
        rows.append(row(times, times * most, result))
        say(rows[-1])
    bad.append(bad_clients(server, pictures[0]))
    code = server.stop()
    cores = len(os.sched_getaffinity(0))
    print(f"{datetime.date.today()}, {cores} cores (load average before: {before:.1f}), loopback, `benches/serve.py --seconds {args.seconds:g}`: {Path(args.model).stem} at {args.imgsz} px on {args.device}, {len(pictures)} pictures, queue {args.queue}.")
    print(f"Capacity, 8 clients that ask again as soon as they are answered: {most:.1f} requests a second. Each answer was held against the one that its picture got alone.")
    print("\n| load | sent | 200 | 429 | lost | mixed up | served a second | p50 | p99 | resident memory: start / end / most |\n|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    words = "the same before and after" if bad[0] == bad[1] else f"before {json.dumps(bad[0])}, after {json.dumps(bad[1])}"
    print(f"\nBad clients, {words}: {', '.join(f'{name} {answer}' for name, answer in bad[1].items())}. Exit code after SIGTERM: {code}.")


if __name__ == "__main__":
    main()
