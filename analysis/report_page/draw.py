"""Pictures as data URIs, outlines of masks and charts as SVG: for the page. numpy, and Pillow where it is there."""
import base64
import html
import io
import struct
import zlib

import numpy as np

try:
    from PIL import Image
except ImportError:
    Image = None

EDGE = 256  # pixels of a picture on the page, at most


def escape(value):
    return html.escape(str(value), quote=True)


def png(pixels):
    """u8 [H,W] or [H,W,3] as PNG; bool [H,W] at one bit a pixel."""
    h, w = pixels.shape[:2]
    if pixels.dtype == bool:
        depth, kind, rows = 1, 0, np.packbits(pixels, axis=1)
    else:
        depth, kind, rows = 8, 2 if pixels.ndim == 3 else 0, pixels.reshape(h, -1)
    raw = np.concatenate([np.zeros((h, 1), np.uint8), rows], axis=1).tobytes()

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def uri(kind, body):
    return f"data:image/{kind};base64," + base64.b64encode(body).decode()


def shrink(pixels):
    """At most EDGE pixels high: every n-th of mask pixels, means of others."""
    n = -(-pixels.shape[0] // EDGE)
    if n == 1:
        return pixels
    if pixels.dtype == bool:
        return pixels[n // 2::n, n // 2::n]
    h, w = pixels.shape[0] // n * n, pixels.shape[1] // n * n
    blocks = pixels[:h, :w].reshape(h // n, n, w // n, n, -1)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8).reshape(h // n, w // n, *pixels.shape[2:])


def picture(pixels, alt, klass=""):
    """An <img> of u8 [H,W,3] (JPEG where Pillow is there) or bool [H,W] (black and white)."""
    small = shrink(pixels)
    if small.dtype == bool or Image is None:
        source = uri("png", png(small))
    else:
        out = io.BytesIO()
        Image.fromarray(small).save(out, "JPEG", quality=92, subsampling=0)
        source = uri("jpeg", out.getvalue())
    return (f'<img class="{klass}" src="{source}" width="{small.shape[1]}" height="{small.shape[0]}" '
            f'alt="{escape(alt)}">')


def picture_file(path, alt):
    """The same of a PNG file; "" where it cannot be read."""
    try:
        with open(path, "rb") as f:
            body = f.read(1 << 24)
        if Image is not None:
            with Image.open(io.BytesIO(body)) as im:
                return picture(np.asarray(im.convert("RGB")), alt)
        w, h = struct.unpack(">II", body[16:24])
        return f'<img src="{uri("png", body)}" width="{w}" height="{h}" alt="{escape(alt)}">'
    except (OSError, ValueError, struct.error):
        return ""


def outline(mask):
    """The mask's boundary along the pixels' edges as the d of an SVG path, and the edge of its square."""
    m = np.pad(shrink(mask > 0), 1)
    parts = []
    for flip in (False, True):
        x = m.T if flip else m
        change = x[1:, 1:-1] != x[:-1, 1:-1]  # between rows y-1 and y, for each column
        for y in np.flatnonzero(change.any(axis=1)):
            steps = np.flatnonzero(np.diff(np.concatenate([[0], change[y].astype(np.int8), [0]])))
            for a, b in steps.reshape(-1, 2):
                parts.append(f"M{y} {a}V{b}" if flip else f"M{a} {y}H{b}")
    return "".join(parts), m.shape[0] - 2


def outlines(**masks):
    """An <svg> to lie over a picture: a path of that class for each mask."""
    paths = [(name, *outline(mask)) for name, mask in masks.items()]
    edge = paths[0][2]
    return (f'<svg class="lines" viewBox="0 0 {edge} {edge}" aria-hidden="true">' +
            "".join(f'<path class="{name}" d="{d}"/>' for name, d, _ in paths) + "</svg>")


# ---- charts: one viewBox unit is about a pixel

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 210, 44, 16, 12, 40


def ticks(low, high, most=6):
    """Round numbers from low to high."""
    span = high - low
    if not span > 0:
        return [low]
    step = 10.0 ** np.floor(np.log10(span / most))
    step *= next(k for k in (1, 2, 5, 10) if span / (step * k) <= most)
    return [k * step for k in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]


def number(x):
    return f"{x:.6g}"


class Axes:
    def __init__(self, x, y, label_x, label_y, title):
        self.x, self.y, self.title = x, y, title
        self.body = []
        for t in ticks(*x):
            self.add(f'<line class="tick" x1="{self.px(t)}" x2="{self.px(t)}" y1="{HEIGHT - BOTTOM}" '
                     f'y2="{HEIGHT - BOTTOM + 4}"/><text x="{self.px(t)}" y="{HEIGHT - BOTTOM + 15}" '
                     f'text-anchor="middle">{number(t)}</text>')
        for t in ticks(*y, 5):
            self.add(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.py(t)}" y2="{self.py(t)}"/>'
                     f'<text x="{LEFT - 5}" y="{self.py(t) + 3.5:.1f}" text-anchor="end">{number(t)}</text>')
        self.add(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
                 f'{escape(label_x)}</text><text transform="translate(10 {(TOP + HEIGHT - BOTTOM) / 2}) '
                 f'rotate(-90)" text-anchor="middle">{escape(label_y)}</text>')

    def add(self, text):
        self.body.append(text)

    def px(self, v):
        a, b = self.x
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (v - a) / (b - a), 1)

    def py(self, v):
        a, b = self.y
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (v - a) / (b - a), 1)

    def line(self, klass, xs, ys):
        points = " ".join(f"{self.px(a)},{self.py(b)}" for a, b in zip(xs, ys))
        self.add(f'<polyline class="{klass}" points="{points}"/>')

    def mark(self, klass, x, text):
        if self.x[0] <= x <= self.x[1]:
            self.add(f'<line class="{klass}" x1="{self.px(x)}" x2="{self.px(x)}" y1="{TOP}" '
                     f'y2="{HEIGHT - BOTTOM}"><title>{escape(text)}</title></line>')

    def svg(self):
        bottom = HEIGHT - BOTTOM
        return (f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}">' +
                "".join(self.body) + f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" '
                f'y2="{bottom}"/></svg>')


def histogram(series, title, label_x, band=None, limits=(), ticks_of=None, bins=30, span=None):
    """Stacked counts. series: [(class, name, values)]; band: (low, high), shaded; limits: [(x, text)]; ticks_of:
    values that get a short stroke each under the axis's line; span: the axis, else what the values reach."""
    values = np.concatenate([v for _, _, v in series])
    others = [x for x, _ in limits] + list(ticks_of if ticks_of is not None else [])
    reach = np.concatenate([values, others]) if len(others) else values
    low, high = span or (reach.min(), reach.max())
    pad = 0.03 * (high - low) or 0.05
    if span is None:
        low, high = low - pad, high + pad
    edges = np.linspace(low, high, bins + 1)
    counts = [np.histogram(v, edges)[0] for _, _, v in series]
    axes = Axes((low, high), (0, max(1, int(np.sum(counts, axis=0).max()) * 1.08)), label_x, "number", title)
    if band:
        a, b = max(low, band[0]), min(high, band[1])
        axes.add(f'<rect class="band" x="{axes.px(a)}" width="{max(0, axes.px(b) - axes.px(a)):.1f}" y="{TOP}" '
                 f'height="{HEIGHT - TOP - BOTTOM}"/>')
    below = np.zeros(bins, int)
    for (klass, name, _), count in zip(series, counts):
        for i in np.flatnonzero(count):
            y, top = axes.py(below[i]), axes.py(below[i] + count[i])
            axes.add(f'<rect class="fill {klass}" x="{axes.px(edges[i])}" y="{top}" '
                     f'width="{max(1, axes.px(edges[i + 1]) - axes.px(edges[i]) - 1):.1f}" height="{y - top:.1f}">'
                     f'<title>{escape(name)}: {count[i]} from {number(edges[i])} to {number(edges[i + 1])}</title>'
                     '</rect>')
        below += count
    for v in ticks_of if ticks_of is not None else []:
        axes.add(f'<line class="rug" x1="{axes.px(v)}" x2="{axes.px(v)}" y1="{HEIGHT - BOTTOM}" '
                 f'y2="{HEIGHT - BOTTOM + 6}"/>')
    for x, text in limits:
        axes.mark("limit", x, text)
    return axes.svg()


def shares(series, title, label_x):
    """The share of values up to x, a line for each of series [(class, values)]; none of them empty."""
    low = min(v.min() for _, v in series)
    high = max(v.max() for _, v in series)
    pad = 0.03 * (high - low) or 0.05
    axes = Axes((low - pad, high + pad), (0, 1), label_x, "share up to here", title)
    for klass, v in series:
        v = np.sort(v)
        if len(v) > 400:
            v = np.quantile(v, np.linspace(0, 1, 400))
        share = np.arange(1, len(v) + 1) / len(v)
        axes.line("stroke " + klass, np.concatenate([[low - pad], np.repeat(v, 2), [high + pad]]),
                  np.concatenate([[0], np.column_stack([share - 1 / len(v), share]).ravel(), [1]]))
    return axes.svg()


def curve(steps, values, smooth, title, label_y):
    """A value over the steps: each step's faintly, the smoothed one over it."""
    shown = values[np.isfinite(values)]
    if not len(shown):
        return ""
    high = float(np.quantile(shown, 0.995)) * 1.05 or 1.0
    axes = Axes((0, max(1, steps[-1] + 1)), (0, high), "step", label_y, title)
    n = max(1, len(steps) // 300)
    cut = len(steps) // n * n
    few = [np.minimum(np.nan_to_num(v, nan=high), high)[:cut].reshape(-1, n).mean(axis=1) for v in (values, smooth)]
    at = steps[:cut].reshape(-1, n).mean(axis=1)
    axes.line("stroke faint", at, few[0])
    axes.line("stroke made", at, few[1])
    return axes.svg()


def smoothed(values, reach):
    """Mean over `reach` steps before and after, fewer at the ends."""
    total = np.concatenate([[0], np.cumsum(np.nan_to_num(values))])
    i = np.arange(len(values))
    a, b = np.maximum(0, i - reach), np.minimum(len(values), i + reach + 1)
    return (total[b] - total[a]) / (b - a)
