"""Golden trajectories of diffusers' schedulers: writes golden/*.txt.

    python tests/diffusion/make_golden.py        (diffusers 0.27.2, torch; see the files' first line)

Each file holds the scheduler_config.json, the sampler that runs on it, what the network was told and the
latents. The network is a formula that the C test repeats. The schedulers keep their tables in float32;
here they run in double, so that a comparison can be tight. The number after "check" is what diffusers'
own float32 gives at the end, for the reader. Euler's latents are divided by sqrt(1 + sigma^2), as the
network sees them.

timesteps.txt: sampler, spacing, number of steps and the sum of (k + 1) t_k, for many numbers of steps.
"""
import inspect
import json
import math
import pathlib
import sys

import diffusers
import numpy as np
import torch
import diffusers.schedulers.scheduling_ddpm as ddpm_module
from diffusers import (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler,
                       EulerDiscreteScheduler, PNDMScheduler)

N = 5  # numbers in the latent
HERE = pathlib.Path(__file__).parent / "golden"
NAMES = {DDIMScheduler: "ddim", DDPMScheduler: "ddpm", PNDMScheduler: "pndm",
         DPMSolverMultistepScheduler: "dpm++", EulerDiscreteScheduler: "euler"}


class In64:
    """A module in which float32 is float64."""

    def __init__(self, module):
        self.module = module
        self.float32 = module.float64

    def __getattr__(self, name):
        return getattr(self.module, name)


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
    out = np.cumprod(1 - betas)
    if c.get("rescale_betas_zero_snr"):
        root = np.sqrt(out)
        out = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        if hasattr(s, "sigmas"):
            out[-1] = 2**-24
    out = torch.from_numpy(out)
    assert (out - s.alphas_cumprod.double()).abs().max() < 1e-5
    return out


def trajectory(cls, s, steps, eta, double):
    module = sys.modules[cls.__module__]
    table = alphas_double(s)
    saved = module.np, module.torch
    if double:
        s.alphas_cumprod = table
        if hasattr(s, "final_alpha_cumprod") and not s.config.set_alpha_to_one:
            s.final_alpha_cumprod = table[0]
        s.one = torch.tensor(1.0, dtype=torch.float64)
        module.np, module.torch = In64(np), In64(torch)
    s.set_timesteps(steps)
    sigmas = [float(v) for v in s.sigmas] if cls is EulerDiscreteScheduler else None
    unscaled = lambda x, k: x / (1 + sigmas[k] ** 2) ** 0.5 if sigmas else x
    x = torch.cos(torch.arange(N, dtype=torch.float64))[None]  # DDPM wants two dimensions
    x = x * s.init_noise_sigma
    path = [unscaled(x, 0)]
    for k, t in enumerate(s.timesteps):
        kw = {}
        if cls is DDIMScheduler:
            kw = dict(eta=eta, variance_noise=noise(k)[None] if eta > 0 else None)
        ddpm_module.randn_tensor = lambda *a, **b: noise(k)[None]
        x = s.step(network(s.scale_model_input(x, t).double(), float(t)), t, x, **kw).prev_sample
        path.append(unscaled(x, k + 1))
    module.np, module.torch = saved
    return [float(t) for t in s.timesteps], path, table


SD = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
          steps_offset=1)
OLD = dict(SD, clip_sample=False)
V = dict(prediction_type="v_prediction", timestep_spacing="trailing")
ZERO = dict(V, rescale_betas_zero_snr=True)
PLMS = dict(SD, skip_prk_steps=True, set_alpha_to_one=False)  # as the files of SD 1.x say
CASES = {
    "ddim_sd": (DDIMScheduler, dict(OLD, set_alpha_to_one=False), 50, 0.0),
    "ddim_eta": (DDIMScheduler, dict(OLD, set_alpha_to_one=False), 20, 0.7),
    "ddim_v_trailing": (DDIMScheduler, dict(OLD, set_alpha_to_one=True, **V), 12, 1.0),
    "ddim_x0_linspace": (DDIMScheduler, dict(OLD, set_alpha_to_one=True, prediction_type="sample",
                                             timestep_spacing="linspace"), 10, 0.0),
    "ddim_clip": (DDIMScheduler, dict(SD, clip_sample=True, clip_sample_range=0.5), 10, 0.5),
    "ddim_zero_snr": (DDIMScheduler, dict(OLD, **ZERO), 10, 0.0),
    "ddim_defaults": (DDIMScheduler, dict(), 7, 0.0),
    "ddpm_sd": (DDPMScheduler, OLD, 50, 0.0),
    "ddpm_linear": (DDPMScheduler, dict(num_train_timesteps=100, clip_sample=False), 100, 0.0),
    "ddpm_cos_clip": (DDPMScheduler, dict(num_train_timesteps=200, beta_schedule="squaredcos_cap_v2"), 25, 0.0),
    "ddpm_v": (DDPMScheduler, dict(OLD, **V), 10, 0.0),
    "ddpm_x0": (DDPMScheduler, dict(OLD, prediction_type="sample", timestep_spacing="linspace"), 10, 0.0),
    "ddpm_zero_snr": (DDPMScheduler, dict(OLD, **ZERO), 10, 0.0),
    "ddpm_large": (DDPMScheduler, dict(OLD, variance_type="fixed_large"), 20, 0.0),
    "pndm_sd": (PNDMScheduler, PLMS, 50, 0.0),
    "pndm_20": (PNDMScheduler, PLMS, 20, 0.0),
    "pndm_v": (PNDMScheduler, dict(PLMS, prediction_type="v_prediction"), 12, 0.0),
    "pndm_v_uneven": (PNDMScheduler, dict(PLMS, **V), 7, 0.0),
    "pndm_linspace": (PNDMScheduler, dict(PLMS, timestep_spacing="linspace", set_alpha_to_one=True), 10, 0.0),
    "dpm_sd": (DPMSolverMultistepScheduler, SD, 50, 0.0),
    "dpm_leading": (DPMSolverMultistepScheduler, dict(SD, timestep_spacing="leading"), 20, 0.0),
    "dpm_v": (DPMSolverMultistepScheduler, dict(SD, **V), 15, 0.0),
    "dpm_x0": (DPMSolverMultistepScheduler, dict(SD, prediction_type="sample"), 10, 0.0),
    "dpm_sigma_min": (DPMSolverMultistepScheduler, dict(SD, final_sigmas_type="sigma_min"), 15, 0.0),
    "dpm_sigma_min_few": (DPMSolverMultistepScheduler, dict(SD, final_sigmas_type="sigma_min"), 8, 0.0),
    "dpm_full_to_end": (DPMSolverMultistepScheduler, dict(SD, final_sigmas_type="sigma_min",
                                                          lower_order_final=False), 8, 0.0),
    "dpm_euler_at_final": (DPMSolverMultistepScheduler, dict(SD, final_sigmas_type="sigma_min",
                                                             euler_at_final=True), 15, 0.0),
    "dpm_karras": (DPMSolverMultistepScheduler, dict(SD, use_karras_sigmas=True), 20, 0.0),
    "dpm_first_order": (DPMSolverMultistepScheduler, dict(SD, solver_order=1), 10, 0.0),
    "dpm_zero_snr": (DPMSolverMultistepScheduler, dict(SD, **ZERO), 10, 0.0),
    "euler_sd": (EulerDiscreteScheduler, SD, 50, 0.0),
    "euler_leading": (EulerDiscreteScheduler, dict(SD, timestep_spacing="leading"), 20, 0.0),
    "euler_v": (EulerDiscreteScheduler, dict(SD, **V), 12, 0.0),
    "euler_x0": (EulerDiscreteScheduler, dict(SD, prediction_type="sample"), 10, 0.0),
    "euler_karras": (EulerDiscreteScheduler, dict(SD, use_karras_sigmas=True), 20, 0.0),
    "euler_zero_snr": (EulerDiscreteScheduler, dict(SD, **ZERO), 10, 0.0),
}
FEW = {DDIMScheduler: dict(OLD, set_alpha_to_one=False), DDPMScheduler: OLD, PNDMScheduler: PLMS,
       DPMSolverMultistepScheduler: SD, EulerDiscreteScheduler: SD}
for _cls, _config in FEW.items():
    for _steps in (1, 2, 3, 5):
        CASES["%s_%d" % (NAMES[_cls].strip("+"), _steps)] = (_cls, _config, _steps, 0.0)
# another sampler than the file's: what the file leaves open is the sampler's own default
SWITCHED = {"switch_" + NAMES[cls].strip("+"): (cls, dict(PLMS, clip_sample=False), 10, 0.0)
            for cls in NAMES if cls is not PNDMScheduler}


def scheduler(cls, config, source):
    """cls on the file of class `source`, and the file's text."""
    text = json.dumps(dict(_class_name=source.__name__, **config))
    known = inspect.signature(source.__init__).parameters
    first = source.from_config(json.loads(text)) if source is not cls else cls(**config)
    assert source is cls or all(k in known or k == "clip_sample" for k in config)
    return (cls.from_config(first.config) if source is not cls else first), text


def write_trajectory(name, cls, config, steps, eta, source):
    s, text = scheduler(cls, config, source)
    ts, path, table = trajectory(cls, s, steps, eta, True)
    _, rough, _ = trajectory(cls, scheduler(cls, config, source)[0], steps, eta, False)
    lines = [f"# diffusers {diffusers.__version__} torch {torch.__version__} python tests/diffusion/make_golden.py",
             f"config {text}", f"sampler {NAMES[cls]}", f"steps {steps}", f"eta {eta!r}",
             f"alpha_first {float(table[0])!r}", f"alpha_last {float(table[-1])!r}"]
    lines += [f"t {t!r}" for t in ts]
    lines += ["x " + " ".join(repr(float(v)) for v in x.flatten()) for x in path]
    lines += [f"check {float((path[-1] - rough[-1]).abs().max()):.3g}"]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")
    print(name, lines[-1])


def write_timesteps():
    lines = ["# python tests/diffusion/make_golden.py: sampler spacing steps sum of (k + 1) t_k; steps_offset 1"]
    many = [*range(1, 61), 64, 70, 77, 80, 90, 99, 100, 101, 125, 128, 150, 200, 223, 250, 333, 400, 500, 999]
    for cls, config in FEW.items():
        for spacing in ("leading", "trailing", "linspace"):
            s = cls(**dict(config, timestep_spacing=spacing))
            for steps in many:
                s.set_timesteps(steps)
                t = s.timesteps.double().numpy()
                evaluations = steps + (cls is PNDMScheduler and steps > 1)
                # numpy's arange may come out one too long, and 999 of 1000 leading steps all be equal
                if len(t) == evaluations and t.min() >= 0 and t.max() <= 999 and len(set(t)) == steps:
                    lines.append("%s %s %d %.17g" % (NAMES[cls], spacing, steps,
                                                     (t * np.arange(1, len(t) + 1)).sum()))
    (HERE / "timesteps.txt").write_text("\n".join(lines) + "\n")


def main():
    HERE.mkdir(exist_ok=True)
    for old in HERE.glob("*.txt"):
        old.unlink()
    for name, (cls, config, steps, eta) in CASES.items():
        write_trajectory(name, cls, config, steps, eta, cls)
    for name, (cls, config, steps, eta) in SWITCHED.items():
        write_trajectory(name, cls, config, steps, eta, PNDMScheduler)
    write_timesteps()


if __name__ == "__main__":
    main()
