#!/bin/bash
# Killed or asked to end in the middle and started again: fine-tuned weights and pairs are, byte for byte,
# what they are without a stop.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

weights=models/lesion/unet/diffusion_pytorch_model.safetensors
# batches large enough that the launcher, which passes SIGTERM on a second late, still finds it training
more=(--set finetune.steps=48 --set finetune.batch=16 --set generate.pairs=80 --set generate.steps=8 --set checkpoint.minutes=0)
run 0 3 pipeline small.cfg --set run=whole "${more[@]}"

# start NP JOB RUN: in the background; its launcher is $launcher.
start() {
    local np=$1 job=$2 where=$3
    mpirun -n "$np" "$meddiff" "$job" small.cfg --set "run=$where" "${more[@]}" >out 2>&1 &
    launcher=$!
}

# ranks_of PID: the processes below the launcher.
ranks_of() {
    local status
    for status in /proc/[0-9]*/status; do
        [ "$(sed -n 's/^PPid:\t//p' "$status" 2>/dev/null)" != "$1" ] || basename "${status%/status}"
    done
}

# trained N, painted N: has $run come to N steps on disk, to N slots?
trained() {
    local newest
    newest=$(find "$run/checkpoints/lesion" -name 'step-*' 2>/dev/null | sed 's/.*-//' | sort -n | tail -n 1)
    [ "${newest:-0}" -ge "$1" ]
}
painted() {
    local slots
    slots=$("$meddiff" status "$run" 2>/dev/null | sed -nE 's/^generated +([0-9]+) of.*/\1/p')
    [ "${slots:--1}" -ge "$1" ]
}

# wait_until COMMAND...: or the launcher has ended, which stop will notice.
wait_until() {
    until "$@" || ! kill -0 "$launcher" 2>/dev/null; do
        sleep 0.02
    done
}

# stop SIGNAL CODE: KILL hits every process, others the launcher. Returns 1 if all was over before that.
stop() {
    local rc hit=0
    if [ "$1" = KILL ]; then
        # shellcheck disable=SC2046
        kill -KILL "$launcher" $(ranks_of $launcher) 2>/dev/null || hit=1
    else
        kill "-$1" "$launcher" 2>/dev/null || hit=1
    fi
    wait "$launcher" 2>/dev/null
    rc=$?
    [ $hit = 0 ] || return 1
    # shellcheck disable=SC2254
    case $rc in $2) ;; *) fail "SIG$1: exit code $rc, wanted $2" ;; esac
    if [ "$1" = USR1 ]; then
        [ -e "$run/REQUEUE" ] || fail 'no REQUEUE after SIGUSR1'
        [ "$(cat "$run/RESULT")" = stopped ] || fail 'RESULT does not say stopped'
    fi
}

# The fine-tune: stopped twice after a checkpoint.
for signal in KILL USR1 TERM; do
    run=train-$signal
    mkdir "$run" && cp whole/{data.h5,backgrounds.h5} "$run"
    code='*'
    [ "$signal" != USR1 ] || code=0
    for step in 3 12; do
        start 3 finetune "$run"
        wait_until trained $step
        { stop $signal "$code" && [ ! -e "$run/models/lesion/DONE" ]; } || fail "SIG$signal came too late"
    done
    run 0 3 finetune small.cfg --set "run=$run" "${more[@]}"
    grep -q 'resumed after step' out || fail 'it did not resume'
    cmp "whole/$weights" "$run/$weights" || fail "SIG$signal: the resumed fine-tune ends elsewhere"
    [ ! -e "$run/REQUEUE" ] || fail 'REQUEUE is left'
done

# The generation: killed at random moments, by any number of processes.
for round in KILL:3 KILL:1 KILL:5 USR1:3 TERM:3; do
    signal=${round%:*} np=${round#*:}
    run=generate-$signal-$np
    code='*'
    [ "$signal" != USR1 ] || code=0
    for try in 1 2 3; do # on a busy machine a run can be over before the signal comes
        inputs_of whole "$run"
        start "$np" generate "$run"
        wait_until painted $((RANDOM % (30 / try)))
        stop "$signal" "$code" && break
        [ $try -lt 3 ] || fail "SIG$signal came too late three times"
    done
    "$meddiff" status "$run" >out 2>&1 || fail "status of what SIG$signal left"
    grep -E 'slots finished' out
    run 0 3 generate small.cfg --set "run=$run" "${more[@]}"
    check_pairs whole "$run/pairs.h5"
done
finish resume
