#!/usr/bin/env python3
"""The mask generator's figures for issue 5's third criterion, measured apart from the program.

    python3 tests/quality/masks.py phantom RUN UNSEEN     RUN/masks.h5 against all masks of UNSEEN/data.h5
    python3 tests/quality/masks.py real RUN               RUN/masks.h5 against the training masks of RUN/data.h5
    python3 tests/quality/masks.py folder RUN FOLDER      all pairs of RUN/data.h5 as a folder's training part

Shapes are measured here with numpy alone and held against the program's own columns; likeness after
alignment and copies are the program's (masks_report.csv), as an exhaustive search over turns takes C.
Ends with 1 where a bound of the criterion is passed.
"""
import csv
import os
import sys

import h5py
import numpy as np

NAMES = ("area", "perimeter", "eccentricity", "solidity", "centre_y", "centre_x")


def hull_area(mask):
    """Of the pixels' corners, by Andrew's monotone chain."""
    points = []
    for y in np.flatnonzero(mask.any(1)):
        x = np.flatnonzero(mask[y])
        points += [(x[0], y), (x[0], y + 1), (x[-1] + 1, y), (x[-1] + 1, y + 1)]
    points = sorted(set(points))

    def half(points):
        chain = []
        for p in points:
            while len(chain) > 1 and ((chain[-1][0] - chain[-2][0]) * (p[1] - chain[-2][1]) -
                                      (chain[-1][1] - chain[-2][1]) * (p[0] - chain[-2][0])) <= 0:
                chain.pop()
            chain.append(p)
        return chain[:-1]

    hull = np.array(half(points) + half(points[::-1]), float)
    x, y = hull.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def shape(mask):
    m = mask.astype(bool)
    size = m.shape[0]
    y, x = np.nonzero(m)
    p = np.pad(m, 1)
    straight = (p[1:] != p[:-1]).sum() + (p[:, 1:] != p[:, :-1]).sum()
    diagonal = (p[1:, 1:] != p[:-1, :-1]).sum() + (p[1:, :-1] != p[:-1, 1:]).sum()
    moments = np.cov(np.stack([y, x]), bias=True) + np.eye(2) / 12
    least, most = np.linalg.eigvalsh(moments)
    return (m.mean(), np.pi / 8 * (straight + diagonal / np.sqrt(2)) / size, np.sqrt(1 - least / most),
            m.sum() / hull_area(m), (y.mean() + 0.5) / size, (x.mean() + 0.5) / size)


def shapes(masks):
    return np.array([shape(m) for m in masks])


def ks(a, b):
    at = np.concatenate([a, b])
    return abs(np.searchsorted(np.sort(a), at, "right") / len(a) -
               np.searchsorted(np.sort(b), at, "right") / len(b)).max()


def training(run):
    """Shapes of the masks that were learned; lesion-free images have none."""
    with h5py.File(run + "/data.h5") as f:
        masks = f["masks"][:][(f["split"][:] == 0) & (f["used"][:] == 1)]
    return shapes(masks[masks.any((1, 2))])


def generated(run):
    with h5py.File(run + "/masks.h5") as f:
        keep = f["state"][:] == 2
        masks, columns, tries = f["masks"][:][keep], f["shape"][:][keep], f["attempt"][:]
        print("%s: %d of %d masks accepted, %.2f draws for each" %
              (run, keep.sum(), len(keep), (tries + 1).mean()))
    own = shapes(masks)
    worst = abs(own - columns).max()
    print("shapes measured here and by the program differ by at most %.1e" % worst)
    if worst > 1e-5:
        sys.exit("the program's shapes are wrong")
    return own


def likeness(run):
    """Nearest training mask's IoU after alignment: of the training masks (leave one out), and of generated
    ones."""
    with open(run + "/masks_report.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    return [np.array([float(r["nearest_iou"]) for r in rows if r["kind"] == kind])
            for kind in ("real", "generated")]


def write_folder(run, folder):
    """One pair, mirrored, stands for the other part that makes the folder one with splits."""
    from PIL import Image
    with h5py.File(run + "/data.h5") as f:
        images, masks = f["images"][:], f["masks"][:] * 255
    rows = [i for i in range(len(masks)) if masks[i].any()]
    for part, chosen in (("train", rows), ("test", rows[:1])):
        for what, pixels in (("images", images), ("masks", masks)):
            os.makedirs("%s/%s/%s" % (folder, part, what), exist_ok=True)
            for i in chosen:
                x = pixels[i] if part == "train" else pixels[i][:, ::-1]
                Image.fromarray(x).save("%s/%s/%s/%03d.png" % (folder, part, what, i))


def main():
    kind, run = sys.argv[1:3]
    if kind == "folder":
        return write_folder(run, sys.argv[3])
    made, bad = generated(run), []
    if kind == "phantom":
        with h5py.File(sys.argv[3] + "/data.h5") as f:
            seen = f["masks"][:]
            unseen = shapes(seen[seen.any((1, 2))])
        trained = training(run)
        print("%d generated, %d unseen, %d training masks; bound: KS 0.10" % (len(made), len(unseen), len(trained)))
        limits = [0.10] * len(NAMES)
    else:
        unseen = training(run)
        rng, n = np.random.default_rng(1), len(unseen)
        halves = []
        for _ in range(2000):
            order = rng.permutation(n)
            halves.append([ks(unseen[order[:n // 2], k], unseen[order[n // 2:], k]) for k in range(len(NAMES))])
        limits = np.quantile(halves, 0.95, axis=0)
        trained = None
        print("%d generated, %d real masks; bound: 95 %% of 2000 random halves of the real ones" %
              (len(made), n))
    for k, name in enumerate(NAMES):
        d = ks(made[:, k], unseen[:, k])
        print("%-12s generated %.4f +- %.4f, real %.4f +- %.4f: KS %.3f, bound %.3f%s" %
              (name, made[:, k].mean(), made[:, k].std(), unseen[:, k].mean(), unseen[:, k].std(), d, limits[k],
               "" if trained is None else "; training masks %.3f" % ks(trained[:, k], unseen[:, k])))
        if d > limits[k]:
            bad.append(name)
    real, new = likeness(run)
    for name, at in (("median", 0.5), ("95 %", 0.95), ("largest", 1)):
        a, b = np.quantile(real, at), np.quantile(new, at)
        print("nearest training mask, IoU after alignment, %s: real ones %.3f (leave one out), generated %.3f" %
              (name, a, b))
        if b > a:
            bad.append("likeness, %s" % name)
    print("beyond the bounds: %s" % ", ".join(bad) if bad else "all within the bounds")
    sys.exit(1 if bad else 0)


main()
