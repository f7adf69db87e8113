#!/usr/bin/env python3
"""Grouped cross-validation of BUSI for help.sh: one fold as a data set in the folder layout.

    folds.py DATA.h5 Dataset_BUSI_with_GT FOLDER --number N [--folds 5]

DATA.h5: an import of the data set, which says what belongs together. N counts from 0: fold N modulo --folds of the
(N // --folds)th way to deal the groups. FOLDER/test gets its lesion images, FOLDER/train all others and every lesion-free
one; files as they are, the masks of an image in one."""
import argparse
import glob
import os
import shutil

import meddiff_data
import numpy as np
from PIL import Image


def deal(groups, kinds, folds, seed):
    """The fold of each image: groups are dealt one after the other, benign and malignant ones apart, so that folds differ
    by at most one group of each."""
    rng, fold, at = np.random.default_rng(seed), np.empty(len(groups), np.int64), 0
    for kind in sorted(set(kinds)):
        for group in rng.permutation(np.unique(groups[kinds == kind])):
            fold[groups == group] = at % folds
            at += 1
    return fold


def write_mask(image, to):
    masks = [np.asarray(Image.open(path).convert("L")) > 127
             for path in glob.glob(glob.escape(image[:-len(".png")]) + "_mask*.png")]
    Image.fromarray(np.any(masks, 0).astype(np.uint8) * 255).save(to)


def write(root, names, lesion, test, folder):
    for what in ("train/images", "train/masks", "train/backgrounds", "test/images", "test/masks"):
        os.makedirs(os.path.join(folder, what), exist_ok=True)
    for i, name in enumerate(names):
        part = os.path.join(folder, "test" if test[i] else "train")
        flat = os.path.basename(name).replace(" ", "-").replace("(", "").replace(")", "")
        image = os.path.join(root, name)
        shutil.copy(image, os.path.join(part, "images" if lesion[i] else "backgrounds", flat))
        if lesion[i]:
            write_mask(image, os.path.join(part, "masks", flat))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data")
    p.add_argument("root")
    p.add_argument("folder")
    p.add_argument("--number", type=int, required=True)
    p.add_argument("--folds", type=int, default=5)
    a = p.parse_args()
    of = meddiff_data.columns(a.data)
    names, groups = np.array([name.decode() for name in of["name"]]), of["group"]
    kinds = np.array([os.path.dirname(name) for name in names])
    lesion = kinds != "normal"
    fold = np.full(len(names), -1)
    fold[lesion] = deal(groups[lesion], kinds[lesion], a.folds, a.number // a.folds)
    write(a.root, names, lesion, fold == a.number % a.folds, a.folder)


if __name__ == "__main__":
    main()
