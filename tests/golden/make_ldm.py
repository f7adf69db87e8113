#!/usr/bin/env python3
"""The tensors of an original (LDM) checkpoint and what diffusers calls them.

    python3 tests/golden/make_ldm.py      (rewrites tests/golden/ldm/{sd15,small}.txt)

Lines "<LDM name> <shape> <part>/<diffusers name> <shape>". The LDM names and shapes are spelled out here from the
structure of the original code (openaimodel.UNetModel, model.Encoder and Decoder, CLIPTextModel), the other side is
diffusers' own conversion of them (loaders/single_file_utils.py) and its own models' shapes, so that neither comes
from our rules. sd15: Stable Diffusion 1.5; small: the configs of tests/golden/sd. Tried with diffusers 0.27.2.
"""
import json
import os

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from transformers import CLIPTextConfig, CLIPTextModel

HERE = os.path.dirname(os.path.abspath(__file__))
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."


class Names(dict):
    """LDM name -> shape, with the layers of the original."""

    def both(self, name, *shape):
        self[name + ".weight"] = shape
        self[name + ".bias"] = shape[:1]

    def conv(self, name, cin, cout, kernel):
        self.both(name, cout, cin, kernel, kernel)

    def norm(self, name, c):
        self.both(name, c)


def unet_names(c):
    """openaimodel.UNetModel with spatial transformers; c: the diffusers config."""
    n, channels, layers = Names(), c["block_out_channels"], c["layers_per_block"]
    time, context, last = 4 * channels[0], c["cross_attention_dim"], len(channels) - 1

    def resnet(at, cin, cout):
        n.norm(at + ".in_layers.0", cin)
        n.conv(at + ".in_layers.2", cin, cout, 3)
        n.both(at + ".emb_layers.1", cout, time)
        n.norm(at + ".out_layers.0", cout)
        n.conv(at + ".out_layers.3", cout, cout, 3)
        if cin != cout:
            n.conv(at + ".skip_connection", cin, cout, 1)

    def transformer(at, ch):
        n.norm(at + ".norm", ch)
        n.conv(at + ".proj_in", ch, ch, 1)
        block = at + ".transformer_blocks.0"
        for attention, width in (("attn1", ch), ("attn2", context)):
            n["%s.%s.to_q.weight" % (block, attention)] = (ch, ch)
            n["%s.%s.to_k.weight" % (block, attention)] = (ch, width)
            n["%s.%s.to_v.weight" % (block, attention)] = (ch, width)
            n.both("%s.%s.to_out.0" % (block, attention), ch, ch)
        n.both(block + ".ff.net.0.proj", 8 * ch, ch)
        n.both(block + ".ff.net.2", ch, 4 * ch)
        for norm in ("norm1", "norm2", "norm3"):
            n.norm("%s.%s" % (block, norm), ch)
        n.conv(at + ".proj_out", ch, ch, 1)

    n.both("time_embed.0", time, channels[0])
    n.both("time_embed.2", time, time)
    n.conv("input_blocks.0.0", c["in_channels"], channels[0], 3)
    at, ch, skips = 1, channels[0], [channels[0]]
    for level, width in enumerate(channels):
        for _ in range(layers):
            resnet("input_blocks.%d.0" % at, ch, width)
            if c["down_block_types"][level] == "CrossAttnDownBlock2D":
                transformer("input_blocks.%d.1" % at, width)
            ch, at = width, at + 1
            skips.append(ch)
        if level < last:
            n.conv("input_blocks.%d.0.op" % at, ch, ch, 3)
            at += 1
            skips.append(ch)
    resnet("middle_block.0", ch, ch)
    transformer("middle_block.1", ch)
    resnet("middle_block.2", ch, ch)
    at = 0
    for level in range(last, -1, -1):
        for i in range(layers + 1):
            resnet("output_blocks.%d.0" % at, ch + skips.pop(), channels[level])
            ch, module = channels[level], 1
            if c["up_block_types"][last - level] == "CrossAttnUpBlock2D":
                transformer("output_blocks.%d.1" % at, ch)
                module = 2
            if level and i == layers:
                n.conv("output_blocks.%d.%d.conv" % (at, module), ch, ch, 3)
            at += 1
    n.norm("out.0", ch)
    n.conv("out.2", ch, c["out_channels"], 3)
    return n


def vae_names(c):
    """model.Encoder, model.Decoder, quant_conv and post_quant_conv."""
    n, channels, layers, z = Names(), c["block_out_channels"], c["layers_per_block"], c["latent_channels"]

    def resnet(at, cin, cout):
        n.norm(at + ".norm1", cin)
        n.conv(at + ".conv1", cin, cout, 3)
        n.norm(at + ".norm2", cout)
        n.conv(at + ".conv2", cout, cout, 3)
        if cin != cout:
            n.conv(at + ".nin_shortcut", cin, cout, 1)

    def middle(at, ch):
        resnet(at + ".block_1", ch, ch)
        n.norm(at + ".attn_1.norm", ch)
        for layer in "q", "k", "v", "proj_out":
            n.conv("%s.attn_1.%s" % (at, layer), ch, ch, 1)
        resnet(at + ".block_2", ch, ch)

    n.conv("encoder.conv_in", c["in_channels"], channels[0], 3)
    ch = channels[0]
    for level, width in enumerate(channels):
        for i in range(layers):
            resnet("encoder.down.%d.block.%d" % (level, i), ch, width)
            ch = width
        if level < len(channels) - 1:
            n.conv("encoder.down.%d.downsample.conv" % level, ch, ch, 3)
    middle("encoder.mid", ch)
    n.norm("encoder.norm_out", ch)
    n.conv("encoder.conv_out", ch, 2 * z, 3)
    n.conv("decoder.conv_in", z, ch, 3)
    middle("decoder.mid", ch)
    for level in range(len(channels) - 1, -1, -1):
        for i in range(layers + 1):
            resnet("decoder.up.%d.block.%d" % (level, i), ch, channels[level])
            ch = channels[level]
        if level:
            n.conv("decoder.up.%d.upsample.conv" % level, ch, ch, 3)
    n.norm("decoder.norm_out", ch)
    n.conv("decoder.conv_out", ch, c["out_channels"], 3)
    n.conv("quant_conv", 2 * z, 2 * z, 1)
    n.conv("post_quant_conv", z, z, 1)
    return n


class Shape:
    """As much of a tensor as diffusers' conversion asks for."""

    def __init__(self, name, shape):
        self.name, self.shape, self.ndim = name, shape, len(shape)

    def __getitem__(self, index):
        return Shape(self.name, tuple(d for d, i in zip(self.shape, index) if i == slice(None)))


def state(model_class, config):
    """Names and shapes of a model, without its memory."""
    torch.nn.init._no_grad_normal_ = torch.nn.init._no_grad_uniform_ = lambda tensor, *rest, **more: tensor
    model = model_class(config) if model_class is CLIPTextModel else model_class.from_config(config)
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def lines(part, prefix, names, convert, config, model):
    """Every LDM tensor once, and every tensor of the model."""
    got = convert({prefix + k: Shape(prefix + k, v) for k, v in names.items()}, config)
    assert {k: v.shape for k, v in got.items()} == model, sorted(got.keys() ^ model.keys())
    assert sorted(t.name for t in got.values()) == sorted(prefix + k for k in names)
    def text(shape):
        return "[%s]" % ",".join(map(str, shape))
    return ["%s %s %s/%s %s" % (t.name, text(names[t.name[len(prefix):]]), part, k, text(t.shape))
            for k, t in got.items()]


def plain(checkpoint, config):
    """The text encoder's names differ by the prefix alone."""
    return {k[len(TEXT):]: v for k, v in checkpoint.items()}


def make(name, unet, vae, text):
    """Configs by path."""
    unet, vae, text = (json.load(open(os.path.join(HERE, p))) for p in (unet, vae, text))
    for c in unet, vae:
        if isinstance(c["layers_per_block"], list):
            c["layers_per_block"] = c["layers_per_block"][0]
    encoder = {k: v for k, v in state(CLIPTextModel, CLIPTextConfig.from_dict(text)).items()
               if not k.endswith("position_ids")}
    out = lines("unet", UNET, unet_names(unet), single_file_utils.convert_ldm_unet_checkpoint, unet,
                state(UNet2DConditionModel, unet))
    out += lines("vae", VAE, vae_names(vae), single_file_utils.convert_ldm_vae_checkpoint, vae,
                 state(AutoencoderKL, vae))
    out += lines("text_encoder", TEXT, encoder, plain, text, encoder)
    os.makedirs(os.path.join(HERE, "ldm"), exist_ok=True)
    with open(os.path.join(HERE, "ldm", name + ".txt"), "w") as f:
        f.write("\n".join(sorted(out)) + "\n")
    print(name, len(out))


make("small", "sd/unet/config.json", "sd/vae/config.json", "sd/text_encoder/config.json")
make("sd15", "published/sd15-unet.json", "published/sd15-vae.json", "published/sd15-text_encoder.json")
