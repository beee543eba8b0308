"""Trains with the reference, as a program, and prints one JSON line an event: the first finished step, each epoch.

Usage: train.py MODEL.yaml DATA.yaml THREADS EPOCHS IMGSZ BATCH [DEVICE]; DEVICE is cpu, or a GPU's number.
"""
import json
import os
import sys
import time

os.environ["YOLO_OFFLINE"] = "true"
model, data, threads, epochs, imgsz, batch = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
device = sys.argv[7] if len(sys.argv) > 7 else "cpu"

import torch  # noqa: E402
from ultralytics import YOLO  # noqa: E402
from ultralytics.engine import trainer as engine  # noqa: E402

# On a GPU it would download a model to check mixed precision with.
engine.check_amp = lambda _model: True


def event(**values):
    print(json.dumps({"at": time.time(), **values}), flush=True)


seen = {"images": 0, "first": True}


def on_start(_trainer):
    # The reference takes one thread fewer than there are cores when it chooses a CPU; the comparison is at a stated number.
    torch.set_num_threads(threads)


def on_batch_end(_trainer):
    if seen["first"]:
        seen["first"] = False
        event(event="first_step")


def on_epoch_start(trainer):
    torch.set_num_threads(threads)
    seen["begun"] = time.perf_counter()
    seen["images"] = len(trainer.train_loader.dataset)


def on_epoch_end(_trainer):
    event(event="epoch", images_per_second=seen["images"] / (time.perf_counter() - seen["begun"]), threads=torch.get_num_threads())


net = YOLO(model)
net.add_callback("on_train_start", on_start)
net.add_callback("on_train_batch_end", on_batch_end)
net.add_callback("on_train_epoch_start", on_epoch_start)
net.add_callback("on_train_epoch_end", on_epoch_end)
net.train(
    data=data, epochs=epochs, imgsz=imgsz, batch=batch, device=device, pretrained=False, val=False, save=False, plots=False,
    verbose=False, project=os.environ["BENCH_RUNS"], name="reference", exist_ok=True,
)
