#!/usr/bin/env python3
"""Does diffusers open a single file that meddiff wrote, and is it the model it should be?

    python3 tests/golden/check_single.py FILE FOLDER      (the same model as a folder in diffusers' layout)

Every release: diffusers' own conversion of the names gives each part's very tensors. Releases whose
from_single_file takes a folder of configs (0.29 on): the pipeline from the file samples the same image. Ends
with 1 and the first difference otherwise, with 77 without the libraries.
"""
import json
import os
import sys

try:
    import diffusers
    import torch
    from diffusers.loaders import single_file_utils
    from safetensors.torch import load_file
except ImportError as e:
    print("skipped: %s" % e)
    sys.exit(77)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_folder import PARTS, load, sample  # noqa: E402

TEXT = "cond_stage_model.transformer."


def config(folder, part):
    with open(os.path.join(folder, part, "config.json")) as f:
        c = json.load(f)
    if isinstance(c.get("layers_per_block"), list):
        c["layers_per_block"] = c["layers_per_block"][0]
    return c


def convert(part, state, folder):
    if part == "unet":
        return single_file_utils.convert_ldm_unet_checkpoint(dict(state), config(folder, part))
    if part == "vae":
        return single_file_utils.convert_ldm_vae_checkpoint(dict(state), config(folder, part))
    return {k[len(TEXT):]: v for k, v in state.items() if k.startswith(TEXT)}


def flat(name):
    """Newer transformers leave text_model. out."""
    return name[len("text_model."):] if name.startswith("text_model.") else name


def main():
    file, folder = sys.argv[1:]
    torch.set_num_threads(1)
    pipe, state = load(folder), load_file(file)
    for part in PARTS:
        want = {flat(k): v for k, v in getattr(pipe, part).state_dict().items() if not k.endswith("position_ids")}
        got = {flat(k): v for k, v in convert(part, state, folder).items()}
        if got.keys() != want.keys():
            return "%s: names differ: %s" % (part, sorted(got.keys() ^ want.keys())[:4])
        for key in want:
            if got[key].shape != want[key].shape or not torch.equal(got[key].float(), want[key].float()):
                return "%s: %s differs" % (part, key)
    if tuple(map(int, diffusers.__version__.split(".")[:2])) < (0, 29):
        print("names and tensors are the same; diffusers %s opens no file by a folder of configs" % diffusers.__version__)
        return 0
    single = diffusers.StableDiffusionPipeline.from_single_file(file, config=folder, local_files_only=True,
                                                                safety_checker=None)
    single.scheduler = pipe.scheduler
    a, b = sample(single), sample(pipe)
    if not (abs(a - b) <= 1e-6).all():
        return "samples differ by %g" % abs(a - b).max()
    print("the pipeline of diffusers %s samples the same" % diffusers.__version__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
