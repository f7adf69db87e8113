#!/usr/bin/env python3
"""One page about a run: RUN/report.html, a single file that asks nothing of the network.

    report.py RUN [--to FILE] [--pictures 24]

Shows, as far as the run has come: a grid of pairs with outlines of mask and guide to switch on and off and the
nearest real image of each; from real image over background and guide to the pair; images before and after the
repair; loss curves; similarities with their limits, alignment; rejected draws with their reasons; the shapes of
drawn and real masks; time and memory; where everything comes from, and the configuration. What a run lacks is
named with the reason. Pairs are not picked by anybody: they stand at equal distances over the accepted slots.

Reads config.cfg, log.txt, metrics.csv, the stores and the reports beside them, without a lock, so that a live run
is not disturbed. Needs numpy and h5py; with Pillow the pictures are JPEG and the page a fifth of the size. In
Debian: apt-get install python3-numpy python3-h5py python3-pil. The pictures are at most 256 pixels high; the
stores hold the true ones. The page shows images of the data set: it may go where those may go.

Exit code 0: written. 2: there is nothing to report."""
import argparse
import base64
import datetime
import hashlib
import os
import sys

import numpy as np

from report_draw import (escape, course, histogram, outlines, picture, picture_file, shares, smoothed)
from report_run import (ACCEPTED, HEALTHY, KINDS, LESION, REJECTED, REPAIRED, SHAPES, SPLITS, STATES, Run)

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = (("whole", "similarity", "Whole image"), ("lesion", "similarity_lesion", "Lesion alone"))


# ---- pieces

def none(why):
    """In place of what a run lacks; `why` is HTML."""
    return f'<p class="none">{why}</p>'


def pic(image, klass="", enlarge=True, **masks):
    """A picture (an <img>) with outlines over it."""
    over = outlines(**masks) if masks else ""
    button = '<button class="enlarge" type="button">enlarge</button>' if enlarge else ""
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


# ---- sections: each returns HTML

def tiles(run):
    found = []
    if run.pairs:
        done = len(slots(run, ACCEPTED))
        found.append((f"{done:,} of {run.pairs.rows:,}", "pairs accepted"))
        if judged(run):
            found.append((f"{len(run.rejected):,}", "draws rejected"))
        found.append(("×".join(str(n) for n in run.pairs.pictures["images"].shape[1:3]), "pixels"))
    if run.data:
        found.append((f'{int(np.sum((run.data["used"] > 0) & (run.data["kind"] == LESION))):,}', "training pairs used"))
    if run.backgrounds:
        found.append((f"{run.backgrounds.rows:,}", "backgrounds"))
    if run.masks:
        found.append((f'{int(np.sum(run.masks["state"] == ACCEPTED)):,}', "new masks"))
    found.append((escape(run.config.get("seed", "?")), "seed"))
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in found) + "</div>"


def outcome(run):
    first = run.result.split("\n")[0]
    if run.requeue:
        return "stopped by a signal; starting it again goes on"
    if first == "ok":
        return "finished"
    if first:
        return first
    return "under way, or ended without leaving an outcome"


def first_things(run):
    """What a reviewer has to know before the pictures."""
    items = [f"Outcome: {escape(outcome(run))}."]
    if run.result and not run.result.startswith("ok"):
        items.append(f"<code>{escape(run.result)}</code>")
    if run.data:
        items.append("This page shows images of the data set"
                     + (", and the pairs contain their pixels outside the guide" if run.pairs and
                        run.pairs.attrs.get("contains_real_pixels") else "")
                     + f" (licence: {escape(run.data.text('licences')) or 'not stated'}). Patients' images are "
                     "pseudonymous at best: treat the page as you treat them.")
    if run.pairs:
        count = {s: len(slots(run, i)) for i, s in enumerate(STATES)}
        open_ = count["empty"] + count["not judged"]
        if open_:
            items.append(f"{plural(open_, 'slot is', 'slots are')} still to be made or judged.")
        for s in ("rejected", "failed"):
            if count[s]:
                items.append(f"{plural(count[s], 'slot was', 'slots were')} {s} for good.")
        kept = int(np.sum((run.pairs["state"] == ACCEPTED) & (run.pairs["reason"] != b"")))
        if kept:
            items.append(f"{plural(kept, 'mask was', 'masks were')} not eroded: nothing would have been left.")
        if not judged(run):
            items.append("Nobody judged the pairs: model.encoder was empty when they were made.")
    for name, was, now in run.hashes:
        if now and now != was:
            items.append(f"{escape(name)}.h5 is not the one that the pairs were made from (its SHA-256 differs).")
    for part, title in (("whole", "images"), ("lesion", "lesions")):
        if run.assessment and (run.assessment.get(part) or {}).get("memorisation_flagged"):
            share = run.assessment[part]["memorisation"]
            items.append(f"The model repeats what it was shown: {100 * share:.0f} % of the {title} are nearer to a "
                         "training image than to one that was never trained on.")
    bad = run.log.warnings()
    if bad:
        items.append(f'{plural(len(bad), "warning or error", "warnings and errors")} in the log: see '
                     '<a href="#course">course of the run</a>.')
    return ('<section class="first" aria-labelledby="first"><h2 id="first">What to know first</h2><ul>' +
            "".join(f"<li>{i}</li>" for i in items) + "</ul></section>")


def nearest_picture(run, row):
    """The real image of that row with its mask's outline, and what it is called; ("", "") without one."""
    if not run.data or not run.data.has(row):
        return "", ""
    name = f"real image {row}, {run.data.named(row)}"
    return pic(picture(run.data.picture("images", row), name), seen=run.data.picture("masks", row)), name


def pair_card(run, slot):
    p = run.pairs
    nearest = int(p["nearest_id"][slot])
    near, _ = nearest_picture(run, nearest)
    facts = [f"pair {slot}"]
    if p["attempt"][slot]:
        facts.append(f"draw {int(p['attempt'][slot]) + 1}")
    if np.isfinite(p["similarity"][slot]):
        facts.append(f"similarity {p['similarity'][slot]:.3f}, lesion {p['similarity_lesion'][slot]:.3f}")
        facts.append(f"nearest: real image {nearest}")
    if np.isfinite(p["alignment"][slot]):
        facts.append(f"alignment {p['alignment'][slot]:.2f}")
    body = pic(picture(p.picture("images", slot), f"generated pair {slot}"), guide=p.picture("guides", slot),
               mask=p.picture("masks", slot)) + (f'<div class="near">{near}</div>' if near else "")
    return figure(body, " · ".join(facts),
                  f'class="card" data-slot="{slot}" data-similarity="{float(p["similarity"][slot])}" '
                  f'data-lesion="{float(p["similarity_lesion"][slot])}" data-alignment="{float(p["alignment"][slot])}"')


def why_no_pairs(run):
    if "pairs.h5" in run.missing and run.missing["pairs.h5"] != "No such file or directory":
        return f"pairs.h5 {escape(run.missing['pairs.h5'])}"
    if not run.pairs:
        return "No pairs yet: <code>meddiff generate</code> has not begun in this run directory (there is no pairs.h5)."
    return "No slot of pairs.h5 is accepted yet."


def section_pairs(run, most):
    accepted = slots(run, ACCEPTED)
    if not len(accepted):
        return none(why_no_pairs(run))
    shown = spread(accepted, most)
    text = (f"<p>{len(shown)} of {plural(len(accepted), 'accepted pair')}, at equal distances over the slots, picked by "
            "nobody. Green: the mask that a segmenter trains on; orange: the guide, before the erosion; blue: the mask "
            "of a real image.</p>")
    order = ('<p><label for="order">Order: </label><select id="order"><option value="slot">slot</option>'
             '<option value="similarity">most similar image first</option><option value="lesion">most similar lesion '
             'first</option><option value="alignment">best aligned first</option></select></p>' if judged(run) else "")
    return text + order + '<div class="grid" id="pairs-grid">' + "".join(pair_card(run, s) for s in shown) + "</div>"


def side_by_side(run, found):
    """found: [(slot, row of data.h5, similarity)]."""
    cards = ""
    for slot, row, value in found:
        near, name = nearest_picture(run, row)
        mine = pic(picture(run.pairs.picture("images", slot), f"generated pair {slot}"),
                   mask=run.pairs.picture("masks", slot))
        cards += ('<div class="sheet two"><div class="strip">' + figure(mine, f"pair {slot}, {value:.4f}") +
                  figure(near, escape(name)) + "</div></div>")
    return f'<div class="twos">{cards}</div>'


def section_nearest(run, most):
    """The accepted pairs that are most alike to a real image."""
    accepted = slots(run, ACCEPTED)
    if not judged(run):
        return none("The pairs were not compared with the real images: model.encoder was empty. "
                    "<code>meddiff assess</code> with <code>--set model.encoder=FOLDER</code> judges them.")
    if not len(accepted):
        return none(why_no_pairs(run))
    if not run.data:
        return none("data.h5 is not there, so the real images cannot be shown.")
    most = max(4, most // 3)
    worst = sorted(accepted, key=lambda s: -run.pairs["similarity"][s])[:most]
    whole = [(int(s), int(run.pairs["nearest_id"][s]), float(run.pairs["similarity"][s])) for s in worst]
    text = ("<p>The accepted pairs whose image is most alike to a real one, each beside it. Real images of the "
            "background's own group (patient or lesion) do not count.</p>" + side_by_side(run, whole))
    lesions = (run.assessment or {}).get("most_similar_lesion")
    if not isinstance(lesions, list):
        return text + none("The lesions most alike to a real one stand in assessment.json, which is not there yet.")
    alone = [(int(m["slot"]), int(m["real"]), float(m["similarity"])) for m in lesions
             if m.get("slot") in set(accepted.tolist())][:most]
    return text + ("<h3>Lesions alone</h3><p>The lesions most alike to a real lesion, without what lies around them, "
                   "each beside it; here every training image counts.</p>" + side_by_side(run, alone))


def guide_source(run, slot):
    """The mask that the pair's guide was made from, and its name."""
    row = int(run.pairs["mask_id"][slot])
    if "sha256_masks" in run.pairs.attrs:
        if run.masks and run.masks.has(row):
            return run.masks.picture("masks", row) > 0, f"mask {row} of masks.h5"
        return None, f"mask {row} of masks.h5, which is not there"
    if run.data and run.data.has(row):
        return run.data.picture("masks", row) > 0, f"mask of real image {row}"
    return None, f"mask of real image {row}, which is not there"


def journey(run, slot):
    """Real image, background, mask, guide, pair: one strip."""
    p, row = run.pairs, int(run.pairs["background_id"][slot])
    cells = []
    if run.backgrounds and run.backgrounds.has(row):
        kind, source = int(run.backgrounds["kind"][row]), int(run.backgrounds["data_id"][row])
        if run.data and run.data.has(source) and kind != HEALTHY:
            marked = {"seen": run.data.picture("masks", source)} if run.data["kind"][source] == LESION else {}
            cells.append((pic(picture(run.data.picture("images", source), f"real image {source}"), **marked),
                          f"real image {source}: {escape(run.data.named(source))}"))
        cells.append((pic(picture(run.backgrounds.picture("images", row), f"background {row}")),
                      f"background {row}: {KINDS[kind] if kind < len(KINDS) else kind}"))
    mask, name = guide_source(run, slot)
    if mask is not None:
        cells.append((pic(picture(mask, name), enlarge=False), name))
    cells.append((pic(picture(p.picture("guides", slot) > 0, f"guide of pair {slot}"), enlarge=False), "guide"))
    cells.append((pic(picture(p.picture("images", slot), f"generated pair {slot}"), guide=p.picture("guides", slot),
                      mask=p.picture("masks", slot)), f"pair {slot}"))
    return '<div class="sheet five"><div class="strip">' + "".join(figure(b, c) for b, c in cells) + "</div></div>"


def section_journeys(run):
    accepted = slots(run, ACCEPTED)
    if not len(accepted):
        return none(why_no_pairs(run))
    absent = "" if run.backgrounds else none("backgrounds.h5 is not there, so only masks, guides and pairs are shown.")
    return ("<p>What a pair is made of: the real image that its background comes from, where it "
            "had a lesion or is a part of it (blue: its mask), the background, the mask, the guide that was made from "
            "it, and the pair.</p>" + absent +
            "".join(journey(run, s) for s in spread(accepted, 6)))


def section_repair(run):
    if not run.backgrounds:
        why = run.missing.get("backgrounds.h5", "")
        if why == "No such file or directory":
            why = "there is no backgrounds.h5 yet"
        return none(f"No backgrounds: {escape(why)}.")
    rows = np.flatnonzero(run.backgrounds["kind"] == REPAIRED)
    if not len(rows):
        return none("Nothing was repaired: lesions are painted into " + ("lesion-free images of the data set" if
                    (run.backgrounds["kind"] == HEALTHY).any() else "squares cut from beside the lesions") + ".")
    if not run.data:
        return none("data.h5 is not there, so the images before the repair cannot be shown.")
    cards = ""
    for row in spread(rows, 8):
        source = int(run.backgrounds["data_id"][row])
        if not run.data.has(source):
            continue
        before = pic(picture(run.data.picture("images", source), f"real image {source} before the repair"),
                     seen=run.data.picture("masks", source))
        after = pic(picture(run.backgrounds.picture("images", row), f"background {row}, after the repair"))
        cards += ('<div class="sheet two"><div class="strip">' +
                  figure(before, f"real image {source}: {escape(run.data.named(source))}") +
                  figure(after, f"background {row}") + "</div></div>")
    contrast = [m[1] for _, m, _, _ in run.log.matching("backgrounds", r"contrast of what was repaired .*: ([\d.]+)")]
    extra = (f" What was repaired differs from its surroundings {escape(contrast[-1])} times as much as these differ "
             "among themselves, by the log." if contrast else "")
    return (f"<p>{min(8, len(rows))} of {plural(len(rows), 'repaired background')}: before, with the lesion's outline, "
            f"and after.{extra}</p><div class=\"twos\">{cards}</div>")


def section_training(run):
    if not run.metrics:
        return none("No training has left a line yet: metrics.csv " +
                    ("is not there." if "metrics.csv" in run.missing else "is empty."))
    names = {"lesion": "Lesion model", "background": "Background model", "masks": "Mask generator"}
    wanted = {"lesion": "finetune.steps", "background": "backgrounds.steps", "masks": "masks.steps"}
    cards = ""
    for stage in sorted(run.metrics, key=lambda s: (list(names).index(s) if s in names else 9, s)):
        m = run.metrics[stage]
        title = names.get(stage, stage)
        reach = max(1, len(m) // 40)
        smooth = smoothed(m[:, 1], reach)
        steps = len(m)
        pace = np.median(np.diff(m[:, 4])) if steps > 1 else float("nan")
        goal = run.config.get(wanted.get(stage, ""), "")
        if stage == "background" and goal == "0":
            goal = run.config.get("finetune.steps", "")
        state = f"{steps:,} of {int(goal):,} steps" if goal.isdigit() and int(goal) > steps else plural(steps, "step")
        strange = int(np.sum(~np.isfinite(m[:, 1])))
        cards += figure(
            f"<h3>{escape(title)}</h3>" + course(m[:, 0], m[:, 1], smooth, f"Loss of the {title} over the steps", "loss"),
            f"{state}; loss {smooth[0]:.4f} at first, {smooth[-1]:.4f} at last (mean over {2 * reach + 1} steps); "
            f"median gradient norm {np.nanmedian(m[:, 2]):.3g}; learning rate at most {m[:, 3].max():.3g}; "
            f"{pace:.3g} s a step" + (f"; {plural(strange, 'step')} not finite" if strange else ""), "")
    absent = [t for s, t in names.items() if s not in run.metrics]
    text = f"<p class=\"soft\">Not trained in this run directory: {', '.join(absent).lower()}.</p>" if absent else ""
    return f'<div class="charts">{cards}</div>{text}'


def summary(values):
    return f"median {np.median(values):.4f}, from {values.min():.4f} to {values.max():.4f}" if len(values) else "none"


def section_similarity(run):
    limits = limits_of(run)
    if not judged(run) or not limits:
        return none("No similarities: the pairs were not compared with the real images (model.encoder was empty).")
    accepted = slots(run, ACCEPTED)
    real = run.real_likeness()
    cards = ""
    for part, column, title in PARTS:
        low, high = limits[part]
        good = run.pairs[column][accepted]
        good = good[np.isfinite(good)]
        bad = np.array([number_of(row.get(column)) for row in run.rejected])
        bad = bad[np.isfinite(bad)]
        if not len(good) and not len(bad):
            cards += figure(f"<h3>{title}</h3>", "No draw has been judged yet.", "")
            continue
        marks = real.get(part, np.empty(0))
        svg = histogram([("made", "accepted", good), ("reject", "rejected draws", bad)],
                        f"{title}: similarity of pairs to the nearest real image", "cosine similarity to the nearest",
                        band=(low, high), ticks_of=marks,
                        limits=[(high, f"largest allowed: {high:.4f}"),
                                (low, f"least allowed of the mean of the five nearest: {low:.4f}")])
        cards += figure(
            f"<h3>{title}</h3>{svg}",
            f'<span class="key made"></span>{len(good):,} accepted: {summary(good)}. '
            f'<span class="key reject"></span>{len(bad):,} rejected draws. '
            f"Shaded: from {low:.4f}, the least that the mean of the five nearest may be, to {high:.4f}, the most that "
            "the nearest may be." + (f' <span class="key real"></span>strokes: the {len(marks)} real images to each '
                                     f"other ({summary(marks)})." if len(marks) else ""), "")
    return ("<p>How alike each pair is to the real image nearest to it, by the encoder. Beyond the right limit it counts "
            "as a copy. The left limit holds for the mean of the five nearest, so accepted pairs may stand left or right "
            f'of it here.</p><div class="charts">{cards}</div>')


def section_alignment(run):
    accepted = slots(run, ACCEPTED)
    good = run.pairs["alignment"][accepted] if run.pairs else np.empty(0)
    good = good[np.isfinite(good)]
    bad = np.array([number_of(row.get("alignment")) for row in run.rejected])
    bad = bad[np.isfinite(bad)]
    if not len(good) and not len(bad):
        return none(why_no_pairs(run) if not len(accepted) else "The alignment was not measured.")
    least = number_of(run.made_under.get("quality.alignment", "0"))
    limits = [(least, f"least allowed: {least:g}")] if least > 0 else []
    svg = histogram([("made", "accepted", good), ("reject", "rejected draws", bad)],
                    "Alignment of masks with what the painting changed", "Dice of mask and change", limits=limits,
                    span=(0, 1.0001))
    asked = f"At least {least:g} is asked for." if least > 0 else "Nothing is asked of it (quality.alignment = 0)."
    return ('<div class="charts">' + figure(svg,
            f'<span class="key made"></span>{len(good):,} accepted: {summary(good)}. '
            f'<span class="key reject"></span>{len(bad):,} rejected draws. {asked}', "") + "</div>"
            "<p>Dice between the mask and where the pair differs from its background by more than the encoding alone "
            "does. It says that something was painted under the mask, not that it is a lesion.</p>")


def reject_card(run, row):
    slot, attempt = int(number_of(row["slot"])), int(number_of(row["attempt"]))
    image = picture_file(run.thumbnails[slot, attempt],
                         f"rejected draw {attempt} of slot {slot} beside the nearest real image")
    if not image:
        return ""
    values = ", ".join(f"{label} {number_of(row[c]):.3f}" for label, c in
                       (("image", "similarity"), ("five nearest", "mean"), ("lesion", "similarity_lesion"),
                        ("five nearest", "mean_lesion")) if c in row)
    return figure(pic(image), f"<b>{escape(row['reason'])}</b> · slot {slot}, draw {attempt + 1}: {values}")


def by_reason(rows):
    found = {}
    for row in rows:
        found.setdefault(row["reason"], []).append(row)
    return sorted(found.items(), key=lambda kv: -len(kv[1]))


def some_of_each(groups, most):
    """Draws in turn from each group."""
    found, i = [], 0
    while len(found) < most and any(i < len(g) for g in groups):
        found += [g[i] for g in groups if i < len(g)]
        i += 1
    return found[:most]


def section_rejected(run, most):
    if run.pairs and not judged(run):
        return none("Nothing was rejected: the pairs were not judged (model.encoder was empty).")
    if not run.rejected:
        return none("No draw was rejected so far." if run.pairs else why_no_pairs(run))
    groups = by_reason(run.rejected)
    total = len(run.rejected) + len(slots(run, ACCEPTED))
    counts = table(("reason", "draws", "share of all draws"),
                   [(escape(r), f"{len(rows):,}", f"{100 * len(rows) / max(1, total):.1f} %") for r, rows in groups],
                   numbers=(1, 2))
    known = [[row for row in rows if (int(number_of(row["slot"])), int(number_of(row["attempt"]))) in run.thumbnails]
             for _, rows in groups]
    shown = some_of_each(known, most)
    cards = "".join(reject_card(run, row) for row in shown)
    pictures = (f"<p>{len(shown)} of them, from each reason in turn: the draw with its guide's outline, and the real "
                f'image nearest to it, or whose lesion is.</p><div class="grid wide">{cards}</div>' if cards else
                none("rejected/ holds no picture of them."))
    head = ("slot", "attempt", "reason", "similarity", "similarity_lesion", "mean", "mean_lesion", "alignment")
    rows = [[escape(row.get(h, "")) for h in head] for row in run.rejected[:300]]
    cut = f" The first 300 of {len(run.rejected):,}; all stand in rejected.csv." if len(run.rejected) > 300 else ""
    gone = ""
    final = slots(run, REJECTED)
    if len(final):
        gone = "<h3>Given up</h3>" + table(("slot", "reason"), [
            (str(s), escape(run.pairs["reason"][s].split(b"\0")[0].decode("utf-8", "replace"))) for s in final[:100]])
    return (counts + pictures + gone +
            f"<details><summary>Every rejected draw</summary>{table(head, rows, numbers=range(3, 8))}<p>{cut}</p></details>")


def shape_values(run, name):
    found = {"real": [], "generated": []}
    for row in run.shapes:
        value = number_of(row.get(name))
        if row.get("kind") in found and np.isfinite(value):
            found[row["kind"]].append(value)
    return np.array(found["real"]), np.array(found["generated"])


def shape_card(run, name):
    units = {"area": "share of the square", "perimeter": "edges of the square", "eccentricity": "0: a circle",
             "solidity": "share of the convex hull", "centre_y": "share of the height", "centre_x": "share of the width",
             "nearest_iou": "IoU with the nearest training mask, aligned"}
    real, made = shape_values(run, name)
    if not len(real) or not len(made):
        return ""
    title = name.replace("_", " ").replace("iou", "IoU")
    svg = shares([("real", real), ("made", made)], f"{title}: the share of real and of drawn masks up to each value",
                 units.get(name, name))
    stats = (run.mask_report or {}).get(name) or {}
    ks = ""
    if stats.get("ks") is not None:
        least = stats.get("ks_5_percent")
        ks = f" Kolmogorov-Smirnov distance {stats['ks']:.3f}" + (
            f"; equal ones are farther apart than {least:.3f} in 5 % of cases." if least is not None else ".")
    return figure(f"<h3>{escape(title[0].upper() + title[1:])}</h3>{svg}",
                  f'<span class="key real"></span>real {real.mean():.3f} ± {real.std():.3f}, '
                  f'<span class="key made"></span>drawn {made.mean():.3f} ± {made.std():.3f}.{ks}', "")


def mask_strip(store, rows, what):
    return '<div class="masks">' + "".join(
        pic(picture(store.picture("masks", r) > 0, f"{what} {r}"), enlarge=False) for r in rows) + "</div>"


def section_masks(run):
    source = run.made_under.get("guide.from", run.config.get("guide.from", ""))
    if not run.masks and not run.shapes:
        if source == "data":
            return none("No masks were drawn: guides are the training masks themselves (guide.from = \"data\").")
        return none("No masks yet: <code>meddiff masks</code> has not sampled in this run directory (there is no "
                    "masks.h5).")
    text = ""
    if run.data:
        rows = np.flatnonzero((run.data["kind"] == LESION) & (run.data["split"] == 0) & (run.data["used"] > 0))
        text += f"<h3>{plural(len(rows), 'training mask')}</h3>" + mask_strip(run.data, spread(rows, 12), "training mask")
    if run.masks:
        rows = np.flatnonzero(run.masks["state"] == ACCEPTED)
        text += f"<h3>{plural(len(rows), 'new mask')}</h3>" + (
            mask_strip(run.masks, spread(rows, 24), "new mask") if len(rows) else none("None is accepted yet."))
        taken = [f"{escape(m[1])} {escape(m[2])}" for _, m, _, _ in
                 run.log.matching("masks", r"(\d+) draws were not taken: (.*)")]
        if taken:
            text += f"<p class=\"soft\">Draws that were not taken, by the log: {'; '.join(taken)}.</p>"
    cards = "".join(shape_card(run, name) for name in SHAPES)
    text += "<h3>Shapes of drawn masks against the real ones</h3>"
    if not cards:
        text += none("masks_report.csv is not there yet: it is written when all masks are drawn.")
    else:
        text += ("<p>The share of masks up to each value: the closer the lines, the more alike the shapes. Dashed: real; "
                 f'solid: drawn.</p><div class="charts">{cards}</div>')
    levels = (run.mask_report or {}).get("diversity")
    if isinstance(levels, dict):
        text += "<h3>What each level of randomness adds</h3>" + table(
            ("level", "as they lie", "aligned"),
            [(escape(k), figure_of(v.get("as_they_lie")), figure_of(v.get("aligned"))) for k, v in levels.items()],
            caption="Mean 1 − IoU of two masks drawn with that alone", numbers=(1, 2))
    return text


def section_set(run):
    if not run.assessment:
        return none("assessment.json is not there: it is written when all pairs are made and judged by an encoder.")
    rows = (("frechet_generated_at_rows", "Fréchet distance from the unseen real images, at equal numbers"),
            ("frechet_real_at_rows", "the same of the training images, for comparison"),
            ("precision", "precision: share of pairs within reach of a real image"),
            ("recall", "recall: share of real images within reach of a pair"),
            ("density", "density"), ("coverage", "coverage"))
    parts = [run.assessment.get(p) or {} for p in ("whole", "lesion")]
    body = [(escape(text), *(figure_of(p.get(key)) for p in parts)) for key, text in rows]
    body.append(("share of pairs nearer to a training image than to an unseen one, 95 % interval", *(
        f"{figure_of(p.get('memorisation'))} ({figure_of(p.get('memorisation_low'))} to "
        f"{figure_of(p.get('memorisation_high'))})" for p in parts)))
    used = parts[0]
    return table(("figure", "whole image", "lesion alone"), body, numbers=(1, 2), caption=(
        f"{plural(int(used.get('generated', 0)), 'pair')} against {used.get('train', 0)} training and "
        f"{used.get('holdout', 0)} unseen real images; of so few the figures are rough"))


def stage_rows(run):
    """(stage, when, seconds, remark) of every stage that says when it is done."""
    found = []
    for time, m, size, device in run.log.matching("pipeline", r"(.+): done in (\d+) s"):
        found.append((m[1], time, float(m[2]), ""))
    for time, m, size, device in run.log.matching("cluster", r"(.+): done in (\d+) s, on (\d+) workers?"):
        found.append((m[1], time, float(m[2]), plural(int(m[3]), "worker") + ", beside others"))
    return sorted(found, key=lambda row: row[1])


def section_course(run):
    starts = run.log.starts()
    if not starts:
        return none("log.txt " + ("is not there." if "log.txt" in run.missing else "names no start yet."))
    text = "<h3>Starts</h3>" + table(
        ("job", "began (UTC)", "last line after", "processes", "version"),
        [(escape(s["job"]), escape(s["begin"].replace("T", " ").rstrip("Z")),
          duration((moment(s["end"]) - moment(s["begin"])).total_seconds()), str(s["processes"]),
          escape(s["version"])) for s in starts[-50:]], numbers=(2, 3))
    stages = stage_rows(run)
    if stages:
        text += "<h3>Stages</h3>" + table(("stage", "done (UTC)", "took"), [
            (escape(name) + (f" ({remark})" if remark else ""), escape(time.replace("T", " ").rstrip("Z")), duration(s))
            for name, time, s, remark in stages], numbers=(2,))
    work = [(escape(room), f"{escape(m[2])} {escape(m[3])}", escape(m[4])) for room, pattern in
            [(r, r"((\d+)/\d+) (\w+) in (.+)") for r in ("import", "lesion", "background", "masks", "backgrounds", "generate")]
            for _, m, _, _ in run.log.matching(room, pattern)]
    if work:
        text += "<h3>Work</h3>" + table(("what", "amount", "time"), work, numbers=(1, 2))
    text += "<h3>Memory</h3>"
    memory = [(escape(m[1]), escape(time.replace("T", " ").rstrip("Z")), f"{m[2]} MiB", f"{m[3]} MiB", m[4])
              for time, m, _, _ in run.log.matching(
                  "memory", r"(.+): at most (\d+) MiB resident in a process, (\d+) MiB in all (\d+)$")]
    if memory:
        text += table(("stage", "done (UTC)", "most of a process", "all together", "processes"), memory, numbers=(2, 3, 4),
                      caption="Of the processors' memory; <code>meddiff plan CONFIG</code> tells a GPU's, too")
    else:
        text += none("The log says nothing of memory; <code>meddiff plan CONFIG</code> tells it before a run.")
    devices = list(dict.fromkeys(m[0] for _, m, _, _ in run.log.matching("device", r".*")))
    if devices:
        text += f"<p>Device: {escape('; '.join(devices))}.</p>"
    bad = run.log.warnings()
    text += "<h3>Warnings and errors</h3>"
    text += table(("level", "room", "text", "first (UTC)", "times"), [
        (escape(level), escape(room), escape(t), escape(first.replace("T", " ").rstrip("Z")), str(times))
        for level, room, t, first, times in bad[:100]], numbers=(4,)) if bad else "<p>None.</p>"
    return text


def section_data(run):
    if not run.data:
        why = run.missing.get("data.h5", "")
        return none("Not imported yet: there is no data.h5." if why == "No such file or directory" else
                    f"data.h5 {escape(why)}")
    d = run.data
    rows = [(title, *(f"{int(np.sum((d['kind'] == k) & (d['split'] == s))):,}" for s in range(3)))
            for k, title in ((LESION, "images with a lesion"), (HEALTHY, "lesion-free images"))]
    used = int(np.sum((d["used"] > 0) & (d["kind"] == LESION)))
    text = table(("", *SPLITS), rows, numbers=(1, 2, 3))
    text += (f"<p>Format {escape(d.text('format'))}, {d.rows:,} images of {len(np.unique(d['group'])):,} groups "
             f"(patients, lesions or near duplicates); {plural(used, 'training pair')} used.</p>")
    names, counts = np.unique(d["licence"], return_counts=True)
    text += table(("licence", "images"), [(escape(n.split(b"\0")[0].decode("utf-8", "replace")), f"{c:,}")
                                          for n, c in zip(names, counts)], numbers=(1,))
    if run.skipped:
        why = {}
        for row in run.skipped:
            why[row.get("why") or ""] = why.get(row.get("why") or "", 0) + 1
        text += "<h3>Left out or moved by the import</h3>" + table(
            ("why", "files"), [(escape(k), f"{n:,}") for k, n in sorted(why.items(), key=lambda kv: -kv[1])[:20]],
            numbers=(1,))
    return text


def section_origin(run):
    text = ""
    if run.pairs:
        p = run.pairs
        rows = [("prompt", p.text("prompt")), ("foundation", p.text("foundation")), ("seed", p.text("seed")),
                ("made by", "meddiff " + p.text("code_version")), ("licences", p.text("licences")),
                ("contains pixels of real images", "yes" if p.attrs.get("contains_real_pixels") else "no")]
        text += table(("pairs.h5", "value"), [(k, escape(v)) for k, v in rows])
        text += "<h3>What the pairs come from</h3>" + table(("part", "SHA-256", "now"), [
            (escape(name), f"<code>{escape(was)}</code>",
             "–" if now is None else "the same" if now == was else "<b>ANOTHER ONE</b>")
            for name, was, now in run.hashes], caption="As pairs.h5 holds it; the stores were hashed anew for this page", wide=True)
        count = [(s, f"{len(slots(run, i)):,}") for i, s in enumerate(STATES)]
        text += "<h3>Slots</h3>" + table(("state", "slots"), count, numbers=(1,))
    else:
        text += none(why_no_pairs(run))
    absent = sorted((k, v) for k, v in run.missing.items() if v != "No such file or directory")
    if absent:
        text += "<h3>Files that could not be read</h3>" + table(("file", "why"), [(escape(k), escape(v)) for k, v in absent])
    return text


def section_config(run):
    own = run.pairs.text("config") if run.pairs else ""
    if not run.config_text and not own:
        return none("There is no config.cfg.")
    text = f"<details><summary>config.cfg, every key</summary><pre>{escape(run.config_text)}</pre></details>"
    made = run.made_under
    other = [(k, made.get(k), run.config.get(k)) for k in made if made.get(k) != run.config.get(k)] if own else []
    if other:
        text += table(("key", "when the pairs were made", "config.cfg now"),
                      [(escape(k), escape(a), escape(b)) for k, a, b in other])
    elif own:
        text += "<p>The pairs were made under the same configuration as config.cfg holds now.</p>"
    return text


# ---- the page

def sections(run, most):
    return [
        ("pairs", "Pairs", section_pairs(run, most)),
        ("nearest", "Nearest real images", section_nearest(run, most)),
        ("journeys", "From real image to pair", section_journeys(run)),
        ("repair", "Before and after the repair", section_repair(run)),
        ("training", "Training", section_training(run)),
        ("similarity", "Similarity to real images", section_similarity(run)),
        ("alignment", "Alignment of mask and painting", section_alignment(run)),
        ("rejected", "Rejected draws", section_rejected(run, most)),
        ("set", "The pairs as a set", section_set(run)),
        ("masks", "Masks", section_masks(run)),
        ("data", "Data set", section_data(run)),
        ("course", "Course of the run: time, memory, warnings", section_course(run)),
        ("origin", "Where the pairs come from", section_origin(run)),
        ("config", "Configuration", section_config(run)),
    ]


def asset(name):
    with open(os.path.join(HERE, "report_page", name), encoding="utf-8") as f:
        text = f.read()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return text, f"'sha256-{digest}'"


def page(run, most):
    css, css_hash = asset("page.css")
    js, js_hash = asset("page.js")
    parts = sections(run, most)
    links = "".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title, _ in parts)
    body = "".join(f'<section aria-labelledby="{key}"><h2 id="{key}">{escape(title)}</h2>{text}</section>'
                   for key, title, text in parts)
    switches = "".join(
        f'<label><input type="checkbox" data-shows="{key}"{" checked" if on else ""}> <span class="key {key}"></span>'
        f"{text}</label>" for key, text, on in (("mask", "mask", True), ("guide", "guide", False),
                                                ("seen", "mask of real image", True))) + (
        '<label><input type="checkbox" data-shows="near"> nearest real image of each pair</label>' if judged(run) else "")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
    # nothing may be fetched, and no script but this one runs, whatever a file's name holds
    policy = f"default-src 'none'; img-src data:; style-src {css_hash}; script-src {js_hash}; base-uri 'none'; form-action 'none'"
    return (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
            f'content="{policy}"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(run.name)}: report of a meddiff run</title><style>{css}</style></head><body>"
            f'<header><h1>{escape(run.name)}</h1><p class="soft">Report of a meddiff run, written {now} UTC</p>'
            f"{tiles(run)}{first_things(run)}<nav aria-label=\"Sections\"><ul>{links}</ul></nav></header>"
            f'<div class="bar"><div><span class="soft">Show:</span>{switches}</div></div>'
            f"<main>{body}</main><footer>Made by analysis/report.py. Pictures are at most 256 pixels high"
            f"; the stores hold the true ones.</footer>"
            '<dialog><div class="stage"></div><p></p><button type="button">Close</button></dialog>'
            f"<script>{js}</script></body></html>\n")


def main():
    usage = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usage.add_argument("run", help="run directory")
    usage.add_argument("--to", help="file to write (default: RUN/report.html)")
    usage.add_argument("--pictures", type=int, default=24, help="pairs and rejected draws to show (default: 24)")
    given = usage.parse_args()
    if not os.path.exists(os.path.join(given.run, "config.cfg")):
        print(f"report.py: {given.run} is no run directory: it holds no config.cfg", file=sys.stderr)
        return 2
    run = Run(given.run)
    run.hashes = run.input_hashes()
    to = given.to or os.path.join(given.run, "report.html")
    text = page(run, max(1, given.pictures))
    part = f"{to}.tmp.{os.getpid()}"
    with open(part, "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(part, to)
    print(f"{to}: {len(text.encode()) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
