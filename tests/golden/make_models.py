#!/usr/bin/env python3
"""Small random models with what diffusers and transformers compute from them.

    python3 tests/golden/make_models.py          (rewrites tests/golden/{sd,unet9,clip_gelu,masks,dino})

sd/ is a whole foundation folder, written by the libraries' own save_pretrained; <part>.expected holds
inputs, the output of every block ("tap.<key>", images as NHWC), outputs, and the gradient of
sum(weight * output) with respect to every parameter ("grad.<key>").

Everything is computed in double from the f32 weights and stored as f32, so that a correct double
implementation agrees to the rounding of the stored values (6e-8 relative), not to the errors of a f32
run. Versions are noted in each file's metadata. Tried with torch 1.13, diffusers 0.27.2, transformers
4.39.3.
"""
import inspect
import json
import os
import shutil
import sys

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from diffusers.models import embeddings
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, Dinov2Config, Dinov2Model
from transformers.models.dinov2 import modeling_dinov2

HERE = os.path.dirname(os.path.abspath(__file__))
VERSIONS = {
    "torch": torch.__version__,
    "diffusers": diffusers.__version__,
    "transformers": transformers.__version__,
    "command": "python3 tests/golden/make_models.py",
}
TAPPED = {
    "ResnetBlock2D", "Attention", "Transformer2DModel", "BasicTransformerBlock", "Downsample2D",
    "Upsample2D", "Encoder", "Decoder", "DownEncoderBlock2D", "UpDecoderBlock2D", "UNetMidBlock2D",
    "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D",
    "UNetMidBlock2DCrossAttn", "TimestepEmbedding", "CLIPTextEmbeddings", "CLIPAttention", "CLIPMLP",
    "CLIPEncoderLayer", "AttnDownBlock2D", "AttnUpBlock2D", "Dinov2Embeddings", "Dinov2Attention",
    "Dinov2MLP", "Dinov2Layer",
}
TAPPED_NAMES = ("conv_in", "conv_out", "quant_conv", "post_quant_conv", "final_layer_norm", "layernorm")


def time_embedding_in_double():
    """diffusers computes the timestep's sinusoids in f32 even in a double model: 2e-7 off, which norms
    over few elements amplify. Here its own formula runs in double."""
    source = inspect.getsource(embeddings.get_timestep_embedding)
    source = source.replace("torch.float32", "torch.float64").replace(".float()", ".double()")
    exec(compile(source, "embeddings.py", "exec"), embeddings.__dict__)


def plain_bmm():
    """Debian 12's torch 1.13 leaves NaNs of uninitialised memory in small batched products of doubles;
    so they are spelled out."""
    def bmm(a, b):
        return (a[:, :, :, None] * b[:, None, :, :]).sum(2)

    def baddbmm(c, a, b, beta=1, alpha=1):
        product = alpha * bmm(a, b)
        return product if beta == 0 else beta * c + product

    torch.bmm, torch.baddbmm = bmm, baddbmm


def randomize(model, seed):
    """Library defaults leave norms at 1 and 0, which would hide a swapped weight or bias. Half of the
    usual deviation keeps the gradients of so small a model well conditioned, so that bf16 can be tested."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if p.dim() == 1:
                p.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.2 * noise)
            else:
                fan_in = p[0].numel()
                p.copy_(noise * 0.5 * (1 if "embedding.weight" in name else fan_in**-0.5))
    return model.eval()


def nhwc(t):
    return t.permute(0, 2, 3, 1) if t.dim() == 4 else t


def tap(model):
    """Records the output of every block while the model runs."""
    out = {}

    def hook(name):
        def record(_module, _args, result):
            if hasattr(result, "to_tuple"):
                result = result.to_tuple()
            out[name] = result[0] if isinstance(result, tuple) else result
        return record

    for name, module in model.named_modules():
        if type(module).__name__ in TAPPED or name.split(".")[-1] in TAPPED_NAMES:
            module.register_forward_hook(hook(name))
        if hasattr(module, "upcast_softmax"):
            module.upcast_softmax = False  # would go down to f32 here
    return out


def save(path, model, taps, tensors):
    for name, t in taps.items():
        tensors["tap." + name] = nhwc(t)
    for name, p in model.named_parameters():
        if name.endswith("mask_token"):  # of pretraining; not used
            continue
        assert p.grad is not None, name
        tensors["grad." + name] = p.grad
    flat = {k: t.detach().to(torch.int32 if t.dtype == torch.int64 else torch.float32).contiguous().clone()
            for k, t in tensors.items()}
    for k, t in flat.items():
        assert torch.isfinite(t).all(), k
    save_file(flat, path, metadata=VERSIONS)
    print("%-40s %4d tensors %7d bytes" % (os.path.relpath(path, HERE), len(flat),
                                           os.path.getsize(path)))


def make_vae(folder):
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=[4, 8, 8],
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=1, norm_num_groups=2, sample_size=16, scaling_factor=0.7)
    randomize(vae, 1).save_pretrained(os.path.join(folder, "vae"), safe_serialization=True)
    vae = vae.double()
    gen = torch.Generator().manual_seed(11)
    image = torch.rand(2, 3, 12, 16, generator=gen).double() * 2 - 1
    z = torch.randn(2, 4, 3, 4, generator=gen).double()
    w_moments = torch.randn(2, 8, 3, 4, generator=gen).double()
    w_image = torch.randn(2, 3, 12, 16, generator=gen).double()
    taps = tap(vae)
    moments = vae.encode(image).latent_dist.parameters
    decoded = vae.decode(z).sample
    ((moments * w_moments).sum() + (decoded * w_image).sum()).backward()
    save(os.path.join(folder, "vae.expected.safetensors"), vae, taps, {
        "image": nhwc(image), "z": nhwc(z), "weight.moments": nhwc(w_moments),
        "weight.image": nhwc(w_image), "moments": nhwc(moments), "decoded": nhwc(decoded)})


def make_unet(folder, name, seed, size, **config):
    unet = UNet2DConditionModel(cross_attention_dim=8, norm_num_groups=2, **config)
    randomize(unet, seed).save_pretrained(os.path.join(folder, name), safe_serialization=True)
    unet = unet.double()
    gen = torch.Generator().manual_seed(seed + 10)
    h, w = size
    sample = torch.randn(2, config["in_channels"], h, w, generator=gen).double().requires_grad_()
    context = torch.randn(2, 5, 8, generator=gen).double().requires_grad_()
    timesteps = torch.tensor([3, 501])
    weight = torch.randn(2, 4, h, w, generator=gen).double()
    taps = tap(unet)
    out = unet(sample, timesteps, context).sample
    (out * weight).sum().backward()
    save(os.path.join(folder, name + ".expected.safetensors"), unet, taps, {
        "sample": nhwc(sample), "timesteps": timesteps.float(), "context": context,
        "weight": nhwc(weight), "out": nhwc(out), "dsample": nhwc(sample.grad),
        "dcontext": context.grad})


def make_clip(folder, name, seed, act, n_vocab, **save_options):
    config = CLIPTextConfig(
        vocab_size=n_vocab, hidden_size=8, intermediate_size=20, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=77, hidden_act=act, layer_norm_eps=1e-5,
        bos_token_id=n_vocab - 2, eos_token_id=n_vocab - 1, pad_token_id=n_vocab - 1,
        projection_dim=8)
    clip = CLIPTextModel(config)
    randomize(clip, seed).save_pretrained(os.path.join(folder, name), safe_serialization=True,
                                          **save_options)
    clip = clip.double()
    gen = torch.Generator().manual_seed(seed + 10)
    ids = torch.randint(0, n_vocab - 2, (2, 9), generator=gen)
    ids[:, 0], ids[:, -2:] = n_vocab - 2, n_vocab - 1
    weight = torch.randn(2, 9, 8, generator=gen).double()
    taps = tap(clip)
    torch.set_default_dtype(torch.float64)  # the causal mask is made in the default type
    out = clip(ids).last_hidden_state
    torch.set_default_dtype(torch.float32)
    (out * weight).sum().backward()
    save(os.path.join(folder, name + ".expected.safetensors"), clip, taps,
         {"ids": ids, "weight": weight, "out": out})


def make_mask_unet(folder, seed):
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=[4, 8, 8], layers_per_block=1,
        norm_num_groups=2, attention_head_dim=4,
        down_block_types=["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"])
    randomize(unet, seed).save_pretrained(folder, safe_serialization=True)
    unet = unet.double()
    gen = torch.Generator().manual_seed(seed + 10)
    sample = torch.randn(2, 1, 8, 12, generator=gen).double().requires_grad_()
    timesteps = torch.tensor([3, 501])
    weight = torch.randn(2, 1, 8, 12, generator=gen).double()
    taps = tap(unet)
    out = unet(sample, timesteps).sample
    (out * weight).sum().backward()
    save(folder + ".expected.safetensors", unet, taps, {
        "sample": nhwc(sample), "timesteps": timesteps.float(), "weight": nhwc(weight), "out": nhwc(out),
        "dsample": nhwc(sample.grad)})


def make_dino(folder, seed):
    """An image of the size that the positions stand for (3 x 3 patches) and one that is not (4 x 5)."""
    source = inspect.getsource(modeling_dinov2.Dinov2Embeddings).replace("torch.float32", "torch.float64")
    exec(compile(source, "modeling_dinov2.py", "exec"), modeling_dinov2.__dict__)
    dino = Dinov2Model(Dinov2Config(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=12, patch_size=4,
        layerscale_value=1.0))
    randomize(dino, seed).save_pretrained(folder, safe_serialization=True)
    dino = dino.double()
    gen = torch.Generator().manual_seed(seed + 10)
    for name, h, w in (("", 12, 12), (".wide", 16, 20)):
        dino.zero_grad(set_to_none=True)
        image = torch.randn(2, 3, h, w, generator=gen).double()
        n = 1 + h * w // 16
        weight = torch.randn(2, n, 8, generator=gen).double()
        taps = tap(dino)
        out = dino(image)
        (out.last_hidden_state * weight).sum().backward()
        save(folder + name + ".expected.safetensors", dino, taps, {
            "image": nhwc(image), "weight": weight, "out": out.last_hidden_state,
            "class": out.pooler_output})


def byte_alphabet():
    """GPT-2's table from bytes to printable characters, as CLIP's tokenizer orders it."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    chars = keep[:]
    for b in range(256):
        if b not in keep:
            chars.append(256 + len(chars) - len(keep))
    return [chr(c) for c in chars]


def make_tokenizer(folder):
    """CLIP's scheme with a handful of merges; returns the size of the vocabulary."""
    path = os.path.join(folder, "tokenizer")
    os.makedirs(path, exist_ok=True)
    merges = ["s k", "sk i", "ski n</w>", "l e", "le s", "i o", "les io", "lesio n</w>"]
    alphabet = byte_alphabet()
    words = alphabet + [c + "</w>" for c in alphabet] + [m.replace(" ", "") for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    with open(os.path.join(path, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump({w: i for i, w in enumerate(words)}, f, ensure_ascii=False)
    with open(os.path.join(path, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "\n".join(merges) + "\n")
    with open(os.path.join(path, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77,
                   "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
                   "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}, f, indent=2)
    with open(os.path.join(path, "special_tokens_map.json"), "w") as f:
        json.dump({"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
                   "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}, f, indent=2)
    return len(words)


def make_index(folder):
    diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True,
        set_alpha_to_one=False, steps_offset=1).save_pretrained(os.path.join(folder, "scheduler"))
    with open(os.path.join(folder, "model_index.json"), "w") as f:
        json.dump({"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.27.2",
                   "feature_extractor": [None, None], "safety_checker": [None, None],
                   "requires_safety_checker": False,
                   "scheduler": ["diffusers", "PNDMScheduler"],
                   "text_encoder": ["transformers", "CLIPTextModel"],
                   "tokenizer": ["transformers", "CLIPTokenizer"],
                   "unet": ["diffusers", "UNet2DConditionModel"],
                   "vae": ["diffusers", "AutoencoderKL"]}, f, indent=2)


def main():
    torch.set_num_threads(1)
    time_embedding_in_double()
    plain_bmm()
    sd = os.path.join(HERE, "sd")
    for folder in ("sd", "unet9", "clip_gelu", "masks", "dino"):
        shutil.rmtree(os.path.join(HERE, folder), ignore_errors=True)
    n_vocab = make_tokenizer(sd)
    make_index(sd)
    make_vae(sd)
    make_clip(sd, "text_encoder", 2, "quick_gelu", n_vocab)
    make_unet(sd, "unet", 3, (4, 6), in_channels=4, out_channels=4, sample_size=4,
              block_out_channels=[4, 8], layers_per_block=1, attention_head_dim=2,
              down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
              up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"])
    # 9 channels, linear projections, heads per level, two layers, deeper transformers, no flip
    make_unet(os.path.join(HERE, "unet9"), "unet", 4, (8, 8), in_channels=9, out_channels=4,
              sample_size=8, block_out_channels=[4, 4, 8], layers_per_block=2,
              attention_head_dim=[1, 2, 4], use_linear_projection=True,
              transformer_layers_per_block=[1, 2, 1], flip_sin_to_cos=False, freq_shift=1,
              down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
              up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"])
    # in several files with an index, as large text encoders come
    make_clip(os.path.join(HERE, "clip_gelu"), "text_encoder", 5, "gelu", 40, max_shard_size="4KB")
    make_mask_unet(os.path.join(HERE, "masks"), 6)
    make_dino(os.path.join(HERE, "dino"), 7)
    for root, _dirs, files in os.walk(HERE):
        for f in files:
            os.chmod(os.path.join(root, f), 0o755 if f == "make_models.py" else 0o644)


if __name__ == "__main__":
    sys.exit(main())
