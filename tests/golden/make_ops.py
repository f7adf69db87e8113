#!/usr/bin/python3
"""Writes tests/golden/ops/*.safetensors: PyTorch's results for the rows of tests/ops that name one.

    /usr/bin/python3 tests/golden/make_ops.py        (Debian 12: python3-torch 1.13)

Tensors of a row NAME: NAME.in.I (inputs in the row's order and in our layout: NHWC, weights OHWI),
NAME.out (the op's first output), NAME.w (random) and NAME.grad.I, the gradients of sum(w * out).
Inputs are f32 numbers; PyTorch computes in f64; results are rounded to f32.
update.safetensors holds steps of torch.optim.AdamW and an EMA, see adamw().
"""
import json
import math
import os
import struct

import numpy
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))


def save(name, tensors):
    header = {"__metadata__": {"torch": str(torch.__version__), "command": "tests/golden/make_ops.py"}}
    blobs, at = [], 0
    for key, t in tensors.items():
        kind = "I32" if t.dtype in (torch.int64, torch.int32) else "F32"
        blob = t.detach().numpy().astype("<i4" if kind == "I32" else "<f4").tobytes()
        header[key] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(HERE, "ops", name + ".safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float32).double()


class Family:
    def __init__(self, name):
        self.name, self.tensors = name, {}
        torch.manual_seed(sum(name.encode()))

    def row(self, name, f, *inputs, grad=True):
        inputs = [x.requires_grad_(grad) if x.is_floating_point() else x for x in inputs]
        y = f(*inputs)
        for i, x in enumerate(inputs):
            self.tensors[f"{name}.in.{i}"] = x
        self.tensors[name + ".out"] = y
        if not grad:
            return
        w = randn(*y.shape)
        (y * w).sum().backward()
        self.tensors[name + ".w"] = w
        for i, x in enumerate(inputs):
            if x.is_floating_point():
                self.tensors[f"{name}.grad.{i}"] = x.grad

    def save(self):
        save(self.name, self.tensors)


def elementwise():
    f = Family("elementwise")
    f.row("add", lambda a, b: a + b, randn(2, 3, 5, 7), randn(2, 3, 5, 7))
    f.row("add_time", lambda a, b: a + b, randn(2, 3, 5, 7), randn(2, 1, 1, 7))
    f.row("sub", lambda a, b: a - b, randn(2, 3, 5, 7), randn(7))
    f.row("mul_mask", lambda a, b: a * b, randn(2, 3, 5, 7), randn(2, 3, 5, 1))
    f.row("affine", lambda x: -2.5 * x + 0.3, randn(3, 7))
    f.row("silu", F.silu, randn(3, 17))
    f.row("gelu", F.gelu, randn(3, 17))
    f.row("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x), randn(3, 17))
    f.row("exp", torch.exp, randn(3, 17))
    f.row("clamp", lambda x: x.clamp(-0.5, 0.7), randn(3, 17))

    def geglu(x):  # diffusers, models/activations.py
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate)

    f.row("geglu", geglu, randn(2, 5, 14))
    f.save()


def reduce():
    f = Family("reduce")
    f.row("sum_to_c", lambda x: x.sum((0, 1, 2)), randn(2, 3, 5, 7))
    f.row("sum", lambda x: x.sum().reshape(1), randn(2, 3, 5, 7))
    f.row("sum_to_nc", lambda x: x.sum((1, 2), keepdim=True), randn(2, 3, 5, 7))
    f.row("sumsq", lambda x: (x * x).sum().reshape(1), randn(2, 33, 17), grad=False)
    f.save()


def linear():
    f = Family("linear")
    f.row("linear", F.linear, randn(2, 5, 7), randn(11, 7), randn(11))
    f.row("linear_no_bias", F.linear, randn(2, 5, 7), randn(11, 7))
    f.row("matmul", lambda a, b: a @ b, randn(5, 7), randn(7, 3))
    f.row("matmul_ta", lambda a, b: a.T @ b, randn(7, 5), randn(7, 3))
    f.row("matmul_tb", lambda a, b: a @ b.T, randn(5, 7), randn(3, 7))
    f.row("matmul_tatb", lambda a, b: a.T @ b.T, randn(7, 5), randn(3, 7))
    f.save()


def conv():
    f = Family("conv")

    def conv2d(stride, top, left, bottom, right):
        def run(x, w, b=None):  # NHWC, OHWI
            x = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
            return F.conv2d(x, w.permute(0, 3, 1, 2), b, stride).permute(0, 2, 3, 1).contiguous()

        return run

    f.row("conv3x3", conv2d(1, 1, 1, 1, 1), randn(2, 5, 6, 3), randn(4, 3, 3, 3), randn(4))
    f.row("conv_down_vae", conv2d(2, 0, 0, 1, 1), randn(1, 6, 8, 3), randn(5, 3, 3, 3), randn(5))
    f.row("conv_down_unet", conv2d(2, 1, 1, 1, 1), randn(2, 6, 6, 3), randn(2, 3, 3, 3), randn(2))
    f.row("conv1x1", conv2d(1, 0, 0, 0, 0), randn(2, 3, 5, 7), randn(9, 1, 1, 7), randn(9))
    f.row("conv_odd_pads", conv2d(1, 0, 1, 2, 0), randn(1, 4, 5, 2), randn(3, 2, 3, 2), randn(3))
    f.row("patches", conv2d(4, 0, 0, 0, 0), randn(1, 8, 8, 3), randn(6, 4, 4, 3))
    f.save()


def norm():
    f = Family("norm")

    def group_norm(groups, eps, act):
        def run(x, gamma, beta):  # NHWC
            y = F.group_norm(x.permute(0, 3, 1, 2), groups, gamma, beta, eps)
            return act(y).permute(0, 2, 3, 1).contiguous()

        return run

    f.row("group_norm", group_norm(3, 1e-5, lambda y: y), randn(2, 5, 3, 6), randn(6), randn(6))
    f.row("group_norm_silu", group_norm(3, 1e-6, F.silu), randn(2, 5, 3, 6), randn(6), randn(6))
    f.row("layer_norm", lambda x, g, b: F.layer_norm(x, (7,), g, b, 1e-5), randn(2, 5, 7), randn(7), randn(7))
    f.save()


def attention():
    f = Family("attention")

    def attend(heads, scale=None, causal=False):
        def run(q, k, v):
            n, t, d = q.shape
            split = lambda x: x.reshape(n, x.shape[1], heads, d // heads).transpose(1, 2)
            logits = split(q) @ split(k).transpose(2, 3) * (scale or 1 / math.sqrt(d // heads))
            if causal:
                logits = logits + torch.full((t, t), -math.inf, dtype=q.dtype).triu(1)
            return (logits.softmax(-1) @ split(v)).transpose(1, 2).reshape(n, t, d)

        return run

    f.row("cross", attend(3), randn(2, 5, 12), randn(2, 7, 12), randn(2, 7, 12))
    f.row("self", attend(2), randn(2, 6, 8), randn(2, 6, 8), randn(2, 6, 8))
    f.row("causal", attend(2, causal=True), randn(2, 6, 8), randn(2, 6, 8), randn(2, 6, 8))
    f.row("scaled", attend(1, scale=0.3), randn(1, 4, 8), randn(1, 3, 8), randn(1, 3, 8))
    f.save()


def shape():
    f = Family("shape")
    nchw = lambda x: x.permute(0, 3, 1, 2)
    nhwc = lambda x: x.permute(0, 2, 3, 1).contiguous()
    f.row("concat", lambda a, b: torch.cat([a, b], 3), randn(2, 3, 5, 7), randn(2, 3, 5, 4))
    f.row("slice", lambda x: x[..., 2:6], randn(2, 3, 5, 7))
    f.row("pad_axis", lambda x: F.pad(x, (1, 2)), randn(2, 3, 5, 7))
    f.row("upsample2x", lambda x: nhwc(F.interpolate(nchw(x), scale_factor=2, mode="nearest")), randn(2, 3, 5, 7))
    f.row("downsum2x", lambda x: nhwc(4 * F.avg_pool2d(nchw(x), 2)), randn(2, 2, 6, 7))
    f.save()


def embed():
    f = Family("embed")
    f.row("embedding", F.embedding, torch.randint(0, 5, (2, 7)), randn(5, 3))

    def temb(dim, flip, shift):  # diffusers, models/embeddings.py, get_timestep_embedding
        def run(t):
            half = dim // 2
            exponent = -math.log(10000) * torch.arange(half, dtype=torch.float64) / (half - shift)
            emb = t[:, None] * exponent.exp()[None, :]
            emb = torch.cat([emb.sin(), emb.cos()], -1)
            return torch.cat([emb[:, half:], emb[:, :half]], -1) if flip else emb

        return run

    t = torch.tensor([0, 999, 1, 500, 37, 981, 20.5], dtype=torch.float64)
    f.row("temb_flip", temb(8, True, 0), t[:3].clone(), grad=False)
    f.row("temb_shift", temb(6, False, 1), t, grad=False)
    f.save()


def adamw():
    """Two parameters, 6 steps. Gradients G are accumulated ones, to be scaled by 1/4 before clipping
    by the global norm; some steps stay below it. NAME.init.I, then by step S: NAME.S.g.I, and after
    it NAME.S.p.I, .m.I (exp_avg), .v.I (exp_avg_sq), .e.I (EMA as diffusers' EMAModel)."""
    out = {}
    torch.manual_seed(7)
    for name, clip in (("clip", 1.0), ("free", None)):
        params = [torch.nn.Parameter(randn(17)), torch.nn.Parameter(randn(3, 5))]
        ema = [p.detach().clone() for p in params]
        opt = torch.optim.AdamW(params, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        for i, p in enumerate(params):
            out[f"{name}.init.{i}"] = p.detach().clone()
        for step in range(6):
            for i, p in enumerate(params):
                g = randn(*p.shape) * (0.3 if step % 2 else 3)
                g.view(-1)[1::4] *= 1e-7  # where AdamW's eps counts
                g.view(-1)[2::4] = 0
                g = g.float().double()
                out[f"{name}.{step}.g.{i}"] = g
                p.grad = g / 4
            if clip:
                torch.nn.utils.clip_grad_norm_(params, clip)
            opt.param_groups[0]["lr"] = 0.01 * (step + 1)
            opt.step()
            decay = min(0.9999, (1 + step) / (10 + step))
            for i, p in enumerate(params):
                ema[i].sub_((1 - decay) * (ema[i] - p.detach()))
                out[f"{name}.{step}.p.{i}"] = p.detach().clone()
                out[f"{name}.{step}.m.{i}"] = opt.state[p]["exp_avg"].clone()
                out[f"{name}.{step}.v.{i}"] = opt.state[p]["exp_avg_sq"].clone()
                out[f"{name}.{step}.e.{i}"] = ema[i].clone()
    save("update", out)


if __name__ == "__main__":
    os.makedirs(os.path.join(HERE, "ops"), exist_ok=True)
    for make in (elementwise, reduce, linear, conv, norm, attention, shape, embed, adamw):
        make()
