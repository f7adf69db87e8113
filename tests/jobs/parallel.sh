#!/bin/bash
# Models trained side by side on disjoint workers: the same weights as one after the other on as many
# workers each; killed or asked to end and started again; a training that fails; log and metrics whole.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

more=(--set backgrounds.from=repaired --set backgrounds.steps=40 --set finetune.steps=48 --set finetune.batch=16 --set generate.pairs=2 --set checkpoint.minutes=0)
models='lesion background'
weights=unet/diffusion_pytorch_model.safetensors

# whole_files RUN: every line of the log and of the metrics is one.
whole_files() {
    grep -vE '^20[0-9-]+T[0-9:]+Z \[[0-9]/[0-9] [^]]+\] (INFO|WARN|ERROR) [a-z]+: ' "$1/log.txt" >out && fail "$1/log.txt is not whole"
    tail -n +2 "$1/metrics.csv" | grep -vE '^(lesion|background),[0-9]+,[0-9.e-]+,[0-9.e-]+,[0-9.e-]+,[0-9.]+$' >out &&
        fail "$1/metrics.csv is not whole"
    [ "$(head -n 1 "$1/metrics.csv")" = stage,step,loss,grad_norm,lr,seconds ] || fail "$1/metrics.csv has no head"
}

# equal_models RUN: both as they are in `whole`.
equal_models() {
    local model
    for model in $models; do
        cmp "whole/models/$model/$weights" "$1/models/$model/$weights" || fail "$1: the $model model ends elsewhere"
    done
}

# One after the other, each model on one worker and on two; side by side on 1 + 1 and 2 + 1.
run 0 2 pipeline small.cfg --set run=whole "${more[@]}"
run 0 3 pipeline small.cfg --set run=two --set pipeline.parallel=false "${more[@]}"
grep -q 'side by side' out && fail 'side by side against pipeline.parallel'
run 0 3 pipeline small.cfg --set run=beside3 "${more[@]}"
grep -q '2 models side by side' out || fail 'not side by side'
equal_models beside3
run 0 4 pipeline small.cfg --set run=beside4 "${more[@]}"
cmp two/models/lesion/$weights beside4/models/lesion/$weights || fail 'two workers beside a third'
cmp whole/models/background/$weights beside4/models/background/$weights || fail 'one worker beside two'
for run in beside3 beside4; do
    whole_files $run
    [ "$(grep -c '^lesion,' $run/metrics.csv)" = 48 ] || fail 'metrics of the lesion model'
    [ "$(grep -c '^background,' $run/metrics.csv)" = 40 ] || fail 'metrics of the background model'
    [ -z "$(ls $run/checkpoints)" ] || fail 'checkpoints are left'
    check_pairs $run
done
grep -qE ' \[[13]/4 .*INFO background: 40/40 steps' beside4/log.txt || fail 'the log has no line of the second group'

# Complete models are not trained again; one that is missing has all workers.
cp -r beside3 again
rm -r again/models/background again/pairs.h5
run 0 3 pipeline small.cfg --set run=again "${more[@]}"
grep -q 'models/lesion is complete already' out || fail 'the complete model is not skipped'
grep -q 'side by side' out && fail 'one model side by side'
cmp two/models/background/$weights again/models/background/$weights || fail 'a model that is missing alone'
# A result of another configuration is refused before the other model is trained.
rm -r again/models/background
run 2 3 pipeline small.cfg --set run=again "${more[@]}" --set finetune.lr=2e-3
grep -q 'finetune.lr is' out || fail 'the refusal does not name finetune.lr'
[ ! -e again/models/background ] || fail 'it trained before it refused'

# Killed, or asked to end, twice while both are trained: the same bytes in the end.
for signal in KILL USR1 TERM; do
    run=train-$signal
    code='*'
    [ "$signal" != USR1 ] || code=0
    for step in 3 9; do
        start 3 pipeline "$run"
        wait_until trained lesion $step
        wait_until trained background $step
        { stop $signal "$code" && [ ! -e "$run/models/lesion/DONE" ]; } || fail "SIG$signal came too late"
    done
    run 0 3 pipeline small.cfg --set "run=$run" "${more[@]}"
    [ "$(grep -c 'resumed after step' out)" = 2 ] || fail "SIG$signal: not both have resumed"
    equal_models "$run"
    whole_files "$run"
    [ ! -e "$run/REQUEUE" ] || fail 'REQUEUE is left'
done
# The signal to one rank only.
run=one-rank
start 4 pipeline $run
wait_until trained lesion 3
wait_until trained background 3
# shellcheck disable=SC2046
kill -USR1 $(ranks_of $launcher | tail -n 1)
wait $launcher || fail 'USR1 to the last rank: exit code'
[ "$(cat $run/RESULT)" = stopped ] || fail 'USR1 to the last rank: RESULT'
[ -e $run/REQUEUE ] || fail 'USR1 to the last rank: REQUEUE'
for model in $models; do
    [ ! -e "$run/models/$model/DONE" ] || fail 'USR1 to the last rank came too late'
done

# One that fails: named, the other leaves a checkpoint; both go on from there.
run=failing
mkdir -p $run/checkpoints/background && : >$run/checkpoints/background/step-3 # no folder: this checkpoint cannot be written
run 1 3 pipeline small.cfg --set run=$run "${more[@]}"
[ "$(grep -c ' ERROR ' out)" = 1 ] || fail 'not one message'
grep -q 'ERROR pipeline: background model: .*checkpoints/background' out || fail 'the failure names neither stage nor file'
grep -q 'background model failed; what goes on beside it is asked to stop orderly' out || fail 'no warning at once'
grep -q 'background model' $run/RESULT || fail 'RESULT'
[ ! -e $run/REQUEUE ] || fail 'REQUEUE after a failure'
[ -n "$(ls -d $run/checkpoints/lesion/step-* 2>/dev/null)" ] || fail 'the lesion model left no checkpoint'
rm $run/checkpoints/background/step-3
run 0 3 pipeline small.cfg --set run=$run "${more[@]}"
grep -q 'lesion: resumed after step' out || fail 'the lesion model did not resume'
equal_models $run
whole_files $run
finish parallel
