#!/usr/bin/env python3
"""What the released code of MedDiff-FT makes of a small data set: preprocessing for training and for
sampling, and pictures of the pinned inpainting pipeline.

    python3 tests/golden/make_reference.py          (rewrites tests/golden/reference; after make_models.py)

reference/set is a data set in plain folders with a validation part, which nothing here looks at, so that
the rest is all for training; reference/expected.safetensors is what its train.py (written
anew here, line by line: section D1 of the project's notes, diffusers' multi_subject_dreambooth_inpainting
example) and diffusers' StableDiffusionInpaintPipeline (D2, D3) compute from it at 64 x 64 with the VAE and
text encoder of tests/golden/sd and both UNets, of 4 channels there and of 9 in tests/golden/unet9. Networks run in double. The
pipeline's start noise is the program's own: Philox4x32-10 as src/base/rng.c keys it. Tried with torch 1.13,
diffusers 0.27.2, transformers 4.39.3, Pillow 9.4.
"""
import os
import shutil

import diffusers
import numpy as np
import PIL
import torch
import transformers
from diffusers import (AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline,
                       UNet2DConditionModel)
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

import make_models

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "reference")
SIZE, EDGE, SEED, STEPS, GUIDANCE = 64, 16, 12345, 50, 7.5
PROMPT = "a photo of hta"
SAMPLE_NOISE = 8  # src/base/rng.h
VERSIONS = {"torch": torch.__version__, "diffusers": diffusers.__version__,
            "transformers": transformers.__version__, "pillow": PIL.__version__,
            "command": "python3 tests/golden/make_reference.py"}


def picture(width, height, seed):
    """Waves and a little grain."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width]
    channels = [128 + 90 * np.sin(x / (5 + seed + 3 * c) + c) * np.cos(y / (9 - c) + seed)
                for c in range(3)]
    grain = rng.randint(-8, 9, (height, width, 3)) * (x[..., None] > width // 2)
    return Image.fromarray(np.clip(np.stack(channels, -1) + grain, 0, 255).astype(np.uint8))


def blob(width, height, cx, cy, rx, ry, tilt):
    y, x = np.mgrid[0:height, 0:width]
    u, v = x - cx + tilt * (y - cy), y - cy
    return Image.fromarray(np.where((u / rx) ** 2 + (v / ry) ** 2 < 1, 255, 0).astype(np.uint8))


def make_set():
    """The training pictures are wide and upright, shrunk in one direction or enlarged in both."""
    images = {"a": picture(83, 61, 1), "b": picture(40, 150, 2)}
    masks = {"a": blob(83, 61, 39, 28, 17, 11, 0.4), "b": blob(40, 150, 21, 60, 10, 33, -0.1)}
    backgrounds = {"x": picture(97, 70, 3), "y": picture(50, 45, 4)}
    others = {"images": {"c": picture(16, 16, 5)}, "masks": {"c": blob(16, 16, 8, 8, 5, 5, 0)}}
    for part, kinds in (("train", {"images": images, "masks": masks, "backgrounds": backgrounds}),
                        ("val", others)):
        for kind, pictures in kinds.items():
            folder = os.path.join(OUT, "set", part, kind)
            os.makedirs(folder)
            for name, im in pictures.items():
                im.save(os.path.join(folder, name + ".png"), optimize=True)
    return images, masks, backgrounds


def normal_fill(seed, purpose, n):
    """md_rng_normal_fill of md_rng_at(seed, purpose, item 0, attempt 0)."""
    c = [np.arange((n + 3) // 4, dtype=np.uint64)]
    c += [np.zeros_like(c[0]), np.zeros_like(c[0]), np.full_like(c[0], purpose << 24)]
    k0, k1, low = seed & 0xFFFFFFFF, seed >> 32, np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & low,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    words = np.stack(c, -1).reshape(-1, 2, 2).astype(np.float64)  # [blocks, pair, (radius, angle)]
    radius = np.sqrt(-2 * np.log((words[..., 0] + 0.5) / 2**32))
    angle = 2 * np.pi * words[..., 1] / 2**32
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    return values.reshape(-1)[:n].astype(np.float32)


def packed(values):
    """Bytes, four to an i32: the test's reader knows f32 and i32."""
    return torch.from_numpy(np.ascontiguousarray(values, np.uint8).reshape(-1).view(np.int32))


def moments(vae, image):
    """image [3,S,S] in [-1,1] -> [EDGE,EDGE,2C], as our encoder has them."""
    with torch.no_grad():
        return vae.encode(image[None].double()).latent_dist.parameters[0].permute(1, 2, 0)


def for_training(vae, image, mask, flip):
    """train.py's dataset and step, D1."""
    if flip:
        image, mask = (im.transpose(Image.FLIP_LEFT_RIGHT) for im in (image, mask))
    image, mask = (im.resize((SIZE, SIZE), Image.BILINEAR) for im in (image, mask))
    pixels = np.array(image)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    mask = torch.from_numpy(np.array(mask)).float()[None] / 255  # [1,S,S], one mask: weight 1
    mask = (mask >= 0.5).float()
    mask = (mask >= 0.5).float()
    masked = image * (mask < 0.5)
    latent_mask = torch.nn.functional.interpolate(mask[None], size=(EDGE, EDGE))[0, 0]
    return {"pixels": packed(pixels), "mask": packed(mask[0].numpy()), "latent_mask": latent_mask, "moments": moments(vae, image),
            "masked_moments": moments(vae, masked)}


def for_sampling(vae, background, mask):
    """The pipeline's preprocessing, D3. mask: already SIZE x SIZE, as our guides are."""
    images = VaeImageProcessor(vae_scale_factor=4)
    masks = VaeImageProcessor(vae_scale_factor=4, do_normalize=False, do_binarize=True,
                              do_convert_grayscale=True)
    image = images.preprocess(background, height=SIZE, width=SIZE)[0]
    mask = masks.preprocess(mask, height=SIZE, width=SIZE)[0]
    latent_mask = torch.nn.functional.interpolate(mask[None], size=(EDGE, EDGE))[0, 0]
    pixels = ((image.permute(1, 2, 0) + 1) * 127.5).round().numpy()
    return {"pixels": packed(pixels), "mask": packed(mask[0].numpy()), "latent_mask": latent_mask,
            "moments": moments(vae, image), "masked_moments": moments(vae, image * (mask < 0.5))}


def mean_latent(moments, scaling):
    return scaling * moments[..., :4].permute(2, 0, 1)[None]


def paint(pipeline, image, mask, masked_latent):
    """One picture. Latents are posteriors' means, so that there is nothing to draw but the start noise."""
    noise = torch.from_numpy(normal_fill(SEED, SAMPLE_NOISE, EDGE * EDGE * 4))
    noise = noise.reshape(1, EDGE, EDGE, 4).permute(0, 3, 1, 2).double()
    out = pipeline(prompt=PROMPT, image=image, mask_image=mask, height=SIZE, width=SIZE,
                   masked_image_latents=masked_latent, latents=noise, num_inference_steps=STEPS,
                   guidance_scale=GUIDANCE, output_type="pil").images[0]
    pixels = np.array(out)
    inner = (pixels > 0) & (pixels < 255)
    print("painted: deviation %.1f, %.0f %% not clipped" % (pixels.std(), 100 * inner.mean()))
    assert pixels.std() > 8 and inner.mean() > 0.5
    return packed(pixels)


def main():
    torch.set_num_threads(1)
    make_models.time_embedding_in_double()
    make_models.plain_bmm()
    shutil.rmtree(OUT, ignore_errors=True)
    images, masks, backgrounds = make_set()
    torch.set_default_dtype(torch.float64)  # the text encoder's causal mask is made in it
    vae = AutoencoderKL.from_pretrained(os.path.join(HERE, "sd/vae")).double()
    unets = {"9": os.path.join(HERE, "unet9/unet"), "4": os.path.join(HERE, "sd/unet")}
    text = CLIPTextModel.from_pretrained(os.path.join(HERE, "sd/text_encoder")).double()
    tokenizer = CLIPTokenizer.from_pretrained(os.path.join(HERE, "sd/tokenizer"))
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                              clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    tensors = {}
    for name, image in images.items():
        for flip in (False, True):
            for k, t in for_training(vae, image, masks[name], flip).items():
                tensors["train.%s.%d.%s" % (name, flip, k)] = t
    ids = tokenizer([PROMPT], padding="longest", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        tensors["prompt.ids"], tensors["prompt.context"] = ids, text(ids).last_hidden_state
    pipelines = {}
    for channels, folder in unets.items():
        pipelines[channels] = StableDiffusionInpaintPipeline(
            vae=vae, text_encoder=text, tokenizer=tokenizer, scheduler=scheduler,
            unet=UNet2DConditionModel.from_pretrained(folder).double(),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        pipelines[channels].set_progress_bar_config(disable=True)
    for (name, background), trained in zip(backgrounds.items(), "ab"):
        mask = tensors["train.%s.0.mask" % trained].numpy().view(np.uint8).reshape(SIZE, SIZE)
        mask = Image.fromarray(mask * 255)
        expected = for_sampling(vae, background, mask)
        masked = mean_latent(expected["masked_moments"], vae.config.scaling_factor)
        whole = mean_latent(expected["moments"], vae.config.scaling_factor)
        expected["painted9"] = paint(pipelines["9"], background, mask, masked)
        expected["painted4"] = paint(pipelines["4"], whole, mask, masked)
        for k, t in expected.items():
            tensors["sample.%s.%s" % (name, k)] = t
    flat = {}
    for k, t in tensors.items():
        whole = t.dtype in (torch.int32, torch.int64)
        flat[k] = t.detach().to(torch.int32 if whole else torch.float32).contiguous().clone()
        assert torch.isfinite(flat[k]).all(), k
    save_file(flat, os.path.join(OUT, "expected.safetensors"), metadata=VERSIONS)


if __name__ == "__main__":
    main()
