#!/bin/bash
# A worker is killed under a launcher that leaves the others alive: these finish the work in the same start, a
# training from its last checkpoint, and nobody hangs at the end. With MEDDIFF_LONG=1 also the worker that only adds, and
# models trained side by side.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
case $(mpirun --version) in
*'Open MPI'*) ;;
*) echo 'skipped: this launcher has no --enable-recovery'; exit 77 ;;
esac
host=$(hostname -s)
run=run
sed -i 's/^finetune = .*/finetune = { steps = 50; batch = 4; lr = 1e-3; };/' small.cfg
sed -i '/^guide = /d' small.cfg
cat >>small.cfg <<END
stall_s = 14.0; # a worker that does not come to a sum is waited for a quarter of it, and more
checkpoint = { minutes = 0.003; };
masks = { size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; count = 6; sample_steps = 4; attempts = 80; };
END
long=${MEDDIFF_LONG:-} more=()
[ -n "$long" ] || more=(--set guide.from=data)
run 0 4 pipeline small.cfg --set run=whole "${more[@]}"

# recovering NP JOB: in the background, as start does.
recovering() {
    mpirun --enable-recovery -n "$1" "$meddiff" "$2" small.cfg "${more[@]}" >out 2>&1 &
    launcher=$!
}

# finishes WITHIN WHAT: does it end with RESULT ok, within so many seconds, with nobody left?
finishes() {
    local pid
    wait_for_end "$1" "$2"
    for pid in "${ranks[@]}"; do
        ! kill -0 "$pid" 2>/dev/null || fail "$2: a rank is left"
    done
    [ "$(cat run/RESULT 2>/dev/null)" = ok ] || fail "$2: RESULT is not ok"
    "$meddiff" verify run >verified 2>&1 || { cat verified; fail "$2: verify"; }
}

# goes_on WORKERS WHAT VICTIM: in the same start, from a checkpoint?
goes_on() {
    grep -q "WARN main: goes on with $1 worker" out || fail "$2: no word of those that go on"
    grep -q "\(waiting for\|heard of\) rank $3 on $host" out || fail "$2: the dead one is not named"
    grep -q 'resumed after step [1-9]' out || fail "$2: it began anew"
}

# ---- a fine-tune: a worker that only adds, and the one that saves and tells
for victim in ${long:+2} 1; do
    inputs_of whole run
    rm -rf run/models
    recovering 4 finetune
    wait_until trained lesion 8
    signal_rank KILL "$victim"
    finishes 180 "fine-tune without rank $victim"
    goes_on 2 "fine-tune without rank $victim" "$victim"
done

# ---- models trained side by side, each on a worker or two: one of them dies
if [ -n "$long" ]; then
    inputs_of whole run
    rm -rf run/models
    recovering 4 pipeline
    wait_until trained masks 20
    signal_rank KILL 3
    finishes 240 'side by side'
    goes_on 2 'side by side' 3
    check_pairs run
fi

# ---- a generation: nothing is redone but what was in flight, and the bytes are the same
inputs_of whole run
[ -z "$long" ] || cp whole/masks.h5 run
more+=(--set generate.pairs=40 --set generate.steps=20)
cp -r run forty
run 0 3 generate small.cfg --set run=forty "${more[@]}"
recovering 4 generate
wait_until "$programs/check_pairs" --finished run/pairs.h5 >/dev/null 2>&1
sleep 0.3
signal_rank KILL 2
finishes 120 generation
grep -q "WARN cluster: rank 2 on $host is silent" out || fail 'no word of the silent rank'
check_pairs run forty/pairs.h5
finish recovery
