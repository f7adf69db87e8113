"""What a segmenter is trained on in each arm of a study (segment.py). An arm is named by its parts, joined by +:

    real           the run's real training pairs; all: every training pair of the data set instead
    classical      turned, scaled, shifted, bent and mirrored, in another exposure and with noise, anew at every step
    paste-N        N real lesions, stretched to the guides of the run's first N accepted pairs and pasted into
                   the backgrounds of those pairs
    synthetic-N    the run's first N accepted pairs
    shuffled       every picture with the mask of another: a control, which must fail

real is always there and is not written beside other parts: classical+synthetic-1500."""
import os
from collections import namedtuple

import h5py
import meddiff_data
import numpy as np
import torch
import torch.nn.functional as F
from meddiff_data import StoreError

Arm = namedtuple("Arm", "name all classical paste synthetic shuffled")


def parse(name, counts):
    """One written name -> its arms: paste and synthetic without a number stand for each of `counts`. Another
    word: ValueError."""
    parts = name.split("+")
    for i, part in enumerate(parts):
        if part in ("paste", "synthetic"):
            if not counts:
                raise ValueError(f"arm {name}: how many pairs? --synthetic N, or {part}-N")
            return [arm for n in counts for arm in parse("+".join(parts[:i] + [f"{part}-{n}"] + parts[i + 1:]), counts)]
    found = {"all": False, "classical": False, "paste": 0, "synthetic": 0, "shuffled": False}
    for part in parts:
        word, _, number = part.partition("-")
        if part in ("all", "classical", "shuffled"):
            found[part] = True
        elif word in ("paste", "synthetic") and number.isdigit() and int(number) > 0:
            found[word] = int(number)
        elif part != "real":
            raise ValueError(f"arm {name}: no part is called {part!r}; there are real, all, classical, paste-N, "
                             "synthetic-N, shuffled, joined by +")
    return [Arm("+".join(p for p in parts if p != "real" or len(parts) == 1), **found)]


def read_pairs(stores, n):
    """The first n accepted pairs of the stores, one after the other: images u8 [n,H,W,3], masks bool [n,H,W]."""
    images, masks, there = [], [], 0
    for store in stores:
        if there < n:
            x, y = meddiff_data.read(store)
            images.append(x[:n - there])
            masks.append(y[:n - there])
            there += len(images[-1])
    return np.concatenate(images), np.concatenate(masks)


def check(arm, stores):
    """Are there as many pairs as the arm wants?"""
    there, wanted = sum(len(meddiff_data.rows(store)) for store in stores), max(arm.paste, arm.synthetic)
    if there < wanted:
        raise StoreError(f"{', '.join(stores)}: {there} accepted pairs, but the arm {arm.name} wants {wanted}; "
                         "generate more (generate.pairs) or ask for fewer (--synthetic)")


def read_guides(stores, n):
    """Backgrounds u8 [n,H,W,3] and guides bool [n,H,W] of the first n accepted pairs; backgrounds.h5 lies beside
    each store."""
    images, guides, there = [], [], 0
    for store in stores:
        ids = meddiff_data.rows(store)[:n - there]
        beside = os.path.join(os.path.dirname(store), "backgrounds.h5")
        if not os.path.exists(beside):
            raise StoreError(f"{beside}: not there; the arm paste needs the run's backgrounds beside its pairs")
        with h5py.File(store, "r") as f, h5py.File(beside, "r") as b:
            background = f["background_id"][:][ids]
            if len(ids) and (background.min() < 0 or background.max() >= len(b["images"])):
                raise StoreError(f"{beside}: not the backgrounds that {store} was painted over")
            images.append(b["images"][:][background])
            guides.append(f["guides"][:][ids] > 0)
        there += len(ids)
    return np.concatenate(images), np.concatenate(guides)


# ---- lesions copied and pasted ----


def box(mask):
    y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return y[0], y[-1] + 1, x[0], x[-1] + 1


def shrunk(mask):
    """Without the pixels that have one beyond the mask beside them."""
    m = np.pad(mask, 1)
    return mask & m[:-2, 1:-1] & m[2:, 1:-1] & m[1:-1, :-2] & m[1:-1, 2:]


def filled(image, mask):
    """The lesion's bounding box f32 [h,w,3], what is not lesion there in the colour of the nearest lesion pixel.
    The outermost pixels, a 64th of the picture, count as not lesion: they are mixed with what surrounds it."""
    inner = mask
    for _ in range(max(1, mask.shape[0] // 64)):
        if shrunk(inner).any():
            inner = shrunk(inner)
    y0, y1, x0, x1 = box(mask)
    inner, out = inner[y0:y1, x0:x1], image[y0:y1, x0:x1].astype(np.float32)
    edge, beyond = np.argwhere(inner & ~shrunk(inner)), np.argwhere(~inner)  # the nearest is always of the edge
    for i in range(0, len(beyond), 4096):
        part = beyond[i:i + 4096]
        near = edge[((part[:, None] - edge[None]) ** 2).sum(2).argmin(1)]
        out[tuple(part.T)] = out[tuple(near.T)]
    return out


def stretched(patch, h, w):
    """f32 [a,b,3] -> [h,w,3], bilinear."""
    x = torch.from_numpy(patch.transpose(2, 0, 1)[None].copy())
    return F.interpolate(x, size=(h, w), mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()


def soft(mask):
    """f32 [H,W]: the mean of 3 x 3 pixels of the mask, a seam of one pixel on either side."""
    m = np.pad(mask.astype(np.float32), 1, mode="edge")
    h, w = mask.shape
    return sum(m[y:y + h, x:x + w] for y in range(3) for x in range(3)) / 9


def paste(backgrounds, guides, images, masks, rng, among=4):
    """Under every guide the lesion, of `among` drawn ones, whose area is nearest to the guide's, stretched from
    bounding box to bounding box. Returns pictures u8 [n,H,W,3]; their masks are the guides."""
    out, areas, kept = backgrounds.copy(), masks.sum((1, 2)), {}
    for i, guide in enumerate(guides):
        drawn = rng.integers(0, len(images), among)
        if not guide.any():
            continue
        j = drawn[np.abs(np.log(np.maximum(areas[drawn], 1) / guide.sum())).argmin()]
        if j not in kept:
            kept[j] = filled(images[j], masks[j])
        y0, y1, x0, x1 = box(guide)
        lesion = backgrounds[i].astype(np.float32)
        lesion[y0:y1, x0:x1] = stretched(kept[j], y1 - y0, x1 - x0)
        # not beyond the box, where there is nothing to paste
        a = np.zeros(guide.shape, np.float32)
        a[y0:y1, x0:x1] = soft(guide)[y0:y1, x0:x1]
        out[i] = np.rint(a[..., None] * lesion + (1 - a[..., None]) * backgrounds[i]).astype(np.uint8)
    return out


# ---- classical augmentation ----


def plain(x, y, rng):
    return x, y


def classical(x, y, rng):
    """x f32 [N,3,H,W] in 0..1, y f32 [N,1,H,W]: up to 20 degrees, 0.8 to 1.25 times as large, shifted by up to a
    tenth, bent by up to 3 %, half of them mirrored left to right (ultrasound has an up and a down); another
    exposure and gamma, and noise."""
    n = len(x)

    def draw(low, high, *shape):
        return torch.from_numpy(rng.uniform(low, high, (n, *shape)).astype(np.float32))

    turn, scale = draw(-0.35, 0.35), torch.exp(draw(-0.22, 0.22))
    mirror = torch.from_numpy(np.where(rng.random(n) < 0.5, -1, 1).astype(np.float32))
    shift = draw(-0.2, 0.2, 2)
    rows = torch.stack([torch.stack([mirror * turn.cos() / scale, -turn.sin() / scale, shift[:, 0]], 1),
                        torch.stack([mirror * turn.sin() / scale, turn.cos() / scale, shift[:, 1]], 1)], 1)
    bend = F.interpolate(draw(-0.06, 0.06, 2, 5, 5), size=x.shape[2:], mode="bicubic", align_corners=True)
    grid = F.affine_grid(rows, list(x.shape), align_corners=False) + bend.permute(0, 2, 3, 1)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    y = F.grid_sample(y, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    x = x.clamp(0, 1) ** torch.exp(draw(-0.25, 0.25, 1, 1, 1)) * draw(0.85, 1.15, 1, 1, 1) + draw(-0.07, 0.07, 1, 1, 1)
    x = x + 0.02 * torch.from_numpy(rng.standard_normal(x.shape).astype(np.float32))
    return x.clamp(0, 1), (y > 0.5).float()


# ---- an arm's training material ----


def build(arm, images, masks, real, stores, rng):
    """images, masks: every training pair that may be used; real: the numbers of those of this repeat. Returns
    images, masks and how many of the first of them are real."""
    kept = np.arange(len(images)) if arm.all else real
    x, y = [images[kept]], [masks[kept]]
    if arm.paste:
        backgrounds, guides = read_guides(stores, arm.paste)
        x.append(paste(backgrounds, guides, images[real], masks[real], rng))
        y.append(guides)
    if arm.synthetic:
        for to, what in zip((x, y), read_pairs(stores, arm.synthetic)):
            to.append(what)
    sizes = {part.shape[1:3] for part in x}
    if len(sizes) > 1:
        raise StoreError(f"{', '.join(stores)}: pairs of another size than the data set's, {sorted(sizes)}")
    x, y = np.concatenate(x), np.concatenate(y)
    if arm.shuffled:
        y = derange(y, rng)
    return x, y, len(kept)


def derange(masks, rng):
    """Every mask at another's place: along one ring through all of them."""
    ring = rng.permutation(len(masks))
    out = np.empty_like(masks)
    out[ring] = masks[np.roll(ring, 1)]
    return out
