#!/usr/bin/env python3
"""Golden set-level figures (src/generate/figures.h), in numpy and the standard library alone:
python3 tests/golden/make_figures.py, from the root. Made with Python 3.11.2, numpy 1.24.2.
Written otherwise than there: the Frechet distance by square roots of symmetric matrices, neighbours
by whole distance matrices, the memorisation share by counting combinations, Student's t by
integration."""
import itertools
import json
import math
import struct

import numpy as np

D, K = 6, 5
OUT = "tests/golden/figures.safetensors"


def root(s):
    value, vector = np.linalg.eigh(s)
    return (vector * np.sqrt(np.clip(value, 0, None))) @ vector.T


def frechet(a, b):
    sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    r = root(sa)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(sa + sb - 2 * root(r @ sb @ r))


def distances(a, b):
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))


def neighbours(real, made):
    def radius(x):
        return np.sort(distances(x, x), 1)[:, K]

    d = distances(real, made)
    ball = d <= radius(real)[:, None]
    return [ball.any(0).mean(), (d <= radius(made)[None]).any(1).mean(),
            ball.sum(0).mean() / K, ball.any(1).mean()]


def share(train, holdout, made):
    """Expected share nearer to train, the larger set cut at random to the smaller one's size."""
    if len(train) < len(holdout):
        return 1 - share(holdout, train, made)
    n, m, total = len(train), len(holdout), 0
    for to_train, nearest in zip(distances(made, train), distances(made, holdout).min(1)):
        nearer = int((to_train < nearest).sum())
        total += 1 - math.comb(n - nearer, m) / math.comb(n, m)
    return total / len(made)


def share_by_counting(train, holdout, made):
    wins = [(distances(made, train[list(c)]).min(1) < distances(made, holdout).min(1)).mean()
            for c in itertools.combinations(range(len(train)), len(holdout))]
    return np.mean(wins)


def student(freedom):
    """0.975 quantile."""
    x = np.linspace(0, 60, 600001)
    density = (1 + x * x / freedom) ** (-(freedom + 1) / 2)
    density *= math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    total = np.concatenate([[0.5], 0.5 + np.cumsum((density[1:] + density[:-1]) / 2) * (x[1] - x[0])])
    return float(np.interp(0.975, total, x))


def interval(sets, groups):
    value, variance, quarter = share(*sets), 0, 0
    for which in range(3):
        names = np.unique(groups[which])
        left = []
        for name in names:
            part = list(sets)
            part[which] = part[which][groups[which] != name]
            left.append(share(*part))
        v = np.var(left) * (len(names) - 1)
        variance, quarter = variance + v, quarter + v * v / (len(names) - 1)
    half = math.sqrt(variance) * student(variance ** 2 / quarter)
    return [value, value - half, value + half]


def save(tensors):
    header, at = {"__metadata__": {"made_by": "tests/golden/make_figures.py"}}, 0
    for name, x in tensors.items():
        kind = {"float32": "F32", "int32": "I32"}[x.dtype.name]
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(OUT, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for x in tensors.values():
            f.write(x.tobytes())


r = np.random.default_rng(7)
mix = r.standard_normal((D, D)) * 0.6
real = r.standard_normal((66, D)) @ mix
train, holdout = real[:40].astype(np.float32), real[40:].astype(np.float32)
made = np.concatenate([r.standard_normal((50, D)) @ mix * 0.8 + 0.3,
                       train[:10] + 0.05 * r.standard_normal((10, D))]).astype(np.float32)
groups = [np.arange(n, dtype=np.int32) // per for n, per in ((40, 2), (26, 3), (60, 2))]
wide = [x.astype(np.float64) for x in (train, holdout, made)]
few = wide[0][:4]  # fewer rows than dimensions
small = (wide[0][:6], wide[1][:3], wide[2])
assert abs(share(*small) - share_by_counting(*small)) < 1e-12
numbers = {
    "frechet": [frechet(wide[0], wide[2]), frechet(few, wide[2]), frechet(few, wide[1][:3])],
    "neighbours": neighbours(wide[0], wide[2]),
    "memory": interval(wide, groups),
    "memory_swapped": interval([wide[1], wide[0], wide[2]], [groups[1], groups[0], groups[2]]),
}
save({"train": train, "holdout": holdout, "generated": made,
      "train_group": groups[0], "holdout_group": groups[1], "generated_group": groups[2],
      **{name: np.array(x, np.float32) for name, x in numbers.items()}})
