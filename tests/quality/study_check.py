#!/usr/bin/env python3
"""study_check.py TRAIN TEST SCRATCH: analysis/segment.py on phantoms. The intervals against closed forms; a study
that is cut off goes on to the same lines; repeats are paired; shuffled masks fall; pasted lesions lie under
their guides; nnU-Net's commands, with stand-ins for them; what is said where something is missing."""
import json
import os
import shutil
import stat
import subprocess
import sys
import unittest
from unittest import mock

import h5py
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
analysis = os.path.join(here, "../../analysis")
sys.path.insert(0, analysis)
import folds  # noqa: E402
import segment  # noqa: E402
import segment_arms as arms  # noqa: E402
import segment_small as small  # noqa: E402
import segment_stats as stats  # noqa: E402

train_path, test_path, scratch = sys.argv[1:4]
run = os.path.join(scratch, "study")


def make_run(folder, val=6, test=10, used=8, seed=0):
    """A run directory: data.h5 with 40 phantoms split anew, `used` of them drawn by seed, and 20 accepted pairs
    (other phantoms; every third slot of the store is not accepted)."""
    os.makedirs(folder)
    shutil.copy(train_path, os.path.join(folder, "data.h5"))
    with h5py.File(os.path.join(folder, "data.h5"), "r+") as f:
        lesions = np.flatnonzero(f["kind"][:] == 0)
        split, marked = np.zeros(len(f["kind"]), np.uint8), np.zeros(len(f["kind"]), np.uint8)
        split[lesions[:val]] = 1
        split[lesions[len(lesions) - test:]] = 2
        kept = np.random.default_rng(seed).permutation(lesions[val:len(lesions) - test])[:used]
        marked[kept] = 1
        f["split"][:], f["used"][:] = split, marked
    with h5py.File(test_path, "r") as f, h5py.File(os.path.join(folder, "pairs.h5"), "w") as p, \
            h5py.File(os.path.join(folder, "backgrounds.h5"), "w") as b:
        lesions, healthy = np.flatnonzero(f["kind"][:] == 0)[:30], np.flatnonzero(f["kind"][:] == 1)
        p.attrs["schema"] = "meddiff.pairs"
        p["state"] = np.where(np.arange(30) % 3 == 1, 3, 2).astype(np.uint8)
        p["images"], p["masks"], p["crc"] = (f[name][:][lesions] for name in ("images", "masks", "crc"))
        p["guides"] = p["masks"][:]
        p["background_id"] = (np.arange(30) % len(healthy)).astype(np.int32)
        b.attrs["schema"] = "meddiff.backgrounds"
        b["images"] = f["images"][:][healthy]


def call(*options, folder=run, rc=0, path=None, **environment):
    """segment.py in a process of its own: its output, results in `path`."""
    command = [sys.executable, "-B", os.path.join(analysis, "segment.py"), "--threads", "1", "--device", "cpu"]
    if path:
        command += ["--data", os.path.join(folder, "data.h5"), "--out", path]
    got = subprocess.run([*command, *options], capture_output=True, text=True, check=False,
                         env={**os.environ, **environment})
    if got.returncode != rc:
        raise AssertionError(f"{options}: {got.returncode}, wanted {rc}\n{got.stdout}{got.stderr}")
    return got.stdout + got.stderr


def lines_of(path):
    return {(line["segmenter"], line["arm"], line["repeat"]): line for line in segment.read_lines(path)}


def timeless(line):
    return {k: v for k, v in line.items() if k != "seconds"}


class Intervals(unittest.TestCase):
    def width(self, scores, runs, tests):
        mean, low, high = stats.interval(scores, runs, tests, draws=6000)
        self.assertAlmostEqual(mean, np.mean([np.mean(s) for s in scores]), 12)
        self.assertLess(low, mean)
        self.assertGreater(high, mean)
        return high - low

    def close(self, got, error):
        np.testing.assert_allclose(got, 2 * 1.96 * error, rtol=0.07)

    def test_closed_forms(self):
        rng = np.random.default_rng(1)
        pictures, repeats = rng.normal(0.8, 0.1, 200), rng.normal(0.8, 0.05, 40)
        one = [pictures]
        self.close(self.width(one, ["a"], ["t"]), pictures.std() / np.sqrt(200))
        flat = [np.full(50, r) for r in repeats]
        self.close(self.width(flat, ["a"] * 40, ["t"] * 40), repeats.std() / np.sqrt(40))
        # both, and a picture that is hard is hard in all repeats: more repeats do not make more pictures
        both = [pictures + r - 0.8 for r in repeats]
        error = np.hypot(pictures.std() / np.sqrt(200), repeats.std() / np.sqrt(40))
        self.close(self.width(both, ["a"] * 40, ["t"] * 40), error)
        # each run measured on pictures of its own: those do
        own = [rng.permutation(pictures) for _ in range(10)]
        self.close(self.width(own, list(range(10)), list(range(10))), pictures.std() / np.sqrt(2000))
        # repeats of one run are no runs
        ran = [np.full(50, repeats[i // 4]) for i in range(80)]
        self.close(self.width(ran, [i // 4 for i in range(80)], ["t"] * 80), repeats[:20].std() / np.sqrt(20))

    def test_difference(self):
        rng = np.random.default_rng(2)
        base = {r: {"dice": list(rng.random(30)), "run": "a", "test": "t"} for r in range(3)}
        ours = {r: {**line, "dice": [v + 0.02 for v in line["dice"]]} for r, line in base.items() if r != 1}
        np.testing.assert_allclose(stats.difference(ours, base), [0.02] * 3, atol=1e-12)
        self.assertIsNone(stats.difference({7: base[0]}, base))


class Arms(unittest.TestCase):
    def test_names(self):
        names = [arm.name for name in ("real", "classical+synthetic", "paste-7") for arm in arms.parse(name, [3, 5])]
        self.assertEqual(names, ["real", "classical+synthetic-3", "classical+synthetic-5", "paste-7"])
        for wrong in ("fake", "synthetic-0", "synthetic-x", ""):
            with self.assertRaisesRegex(ValueError, "joined by"):
                arms.parse(wrong, [3])

    def test_paste(self):
        store = os.path.join(run, "pairs.h5")
        x, y = small.meddiff_data.read(train_path, lesion=True)
        backgrounds, guides = arms.read_guides([store], 20)
        with h5py.File(store, "r") as f:
            slots = np.flatnonzero(f["state"][:] == 2)
            np.testing.assert_array_equal(guides, f["guides"][:][slots] > 0)
            beside = h5py.File(os.path.join(run, "backgrounds.h5"), "r")["images"][:]
            np.testing.assert_array_equal(backgrounds, beside[f["background_id"][:][slots]])
        out = arms.paste(backgrounds, guides, x, y, np.random.default_rng(1))
        changed = (out != backgrounds).any(3)
        near = arms.soft(guides[0]) > 0
        self.assertFalse((changed[0] & ~near).any())
        self.assertGreater((changed & guides).sum() / guides.sum(), 0.95)
        # a lesion under its own mask is itself, but for the rim
        again = arms.paste(x[:1], y[:1], x[:1], y[:1], np.random.default_rng(1))
        core = arms.shrunk(arms.shrunk(arms.shrunk(y[0])))
        self.assertTrue(core.any())
        np.testing.assert_array_equal(again[0][core], x[0][core])

    def test_classical(self):
        y = small.torch.from_numpy(small.meddiff_data.read(train_path, lesion=True)[1][:, None].astype(np.float32))
        x, turned = arms.classical(y.expand(-1, 3, -1, -1).clone(), y, np.random.default_rng(1))
        self.assertGreater(small.score((x[:, 0] > 0.5).numpy(), turned[:, 0].numpy() > 0)[0].min(), 0.9)
        self.assertLess(small.score(y[:, 0].numpy() > 0, turned[:, 0].numpy() > 0)[0].mean(), 0.9)

    def test_share(self):
        draw, rng = segment.drawer(100, 10, 8, 0.25), np.random.default_rng(1)
        ids = np.array([draw(rng, 8) for _ in range(50)])
        self.assertTrue(((ids < 10).sum(1) == 2).all())
        self.assertEqual(len(set(ids.ravel())), 100)
        self.assertIsNone(segment.drawer(100, 10, 8, None))

    def test_shuffled(self):
        masks = np.arange(9)[:, None, None] * np.ones((1, 2, 2), int)
        moved = arms.derange(masks, np.random.default_rng(1))
        self.assertTrue((moved != masks).all())
        self.assertEqual(sorted(moved[:, 0, 0]), list(range(9)))


class Choice(unittest.TestCase):
    def test_mean_of_three(self):
        """One lucky check does not win; the net is the one after the last of the best three."""
        values = iter([0.1, 0.95, 0.1, 0.5, 0.6, 0.7, 0.2, 0.1])
        net = small.torch.nn.Linear(1, 1, bias=False)
        keeper = segment.Keeper((None, None), 80, 8)
        with mock.patch.object(small, "predict"), \
                mock.patch.object(small, "score", lambda *_: (np.array([next(values)]), None)):
            for step in range(1, 81):
                net.weight.data.fill_(step)
                keeper(step, net)
        self.assertEqual((keeper.step, float(keeper.state["weight"])), (60, 60.0))
        self.assertTrue(net.training)

    def test_held_back(self):
        folder = os.path.join(scratch, "no-val")
        make_run(folder, val=0)
        stores = segment.Run(os.path.join(folder, "data.h5"), [os.path.join(folder, "pairs.h5")])
        real, back = stores.draw(0, np.random.default_rng(1))
        self.assertEqual(sorted([*real, *back]), list(stores.used))
        self.assertEqual(len(back), 2)
        self.assertFalse(set(stores.group[real]) & set(stores.group[back]))


class Study(unittest.TestCase):
    options = ("--pairs", os.path.join(run, "pairs.h5"), "--synthetic", "12", "--repeats", "2", "--steps", "4",
               "--checks", "2")

    def test_goes_on(self):
        path = os.path.join(scratch, "goes-on.jsonl")
        out = call(*self.options, path=path)
        whole = lines_of(path)
        names = ["real", "classical", "paste-12", "synthetic-12", "all"]
        self.assertEqual(set(whole), {("unet-small", arm, r) for arm in names for r in (0, 1)})
        rows = [[c.strip() for c in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| unet")]
        self.assertEqual([row[:4] for row in rows],
                         [["unet-small", arm, n, "2"] for arm, n in zip(names, ("8", "8", "20", "20", "24"))])
        for row, arm in zip(rows, names):
            dice = np.mean([whole["unet-small", arm, r]["dice"] for r in (0, 1)])
            self.assertTrue(row[4].startswith(f"{100 * dice:.2f} ["), row)
        self.assertEqual([row[6] == "" for row in rows], [True] + [False] * 4)
        self.assertIn("One run", out)
        with open(path, encoding="utf-8") as f:
            kept = f.read().split("\n")
        with open(path, "w", encoding="utf-8") as f:  # as after a kill in the middle of the fourth line
            f.write("\n".join(kept[:3]) + "\n" + kept[3][:40])
        self.assertIn("10 trainings of 4 steps, 3 of them done", call(*self.options, path=path))
        with open(path, encoding="utf-8") as f:
            self.assertEqual(f.read().split("\n")[:3], kept[:3])
        again = lines_of(path)
        self.assertEqual({k: timeless(v) for k, v in again.items()}, {k: timeless(v) for k, v in whole.items()})
        self.assertEqual(call("--table", path).strip().splitlines()[:3], out[out.index("| seg"):].splitlines()[:3])
        self.assertIn("n_checks 2, now 3", call(*self.options[:-1], "3", path=path, rc=2))
        self.assertIn("real_pairs 0, now 4", call(*self.options, "--real", "4", path=path, rc=2))
        # the second repeat alone, as another machine would make it
        apart = os.path.join(scratch, "apart.jsonl")
        call(*self.options, "--first", "2", path=apart)
        self.assertEqual({k: timeless(v) for k, v in lines_of(apart).items()},
                         {k: timeless(v) for k, v in whole.items() if k[2] == 1})

    def test_paired(self):
        path, other = os.path.join(scratch, "paired.jsonl"), os.path.join(scratch, "study-2")
        make_run(other, seed=5)
        stores = [[os.path.join(folder, name) for folder in (run, other)] for name in ("data.h5", "pairs.h5")]
        out = call("--data", *stores[0], "--pairs", *stores[1], "--synthetic", "12", "--repeats", "4", "--steps", "2",
                   "--checks", "1", "--arms", "real,synthetic", "--out", path)
        lines = lines_of(path)
        for r in range(4):
            self.assertEqual(lines["unet-small", "real", r]["real"], lines["unet-small", "synthetic-12", r]["real"])
            self.assertEqual(lines["unet-small", "real", r]["run"], lines["unet-small", "real", r % 2]["run"])
        self.assertEqual(len({line["real"] for line in lines.values()}), 2)
        self.assertEqual(len({line["test"] for line in lines.values()}), 1)
        self.assertIn("2 runs, 4 repeats", out)
        path = os.path.join(scratch, "drawn.jsonl")  # without pairs, of all training pairs
        call("--real", "5", "--repeats", "3", "--steps", "1", "--checks", "1", "--arms", "real,classical", path=path)
        lines = lines_of(path)
        self.assertEqual(len({line["real"] for line in lines.values()}), 3)
        self.assertEqual({line["pairs"] for line in lines.values()}, {5})

    def test_shuffled_falls(self):
        path = os.path.join(scratch, "shuffled.jsonl")
        call("--repeats", "1", "--steps", "120", "--checks", "6", "--arms", "real,shuffled", path=path)
        lines = lines_of(path)
        real, shuffled = (np.mean(lines["unet-small", arm, 0]["dice"]) for arm in ("real", "shuffled"))
        print(f"Dice {real:.3f} of unseen phantoms, {shuffled:.3f} taught with shuffled masks")
        self.assertGreater(real, 0.8)
        self.assertLess(shuffled, 0.5)

    def test_errors(self):
        path = os.path.join(scratch, "errors.jsonl")
        folder = os.path.join(scratch, "no-test")
        make_run(folder, test=0)
        for options, where, words in (
                ((), folder, "no test pictures with a lesion"),
                (("--arms", "synthetic-5"), run, "no --pairs"),
                ((*self.options[:2], "--arms", "synthetic"), run, "--synthetic N"),
                ((*self.options[:2], "--synthetic", "21"), run, "20 accepted pairs"),
                (("--arms", "fake"), run, "no part is called 'fake'"),
                (("--segmenters", "fake"), run, "no segmenter is called 'fake'"),
                (("--real", "99"), run, "--real wants 99"),
                (("--steps", "0"), run, "above 0"),
                (("--first", "2", "--repeats", "1"), run, "beyond --repeats 1")):
            self.assertIn(words, call(*options, folder=where, path=path, rc=2))
        broken = os.path.join(scratch, "broken")
        os.makedirs(broken)
        with open(os.path.join(broken, "torch.py"), "w", encoding="utf-8") as f:
            f.write("raise ImportError('no torch here')\n")
        self.assertIn("pip install h5py torch", call(path=path, rc=77, PYTHONPATH=broken))
        with open(path, "w", encoding="utf-8") as f:
            f.write("a letter\n")
        self.assertIn("no results of a study", call("--steps", "1", path=path, rc=2))


STAND_IN = """#!{python}
import json, os, sys
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open({log!r}, "a") as f:
    f.write(" ".join([name] + words) + "\\n")
raw, pre = os.environ["nnUNet_raw"], os.environ["nnUNet_preprocessed"]
if name == "meddiff":
    os.makedirs(os.path.join(raw, "Dataset501_study"))
elif name.endswith("preprocess"):
    os.makedirs(os.path.join(pre, "Dataset501_study"))
elif name.endswith("simple"):
    os.makedirs(words[1], exist_ok=True)
    cases = [{{"prediction_file": f"real-{{i:06d}}.png", "metrics": {{"1": {{"Dice": i / 10, "IoU": float("nan")}}}}}}
             for i in range(9, -1, -1)]
    json.dump({{"metric_per_case": cases}}, open(os.path.join(words[1], "summary.json"), "w"))
"""


class Nnunet(unittest.TestCase):
    def test_commands(self):
        path, bin_ = os.path.join(scratch, "nnunet.jsonl"), os.path.join(scratch, "bin")
        options = (*Study.options[:6], "--segmenters", "nnunet", "--number", "501")
        self.assertIn("pip install nnunetv2", call(*options, path=path, rc=2, PATH="/nowhere"))
        os.makedirs(bin_)
        log = os.path.join(scratch, "nnunet-calls")
        from segment_nnunet import COMMANDS
        for name in (*COMMANDS, "meddiff"):
            with open(os.path.join(bin_, name), "w", encoding="utf-8") as f:
                f.write(STAND_IN.format(python=sys.executable, log=log))
            os.chmod(f.name, stat.S_IRWXU)
        program = ("--meddiff", os.path.join(bin_, "meddiff"))
        call(*options, *program, path=path, PATH=bin_)
        lines = lines_of(path)
        self.assertEqual(set(lines), {("nnunet", arm, r) for arm in ("real", "synthetic-12", "all") for r in (0, 1)})
        first = lines["nnunet", "real", 0]
        np.testing.assert_allclose(first["dice"], np.arange(10) / 10)
        self.assertEqual(first["iou"], [1.0] * 10)  # nan: both are empty
        with open(log, encoding="utf-8") as f:
            calls = f.read().splitlines()
        self.assertEqual([c.split()[0] for c in calls], ["meddiff", COMMANDS[0], *COMMANDS[1:] * 6])
        self.assertIn("export.real=all", calls[0])
        self.assertEqual([c.split()[3] for c in calls if "_train" in c], list("012345"))
        folder = os.path.join(os.path.splitext(path)[0] + ".nnunet", first["run"])
        with open(os.path.join(folder, "preprocessed/Dataset501_study/splits_final.json"), encoding="utf-8") as f:
            folds = json.load(f)
        data = small.meddiff_data
        store = os.path.join(run, "data.h5")
        real = [f"real-{row:06d}" for row in data.rows(store, "train", True, used_only=True)]
        pairs = [f"pair-{slot:06d}" for slot in data.rows(os.path.join(run, "pairs.h5"))[:12]]
        self.assertEqual([fold["train"] for fold in folds[:3]],
                         [real, real + pairs, [f"real-{row:06d}" for row in data.rows(store, "train", True)]])
        self.assertEqual(folds[1]["val"], [f"real-{row:06d}" for row in data.rows(store, "val", True)])


class Folds(unittest.TestCase):
    """help.sh's cross-validation (folds.py)."""

    def test_groups_stay_together_and_all_are_tested_once(self):
        groups = np.array([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9])
        kinds = np.array(["benign"] * 7 + ["malignant"] * 6)
        ways = [folds.deal(groups, kinds, 5, seed) for seed in range(4)]
        for fold in ways:
            self.assertEqual(set(fold), set(range(5)))
            for group in set(groups):
                self.assertEqual(len(set(fold[groups == group])), 1)
        self.assertTrue(any((ways[0] != way).any() for way in ways[1:]))

    def test_a_fold_is_a_data_set(self):
        from PIL import Image
        root, to = os.path.join(scratch, "busi"), os.path.join(scratch, "fold")
        names = ["benign/benign (1).png", "malignant/malignant (1).png", "normal/normal (1).png"]
        for name in names:
            os.makedirs(os.path.join(root, os.path.dirname(name)))
            Image.new("L", (4, 4), 99).save(os.path.join(root, name))
        for i, what in enumerate(("_mask.png", "_mask_1.png")):
            part = np.zeros((4, 4), np.uint8)
            part[i, 1] = 255
            Image.fromarray(part).save(os.path.join(root, "benign/benign (1)" + what))
        Image.new("L", (4, 4), 255).save(os.path.join(root, "malignant/malignant (1)_mask.png"))
        folds.write(root, names, np.array([True, True, False]), np.array([True, False, False]), to)
        found = sorted(os.path.relpath(os.path.join(at, f), to) for at, _, files in os.walk(to) for f in files)
        self.assertEqual(found, ["test/images/benign-1.png", "test/masks/benign-1.png", "train/backgrounds/normal-1.png",
                                 "train/images/malignant-1.png", "train/masks/malignant-1.png"])
        mask = np.asarray(Image.open(os.path.join(to, "test/masks/benign-1.png")))
        self.assertEqual(np.argwhere(mask).tolist(), [[0, 1], [1, 1]])


if __name__ == "__main__":
    make_run(run)
    unittest.main(argv=sys.argv[:1])
