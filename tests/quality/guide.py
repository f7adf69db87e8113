#!/usr/bin/env python3
"""Measures pairs painted under different guides (guide.sh) and draws them side by side.

    guide.py OUT NAME...      OUT/NAME/{data,backgrounds,pairs}.h5, painted without pasting back

Printed for each NAME, after the paste that generate would do (feather_px 3):
  leak       share of what the painting changed that lies beyond the guide, before the paste. Changed: more
             than 99 % of the pixels that are 12 or more from the guide, which only the VAE has touched
  alignment  Dice of the guide with what is changed inside it
  edge       how much of the lesion's contrast stands 1 to 3 pixels inside the edge: (surround - there) /
             (surround - core); the surround is 2 to 8 pixels outside, the core deeper than 5
  core       (surround - core) / 255, median
  KS, Dice   of analysis/phantom_check.py: contrast against all real ones', and a threshold segmenter
The row "real" is the phantoms themselves. Needs numpy and h5py."""
import os
import struct
import sys
import zlib

import h5py
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "analysis"))
import phantom_check as check  # noqa: E402

REACH = 12


def distance(mask):
    """Pixels to the nearest False, where that is at most REACH; REACH + 1 beyond. bool [H,W]."""
    out = np.full(mask.shape, REACH + 1.0)
    h, w = mask.shape
    p = np.pad(mask, REACH, constant_values=True)  # beyond the image: unknown
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            r = np.hypot(dy, dx)
            if r <= REACH:
                hit = ~p[REACH + dy:REACH + dy + h, REACH + dx:REACH + dx + w]
                out[hit] = np.minimum(out[hit], r)
    return np.where(mask, out, 0)


def paste(image, background, inside, feather=3.0):
    a = np.where(inside > 0, np.clip((inside - 0.5) / feather, 0, 1), 0)[..., None]
    return np.rint(a * image + (1 - a) * background).astype(np.uint8)


def bands(g, mask, inside, outside):
    """Luma of surround, edge and core; None where the lesion has no core."""
    core, edge = inside > 5, (inside >= 1) & (inside <= 3)
    surround = (outside >= 2) & (outside <= 8)
    if not core.any() or not surround.any():
        return None
    return g[surround].mean(), g[edge].mean(), g[core].mean()


def profile(images, masks):
    rows = [bands(g, m, distance(m), distance(~m)) for g, m in zip(check.luma(images), masks)]
    s, e, c = np.array([r for r in rows if r] or np.zeros((0, 3))).reshape(-1, 3).T
    if not s.size:
        return None, np.nan
    seen = np.abs(s - c) > 8  # a lesion that differs from its surround
    edge = np.median((s - e)[seen] / (s - c)[seen]) if seen.any() else None
    return edge, np.median(s - c) / 255


def changes(image, background, mask, outside):
    """What the painting changed beyond the VAE's round trip."""
    d = np.abs(image.astype(int) - background).mean(axis=-1)
    return check.smooth(d, 1.0) > np.quantile(check.smooth(d, 1.0)[outside >= REACH], 0.99)


def count(folder):
    with h5py.File(os.path.join(folder, "pairs.h5")) as p:
        return int((p["state"][:] == 2).sum())


def read(folder, n):
    with h5py.File(os.path.join(folder, "pairs.h5")) as p, h5py.File(os.path.join(folder, "backgrounds.h5")) as b:
        ok = np.flatnonzero(p["state"][:] == 2)[:n]
        return p["images"][:][ok], p["guides"][:][ok] > 0, b["images"][:][p["background_id"][:][ok]]


def measure(folder, n):
    images, guides, backgrounds = read(folder, n)
    leak, alignment, pasted = [], [], []
    for im, g, b in zip(images, guides, backgrounds):
        inside, outside = distance(g), distance(~g)
        c = changes(im, b, g, outside)
        leak.append((c & ~g).sum() / max(1, c.sum()))
        alignment.append(check.dice(c & g, g))
        pasted.append(paste(im, b, inside))
    return np.mean(leak), np.mean(alignment), np.array(pasted), guides


def row(name, images, masks, real, segmenter, leak=None, alignment=None):
    edge, core = profile(images, masks)
    c = check.contrasts(images, masks)
    cells = [name, len(images)] + [f"{v:.2f}" if v is not None else "" for v in (leak, alignment, edge)]
    cells += [f"{core:.3f}", f"{check.ks(c, real):.2f}", f"{segmenter.score(images, masks).mean():.2f}"]
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def outlined(image, mask):
    out = image.copy()
    out[mask & (distance(mask) <= 1)] = (60, 255, 60)
    return out


def write_png(path, rgb):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    h, w, _ = rgb.shape
    raw = np.concatenate([np.zeros((h, 1), np.uint8), rgb.reshape(h, -1)], axis=1).tobytes()
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def main():
    out, names = sys.argv[1], sys.argv[2:]
    fit_on, held_back = check.read_real(os.path.join(out, names[0], "data.h5"))
    real = np.concatenate([check.contrasts(*fit_on), check.contrasts(*held_back)])
    s = check.Segmenter()
    s.fit(*fit_on)
    print("| guide | n | leak | alignment | edge | core | KS | Dice |\n|---|---|---|---|---|---|---|---|")
    row("real", *held_back, real, s)
    n, strips = min(count(os.path.join(out, name)) for name in names), []
    for name in names:
        leak, alignment, pasted, guides = measure(os.path.join(out, name), n)
        row(name, pasted, guides, real, s, leak, alignment)
        if not strips:
            strips.append(np.concatenate([outlined(i, g) for i, g in zip(pasted[:10], guides)], axis=1))
        strips.append(np.concatenate(list(pasted[:10]), axis=1))
    write_png(os.path.join(out, "guide-parts.png"), np.concatenate(strips))
    print(f"\n{out}/guide-parts.png: the first pairs; first row: the guides on \"{names[0]}\"; then {', '.join(names)}")


if __name__ == "__main__":
    main()
