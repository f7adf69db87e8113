#!/usr/bin/env python3
"""Do synthetic pairs help? Trains segmenters on real, and on real and synthetic, pairs of the stores and measures
them on the test part, in paired repeats:

    segment.py --data runs/mine/data.h5 --pairs runs/mine/pairs.h5 --synthetic 96 --out mine.jsonl
    segment.py --table mine.jsonl                # the table again, of one or several files

One data store: --pairs are that run's stores of pairs. Several data stores, each a run of its own draw of real
pairs (import with another seed): --pairs has as many, in the same order, and repeat r is of run r modulo their
number. Only so do the repeats redraw the pairs that the generator learnt from. --real N draws N of a run's
training pairs in every repeat.

All arms of a repeat have the same real pairs, the same start and the same number of optimizer steps. Which step
is kept, validation says: the mean of Dice over the validation part and over three checks. Where the data set has
no validation part, a fifth of the repeat's real pairs is held back for it in every arm. Every finished training
is a line of --out; started again, the study goes on with what is missing. Repeats that need not be made here
(--first) may lie in another file.

Needs Python 3.9, numpy, h5py and PyTorch 1.13 or newer (Debian: python3-h5py python3-torch); upernet,
deeplabv3plus, upernet-swin: segmentation-models-pytorch; nnunet: nnunetv2 and --meddiff. Exit code 77: one of
the first three is missing, said in a sentence."""
import argparse
import copy
import hashlib
import json
import os
import sys
import time

try:
    import numpy as np

    import segment_stats as stats
except ImportError as missing:
    print(f"segment: {missing}; apt-get install python3-numpy", file=sys.stderr)
    sys.exit(77)

NNUNET = "nnunet"
CHECKS_AVERAGED = 3
HELD_BACK = 0.2
PRESETS = {
    "tiny": {"segmenters": "unet-small", "steps": 400, "batch": 8, "lr": 2e-3, "weights": "none", "synthetic": "",
             "repeats": 3},
    "paper": {"segmenters": "nnunet,upernet,deeplabv3plus,upernet-swin", "epochs": 800, "batch": 8, "lr": 1e-4,
              "weights": "imagenet", "synthetic": "1500,2750", "repeats": 3},
}


class StudyError(Exception):
    """The study cannot be made; the message says why and what to do."""


# ---- the results, a line each ----


class Results:
    """The lines of a JSON-lines file; a half-written last one (the study was killed) goes."""

    def __init__(self, path):
        import fcntl
        self.path = path
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self.file = open(path, "a+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise StudyError(f"{path}: another study is writing to it; wait for it or choose another --out") from e
        self.file.seek(0)
        text = self.file.read()
        self.file.truncate(text.rfind(b"\n") + 1)
        self.lines = read_lines(path)

    def find(self, segmenter, arm, repeat):
        for line in self.lines:
            if (line["segmenter"], line["arm"], line["repeat"]) == (segmenter, arm, repeat):
                return line
        return None

    def add(self, line):
        self.file.write(json.dumps(line).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.lines.append(line)


def read_lines(path):
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")[:-1]
    try:
        found = [json.loads(line) for line in lines]
        return [{**line, **{k: line[k] for k in ("segmenter", "arm", "repeat", "dice", "iou")}} for line in found]
    except (ValueError, KeyError, TypeError) as e:
        raise StudyError(f"{path}: no results of a study ({e}); choose another --out") from e


# ---- a run's stores ----


def digest(*arrays):
    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()[:16]


class Run:
    """What the study needs of data.h5 and the run's stores of pairs."""

    def __init__(self, data, pairs):
        import meddiff_data
        self.data, self.pairs = data, pairs
        part = {name: meddiff_data.read(data, name, lesion=True) for name in meddiff_data.SPLITS}
        of = {name: meddiff_data.columns(data, name, lesion=True) for name in meddiff_data.SPLITS}
        if not len(part["test"][0]):
            raise StudyError(f"{data}: no test pictures with a lesion; give the data set a test part (data.format = "
                             "folder: test/images and test/masks) and import it again")
        if not len(part["train"][0]):
            raise StudyError(f"{data}: no training pairs in it")
        self.train, self.val, self.test = (part[name] for name in meddiff_data.SPLITS)
        self.rows, self.group = {name: of[name]["row"] for name in of}, of["train"]["group"]
        # what the generator has not seen, the arms beside the synthetic ones have not either
        self.used = np.flatnonzero(of["train"]["used"] > 0) if pairs else np.arange(len(self.group))
        self.name = digest(*(of[name]["crc"] for name in meddiff_data.SPLITS), self.used)
        self.test_name = digest(of["test"]["crc"])
        self.size = self.train[0].shape[1:3]

    def pairs_name(self, n):
        import meddiff_data
        crc = [meddiff_data.columns(store)["crc"] for store in self.pairs]
        return digest(np.concatenate(crc)[:n]) if n else ""

    def draw(self, n, rng):
        """The numbers of n of the real pairs, and of those held back for validation."""
        if n > len(self.used):
            raise StudyError(f"{self.data}: {len(self.used)} training pairs are used, but --real wants {n}")
        real = np.sort(rng.choice(self.used, n, replace=False)) if n else self.used
        if len(self.val[0]):
            return real, np.empty(0, np.int64)
        groups = rng.permutation(np.unique(self.group[real]))
        back = np.empty(0, np.int64)
        for group in groups:
            if len(back) >= HELD_BACK * len(real):
                break
            back = np.concatenate([back, real[self.group[real] == group]])
        if not 0 < len(back) < len(real):
            raise StudyError(f"{self.data}: no validation part, and too few groups of real pairs to hold one back; "
                             "give the data set one (val/images, val/masks)")
        return np.setdiff1d(real, back), np.sort(back)


# ---- one training ----


class Keeper:
    """Watches a training: checks Dice on validation pictures every so often and keeps the weights where the mean
    of the last checks was best."""

    def __init__(self, val, steps, checks):
        self.images, self.masks = val
        self.at = sorted({max(1, round(steps * (i + 1) / checks)) for i in range(checks)})
        self.seen, self.best, self.step, self.state = [], -1.0, 0, None

    def __call__(self, step, net):
        import segment_small as small
        if step not in self.at:
            return
        net.eval()
        self.seen.append(float(small.score(small.predict(net, self.images), self.masks)[0].mean()))
        net.train()
        mean = float(np.mean(self.seen[-CHECKS_AVERAGED:]))
        if len(self.seen) >= min(CHECKS_AVERAGED, len(self.at)) and mean > self.best:
            self.best, self.step = mean, step
            self.state = copy.deepcopy(net.state_dict())


def drawer(n, n_real, batch, share):
    """None: epochs over all pictures. Else in every batch round(share x batch) of the real ones, which are the
    first n_real, in epochs of their own."""
    import segment_small as small
    if share is None or n == n_real:
        return None
    real, more, k = small.Epochs(n_real), small.Epochs(n - n_real), round(share * batch)

    def draw(rng, size):
        return np.concatenate([real.draw(rng, k), n_real + more.draw(rng, size - k)])
    return draw


def train_here(a, run, arm, make, repeat, real, back):
    """What this training adds to its line."""
    import segment_arms as arms
    import segment_small as small
    images, masks = (np.delete(part, back, 0) for part in run.train)
    index = np.delete(np.arange(len(run.train[0])), back)
    x, y, n_real = arms.build(arm, images, masks, np.searchsorted(index, real), run.pairs,
                              np.random.default_rng([a.seed, repeat, 1]))
    keeper = Keeper(tuple(part[back] for part in run.train) if len(back) else run.val, a.steps, a.checks)
    net = small.train(x, y, a.steps, a.batch, a.lr, a.seed * 100003 + repeat, make=make, device=a.device,
                      change=arms.classical if arm.classical else arms.plain, watch=keeper,
                      draw=drawer(len(x), n_real, a.batch, a.share))
    net.load_state_dict(keeper.state)
    dice, iou = small.score(small.predict(net, run.test[0]), run.test[1])
    return {"pairs": len(x), "kept_step": keeper.step, "validation": round(keeper.best, 6),
            "checks": [round(v, 4) for v in keeper.seen]}, dice, iou


def train_nnunet(a, run, arm, judge, repeat, real, back):
    pairs, dice, iou = judge[run.name].score(arm, repeat, real, back)
    return {"pairs": pairs}, dice, iou


def train_one(a, run, segmenter, arm, judge, repeat):
    """What a training says: how many pairs it had, what it scored."""
    import torch
    began = time.monotonic()
    real, back = run.draw(a.real, np.random.default_rng([a.seed, repeat, 0]))
    train = train_nnunet if segmenter == NNUNET else train_here
    line, dice, iou = train(a, run, arm, judge, repeat, real, back)
    return {**line, "real": digest(real), "seconds": round(time.monotonic() - began, 1), "torch": torch.__version__,
            "device": a.device, "dice": [round(float(v), 4) for v in dice], "iou": [round(float(v), 4) for v in iou]}


# ---- the study ----


def refuse_if_other(path, line, wanted):
    for key, value in wanted.items():
        if line.get(key) != value:
            raise StudyError(f"{path}: {line['segmenter']}, {line['arm']}, repeat {line['repeat']} was made with "
                             f"{key} {line.get(key)}, now {value}; ask for the same, or choose another --out")


def chosen_arms(a, runs):
    import segment_arms as arms
    names = a.arms
    if not names:
        more = any(len(run.train[0]) > (a.real or len(run.used)) for run in runs)
        names = ["real", "classical"] + (["paste", "synthetic"] if a.pairs else []) + (["all"] if more else [])
    found = []
    for name in names:
        try:
            found += [arm for arm in arms.parse(name, a.synthetic) if arm not in found]
        except ValueError as e:
            raise StudyError(e) from e
    for arm in found:
        if (arm.paste or arm.synthetic) and not a.pairs:
            raise StudyError(f"arm {arm.name}: no --pairs given")
    return found


def stores_of(a):
    if len(a.data) == 1:
        return [(a.data[0], a.pairs)]
    if a.pairs and len(a.pairs) != len(a.data):
        raise StudyError(f"{len(a.data)} data stores, but {len(a.pairs)} stores of pairs: several runs have one each, "
                         "in the same order")
    return [(d, [p]) for d, p in zip(a.data, a.pairs)] if a.pairs else [(d, []) for d in a.data]


def settings_of(a, segmenter):
    """What shapes a training, for its line: a study that goes on must have the same."""
    both = {"real_pairs": a.real, "seed": a.seed}
    if segmenter == NNUNET:
        return {**both, "trainer": a.trainer}
    return {**both, "steps": a.steps, "batch": a.batch, "lr": a.lr, "share": a.share, "n_checks": a.checks,
            "weights": a.weights if segmenter != "unet-small" else "none"}


def judges(a, runs):
    """What trains each segmenter: a function that makes its net; of nnU-Net what works on each run."""
    import segment_nets as nets
    import segment_nnunet as nnunet
    made = {}
    for segmenter in a.segmenters:
        if segmenter == NNUNET:
            folder = os.path.splitext(a.out)[0] + ".nnunet"
            made[segmenter] = {run.name: nnunet.Nnunet(run, os.path.join(folder, run.name), a.meddiff, a.number,
                                                       a.trainer, a.device) for run in runs}
            for judge in made[segmenter].values():
                judge.check()
        elif segmenter in nets.NAMES:
            made[segmenter] = nets.make(segmenter, runs[0].size, a.weights)
        else:
            raise StudyError(f"no segmenter is called {segmenter!r}; there are {', '.join(nets.NAMES)}, {NNUNET}")
    return made


def plan(a, runs, chosen, results):
    """Every training that is asked for: (repeat, run, segmenter, arm, what its line must say, its line or None)."""
    from segment_nnunet import suits
    found = []
    for repeat in range(a.first - 1, a.repeats):
        run = runs[repeat % len(runs)]
        for segmenter in a.segmenters:
            for arm in chosen:
                if segmenter == NNUNET and not suits(arm):
                    continue
                wanted = {**settings_of(a, segmenter), "run": run.name, "test": run.test_name,
                          "made_from": run.pairs_name(max(arm.paste, arm.synthetic))}
                line = results.find(segmenter, arm.name, repeat)
                if line:
                    refuse_if_other(a.out, line, wanted)
                found.append((repeat, run, segmenter, arm, wanted, line))
    return found


def study(a):
    """Makes what is missing of the study and returns its lines."""
    import segment_arms as arms
    import torch
    if a.device == "auto":
        a.device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(a.threads)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    runs = [Run(*stores) for stores in stores_of(a)]
    if len({run.name for run in runs}) < len(runs):
        raise StudyError("--data: two stores hold the same pictures and the same real pairs; several runs want "
                         "imports with different seeds")
    chosen = chosen_arms(a, runs)
    for arm in chosen:  # before the first training: are all pairs there?
        for run in runs:
            arms.check(arm, run.pairs)
    if a.epochs:  # of the largest arm, so that the number of steps does not hang on which arms are asked for
        largest = (a.real or max(len(run.used) for run in runs)) + max(a.synthetic, default=0)
        a.steps = a.epochs * -(-largest // a.batch)
    judge = judges(a, runs)
    if a.preset == "paper" and runs[0].size != (512, 512):
        say(f"the paper's pictures are 512 x 512, these {runs[0].size[0]} x {runs[0].size[1]}")
    if a.pairs and a.real and any(a.real < len(run.used) for run in runs):
        say(f"the generator has seen more real pairs than the {a.real} of each repeat")
    results = Results(a.out)
    asked = plan(a, runs, chosen, results)
    todo = [part[:5] for part in asked if part[5] is None]
    say(f"{len(asked)} trainings of {a.steps} steps, {len(asked) - len(todo)} of them done")
    began = time.monotonic()
    for i, (repeat, run, segmenter, arm, wanted) in enumerate(todo):
        line = train_one(a, run, segmenter, arm, judge[segmenter], repeat)
        results.add({"segmenter": segmenter, "arm": arm.name, "repeat": repeat, **wanted, **line})
        left = (time.monotonic() - began) / (i + 1) * (len(todo) - i - 1)
        say(f"repeat {repeat + 1}/{a.repeats} {segmenter} {arm.name}: {line['pairs']} pairs, Dice "
            f"{100 * np.mean(line['dice']):.2f}; {len(todo) - i - 1} to go, about {left / 60:.0f} min")
    return [results.find(segmenter, arm.name, repeat) for repeat, _, segmenter, arm, _, _ in asked]


def say(text):
    print(text, file=sys.stderr, flush=True)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def words(text):
        return [word for word in text.split(",") if word]

    def numbers(text):
        return [int(word) for word in words(text)]

    p.add_argument("--data", nargs="+", default=[], metavar="data.h5")
    p.add_argument("--pairs", nargs="+", default=[], metavar="pairs.h5")
    p.add_argument("--arms", type=words, help="real, all, classical, paste[-N], synthetic[-N], shuffled, joined by + "
                   "within an arm, by commas between arms; default: real,classical,paste,synthetic,all, as far as "
                   "there are stores for them")
    p.add_argument("--segmenters", type=words, help="unet-small, upernet, deeplabv3plus, upernet-swin, nnunet")
    p.add_argument("--synthetic", type=numbers, metavar="N,N", help="numbers of synthetic pairs, each an arm")
    p.add_argument("--real", type=int, default=0, metavar="N", help="real pairs in a repeat; default: the run's")
    p.add_argument("--share", type=float, help="share of real pairs in every batch beside others; default: epochs "
                   "over both together")
    p.add_argument("--repeats", type=int)
    p.add_argument("--first", type=int, default=1, metavar="N", help="begin with the Nth repeat")
    length = p.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="optimizer steps, in every arm")
    length.add_argument("--epochs", type=int, help="instead: epochs over real and the most --synthetic pairs")
    p.add_argument("--batch", type=int)
    p.add_argument("--lr", type=float)
    p.add_argument("--checks", type=int, default=20, help="validations in a training; default 20")
    p.add_argument("--weights", choices=("none", "imagenet"), help="what the library's encoders start from")
    p.add_argument("--preset", choices=tuple(PRESETS), default="tiny",
                   help="values for what is not given: " + "; ".join(
                       f"{name}: " + ", ".join(f"{k} {v}" for k, v in preset.items() if v != "")
                       for name, preset in PRESETS.items()))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--meddiff", default="build/meddiff", help="nnunet: the program, which exports for it")
    p.add_argument("--trainer", default="nnUNetTrainer", help="nnunet: its class of trainers, which holds the epochs")
    p.add_argument("--number", type=int, default=500, help="nnunet: number of its data set")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--out", default="segment.jsonl", help="results; default segment.jsonl")
    p.add_argument("--table", nargs="+", metavar="RESULTS", help="only print the table of these files")
    a = p.parse_args()
    preset = dict(PRESETS[a.preset])
    if a.steps is not None or a.epochs is not None:
        preset.pop("steps", None)
        preset.pop("epochs", None)
    for key, value in preset.items():
        if getattr(a, key) is None:
            setattr(a, key, numbers(value) if key == "synthetic" else words(value) if key == "segmenters" else value)
    if not a.table and not a.data:
        p.error("--data is missing: the data.h5 of a run")
    for key in ("repeats", "first", "batch", "checks", "threads"):
        if getattr(a, key) < 1:
            p.error(f"--{key} is at least 1")
    if a.first > a.repeats:
        p.error(f"--first {a.first} is beyond --repeats {a.repeats}")
    if (a.steps if a.epochs is None else a.epochs) < 1 or a.real < 0 or min(a.synthetic, default=1) < 1:
        p.error("--steps, --epochs, --real and --synthetic are numbers above 0")
    if a.share is not None and not 0 < a.share < 1:
        p.error("--share is between 0 and 1")
    return a


def main():
    a = arguments()
    try:
        if a.table:
            lines = [line for path in a.table for line in read_lines(path)]
        else:
            try:
                import h5py  # noqa: F401
                import torch  # noqa: F401
            except ImportError as e:
                say(f"segment: {e}; apt-get install python3-h5py python3-torch, or pip install h5py torch")
                return 77
            lines = study(a)
        if not lines:
            raise StudyError("no results yet")
    except (OSError, KeyError, StudyError) as e:
        say(f"segment: {e}")
        return 2
    except Exception as e:
        if type(e).__name__ not in ("StoreError", "MissingPackage", "NnunetError"):
            raise
        say(f"segment: {e}")
        return 2
    print(stats.table(lines))
    print("\n" + "\n".join(stats.remarks(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
