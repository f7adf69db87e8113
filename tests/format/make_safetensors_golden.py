#!/usr/bin/env python3
"""Makes tests/format/safetensors: one file of every dtype, and a set of two shards with an index.

    pip install torch safetensors
    python3 tests/format/make_safetensors_golden.py
"""
import json
import os

import torch
from safetensors.torch import save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "safetensors")
os.makedirs(HERE, exist_ok=True)
v = [0.0, -1.0, 1.5, 2.0, 3.0, 100.0]
types = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
         "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8,
         "u8": torch.uint8, "bool": torch.bool}
t = {}
for name, d in types.items():
    x = torch.tensor(v)
    if name in ("u8", "bool"):
        x = x.abs()
    t["all." + name] = x.to(d).reshape(2, 3)
t["scalar"] = torch.tensor(0.25)
t["empty"] = torch.zeros(0, 4)
t["tiny.f16"] = torch.tensor([6e-8, 1e-7, 6.1e-5, -65504.0]).to(torch.float16)
save_file(t, os.path.join(HERE, "all.safetensors"), metadata={"format": "pt", "note": "a \"b\" \u00e9"})
parts = [{"a.weight": torch.arange(6.).reshape(2, 3)}, {"b.weight": torch.arange(4.) + 10}]
for i, p in enumerate(parts):
    save_file(p, os.path.join(HERE, f"model-0000{i + 1}-of-00002.safetensors"), metadata={"format": "pt"})
json.dump({"metadata": {"total_size": 40},
           "weight_map": {"a.weight": "model-00001-of-00002.safetensors",
                          "b.weight": "model-00002-of-00002.safetensors"}},
          open(os.path.join(HERE, "model.safetensors.index.json"), "w"), indent=1)
