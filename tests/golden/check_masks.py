#!/usr/bin/env python3
"""Does diffusers open a mask generator's folder, and is it the model and the schedule it should be?

    python3 tests/golden/check_masks.py FOLDER ORIGINAL   (two folders with config.json and weights)

FOLDER holds scheduler_config.json too. Ends with 1 and the first difference otherwise; 77 without libraries.
"""
import sys

try:
    import torch
    from diffusers import DDIMScheduler, UNet2DModel
    from diffusers.utils import logging
except ImportError as e:
    print("skipped: %s" % e)
    sys.exit(77)


def main():
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    ours, theirs = [UNet2DModel.from_pretrained(f, local_files_only=True, low_cpu_mem_usage=False)
                    for f in sys.argv[1:3]]
    a, b = ours.state_dict(), theirs.state_dict()
    if a.keys() != b.keys():
        return "keys differ: %s" % sorted(a.keys() ^ b.keys())[:4]
    for key in a:
        if not torch.equal(a[key], b[key]):
            return "%s differs" % key
    scheduler = DDIMScheduler.from_pretrained(sys.argv[1], local_files_only=True)
    betas = torch.linspace(1e-4, 0.02, 1000)
    if not torch.allclose(scheduler.alphas_cumprod, torch.cumprod(1 - betas, 0), rtol=1e-5):
        return "the schedule is not the linear one"
    scheduler.set_timesteps(50)
    if scheduler.timesteps.tolist() != list(range(999, 0, -20)):
        return "timesteps %s" % scheduler.timesteps.tolist()
    if scheduler.config.prediction_type != "v_prediction" or not scheduler.config.clip_sample:
        return "prediction %s, clip_sample %s" % (scheduler.config.prediction_type, scheduler.config.clip_sample)
    edge = ours.config.sample_size
    x = torch.randn(2, 1, edge, edge, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for t in scheduler.timesteps[::10]:
            e, same = ours(x, t).sample, theirs(x, t).sample
            if not torch.equal(e, same) or not torch.isfinite(e).all():
                return "outputs differ at %d" % t
            x = scheduler.step(e, t, x).prev_sample
    return 0


sys.exit(main())
