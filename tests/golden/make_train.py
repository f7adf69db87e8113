#!/usr/bin/env python3
"""Five training steps of the small UNet in sd/unet as PyTorch does them.

    python3 tests/golden/make_train.py          (rewrites tests/golden/train)

inputs.safetensors: what each step is fed (images as NHWC), its loss, its gradient norm before clipping.
first, weights, average: AdamW's exp_avg after the first step (a tenth of the clipped gradient), and after
the last one the weights and their moving average, by parameter name.
Computed in double, stored as f32, as in make_models.py.
"""
import os

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

import make_models
from make_models import HERE, VERSIONS, nhwc

STEPS, BATCH, EDGE, TOKENS, WARMUP = 5, 3, 8, 5, 1
LR, BETAS, EPS, DECAY, CLIP, EMA = 2e-3, (0.9, 0.99), 1e-8, 0.05, 0.5, 0.9


def batch(gen, abar):
    """Noise in a latent, a mask of every kind, min-SNR weights (gamma 5), one embedding for all."""
    clean = torch.randn(BATCH, 4, EDGE, EDGE, generator=gen).double()
    noise = torch.randn(BATCH, 4, EDGE, EDGE, generator=gen).double()
    t = torch.randint(0, 1000, (BATCH,), generator=gen)
    mask = torch.rand(BATCH, 1, EDGE, EDGE, generator=gen).double()
    mask[0] = (mask[0] > 0.7).double()
    mask[1, :, :, :3] = 0
    a, b = abar[t].sqrt()[:, None, None, None], (1 - abar[t]).sqrt()[:, None, None, None]
    snr = abar[t] / (1 - abar[t])
    weight = snr.clamp(max=5) / snr
    context = torch.randn(1, TOKENS, 8, generator=gen).double().expand(BATCH, -1, -1)
    return a * clean + b * noise, noise, t, mask, weight, context


def loss_of(unet, noisy, noise, t, mask, weight, context):
    pred = unet(noisy, t, context).sample
    squares = (mask**2 * (pred - noise)**2).sum((1, 2, 3))
    return (weight * squares / (4 * (mask**2).sum((1, 2, 3)))).mean()


def main():
    make_models.time_embedding_in_double()
    make_models.plain_bmm()
    out = os.path.join(HERE, "train")
    os.makedirs(out, exist_ok=True)
    unet = UNet2DConditionModel.from_pretrained(os.path.join(HERE, "sd", "unet")).double().train()
    for module in unet.modules():
        if hasattr(module, "upcast_softmax"):
            module.upcast_softmax = False
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)**2, 0)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    average = {k: p.detach().clone() for k, p in unet.named_parameters()}
    gen = torch.Generator().manual_seed(77)
    inputs, losses, norms = {}, [], []

    def save(name, tensors):
        save_file({k: v.detach().to(torch.float32).contiguous().clone() for k, v in tensors.items()},
                  os.path.join(out, name + ".safetensors"),
                  metadata={**VERSIONS, "command": "python3 tests/golden/make_train.py"})

    for step in range(STEPS):
        noisy, noise, t, mask, weight, context = batch(gen, abar)
        for group in optimizer.param_groups:  # one step of warm-up, then a line down to 0
            group["lr"] = LR * 0.5 if step < WARMUP else LR * (1 - (step - WARMUP) / (STEPS - WARMUP - 1))
        optimizer.zero_grad()
        loss = loss_of(unet, noisy, noise, t, mask, weight, context)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(unet.parameters(), CLIP).item())
        losses.append(loss.item())
        optimizer.step()
        decay = min(EMA, (2 + step) / (11 + step))
        for k, p in unet.named_parameters():
            average[k] = decay * average[k] + (1 - decay) * p.detach()
        coef = weight / (BATCH * 4 * (mask**2).sum((1, 2, 3)))
        for k, v in {"noisy": nhwc(noisy), "noise": nhwc(noise), "t": t.double(), "map": nhwc(mask**2),
                     "coef": coef, "context": context}.items():
            inputs["%s.%d" % (k, step)] = v
        if step == 0:
            save("first", {k: optimizer.state[p]["exp_avg"] for k, p in unet.named_parameters()})
    inputs["loss"], inputs["norm"] = torch.tensor(losses), torch.tensor(norms)
    save("inputs", inputs)
    save("weights", dict(unet.named_parameters()))
    save("average", average)
    for name in os.listdir(out):
        os.chmod(os.path.join(out, name), 0o644)
    print(losses, norms)


if __name__ == "__main__":
    main()
