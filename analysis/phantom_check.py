#!/usr/bin/env python3
"""Do the lesions painted into phantoms look like the phantoms' own? Reads data.h5 and pairs.h5.

Lesion-to-surround contrast: (mean of a ring around the mask - mean inside) / 255 of the luma. Its
distribution over the generated pairs is compared with that of all real ones by the Kolmogorov-Smirnov
distance and the ratio of interquartile ranges. A threshold segmenter (smoothed luma, divided by the
median of the image or of its row, below a threshold, largest part, holes filled) is fitted on the
real training pairs and scored on the generated ones by Dice. The masks shuffled among the pairs are
scored the same way and must fail: otherwise the numbers prove nothing.

    phantom_check.py RUN [--expect pass|fail] [--generated PAIRS] [--real DATA]

Exit code 0: the outcome is the one expected (fail: Dice below 0.3, as an untuned foundation must),
and the shuffled control fails. 1: it is not. 2: unusable input. Needs h5py and numpy only."""
import argparse
import os
import sys

import numpy as np

KS_MAX, IQR_MIN, IQR_MAX, DICE_MIN, DICE_UNTUNED = 0.3, 0.5, 2.0, 0.7, 0.3


def smooth(img, sigma):
    """img [H,W]; separable Gaussian, edges repeated."""
    r = int(np.ceil(3 * sigma))
    k = np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2)
    k /= k.sum()
    for axis in (0, 1):
        pad = [(r, r) if a == axis else (0, 0) for a in (0, 1)]
        p = np.pad(img, pad, mode="edge")
        n = img.shape[axis]
        img = sum(w * np.take(p, np.arange(i, i + n), axis=axis) for i, w in enumerate(k))
    return img


def grow(mask, radius):
    """Dilation of bool [H,W] by a disc."""
    out = mask.copy()
    h, w = mask.shape
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy * dy + dx * dx <= radius * radius:
                ys, yd = slice(max(0, -dy), h - max(0, dy)), slice(max(0, dy), h - max(0, -dy))
                xs, xd = slice(max(0, -dx), w - max(0, dx)), slice(max(0, dx), w - max(0, -dx))
                out[yd, xd] |= mask[ys, xs]
    return out


def components(mask):
    """4-connected components of bool [H,W] as lists of runs (row, first, end), by union of runs."""
    parent, runs, above = [], [], []

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for y, row in enumerate(mask):
        edge = np.flatnonzero(np.diff(np.concatenate(([0], row.view(np.uint8), [0])).astype(np.int8)))
        here = []
        for a, b in zip(edge[::2], edge[1::2]):
            i = len(runs)
            runs.append((y, a, b))
            parent.append(i)
            here.append(i)
            for j in above:
                if runs[j][1] < b and a < runs[j][2]:
                    parent[find(j)] = find(i)
        above = here
    parts = {}
    for i, run in enumerate(runs):
        parts.setdefault(find(i), []).append(run)
    return list(parts.values())


def largest(mask):
    parts = components(mask)
    out = np.zeros_like(mask)
    if parts:
        for y, a, b in max(parts, key=lambda p: sum(b - a for _, a, b in p)):
            out[y, a:b] = True
    return out


def fill(mask):
    """Fills what the border does not reach."""
    out = mask.copy()
    h, w = mask.shape
    for part in components(~mask):
        if not any(y in (0, h - 1) or a == 0 or b == w for y, a, b in part):
            for y, a, b in part:
                out[y, a:b] = True
    return out


def dice(a, b):
    return 2.0 * np.sum(a & b) / max(1, np.sum(a) + np.sum(b))


def luma(images):
    return images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def contrast(g, mask):
    """g [H,W] luma, mask bool [H,W]."""
    unit = max(1, round(mask.shape[0] / 128))
    ring = grow(mask, 8 * unit) & ~grow(mask, 2 * unit)
    return (g[ring].mean() - g[mask].mean()) / 255.0 if mask.any() and ring.any() else 0.0


def contrasts(images, masks):
    return np.array([contrast(g, m) for g, m in zip(luma(images), masks)])


class Segmenter:
    """Chosen on the real pairs: sigma, what "normal" brightness is, threshold."""

    def feature(self, g, sigma, by_row):
        s = smooth(g, sigma * g.shape[0] / 128.0)
        return s / np.maximum(np.median(s, axis=1, keepdims=True) if by_row else np.median(s), 1.0)

    def fit(self, images, masks):
        best = -1.0
        for by_row in (False, True):
            for sigma in (1.0, 2.0, 3.0):
                f = [self.feature(g, sigma, by_row) for g in luma(images)]
                for t in np.arange(0.40, 0.96, 0.05):
                    d = np.mean([dice(fill(largest(x < t)), m) for x, m in zip(f, masks)])
                    if d > best:
                        best, self.sigma, self.by_row, self.t = d, sigma, by_row, t
        return best

    def score(self, images, masks):
        f = (self.feature(g, self.sigma, self.by_row) for g in luma(images))
        return np.array([dice(fill(largest(x < self.t)), m) for x, m in zip(f, masks)])


def ks(a, b):
    x = np.sort(np.concatenate([a, b]))
    return float(np.max(np.abs(np.searchsorted(np.sort(a), x, "right") / len(a) -
                               np.searchsorted(np.sort(b), x, "right") / len(b))))


def iqr(a):
    q = np.percentile(a, [25, 75])
    return q[1] - q[0]


def judge(name, images, masks, real, segmenter):
    c = contrasts(images, masks)
    d = segmenter.score(images, masks)
    r = {"n": len(c), "ks": ks(c, real), "iqr": float(iqr(c) / max(iqr(real), 1e-6)), "dice": float(d.mean())}
    q = np.percentile(c, [5, 25, 50, 75, 95])
    print(f"{name:10s} n {r['n']:5d}  contrast {' '.join(f'{v:6.3f}' for v in q)}  KS {r['ks']:.3f}  "
          f"IQR ratio {r['iqr']:.2f}  Dice mean {r['dice']:.3f} median {np.median(d):.3f} "
          f"below 0.5: {np.mean(d < 0.5):.2f}")
    r["pass"] = r["ks"] <= KS_MAX and IQR_MIN <= r["iqr"] <= IQR_MAX and r["dice"] >= DICE_MIN
    return r


def read_real(path):
    """Images and masks [N,H,W,3], [N,H,W] of lesion pictures: those for training, and the others."""
    from meddiff_data import opened
    with opened(path) as f:
        lesion = f["masks"][:].reshape(len(f["masks"]), -1).any(axis=1)
        train = f["split"][:] == 0
        images, masks = f["images"][:], f["masks"][:] > 0
    return (images[lesion & train], masks[lesion & train]), (images[lesion & ~train], masks[lesion & ~train])


def read_pairs(path):
    from meddiff_data import opened
    with opened(path) as f:
        done = f["state"][:] == 2
        return f["images"][:][done], f["masks"][:][done] > 0


def check(fit_on, held_back, pairs, expect):
    real = np.concatenate([contrasts(*fit_on), contrasts(*held_back)])
    s = Segmenter()
    print(f"fitted on {len(fit_on[0])} real pairs: Dice {s.fit(*fit_on):.3f}", end=" ")
    print(f"(sigma {s.sigma}, threshold {s.t:.2f} of the {'row' if s.by_row else 'image'}'s median)")
    judge("real", *fit_on, real, s)
    if len(held_back[0]) >= 3:
        judge("held back", *held_back, real, s)
    got = judge("generated", *pairs, real, s)
    order = np.roll(np.arange(len(pairs[0])), max(1, len(pairs[0]) // 3))
    control = judge("shuffled", pairs[0], pairs[1][order], real, s)
    ok = got["pass"] if expect == "pass" else got["dice"] < DICE_UNTUNED and not got["pass"]
    print(f"generated: {'passes' if got['pass'] else 'fails'} (expected: {expect}); "
          f"shuffled masks: {'pass, so this proves nothing' if control['pass'] else 'fail, as they must'}")
    return ok and not control["pass"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", help="run directory with data.h5 and pairs.h5")
    p.add_argument("--expect", choices=("pass", "fail"), default="pass")
    p.add_argument("--real")
    p.add_argument("--generated")
    a = p.parse_args()
    try:
        fit_on, held_back = read_real(a.real or os.path.join(a.run, "data.h5"))
        pairs = read_pairs(a.generated or os.path.join(a.run, "pairs.h5"))
    except Exception as e:
        if not isinstance(e, (OSError, KeyError)) and type(e).__name__ != "StoreError":
            raise
        print(f"phantom_check: {e}", file=sys.stderr)
        return 2
    if len(fit_on[0]) < 5 or len(pairs[0]) < 5:
        print(f"phantom_check: {a.run}: {len(fit_on[0])} real and {len(pairs[0])} accepted pairs; "
              "at least 5 of each are needed", file=sys.stderr)
        return 2
    return 0 if check(fit_on, held_back, pairs, a.expect) else 1


if __name__ == "__main__":
    sys.exit(main())
