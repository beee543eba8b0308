#!/usr/bin/env python3
"""Round trips: each export of real models, run by ONNX Runtime, LiteRT or PyTorch, beside what onsa itself finds.

    cargo build --release && target/release/onsa demo --fetch-only
    python3 benches/export.py [--tree-model best.safetensors] [--photos FOLDER] [--onsa target/release/onsa] [--speed-images 200] [--threads 2]

Models: YOLO12n on the tree tiles and two photographs (its own boxes above .25 are the truth), YOLO12n on the two photographs whole, mirrored
and cut (`photos`; int8's ranges from the pictures of --photos, else from the tree tiles), a tree model (trained here for 5
epochs at 320 px where --tree-model gives none; the labels are the truth), EfficientNet-Lite0 on all of these pictures.

Boxes: pairs of one class with IoU of at least .5 and a score of at least .05; largest difference of an edge (pixels of the
picture) and of a score, mean difference of the scores, share of boxes that both find, mAP50-95 by pycocotools' rules (101 points). Everything
after the runtime (decoding of a picture, letterbox, suppression) is written here anew with OpenCV and numpy. Where the model's own boxes are
the truth, the second figure counts those above .5 alone: of a class with one box just above .25, mAP is all or nothing. Then
(`speed`) images a second on a folder: onsa and ONNX Runtime with as many threads, in turn, --rounds times; medians.

Needs numpy, opencv-python-headless, onnxruntime, ai-edge-litert; with torch and ultralytics the .pt files are loaded too.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = {"float32": [], "float16": ["half=true"], "int8": ["int8=true", "tolerance=1"]}


def onsa(args, *line):
    done = subprocess.run([str(args.onsa), *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[0])
    return json.loads(done.stdout) if "--json" in line else done.stdout, done.stderr


# ---- what a user of an export writes --------------------------------------------------------------------------------


def letterbox(image, side):
    h, w = image.shape[:2]
    r = min(side / h, side / w)
    nh, nw = max(1, min(side, round(h * r))), max(1, min(side, round(w * r)))
    top, left = (side - nh) // 2, (side - nw) // 2
    canvas = np.full((side, side, 3), 114, np.uint8)
    resized = image if (nh, nw) == (h, w) else cv2.resize(image, (nw, nh), interpolation=cv2.INTER_LINEAR)
    canvas[top : top + nh, left : left + nw] = resized
    return canvas.astype(np.float32) / 255, r, left, top


def boxes_of(output, shape, r, left, top, conf=0.001, iou=0.7, most=300):
    """[4 + classes, anchors] in pixels of the input -> rows x1 y1 x2 y2 score class, best first."""
    scores = output[4:]
    kind, score = scores.argmax(0), scores.max(0)
    keep = score > conf
    cx, cy, w, h = output[:4, keep]
    kind, score = kind[keep], score[keep]
    boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
    order = np.argsort(-score, kind="stable")[:30000]
    boxes, score, kind = boxes[order], score[order], kind[order]
    kept, alive = [], np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        kept.append(i)
        if len(kept) == most:
            break
        alive &= ~((kind == kind[i]) & (overlap(boxes[i], boxes) > iou))
    boxes, score, kind = boxes[kept], score[kept], kind[kept]
    boxes = (boxes - [left, top, left, top]) / r
    boxes[:, [0, 2]] = boxes[:, [0, 2]].clip(0, shape[1])
    boxes[:, [1, 3]] = boxes[:, [1, 3]].clip(0, shape[0])
    return np.concatenate([boxes, score[:, None], kind[:, None]], 1)


def overlap(a, b):
    w = np.minimum(a[2], b[:, 2]) - np.maximum(a[0], b[:, 0])
    h = np.minimum(a[3], b[:, 3]) - np.maximum(a[1], b[:, 1])
    both = np.maximum(w, 0) * np.maximum(h, 0)
    area = lambda v: (v[..., 2] - v[..., 0]) * (v[..., 3] - v[..., 1])
    return both / np.maximum(area(a) + area(b) - both, 1e-9)


class Onnx:
    def __init__(self, path, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def __call__(self, x):
        return self.session.run(["output0"], {self.name: np.ascontiguousarray(x.transpose(2, 0, 1)[None])})[0][0]


class LiteRt:
    def __init__(self, path, threads):
        from ai_edge_litert.interpreter import Interpreter

        self.run = Interpreter(model_path=str(path), num_threads=threads)
        self.run.allocate_tensors()
        self.source, self.target = self.run.get_input_details()[0]["index"], self.run.get_output_details()[0]["index"]

    def __call__(self, x):
        self.run.set_tensor(self.source, x[None])
        self.run.invoke()
        out = self.run.get_tensor(self.target)[0].copy()
        if out.ndim == 2:
            out[[0, 2]] *= x.shape[1]
            out[[1, 3]] *= x.shape[0]
        return out


class Torch:
    def __init__(self, path, threads, classes, kind):
        import torch

        torch.set_num_threads(threads)
        state = torch.load(path, weights_only=True)
        if kind == "detect":
            from ultralytics.nn.tasks import DetectionModel

            # A fine-tuned head keeps the width of the 80 classes that it started from.
            self.model = DetectionModel("yolo12n.yaml", nc=80, verbose=False)
            head = self.model.model[-1]
            for branch in head.cv3:
                last = branch[2]
                branch[2] = torch.nn.Conv2d(last.in_channels, classes, 1)
            head.nc, head.no = classes, classes + 4 * head.reg_max
        else:
            sys.path.insert(0, str(ROOT / "fixtures"))
            from export_classify import Lite

            self.model = Lite(1.0, 1.0, classes)
        self.model.load_state_dict(state, strict=True)
        self.model.eval()
        self.torch, self.kind = torch, kind

    def __call__(self, x):
        with self.torch.no_grad():
            x = self.torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)[None]))
            if self.kind == "detect":
                return self.model(x)[0][0].numpy()
            return self.model((x - 127 / 255) / (128 / 255)).softmax(1)[0].numpy()


# ---- comparison -----------------------------------------------------------------------------------------------------


def average_precision(found, truths):
    """mAP50-95 over the classes that the truths have; `found` and `truths` are lists of rows by picture."""
    classes = sorted({int(row[5]) for rows in truths for row in rows})
    values = []
    for kind in classes:
        total = sum(int(row[5]) == kind for rows in truths for row in rows)
        rows = [(d[4], i, d) for i, all_ in enumerate(found) for d in all_ if int(d[5]) == kind]
        rows.sort(key=lambda r: -r[0])
        for threshold in np.linspace(0.5, 0.95, 10):
            free = [[True] * len(t) for t in truths]
            hits = []
            for _, i, d in rows:
                best, at = threshold - 1e-12, -1
                for k, t in enumerate(truths[i]):
                    if free[i][k] and int(t[5]) == kind:
                        value = overlap(d[:4], np.asarray([t[:4]]))[0]
                        if value >= best:
                            best, at = value, k
                if at >= 0:
                    free[i][at] = False
                hits.append(at >= 0)
            hits = np.cumsum(hits)
            precision = hits / np.arange(1, len(hits) + 1) if len(hits) else np.zeros(0)
            recall = hits / total if len(hits) else np.zeros(0)
            precision = np.maximum.accumulate(precision[::-1])[::-1]
            places = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
            values.append(np.mean([precision[p] if p < len(precision) else 0.0 for p in places]))
    return float(np.mean(values)) if values else 0.0


def compare(ours, theirs):
    edge, score, means, pairs, alone = 0.0, 0.0, [], 0, 0
    for a, b in zip(ours, theirs):
        free, left = np.ones(len(b), bool), []
        matched = []
        for row in a:
            if not len(b):
                left.append(row)
                continue
            value = np.where(free & (b[:, 5] == row[5]), overlap(row[:4], b[:, :4]), 0)
            at = int(value.argmax())
            if value[at] >= 0.5:
                free[at] = False
                matched.append((row, b[at]))
            else:
                left.append(row)
        alone += sum(row[4] >= 0.055 for row in left) + int((b[free][:, 4] >= 0.055).sum() if len(b) else 0)
        for x, y in matched:
            if max(x[4], y[4]) >= 0.05:
                pairs += 1
                edge = max(edge, float(np.abs(x[:4] - y[:4]).max()))
                score = max(score, float(abs(x[4] - y[4])))
                means.append(abs(x[4] - y[4]))
    return edge, score, float(np.mean(means)) if means else 0.0, pairs / max(1, pairs + alone)


def detector(args, scratch, name, model, side, classes, data, pictures, truths):
    folder = pictures[0].parent
    document, _ = onsa(args, "predict", f"model={model}", f"source={folder}", f"imgsz={side}", "square=true", "antialias=false", "conf=0.001", "iou=0.7", "max_det=300", "save=false", "device=cpu", f"threads={args.threads}", "--json")
    rows = {Path(d["image"]).name: np.asarray([[*b["xyxy"], b["score"], b["class"]] for b in d["boxes"]]).reshape(-1, 6) for d in document}
    ours = [rows[p.name] for p in pictures]
    sure = None if truths else [o[o[:, 4] >= 0.5] for o in ours]
    truths = truths or [o[o[:, 4] >= 0.25] for o in ours]
    base = average_precision(ours, truths)
    for kind, format, precision, path, proof, failed in exports(args, scratch, name, model, side, data, "detect"):
        if failed:
            print(f"{name:<10}{format:<12}{precision:<9}{failed}", flush=True)
            continue
        run = {"onnx": Onnx, "tflite": LiteRt}.get(format, lambda p, t: Torch(p, t, classes, "detect"))(path, args.threads)
        theirs = []
        for picture in pictures:
            image = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)
            x, r, left, top = letterbox(image, side)
            theirs.append(boxes_of(run(x), image.shape, r, left, top))
        edge, score, mean, agreement = compare(ours, theirs)
        map_ = average_precision(theirs, truths)
        second = f", boxes above .5 {average_precision(theirs, sure) - average_precision(ours, sure):+.4f}" if sure else ""
        print(f"{name:<10}{format:<12}{precision:<9}{path.stat().st_size / 1e6:>7.1f} MB  edges {edge:8.3f} px  scores {score:.5f} (mean {mean:.5f})  agree {agreement:7.2%}  mAP50-95 {map_:.4f} ({map_ - base:+.4f}{second})  proof: {proof['max_box_difference']:.3f} px {proof['max_score_difference']:.5f} {proof['map_difference']:.4f} shift {proof['score_shift']:+.4f}", flush=True)


def classifier(args, scratch, name, model, side, classes, data, pictures):
    document, _ = onsa(args, "predict", f"model={model}", f"source={scratch / 'pictures'}", f"imgsz={side}", "save=false", "device=cpu", f"threads={args.threads}", "--json")
    ours = {Path(d["image"]).name: d["top5"] for d in document}
    for kind, format, precision, path, proof, failed in exports(args, scratch, name, model, side, data, "classify"):
        if failed:
            print(f"{name:<10}{format:<12}{precision:<9}{failed}", flush=True)
            continue
        run = {"onnx": Onnx, "tflite": LiteRt}.get(format, lambda p, t: Torch(p, t, classes, "classify"))(path, args.threads)
        same, score = 0, 0.0
        for picture in pictures:
            # Pillow averages what a new pixel covers, as onsa does.
            from PIL import Image

            image = Image.open(picture).convert("RGB")
            short = min(image.size)
            image = image.resize((image.size[0] * side // short, image.size[1] * side // short), Image.BILINEAR)
            left, top = round((image.size[0] - side) / 2), round((image.size[1] - side) / 2)
            x = np.asarray(image.crop((left, top, left + side, top + side)), np.float32) / 255
            scores = run(x)
            top5 = ours[picture.name]
            same += int(scores.argmax()) == top5[0]["class"]
            score = max(score, max(abs(float(scores[t["class"]]) - t["score"]) for t in top5))
        print(f"{name:<10}{format:<12}{precision:<9}{path.stat().st_size / 1e6:>7.1f} MB  scores {score:.5f}  same class {same}/{len(pictures)}  proof: {proof['max_score_difference']:.5f} {proof['top1_agreement']:.3f}", flush=True)


def exports(args, scratch, name, model, side, data, kind):
    for format, ending in (("onnx", "onnx"), ("tflite", "tflite"), ("torch", "pt"), ("safetensors", "safetensors")):
        for precision, more in PRECISIONS.items():
            if format in ("torch", "safetensors") and precision != "float32":
                continue
            if format == "safetensors" or (format == "torch" and not args.torch):
                continue
            path = scratch / f"{name}_{precision}.{ending}"
            try:
                line = ["export", f"model={model}", f"format={format}", f"output={path}", f"imgsz={side}", f"threads={args.threads}", f"images={args.images}", *more, "--json"]
                report, _ = onsa(args, *line, *([f"data={data}"] if data else []))
                yield kind, format, precision, path, report["proof"], None
            except RuntimeError as error:
                yield kind, format, precision, path, None, str(error)


def photo_set(scratch, folder, views):
    """A data set without labels: `folder` to train on, `views` to validate."""
    for split, source in (("train", folder), ("val", views)):
        for kind in ("images", "labels"):
            (scratch / "set" / split / kind).mkdir(parents=True)
        for picture in sorted(source.iterdir()):
            (scratch / "set" / split / "images" / picture.name).write_bytes(picture.read_bytes())
            (scratch / "set" / split / "labels" / f"{picture.stem}.txt").touch()
    path = scratch / "set" / "data.yaml"
    path.write_text(f"path: {path.parent}\ntrain: train/images\nval: val/images\nnames: [any]\n")
    return path


def speed(args, scratch, model, side, pictures):
    folder = scratch / "many"
    folder.mkdir()
    for i in range(args.speed_images):
        picture = pictures[i % len(pictures)]
        (folder / f"{i:05}{picture.suffix}").write_bytes(picture.read_bytes())
    files = sorted(folder.iterdir())
    path = scratch / "speed.onnx"
    onsa(args, "export", f"model={model}", f"output={path}", f"imgsz={side}", "images=1", "--json")
    run = Onnx(path, args.threads)
    run(letterbox(cv2.imread(str(files[0])), side)[0])
    cv2.setNumThreads(args.threads)

    def ours(batch):
        _, said = onsa(args, "predict", f"model={model}", f"source={folder}", f"imgsz={side}", "square=true", "antialias=false", f"batch={batch}", "save=false", "device=cpu", f"threads={args.threads}", "--json")
        return float(re.search(r"([0-9.]+) images/s", said).group(1))

    def theirs():
        start, within = time.perf_counter(), 0.0
        for file in files:
            image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            x, r, left, top = letterbox(image, side)
            before = time.perf_counter()
            out = run(x)
            within += time.perf_counter() - before
            boxes_of(out, image.shape, r, left, top, conf=0.25)
        return len(files) / (time.perf_counter() - start), len(files) / within

    # In turn: what else the machine does meets all of them.
    names = ("onsa predict, batch 1", "onsa predict, batch 8", "ONNX Runtime from Python", "the session alone")
    rounds = []
    for i in range(args.rounds):
        rounds.append((ours(1), ours(8), *theirs()))
        print(f"speed     round {i + 1}: " + ", ".join(f"{name} {value:.2f}" for name, value in zip(names, rounds[-1])), flush=True)
    rounds = np.asarray(rounds)
    for i, name in enumerate(names):
        ratio = np.median(rounds[:, 0] / rounds[:, i])
        print(f"speed     {name}: median {np.median(rounds[:, i]):.2f} images/s ({rounds[:, i].min():.2f}-{rounds[:, i].max():.2f}, n={args.rounds}); onsa at batch 1 is {ratio:.2f} times it (median of the pairs)", flush=True)
    print(f"speed     {args.threads} threads, {len(files)} images, {side} px, load average {os.getloadavg()[0]:.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onsa", type=Path, default=ROOT / "target/release/onsa")
    parser.add_argument("--tree-model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=32, help="most images of a proof")
    parser.add_argument("--speed-images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5, help="of the speed comparison")
    parser.add_argument("--photos", type=Path, help="a folder of photographs that int8's ranges for `photos` are taken from")
    parser.add_argument("--only", nargs="*", default=["yolo12n", "photos", "trees", "lite0", "speed"])
    args = parser.parse_args()
    args.torch = subprocess.run([sys.executable, "-c", "import torch, ultralytics, torchvision"], capture_output=True).returncode == 0
    assets = Path(os.environ.get("ONSA_ASSETS", Path.home() / ".cache/onsa/assets"))
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder = scratch / "pictures"
        folder.mkdir()
        tiles = sorted((assets / "trees/images/val").iterdir())
        photos = [assets / "photos/bus.jpg", assets / "photos/zidane.jpg"]
        # PNG: two decoders of JPEG differ by a grey level here and there, which is no matter of the export.
        for picture in tiles + photos:
            cv2.imwrite(str(folder / f"{picture.stem}.png"), cv2.imread(str(picture)))
        pictures = [folder / f"{p.stem}.png" for p in tiles + photos]
        data = assets / "trees/data.yaml"
        if "yolo12n" in args.only:
            detector(args, scratch, "yolo12n", assets / "yolov12n.onnx", 640, 80, data, pictures, None)
        if "photos" in args.only:
            views = scratch / "views"
            views.mkdir()
            for photo in photos:
                image = cv2.imread(str(photo))
                h, w = (int(0.7 * v) for v in image.shape[:2])
                parts = {"whole": image, "mirrored": image[:, ::-1], "top": image[:h, :w], "bottom": image[-h:, -w:]}
                for what, part in parts.items():
                    cv2.imwrite(str(views / f"{photo.stem}_{what}.png"), part)
            fits = photo_set(scratch, args.photos, views) if args.photos else data
            detector(args, scratch, "photos", assets / "yolov12n.onnx", 640, 80, fits, sorted(views.iterdir()), None)
        if "trees" in args.only:
            model = args.tree_model
            if model is None:
                trained, _ = onsa(args, "train", f"model={assets / 'yolov12n.onnx'}", f"data={data}", "epochs=5", "imgsz=320", "batch=8", "seed=0", f"project={scratch}", "name=trees", "device=cpu", "--json")
                model = Path(trained["best"])
            truths = []
            for tile in tiles:
                h, w = cv2.imread(str(tile)).shape[:2]
                label = assets / "trees/labels/val" / f"{tile.stem}.txt"
                rows = [[float(v) for v in line.split()] for line in label.read_text().splitlines() if line.strip()]
                truths.append([np.array([(cx - bw / 2) * w, (cy - bh / 2) * h, (cx + bw / 2) * w, (cy + bh / 2) * h, 1.0, k]) for k, cx, cy, bw, bh in rows])
            detector(args, scratch, "trees", model, 320, 1, data, [folder / f"{t.stem}.png" for t in tiles], truths)
        if "lite0" in args.only:
            classes = scratch / "classes"
            for split, source in (("train", sorted((assets / "trees/images/train").iterdir())), ("val", tiles + photos)):
                place = classes / split / "picture"
                place.mkdir(parents=True)
                for picture in source:
                    (place / picture.name).write_bytes(picture.read_bytes())
            classifier(args, scratch, "lite0", assets / "efficientnet-lite0-57934424.pth", 224, 1000, classes, pictures)
        if "speed" in args.only:
            speed(args, scratch, assets / "yolov12n.onnx", 640, pictures)


if __name__ == "__main__":
    main()
