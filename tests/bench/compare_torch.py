#!/usr/bin/env python3
"""meddiff against PyTorch: the same models, shapes, type and threads, random weights, alternating.

    python3 tests/bench/compare_torch.py --device cpu|cuda [--size tiny|sd15] [--dtype f32|bf16]
        [--rows unet,train,paint,encode,decode,text] [--meddiff build/meddiff]

Run it in the root of the tree. Needs torch >= 2.0, diffusers and transformers; without them it ends with 77
and one line. On a machine without a network, diffusers can come as a wheel (with importlib_metadata, which
it imports): tried are torch 2.11, diffusers 0.42.1, transformers 5.17.

What PyTorch runs: diffusers' UNet2DConditionModel and AutoencoderKL and transformers' CLIPTextModel,
channels_last, scaled_dot_product_attention, eager and (--modes) under torch.compile. bf16: models in bf16
for inference, autocast with f32 weights for training, as meddiff has it. f32 products in full f32 unless
--tf32. train: posterior, noise, masked epsilon loss, backward, clipping, AdamW (fused where there is one).
paint: one DDIM step with guidance (a batch of 2B) and the paper's blend. encode, decode: pictures as bytes
on the host to latents on the host and back.

A ratio is PyTorch's median by ours: above 1 ours is faster. Memory: on cuda what each took there at most
(torch.cuda.max_memory_allocated; meddiff's own count of its arenas, weights and state), on the CPU the
process's largest RSS. One process per side and row, in turns, so that both see the same neighbours. Where
the two do not fit side by side (SD 1.5's training on 24 GiB), --apart ends PyTorch's process after each turn.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROWS = ("unet", "train", "paint", "encode", "decode", "text")
TOKENS = 77
SIZES = {
    "tiny": {"pixels": 128, "configs": "data/tiny/%s/config.json"},
    "sd15": {"pixels": 512, "configs": "tests/golden/published/sd15-%s.json"},
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", choices=("cpu", "cuda"), required=True)
    p.add_argument("--size", choices=tuple(SIZES), default="tiny")
    p.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    p.add_argument("--rows", default=",".join(ROWS), help="comma list; default: all")
    p.add_argument("--modes", default="eager,compile", help="eager, compile, or both (default)")
    p.add_argument("--meddiff", default="build/meddiff", metavar="PROGRAM")
    p.add_argument("--batch", type=int, default=2, help="pictures at a time (2)")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (all)")
    p.add_argument("--repeats", type=int, default=10, help="timed runs per turn (10)")
    p.add_argument("--warmup", type=int, default=2, help="runs before those, once per process (2)")
    p.add_argument("--rounds", type=int, default=2, help="turns of each side (2)")
    p.add_argument("--seconds", type=float, default=60, help="limit of one turn's timing (60)")
    p.add_argument("--apart", action="store_true", help="never both in memory: a new PyTorch process each turn")
    p.add_argument("--tf32", action="store_true", help="let PyTorch round f32 products to TF32")
    p.add_argument("--json", metavar="FILE", help="results, one object per line")
    p.add_argument("--worker", metavar="ROW,MODE", help=argparse.SUPPRESS)
    a = p.parse_args()
    for name, known in (("rows", ROWS), ("modes", ("eager", "compile"))):
        for word in getattr(a, name).split(","):
            if word not in known:
                p.error("--%s: %s is none of %s" % (name, word, ", ".join(known)))
    return a


# ---- PyTorch's side, a process of its own: a line in, a turn's times out


def load_config(size, part):
    with open(SIZES[size]["configs"] % part) as f:
        return json.load(f)


def build(size, part, device):
    """The library's model of this config with its own random start."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    c = load_config(size, part)
    with torch.device(device):
        if part == "text_encoder":
            return CLIPTextModel(CLIPTextConfig(**c))
        return (UNet2DConditionModel if part == "unet" else AutoencoderKL).from_config(c)


class Work:
    """One row: step() is what a lap of `meddiff bench` is."""

    def __init__(self, a, row, compiled):
        import torch
        self.a, self.torch = a, torch
        self.half = a.dtype == "bf16"
        self.dtype = torch.bfloat16 if self.half else torch.float32
        self.wrap = torch.compile if compiled else (lambda f: f)
        self.pixels = SIZES[a.size]["pixels"]
        self.edge = self.pixels >> (len(load_config(a.size, "vae")["block_out_channels"]) - 1)
        self.channels = load_config(a.size, "vae")["latent_channels"]
        self.width = load_config(a.size, "unet")["cross_attention_dim"]
        torch.manual_seed(1)
        getattr(self, "open_" + row)()

    def model(self, part, train=False):
        m = build(self.a.size, part, self.a.device)
        m.train(train).requires_grad_(train)
        if part != "text_encoder":
            m = m.to(memory_format=self.torch.channels_last)
        return m if train else m.to(self.dtype)

    def normal(self, *shape, dtype=None):
        x = self.torch.randn(*shape, device=self.a.device, dtype=dtype or self.dtype)
        return x.to(memory_format=self.torch.channels_last) if len(shape) == 4 else x

    def latents(self, n, **more):
        return self.normal(n, self.channels, self.edge, self.edge, **more)

    def mask(self):
        m = self.torch.zeros(self.a.batch, 1, self.edge, self.edge, device=self.a.device)
        lo, hi = 3 * self.edge // 8, 5 * self.edge // 8
        m[:, :, lo:hi, lo:hi] = 1
        return m

    def alphas(self):
        t = self.torch
        beta = t.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, device=self.a.device) ** 2
        return t.cumprod(1 - beta, 0)

    def open_unet(self):
        unet, b = self.wrap(self.model("unet")), self.a.batch
        x, context = self.latents(b), self.normal(b, TOKENS, self.width)
        t = self.torch.full((b,), 500, device=self.a.device)
        self.step = self.torch.no_grad()(lambda: unet(x, t, context, return_dict=False)[0].float())

    def open_text(self):
        text = self.wrap(self.model("text_encoder"))
        vocab = load_config(self.a.size, "text_encoder")["vocab_size"]
        ids = self.torch.randint(0, vocab, (self.a.batch, TOKENS), device=self.a.device)
        self.step = self.torch.no_grad()(lambda: text(input_ids=ids).last_hidden_state.float())

    def open_encode(self):
        t, vae = self.torch, self.model("vae")
        rgb = t.randint(0, 256, (self.a.batch, self.pixels, self.pixels, 3), dtype=t.uint8)
        encode = self.wrap(lambda x: vae.quant_conv(vae.encoder(x)))

        @t.no_grad()
        def step():
            x = rgb.to(self.a.device).permute(0, 3, 1, 2).to(self.dtype) / 127.5 - 1
            return encode(x).float().cpu()
        self.step = step

    def open_decode(self):
        t, vae = self.torch, self.model("vae")
        z = t.randn(self.a.batch, self.channels, self.edge, self.edge)
        z = z.to(memory_format=t.channels_last)
        decode = self.wrap(lambda x: vae.decoder(vae.post_quant_conv(x)))

        @t.no_grad()
        def step():
            y = decode(z.to(self.a.device, self.dtype)).float()
            return ((y + 1) * 127.5).round().clamp(0, 255).to(t.uint8).permute(0, 2, 3, 1).contiguous().cpu()
        self.step = step

    def open_train(self):
        t, b = self.torch, self.a.batch
        model = self.model("unet", train=True)
        unet = self.wrap(model)
        try:
            adam = t.optim.AdamW(model.parameters(), lr=5e-6, weight_decay=0.01, fused=True)
        except RuntimeError:  # before 2.4 only on a GPU
            adam = t.optim.AdamW(model.parameters(), lr=5e-6, weight_decay=0.01)
        mean, std = self.latents(b, dtype=t.float32), t.exp(0.5 * self.latents(b, dtype=t.float32))
        context, mask, alphas = self.normal(b, TOKENS, self.width), self.mask(), self.alphas()
        area = (mask ** 2).sum((1, 2, 3)).clamp(min=1)

        def step():
            z = 0.18215 * (mean + std * t.randn_like(mean))
            noise, at = t.randn_like(z), t.randint(0, 1000, (b,), device=self.a.device)
            abar = alphas[at].view(-1, 1, 1, 1)
            noisy = abar.sqrt() * z + (1 - abar).sqrt() * noise
            with t.autocast(self.a.device, t.bfloat16, enabled=self.half):
                pred = unet(noisy, at, context, return_dict=False)[0]
            error = (mask ** 2 * (pred.float() - noise) ** 2).sum((1, 2, 3))
            loss = (error / (self.channels * area)).mean()
            loss.backward()
            t.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad(set_to_none=True)
            value = loss.item()
            if value != value:
                raise RuntimeError("the loss is not a number")
        self.step = step

    def open_paint(self):
        t, b = self.torch, self.a.batch
        unet, alphas, mask = self.wrap(self.model("unet")), self.alphas(), self.mask()
        context, clean = self.normal(2 * b, TOKENS, self.width), self.latents(b, dtype=t.float32)
        x = self.latents(b, dtype=t.float32)
        self.at = 981

        @t.no_grad()
        def step():
            at, to = self.at, max(self.at - 20, 0)
            a_t, a_s = alphas[at], alphas[to]
            both = t.cat((x, x)).to(self.dtype)
            time_ids = t.full((2 * b,), at, device=self.a.device)
            none, text = unet(both, time_ids, context, return_dict=False)[0].float().chunk(2)
            eps = none + 7.5 * (text - none)
            x0 = (x - (1 - a_t).sqrt() * eps) / a_t.sqrt()
            step_x = a_s.sqrt() * x0 + (1 - a_s).sqrt() * eps
            alpha = a_t / a_s
            beta = 1 - alpha
            outside = a_s.sqrt() * beta / (1 - a_t) * clean + alpha.sqrt() * (1 - a_s) / (1 - a_t) * x
            outside += (beta * (1 - a_s) / (1 - a_t)).sqrt() * t.randn_like(x)
            x.copy_(mask * step_x + (1 - mask) * outside)
            self.at = to if to > 20 else 981
        self.step = step


def limit_threads(torch, a):
    torch.set_num_threads(a.threads)
    if a.device == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = a.tf32


def peak_rss():
    """Of this process alone: getrusage also counts what it was before exec."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def work(a):
    import torch
    row, mode = a.worker.split(",")
    limit_threads(torch, a)
    cuda = a.device == "cuda"

    def lap(w):
        begin = time.perf_counter()
        w.step()
        if cuda:
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - begin)

    w = Work(a, row, mode == "compile")
    lap(w)  # also compiles
    left = a.warmup - 1
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        end, ms = time.perf_counter() + a.seconds, []
        while left > 0 and time.perf_counter() < end:
            lap(w)
            left -= 1
        while not ms or (len(ms) < a.repeats and time.perf_counter() < end):
            ms.append(lap(w))
        memory = (torch.cuda.max_memory_allocated() if cuda
                  else peak_rss())
        print(json.dumps({"median_ms": statistics.median(ms), "runs": len(ms), "bytes": memory}), flush=True)


class Torch:
    """The other end of work()."""

    def __init__(self, a, row, mode):
        env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
        self.errors = tempfile.TemporaryFile("w+")
        self.p = subprocess.Popen([sys.executable, os.path.abspath(__file__), *sys.argv[1:],
                                   "--worker=%s,%s" % (row, mode)], stdin=subprocess.PIPE, env=env,
                                  stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.answer()

    def answer(self):
        line = self.p.stdout.readline()
        if not line:
            code = self.p.wait()
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or ["it said nothing and ended with %d" % code]
            raise RuntimeError("PyTorch: " + said[-1])
        return json.loads(line)

    def turn(self):
        try:
            self.p.stdin.write("go\n")
            self.p.stdin.flush()
        except BrokenPipeError:
            pass  # answer() says what it died of
        return self.answer()

    def close(self):
        try:
            self.p.stdin.close()
        except BrokenPipeError:
            pass
        self.p.wait()


# ---- meddiff's side, and the table


def write_config(a, folder):
    foundation = "data/tiny"
    if a.size == "sd15":
        foundation = os.path.join(folder, "sd15")
        subprocess.run(["bash", "tests/bench/sd15.sh", foundation], check=True)
    path = os.path.join(folder, "bench.cfg")
    with open(path, "w") as f:
        f.write('device = "%s";\nthreads = %d;\n' % (a.device, a.threads))
        f.write("data = { size = %d; };\n" % SIZES[a.size]["pixels"])
        f.write('model = { foundation = "%s"; dtype = "%s"; };\n' % (foundation, a.dtype))
        f.write("bench = { batch = %d; repeats = %d; warmup = %d; seconds = %r; };\n"
                % (a.batch, a.repeats, a.warmup, float(a.seconds)))
    return path


def ours(a, config, folder, row):
    out = os.path.join(folder, "row.json")
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    done = subprocess.run([a.meddiff, "bench", config, "--set", "bench.what=" + row, "--set",
                           "bench.json=" + out], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    if done.returncode:
        raise RuntimeError("meddiff: " + (done.stdout.strip().splitlines() or ["no output"])[-1])
    with open(out) as f:
        r = json.loads(f.readline())
    r["bytes"] = r["device_bytes" if a.device == "cuda" else "rss_peak_bytes"]
    return r


def compare(a, config, folder, row, mode):
    """One line of the table as a dict; PyTorch's failure is data, ours is an error."""
    line = {"row": row, "mode": mode, "device": a.device, "size": a.size, "dtype": a.dtype, "batch": a.batch,
            "threads": a.threads}
    mine, theirs, other = [], [], None
    try:
        for _ in range(a.rounds):
            mine.append(ours(a, config, folder, row))
            try:
                other = other or Torch(a, row, mode)
                theirs.append(other.turn())
            except RuntimeError as e:
                return dict(line, failed=str(e), meddiff_ms=mine[0]["median_ms"])
            if a.apart:
                other.close()
                other = None
    finally:
        if other:
            other.close()
    m, t = (statistics.median(r["median_ms"] for r in side) for side in (mine, theirs))
    return dict(line, meddiff_ms=m, torch_ms=t, ratio=t / m, runs=[sum(r["runs"] for r in mine),
                                                                  sum(r["runs"] for r in theirs)],
                meddiff_bytes=max(r["bytes"] for r in mine), torch_bytes=max(r["bytes"] for r in theirs),
                shapes=mine[0]["shapes"], gflop=mine[0]["gflop"])


def print_line(r):
    if "failed" in r:
        print("%-7s %-8s %11.2f failed: %s" % (r["row"], r["mode"], r["meddiff_ms"], r["failed"][:90]), flush=True)
        return
    print("%-7s %-8s %11.2f %11.2f %8.2f %12.0f %12.0f  %s"
          % (r["row"], r["mode"], r["meddiff_ms"], r["torch_ms"], r["ratio"], r["meddiff_bytes"] / 2 ** 20,
             r["torch_bytes"] / 2 ** 20, r["shapes"]), flush=True)


def need_libraries(a):
    """Ends with 77 where a comparison is impossible."""
    try:
        import torch
        import diffusers
        import transformers
    except Exception as e:  # also a library that another one does not fit
        print("skipped: PyTorch's side is not at hand: %s" % (str(e).strip().splitlines() or [repr(e)])[0])
        sys.exit(77)
    if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
        print("skipped: torch %s is older than 2.0" % torch.__version__)
        sys.exit(77)
    if a.device == "cuda" and not torch.cuda.is_available():
        print("skipped: torch %s sees no GPU" % torch.__version__)
        sys.exit(77)
    name = torch.cuda.get_device_name() if a.device == "cuda" else "CPU, %d threads" % a.threads
    print("%s; torch %s, diffusers %s, transformers %s; %s, %s, batch %d, %d turns of at most %d runs"
          % (name, torch.__version__, diffusers.__version__, transformers.__version__, a.size, a.dtype,
             a.batch, a.rounds, a.repeats), flush=True)


def main():
    a = arguments()
    if a.worker:
        return work(a)
    need_libraries(a)
    print("%-7s %-8s %11s %11s %8s %12s %12s  %s"
          % ("row", "torch", "meddiff ms", "torch ms", "ratio", "meddiff MiB", "torch MiB", "shapes"))
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(a, folder)
        out = open(a.json, "w") if a.json else None
        for row in a.rows.split(","):
            for mode in a.modes.split(","):
                r = compare(a, config, folder, row, mode)
                print_line(r)
                if out:
                    out.write(json.dumps(r) + "\n")
                    out.flush()


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as e:
        sys.exit("compare_torch.py: %s" % e)
