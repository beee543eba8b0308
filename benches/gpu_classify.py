#!/usr/bin/env python3
"""A classifier's whole training loop on one NVIDIA GPU, beside a plain PyTorch loop in the same call.

    gpu_classify.py --onsa target/release/onsa [--models resnet50,efficientnet_lite0,mobilenet_v3_large] [--batches 64]
                    [--epochs 4] [--imgsz 224] [--images 6400] [--classes 20] [--options "auto_augment=False"] [--no-torch]
                    [--keep FOLDER]

Data: drawn JPEGs of 320x256 (colour fields and noise), a folder a class. onsa trains from scratch with the default recipe
(random resized crop, flip, RandAugment, erasing), all in the run; its steady rate is the median of the epochs after the
first, validation and saving apart. PyTorch trains the same architectures (written out below; ResNet-50 and
EfficientNet-Lite0) channels_last with autocast to bfloat16, SGD, cuDNN's search on, on images that lie on the GPU already, so
without any loading: its rate is that of the network alone (and, with --loader, with a DataLoader of 16 workers that decodes,
crops and flips with Pillow). Needs numpy and Pillow; PyTorch unless --no-torch.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from PIL import Image

VALIDATION = 400


def draw(job):
    path, label, i = job
    r = np.random.RandomState(i)
    pixels = np.zeros((256, 320, 3), np.float32) + r.randint(0, 255, 3)
    for _ in range(6):
        w, h = r.randint(30, 200), r.randint(30, 160)
        x, y = r.randint(0, 320 - w), r.randint(0, 256 - h)
        pixels[y : y + h, x : x + w] = r.randint(0, 255, 3)
    pixels[64:192, 96:224] = [(label * 53) % 256, (label * 97) % 256, (label * 31) % 256]
    pixels = np.clip(pixels + r.randn(256, 320, 1) * 12, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=88)


def make_set(folder, images, classes):
    if os.path.exists(folder):
        return
    jobs = []
    for i in range(images + VALIDATION):
        label = i % classes
        to = f"{folder}/{'train' if i < images else 'val'}/class{label:03}"
        os.makedirs(to, exist_ok=True)
        jobs.append((f"{to}/{i:06}.jpg", label, i))
    with ProcessPoolExecutor() as pool:
        list(pool.map(draw, jobs, chunksize=64))


def onsa(args, folder, model, batch):
    command = [args.onsa, "train", "task=classify", f"model={model}.yaml", "pretrained=False", f"data={folder}/set",
               f"epochs={args.epochs}", f"batch={batch}", f"imgsz={args.imgsz}", "device=cuda", "workers=16", "plots=False",
               f"project={folder}/runs", f"name={model}-{batch}", "exist_ok=True", "--json"] + args.options.split()
    begun = time.time()
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if out.returncode:
        raise SystemExit(f"{' '.join(command)}\n{out.stdout[-2000:]}\n{out.stderr[-3000:]}")
    lines = re.findall(r"epoch \d+/\d+ .*?([\d.]+) img/s  data wait (\d+) %", out.stderr)
    rates = [float(r) for r, _ in lines]
    top1 = json.loads(out.stdout)["metrics"].get("top1")
    return statistics.median(rates[1:]), rates[0], max(int(w) for _, w in lines[1:]), time.time() - begun, top1


def network_alone(args, model, batch):
    """Forward and backward without data, loss and optimiser, as `onsa bench` times them."""
    command = [args.onsa, "bench", f"model={model}", "mode=train", f"batch={batch}", f"imgsz={args.imgsz}", "device=cuda", "--json"]
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if out.returncode:
        return None, out.stderr[-400:]
    document = json.loads(out.stdout)
    slow = sorted(document.get("operators", []), key=lambda o: -o.get("seconds", o.get("milliseconds", 0)))[:12]
    return document["images_per_second"], slow


def torch_models():
    import torch.nn as nn
    import torch.nn.functional as F

    def norm(cin, out, k, s, groups=1, eps=1e-5, act=None, same=False):
        layers = []
        pad = k // 2
        if same and s == 2:
            layers.append(nn.ZeroPad2d(((k - 2) // 2, (k - 1) // 2, (k - 2) // 2, (k - 1) // 2)))
            pad = 0
        layers += [nn.Conv2d(cin, out, k, s, pad, groups=groups, bias=False), nn.BatchNorm2d(out, eps)]
        return nn.Sequential(*layers, *([act(inplace=True)] if act else []))

    class Bottleneck(nn.Module):
        def __init__(self, cin, width, stride):
            super().__init__()
            out = 4 * width
            self.body = nn.Sequential(norm(cin, width, 1, 1, act=nn.ReLU), norm(width, width, 3, stride, act=nn.ReLU), norm(width, out, 1, 1))
            self.down = norm(cin, out, 1, stride) if stride > 1 or cin != out else nn.Identity()

        def forward(self, x):
            return F.relu(self.body(x) + self.down(x), inplace=True)

    def resnet50(classes):
        layers, cin = [norm(3, 64, 7, 2, act=nn.ReLU), nn.MaxPool2d(3, 2, 1)], 64
        for stage, repeats in enumerate([3, 4, 6, 3]):
            for j in range(repeats):
                layers.append(Bottleneck(cin, 64 << stage, 2 if stage and j == 0 else 1))
                cin = 4 * (64 << stage)
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, classes))

    class Inverted(nn.Module):
        def __init__(self, cin, out, k, s, expand):
            super().__init__()
            mid, layers = cin * expand, []
            if expand > 1:
                layers.append(norm(cin, mid, 1, 1, eps=1e-3, act=nn.ReLU6))
            layers += [norm(mid, mid, k, s, mid, 1e-3, nn.ReLU6, True), norm(mid, out, 1, 1, eps=1e-3)]
            self.body, self.residual = nn.Sequential(*layers), s == 1 and cin == out

        def forward(self, x):
            return x + self.body(x) if self.residual else self.body(x)

    def efficientnet_lite0(classes):
        layers, cin = [norm(3, 32, 3, 2, eps=1e-3, act=nn.ReLU6, same=True)], 32
        for repeats, k, s, expand, out in [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
                                           (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]:
            for j in range(repeats):
                layers.append(Inverted(cin, out, k, s if j == 0 else 1, expand))
                cin = out
        return nn.Sequential(*layers, norm(cin, 1280, 1, 1, eps=1e-3, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes))

    return {"resnet50": resnet50, "efficientnet_lite0": efficientnet_lite0}


class Folder:
    """Images of a folder a class: a random resized crop of at least half the area, a flip, bytes."""

    def __init__(self, root, side):
        self.files = [(os.path.join(d, f), i) for i, (d, _, fs) in enumerate(sorted(x for x in os.walk(root) if x[2])) for f in fs]
        self.side = side

    def __len__(self):
        return len(self.files)

    def __getitem__(self, at):
        path, label = self.files[at]
        image = Image.open(path).convert("RGB")
        share = np.sqrt(np.random.uniform(0.5, 1.0))
        w, h = int(image.width * share), int(image.height * share)
        x, y = np.random.randint(0, image.width - w + 1), np.random.randint(0, image.height - h + 1)
        image = image.resize((self.side, self.side), Image.BILINEAR, box=(x, y, x + w, y + h))
        pixels = np.asarray(image)
        return np.ascontiguousarray(pixels[:, ::-1] if np.random.rand() < 0.5 else pixels), label


def torch_rates(args, folder, model, batch):
    import torch

    make = torch_models().get(model)
    if make is None:
        return {}
    torch.backends.cudnn.benchmark = True
    net = make(args.classes).cuda().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    loss_of = torch.nn.CrossEntropyLoss()

    def step(images, labels):
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(net(images), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    images = torch.rand(batch, 3, args.imgsz, args.imgsz, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.randint(args.classes, (batch,), device="cuda")
    for _ in range(15):
        step(images, labels)
    torch.cuda.synchronize()
    times = []
    for _ in range(5):
        begun = time.time()
        for _ in range(20):
            step(images, labels)
        torch.cuda.synchronize()
        times.append((time.time() - begun) / 20)
    rates = {"network alone": batch / statistics.median(times)}
    if args.loader:
        data = torch.utils.data.DataLoader(Folder(f"{folder}/set/train", args.imgsz), batch, shuffle=True, num_workers=16,
                                           drop_last=True, pin_memory=True, persistent_workers=True)
        for epoch in range(2):
            begun, seen = time.time(), 0
            for pixels, labels in data:
                # NHWC bytes are channels_last as they are.
                step(pixels.cuda(non_blocking=True).permute(0, 3, 1, 2).float().div_(255), labels.cuda(non_blocking=True))
                seen += len(labels)
            torch.cuda.synchronize()
            rates["with a loader"] = seen / (time.time() - begun)
    return rates


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--onsa", required=True)
    p.add_argument("--models", default="resnet50,efficientnet_lite0,mobilenet_v3_large")
    p.add_argument("--batches", default="64")
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--imgsz", type=int, default=224)
    p.add_argument("--images", type=int, default=6400)
    p.add_argument("--classes", type=int, default=20)
    p.add_argument("--options", default="")
    p.add_argument("--no-torch", action="store_true")
    p.add_argument("--loader", action="store_true")
    p.add_argument("--keep")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or scratch
        make_set(f"{folder}/set", args.images, args.classes)
        for model in args.models.split(","):
            for batch in map(int, args.batches.split(",")):
                rate, first, wait, wall, top1 = onsa(args, folder, model, batch)
                print(f"onsa     {model:<20} batch {batch:>4}: {rate:7.0f} img/s (first epoch {first:.0f}), data wait {wait} %, "
                      f"{wall:.1f} s in all, top1 {top1}", flush=True)
                alone, slow = network_alone(args, model, batch)
                print(f"onsa     {model:<20} network alone: {alone and round(alone)} img/s", slow, flush=True)
                if args.no_torch:
                    continue
                for what, found in torch_rates(args, folder, model, batch).items():
                    print(f"PyTorch  {model:<20} batch {batch:>4}: {found:7.0f} img/s, {what}; onsa / PyTorch {rate / found:.2f}", flush=True)


if __name__ == "__main__":
    main()
