#!/usr/bin/env python3
"""Training steps of LoRA adapters in the small UNet of sd/unet, as peft and PyTorch do them.

    python3 tests/golden/make_lora.py          (rewrites tests/golden/lora; wants peft 0.10.0)

Every linear layer and convolution has an adapter of rank 2, alpha 3. The steps are fed what
make_train.py fed to the whole UNet (train/inputs.safetensors); losses.safetensors holds what came of it.
start, first, end: the adapters at the start (B is not zero here), AdamW's exp_avg after the first step (a
tenth of the clipped gradient), and the adapters after the last one, by name without peft's "default".
Computed in double, stored as f32; the start is rounded to f32 first.
"""
import os

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, __version__ as peft_version
from safetensors.torch import save_file

import make_models
from make_models import HERE, VERSIONS
from make_train import BETAS, CLIP, DECAY, EPS, LR, STEPS, WARMUP, batch, loss_of

RANK, ALPHA = 2, 3


def main():
    make_models.time_embedding_in_double()
    make_models.plain_bmm()
    out = os.path.join(HERE, "lora")
    os.makedirs(out, exist_ok=True)
    unet = UNet2DConditionModel.from_pretrained(os.path.join(HERE, "sd", "unet"))
    layers = [k for k, m in unet.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
    torch.manual_seed(5)
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, init_lora_weights="gaussian", target_modules=layers))
    adapters = {k.replace(".default", ""): p for k, p in unet.named_parameters() if p.requires_grad}
    assert len(adapters) == 2 * len(layers)
    for k, p in adapters.items():
        torch.nn.init.normal_(p, std=0.3 if "lora_A" in k else 0.05)
    unet = unet.double().train()
    adapters = {k.replace(".default", ""): p for k, p in unet.named_parameters() if p.requires_grad}
    for module in unet.modules():
        if hasattr(module, "upcast_softmax"):
            module.upcast_softmax = False
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)**2, 0)
    optimizer = torch.optim.AdamW(adapters.values(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    gen = torch.Generator().manual_seed(77)
    losses, norms = [], []

    def save(name, tensors):
        save_file({k: v.detach().to(torch.float32).contiguous().clone() for k, v in tensors.items()},
                  os.path.join(out, name + ".safetensors"),
                  metadata={**VERSIONS, "peft": peft_version, "command": "python3 tests/golden/make_lora.py"})

    save("start", adapters)
    for step in range(STEPS):
        sample = batch(gen, abar)
        for group in optimizer.param_groups:
            group["lr"] = LR * 0.5 if step < WARMUP else LR * (1 - (step - WARMUP) / (STEPS - WARMUP - 1))
        optimizer.zero_grad()
        loss = loss_of(unet, *sample)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(adapters.values(), CLIP).item())
        losses.append(loss.item())
        optimizer.step()
        if step == 0:
            save("first", {k: optimizer.state[p]["exp_avg"] for k, p in adapters.items()})
    save("end", adapters)
    save("losses", {"loss": torch.tensor(losses), "norm": torch.tensor(norms)})
    for name in os.listdir(out):
        os.chmod(os.path.join(out, name), 0o644)
    print(len(layers), "layers", losses, norms)


if __name__ == "__main__":
    main()
