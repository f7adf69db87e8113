"""What a run directory holds, as far as it is there. Nothing here fails because a file is missing
or damaged: `Run.missing` says which and why."""
import csv
import hashlib
import json
import os
import re
import struct

os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")  # a live run's stores are read beside it
import h5py
import numpy as np

STATES = ("empty", "not judged", "accepted", "rejected", "failed")
SPLITS = ("train", "val", "test")
KINDS = ("lesion image", "lesion-free image", "square beside a lesion", "repaired image")
LESION, HEALTHY, REPAIRED = 0, 1, 3
ACCEPTED, REJECTED = 2, 3
SHAPES = ("area", "perimeter", "eccentricity", "solidity", "centre_y", "centre_x", "nearest_iou")

LINE = re.compile(r"(\S+Z) \[(\d+)/(\d+) (\S+):(\S+) (\S+)\] (INFO|WARN|ERROR) ([\w -]+?): (.*)")


def text_of(value):
    """An attribute or a fixed-length string as text, whatever bytes it holds."""
    if isinstance(value, bytes):
        return value.split(b"\0")[0].decode("utf-8", "replace")
    return str(value)


def parse_config(text):
    """{"section.name": value as it is written} of what the program wrote."""
    found, section = {}, ""
    for line in text.splitlines():
        line = line.strip()
        if line.endswith("= {"):
            section = line[:-3].strip() + "."
        elif line == "};":
            section = ""
        elif "=" in line and not line.startswith("#"):
            name, value = line.rstrip(";").split("=", 1)
            found[section + name.strip()] = value.strip().strip('"')
    return found


class Store:
    """An HDF5 store with its small columns in memory; pictures are read one at a time."""

    def __init__(self, path):
        self.path = path
        self.file = h5py.File(path, "r")
        self.attrs = {name: self.file.attrs[name] for name in self.file.attrs}
        self.columns = {name: d[:] for name, d in self.file.items() if d.ndim < 3 or d.shape[0] == 0}
        self.pictures = {name: d for name, d in self.file.items() if name not in self.columns}
        self.rows = len(self.columns["crc"])

    def __getitem__(self, name):
        return self.columns[name]

    def text(self, name, default=""):
        return text_of(self.attrs.get(name, default))

    def has(self, row):
        return row is not None and 0 <= row < self.rows

    def picture(self, name, row):
        return self.pictures[name][int(row)]

    def named(self, row):
        return text_of(self["name"][row])


class Log:
    """log.txt as (time, level, room, text), and what stands in it about the course of the run."""

    def __init__(self, text):
        self.lines, self.strange = [], 0
        for line in text.splitlines():
            m = LINE.match(line)
            if m:
                self.lines.append((m[1], m[7], m[8], m[9], int(m[3]), m[5]))
            else:
                self.strange += 1

    def matching(self, room, pattern):
        for time, _, where, text, size, device in self.lines:
            m = re.match(pattern, text) if where == room or room is None else None
            if m:
                yield time, m, size, device

    def starts(self):
        """Of every start: job, when, until when its last line was written, processes, version."""
        found = []
        for time, _, room, text, size, _ in self.lines:
            m = re.match(r"meddiff (\S+) (\S+) (.*), run directory ", text) if room == "main" else None
            if m:
                found.append({"job": m[2], "config": m[3], "version": m[1], "begin": time, "end": time,
                              "processes": size})
            elif found:
                found[-1]["end"] = time
        return found

    def warnings(self):
        """Each once, with its first time and how often."""
        found = {}
        for time, level, room, text, _, _ in self.lines:
            if level != "INFO":
                key = (level, room, text)
                first, times = found.get(key, (time, 0))
                found[key] = (first, times + 1)
        return [(*key, *value) for key, value in found.items()]


class Run:
    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(os.path.abspath(path))
        self.missing = {}  # name: why
        self.config_text = self.read_text("config.cfg") or ""
        self.config = parse_config(self.config_text)
        self.result = (self.read_text("RESULT") or "").strip()
        self.requeue = os.path.exists(self.file("REQUEUE"))
        self.log = Log(self.read_text("log.txt") or "")
        self.data, self.backgrounds = self.store("data.h5"), self.store("backgrounds.h5")
        self.masks, self.pairs = self.store("masks.h5"), self.store("pairs.h5")
        self.metrics = self.read_metrics()
        self.rejected = self.read_csv("rejected.csv")
        self.skipped = self.read_csv("import_skipped.csv")
        self.shapes = self.read_csv("masks_report.csv")
        self.mask_report = self.read_json("masks_report.json")
        self.assessment = self.read_json("assessment.json")
        self.thumbnails = self.list_thumbnails()
        if self.pairs and self.pairs.text("config"):
            self.made_under = parse_config(self.pairs.text("config"))
        else:
            self.made_under = self.config

    def file(self, *names):
        return os.path.join(self.path, *names)

    def read_text(self, name):
        try:
            with open(self.file(name), encoding="utf-8", errors="replace") as f:
                return f.read()
        except OSError as e:
            self.missing[name] = e.strerror
            return None

    def store(self, name):
        if not os.path.exists(self.file(name)):
            self.missing[name] = "No such file or directory"
            return None
        try:
            return Store(self.file(name))
        except (OSError, KeyError, ValueError) as e:
            self.missing[name] = f"cannot be read: {e}"
            return None

    def read_csv(self, name):
        text = self.read_text(name)
        if text is None:
            return []
        lines = text.split("\n")[:-1]  # without what a kill cut off
        return [row for row in csv.DictReader(lines) if None not in row.values()]

    def read_json(self, name):
        text = self.read_text(name)
        try:
            found = json.loads(text) if text else None
        except ValueError as e:
            self.missing[name] = f"cannot be read: {e}"
            return None
        return found if isinstance(found, dict) else None

    def read_metrics(self):
        """{stage: f64 [steps,5]: step, loss, grad_norm, lr, seconds}; a resumed step counts once."""
        found = {}
        for row in self.read_csv("metrics.csv"):
            try:
                values = [float(row[k]) for k in ("step", "loss", "grad_norm", "lr", "seconds")]
            except (KeyError, TypeError, ValueError):
                continue
            found.setdefault(row["stage"], {})[values[0]] = values
        return {stage: np.array([rows[k] for k in sorted(rows)]) for stage, rows in found.items()}

    def list_thumbnails(self):
        """{(slot, attempt): file} of rejected/."""
        found = {}
        try:
            names = os.listdir(self.file("rejected"))
        except OSError:
            return found
        for name in names:
            m = re.fullmatch(r"(\d{1,9})-(\d{1,9})\.png", name)
            if m:
                found[int(m[1]), int(m[2])] = self.file("rejected", name)
        return found

    def real_likeness(self):
        """{"whole", "lesion"}: of each real image the similarity to the nearest one of another group, from
        features.safetensors; {} where that cannot be told."""
        try:
            with open(self.file("features.safetensors"), "rb") as f:
                n = struct.unpack("<Q", f.read(8))[0]
                head = json.loads(f.read(n)) if n < 1 << 20 else {}
                body = f.read()
        except (OSError, ValueError, struct.error):
            return {}
        if not self.data:
            return {}
        rows = np.flatnonzero((self.data["kind"] == LESION) & (self.data["split"] == 0) & (self.data["used"] > 0))
        group, found = self.data["group"][rows], {}
        for part in ("whole", "lesion"):
            at = head.get(part)
            if not at or at.get("dtype") != "F32" or len(at["shape"]) != 3 or at["shape"][0] != len(rows):
                return {}
            first, end = at["data_offsets"]
            x = np.frombuffer(body[first:end], "<f4").reshape(at["shape"]).astype(np.float64)
            x /= np.maximum(np.linalg.norm(x, axis=2, keepdims=True), 1e-12)
            best = np.einsum("id,jvd->ijv", x[:, 0], x).max(axis=2)
            best[group[:, None] == group[None]] = -np.inf
            found[part] = best.max(axis=1)[np.isfinite(best.max(axis=1))] if len(rows) else np.empty(0)
        return found

    def input_hashes(self):
        """[(name, SHA-256 in pairs.h5, that of the file now or None)] of everything pairs come from."""
        if not self.pairs:
            return []
        found = []
        for attribute in sorted(a for a in self.pairs.attrs if a.startswith("sha256_")):
            name = attribute[len("sha256_"):]
            now = None
            if name in ("data", "backgrounds", "masks") and os.path.exists(self.file(name + ".h5")):
                h = hashlib.sha256()
                with open(self.file(name + ".h5"), "rb") as f:
                    while block := f.read(1 << 22):
                        h.update(block)
                now = h.hexdigest()
            found.append((name, self.pairs.text(attribute), now))
        return found
