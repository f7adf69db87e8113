#!/bin/bash
# The phantom study: pairs painted from 30 phantoms, judged by a small U-Net that was trained on 400 others
# and is measured on 500 more. Prints every figure with its limit; 0: all hold, 1: one does not.
#   tests/quality/phantoms.sh skin|ultrasound [WORK] [--set section.name=value]...
# The settings go to the product's run. What WORK holds already is not made again: remove the folder
# of a stage to repeat it. The product's run aside (README.md), about 20 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
meddiff=${MEDDIFF:-build/meddiff}
python=${MEDDIFF_PYTHON:-python3}
kind=${1:?skin or ultrasound}
shift
work=runs/phantom-study-$kind
if [[ ${1:-} != "" && ${1:-} != --* ]]; then
    work=$1
    shift
fi
case $kind in
skin) config=configs/quickstart.cfg format=folder below='' count=30 ;;
ultrasound) config=configs/phantom-ultrasound.cfg format=busi below=/train count=38 ;; # of which 30 are for training
*) echo "phantoms: no kind $kind; skin or ultrasound" >&2; exit 2 ;;
esac
"$python" -B tests/quality/phantoms.py --help >/dev/null || exit # 77: something of Python is missing
mkdir -p "$work"

# draw NAME SEED COUNT NORMAL: phantoms in WORK/NAME.
draw() {
    [ -e "$work/$1" ] || "$meddiff" phantom "$work/$1" --set "phantom.kind=$kind" --set "seed=$2" \
        --set "phantom.count=$3" --set "phantom.normal=$4" --set phantom.test=0
}

# finished RUN: has it come to its end?
finished() { [ "$(head -n 1 "$1/RESULT" 2>/dev/null)" = ok ]; }

# whole NAME: all phantoms of WORK/NAME-phantoms in one store, WORK/NAME/data.h5.
whole() {
    [ ! -e "$work/$1/data.h5" ] || return 0
    cat >"$work/$1.cfg" <<END
run = "$work/$1";
data = { format = "$format"; root = "$work/$1-phantoms$below"; size = 128; pairs = 0; near_duplicates = "warn"; };
END
    "$meddiff" import "$work/$1.cfg"
}

draw judge-phantoms 1001 400 100
draw unseen-phantoms 1002 500 500
draw product-phantoms 1 30 30
whole judge
whole unseen
painted=("$config" --set "data.root=$work/product-phantoms$below" "$@")
product=("${painted[@]}" --set model.encoder=data/tiny/encoder)
finished "$work/product" || mpirun -n 3 "$meddiff" pipeline "${product[@]}" --set "run=$work/product" ||
    echo "phantoms: the product's run ended with $?: $(cat "$work/product/RESULT"); judged is what it accepted"

# The control: the same by the foundation that was never fine-tuned, and not filtered, since little would be left.
if ! finished "$work/untuned"; then
    rm -rf "$work/untuned"
    mkdir -p "$work/untuned"
    cp -r "$work"/product/{data.h5,backgrounds.h5,masks.h5,models} "$work/untuned"
    mpirun -n 3 "$meddiff" generate "${painted[@]}" --set "run=$work/untuned" --set generate.weights=foundation
fi

# Repaired backgrounds, as a data set without lesion-free images gets them.
if [ ! -e "$work/repaired/backgrounds.h5" ]; then
    repaired=("${painted[@]}" --set "run=$work/repaired" --set backgrounds.from=repaired --set backgrounds.count=120)
    mpirun -n 3 "$meddiff" import "${repaired[@]}"
    mpirun -n 3 "$meddiff" finetune "${repaired[@]}" --set finetune.region=background
    mpirun -n 3 "$meddiff" backgrounds "${repaired[@]}"
fi

# plant RUN FOLDER [--set ...]...: the filter, on pictures planted into copies of the run's store by
# tests/quality/planted.py. The settings are the run's.
plant() {
    local run=$1 to=$2 folder
    shift 2
    [ ! -e "$to/judged" ] || return 0
    rm -rf "$to"
    "$python" -B tests/quality/planted.py write "$run" "$work/unseen/data.h5" "$to"
    for folder in "$to"/[0-9]*; do
        mpirun -n 3 "$meddiff" assess "${product[@]}" "$@" --set "run=$folder" --set quality.redraw=false
    done
    touch "$to/judged"
}
plant "$work/product" "$work/planted"

# Its limits hang on the few images they are learnt from: DRAWS others, 30 for training in each, with a store to
# plant in that is painted in two steps, since nobody looks at it.
for ((i = 1; i <= ${DRAWS:-5}; i++)); do
    draw "drawn-phantoms-$i" $((10 + i)) "$count" 30
    own=(--set "data.root=$work/drawn-phantoms-$i$below" --set "seed=$((10 + i))" --set generate.weights=foundation
        --set generate.steps=2 --set guide.from=data)
    if [ ! -e "$work/drawn-$i/pairs.h5" ]; then
        mpirun -n 3 "$meddiff" import "${painted[@]}" "${own[@]}" --set "run=$work/drawn-$i"
        mpirun -n 3 "$meddiff" generate "${painted[@]}" "${own[@]}" --set "run=$work/drawn-$i"
    fi
    plant "$work/drawn-$i" "$work/planted-$i" "${own[@]}"
done
"$python" -B tests/quality/phantoms.py "$work"
