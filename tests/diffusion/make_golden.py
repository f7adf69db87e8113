"""Golden trajectories of diffusers' DDIM and DDPM schedulers: writes golden/*.txt.

    python tests/diffusion/make_golden.py        (diffusers 0.27.2, torch; see the files' first line)

The network is a formula that the C test repeats. The schedulers keep alphas_cumprod in float32; here it
is recomputed in double, so that a comparison can be tight. The second column of "check" is what diffusers'
own float32 table gives at the end, for the reader.
"""
import math
import pathlib

import diffusers
import numpy as np
import torch
import diffusers.schedulers.scheduling_ddpm as ddpm_module
from diffusers import DDIMScheduler, DDPMScheduler

N = 5  # numbers in the latent
HERE = pathlib.Path(__file__).parent / "golden"


def network(x, t):
    i = torch.arange(N, dtype=torch.float64)
    return 0.4 * x + 0.3 * torch.sin(i + 0.01 * t)


def noise(step):
    i = torch.arange(N, dtype=torch.float64)
    return 1.3 * torch.sin(12.9898 * (7 * step + i + 1))


def alphas_double(s):
    c, n = s.config, s.config.num_train_timesteps
    if c.beta_schedule == "scaled_linear":
        betas = np.linspace(c.beta_start**0.5, c.beta_end**0.5, n) ** 2
    elif c.beta_schedule == "linear":
        betas = np.linspace(c.beta_start, c.beta_end, n)
    else:
        bar = lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = np.array([min(1 - bar((i + 1) / n) / bar(i / n), 0.999) for i in range(n)])
    out = torch.from_numpy(np.cumprod(1 - betas))
    assert (out - s.alphas_cumprod.double()).abs().max() < 1e-5
    return out


def trajectory(cls, config, steps, eta, double):
    s = cls(**config)
    table = alphas_double(s)
    if double:
        s.alphas_cumprod = table
        if cls is DDIMScheduler and not config.get("set_alpha_to_one", True):
            s.final_alpha_cumprod = table[0]
        s.one = torch.tensor(1.0, dtype=torch.float64)
    s.set_timesteps(steps)
    i = torch.arange(N, dtype=torch.float64)
    x = torch.cos(i)[None]  # DDPM wants two dimensions
    path = [x]
    for k, t in enumerate(s.timesteps):
        if cls is DDIMScheduler:
            kw = dict(eta=eta, variance_noise=noise(k)[None] if eta > 0 else None)
        else:
            ddpm_module.randn_tensor = lambda *a, **b: noise(k)[None]
            kw = {}
        x = s.step(network(x, int(t)), t, x, **kw).prev_sample
        path.append(x)
    return [int(t) for t in s.timesteps], path, table


SD = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
          clip_sample=False, steps_offset=1)
CASES = {
    "ddim_sd": (DDIMScheduler, dict(SD, set_alpha_to_one=False), 50, 0.0),
    "ddim_eta": (DDIMScheduler, dict(SD, set_alpha_to_one=False), 20, 0.7),
    "ddim_v_trailing": (DDIMScheduler, dict(SD, set_alpha_to_one=True, prediction_type="v_prediction",
                                            timestep_spacing="trailing"), 12, 1.0),
    "ddim_x0_linspace": (DDIMScheduler, dict(SD, set_alpha_to_one=True, prediction_type="sample",
                                             timestep_spacing="linspace"), 10, 0.0),
    "ddim_clip": (DDIMScheduler, dict(SD, set_alpha_to_one=True, clip_sample=True,
                                      clip_sample_range=0.5), 10, 0.5),
    "ddpm_sd": (DDPMScheduler, SD, 50, 0.0),
    "ddpm_linear": (DDPMScheduler, dict(num_train_timesteps=100, clip_sample=False), 100, 0.0),
    "ddpm_cos_clip": (DDPMScheduler, dict(num_train_timesteps=200, beta_schedule="squaredcos_cap_v2",
                                          clip_sample=True), 25, 0.0),
    "ddpm_v": (DDPMScheduler, dict(SD, prediction_type="v_prediction", timestep_spacing="trailing"), 10, 0.0),
    "ddpm_x0": (DDPMScheduler, dict(SD, prediction_type="sample", timestep_spacing="linspace"), 10, 0.0),
}


def main():
    HERE.mkdir(exist_ok=True)
    for name, (cls, config, steps, eta) in CASES.items():
        ts, path, table = trajectory(cls, config, steps, eta, True)
        _, rough, _ = trajectory(cls, config, steps, eta, False)
        c = cls(**config).config
        lines = [f"# diffusers {diffusers.__version__} torch {torch.__version__} python tests/diffusion/make_golden.py",
                 f"sampler {'ddim' if cls is DDIMScheduler else 'ddpm'}",
                 f"train_steps {c.num_train_timesteps}", f"beta_start {c.beta_start!r}", f"beta_end {c.beta_end!r}",
                 f"betas {c.beta_schedule}", f"prediction {c.prediction_type}", f"spacing {c.timestep_spacing}",
                 f"steps_offset {c.steps_offset}",
                 f"set_alpha_to_one {int(getattr(c, 'set_alpha_to_one', True))}",
                 f"clip {c.clip_sample_range if c.clip_sample else 0!r}",
                 f"steps {steps}", f"eta {eta!r}",
                 f"alpha_first {float(table[0])!r}", f"alpha_last {float(table[-1])!r}"]
        lines += [f"t {t}" for t in ts]
        lines += ["x " + " ".join(repr(float(v)) for v in x.flatten()) for x in path]
        lines += [f"check {float((path[-1] - rough[-1]).abs().max()):.3g}"]
        (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")
        print(name, lines[-1])


if __name__ == "__main__":
    main()
