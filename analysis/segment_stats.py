"""Intervals and the table of a study (segment.py), from the lines of its results. numpy alone."""
from collections import defaultdict

import numpy as np

DRAWS = 4000


def draw_means(scores, runs, tests, draws=DRAWS, seed=1):
    """The hierarchical bootstrap: [draws] means. scores: one array [n test pictures] per repeat; runs, tests: of
    each repeat, which run it was of and which test pictures it was measured on. Every draw takes runs, of
    each run its repeats, and of the test pictures as many, all with replacement; repeats that were measured on
    the same pictures get the same ones, since a hard picture is hard in all of them."""
    rng = np.random.default_rng(seed)
    means = np.empty((len(scores), draws))
    for test in sorted(set(tests)):
        of = [i for i, t in enumerate(tests) if t == test]
        n = len(scores[of[0]])
        counts = rng.multinomial(n, np.full(n, 1 / n), draws)
        means[of] = np.array([scores[i] for i in of]) @ counts.T / n
    repeats = defaultdict(list)
    for i, run in enumerate(runs):
        repeats[run].append(i)
    repeats = [np.array(repeats[run]) for run in sorted(repeats)]
    out, crossed = np.empty(draws), len(set(tests)) == 1
    for d in range(draws):
        drawn = [repeats[i] for i in rng.integers(0, len(repeats), len(repeats))]
        # on pictures of its own, a run that is drawn twice gets other ones the second time: those of another draw
        at = [d if crossed else (d + 131 * k) % draws for k in range(len(drawn))]
        out[d] = np.mean([means[of[rng.integers(0, len(of), len(of))], k].mean() for of, k in zip(drawn, at)])
    return out


def interval(scores, runs, tests, share=0.95, **how):
    """mean, low, high. The mean is of runs, of each the mean of its repeats."""
    mean = np.mean([np.mean([np.mean(s) for s, r in zip(scores, runs) if r == run]) for run in sorted(set(runs))])
    low, high = np.quantile(draw_means(scores, runs, tests, **how), [(1 - share) / 2, (1 + share) / 2])
    return float(mean), float(low), float(high)


def difference(ours, theirs, what="dice"):
    """mean, low, high of ours - theirs over the repeats that both have, picture by picture; None: none. ours,
    theirs: {repeat: line}."""
    both = sorted(set(ours) & set(theirs))
    if not both:
        return None
    scores = [np.subtract(ours[r][what], theirs[r][what]) for r in both]
    return interval(scores, [ours[r]["run"] for r in both], [ours[r]["test"] for r in both])


def table(lines, against=("real", "classical")):
    """The table in Markdown. lines: dictionaries, as segment.py writes them."""
    cells = defaultdict(dict)
    for line in lines:
        cells[line["segmenter"], line["arm"]][line["repeat"]] = line
    base = [arm for arm in against if any(a == arm for _, a in cells)]
    head = ["segmenter", "arm", "pairs", "repeats", "Dice", "IoU"] + [f"Dice - {arm}" for arm in base]
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]

    def points(found, sign=""):
        return "" if found is None else "{:{s}.2f} [{:{s}.2f}, {:{s}.2f}]".format(*(100 * v for v in found), s=sign)

    for (segmenter, arm), found in cells.items():
        of = [found[r] for r in sorted(found)]
        runs, tests = [line["run"] for line in of], [line["test"] for line in of]
        row = [segmenter, arm, str(of[0]["pairs"]), str(len(of))]
        row += [points(interval([line[what] for line in of], runs, tests)) for what in ("dice", "iou")]
        row += [points(difference(found, cells.get((segmenter, other), {})) if arm != other else None, "+")
                for other in base]
        out.append("| " + " | ".join(row) + " |")
    return "\n".join(out)


def count(things, word):
    return f"{len(things)} {word}{'s' if len(things) != 1 else ''}"


def remarks(lines):
    """Sentences that the table needs beside it."""
    runs, repeats = {line["run"] for line in lines}, {line["repeat"] for line in lines}
    sizes = sorted({len(line["dice"]) for line in lines})
    out = [f"Means in percent with 95 % intervals of a bootstrap over {count(runs, 'run')}, {count(repeats, 'repeat')} "
           f"and {' or '.join(map(str, sizes))} test pictures; differences are paired by repeat and picture."]
    if len(repeats) == 1:
        out.append("One repeat: the interval is that of the test pictures alone.")
    elif len(runs) == 1:
        out.append("One run: the intervals know nothing of what other real pairs, or models trained on them, give.")
    return out
