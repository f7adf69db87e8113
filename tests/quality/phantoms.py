#!/usr/bin/env python3
"""The figures of tests/quality/phantoms.sh from what it left in WORK: judge/data.h5 and unseen/data.h5 (real
phantoms), product/ and untuned/ (runs), repaired/backgrounds.h5, planted/ and planted-N/ (planted.py). A row that a
control must fail counts as passed when it fails.

    phantoms.py WORK"""
import argparse
import collections
import glob
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../analysis"))
import segment_small as small  # noqa: E402  first: it says what is missing
import meddiff_data  # noqa: E402
import numpy as np  # noqa: E402
import planted  # noqa: E402

DICE_BELOW_REAL, BLANKS_MAX = 0.05, 0.02
REPAIRED_ABOVE_HEALTHY = 0.02
COPIES_CAUGHT, UNSEEN_REJECTED = 0.95, 0.15
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


def repair_rows(rows, net, work, unseen_h5):
    """How often the judge sees something as large as half the smallest lesion it was taught."""
    taught = meddiff_data.read(os.path.join(work, "judge", "data.h5"), lesion=True)[1]
    least = int(taught.sum((1, 2)).min()) // 2

    def share(images):
        return float((small.lesion_counts(small.predict(net, images), least) > 0).mean())

    healthy, _ = meddiff_data.read(unseen_h5, lesion=False)
    free = share(healthy)
    limit = free + REPAIRED_ABOVE_HEALTHY
    print(f"{'lesion-free phantoms':46s} {100 * free:.1f} % of {len(healthy)} hold {least} pixels of lesion")
    before, _ = meddiff_data.read(os.path.join(work, "repaired", "data.h5"), "train", True, used_only=True)
    after, _ = meddiff_data.read(os.path.join(work, "repaired", "backgrounds.h5"))
    for name, images, must_fail in (("repaired backgrounds", after, False),
                                    ("  the same before the repair", before, True)):
        found = share(images)
        rows.add(name, f"{100 * found:.1f} % of {len(images)}", f"<= {100 * limit:.1f} %", found <= limit, must_fail)


def filter_rows(rows, work):
    """Over all draws of the training images; those of the run come first."""
    folders = [os.path.join(work, "planted")] + sorted(glob.glob(os.path.join(work, "planted-*")))
    rejected, reasons = collections.defaultdict(list), []
    for folder in folders:
        found, why = planted.read(folder)
        reasons += why
        for kind, values in found.items():
            rejected[kind].append(values)
    copies = np.concatenate([rejected[kind] for kind in planted.COPIES], 1)  # [draws, copies]
    parts = ", ".join(f"{kind} {np.mean(rejected[kind]):.0%}" for kind in planted.COPIES)

    def each(values):
        return "  of each draw: " + ", ".join(f"{share:.1%}" for share in np.mean(values, 1))

    rows.add("planted near-copies caught", f"{copies.mean():.1%} of {copies.size}",
             f">= {COPIES_CAUGHT:.0%}", copies.mean() >= COPIES_CAUGHT)
    print(f"{each(copies)}\n  {parts}")
    noise, unseen = np.array(rejected["noise"]), np.array(rejected["unseen"])
    rows.add("planted noise caught", f"{noise.sum()} of {noise.size}", f"= {noise.size}", noise.all())
    rows.add("unseen real pictures rejected", f"{unseen.mean():.1%} of {unseen.size}",
             f"<= {UNSEEN_REJECTED:.0%}", unseen.mean() <= UNSEEN_REJECTED)
    print(each(unseen))
    for reason, count in sorted(collections.Counter(re.match("[a-z ]*", w)[0].strip() for w in reasons).items()):
        print(f"  {count} times: {reason}")


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
    repair_rows(rows, net, work, os.path.join(work, "unseen", "data.h5"))
    filter_rows(rows, work)
    return 1 if rows.bad else 0


if __name__ == "__main__":
    sys.exit(main())
