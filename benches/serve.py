"""Load on `onsa serve` over loopback: 1, 2 and 10 times its capacity, open loop.

    python3 benches/serve.py --onsa target/release/onsa --model MODEL --images a.jpg b.jpg [--imgsz 640] [--seconds 120]

Before and after the load: damaged and huge bodies, and clients that send one byte a second, which must get 4xx or be let go.

Requests start at fixed times whether or not earlier ones are answered. Each answer is held against the one that the same
picture got alone, so one that belongs to another request shows. Needs nothing but Python.
"""

import argparse
import http.client
import json
import queue
import subprocess
import threading
import time


class Server:
    def __init__(self, args):
        line = [args.onsa, "serve", f"model={args.model}", "port=0", f"imgsz={args.imgsz}", f"queue={args.queue}", "--json"]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        text = ""
        while not text.rstrip().endswith("}"):
            text += self.process.stdout.readline()
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--onsa", default="target/release/onsa")
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", nargs="+", required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--calibrate", type=float, default=10)
    args = parser.parse_args()
    pictures = [open(path, "rb").read() for path in args.images]
    server = Server(args)
    expected = [server.ask("alone", p)[1] for p in pictures]
    print(json.dumps({"bad_clients": bad_clients(server, pictures[0])}), flush=True)
    capacity(server, pictures, 2, 4)
    most = capacity(server, pictures, args.calibrate, 8)
    print(json.dumps({"capacity_per_second": round(most, 2)}), flush=True)
    for times in (1, 2, 10):
        result = load(server, pictures, expected, times * most, args.seconds, 64)
        print(json.dumps({"times": times, **{k: round(v, 1) if isinstance(v, float) else v for k, v in result.items()}}), flush=True)
    print(json.dumps({"bad_clients": bad_clients(server, pictures[0])}), flush=True)
    print(json.dumps({"exit_code_after_SIGTERM": server.stop()}))


if __name__ == "__main__":
    main()
