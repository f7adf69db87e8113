#!/bin/bash
# Killed or asked to end in the middle and started again: fine-tuned weights and pairs are, byte for byte,
# what they are without a stop.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

weights=models/lesion/unet/diffusion_pytorch_model.safetensors
# batches large enough that the launcher, which passes SIGTERM on a second late, still finds it training
more=(--set finetune.steps=48 --set finetune.batch=16 --set generate.pairs=80 --set generate.steps=8 --set checkpoint.minutes=0)
run 0 3 pipeline small.cfg --set run=whole "${more[@]}"

# painted N: has $run come to N slots?
painted() {
    local slots
    slots=$("$meddiff" status "$run" 2>/dev/null | sed -nE 's/^generated +([0-9]+) of.*/\1/p')
    [ "${slots:--1}" -ge "$1" ]
}

# The fine-tune: stopped twice after a checkpoint.
for signal in KILL USR1 TERM; do
    run=train-$signal
    mkdir "$run" && cp whole/{data.h5,backgrounds.h5} "$run"
    code='*'
    [ "$signal" != USR1 ] || code=0
    for step in 3 12; do
        start 3 finetune "$run"
        wait_until trained lesion $step
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
