#!/usr/bin/env python3
"""Does diffusers load the adapters that meddiff wrote, with the effect that they have in meddiff?

    python3 tests/golden/check_lora.py ADAPTERS FOUNDATION MERGED
    python3 tests/golden/check_lora.py --probe              (0: libraries at hand, 77: not)

ADAPTERS: a folder with pytorch_lora_weights.safetensors; FOUNDATION: the folder that it was trained on; MERGED:
a folder with unet/ (and text_encoder/), the sums that meddiff wrote (finetune.lora_merge). The foundation with
pipe.load_lora_weights(ADAPTERS), which wants peft, must compute what the merged parts compute, and something
else than without adapters. Ends with 1 and what differs otherwise.
"""
import os
import sys

try:
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.utils import logging
    from peft import PeftModel  # noqa: F401  (diffusers loads adapters through it)
    from transformers import CLIPTextModel
except ImportError as e:
    print("skipped: %s" % e)
    sys.exit(77)

NEAR, FAR = 1e-5, 1e-3  # relative L2; f32 sums in another order, and what an adapter must do


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def unet_of(unet):
    gen = torch.Generator().manual_seed(1)
    c, edge = unet.config.in_channels, unet.config.sample_size
    x = torch.randn(2, c, edge, edge, generator=gen)
    context = torch.randn(2, 7, unet.config.cross_attention_dim, generator=gen)
    with torch.no_grad():
        return unet.eval()(x, torch.tensor([3, 700]), context).sample


def text_of(text):
    ids = torch.arange(2 * 9).reshape(2, 9)
    with torch.no_grad():
        return text.eval()(ids).last_hidden_state


def main():
    adapters, foundation, merged = sys.argv[1:4]
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    pipe = StableDiffusionPipeline.from_pretrained(foundation, safety_checker=None, local_files_only=True,
                                                   low_cpu_mem_usage=False)
    parts = {"unet": (unet_of, UNet2DConditionModel), "text_encoder": (text_of, CLIPTextModel)}
    before = {part: run(getattr(pipe, part)) for part, (run, _) in parts.items()}
    pipe.load_lora_weights(adapters, weight_name="pytorch_lora_weights.safetensors")
    for part, (run, load) in parts.items():
        after = run(getattr(pipe, part))
        folder = os.path.join(merged, part)
        if not os.path.isdir(folder):
            if not torch.equal(before[part], after):
                return "%s: adapters, but no merged weights" % part
            continue
        want = run(load.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
                   if part == "unet" else load.from_pretrained(folder, local_files_only=True))
        far, near = distance(want, before[part]), distance(after, want)
        print("%s: the adapters change %.2g of the output; diffusers' differs from ours by %.2g" % (part, far, near))
        if far < FAR:
            return "%s: the adapters change nothing" % part
        if not near < NEAR:
            return "%s: diffusers computes something else than the merged weights" % part
    return None


if __name__ == "__main__":
    if sys.argv[1:] == ["--probe"]:
        sys.exit(0)
    message = main()
    if message:
        print(message)
    sys.exit(1 if message else 0)
