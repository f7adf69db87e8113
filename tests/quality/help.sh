#!/bin/bash
# Does it help? In each of REPEATS repeats a run that draws its real pairs anew, learns from them with the tiny foundation
# and paints PAIRS pairs; then the small U-Net of analysis/segment.py in every arm. Prints the table after every repeat.
#   tests/quality/help.sh WORK skin|ultrasound [--set section.name=value]...
#       phantoms: 30 of 400 by the run's own seed, 500 unseen ones for the test
#   tests/quality/help.sh WORK busi Dataset_BUSI_with_GT [--set section.name=value]...
#       cross-validation by group: repeat r is fold r modulo 5, dealt anew after every fifth (folds.py)
# The settings go to the runs. Started again, it goes on where it was: what WORK holds is not made again, and REPEATS may
# grow. A repeat needs nothing of the others, so WORK/results alone, which tests/quality/help-skin keeps, is enough to
# go on elsewhere: cp -r tests/quality/help-skin WORK/results. Other sizes by the environment, for a look:
#   REPEATS=2 PAIRS=24 TEST=40 STEPS=40 tests/quality/help.sh runs/look skin --set finetune.steps=20
# Two trainings of one thread at a time (JOBS), and the next repeat's run beside them. As it is, a repeat takes about ten
# minutes of two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
meddiff=${MEDDIFF:-build/meddiff}
python=${MEDDIFF_PYTHON:-python3}
work=${1:?a folder to work in} kind=${2:?skin, ultrasound or busi}
shift 2
pairs=${PAIRS:-100} real=${REAL:-30} steps=${STEPS:-500} share=${SHARE:-0.8}
case $kind in
skin) config=configs/quickstart.cfg ;;
ultrasound) config=configs/phantom-ultrasound.cfg ;;
busi) config=configs/tiny/busi.cfg
    busi=${1:?the folder Dataset_BUSI_with_GT}
    shift ;;
*) echo "help: no kind $kind; skin, ultrasound or busi" >&2; exit 2 ;;
esac
settings=("$@")
"$python" -B analysis/segment_small.py --help >/dev/null || exit # 77: something of Python is missing
mkdir -p "$work"

# part NAME SEED COUNT NORMAL: phantoms as WORK/phantoms/NAME, a part of the data set in the folder layout.
part() {
    local drawn="$work/drawing-$1" to="$work/phantoms/$1" image name
    [ ! -e "$to" ] || return 0
    rm -rf "$drawn" "$to.part"
    "$meddiff" phantom "$drawn" --set "phantom.kind=$kind" --set "seed=$2" --set "phantom.count=$3" \
        --set "phantom.normal=$4" --set phantom.test=0 --set "phantom.distractors=${DISTRACTORS:-3}"
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

# root_of I: the data set of repeat I, in `root`.
if [ "$kind" = busi ]; then
    repeats=${REPEATS:-5}
    [ -e "$work/whole/data.h5" ] || "$meddiff" import "$config" --set "run=$work/whole" --set "data.root=$busi"
    root_of() {
        root=$work/fold-$1
        [ ! -e "$root" ] || return 0
        rm -rf "$root.part"
        PYTHONPATH=analysis "$python" -B tests/quality/folds.py "$work/whole/data.h5" "$busi" "$root.part" --number $(($1 - 1))
        mv "$root.part" "$root"
    }
else
    repeats=${REPEATS:-20}
    part train 2011 "${TRAIN:-400}" 30
    part val 2012 "${VAL:-40}" 0
    part test 2013 "${TEST:-500}" 0
    root_of() { root=$work/phantoms; }
fi

# What a user would do: augment in any case. `all` is what can be had at most.
arms=(classical classical+paste classical+synthetic)
[ "$kind" = busi ] || arms+=(classical+all) # a fold's training part is all there is
arms+=(real)
mkdir -p "$work/results"

# arms_of I: those of repeat I whose results are not there, in `missing`.
arms_of() {
    local arm all=("${arms[@]}")
    [ "$1" != 1 ] || all+=(shuffled) # a control, which must fail: once is enough
    missing=()
    for arm in "${all[@]}"; do
        grep -qs "\"repeat\": $(($1 - 1))," "$work/results/$arm.jsonl" || missing+=("$arm")
    done
}

# make_run I: the run of repeat I, unless it is there.
make_run() {
    local run=$work/run-$1 root
    [ "$(head -n 1 "$run/RESULT" 2>/dev/null)" != ok ] || return 0
    root_of "$1"
    mpirun -n 3 "$meddiff" pipeline "$config" --set "run=$run" --set "seed=$1" --set data.format=folder \
        --set "data.root=$root" --set "data.pairs=$real" --set data.near_duplicates=warn \
        --set model.encoder=data/tiny/encoder --set "generate.pairs=$((pairs + (pairs + 19) / 20))" "${settings[@]}" \
        >"$run.log" 2>&1 || echo "help: run $1 ended with $?; its log is $run.log" >&2
} # some pairs more than needed, since slots may be given up

show() { "$python" -B analysis/segment.py --table "$work"/results/*.jsonl | tee "$work/help.md"; }

todo=()
for ((i = 1; i <= repeats; i++)); do
    arms_of "$i"
    [ ${#missing[@]} = 0 ] || todo+=("$i")
done
[ ${#todo[@]} = 0 ] || make_run "${todo[0]}"
for ((k = 0; k < ${#todo[@]}; k++)); do
    i=${todo[k]} run=$work/run-${todo[k]}
    # slots that were given up are fine, those that are still to come are not
    "$python" -B -c 'import sys, h5py; sys.exit(any(h5py.File(sys.argv[1])["state"][:] < 2))' "$run/pairs.h5" || {
        echo "help: $run is not whole; what ails it stands at the end of $run.log; then start this again" >&2
        exit 1
    }
    [ $((k + 1)) = ${#todo[@]} ] || make_run "${todo[k + 1]}" & # a run alone leaves cores idle
    arms_of "$i"
    printf '%s\0' "${missing[@]}" | xargs -0 -P "${JOBS:-2}" -I ARM "$python" -B analysis/segment.py \
        --data "$run/data.h5" --pairs "$run/pairs.h5" --synthetic "$pairs" --share "$share" --arms ARM --first "$i" \
        --repeats "$i" --steps "$steps" --threads 1 --out "$work/results/ARM.jsonl" >/dev/null
    show
    wait
done
[ ${#todo[@]} != 0 ] || show
