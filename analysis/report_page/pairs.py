"""Sections about the pairs and what they come from. Each returns HTML."""
import numpy as np

from .draw import escape, histogram, picture, picture_file
from .pieces import (figure, figure_of, judged, limits_of, none, number_of, pic, plural, slots, spread, table)
from .run import ACCEPTED, HEALTHY, KINDS, LESION, REJECTED, REPAIRED, text_of

PARTS = (("whole", "similarity", "Whole image"), ("lesion", "similarity_lesion", "Lesion alone"))


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
    text = (f"<p>{len(shown)} of {plural(len(accepted), 'accepted pair')}, at equal distances over the slots, picked "
            "by nobody. Green: the mask that a segmenter trains on; orange: the guide, before the erosion; blue: the mask "
            "of a real image.</p>")
    order = ('<p class="order"><label for="order">Order: </label><select id="order"><option value="slot">slot</option>'
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
    return ("<p>How alike each pair is to the real image nearest to it, by the encoder. Beyond the right limit it "
            "counts as a copy. The left limit holds for the mean of the five nearest, so accepted pairs may stand left or "
            f'right of it here.</p><div class="charts">{cards}</div>')


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
    rows = [[escape(row.get(h, "")) for h in head[:3]] + [figure_of(number_of(row.get(h))) for h in head[3:]]
            for row in run.rejected[:300]]
    cut = f" The first 300 of {len(run.rejected):,}; all stand in rejected.csv." if len(run.rejected) > 300 else ""
    gone = ""
    final = slots(run, REJECTED)
    if len(final):
        gone = "<h3>Given up</h3>" + table(("slot", "reason"), [
            (str(s), escape(text_of(run.pairs["reason"][s]))) for s in final[:100]])
    return (counts + pictures + gone +
            f"<details><summary>Every rejected draw</summary>{table(head, rows, numbers=range(3, 8))}<p>{cut}</p>"
            "</details>")


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
