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

Exit code 0: written. 1: the page could not be written. 2: there is nothing to report, or a library is missing."""
import argparse
import base64
import datetime
import hashlib
import os
import sys

try:
    import numpy as np

    from report_page import course, pairs
    from report_page.draw import escape
    from report_page.pieces import judged, licences, plural, slots
    from report_page.run import ACCEPTED, LESION, STATES, Run
except ImportError as e:
    print(f"report.py: {e}; it needs numpy and h5py (in Debian: "
          "apt-get install python3-numpy python3-h5py python3-pil)", file=sys.stderr)
    sys.exit(2)

HERE = os.path.dirname(os.path.abspath(__file__))


# ---- what comes first

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
                     + f" (licence: {escape('; '.join(sorted(licences(run))))}). Patients' images are pseudonymous at "
                     "best: treat the page as you treat them.")
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


# ---- the page

def sections(run, most):
    return [
        ("pairs", "Pairs", pairs.section_pairs(run, most)),
        ("nearest", "Nearest real images", pairs.section_nearest(run, most)),
        ("journeys", "From real image to pair", pairs.section_journeys(run)),
        ("repair", "Before and after the repair", pairs.section_repair(run)),
        ("training", "Training", course.section_training(run)),
        ("similarity", "Similarity to real images", pairs.section_similarity(run)),
        ("alignment", "Alignment of mask and painting", pairs.section_alignment(run)),
        ("rejected", "Rejected draws", pairs.section_rejected(run, most)),
        ("set", "The pairs as a set", pairs.section_set(run)),
        ("masks", "Masks", course.section_masks(run)),
        ("data", "Data set", course.section_data(run)),
        ("course", "Course of the run: time, memory, warnings", course.section_course(run)),
        ("origin", "Where the pairs come from", course.section_origin(run)),
        ("config", "Configuration", course.section_config(run)),
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
        '<label><input type="checkbox" data-shows="near"> nearest real image of each pair</label>'
        if judged(run) else "")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
    # nothing may be fetched, and no script but this one runs, whatever a file's name holds
    policy = (f"default-src 'none'; img-src data:; style-src {css_hash}; script-src {js_hash}; base-uri 'none'; "
              "form-action 'none'")
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
    try:
        with open(part, "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(part, to)
    except OSError as e:
        print(f"report.py: {to}: cannot write: {e.strerror}; --to FILE names another place", file=sys.stderr)
        return 1
    print(f"{to}: {len(text.encode()) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
