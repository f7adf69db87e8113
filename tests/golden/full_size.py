#!/usr/bin/env python3
"""Stable Diffusion 1.5 at full size against diffusers and transformers, with random weights.

    python3 tests/golden/full_size.py [--size tiny] [--dir DIR] [--rows text,unet4] [--dtypes f32]

Builds the published configurations with the libraries, draws their weights, and writes two foundation
folders as the libraries do: the UNet of 4 channels and that of 9. Then each side, a process of its own and
one after the other, computes every row: text encoder, VAE encoder (moments) and decoder, both UNets with
the gradient of sum(weight * out) for every parameter. Prints relative L2 differences and PASS or FAIL:

    f32    ours against PyTorch's f64 (UNets at full size: f32): at most 1e-5 for an output, 1e-4 for each gradient
    bf16   ours against the same: no more than PyTorch's own bf16 against it

Exit code 0, 1 after a FAIL, 77 without the libraries. Full size needs 25 GB of disk, 12 GB of memory and some
ten minutes of two cores. --size tiny: the same levels and layers with narrow channels and a short text
encoder.
"""
import argparse
import gc
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROMPTS, TOKENS = 32, 77
# Row: folder, part of it, argument of the C program
ROWS = {"text": ("sd15", "text_encoder", "text"), "encode": ("sd15", "vae", "encode"),
        "decode": ("sd15", "vae", "decode"), "unet4": ("sd15", "unet", "unet"),
        "unet9": ("sd15-inpainting", "unet", "unet")}
NARROW = {
    "unet": {"block_out_channels": [8, 16, 32, 32], "attention_head_dim": 2, "norm_num_groups": 4,
             "cross_attention_dim": 24, "sample_size": 16},
    "vae": {"block_out_channels": [8, 16, 32, 32], "norm_num_groups": 4, "sample_size": 64},
    "text_encoder": {"hidden_size": 24, "intermediate_size": 96, "num_attention_heads": 3,
                     "num_hidden_layers": 3, "projection_dim": 24, "vocab_size": 1000}}
EDGE = {"full": 64, "tiny": 16}  # of the latent
TIMESTEPS = {"full": [501], "tiny": [501, 3, 981, 250]}  # one sample each; several, so that one's luck counts less
OUTPUT_LIMIT, GRADIENT_LIMIT = 1e-5, 1e-4


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--size", choices=EDGE, default="full")
    p.add_argument("--dir", help="folder to work in, kept; by default a temporary one")
    p.add_argument("--program", default=os.path.join(ROOT, "build/tests/golden/full_size"),
                   help="tests/golden/full_size.c, built (%(default)s)")
    p.add_argument("--rows", default=",".join(ROWS), help="of %(default)s")
    p.add_argument("--dtypes", default="f32,bf16", help="of %(default)s")
    p.add_argument("--bf16-python", default=sys.executable, metavar="PYTHON",
                   help="interpreter whose PyTorch computes in bf16 (this one); before 2.0 it does so wrongly")
    p.add_argument("--oracle", choices=("f32", "f64"),
                   help="PyTorch's type (f64, but f32 for the UNet at full size, whose gradients take 7 GB in f64)")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--no-gradients", action="store_true", help="outputs alone")
    p.add_argument("--round-convolutions", action="store_true",
                   help="PyTorch's bf16 convolutions in f32 of bf16 operands, rounded once, and their gradients so too: "
                   "no less precise than its own, and minutes where those take an hour without bf16 instructions")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    a = p.parse_args()
    for name, known in (("rows", ROWS), ("dtypes", ("f32", "bf16"))):
        for word in getattr(a, name).split(","):
            if word not in known:
                p.error("--%s: %s is none of %s" % (name, word, ", ".join(known)))
    return a


# ---- PyTorch's side: each function runs in a process of its own


def library_class(part):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel
    return {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}[part]


def config_of(a, part, **more):
    with open(os.path.join(HERE, "published", "sd15-%s.json" % part)) as f:
        c = json.load(f)
    if a.size == "tiny":
        c.update(NARROW[part])
    return dict(c, **more)


def draw_model(a, folder, part, seed, **more):
    """Random weights, so that every one counts (make_models.randomize); attention as peaked as a trained
    one's, where half of the usual deviation would leave it flat."""
    import torch
    from make_models import randomize
    from transformers import CLIPTextConfig
    c = config_of(a, part, **more)
    cls = library_class(part)
    model = cls(CLIPTextConfig(**c)) if part == "text_encoder" else cls.from_config(c)
    randomize(model, seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1 and any(k in name for k in ("to_q.", "to_k.", "q_proj.", "k_proj.")):
                p.mul_(3)
    model.save_pretrained(os.path.join(folder, part), safe_serialization=True)


def draw_inputs(a, folder):
    import torch
    from safetensors.torch import save_file
    gen = torch.Generator().manual_seed(7)
    edge, n, vocab = EDGE[a.size], len(TIMESTEPS[a.size]), config_of(a, "text_encoder")["vocab_size"]
    width = config_of(a, "unet")["cross_attention_dim"]

    def normal(*shape):
        return torch.randn(*shape, generator=gen)

    rows = {"text": {"ids": torch.randint(0, vocab, (PROMPTS, TOKENS), generator=gen).int()},
            "encode": {"image": torch.rand(1, 8 * edge, 8 * edge, 3, generator=gen) * 2 - 1},
            "decode": {"z": normal(1, edge, edge, 4)}}
    for row, channels in (("unet4", 4), ("unet9", 9)):
        rows[row] = {"sample": normal(n, edge, edge, channels), "timesteps": torch.tensor(TIMESTEPS[a.size]).float(),
                     "context": normal(n, TOKENS, width), "weight": normal(n, edge, edge, 4)}
    os.makedirs(folder, exist_ok=True)
    for row, tensors in rows.items():
        save_file(tensors, os.path.join(folder, row + ".safetensors"))


def make(a):
    sd, inpainting = (os.path.join(a.dir, d) for d in ("sd15", "sd15-inpainting"))
    for folder in (sd, inpainting):  # of a run that was cut off
        shutil.rmtree(folder, ignore_errors=True)
    draw_model(a, sd, "text_encoder", 1)
    draw_model(a, sd, "vae", 2)
    draw_model(a, sd, "unet", 3)
    draw_model(a, inpainting, "unet", 4, in_channels=9)
    shutil.copytree(os.path.join(ROOT, "tests/format/tokenizer"), os.path.join(sd, "tokenizer"))
    for name in ("scheduler", "model_index.json"):
        source = os.path.join(HERE, "sd", name)
        (shutil.copytree if os.path.isdir(source) else shutil.copy)(source, os.path.join(sd, name))
    for name in ("tokenizer", "scheduler", "model_index.json", "text_encoder", "vae"):
        os.symlink(os.path.join("..", "sd15", name), os.path.join(inpainting, name))
    draw_inputs(a, os.path.join(a.dir, "in"))


def forward(row, model, given, dtype):
    """The row's output, images as NHWC."""
    x = {k: v.permute(0, 3, 1, 2).to(dtype) if v.dim() == 4 else v for k, v in given.items()}
    if row == "text":
        return model(input_ids=x["ids"].long()).last_hidden_state
    if row == "encode":
        out = model.quant_conv(model.encoder(x["image"]))
    elif row == "decode":
        out = model.decode(x["z"]).sample
    else:
        out = model(x["sample"], given["timesteps"], given["context"].to(dtype)).sample
    return out.permute(0, 2, 3, 1)


def round_convolutions():
    """PyTorch's own round once too in the output and the weight's gradient, and more often in the input's."""
    import torch

    def rounded(self, x, weight, bias):
        bias = None if bias is None else bias.float()
        return torch.nn.functional.conv2d(x.float(), weight.float(), bias, self.stride, self.padding, self.dilation,
                                          self.groups).to(x.dtype)

    torch.nn.Conv2d._conv_forward = rounded


def compute(a, row, dtype_name):
    import torch
    from safetensors.torch import load_file, save_file
    import make_models
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f64": torch.float64}[dtype_name]
    if dtype_name == "f64":
        make_models.time_embedding_in_double()
        if a.size == "tiny":  # at full size it would take the memory of all products
            make_models.plain_bmm()
    if dtype_name == "bf16" and a.round_convolutions:
        round_convolutions()
    folder, part, _ = ROWS[row]
    model = library_class(part).from_pretrained(os.path.join(a.dir, folder, part), torch_dtype=dtype)
    given = load_file(os.path.join(a.dir, "in", row + ".safetensors"))
    gradients = "weight" in given and not a.no_gradients
    model.train(gradients).requires_grad_(gradients)
    if gradients:
        model.enable_gradient_checkpointing()
    torch.set_default_dtype(dtype)  # the text encoder's causal mask is made in the default type
    begin = time.perf_counter()
    with torch.set_grad_enabled(gradients):
        out = forward(row, model, given, dtype)
        if gradients:
            (out.to(torch.float32 if dtype_name == "bf16" else dtype) * given["weight"]).sum().backward()
    seconds = time.perf_counter() - begin

    def keep(t):
        t = t.detach().to(torch.float64 if dtype_name == "f64" else torch.float32)
        if not torch.isfinite(t).all():
            raise RuntimeError("%s: PyTorch's result in %s is not finite" % (row, dtype_name))
        return t.contiguous()

    save_file({"out": keep(out)}, result(a, row, "torch-" + dtype_name))
    if gradients:
        kept = {name: p.grad for name, p in model.named_parameters()}
        del model, out
        gc.collect()
        kept = {name: keep(kept.pop(name)) for name in list(kept)}
        save_file(kept, result(a, row, "torch-" + dtype_name, "grad"))
    return seconds


def work(a, task, *arguments):
    import diffusers
    import torch
    diffusers.utils.logging.set_verbosity_error()  # it would praise accelerate
    torch.set_num_threads(a.threads)
    return task(a, *arguments)


# ---- running and comparing


def oracle(a, row):
    return a.oracle or ("f32" if a.size == "full" and row.startswith("unet") else "f64")


def has_gradients(a, row):
    return row.startswith("unet") and not a.no_gradients


def result(a, row, side, what="out"):
    return os.path.join(a.dir, "%s.%s.%s.safetensors" % (row, side, what))


def last_line(a, command):
    """Runs it; its last line of output."""
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout).strip().splitlines() or ["ended with %d" % done.returncode]
        raise RuntimeError("%s: %s" % (os.path.basename(command[0]), said[-1]))
    return (done.stdout.strip().splitlines() or [""])[-1]


def in_child(a, task, *arguments):
    """A fork has the libraries already, and gives its memory back."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, (a, task) + arguments)


def run_torch(a, row, dtype):
    if dtype == "bf16" and a.bf16_python != sys.executable:
        return float(last_line(a, [a.bf16_python, os.path.abspath(__file__), "--size", a.size, "--dir", a.dir,
                                   "--threads", str(a.threads), "--worker", row + "," + dtype]
                               + a.no_gradients * ["--no-gradients"]
                               + a.round_convolutions * ["--round-convolutions"]))
    return in_child(a, compute, row, dtype)


def run_ours(a, row, dtype):
    folder, _, part = ROWS[row]
    command = [a.program, os.path.join(a.dir, folder), part, dtype,
               os.path.join(a.dir, "in", row + ".safetensors"), result(a, row, "ours-" + dtype)]
    if has_gradients(a, row):
        command.append(result(a, row, "ours-" + dtype, "grad"))
    return float(last_line(a, command))


def differences(a, row, side, what):
    """Relative L2 difference from the oracle by tensor, and that of all tensors as one vector."""
    import numpy
    from safetensors import safe_open
    out, total, norm = {}, 0.0, 0.0
    with safe_open(result(a, row, side, what), "numpy") as got, \
            safe_open(result(a, row, "torch-" + oracle(a, row), what), "numpy") as want:
        if set(got.keys()) != set(want.keys()):
            sys.exit("%s: other tensors than the oracle's" % result(a, row, side, what))
        for name in want.keys():
            x, y = (numpy.asarray(f.get_tensor(name), numpy.float64) for f in (got, want))
            if x.shape != y.shape and x.size == y.size:  # a 1x1 convolution that is a linear layer
                x = x.reshape(y.shape)
            d, n = ((x - y) ** 2).sum(), (y ** 2).sum()
            out[name] = (d / n) ** 0.5
            total, norm = total + d, norm + n
    return out, (total / norm) ** 0.5


def report(row, dtype, what, value, limit, note):
    ok = value <= limit  # not for NaN
    print("%-7s %-5s %-10s %9.2e   at most %9.2e  %s  %s" % (row, dtype, what, value, limit,
                                                            "PASS" if ok else "FAIL", note), flush=True)
    return ok


def compare_f32(a, row, note):
    _, value = differences(a, row, "ours-f32", "out")
    ok = report(row, "f32", "output", value, OUTPUT_LIMIT, note)
    if has_gradients(a, row):
        each, _ = differences(a, row, "ours-f32", "grad")
        worst = max(each, key=each.get)
        over = sum(not v <= GRADIENT_LIMIT for v in each.values())
        ok &= report(row, "f32", "gradients", each[worst], GRADIENT_LIMIT,
                     "%d tensors, %d over; worst %s" % (len(each), over, worst))
    return ok


def compare_bf16(a, row, note):
    ok = True
    for what, name in (("out", "output"), ("grad", "gradients")):
        if what == "out" or has_gradients(a, row):
            value, own = (differences(a, row, side + "-bf16", what)[1] for side in ("ours", "torch"))
            ok &= report(row, "bf16", name, value, own, note if what == "out" else "all as one vector")
    return ok


def compare(a, row):
    ok = True
    oracle_s = run_torch(a, row, oracle(a, row))
    for dtype in a.dtypes.split(","):
        ours_s = run_ours(a, row, dtype)
        torch_s = run_torch(a, row, "bf16") if dtype == "bf16" else oracle_s
        note = "%.2f s, PyTorch %.2f s" % (ours_s, torch_s)
        ok &= (compare_bf16 if dtype == "bf16" else compare_f32)(a, row, note)
    for name in os.listdir(a.dir):
        if name.startswith(row + "."):
            os.remove(os.path.join(a.dir, name))
    return ok


def need_libraries():
    try:
        import diffusers
        import safetensors
        import torch
        import transformers
    except Exception as e:  # also a library that another one does not fit
        print("skipped: %s" % (str(e).strip().splitlines() or [repr(e)])[0])
        sys.exit(77)
    return "torch %s, diffusers %s, transformers %s" % (torch.__version__, diffusers.__version__,
                                                        transformers.__version__)


def main():
    a = arguments()
    if a.worker:
        print(work(a, compute, *a.worker.split(",")))
        return 0
    versions = need_libraries()
    temporary = None if a.dir else tempfile.TemporaryDirectory()
    a.dir = os.path.abspath(a.dir or temporary.name)
    if "bf16" in a.dtypes and a.bf16_python == sys.executable and versions.startswith("torch 1."):
        print("bf16 is left out: this PyTorch computes it wrongly on a processor; see --bf16-python")
        a.dtypes = "f32"
    print("%s, %d threads; %s" % (a.size, a.threads, versions), flush=True)
    if not os.path.exists(os.path.join(a.dir, "in")):
        in_child(a, make)
    ok = all([compare(a, row) for row in a.rows.split(",")])
    print("PASS" if ok else "FAIL")
    return 0 if ok else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as e:
        sys.exit("full_size.py: %s" % e)
