#!/usr/bin/env python3
"""A small U-Net for pictures of 64 to 256 pixels on one or two CPU threads: minutes to train, the same
weights from the same seed. It judges phantoms, where the truth is known (tests/quality/phantoms.py); nobody
should segment patients with it.

    segment_small.py train MODEL.pt STORE...   data.h5 (rows of --split, or all), pairs.h5 (accepted)
    segment_small.py score MODEL.pt STORE...   Dice and IoU of each store, and how often it finds nothing

Needs Python 3.9, numpy, h5py and PyTorch 1.13 or newer (Debian: python3-h5py python3-torch). Exit code
77: one of them is missing, said in a sentence."""
import argparse
import sys

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn

    import meddiff_data
    from phantom_check import components
except ImportError as missing:
    print(f"skipped: {missing}; apt-get install python3-h5py python3-torch", file=sys.stderr)
    sys.exit(77)

BLANK = 0.1  # a Dice below this: nothing was painted where the mask says so


def block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.GroupNorm(8, cout), nn.ReLU(),
                         nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.GroupNorm(8, cout), nn.ReLU())


class SmallUNet(nn.Module):
    """x [N,3,H,W] in 0..1 -> logits [N,1,H,W], H and W multiples of 16. Squares of 2 x 2 pixels become
    channels first and last, which saves three quarters of the work and keeps the pixel's edge."""

    def __init__(self, widths=(16, 32, 64, 64)):
        super().__init__()
        self.down = nn.ModuleList(block(cin, cout) for cin, cout in zip((12,) + widths[:-1], widths))
        self.up = nn.ModuleList(block(deep + skip, skip)
                                for deep, skip in zip(widths[:0:-1], widths[-2::-1]))
        self.out = nn.Conv2d(widths[0], 4, 1)

    def forward(self, x):
        x, skips = F.pixel_unshuffle(x * 4 - 2, 2), []  # [N,12,H/2,W/2]
        for stage in self.down:
            if skips:
                x = F.max_pool2d(x, 2)
            x = stage(x)
            skips.append(x)
        for stage, skip in zip(self.up, skips[-2::-1]):
            x = stage(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        return F.pixel_shuffle(self.out(x), 2)


def loss_dice_focal(logits, truth, gamma=2.0):
    """The paper's segmentation loss: focal + Dice, Dice per picture. logits, truth [N,1,H,W]."""
    p = torch.sigmoid(logits)
    ce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    focal = (ce * (1 - torch.where(truth > 0, p, 1 - p)) ** gamma).mean()
    both, sizes = (p * truth).sum((1, 2, 3)), (p + truth).sum((1, 2, 3))
    return focal + (1 - (2 * both + 1) / (sizes + 1)).mean()


def to_tensor(images):
    """u8 [N,H,W,3] -> f32 [N,3,H,W] in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255


def augment(x, y, rng):
    """Mirrored, and another exposure. No turns: ultrasound has an up and a down."""
    for i in range(len(x)):
        if rng.random() < 0.5:
            x[i], y[i] = x[i].flip(2), y[i].flip(2)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (len(x), 1, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.05, 0.05, (len(x), 1, 1, 1)).astype(np.float32))
    return (x * gain + shift).clamp(0, 1), y


class Epochs:
    """Numbers below n in random order, each once before one comes again."""

    def __init__(self, n):
        self.n, self.order = n, np.empty(0, np.int64)

    def draw(self, rng, k):
        while len(self.order) < k:
            self.order = np.concatenate([self.order, rng.permutation(self.n)])
        ids, self.order = self.order[:k], self.order[k:]
        return ids


def train(images, masks, steps=500, batch=8, lr=2e-3, seed=1, log=None, change=augment, make=SmallUNet,
          device="cpu", draw=None, watch=None):
    """Pictures u8 [N,H,W,3] with masks bool [N,H,W] (empty ones are fine) -> the net, in eval mode. One
    cycle of the learning rate, AdamW, epochs without replacement; equal arguments give equal weights.
    make(): another net of such inputs and outputs; draw(rng, batch): the rows of a batch, chosen otherwise;
    watch(step, net): called after every step."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = make().to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.15)
    draw, total = draw or Epochs(len(images)).draw, 0.0
    for step in range(steps):
        ids = draw(rng, batch)
        x, y = change(to_tensor(images[ids]), torch.from_numpy(masks[ids][:, None].astype(np.float32)), rng)
        loss = loss_dice_focal(net(x.to(device, memory_format=torch.channels_last)), y.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
        total += loss.item()
        if log and (step + 1) % 100 == 0:
            log(f"step {step + 1}/{steps}: loss {total / 100:.4f}")
            total = 0.0
        if watch:
            watch(step + 1, net)
    return net.eval()


def predict(net, images, batch=32):
    """u8 [N,H,W,3] -> bool [N,H,W]."""
    device = next(net.parameters()).device
    with torch.no_grad():
        parts = [(net(to_tensor(images[i:i + batch]).to(device))[:, 0] > 0).cpu()
                 for i in range(0, len(images), batch)]
    return torch.cat(parts).numpy() if parts else np.zeros(images.shape[:3], bool)


def score(found, masks):
    """Dice and IoU of each picture [N], found and masks bool [N,H,W]; two empty masks agree."""
    both = (found & masks).sum((1, 2)).astype(np.float64)
    either, sizes = (found | masks).sum((1, 2)), found.sum((1, 2)) + masks.sum((1, 2))
    return (np.where(sizes, 2 * both / np.maximum(sizes, 1), 1.0),
            np.where(either, both / np.maximum(either, 1), 1.0))


def lesion_counts(found, min_px):
    """How many connected parts of at least min_px pixels each picture holds [N]; found bool [N,H,W]."""
    return np.array([sum(sum(b - a for _, a, b in part) >= min_px for part in components(mask))
                     for mask in found], int)


def save(net, path):
    torch.save(net.state_dict(), path)


def load(path):
    net = SmallUNet()
    net.load_state_dict(torch.load(path, map_location="cpu"))
    return net.to(memory_format=torch.channels_last).eval()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("do", choices=("train", "score"))
    p.add_argument("model")
    p.add_argument("stores", nargs="+", metavar="STORE")
    p.add_argument("--split", choices=tuple(meddiff_data.SPLITS), help="rows of data.h5; default: all")
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    try:
        stores = [meddiff_data.read(path, a.split) for path in a.stores]
        for path, (images, _) in zip(a.stores, stores):
            if not len(images):
                raise meddiff_data.StoreError(f"{path}: no {a.split or 'finished'} rows in it")
        if a.do == "train":
            images, masks = (np.concatenate(part) for part in zip(*stores))
            print(f"{len(images)} pictures, {int(masks.any((1, 2)).sum())} with a lesion")
            save(train(images, masks, a.steps, a.batch, seed=a.seed, log=print), a.model)
            return 0
        net = load(a.model)
    except (OSError, KeyError, meddiff_data.StoreError) as e:
        print(f"segment_small: {e}", file=sys.stderr)
        return 2
    for path, (images, masks) in zip(a.stores, stores):
        dice, iou = score(predict(net, images), masks)
        print(f"{path}: n {len(dice)}, Dice {dice.mean():.3f} (median {np.median(dice):.3f}), "
              f"IoU {iou.mean():.3f}, blank {100 * (dice < BLANK).mean():.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
