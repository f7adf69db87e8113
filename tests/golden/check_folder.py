#!/usr/bin/env python3
"""Does diffusers open a folder that meddiff wrote, and is it the model it should be?

    python3 tests/golden/check_folder.py FOLDER ORIGINAL      (two foundation folders)
    python3 tests/golden/check_folder.py --probe              (0: libraries at hand, 77: not)

Loads both with StableDiffusionPipeline.from_pretrained; every weight, every config value that shapes the
model, the tokenizer's ids and the schedule must be equal, and a short sampling run must be too. Ends with 1
and the first difference otherwise.
"""
import sys

try:
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging
except ImportError as e:
    print("skipped: %s" % e)
    sys.exit(77)

PARTS = ("vae", "unet", "text_encoder")


def load(folder):
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True,
                                                   low_cpu_mem_usage=False)


def sample(pipe):
    """Two steps with guidance from fixed noise, as an image."""
    noise = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    pipe.set_progress_bar_config(disable=True)
    return pipe("skin lesion", height=16, width=16, num_inference_steps=2, guidance_scale=3.0,
                latents=noise, output_type="np").images


def main():
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    ours, theirs = load(sys.argv[1]), load(sys.argv[2])
    for part in PARTS:
        a, b = getattr(ours, part).state_dict(), getattr(theirs, part).state_dict()
        if a.keys() != b.keys():
            return "%s: keys differ: %s" % (part, sorted(a.keys() ^ b.keys())[:4])
        for key in a:
            if a[key].dtype != b[key].dtype or not torch.equal(a[key], b[key]):
                return "%s: %s differs" % (part, key)
    text = "a skin lesion, ultrasound"
    if ours.tokenizer(text).input_ids != theirs.tokenizer(text).input_ids:
        return "the tokenizers differ"
    if not torch.equal(ours.scheduler.alphas_cumprod, theirs.scheduler.alphas_cumprod):
        return "the schedules differ"
    if ours.vae.config.scaling_factor != theirs.vae.config.scaling_factor:
        return "vae: scaling_factor differs"
    if ours.vae_scale_factor != theirs.vae_scale_factor:
        return "the pipelines' scale factors differ"
    theirs.scheduler = ours.scheduler  # we write DDIM, whatever the original names
    a, b = sample(ours), sample(theirs)
    if not (abs(a - b) <= 1e-6).all():
        return "samples differ by %g" % abs(a - b).max()
    return 0


if __name__ == "__main__":
    sys.exit(0 if sys.argv[1:] == ["--probe"] else main())
