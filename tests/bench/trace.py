#!/usr/bin/env python3
"""What trace.c recorded, summed up: python3 tests/bench/trace.py FILE [--last MS] [--by name|grid] [--top N]

Looks at the last MS milliseconds of the program alone (default: all), so that a bench's last lap can be
told from its choices and warm-up. Prints time per kernel, calls, share, and how long the GPU had nothing
to do between kernels."""
import argparse
import csv
import re
import subprocess


def short(names):
    """Demangled, without template arguments' noise."""
    out = subprocess.run(["c++filt", "-p"], input="\n".join(names), text=True, capture_output=True).stdout
    return [re.sub(r"\s+", " ", n)[:110] for n in out.split("\n")]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file")
    p.add_argument("--last", type=float, help="milliseconds from the end")
    p.add_argument("--by", choices=("name", "grid"), default="name")
    p.add_argument("--top", type=int, default=60)
    a = p.parse_args()
    with open(a.file) as f:
        rows = sorted((int(r[0]), int(r[1]), r[2], r[3], ",".join(r[4:])) for r in csv.reader(f))
    end = rows[-1][0] + rows[-1][1]
    if a.last:
        rows = [r for r in rows if r[0] >= end - a.last * 1e6]
    names = sorted({r[4] for r in rows})
    plain = dict(zip(names, short(names)))
    total, calls, busy, reach = {}, {}, 0, 0
    for begin, ns, grid, block, name in rows:
        key = (plain[name], grid + "/" + block) if a.by == "grid" else (plain[name],)
        total[key] = total.get(key, 0) + ns
        calls[key] = calls.get(key, 0) + 1
        busy += max(0, begin + ns - max(begin, reach))
        reach = max(reach, begin + ns)
    span = reach - rows[0][0]
    print("%.3f ms, %d launches, busy %.3f ms (%.1f %%)" % (span / 1e6, len(rows), busy / 1e6, 100 * busy / span))
    for key, ns in sorted(total.items(), key=lambda x: -x[1])[: a.top]:
        print("%9.3f ms %5.1f %% %5d x %8.1f us  %s" % (ns / 1e6, 100 * ns / busy, calls[key], ns / 1e3 / calls[key], "  ".join(key)))


main()
