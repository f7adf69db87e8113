"""What the sections of the page are made of, and small questions to a run."""
import datetime
import re

import numpy as np

from .draw import escape, outlines
from .run import text_of


def none(why):
    """In place of what a run lacks; `why` is HTML."""
    return f'<p class="none">{why}</p>'


def pic(image, klass="", enlarge=True, **masks):
    """A picture (an <img>) with outlines over it."""
    over = outlines(**masks) if masks else ""
    name = re.search('alt="([^"]*)"', image)
    button = f'<button class="enlarge" type="button">enlarge {name[1]}</button>' if enlarge and name else ""
    return f'<div class="pic {klass}">{image}{over}{button}</div>'


def figure(body, caption, attributes='class="card"'):
    return f"<figure {attributes}>{body}<figcaption>{caption}</figcaption></figure>"


def table(head, rows, caption=None, numbers=(), wide=None):
    """rows: lists of HTML cells; numbers: columns set to the right; wide: on a phone each row becomes a list."""
    wide = len(head) > 3 if wide is None else wide
    def cell(i, value):
        klass = ' class="num"' if i in numbers else ""
        tag = "th scope=row" if i == 0 else "td"
        return f'<{tag}{klass} data-label="{escape(head[i])}"><span>{value}</span></{tag.split()[0]}>'
    top = "".join(f'<th scope="col"{" class=num" if i in numbers else ""}>{escape(h)}</th>' for i, h in enumerate(head))
    body = "".join("<tr>" + "".join(cell(i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    title = f"<caption>{caption}</caption>" if caption else ""
    return f'<table{" class=stack" if wide else ""}>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def spread(rows, most):
    """At most `most` of them at equal distances."""
    if len(rows) <= most:
        return list(rows)
    return [rows[int(i)] for i in np.linspace(0, len(rows) - 1, most)]


def plural(n, one, many=None):
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def duration(seconds):
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def moment(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")


def figure_of(value):
    return "–" if value is None or not np.isfinite(value) else f"{value:.4f}"


def limits_of(run):
    """{"whole", "lesion"}: (low, high); {} where pairs are not judged."""
    band = np.atleast_1d(run.pairs.attrs.get("band", [])) if run.pairs else []
    if len(band) != 4 or not np.all(np.isfinite(band)):
        return {}
    return {"whole": (float(band[0]), float(band[1])), "lesion": (float(band[2]), float(band[3]))}


def judged(run):
    return bool(run.pairs) and "sha256_encoder" in run.pairs.attrs


def slots(run, state):
    return np.flatnonzero(run.pairs["state"] == state) if run.pairs else np.empty(0, int)


def number_of(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")


def licences(run):
    """{licence: images of data.h5}."""
    names, counts = np.unique(run.data["licence"], return_counts=True)
    return {text_of(n) or "not stated": int(c) for n, c in zip(names, counts)}
