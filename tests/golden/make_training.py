#!/usr/bin/env python3
"""Twenty training steps of the small foundation in sd/ as a PyTorch loop does them, from pixels on: VAE
latents, masks, noise, every kind of loss, AdamW. Independent of src/: the loop follows the published equations
and diffusers' training scripts; the draws follow base/rng.h (Philox) and train/denoise_draw.c.

    python3 tests/golden/make_training.py          (rewrites tests/golden/training; wants peft, 0.10.0 was tried)

losses.safetensors: loss and gradient norm before clipping of each step, per case.
<case>.<part>.safetensors, but for "nine", whose model is larger: what the steps changed in each parameter,
divided by the learning rate, in f16 (2e-4 of a tensor's change; f32 where a few numbers would average less).
lora.start.safetensors: adapters of rank 2, alpha 3 in every linear layer and convolution of the UNet before
the first step; B is not zero, so that A has gradients.
Computed in double. AdamW's eps is ten times what f32 rounds these gradients by.
"""
import os

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

import make_models
from make_models import HERE, VERSIONS

STEPS, SIZE, EDGE, SHRINK, PICTURES, CLASS_PICTURES = 20, 32, 8, 4, 4, 3
SEED, PROMPT, CLASS_PROMPT = 5, "an image of hta", "an image"
LR, BETAS, EPS, DECAY, CLIP = 1e-3, (0.9, 0.999), 1e-7, 0.01, 1.0
ORDER, NOISE, TIMESTEP, AUGMENT, POSTERIOR = 1, 2, 3, 4, 5  # purposes

# Everything that a case changes; the defaults are those of keys.def.
PLAIN = dict(batch=3, target="epsilon", weight="one", prediction="epsilon", area_norm=True, outside=0.0,
             drop=0.0, offset=0.0, mask_out=False, background=False, text=False, prior=0.0, ema=0.0, lr="constant",
             warmup=0, unet="sd", lora=False)
CASES = {
    "masked": dict(drop=0.3, lr="cosine", warmup=3),
    "x0": dict(target="x0"),
    "min_snr": dict(weight="min-snr"),
    "mask_out": dict(mask_out=True),
    "released": dict(outside=1.0, area_norm=False, offset=0.1, background=True, weight="snr"),
    "velocity": dict(prediction="v", target="v", weight="min-snr", lr="linear"),
    "text": dict(text=True, drop=0.2, batch=4, ema=0.9),
    "prior": dict(prior=0.7, batch=2, target="x0"),
    "lora": dict(lora=True, drop=0.3),
    "nine": dict(prior=0.5, batch=2, unet="unet9"),
}


class Philox:
    """Philox4x32-10 keyed as md_rng_at does it."""

    def __init__(self, purpose, item, attempt=0):
        self.key = (SEED & 0xFFFFFFFF, SEED >> 32)
        self.rest = (item & 0xFFFFFFFF, item >> 32, attempt ^ (purpose << 24))
        self.block, self.words = 0, []

    def next_block(self):
        c, k = [self.block, *self.rest], list(self.key)
        for _ in range(10):
            a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        self.block += 1
        return c

    def u64(self):
        if len(self.words) < 2:
            self.words = self.next_block()
        hi, lo, self.words = self.words[0], self.words[1], self.words[2:]
        return hi << 32 | lo

    def uniform(self):
        return (self.u64() >> 11) * 2.0**-53

    def below(self, n):
        while n > 1:
            x = self.u64()
            if x < (2**64 - 1) - (2**64 - 1) % n:
                return x % n
        return 0

    def normal(self):
        radius = np.sqrt(-2 * np.log(1 - self.uniform()))
        return radius * np.cos(2 * np.pi * self.uniform())

    def fill(self, *shape):
        """f32 normals in the order of memory: [h,w,C], returned as [C,h,w]."""
        words = np.array([w for _ in range(-(-int(np.prod(shape)) // 4)) for w in self.next_block()], np.float64)
        radius, turn = np.sqrt(-2 * np.log((words[0::2] + 0.5) * 2.0**-32)), 2 * np.pi * words[1::2] * 2.0**-32
        v = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1).reshape(-1)[:int(np.prod(shape))]
        return torch.tensor(v.astype(np.float32).reshape(shape)).double().permute(2, 0, 1)


def ordered(n, index, stream):
    r, order = Philox(ORDER, index // n, stream), list(range(n))
    for i in range(index % n + 1):
        k = i + r.below(n - i)
        order[i], order[k] = order[k], order[i]
    return order[index % n]


def picture(i):
    """The same in tests/train/test_training.c; the last picture has no lesion."""
    y, x, c = np.meshgrid(np.arange(SIZE), np.arange(SIZE), np.arange(3), indexing="ij")
    rgb = (5 * x * (c + 1) + 3 * y * (i + 2) + x * y * (i + c) // 16 + 40 * c) % 256
    y, x = y[..., 0], x[..., 0]
    mask = (x - 9 - 4 * (i % 4))**2 + (y - 20 + 3 * (i % 4))**2 < (5 + i % 4)**2
    return rgb.astype(np.uint8), mask & (i % 4 != 3)


def grown(mask, radius):
    y, x = np.mgrid[:SIZE, :SIZE]
    out = np.zeros_like(mask)
    for v, u in zip(*np.nonzero(mask)):
        out |= (y - v)**2 + (x - u)**2 <= radius * radius
    return out


class Data:
    """Moments [rows,2C,h,w], of the pictures and of them without what is painted (gray: an inpainting UNet sees
    it), and masks [rows,1,h,w]; row = 2 picture + mirrored, class pictures behind."""

    def __init__(self, case, vae):
        pixels, masks = [], []
        for i in range(PICTURES):
            rgb, mask = picture(i)
            region = ~grown(mask, 2) if case["background"] else mask
            if case["mask_out"]:
                rgb[~region] = 255
            pixels += [rgb, rgb[:, ::-1]]
            masks += [region, region[:, ::-1]]
        for i in range(CLASS_PICTURES):
            rgb = picture(10 + i)[0]
            pixels += [rgb, rgb[:, ::-1]]
            masks += [np.ones_like(rgb[..., 0], bool)] * 2
        gray = [np.where(m[..., None], 127.5, p) for p, m in zip(pixels, masks)]

        def encode(x):
            x = torch.tensor(np.stack(x).astype(np.float64) / 127.5 - 1).permute(0, 3, 1, 2)
            with torch.no_grad():
                return vae.encode(x).latent_dist.parameters

        self.moments, self.without = encode(pixels), encode(gray)
        m = torch.tensor(np.stack(masks).astype(np.float64))[:, None]
        self.masks = torch.nn.functional.avg_pool2d(m, SHRINK)
        self.scaling = vae.config.scaling_factor

    def latent(self, moments, r):
        mean, logvar = moments.chunk(2)
        return self.scaling * (mean + (0.5 * logvar.clamp(-30, 20)).exp() * r.fill(EDGE, EDGE, 4))


def samples(case, step, data, abar):
    """The lesion samples of a step, then the class samples."""
    rows = []
    for prior in [False] * case["batch"] + [True] * (case["batch"] if case["prior"] else 0):
        index = step * case["batch"] + len(rows) % case["batch"]
        stream = 16 if prior else 0
        image = PICTURES + ordered(CLASS_PICTURES, index, stream) if prior else ordered(PICTURES, index, stream)
        r = Philox(AUGMENT, index, stream)
        row = 2 * image + r.below(2)
        drop = r.uniform() < case["drop"] and not prior
        t = Philox(TIMESTEP, index, stream).below(1000)
        z, without = (data.latent(moments[row], Philox(POSTERIOR, index, stream + i))
                      for i, moments in enumerate((data.moments, data.without)))
        e = Philox(NOISE, index, stream).fill(EDGE, EDGE, 4)
        if case["offset"]:
            r = Philox(NOISE, index, stream + 1)
            e = e + torch.tensor([case["offset"] * r.normal() for _ in range(4)])[:, None, None]
        rows.append(dict(z=z, e=e, t=t, abar=abar[t], mask=data.masks[row], without=without, prior=prior,
                         text="class" if prior else "empty" if drop else "prompt"))
    return rows


def weight_of(case, abar):
    snr, target = abar / (1 - abar), case["target"]
    if case["weight"] == "min-snr":  # Hang et al. 2023; v as in diffusers
        return min(snr, 5) / {"epsilon": snr, "x0": 1, "v": snr + 1}[target]
    return snr if case["weight"] == "snr" else 1


def loss_of(case, unet, encode, batch):
    a = torch.stack([s["abar"] for s in batch]).sqrt()[:, None, None, None]
    b = (1 - a * a).sqrt()
    z, e = torch.stack([s["z"] for s in batch]), torch.stack([s["e"] for s in batch])
    x = a * z + b * e
    seen = x
    if unet.config.in_channels == 9:
        seen = torch.cat([x, torch.stack([s["mask"] for s in batch]), torch.stack([s["without"] for s in batch])], 1)
    out = unet(seen, torch.tensor([s["t"] for s in batch]), encode([s["text"] for s in batch])).sample
    truth = {"epsilon": e, "x0": z, "v": a * e - b * z}
    if case["prediction"] == "epsilon":
        guess = {"epsilon": out, "x0": (x - b * out) / a}
    else:
        guess = {"v": out}
    squares = (guess[case["target"]] - truth[case["target"]])**2
    native = (out - truth[case["prediction"]])**2
    counted = sum(1 for s in batch if not s["prior"] and (s["mask"].sum() > 0 or case["outside"]))
    total = 0
    for i, s in enumerate(batch):
        if s["prior"]:
            total = total + case["prior"] * native[i].mean() / case["batch"]
            continue
        map_ = s["mask"]**2 + case["outside"] * (1 - s["mask"])
        area = 4 * max((s["mask"]**2).sum(), 1) if case["area_norm"] else squares[i].numel()
        if s["mask"].sum() > 0 or case["outside"]:
            total = total + weight_of(case, s["abar"]) * (map_ * squares[i]).sum() / area / counted
    return total


def rate(case, step):
    """torch.optim.lr_scheduler's and diffusers' schedules as src/train/lr.h counts steps."""
    warmup = case["warmup"]
    if step < warmup:
        return LR * (step + 1) / (warmup + 1)
    at = (step - warmup) / (STEPS - warmup - 1)
    return LR * {"constant": 1, "linear": 1 - at, "cosine": 0.5 * (1 + np.cos(np.pi * at))}[case["lr"]]


def load(kind, part, folder="sd"):
    return kind.from_pretrained(os.path.join(HERE, folder, part)).double().train()


def adapt(unet):
    """Adapters under names without peft's "default"; the rest of the UNet stays as it is."""
    layers = [k for k, m in unet.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=2, lora_alpha=3, target_modules=layers))
    adapters = {k.replace(".default", ""): p for k, p in unet.named_parameters() if p.requires_grad}
    assert len(adapters) == 2 * len(layers)
    gen = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for k, p in adapters.items():
            noise = torch.randn(p.shape, generator=gen) * (0.3 if "lora_A" in k else 0.05)
            p.copy_(noise.float())
    return adapters


def train(case):
    unet, vae = load(UNet2DConditionModel, "unet", case["unet"]), load(AutoencoderKL, "vae")
    text = load(CLIPTextModel, "text_encoder")
    for model in (unet, vae):
        for module in model.modules():
            if hasattr(module, "upcast_softmax"):
                module.upcast_softmax = False
    tokenizer = CLIPTokenizer.from_pretrained(os.path.join(HERE, "sd", "tokenizer"))
    prompts = {"prompt": PROMPT, "empty": "", "class": CLASS_PROMPT}
    ids = {k: tokenizer(p, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids[0]
           for k, p in prompts.items()}
    with torch.no_grad():
        fixed = {k: text(v[None])[0][0] for k, v in ids.items()}

    def encode(kinds):
        return text(torch.stack([ids[k] for k in kinds]))[0] if case["text"] else torch.stack([fixed[k] for k in kinds])

    models = {"unet": unet, "text_encoder": text} if case["text"] else {"unet": unet}
    parameters = {part: dict(m.named_parameters()) for part, m in models.items()}
    if case["lora"]:
        parameters = {"unet": adapt(unet)}
    named = {part + "/" + k: p for part, own in parameters.items() for k, p in own.items()}
    start = {k: p.detach().clone() for k, p in named.items()}
    average = {k: p.clone() for k, p in start.items()}
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)**2, 0)
    optimizer = torch.optim.AdamW(named.values(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    data, losses, norms = Data(case, vae), [], []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate(case, step)
        optimizer.zero_grad()
        loss = loss_of(case, unet, encode, samples(case, step, data, abar))
        if torch.is_tensor(loss):
            loss.backward()
        else:  # no sample has a lesion
            for p in named.values():
                p.grad = torch.zeros_like(p)
        norms.append(float(torch.nn.utils.clip_grad_norm_(named.values(), CLIP)))
        losses.append(float(loss))
        optimizer.step()
        decay = min(case["ema"], (2 + step) / (11 + step))
        for k, p in named.items():
            average[k] = decay * average[k] + (1 - decay) * p.detach()
    result = {part: {k: p.detach() - start[part + "/" + k] for k, p in own.items()}
              for part, own in parameters.items()}
    if case["ema"]:
        result["average"] = {k[5:]: v - start[k] for k, v in average.items() if k.startswith("unet/")}
    return losses, norms, result, {k[5:]: v for k, v in start.items()} if case["lora"] else None


def main():
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # the text encoder's causal mask is made in the default type
    make_models.time_embedding_in_double()
    make_models.plain_bmm()
    out = os.path.join(HERE, "training")
    os.makedirs(out, exist_ok=True)
    meta = {**VERSIONS, "command": "python3 tests/golden/make_training.py"}
    courses = {}
    for name, changes in CASES.items():
        losses, norms, parts, start = train({**PLAIN, **changes})
        courses[name + ".loss"], courses[name + ".norm"] = torch.tensor(losses).float(), torch.tensor(norms).float()
        for part, change in parts.items() if name != "nine" else ():
            flat = {k: (v / LR).to(torch.half if v.numel() > 64 else torch.float).contiguous().clone()
                    for k, v in change.items()}
            save_file(flat, os.path.join(out, "%s.%s.safetensors" % (name, part)), metadata=meta)
        if start:
            save_file({k: v.float().contiguous().clone() for k, v in start.items()},
                      os.path.join(out, name + ".start.safetensors"), metadata=meta)
        print(name, np.array(losses).round(4), np.array(norms).round(3))
    save_file(courses, os.path.join(out, "losses.safetensors"), metadata=meta)
    for name in os.listdir(out):
        os.chmod(os.path.join(out, name), 0o644)


if __name__ == "__main__":
    main()
