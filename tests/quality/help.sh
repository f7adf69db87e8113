#!/bin/bash
# Does it help? Phantoms with 500 unseen ones for the test; RUNS runs, each of which draws 30 of 400 training pairs
# by its own seed, learns from them with the tiny foundation and paints PAIRS pairs; then the small U-Net of
# analysis/segment.py in every arm, REPEATS paired repeats (repeat r on run r modulo RUNS). Prints the table.
#   tests/quality/help.sh WORK [skin|ultrasound] [--set section.name=value]...
# The settings go to the runs. Started again, it goes on where it was: what WORK holds is not made again. REPEATS may
# grow later; another number of RUNS wants another WORK. Other sizes by the environment, for a look:
#   RUNS=2 REPEATS=2 PAIRS=24 TEST=40 STEPS=40 tests/quality/help.sh runs/look --set finetune.steps=20
# As it is, 20 runs of about 12 minutes and 180 trainings of one or two: about eight hours of two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
meddiff=${MEDDIFF:-build/meddiff}
python=${MEDDIFF_PYTHON:-python3}
work=${1:?a folder to work in}
shift
kind=skin
if [[ ${1:-} != "" && ${1:-} != --* ]]; then
    kind=$1
    shift
fi
repeats=${REPEATS:-20} runs=${RUNS:-20} pairs=${PAIRS:-300} real=${REAL:-30} steps=${STEPS:-400}
case $kind in
skin) config=configs/quickstart.cfg ;;
ultrasound) config=configs/phantom-ultrasound.cfg ;;
*) echo "help: no kind $kind; skin or ultrasound" >&2; exit 2 ;;
esac
"$python" -B analysis/segment_small.py --help >/dev/null || exit # 77: something of Python is missing
mkdir -p "$work"

# part NAME SEED COUNT NORMAL: phantoms as WORK/phantoms/NAME, a part of the data set in the folder layout.
part() {
    local drawn="$work/drawing-$1" to="$work/phantoms/$1" image name
    [ ! -e "$to" ] || return 0
    rm -rf "$drawn" "$to.part"
    "$meddiff" phantom "$drawn" --set "phantom.kind=$kind" --set "seed=$2" --set "phantom.count=$3" \
        --set "phantom.normal=$4" --set phantom.test=0
    mkdir -p "$to.part"
    if [ "$kind" = skin ]; then
        mv "$drawn"/train/* "$to.part"
    else # each class has its folder, and the masks lie beside the images
        mkdir "$to.part"/{images,masks,backgrounds}
        for image in "$drawn"/train/*/*/*\).png; do
            name=$(basename "$image" .png | tr -d '()' | tr ' ' -).png
            case $image in
            */normal/*) mv "$image" "$to.part/backgrounds/$name" ;;
            *) mv "$image" "$to.part/images/$name" && mv "${image%.png}_mask.png" "$to.part/masks/$name" ;;
            esac
        done
    fi
    cp "$drawn/LICENSE" "$work/phantoms"
    mv "$to.part" "$to"
    rm -r "$drawn"
}

part train 2001 "${TRAIN:-400}" 30
part val 2002 "${VAL:-40}" 0
part test 2003 "${TEST:-500}" 0

data=() stores=() fewest=$pairs
for ((i = 1; i <= runs; i++)); do
    run=$work/run-$i
    if [ "$(head -n 1 "$run/RESULT" 2>/dev/null)" != ok ]; then
        mpirun -n 3 "$meddiff" pipeline "$config" --set "run=$run" --set "seed=$i" --set data.format=folder \
            --set "data.root=$work/phantoms" --set "data.pairs=$real" --set data.near_duplicates=warn \
            --set model.encoder=data/tiny/encoder --set "generate.pairs=$pairs" "$@" >"$run.log" 2>&1 ||
            echo "help: run $i ended with $?; its log is $run.log" >&2
    fi
    # slots that were given up are fine, those that are still to come are not
    read -r there open <<<"$("$python" -B -c 'import sys, h5py, numpy as np
state = h5py.File(sys.argv[1])["state"][:]
print((state == 2).sum(), (state < 2).sum())' "$run/pairs.h5")" || true
    if [ "${open:-1}" != 0 ] || [ "$there" = 0 ]; then
        echo "help: $run is not whole; what ails it stands at the end of $run.log; then start this again" >&2
        exit 1
    fi
    echo "run $i: $there of $pairs pairs accepted"
    fewest=$((there < fewest ? there : fewest))
    data+=("$run/data.h5") stores+=("$run/pairs.h5")
done

arms=real,classical,paste,synthetic,classical+paste,classical+synthetic,all,all+classical,shuffled
"$python" -B analysis/segment.py --data "${data[@]}" --pairs "${stores[@]}" --synthetic "$fewest" --arms "$arms" \
    --repeats "$repeats" --steps "$steps" --threads "${THREADS:-2}" --out "$work/help.jsonl" | tee "$work/help.md"
