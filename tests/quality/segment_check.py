#!/usr/bin/env python3
"""segment_check.py TRAIN TEST SCRATCH: the reader (meddiff_data) against h5py itself, a store with slots in every
state, workers of a DataLoader; the judge (segment_small): the same seed gives the same weights, it finds lesions
of unseen phantoms, it does not agree with shuffled masks, parts are counted right."""
import os
import sys
import unittest

import h5py
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../analysis"))
import meddiff_data as data  # noqa: E402
import segment_small as small  # noqa: E402

train_path, test_path, scratch = sys.argv[1:4]


def make_pairs(path, states):
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as f:
        f.attrs["schema"] = "meddiff.pairs"
        f["state"] = np.array(states, np.uint8)
        f["images"] = rng.integers(0, 256, (len(states), 64, 64, 3), np.uint8)
        f["masks"] = rng.integers(0, 2, (len(states), 64, 64), np.uint8)


class Reader(unittest.TestCase):
    def test_rows(self):
        with h5py.File(train_path, "r") as f:
            split, kind, images, masks = (f[k][:] for k in ("split", "kind", "images", "masks"))
        for name, number in data.SPLITS.items():
            for lesion in (None, True, False):
                want = np.flatnonzero((split == number) & ((kind == 0) == lesion if lesion is not None else True))
                got_images, got_masks = data.read(train_path, name, lesion)
                np.testing.assert_array_equal(data.rows(train_path, name, lesion), want)
                np.testing.assert_array_equal(got_images, images[want])
                np.testing.assert_array_equal(got_masks, masks[want] > 0)
        self.assertTrue(data.read(train_path, lesion=True)[1].any((1, 2)).all())
        self.assertFalse(data.read(train_path, lesion=False)[1].any())

    def test_accepted_only(self):
        path = os.path.join(scratch, "states.h5")
        make_pairs(path, [0, 1, 2, 3, 4, 2])
        self.assertEqual(list(data.rows(path)), [2, 5])

    def test_foreign(self):
        path = os.path.join(scratch, "foreign.h5")
        with h5py.File(path, "w") as f:
            f["images"] = np.zeros((1, 4, 4, 3), np.uint8)
        with self.assertRaisesRegex(data.StoreError, "foreign.h5"):
            data.rows(path)

    def test_workers(self):
        path = os.path.join(scratch, "pairs.h5")
        make_pairs(path, [2, 3, 2, 2, 2])
        pairs = data.Pairs(path, (train_path, "train"))
        pairs[0]  # the file is open here before the workers are forked
        want = [pairs[i] for i in range(len(pairs))]
        self.assertEqual(len(pairs), 4 + len(data.rows(train_path, "train")))
        with h5py.File(path, "r") as f:
            np.testing.assert_array_equal((want[1][0].numpy() * 255).round().transpose(1, 2, 0), f["images"][2])
            np.testing.assert_array_equal(want[1][1].numpy()[0], f["masks"][2])
        loader = small.torch.utils.data.DataLoader(pairs, 7, num_workers=2)
        for part in range(2):
            got = small.torch.cat([x for x, _ in loader]), small.torch.cat([y for _, y in loader])
            self.assertTrue(small.torch.equal(got[0], small.torch.stack([x for x, _ in want])))
            self.assertTrue(small.torch.equal(got[1], small.torch.stack([y for _, y in want])))


class Judge(unittest.TestCase):
    def test_same_seed(self):
        images, masks = data.read(train_path)
        a, b, c = (small.train(images, masks, 5, seed=s).state_dict() for s in (3, 3, 4))
        self.assertTrue(all(small.torch.equal(a[k], b[k]) for k in a))
        self.assertFalse(all(small.torch.equal(a[k], c[k]) for k in a))

    def test_finds_lesions(self):
        net = small.train(*data.read(train_path), 120)
        small.save(net, os.path.join(scratch, "net.pt"))
        images, masks = data.read(test_path, lesion=True)
        found = small.predict(small.load(os.path.join(scratch, "net.pt")), images)
        np.testing.assert_array_equal(found, small.predict(net, images))
        dice = small.score(found, masks)[0].mean()
        shuffled = small.score(found, np.roll(masks, 13, 0))[0].mean()
        print(f"Dice {dice:.3f} on unseen phantoms, {shuffled:.3f} with shuffled masks")
        self.assertGreater(dice, 0.85)
        self.assertLess(shuffled, 0.5)
        healthy = small.predict(net, data.read(test_path, lesion=False)[0])
        self.assertLess((small.lesion_counts(healthy, 50) > 0).mean(), 0.2)
        self.assertGreater((small.lesion_counts(found, 50) > 0).mean(), 0.9)

    def test_score(self):
        a, b = np.zeros((3, 8, 8), bool), np.zeros((3, 8, 8), bool)
        a[0, :4], b[0, 2:6], a[2, 0, 0] = True, True, True
        dice, iou = small.score(a, b)
        np.testing.assert_allclose(dice, [0.5, 1, 0])
        np.testing.assert_allclose(iou, [1 / 3, 1, 0])

    def test_counts(self):
        found = np.zeros((1, 8, 8), bool)
        found[0, :2, :2] = found[0, 4:, 4:] = found[0, 2, 2] = True  # a corner joins nothing
        self.assertEqual([small.lesion_counts(found, k)[0] for k in (1, 2, 5, 17)], [3, 2, 1, 0])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
