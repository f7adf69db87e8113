"""Sections about the run: training, masks, data set, time and memory, provenance. Each returns HTML."""
import numpy as np

from .draw import curve, escape, picture, shares, smoothed
from .pairs import why_no_pairs
from .pieces import (duration, figure, figure_of, licences, moment, none, number_of, pic, plural, slots, spread, table)
from .run import ACCEPTED, HEALTHY, LESION, SHAPES, SPLITS, STATES


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
            f"<h3>{escape(title)}</h3>" +
            curve(m[:, 0], m[:, 1], smooth, f"Loss of the {title} over the steps", "loss"),
            f"{state}; loss {smooth[0]:.4f} at first, {smooth[-1]:.4f} at last (mean over {2 * reach + 1} steps); "
            f"median gradient norm {np.nanmedian(m[:, 2]):.3g}; learning rate at most {m[:, 3].max():.3g}; "
            f"{pace:.3g} s a step" + (f"; {plural(strange, 'step')} not finite" if strange else ""), "")
    absent = [t for s, t in names.items() if s not in run.metrics]
    text = f"<p class=\"soft\">Not trained in this run directory: {', '.join(absent).lower()}.</p>" if absent else ""
    return f'<div class="charts">{cards}</div>{text}'


def shape_values(run, name):
    found = {"real": [], "generated": []}
    for row in run.shapes:
        value = number_of(row.get(name))
        if row.get("kind") in found and np.isfinite(value):
            found[row["kind"]].append(value)
    return np.array(found["real"]), np.array(found["generated"])


def shape_card(run, name):
    units = {"area": "share of the square", "perimeter": "edges of the square", "eccentricity": "0: a circle",
             "solidity": "share of the convex hull", "centre_y": "share of the height",
             "centre_x": "share of the width", "nearest_iou": "IoU with the nearest training mask, aligned"}
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
        text += (f"<h3>{plural(len(rows), 'training mask')}</h3>" +
                 mask_strip(run.data, spread(rows, 12), "training mask"))
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
        text += ("<p>The share of masks up to each value: the closer the lines, the more alike the shapes. Dashed: "
                 f'real; solid: drawn.</p><div class="charts">{cards}</div>')
    levels = (run.mask_report or {}).get("diversity")
    if isinstance(levels, dict):
        text += "<h3>What each level of randomness adds</h3>" + table(
            ("level", "as they lie", "aligned"),
            [(escape(k), figure_of(v.get("as_they_lie")), figure_of(v.get("aligned"))) for k, v in levels.items()],
            caption="Mean 1 − IoU of two masks drawn with that alone", numbers=(1, 2))
    return text


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
            [(r, r"((\d+)/\d+) (\w+) in (.+)") for r in
             ("import", "lesion", "background", "masks", "backgrounds", "generate")]
            for _, m, _, _ in run.log.matching(room, pattern)]
    if work:
        text += "<h3>Work</h3>" + table(("what", "amount", "time"), work, numbers=(1, 2))
    text += "<h3>Memory</h3>"
    memory = [(escape(m[1]), escape(time.replace("T", " ").rstrip("Z")), f"{m[2]} MiB", f"{m[3]} MiB", m[4])
              for time, m, _, _ in run.log.matching(
                  "memory", r"(.+): at most (\d+) MiB resident in a process, (\d+) MiB in all (\d+)$")]
    if memory:
        text += table(("stage", "done (UTC)", "most of a process", "all together", "processes"), memory,
                      numbers=(2, 3, 4), caption="Of the processors' memory; <code>meddiff plan CONFIG</code> tells a GPU's, too")
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
    text += table(("licence", "images"), [(escape(name), f"{n:,}") for name, n in sorted(licences(run).items())],
                  numbers=(1,))
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
            for name, was, now in run.hashes], wide=True,
            caption="As pairs.h5 holds it; the stores were hashed anew for this page")
        count = [(s, f"{len(slots(run, i)):,}") for i, s in enumerate(STATES)]
        text += "<h3>Slots</h3>" + table(("state", "slots"), count, numbers=(1,))
    else:
        text += none(why_no_pairs(run))
    absent = sorted((k, v) for k, v in run.missing.items() if v != "No such file or directory")
    if absent:
        text += "<h3>Files that could not be read</h3>" + table(
            ("file", "why"), [(escape(k), escape(v)) for k, v in absent])
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
