#!/bin/bash
# Every block of analysis/README.md, in its order, on a run in runs/mine; not those under "by hand", and those not whose
# packages or programs are missing, which are named. MEDDIFF_PYTHON: another Python than python3; its folder comes first
# in PATH.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
python=$(command -v "${MEDDIFF_PYTHON:-python3}")
[ -z "$python" ] || PATH=$(dirname "$python"):$PATH
mkdir build && ln -s "$meddiff" build/meddiff
ln -s "$tree/include" include
ln -s "$tree/analysis" analysis
run 0 1 pipeline small.cfg --set run=runs/mine --set data.root=phantoms/train --set data.pairs=10
blocks "$tree/analysis/README.md"
ran=0
# missing FILE: the first thing that it needs and that is not there.
missing() {
    local word
    case $1 in
    *.py)
        [ -n "$python" ] || { echo python3; return; }
        while read -r word; do
            "$python" -c "import $word" 2>/dev/null || { echo "$word"; return; }
        done < <(sed -nE 's/^(from|import) ([a-z0-9_]+).*/\2/p' "$1" | sort -u)
        ;;
    *.sh)
        while read -r word; do
            command -v "$word" >/dev/null || { echo "$word"; return; }
        done < <(sed -nE 's/^(nnUNetv2_[a-z_]+).*/\1/p' "$1")
        ! grep -q '^python3 analysis/segment' "$1" || for word in h5py torch; do
            "${python:-false}" -c "import $word" 2>/dev/null || { echo "$word"; return; }
        done
        ;;
    esac
}
export PYTHONPATH=$tree/analysis PYTHONDONTWRITEBYTECODE=1
for block in block-*; do
    case $block in *.python) mv "$block" "${block%.python}.py" && block=${block%.python}.py ;; esac
    without=$(missing "$block")
    if [ -n "$without" ]; then
        echo "$block was not run: no $without here"
        continue
    fi
    case $block in
    *.py) "$python" "$block" >out 2>&1 || fail "$block" ;;
    *.sh) bash -euo pipefail "$block" >out 2>&1 || fail "$block" ;;
    *.c) cp "$block" reader.c ;;
    *) fail "$block: of an unknown language" ;;
    esac
    ran=$((ran + 1))
done
[ $ran -ge 3 ] || fail "only $ran blocks ran"
[ "$(cat out)" = '14 pairs' ] || fail 'the C reader'
finish recipes
