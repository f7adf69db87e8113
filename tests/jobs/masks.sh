#!/bin/bash
# The mask generator: trained on the training rows' masks and nothing else, killed and resumed; the same
# masks.h5, byte for byte, for any number of workers and after a kill; guides from it; errors.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

weights=models/masks/diffusion_pytorch_model.safetensors
cat >>small.cfg <<END
masks = {
    size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; ema = 0.95;
    count = 12; sample_steps = 10; sample_batch = 4; attempts = 8; copy = 0.99;
};
END
run 0 1 import small.cfg

# said TEXT: the last command did.
said() { grep -qF -- "$1" out || fail "not said: $1"; }

# Before there is a model, before there is a masks.h5.
run 2 2 masks sample small.cfg
said 'run "meddiff masks train" first'
run 2 2 generate small.cfg --set guide.from=masks
said 'masks.h5 does not exist: run "meddiff masks"'
run 2 1 masks small.cfg --set masks.size=128
said 'masks.size: 128, but the masks have data.size = 64 pixels'
run 2 1 masks trian small.cfg
said 'masks takes one'
[ ! -e run/models ] || fail 'something was trained'

# Training: killed after a checkpoint, it ends where it would have ended.
run 0 3 masks train small.cfg
{ [ -s "run/$weights" ] && [ -s run/models/masks/DONE ]; } || fail 'no model'
[ ! -e run/masks.h5 ] || fail 'train has sampled'
mkdir killed && cp run/data.h5 killed
"$meddiff" masks train small.cfg --set run=killed --set checkpoint.minutes=0 >out 2>&1 &
pid=$!
until ls killed/checkpoints/masks/step-*/DONE >/dev/null 2>&1 || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
[ ! -e killed/models/masks/DONE ] || fail 'the kill came too late'
run 0 1 masks train small.cfg --set run=killed
said 'resumed after step'
mkdir alone && cp run/data.h5 alone
run 0 1 masks train small.cfg --set run=alone
cmp "alone/$weights" "killed/$weights" || fail 'a resumed training ends elsewhere'
# a kill after DONE leaves checkpoints of a model that is complete
mkdir -p killed/checkpoints/masks/step-298
touch killed/checkpoints/masks/step-298/{state.safetensors,DONE}
run 0 1 masks train small.cfg --set run=killed
said 'models/masks is complete already'
[ ! -e killed/checkpoints/masks ] || fail 'checkpoints of a complete model stay'

# Rows that are not for training: with another mask there the same model; with another one here another.
# name of the first mask in a folder
first() { find "phantoms/$1/masks" -name '*.png' | sort | head -n "${2:-1}" | tail -n 1; }
cp -r phantoms kept
cp "$(first train 1)" "$(first test)"
run 0 1 import small.cfg --set run=leak
run 0 1 masks train small.cfg --set run=leak
cmp run/data.h5 leak/data.h5 >/dev/null && fail 'the changed mask did not arrive'
cmp "alone/$weights" "leak/$weights" || fail 'a mask of the test split reached the training'
cp "$(first train 2)" "$(first train 1)"
run 0 1 import small.cfg --set run=other
run 0 1 masks train small.cfg --set run=other
cmp "alone/$weights" "other/$weights" >/dev/null && fail 'a mask of the training split does not matter'
rm -rf phantoms leak other killed && mv kept phantoms

# Sampling: 1, 2 and 4 workers, one process, and after a kill. The path of the run is part of masks.h5.
mv run from
fresh() {
    rm -rf run
    mkdir run && cp -r from/data.h5 from/models run
}
for np in 1 2 3 5; do
    fresh
    run 0 $np masks small.cfg
    said 'models/masks is complete already'
    mv run "np$np"
    for file in masks.h5 masks_report.json masks_report.csv masks.png; do
        cmp "np1/$file" "np$np/$file" || fail "$np processes: another $file"
    done
done
fresh
"$meddiff" masks sample small.cfg >out 2>&1 &
pid=$!
until [ -e run/masks.h5 ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
sleep 0.5
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
[ ! -e run/masks_report.json ] || fail 'the kill came too late'
run 0 3 masks sample small.cfg
cmp np1/masks.h5 run/masks.h5 || fail 'another masks.h5 after a kill'
grep -q '"ks": ' np1/masks_report.json || fail 'no distances in the report'
grep -q '^generated,' np1/masks_report.csv || fail 'no mask in the table'
"$meddiff" status run >out 2>&1 || fail status
grep -Eq '^masks +12 of 12 slots finished' out || fail 'status does not count the masks'
# an end of the report alone is made up for
rm run/masks_report.json
run 0 1 masks small.cfg
cmp np1/masks_report.json run/masks_report.json || fail 'another report afterwards'

# Why draws were not taken: the report has every start's counts, and one start's are those of its log.
not_taken() { sed -n 's/^  "not_taken": {\(.*\)},$/\1/p' "$1/masks_report.json"; }
[ -n "$(not_taken np1)" ] || fail 'no counts in the report'
sed -n 's/.* \([0-9]*\) draws were not taken: \(.*\)$/"\2": \1/p' np1/log.txt | sort >told
not_taken np1 | sed 's/, "/\n"/g' | grep -v ': 0$' | sort >counted
{ [ -s told ] && cmp told counted; } || fail 'the log counts otherwise than the report'
# ... a twin that is given up says so in /reason: two empty masks are twins
cp -r np1 twin
for row in 0 1; do
    for change in "clear masks $row" "seal $row" "set state $row 1" "set attempt $row 7"; do
        # shellcheck disable=SC2086
        "$programs/poke" twin/masks.h5 $change >out 2>&1 || fail "poke $change"
    done
done
mv run aside && mv twin run
rm run/masks_report.json
run 0 1 masks sample small.cfg
"$meddiff" verify run >out 2>&1
grep -q 'mask 0: it is empty' out || fail 'verify has not looked at the twins'
grep -q 'mask 1:' out && fail 'a twin that was given up has no reason'
twins() { not_taken "$1" | sed 's/.*"twin of another": //'; }
[ "$(twins run)" = $(($(twins np1) + 1)) ] || fail 'the twin is not counted'
# ... and a file of before such counts is read
"$programs/poke" run/masks.h5 drop fault_codes >out 2>&1 || fail 'poke drop'
rm run/masks_report.json
run 0 1 masks sample small.cfg
grep -q '"not_taken": null' run/masks_report.json || fail 'counts that nobody kept'
rm -rf run && mv aside run

# What has changed is named.
for change in masks.steps=301 masks.count=13 masks.eta=1; do
    run 2 1 masks small.cfg --set $change
    said ${change%=*}
done
cp "alone/$weights" run/models/masks
run 2 1 masks sample small.cfg
said 'begun with another models/masks'
sed -i 's/"linear"/"curved"/' run/models/masks/scheduler_config.json
run 2 1 masks sample small.cfg
said scheduler_config.json

# Guides from masks.h5; the pairs are bound to it.
rm -rf run && cp -r np1 run && cp from/backgrounds.h5 run
run 0 2 finetune small.cfg
run 0 2 generate small.cfg --set guide.from=masks
check_pairs run
grep -qa sha256_masks run/pairs.h5 || fail 'no sha256_masks'
run 2 1 generate small.cfg
said guide.from
finish masks
