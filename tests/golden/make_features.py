#!/usr/bin/env python3
"""A small random DINOv2 folder with preprocessing, and what transformers makes of a few pictures.

    python3 tests/golden/make_features.py          (rewrites tests/golden/features)

expected.safetensors holds pictures of several sizes ("rgb.K", [h,w,3] bytes), their pixels after resizing and
cutting ("cut.K", by BitImageProcessor with do_rescale and do_normalize off), for one of them what goes into the
encoder ("pixels.1", NHWC), and its class token of length one ("class.K", computed in double; positions interpolated). Tried
with torch 1.13, transformers 4.39.3, Pillow 9.4.
"""
import inspect
import os
import shutil
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model
from transformers.models.dinov2 import modeling_dinov2

import make_models

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = ((20, 20), (37, 61), (61, 37), (24, 24), (9, 13), (24, 130))


def picture(rng, h, w):
    """Smooth shapes, noise and hard edges, so that every part of a filter shows."""
    y, x = np.mgrid[0:h, 0:w]
    waves = np.stack([np.sin(0.3 * (k + 1) * x + 0.2 * y + k) for k in range(3)], 2)
    a = 128 + 90 * waves + rng.normal(0, 25, (h, w, 3))
    a[h // 3:h // 2, w // 4:w // 2] = rng.integers(0, 2, 3) * 255
    return np.clip(a, 0, 255).astype(np.uint8)


def main():
    torch.set_num_threads(1)
    make_models.plain_bmm()
    folder = os.path.join(HERE, "features")
    shutil.rmtree(folder, ignore_errors=True)
    source = inspect.getsource(modeling_dinov2.Dinov2Embeddings).replace("torch.float32", "torch.float64")
    exec(compile(source, "modeling_dinov2.py", "exec"), modeling_dinov2.__dict__)
    dino = Dinov2Model(Dinov2Config(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2,
                                    image_size=12, patch_size=4, layerscale_value=1.0))
    make_models.randomize(dino, 11).save_pretrained(folder, safe_serialization=True)
    dino = dino.double().eval()
    processor = BitImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 20, "width": 20},
                                  image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    processor.save_pretrained(folder)
    rng, out = np.random.default_rng(12), {}
    for k, (h, w) in enumerate(SIZES):
        rgb = picture(rng, h, w)
        cut = processor(rgb, do_rescale=False, do_normalize=False, return_tensors="np").pixel_values[0]
        pixels = processor(rgb, return_tensors="np").pixel_values
        with torch.no_grad():
            token = dino(torch.from_numpy(pixels).double()).pooler_output[0]
        out["rgb.%d" % k] = rgb
        out["cut.%d" % k] = np.ascontiguousarray(cut.transpose(1, 2, 0)).astype(np.uint8)
        if k == 1:
            out["pixels.%d" % k] = np.ascontiguousarray(pixels[0].transpose(1, 2, 0)).astype(np.float32)
        out["class.%d" % k] = (token / token.norm()).numpy().astype(np.float32)
    versions = dict(make_models.VERSIONS, command="python3 tests/golden/make_features.py")
    save_file(out, os.path.join(folder, "expected.safetensors"), metadata=versions)
    for name in os.listdir(folder):
        os.chmod(os.path.join(folder, name), 0o644)


if __name__ == "__main__":
    sys.exit(main())
