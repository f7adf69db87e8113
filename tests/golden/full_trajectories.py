#!/usr/bin/env python3
"""Whole paintings against diffusers' StableDiffusionInpaintPipeline: 50 steps, guidance 7.5, f32.

    python3 tests/golden/full_trajectories.py [--program build/tests/test_generate_trajectory]
        random small models of 4 and of 9 channels; each sampler; relative errors of the latents after
        every evaluation (largest difference over largest value); fails above 1e-4
    python3 tests/golden/full_trajectories.py --golden
        rewrites tests/golden/trajectories: the models of make_models.py, diffusers in double

Our program paints first and says which noise it drew; the pipeline gets the same noise, and encodes the same
picture with its own VAE and the prompt with its own text encoder. Euler's latents are compared as the
UNet sees them, divided by sqrt(1 + sigma^2). Tried with torch 1.13, diffusers 0.27.2, transformers 4.39.3.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline, UNet2DConditionModel
from diffusers.schedulers import scheduling_ddpm
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

import make_models

HERE = os.path.dirname(os.path.abspath(__file__))
SAMPLERS = {
    "ddim": (diffusers.DDIMScheduler, {"set_alpha_to_one": False, "clip_sample": False}),
    "ddpm": (diffusers.DDPMScheduler, {"clip_sample": False}),
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
    "dpm++": (diffusers.DPMSolverMultistepScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
}
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
STEPS, KEPT, LIMIT = 50, (0, 1, 24), 1e-4


def make_folder(folder, channels):
    """A foundation with random parts: latents of 8 x 8 for pictures of 32."""
    os.makedirs(folder)
    vocabulary = make_models.make_tokenizer(folder)
    make_models.make_index(folder)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    vae = AutoencoderKL(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=[8, 16, 16],
                        layers_per_block=1, norm_num_groups=4, sample_size=32, scaling_factor=0.5, **blocks)
    text = CLIPTextModel(transformers.CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=24, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=77, hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1))
    unet = UNet2DConditionModel(
        in_channels=channels, out_channels=4, sample_size=8, block_out_channels=[16, 24, 24],
        layers_per_block=2, attention_head_dim=4, cross_attention_dim=24, norm_num_groups=4,
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"])
    for seed, (name, model) in enumerate((("vae", vae), ("text_encoder", text), ("unet", unet))):
        make_models.randomize(model, 20 + channels + seed).save_pretrained(
            os.path.join(folder, name), safe_serialization=True)


def set_scheduler(folder, sampler):
    """Gives the folder this scheduler, and returns it."""
    cls, options = SAMPLERS[sampler]
    shutil.rmtree(os.path.join(folder, "scheduler"), ignore_errors=True)
    cls(**NOISE, **options).save_pretrained(os.path.join(folder, "scheduler"))
    return cls.from_pretrained(os.path.join(folder, "scheduler"))


def use_scheduler(folder, sampler):
    """This scheduler on the folder's own file, another class's. clip_sample: DDIM's default would be on."""
    with open(os.path.join(folder, "scheduler", "scheduler_config.json"), encoding="utf-8") as f:
        return SAMPLERS[sampler][0].from_config(json.load(f), clip_sample=False)


def ours(program, folder, sampler, size):
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as f:
        subprocess.run([program, folder, sampler, str(STEPS), str(size), f.name], check=True)
        return load_file(f.name)


def open_pipeline(folder, dtype):
    part = lambda cls, name: cls.from_pretrained(os.path.join(folder, name)).to(dtype).eval()
    pipe = StableDiffusionInpaintPipeline(
        vae=part(AutoencoderKL, "vae"), text_encoder=part(CLIPTextModel, "text_encoder"),
        unet=part(UNet2DConditionModel, "unet"), tokenizer=CLIPTokenizer.from_pretrained(folder + "/tokenizer"),
        scheduler=diffusers.DDIMScheduler(**NOISE, clip_sample=False), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)  # the scheduler is replaced
    pipe.set_progress_bar_config(disable=True)
    return pipe


def encode(pipe, rgb, dtype):
    """[S,S,3] of 0..255 -> the latent: the posterior's mean, scaled."""
    x = (rgb.to(dtype) / 127.5 - 1).permute(2, 0, 1)[None]
    return pipe.vae.encode(x).latent_dist.mode() * pipe.vae.config.scaling_factor


@torch.no_grad()
def theirs(pipe, scheduler, start, dtype):
    """The latents after each evaluation, [E,h,w,C], with the noise and the picture of our painting."""
    pipe.scheduler = scheduler
    nchw = lambda t: t.permute(2, 0, 1)[None].to(dtype)
    steps = iter(nchw(s) for s in start["steps"])
    scheduling_ddpm.randn_tensor = lambda *a, **b: next(steps)
    guide = start["guide"].to(dtype)[None, None]
    masked = torch.where(start["guide"][..., None] > 0, torch.tensor(127.5), start["background"])
    out = []

    def keep(pipe, i, t, tensors):
        x = tensors["latents"]
        if isinstance(scheduler, diffusers.EulerDiscreteScheduler):
            x = x / (scheduler.sigmas[i + 1].to(dtype) ** 2 + 1) ** 0.5
        out.append(x[0].permute(1, 2, 0))
        return {}

    size = guide.shape[-1]
    pipe(prompt="an image of hta", image=encode(pipe, start["background"], dtype), mask_image=guide,
         masked_image_latents=encode(pipe, masked, dtype), height=size, width=size, strength=1.0,
         num_inference_steps=STEPS, guidance_scale=7.5, latents=nchw(start["noise"]),
         output_type="latent", callback_on_step_end=keep)
    return torch.stack(out)


def relative_errors(a, b):
    """One number for each evaluation."""
    a, b = a.double().flatten(1), b.double().flatten(1)
    assert a.shape == b.shape, (a.shape, b.shape)
    return ((a - b).abs().max(1).values / b.abs().max(1).values).tolist()


def check(program):
    worst = 0.0
    print("%-10s %-7s %11s %12s %12s %12s" % ("pipeline", "sampler", "evaluations", "worst", "last", "largest"))
    with tempfile.TemporaryDirectory() as root:
        for channels in (4, 9):
            folder = os.path.join(root, str(channels))
            make_folder(folder, channels)
            pipe = open_pipeline(folder, torch.float32)
            for sampler in SAMPLERS:
                scheduler = set_scheduler(folder, sampler)
                us = ours(program, folder, sampler, 32)
                them = theirs(pipe, scheduler, us, torch.float32)
                errors = relative_errors(us["latents"], them)
                worst = max([worst] + errors) if all(e == e for e in errors) else float("nan")
                print("%-10s %-7s %11d %12.2e %12.2e %12.4g" % (
                    "%d channels" % channels, sampler, len(errors), max(errors), errors[-1],
                    them[-1].abs().max()), flush=True)
    print("worst %.2e, at most %g is wanted" % (worst, LIMIT))
    return not worst <= LIMIT


def write_golden(program):
    make_models.time_embedding_in_double()
    os.makedirs(os.path.join(HERE, "trajectories"), exist_ok=True)
    with tempfile.TemporaryDirectory() as root:
        for channels in (4, 9):
            folder = os.path.join(root, str(channels))
            shutil.copytree(os.path.join(HERE, "sd"), folder)
            if channels == 9:
                shutil.rmtree(os.path.join(folder, "unet"))
                shutil.copytree(os.path.join(HERE, "unet9", "unet"), os.path.join(folder, "unet"))
            torch.set_default_dtype(torch.float64)  # the causal mask is made in the default type
            pipe, tensors = open_pipeline(folder, torch.float64), {}
            for sampler in SAMPLERS:
                us = ours(program, folder, sampler, 32)
                them = theirs(pipe, use_scheduler(folder, sampler), us, torch.float64)
                print(channels, sampler, len(them), "%.2e" % max(relative_errors(us["latents"], them)))
                for k in (*KEPT, len(them) - 1):
                    tensors["%s.%d" % (sampler, k)] = them[k].float().contiguous()
            torch.set_default_dtype(torch.float32)
            path = os.path.join(HERE, "trajectories", "%d.safetensors" % channels)
            save_file(tensors, path, metadata=dict(
                make_models.VERSIONS, command="python3 tests/golden/full_trajectories.py --golden"))
            os.chmod(path, 0o644)
            print(path, os.path.getsize(path), "bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="build/tests/test_generate_trajectory")
    parser.add_argument("--golden", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    make_models.plain_bmm()
    return write_golden(options.program) if options.golden else check(options.program)


if __name__ == "__main__":
    sys.exit(main())
