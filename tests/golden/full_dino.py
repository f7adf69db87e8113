#!/usr/bin/env python3
"""DINOv2 at full size against transformers, with random weights: from the pixels to the class token.

    python3 tests/golden/full_dino.py [--sizes small,base,large] [--crops 224,518] [--dtypes f32,bf16] [--dir DIR]

Builds the published configuration, draws its weights, writes the folder as transformers does (with a
preprocessor_config.json of the given crop; 518 is what the position embeddings stand for, every other one is
interpolated), and lets both sides encode the same pictures, one of them no square. Prints for each row the
largest difference of a class token of length one from PyTorch's f64 and PASS or FAIL: f32 at most 1e-5, bf16 no more
than PyTorch's own bf16 (left out before torch 2.0, which computes it wrongly), and of the preprocessed pixels:
at most one grey level. Exit code 0, 1 after a FAIL, 77 without the libraries. --sizes tiny: the same layers, narrow
and short.
"""
import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NARROW = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3}
PICTURES = ((512, 512), (300, 451), (128, 128))
LIMIT = 1e-5


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", default="small,base", help="of tiny, small, base, large (%(default)s)")
    p.add_argument("--crops", default="224,518", help="pixels (%(default)s)")
    p.add_argument("--dtypes", default="f32,bf16", help="of %(default)s")
    p.add_argument("--dir", help="folder to work in, kept; by default a temporary one")
    p.add_argument("--program", default=os.path.join(ROOT, "build/tests/golden/full_dino"),
                   help="tests/golden/full_dino.c, built (%(default)s)")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    return p.parse_args()


def make(a, size, folder):
    """A folder as transformers writes it, every weight with a say (make_models.randomize)."""
    import torch
    from make_models import randomize
    from transformers import Dinov2Config, Dinov2Model
    with open(os.path.join(HERE, "published", "dinov2-%s.json" % ("small" if size == "tiny" else size))) as f:
        c = json.load(f)
    if size == "tiny":
        c.update(NARROW)
    model = randomize(Dinov2Model(Dinov2Config(**c)), 5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lambda1" in name:
                p.add_(1)
            elif p.dim() > 1 and ("query" in name or "key" in name):
                p.mul_(3)  # attention as peaked as a trained one's
    model.save_pretrained(folder, safe_serialization=True)


def processor_of(crop):
    from transformers import BitImageProcessor
    return BitImageProcessor(size={"shortest_edge": max(256, crop)}, crop_size={"height": crop, "width": crop},
                             image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])


def encode(folder, pictures, crop, dtype):
    """(pixels [n,crop,crop,3] of 0..255, class tokens of length one [n,D])"""
    import numpy as np
    import torch
    from transformers import Dinov2Model
    processor = processor_of(crop)
    raw = [processor(p, do_rescale=False, do_normalize=False, return_tensors="np").pixel_values[0] for p in pictures]
    model = Dinov2Model.from_pretrained(folder, torch_dtype=dtype).eval()
    tokens = []
    for p in pictures:
        with torch.no_grad():
            x = processor(p, return_tensors="pt").pixel_values
            token = model(x.to(dtype)).pooler_output[0].double()
        tokens.append((token / token.norm()).numpy())
    return np.stack(raw).transpose(0, 2, 3, 1), np.stack(tokens)


def run_ours(a, folder, dtype):
    from safetensors.numpy import load_file
    out = os.path.join(a.dir, "out.safetensors")
    command = [a.program, folder, dtype, os.path.join(a.dir, "pictures.safetensors"), out]
    subprocess.run(command, env=dict(os.environ, OMP_NUM_THREADS=str(a.threads)), check=True)
    got = load_file(out)
    return got["pixels"], got["class"]


def furthest(got, want):
    return max(((got - want) ** 2).sum(1) ** 0.5)


def report(row, what, value, limit):
    ok = value <= limit  # not for NaN
    print("%-14s %-8s %9.2e   at most %9.2e  %s" % (row, what, value, limit, "PASS" if ok else "FAIL"), flush=True)
    return ok


def compare(a, size, crop, pictures):
    import numpy as np
    import torch
    folder, row, ok = os.path.join(a.dir, size), "%s at %d" % (size, crop), True
    processor_of(crop).save_pretrained(folder)
    pixels, want = encode(folder, pictures, crop, torch.float64)
    for dtype in a.dtypes.split(","):
        cut, got = run_ours(a, folder, dtype)
        limit = LIMIT
        if dtype == "f32":
            ok &= report(row, "pixels", np.abs(cut - pixels).max(), 1)
        else:
            limit = furthest(encode(folder, pictures, crop, torch.bfloat16)[1], want)
        ok &= report(row, dtype, furthest(got, want), limit)
    return ok


def need_libraries():
    try:
        import safetensors
        import torch
        import transformers
        from transformers.models.dinov2 import modeling_dinov2
        import make_models
    except Exception as e:  # also a library that another one does not fit
        print("skipped: %s" % (str(e).strip().splitlines() or [repr(e)])[0])
        sys.exit(77)
    # positions are interpolated in f32 there, even in a double model
    source = inspect.getsource(modeling_dinov2.Dinov2Embeddings).replace("torch.float32", "torch.float64")
    exec(compile(source, "modeling_dinov2.py", "exec"), modeling_dinov2.__dict__)
    return "torch %s, transformers %s, safetensors %s" % (torch.__version__, transformers.__version__,
                                                          safetensors.__version__)


def main():
    a = arguments()
    versions = need_libraries()
    import numpy as np
    import torch
    import make_features
    from safetensors.numpy import save_file
    temporary = None if a.dir else tempfile.TemporaryDirectory()
    a.dir = os.path.abspath(a.dir or temporary.name)
    os.makedirs(a.dir, exist_ok=True)
    if torch.__version__.startswith("1.") and "bf16" in a.dtypes:
        print("bf16 is left out: this PyTorch computes it wrongly on a processor")
        a.dtypes = "f32"
    print(versions)
    torch.set_num_threads(a.threads)
    rng = np.random.default_rng(1)
    pictures = [make_features.picture(rng, h, w) for h, w in PICTURES]
    save_file({str(k): p for k, p in enumerate(pictures)}, os.path.join(a.dir, "pictures.safetensors"))
    ok = True
    for size in a.sizes.split(","):
        make(a, size, os.path.join(a.dir, size))
        for crop in a.crops.split(","):
            ok &= compare(a, size, int(crop), pictures)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
