"""nnU-Net as a segmenter of segment.py: the run is exported once with all real pairs, planned and preprocessed once,
and every training is a fold of its own, whose training cases are the arm's and whose validation cases are those
of the other segmenters. nnU-Net's own commands do the work, in DIR/{raw,preprocessed,results}; it augments by
itself, brings its own loss and schedule, equal in all arms, and draws without our seed."""
import json
import math
import os
import shutil
import subprocess

import meddiff_data
import numpy as np

CONFIGURATION = "2d"
COMMANDS = ("nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict", "nnUNetv2_evaluate_simple")


class NnunetError(Exception):
    """A command is missing or failed; the message says which."""


def suits(arm):
    """Pasted lesions and shuffled masks are in no store that could be exported."""
    return not (arm.classical or arm.paste or arm.shuffled)


class Nnunet:
    """nnU-Net on one run. number: NNN of its Dataset; trainer: one of nnU-Net's classes; meddiff: the program."""

    def __init__(self, run, folder, meddiff="build/meddiff", number=500, trainer="nnUNetTrainer", device="cuda"):
        self.run, self.folder, self.meddiff = run, os.path.abspath(folder), meddiff
        self.number, self.trainer, self.device = number, trainer, device
        self.name = f"Dataset{number:03d}_study"
        self.raw, self.preprocessed, self.results = (os.path.join(self.folder, part)
                                                     for part in ("raw", "preprocessed", "results"))

    def check(self):
        for command in (*COMMANDS, self.meddiff):
            if not shutil.which(command):
                raise NnunetError(f"nnunet: {command} is not there; " + (
                    "--meddiff names the program" if command == self.meddiff else "pip install nnunetv2"))
        where = {os.path.dirname(os.path.abspath(store)) for store in [self.run.data, *self.run.pairs]}
        if len(self.run.pairs) != 1 or len(where) != 1:
            raise NnunetError(f"nnunet: {self.run.data} and one pairs.h5 must lie in one run directory, which is "
                              "exported")
        self.directory = where.pop()

    def call(self, *command):
        environment = {**os.environ, "nnUNet_raw": self.raw, "nnUNet_preprocessed": self.preprocessed,
                       "nnUNet_results": self.results}
        log = os.path.join(self.folder, "log.txt")
        with open(log, "ab") as out:
            out.write(("\n$ " + " ".join(command) + "\n").encode())
            out.flush()
            code = subprocess.run(command, env=environment, stdout=out, stderr=out, check=False).returncode
        if code:
            raise NnunetError(f"nnunet: {command[0]} ended with {code}; its last words are in {log}")

    def prepare(self):
        done = os.path.join(self.folder, "prepared")
        if os.path.exists(done):
            return
        for folder in (self.raw, self.preprocessed, self.results):
            os.makedirs(folder, exist_ok=True)
        if not os.path.exists(os.path.join(self.raw, self.name)):
            self.call(self.meddiff, "export", self.directory, "--set", "export.format=nnunet", "--set",
                      f"export.to={self.raw}", "--set", "export.real=all", "--set", f"export.number={self.number}",
                      "--set", "export.name=study")
        self.call("nnUNetv2_plan_and_preprocess", "-d", str(self.number), "-c", CONFIGURATION,
                  "--verify_dataset_integrity")
        open(done, "w", encoding="utf-8").close()

    def fold_of(self, name, train, val):
        """The number of the fold called `name`, which is added to those that nnU-Net reads."""
        path, splits = (os.path.join(self.folder, "folds.json"),
                        os.path.join(self.preprocessed, self.name, "splits_final.json"))
        folds = []
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                folds = json.load(f)
        if name not in [fold["name"] for fold in folds]:
            folds.append({"name": name, "train": train, "val": val})
            write_json(path, folds)
        write_json(splits, [{"train": fold["train"], "val": fold["val"]} for fold in folds])
        return [fold["name"] for fold in folds].index(name)

    def cases(self, arm, real, back):
        """Names of the training and of the validation cases, as the export has them."""
        rows = self.run.rows
        kept = np.setdiff1d(np.arange(len(rows["train"])), back) if arm.all else real
        train = [f"real-{row:06d}" for row in rows["train"][kept]]
        train += [f"pair-{slot:06d}" for slot in meddiff_data.rows(self.run.pairs[0])[:arm.synthetic]]
        return train, [f"real-{row:06d}" for row in (rows["train"][back] if len(back) else rows["val"])]

    def score(self, arm, repeat, real, back):
        """Trains, predicts the test part and returns the number of training cases, Dice and IoU of each."""
        self.prepare()
        train, val = self.cases(arm, real, back)
        fold = str(self.fold_of(f"{arm.name}, repeat {repeat}", train, val))
        data = os.path.join(self.raw, self.name)
        to = os.path.join(self.folder, "predicted", fold)
        on = [str(self.number), CONFIGURATION, fold, "-tr", self.trainer, "-device", self.device]
        begun = os.path.join(self.results, self.name, f"{self.trainer}__nnUNetPlans__{CONFIGURATION}",
                             f"fold_{fold}", "checkpoint_latest.pth")
        self.call("nnUNetv2_train", *on, *(["--c"] if os.path.exists(begun) else []))
        self.call("nnUNetv2_predict", "-i", os.path.join(data, "imagesTs"), "-o", to, "-d", str(self.number), "-c",
                  CONFIGURATION, "-f", fold, "-tr", self.trainer, "-chk", "checkpoint_best.pth", "-device", self.device)
        self.call("nnUNetv2_evaluate_simple", os.path.join(data, "labelsTs"), to, "-l", "1")
        dice, iou = read_summary(os.path.join(to, "summary.json"))
        if len(dice) != len(self.run.test[0]):
            raise NnunetError(f"{to}: {len(dice)} predictions of {len(self.run.test[0])} test pictures")
        return len(train), dice, iou


def write_json(path, value):
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(value, f)
    os.replace(path + ".part", path)


def read_summary(path):
    """Dice and IoU of each case in the order of their names; two empty masks agree (nnU-Net says nan)."""
    with open(path, encoding="utf-8") as f:
        cases = sorted(json.load(f)["metric_per_case"], key=lambda case: os.path.basename(case["prediction_file"]))
    return ([1.0 if math.isnan(case["metrics"]["1"][what]) else float(case["metrics"]["1"][what]) for case in cases]
            for what in ("Dice", "IoU"))
