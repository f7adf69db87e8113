#!/usr/bin/env python3
"""The figures of tests/quality/phantoms.sh from what it left in WORK: judge/data.h5 and unseen/data.h5 (real
phantoms), product/ and untuned/ (runs). A row that a control must fail counts as passed when it fails.

    phantoms.py WORK"""
import argparse
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../analysis"))
import meddiff_data  # noqa: E402
import segment_small as small  # noqa: E402

DICE_BELOW_REAL, BLANKS_MAX = 0.05, 0.02
JUDGE_STEPS = 400


class Rows:
    """Prints rows of figure, limit, outcome, and remembers whether one failed."""

    def __init__(self):
        self.bad = 0

    def add(self, name, text, limit, holds, must_fail=False):
        good = holds != must_fail
        self.bad += not good
        word = ("PASS" if good else "FAIL") if not must_fail else \
            ("fails, as it must" if good else "FAIL: holds, so the figure above proves nothing")
        print(f"{name:46s} {text:34s} {limit:24s} {word}", flush=True)


def judge_of(work):
    """The net trained on WORK/judge, kept beside it."""
    path = os.path.join(work, "judge.pt")
    if not os.path.exists(path):
        images, masks = meddiff_data.read(os.path.join(work, "judge", "data.h5"))
        small.save(small.train(images, masks, JUDGE_STEPS, log=print), path + ".part")
        os.replace(path + ".part", path)
    return small.load(path)


def dice_row(rows, name, net, pairs, floor, must_fail=False):
    images, masks = pairs
    dice, _ = small.score(small.predict(net, images), masks)
    blanks = float((dice < small.BLANK).mean())
    rows.add(name, f"Dice {dice.mean():.3f}, blank {100 * blanks:.1f} % of {len(dice)}",
             f">= {floor:.3f}, <= {100 * BLANKS_MAX:.0f} %",
             dice.mean() >= floor and blanks <= BLANKS_MAX, must_fail)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("work")
    work, rows = p.parse_args().work, Rows()
    small.torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    net = judge_of(work)

    unseen = meddiff_data.read(os.path.join(work, "unseen", "data.h5"), lesion=True)
    dice, _ = small.score(small.predict(net, unseen[0]), unseen[1])
    floor = dice.mean() - DICE_BELOW_REAL
    print(f"{'unseen real phantoms':46s} Dice {dice.mean():.3f}, blank "
          f"{100 * (dice < small.BLANK).mean():.1f} % of {len(dice)}")
    pairs = meddiff_data.read(os.path.join(work, "product", "pairs.h5"))
    dice_row(rows, "generated pairs", net, pairs, floor)
    dice_row(rows, "  their masks shuffled", net, (pairs[0], np.roll(pairs[1], len(pairs[1]) // 3, 0)), floor, True)
    dice_row(rows, "  painted by the untuned foundation", net,
             meddiff_data.read(os.path.join(work, "untuned", "pairs.h5")), floor, True)
    return 1 if rows.bad else 0


if __name__ == "__main__":
    sys.exit(main())
