#!/usr/bin/env python3
"""Which limits of similarity tell copies from further real images, over many draws of the training images.

    limits.py ENCODER UNSEEN [--images 240] [--references 30] [--draws 80] [--save FILE]

UNSEEN is a run directory with phantoms imported (data.h5, backgrounds.h5), as tests/quality/phantoms.sh leaves it in
WORK/unseen. Outside the program: transformers' Dinov2Model and numpy repeat what generate/references.c and band.c do,
so that thousands of trials cost one pass of the encoder; tests/quality/phantoms.sh is the measurement of the program.
Needs transformers, PyTorch, h5py, Pillow.
"""
import argparse
from statistics import NormalDist

import numpy as np

import planted

FLAT = (124, 116, 104)
KINDS = planted.COPIES + ("noise",)


VIEWS = 8


def views(images):
    """view_of: mirrored in every way, then each of these between its pixels"""
    out = []
    for im in images:
        wide = np.pad(im.astype(np.uint16), ((0, 1), (0, 1), (0, 0)), "edge")
        half = ((wide[:-1, :-1] + wide[1:, :-1] + wide[:-1, 1:] + wide[1:, 1:] + 2) // 4).astype(np.uint8)
        out += [v for i in (im, half) for v in (i, i[:, ::-1], i[::-1], i[::-1, ::-1])]
    return out


def erode(mask, r=3):
    out, padded = np.ones_like(mask), np.pad(mask, r)
    h, w = mask.shape
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):
            if dy * dy + dx * dx <= r * r:
                out &= padded[r + dy:r + dy + h, r + dx:r + dx + w]
    return out


def lesion(image, mask):
    """references_lesion"""
    ys, xs = np.where(mask)
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    edge = max((max(y1 - y0, x1 - x0) * 6 + 4) // 5, (mask.shape[0] + 15) // 16)
    core = erode(mask)
    shown = np.where((core if core.sum() >= mask.sum() / 4 else mask)[..., None], image, np.array(FLAT, np.uint8))
    pad = mask.shape[0] // 2
    shown = np.stack([np.pad(shown[..., c], pad, constant_values=v) for c, v in enumerate(FLAT)], -1)
    y, x = pad + y0 - (edge - (y1 - y0)) // 2, pad + x0 - (edge - (x1 - x0)) // 2
    return shown[y:y + edge, x:x + edge]


def plant(images, masks, backgrounds, rng):
    """{kind: [(picture, mask)]}, one for each image as planted.py makes them, and 60 of noise."""
    def transplant(i):
        a, m = images[i], masks[i]
        if i % 2:  # elsewhere too
            ys, xs = np.where(m)
            by = tuple(int(rng.integers(-v.min(), n - v.max())) for v, n in zip((ys, xs), m.shape))
            a, m = np.roll(a, by, (0, 1)), np.roll(m, by, (0, 1))
        return planted.transplanted(a, m, backgrounds[rng.integers(len(backgrounds))])

    pairs = list(zip(images, masks))
    return {"jpeg": [planted.jpeg(a, m) for a, m in pairs],
            "turned": [planted.turned(a, m, 2.0 if i % 2 else -2.0) for i, (a, m) in enumerate(pairs)],
            "mirrored": [planted.mirrored(a, m) for a, m in pairs],
            "transplanted": [transplant(i) for i in range(len(images))],
            "noise": [planted.noise(a, m, rng) for a, m in pairs[:60]]}


def encode(a):
    """Features of all pictures, whole (0) and lesion (1): {name: [n,(views,)D]}"""
    import h5py
    import torch
    from transformers import BitImageProcessor, Dinov2Model
    net, prepare = Dinov2Model.from_pretrained(a.encoder).eval(), BitImageProcessor.from_pretrained(a.encoder)

    def features(images):
        out = []
        for k in range(0, len(images), 64):
            x = prepare([np.ascontiguousarray(i) for i in images[k:k + 64]], return_tensors="pt").pixel_values
            with torch.no_grad():
                f = net(x).pooler_output.numpy()
            out.append(f / np.linalg.norm(f, axis=1, keepdims=True))
        return np.concatenate(out)

    with h5py.File(a.unseen + "/data.h5", "r") as d:
        rows = np.flatnonzero(d["kind"][:] == 0)[:a.images]
        images, masks = d["images"][:][rows], d["masks"][:][rows] > 0
    with h5py.File(a.unseen + "/backgrounds.h5", "r") as d:
        backgrounds = d["images"][:]
    out = {"real0": features(views(images)).reshape(len(rows), VIEWS, -1),
           "real1": features(views([lesion(*p) for p in zip(images, masks)])).reshape(len(rows), VIEWS, -1)}
    for kind, pairs in plant(images, masks, backgrounds, np.random.default_rng(5)).items():
        out[kind + "0"] = features([p for p, _ in pairs])
        out[kind + "1"] = features([lesion(*p) for p in pairs])
    return out


def quantile(v, q):
    """band_quantile"""
    v, at = np.sort(v), np.clip(q * (len(v) + 1) - 1, 0, len(v) - 1)
    low = int(at)
    high = min(low + 1, len(v) - 1)
    return v[low] + (at - low) * (v[high] - v[low])


def limit(v, q):
    """band_limit"""
    if 1 <= q * (len(v) + 1) <= len(v) or q <= 0 or q >= 1:
        return quantile(v, q)
    far = np.log(np.maximum(1 - v, 1e-6))
    return 1 - np.exp(far.mean() - NormalDist().inv_cdf(q) * far.std(ddof=1) * np.sqrt(1 + 1 / len(v)))


def nearest(similarities):
    s = np.sort(similarities, 1)[:, ::-1]
    return s[:, 0], s[:, :5].mean(1)


def trial(f, a, q, rng):
    """Shares rejected of one draw of references: {kind: share}, "unseen", and of these as copies."""
    def similar(name, rows, refs, part):
        return np.einsum("id,jvd->ijv", f[name + str(part)][rows], f["real%d" % part][refs]).max(2)

    order = rng.permutation(len(f["real0"]))
    refs, others = order[:a.references], order[a.references:]
    limits = []
    for part in (0, 1):
        own = np.einsum("id,jvd->ijv", f["real%d" % part][refs][:, 0], f["real%d" % part][refs]).max(2)
        near, mean = nearest(np.where(np.eye(len(refs)) > 0, -9, own))
        limits.append((limit(near, 1 - q / 2), limit(mean, q / 2)))
    f = dict(f, unseen0=f["real0"][:, 0], unseen1=f["real1"][:, 0])
    out = {}
    for kind in KINDS + ("unseen",):
        rows = others if kind == "unseen" else refs if kind != "noise" else np.arange(len(f["noise0"]))
        copy = far = False
        for part in (0, 1):
            near, mean = nearest(similar(kind, rows, refs, part))
            copy, far = copy | (near > limits[part][0]), far | (mean < limits[part][1])
        out[kind] = (copy | far).mean()
        if kind == "unseen":
            out["as copies"] = copy.mean()
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("encoder")
    p.add_argument("unseen")
    p.add_argument("--images", type=int, default=240)
    p.add_argument("--references", type=int, default=30)
    p.add_argument("--draws", type=int, default=80)
    p.add_argument("--quantiles", default="0.05", help="values of quality.quantile, separated by commas")
    p.add_argument("--save", help="features, kept for another call")
    a = p.parse_args()
    try:
        features = dict(np.load(a.save)) if a.save else None
    except OSError:
        features = None
    if features is None:
        features = encode(a)
        if a.save:
            np.savez(a.save, **features)
    for q in map(float, a.quantiles.split(",")):
        rng = np.random.default_rng(11)
        rows = [trial(features, a, q, rng) for _ in range(a.draws)]
        mean = {k: np.mean([r[k] for r in rows]) for k in rows[0]}
        copies = np.mean([[r[k] for k in planted.COPIES] for r in rows], 1)
        unseen = np.array([r["unseen"] for r in rows])
        print("quantile %g, %d references: copies %.1f %% (least of a draw %.0f; %s), noise %.1f %%, unseen %.1f %% (sd %.1f; as "
              "copies %.1f), above 15 %% in %.0f %% of draws; all three limits hold in %.0f %%" % (
                  q, a.references, 100 * copies.mean(), 100 * copies.min(),
                  ", ".join("%s %.0f" % (k, 100 * mean[k]) for k in planted.COPIES), 100 * mean["noise"], 100 * unseen.mean(),
                  100 * unseen.std(), 100 * mean["as copies"], 100 * (unseen > 0.15).mean(),
                  100 * np.mean([u <= 0.15 and c >= 0.95 and r["noise"] == 1 for u, c, r in zip(unseen, copies, rows)])))


if __name__ == "__main__":
    main()
