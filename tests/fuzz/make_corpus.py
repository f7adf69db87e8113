#!/usr/bin/env python3
"""Makes tests/fuzz/corpus: small seeds for the parsers that have no test data of their own.

    python3 tests/fuzz/make_corpus.py
"""
import json
import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def write(name, data):
    path = os.path.join(HERE, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def bmp(w, h, bits, rows, palette=b"", size=40, compression=0, extra=b""):
    offset = 14 + size + len(palette)
    if size == 12:
        head = struct.pack("<IHHHH", 12, w, h, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", size, w, h, 1, bits, compression, 0, 0, 0, len(palette) // 4, 0)
        head += extra + bytes(size - 40 - len(extra))
    return struct.pack("<2sIHHI", b"BM", offset + len(rows), 0, 0, offset) + head + palette + rows


gray2 = struct.pack("<II", 0, 0xFFFFFF)
write("bmp/one.bmp", bmp(10, 3, 1, bytes(range(12)), gray2))
write("bmp/four.bmp", bmp(3, -2, 4, bytes(8), struct.pack("<III", 0x102030, 0x405060, 0x708090)))
write("bmp/eight.bmp", bmp(5, 2, 8, bytes(range(16)), b"".join(struct.pack("<I", i * 0x10101) for i in range(256))))
write("bmp/true.bmp", bmp(3, 2, 24, bytes(range(24))))
write("bmp/wide.bmp", bmp(2, 1, 32, bytes(range(8))))
masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
write("bmp/fields.bmp", bmp(2, 1, 32, b"\xff" * 8, size=108, compression=3, extra=masks))
write("bmp/core.bmp", bmp(8, 1, 1, b"\xaa\0\0\0", b"\0\0\0\xff\xff\xff", size=12))
write("json/nested.json", json.dumps({"a": {"b": [1, {"c": -7}, 2.5, None, True]}, "s": "t\u00e9\n\"", "e": []}))
write("json/array.json", "[[1, 2, 3], {\"x\": 1e-3}]")
write("json/deep.json", "[" * 64 + "]" * 64)


def tensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def t(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


write("safetensors/two", tensors({"a": t("F16", [2], 0, 4), "b.c": t("F32", [2, 1], 4, 12)}, bytes(range(12))))
write("safetensors/meta", tensors({"__metadata__": {"k": "v"}, "a": t("I64", [], 0, 8)}, bytes(8)))
write("safetensors/empty", tensors({}, b""))
write("safetensors/zero", tensors({"z": t("BF16", [0, 3], 0, 0), "u": t("U8", [3], 0, 3)}, b"abc"))


def ldm(parts, **more):
    """A single-file checkpoint: the tensors that show sizes. A dimension of 0 makes them free of data."""
    names = {}
    unet, vae, text = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer." + more.get("flat", "text_model.")
    if "unet" in parts:
        names.update({unet + k: v for k, v in {
            "input_blocks.0.0.weight": [32, 4, 0, 3], "out.2.weight": [4, 32, 0, 3], "time_embed.0.weight": [128, 32, 0],
            "input_blocks.1.0.in_layers.2.weight": [32, 32, 0, 3], "input_blocks.1.1.transformer_blocks.0.norm1.weight": [0],
            "input_blocks.2.0.op.weight": [0], "input_blocks.3.0.in_layers.2.weight": [64, 32, 0, 3],
            "middle_block.1.transformer_blocks.0.attn2.to_k.weight": [64, 64, 0], "middle_block.1.proj_in.weight": [64, 64, 1, 0],
            "middle_block.1.transformer_blocks.0.norm1.weight": [0],
            "output_blocks.2.1.transformer_blocks.0.norm1.weight": [0]}.items()})
    if "vae" in parts:
        names.update({vae + k: v for k, v in {
            "encoder.conv_in.weight": [32, 3, 0], "decoder.conv_out.weight": [3, 32, 0], "decoder.conv_in.weight": [64, 4, 0],
            "encoder.mid.attn_1.q.weight": [64, 64, 0], "quant_conv.weight": [8, 8, 0], "post_quant_conv.weight": [4, 4, 0],
            "encoder.down.0.block.0.conv1.weight": [32, 32, 0], "encoder.down.1.block.0.conv1.weight": [64, 32, 0]}.items()})
    if "text" in parts:
        names.update({text + k: v for k, v in {
            "embeddings.token_embedding.weight": [99, 64, 0], "embeddings.position_embedding.weight": [77, 64, 0],
            "encoder.layers.0.mlp.fc1.weight": [256, 64, 0], "encoder.layers.0.layer_norm1.weight": [0]}.items()})
    names.update({k: [0] for k in more.get("names", ())})
    header = {"__metadata__": more["meta"]} if "meta" in more else {}
    header.update({k: t("F16", v, 0, 0) for k, v in names.items()})
    return tensors(header, b"")


carried = {"meddiff.unet": {"block_out_channels": [4, 8], "layers_per_block": [1, 2], "norm_num_groups": 2,
                            "attention_head_dim": 2, "cross_attention_dim": 8, "use_linear_projection": True,
                            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
                            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]},
           "meddiff.vae": {"block_out_channels": [4], "down_block_types": ["DownEncoderBlock2D"], "norm_num_groups": 2,
                           "up_block_types": ["UpDecoderBlock2D"]},
           "meddiff.text_encoder": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}}
write("ldm/carried", ldm((), meta={k: json.dumps(v) for k, v in carried.items()}))
write("ldm/all", ldm(("unet", "vae", "text")))
write("ldm/flat", ldm(("text", "vae"), flat=""))
write("ldm/unet", ldm(("unet",), names=["model_ema.decay", "first_stage_model.x", "cond_stage_model.x"]))
write("ldm/lora", ldm((), names=["lora_unet_x.lora_down.weight"]))
write("ldm/sdxl", ldm((), names=["conditioner.embedders.0.x", "model.diffusion_model.x"]))
write("ldm/sd2", ldm(("unet",), names=["cond_stage_model.model.ln_final.bias"]))
write("lora/linear", tensors({"unet.to_q.lora_A.weight": t("F32", [1, 3], 0, 12),
                              "unet.to_q.lora_B.weight": t("F16", [2, 1], 12, 16)}, bytes(range(16))))
write("lora/conv", tensors({"unet.conv.lora_A.weight": t("BF16", [2, 2, 3, 3], 0, 72),
                            "unet.conv.lora_B.weight": t("F32", [3, 2, 1, 1], 72, 96)}, bytes(range(96))))
vocab = {s: i for i, s in enumerate(["a", "b", "a</w>", "b</w>", "ab</w>", "<|startoftext|>", "<|endoftext|>", "!", "\u0120"])}
config = {"model_max_length": 8, "pad_token": {"content": "!"}, "bos_token": "<|startoftext|>"}
write("tokenizer/full", "\n---\n".join([json.dumps(vocab), "#version: 0.2\na b</w>\nb a\n", json.dumps(config),
                                        json.dumps({"eos_token": "<|endoftext|>"}), "ab ba!  a'll <|endoftext|> 12 \u00e9\u0130"]))
write("tokenizer/short", json.dumps(vocab) + "\n---\n#v\na b</w>\n")
write("tokenizer/prompt", "It's a PHOTO of 12 l\u00e9sions\u2014we've\t'tis abababab <|startoftext|>")
write("tokenizer/unicode", "e\u0323\u0302\u0301 \u1112\u1161\u11ab \ud55c\u11a8 \u03a3\u0391.\u03a3' \u0345\u0130 \U0002f800\u76ae"
      "\u200d\ufffd it'\u017f <|\u017ftartoftext|> <|EndOfText|> \U0001f468\u200d\U0001f469")


def frame(kind, body):
    """A message of comm/frame.h in run 5."""
    return b"MDM1" + struct.pack("<HHII", 1, kind, 5, len(body)) + body


item = struct.pack("<qqI", 0, 5, 1)
write("messages/beat", frame(1, struct.pack("<BIB", 1, 3, 0)))
write("messages/lease", frame(2, struct.pack("<II", 3, 2) + item + struct.pack("<qqI", 1, 7, 2)))
write("messages/result", frame(3, struct.pack("<I", 1) + item + struct.pack("<BI", 7, 3) + b"nan" +
                               struct.pack("<I", 4) + b"abcd"))
write("messages/end", frame(4, struct.pack("<BBI", 3, 1, 2) + b"hi"))
write("messages/bye", frame(5, b""))

# kind of store; then changes: 2 i + 1 for attribute i, 2 i for dataset i; how, which, size, content
for kind, store in enumerate(("pairs", "data", "backgrounds", "masks")):
    write("store/%s-text" % store, bytes([kind]) + b"".join(bytes([2 * i + 1, 0, 0, 5, 0]) + b"other" for i in range(4)))
    write("store/%s-numbers" % store, bytes([kind]) + b"".join(bytes([2 * i + 1, 1, i, 1, 0]) + b"\xff" * 16
                                                               for i in range(4)))
    write("store/%s-rows" % store, bytes([kind]) + b"".join(bytes([2 * i, 0, 0]) + bytes(range(1, 41)) for i in range(6)))
    write("store/%s-shape" % store, bytes([kind]) + bytes([2, 3, 6, 3, 8]))

square = '[{"points": [{"x": 1, "y": 2}, {"x": 9, "y": 2}, {"x": 9, "y": 8}], "regionType": "%s"}]'
mark = "<mark><image>%s</image><svg>%s</svg></mark>"
write("outlines/two.xml", "<case><number>1</number>%s%s</case>" % (mark % (2, square % "freehand"),
                                                                   mark % (1, square % "arrow")))
write("outlines/cut.xml", "<case>%s</case>" % (mark % (1, square[:40])))
write("outlines/empty.xml", "<?xml version='1.0' encoding='latin-1'?>\n<case>%s</case>" % (mark % (1, "")))
noise = {"num_train_timesteps": 100, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
         "steps_offset": 1}
for name, cls, options in (
        ("ddim", "DDIM", {"clip_sample": False, "set_alpha_to_one": False, "prediction_type": "v_prediction",
                          "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}),
        ("ddpm", "DDPM", {"variance_type": "fixed_large", "clip_sample_range": 2.0, "thresholding": False}),
        ("pndm", "PNDM", {"skip_prk_steps": True, "trained_betas": None}),
        ("dpm", "DPMSolverMultistep", {"lambda_min_clipped": float("-inf"), "solver_order": 2,
                                       "use_karras_sigmas": True, "final_sigmas_type": "sigma_min",
                                       "algorithm_type": "dpmsolver++", "lower_order_final": True}),
        ("euler", "EulerDiscrete", {"interpolation_type": "linear", "timestep_spacing": "linspace"}),
        ("other", "UniPCMultistep", {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"})):
    write("schedule/" + name, json.dumps({"_class_name": cls + "Scheduler", **noise, **options}))
