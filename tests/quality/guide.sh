#!/bin/bash
# The parts of the guide, on and off: paints the same pairs (same seed: backgrounds, guides, noise) from one
# fine-tuned model under each row below, measures them and draws a sheet, OUT/guide-parts.png. tests/quality/guide.md
# holds what came out.
#   tests/quality/guide.sh CONFIG RUN OUT [--set section.name=value]...
# core-deep's feather reaches to the middle of every guide; edge-settled has all of it open for the last 60 % of the
# timesteps. RUN: a run directory of CONFIG with data.h5, backgrounds.h5 and models/lesion. Rows that are there are kept.
set -euo pipefail
config=$1 run=$2 out=$3
shift 3
meddiff=${MEDDIFF:-build/meddiff}
python=${MEDDIFF_PYTHON:-python3}
here=$(dirname "$0")
mkdir -p "$out"
names=()
while read -r name settings; do
    names+=("$name")
    [ ! -e "$out/$name/guide.png" ] || continue
    mkdir -p "$out/$name"
    cp -r "$run"/{data.h5,backgrounds.h5,models} "$out/$name"
    [ ! -e "$run/masks.h5" ] || cp "$run/masks.h5" "$out/$name"
    # not pasted back: the script pastes, and sees what lies beyond the guide, too
    # shellcheck disable=SC2086
    "$meddiff" generate "$config" --set "run=$out/$name" --set guide.paste=false --set quality.corrode_px=0 \
        $settings "$@" >"$out/$name.log" 2>&1 </dev/null || { tail -n 3 "$out/$name.log"; exit 1; }
    rm -r "$out/$name/models"
done <<END_OF_ROWS
none --set guide.grow=0
grow-1 --set guide.grow=1
grow-2 --set guide.grow=2
feather --set guide.grow=0 --set guide.feather=3
grow-feather --set guide.grow=2 --set guide.feather=3
core --set guide.grow=2 --set guide.feather=3 --set guide.dynamic=core
core-deep --set guide.grow=2 --set guide.feather=64 --set guide.dynamic=core
edge --set guide.grow=2 --set guide.feather=3 --set guide.dynamic=edge
edge-settled --set guide.grow=2 --set guide.feather=3 --set guide.dynamic=edge --set guide.settled=0.6
END_OF_ROWS
"$python" -B "$here/guide.py" "$out" "${names[@]}"
