#!/bin/bash
# What hangs in place of failing: a rank that no longer runs, a file system that no longer answers. Rank, host and
# what it was at stand in a message; the others go on, or the launcher ends with an error and the next start goes on.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
host=$(hostname -s)
run 0 3 pipeline small.cfg --set run=whole
stall=(--set stall_s=4)

# ends CODE WITHIN: does the launcher end so, within so many seconds, and nobody stay?
ends() {
    wait_for_end "$2" "a hang"
    # shellcheck disable=SC2254
    case $rc in $1) ;; *) fail "exit code $rc, wanted $1" ;; esac
    kill -KILL "${ranks[@]}" 2>/dev/null && sleep 0.2 # a stopped one that nobody could end
}

# ---- a worker is stopped in a fine-tune: it is named, and the other goes on from the last checkpoint
inputs_of whole run
rm -rf run/models
run=run more=("${stall[@]}" --set finetune.steps=200 --set checkpoint.minutes=0.005)
start 3 finetune run
wait_until trained lesion 3
signal_rank STOP 2
ends '*' 90 # mpirun does not like that the ranks leave one behind
grep -q "ERROR finetune: .*waiting for rank 2 on $host" out || fail 'no word of the rank that does not come'
grep -q 'WARN main: goes on with 1 worker' out || fail 'the other does not go on'
[ "$(cat run/RESULT)" = ok ] || fail 'the other does not finish'
more=("${stall[@]}")

# ---- the disk no longer answers: to the coordinator, to the only worker; both say so themselves
for rank in 0 1; do
    inputs_of whole run
    HANG_RANK=$rank HANG_AT=1 LD_PRELOAD=$programs/libhang_at.so start $((3 - rank)) generate run
    ends 1 60
    grep -q "ERROR main: rank $rank on $host: no step forward for [0-9]* s, the last that began: syncing a store" out ||
        fail "no word of rank $rank, which hangs"
    run 0 3 generate small.cfg --set run=run "${stall[@]}"
    check_pairs run whole/pairs.h5
done

# ---- to one worker of two: the other does its work; the launcher may let the hanging one live until it ends itself
for option in '' --enable-recovery; do
    inputs_of whole run
    # shellcheck disable=SC2086
    HANG_RANK=1 HANG_AT=1 LD_PRELOAD=$programs/libhang_at.so \
        timeout -k 5 60 mpirun $option -n 3 "$meddiff" generate small.cfg --set run=run "${stall[@]}" >out 2>&1
    [ $? -lt 124 ] || fail "mpirun $option still hangs after 60 s"
    grep -q "WARN cluster: rank 1 on $host is silent" out || fail "no word of rank 1 ($option)"
    [ "$(cat run/RESULT)" = ok ] || fail "the other did not finish the work ($option)"
    check_pairs run whole/pairs.h5
done

# ---- what only takes long does not hang: every step forward counts
inputs_of whole run
run 0 3 generate small.cfg --set run=run --set stall_s=0.5
check_pairs run whole/pairs.h5
finish stall
