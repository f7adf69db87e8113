#!/bin/bash
# The mask generator's figures (issue 5, criterion 3): trained on phantom masks and held against unseen ones;
# with a folder of BUSI (data/README.md) trained on all its masks and held against halves of them. Masks are
# sampled before the random affine and threshold. Prints every figure with its bound; 0: all hold, 1: one
# does not.
#   tests/quality/masks.sh WORK [Dataset_BUSI_with_GT]
# About 40 minutes of two cores for each kind of phantom, 23 for BUSI. What WORK holds already is not made again.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
meddiff=$(realpath "${MEDDIFF:-build/meddiff}")
python=${MEDDIFF_PYTHON:-python3}
check=$PWD/tests/quality/masks.py
mkdir -p "${1:?a folder to work in}"
busi=${2:+$(realpath "$2")}
cd "$1"

# As large as a processor trains in half an hour: 48 pixels, 2.7 M parameters.
cat >masks.cfg <<END
seed = 1;
threads = 1;
data = { size = 128; pairs = 0; near_duplicates = "warn"; };
masks = {
    size = 48; width = 16; layers = 1; ramp = 0.05;
    steps = 8000; batch = 16; lr = 2e-3; ema = 0.99; augment = 0.3;
    count = 1000; sample_steps = 25; sample_batch = 20; affine = 0.0; threshold = 0.0;
};
END

# learn RUN [--set ...]...: import, training, sampling on two workers.
learn() {
    local run=$1 job
    shift
    for job in import masks; do
        [ "$job" = import ] && [ -e "$run/data.h5" ] && continue
        mpirun -n 3 "$meddiff" $job masks.cfg --set "run=$run" "$@" >"$run-$job.log" 2>&1 ||
            { tail -n 5 "$run-$job.log" >&2; exit 1; }
    done
    grep -h 'not taken\|given up' "$run-masks.log" || true
}

bad=0
seed=10
for kind in skin ultrasound; do
    seed=$((seed + 1))
    [ -e $kind ] || "$meddiff" phantom $kind --set phantom.kind=$kind --set phantom.count=500 \
        --set phantom.normal=2 --set phantom.test=500 --set seed=$seed >/dev/null 2>&1
    layout=folder
    [ $kind = skin ] || layout=busi
    learn $kind-run --set data.format=$layout --set "data.root=$kind/train"
    [ -e $kind-unseen/data.h5 ] || "$meddiff" import masks.cfg --set run=$kind-unseen \
        --set data.format=$layout --set "data.root=$kind/test" >/dev/null 2>&1
    echo "$kind"
    "$python" -B "$check" phantom $kind-run $kind-unseen || bad=1
done

if [ -n "$busi" ]; then
    # all pairs into the training part: split by hand, in the folder layout
    [ -e busi-all/data.h5 ] || "$meddiff" import masks.cfg --set run=busi-all --set data.format=busi \
        --set "data.root=$busi" >/dev/null 2>&1
    "$python" -B "$check" folder busi-all busi
    learn busi-run --set data.format=folder --set data.root=busi --set masks.steps=4000 --set masks.augment=1 \
        --set masks.warp=0.2
    echo busi
    "$python" -B "$check" real busi-run || bad=1
fi
exit $bad
