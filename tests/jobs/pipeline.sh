#!/bin/bash
# The whole chain on a foundation of random weights with 1, 2, 3 and 5 processes: what it leaves, what
# status says, and that a further start changes nothing. A copied background must fail check_pairs.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

for np in 1 2 3 5; do
    run 0 $np pipeline small.cfg --set "run=np$np"
    [ "$(cat np$np/RESULT)" = ok ] || fail 'RESULT is not ok'
    for file in config.cfg log.txt metrics.csv import.png data.h5 backgrounds.h5 pairs.h5 preview.png guide.png \
        models/lesion/DONE models/lesion/unet/config.json \
        models/lesion/unet/diffusion_pytorch_model.safetensors; do
        [ -s "np$np/$file" ] || fail "no $file with $np processes"
    done
    [ "$(grep -c '^lesion,' np$np/metrics.csv)" = 20 ] || fail 'metrics.csv has not 20 steps'
    [ -z "$(ls np$np/checkpoints)" ] || fail 'checkpoints are left'
    check_pairs np$np
done

"$meddiff" status np3 >out 2>&1 || fail status
for line in '14 train, 0 val, 2 test' 'models/lesion' '14 of 14 slots finished' '14 accepted' 'ok'; do
    grep -q "$line" out || fail "status without \"$line\""
done
"$meddiff" status phantoms >out 2>&1
[ $? = 2 ] || fail 'status of what is no run: exit code'

cp -r np2 before
run 0 3 pipeline small.cfg --set run=np2
grep -q 'import: complete already' out || fail 'import is not skipped'
grep -q 'models/lesion is complete already' out || fail 'finetune is not skipped'
same np2 before
[ "$(grep -c '^lesion,' np2/metrics.csv)" = 20 ] || fail 'a second start trained again'

# What shapes a result may not change under it.
for change in data.fit=crop finetune.lr=1e-4 generate.steps=5 seed=8; do
    run 2 2 pipeline small.cfg --set run=np2 --set $change
    grep -q "${change%=*} is " out || fail "the refusal does not name ${change%=*}"
done
same np2 before

# More pairs: the finished ones stay; fewer are refused.
run 0 3 generate small.cfg --set run=np1 --set generate.pairs=21
grep -q '14 of 21 slots are done' out || fail 'the finished slots are not kept'
inputs_of np1 whole
run 0 1 generate small.cfg --set run=whole --set generate.pairs=21
check_pairs np1 whole/pairs.h5
run 2 1 generate small.cfg --set run=np1 --set generate.pairs=20
grep -q 'generate.pairs' out || fail 'the refusal does not name generate.pairs'

# An inpainting foundation of 9 channels, blended and as the released code samples it; one of 4 cannot
# do the latter, and says so before it makes a store.
"$programs/make_foundation" nine inpainting >out 2>&1 || fail 'make_foundation inpainting'
run 0 3 pipeline small.cfg --set run=nine-run --set model.foundation=nine --set guide.blend=none
check_pairs nine-run
inputs_of nine-run nine-paper
run 0 2 generate small.cfg --set run=nine-paper --set model.foundation=nine
check_pairs nine-paper
inputs_of np1 four
run 2 3 generate small.cfg --set run=four --set guide.blend=none
grep -q 'needs an inpainting UNet of 9 channels' out || fail 'the refusal does not say why'
[ ! -e four/pairs.h5 ] || fail 'a store was made for what cannot work'

# A folder whose own sampler is not here: said before any work; another one can be chosen. Another scheduler's
# file under finished pairs is refused.
cp -r small unipc && sed -i 's/DDIMScheduler/UniPCMultistepScheduler/' unipc/scheduler/scheduler_config.json
run 2 2 pipeline small.cfg --set run=unipc-run --set model.foundation=unipc
grep -q 'UniPCMultistepScheduler is not supported.*generate.sampler' out || fail 'the refusal does not say what to choose'
[ ! -e unipc-run/data.h5 ] || fail 'it worked before it looked at the sampler'
run 2 2 generate small.cfg --set run=np1 --set generate.pairs=21 --set model.foundation=unipc
inputs_of np1 chosen
run 0 2 generate small.cfg --set run=chosen --set model.foundation=unipc --set generate.sampler=pndm
check_pairs chosen
cp -r small v && sed -i 's/"steps_offset": 1/"steps_offset": 0/' v/scheduler/scheduler_config.json
run 2 2 generate small.cfg --set run=np1 --set generate.pairs=21 --set model.foundation=v
grep -q 'another version of "scheduler"\|model.foundation is ' out || fail 'another schedule is not refused'

# Every stage, on two workers one training after the other; started again it does nothing; another mask or
# background is refused by its key, a missing encoder before any work.
cat >every.cfg <<END
$(cat small.cfg)
masks = { size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; ema = 0.95; count = 8; sample_steps = 10; attempts = 80; };
backgrounds = { from = "repaired"; steps = 8; };
END
sed -i 's/from = "data"/from = "masks"/' every.cfg
encoder=(--set "model.encoder=$tree/tests/golden/features")
run 2 3 pipeline every.cfg --set run=every --set model.encoder=nowhere
grep -q 'model.encoder: .*nowhere' out || fail 'a missing encoder is not named'
[ ! -e every/data.h5 ] || fail 'it worked before it looked for the encoder'
run 0 3 pipeline every.cfg --set run=every "${encoder[@]}"
for stage in import 'lesion model' 'background model' 'mask model' masks backgrounds generate assess; do
    grep -q "pipeline: $stage: done in" out || fail "no stage $stage"
done
check_pairs every
"$meddiff" status every >out 2>&1 || fail 'status of every stage'
for line in 'models/lesion' 'models/background' 'models/masks' '^masks  *8 of 8 slots' '^backgrounds' '14 of 14 slots finished'; do
    grep -q "$line" out || fail "status without \"$line\""
done
cp -r every before-every
run 0 3 pipeline every.cfg --set run=every "${encoder[@]}"
same every before-every
for change in masks.lr=1e-3 backgrounds.steps=9 guide.grow=3; do
    run 2 2 pipeline every.cfg --set run=every "${encoder[@]}" --set $change
    grep -qE "(${change%=*}|finetune.steps) is " out || fail "the refusal does not name ${change%=*}"
done
same every before-every

# check_pairs finds what is no result: a store that holds other pixels than its backgrounds say.
inputs_of np1 other
run 0 1 generate small.cfg --set run=other --set guide.paste=false
"$programs/check_pairs" other >out 2>&1 && fail 'check_pairs passes pixels that are not pasted back'
finish pipeline
