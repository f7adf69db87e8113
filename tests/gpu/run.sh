#!/bin/bash
# Everything that wants a GPU, on a machine that may have nothing but a driver and a CUDA toolkit:
#   tests/gpu/run.sh [SECTION...]     ops models train sanitizer comm bench; without any: all
# in the root of the tree, after a build, or with the programs that ../shared/gpu/pack left in .gpu:
#   pack build/meddiff build/tests/gpu/test_gpu_{ops,nccl} build/tests/test_models_{unet,vae,clip_text}
# A section's output goes to $OUT/SECTION.log too (default: a new folder), timings to $OUT/bench.jsonl. It
# passes, fails, or is skipped with a reason; the end sums up, and is not 0 when one failed. Without a GPU:
# 77. SEED: of the fresh inputs (default: drawn). MEDDIFF_TEST_DEVICE=cpu tries this script without a GPU.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
device=${MEDDIFF_TEST_DEVICE:-cuda}
declare -A limit=([ops]=240 [models]=240 [train]=240 [sanitizer]=480 [comm]=240 [bench]=560)
all=(ops models train sanitizer comm bench)
own=(elementwise reduce norm attention shape embed update) # families with kernels of our own

# shellcheck source=/dev/null
[ -e .gpu/env.sh ] && { set +u; . .gpu/env.sh; set -u; }

# program NAME: its path; a program that was not built or packed is a reason to skip.
program() {
    local at
    for at in ".gpu/bin/$1" "build/$1" "build/tests/$1" "build/tests/gpu/$1" "build/tests/mpi/$1"; do
        [ -x "$at" ] && { realpath "$at"; return 0; }
    done
    echo "skipped: $1 is not here" >&2
    return 1
}

failed=0
try() { # try COMMAND...: shows it, remembers a failure
    echo "+ $*"
    "$@"
    local rc=$?
    [ "$rc" = 0 ] || { echo "FAILED with $rc: $*"; failed=1; }
    return "$rc"
}

in_scratch() {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
}

section_ops() {
    local test seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
    test=$(program test_gpu_ops) || return 77
    try "$test" "$device"
    try "$test" "$device" --seed "$seed" # other numbers in the same shapes
}

section_models() {
    local test name
    for name in unet vae clip_text; do
        test=$(program "test_models_$name") || return 77
        try env MEDDIFF_TEST_DEVICE="$device" "$test"
    done
}

# ---- fine-tunes on phantoms, for train and comm

steps=6 f32=1e-3 bf16=5e-2 # what may differ, relative

imported() { # makes $scratch/data.h5 and the rest of a run's start
    cat >"$scratch/small.cfg" <<END
seed = 3;
data = { format = "folder"; root = "$scratch/phantoms"; size = 128; pairs = 8; };
finetune = { steps = $steps; batch = 2; lr = 1e-4; };
END
    "$meddiff" phantom "$scratch/phantoms" --set phantom.size=128 --set phantom.count=10 \
        --set phantom.normal=4 --set phantom.test=2 &&
        "$meddiff" import "$scratch/small.cfg" --set device=cpu --set "run=$scratch/start"
}

# finetune NAME PROCESSES [--set ...]: leaves $scratch/NAME/metrics.csv
finetune() {
    local name=$1 processes=$2
    shift 2
    cp -r "$scratch/start" "$scratch/$name"
    local start=()
    [ "$processes" = 1 ] || start=(mpirun -n "$processes")
    try timeout -k 5 120 "${start[@]}" "$meddiff" finetune "$scratch/small.cfg" \
        --set "run=$scratch/$name" "$@" >"$scratch/$name.log" 2>&1 && return
    tail -n 15 "$scratch/$name.log"
    failed=1
    return 1
}

# near A B TOLERANCE: loss and gradient norm of every step, relative to B's.
near() {
    paste -d, <(grep ^lesion, "$scratch/$1/metrics.csv") <(grep ^lesion, "$scratch/$2/metrics.csv") |
        awk -F, -v tolerance="$3" -v steps="$steps" -v names="$1 against $2" '
            function off(a, b) { a = (a - b) / b; return a < 0 ? -a : a }
            { n++; e = off($3, $9); if (!(e <= loss)) loss = e; e = off($4, $10); if (!(e <= norm)) norm = e }
            $2 != $8 || $3 == "" || $9 == "" { bad = 1 }
            END { bad = bad || n != steps || !(loss <= tolerance) || !(norm <= tolerance)
                printf "%s: %d steps, loss off by %.2g, gradient norm by %.2g, allowed %g\n", names, n, loss, norm, tolerance
                exit bad }'
}

section_train() {
    local type
    meddiff=$(program meddiff) || return 77
    in_scratch
    try imported || return 1
    for type in f32 bf16; do
        finetune "cpu-$type" 1 --set device=cpu --set "model.dtype=$type"
        finetune "device-$type" 1 --set "device=$device" --set "model.dtype=$type"
    done
    finetune other 1 --set device=cpu --set finetune.lr=2e-4
    [ "$failed" = 0 ] || return 1
    [ "$device" != cpu ] || echo "(the CPU against itself)"
    try near device-f32 cpu-f32 "$f32"
    try near device-bf16 cpu-bf16 "$bf16"
    near cpu-bf16 cpu-f32 "$bf16" # for the record: what rounding alone does
    # the measure itself: a learning rate twice as large is another course
    if near other cpu-f32 "$f32"; then echo 'FAILED: another learning rate passes'; failed=1; fi
}

section_comm() {
    local test
    meddiff=$(program meddiff) || return 77
    command -v mpirun >/dev/null || { echo 'skipped: no mpirun here'; return 77; }
    in_scratch
    # shellcheck source=jobs/setup.sh
    . jobs/setup.sh && mpi_environment
    try imported || return 1
    finetune one 1 --set "device=$device"
    finetune coordinated 2 --set "device=$device" # one worker beside the coordinator
    finetune two 3 --set "device=$device"         # two workers share the GPU: their sums go over the host
    [ "$failed" = 0 ] || return 1
    try near coordinated one "$f32"
    try near two one "$f32"
    test=$(program test_gpu_nccl) || return 77
    try "$test" # NCCL with one rank; two ranks on one GPU it refuses
}

section_sanitizer() {
    local test tool rc
    test=$(program test_gpu_ops) || return 77
    PATH=$PATH:/usr/local/cuda/bin
    command -v compute-sanitizer >/dev/null || { echo 'skipped: no compute-sanitizer here'; return 77; }
    in_scratch
    for tool in memcheck racecheck; do
        echo "+ compute-sanitizer --tool $tool test_gpu_ops $device --small ${own[*]}"
        timeout -k 5 230 compute-sanitizer --tool "$tool" --error-exitcode 3 "$test" "$device" --small \
            "${own[@]}" >"$scratch/log" 2>&1
        rc=$?
        grep -qE 'Device not supported' "$scratch/log" &&
            { echo 'skipped: compute-sanitizer refuses this device'; return 77; }
        grep -E '=========|FAILED|runs failed' "$scratch/log" | head -n 60
        [ "$rc" = 0 ] || { echo "FAILED with $rc: $tool"; tail -n 5 "$scratch/log"; failed=1; }
    done
}

# bench NAME FOUNDATION PIXELS TYPE [--set ...]
bench() {
    local name=$1 foundation=$2 pixels=$3 type=$4
    shift 4
    printf 'data = { size = %d; };\nmodel = { foundation = "%s"; dtype = "%s"; };\nbench = { batch = 2; seconds = 8.0; };\n' \
        "$pixels" "$foundation" "$type" >"$scratch/bench.cfg"
    echo "--- $name, $type"
    try timeout -k 5 150 "$meddiff" bench "$scratch/bench.cfg" --set "device=$device" \
        --set "bench.json=$scratch/rows" "$@"
    sed "s|^{|{\"set\": \"$name\", |" "$scratch/rows" >>"$OUT/bench.jsonl" 2>/dev/null
}

section_bench() {
    local size type
    meddiff=$(program meddiff) || return 77
    in_scratch
    bash tests/bench/sd15.sh "$scratch/sd15" || return 1
    for type in f32 bf16; do
        bench tiny data/tiny 128 "$type"
        [ "$device" = cpu ] || bench sd15 "$scratch/sd15" 512 "$type"
    done
    [ "$device" = cpu ] && return
    bench sd15-8bit "$scratch/sd15" 512 bf16 --set bench.what=train --set finetune.states=8bit
    bench sd15-profile "$scratch/sd15" 512 bf16 --set bench.what=train,paint --set bench.repeats=3 \
        --set bench.profile=true
    for size in sd15 tiny; do
        for type in bf16 f32; do
            echo "+ compare_torch.py --size $size --dtype $type"
            PYTHONUNBUFFERED=1 timeout -k 5 180 python3 tests/bench/compare_torch.py --device "$device" \
                --size "$size" --dtype "$type" --meddiff "$meddiff" --seconds 5 --json "$scratch/compared"
            case $? in
            0) sed 's|^{|{"set": "torch", |' "$scratch/compared" >>"$OUT/bench.jsonl" ;;
            77) return "$failed" ;;
            124 | 137) echo '(time was over: the rows above are what there is)' ;;
            *) failed=1 ;;
            esac
        done
    done
}

if [ "${1:-}" = --inside ]; then
    "section_$2"
    rc=$?
    [ "$failed" = 0 ] && exit $rc
    exit 1
fi

for section in "$@"; do
    [ -n "${limit[$section]:-}" ] || { echo "run.sh: no section \"$section\"; there are ${all[*]}" >&2; exit 2; }
done
if [ "$device" = cuda ] && ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    echo 'skipped: no GPU here (nvidia-smi lists none)'
    exit 77
fi
[ $# -gt 0 ] || set -- "${all[@]}"
OUT=${OUT:-$(mktemp -d)}
export OUT
echo "logs in $OUT"
if [ "$device" = cuda ]; then
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap,clocks.max.sm,mig.mode.current --format=csv
fi
summary=() bad=0
for section in "$@"; do
    echo "==== $section"
    begin=$SECONDS
    timeout -k 10 "${limit[$section]}" bash tests/gpu/run.sh --inside "$section" 2>&1 | tee "$OUT/$section.log"
    case ${PIPESTATUS[0]} in
    0) word=passed ;;
    77) word=skipped ;;
    124 | 137) word='FAILED: its time was over' bad=1 ;;
    *) word=FAILED bad=1 ;;
    esac
    [ "$word" != skipped ] || word+=": $(grep -m 1 skipped: "$OUT/$section.log" | sed 's/^skipped: //')"
    summary+=("$(printf '%-10s %4d s  %s' "$section" $((SECONDS - begin)) "$word")")
done
echo '==== summary'
printf '%s\n' "${summary[@]}" | tee "$OUT/summary.txt"
exit $bad
