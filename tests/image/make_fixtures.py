#!/usr/bin/env python3
"""Makes tests/image/data: small PNG and JPEG files of every kind, and PIL's resizing as golden.

    pip install pillow numpy
    python3 tests/image/make_fixtures.py

Pixels of the 7 x 5 pattern (x 0..6, y 0..4) are computed anew in test_read.c; change both together.
"""
import os
import struct
import zlib

import numpy as np
from PIL import Image

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
W, H = 7, 5
y, x = np.mgrid[0:H, 0:W]
red, green, blue = (x * 37 + y * 11) % 256, (x * 5 + y * 50) % 256, (x * 20 + y * 30 + 7) % 256
alpha = (x * 40 + y * 3) % 256
gray = red.astype(np.uint8)
rgb = np.stack([red, green, blue], -1).astype(np.uint8)


def out(name):
    return os.path.join(HERE, name)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(name, color_type, depth, rows, extra=b"", interlace=0):
    """rows: bytes with the filter byte of each row."""
    head = struct.pack(">IIBBBBB", W, H, depth, color_type, 0, 0, interlace)
    open(out(name), "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra +
                                chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def packed(values, depth):
    bits = "".join(format(int(v), f"0{depth}b") for v in values)
    bits += "0" * (-len(bits) % 8)
    return b"\0" + bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


os.makedirs(HERE, exist_ok=True)
Image.fromarray(gray).save(out("gray8.png"))
Image.fromarray(rgb).save(out("rgb8.png"))
Image.fromarray(np.dstack([gray, alpha.astype(np.uint8)])).save(out("gray_alpha.png"))
Image.fromarray(np.dstack([rgb, alpha.astype(np.uint8)])).save(out("rgba.png"))
for depth in (1, 2, 4):
    level = (x + y) % (1 << depth)
    raw_png(f"gray{depth}.png", 0, depth, b"".join(packed(r, depth) for r in level))
palette = b"".join(bytes([i * 60, 255 - i * 60, i * 10]) for i in range(4))
index = (x + 2 * y) % 4
for depth in (2, 8):
    raw_png(f"palette{depth}.png", 3, depth, b"".join(packed(r, depth) for r in index),
            chunk(b"PLTE", palette))
raw_png("palette_alpha.png", 3, 2, b"".join(packed(r, 2) for r in index),
        chunk(b"PLTE", palette) + chunk(b"tRNS", bytes([255, 0, 128, 255])))
raw_png("palette_lie.png", 3, 2, b"".join(packed(r, 2) for r in index), chunk(b"PLTE", palette[:6]))
deep = (x * 9000 + y).astype(">u2")
raw_png("gray16.png", 0, 16, b"".join(b"\0" + r.tobytes() for r in deep))
raw_png("rgb16.png", 2, 16, b"".join(b"\0" + np.repeat(r, 3).astype(">u2").tobytes() for r in deep))
raw_png("label.png", 0, 8, b"".join(b"\0" + bytes(int(v) for v in r) for r in (x > 3) * 1))
raw_png("short.png", 2, 8, b"".join(b"\0" + r.tobytes() for r in rgb[:4]))
adam7 = b""
for y0, x0, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
                       (0, 1, 2, 2), (1, 0, 2, 1)):
    for r in rgb[y0::dy, x0::dx]:
        if r.size:
            adam7 += b"\0" + r.tobytes()
raw_png("interlaced.png", 2, 8, adam7, interlace=1)

# A smooth picture for JPEG: 24 x 16, and what PIL decodes.
yy, xx = np.mgrid[0:16, 0:24]
soft = np.stack([xx * 10, yy * 15, 255 - xx * 5 - yy * 5], -1).astype(np.uint8)
picture = Image.fromarray(soft)


def jpeg(name, im, **how):
    im.save(out(name), **how)
    if "expect" not in name:
        Image.open(out(name)).save(out(name + ".png"))


jpeg("rgb.jpg", picture, quality=90, subsampling=2)
jpeg("rgb422.jpg", picture, quality=90, subsampling=1)
jpeg("progressive.jpg", picture, quality=90, progressive=True)
jpeg("gray.jpg", picture.convert("L"), quality=90)
picture.convert("CMYK").save(out("cmyk.jpg"), quality=90)
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # quality 100 and 4:4:4: the corners keep their colours
    picture.save(out(f"orient{orientation}.jpg"), quality=100, subsampling=0, exif=exif)
    if orientation == 6:
        Image.fromarray(rgb).save(out("orient6.png"), exif=exif)
# Mosaic of the reds that upright pixels must show comes from PIL's own transposition.
from PIL import ImageOps  # noqa: E402
for orientation in range(2, 9):
    ImageOps.exif_transpose(Image.open(out(f"orient{orientation}.jpg"))).save(
        out(f"orient{orientation}.jpg.png"))

# Resizing: 23 x 17 of noise with an edge, to smaller, mixed and larger.
seed, values = 1, []
for _ in range(17 * 23 * 3):
    seed = (seed * 1103515245 + 12345) % (1 << 31)
    values.append(seed >> 16 & 255)
noise = np.array(values, np.uint8).reshape(17, 23, 3)
noise[5:12, 8:20] = noise[5:12, 8:20] // 4 + 190
Image.fromarray(noise).save(out("resize_source.png"))
filters = {"nearest": Image.NEAREST, "box": Image.BOX, "bilinear": Image.BILINEAR,
           "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
for name, f in filters.items():
    for w, h in ((7, 5), (9, 40), (23, 6), (50, 31), (1, 1)):
        Image.fromarray(noise).resize((w, h), f).save(out(f"resize_{name}_{h}x{w}.png"))
