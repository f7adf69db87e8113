#!/bin/bash
# Repaired backgrounds: refused until there is a background model; of training images only, the same bytes
# from any number of workers and after any stop; as many as wanted; painted into.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

from=(--set backgrounds.from=repaired --set finetune.steps=10 --set backgrounds.tries=2)
check() { "$programs/check_backgrounds" "$@" >out 2>&1 || fail "check_backgrounds $*"; }

# renew: RUN anew with what the repair needs; its name stands in the store, so all are made under one.
run=run
renew() {
    rm -rf run
    mkdir -p run/models && cp whole/data.h5 run && cp -r whole/models/background run/models
}

# What is missing is said, with what to do about it.
run 0 1 import small.cfg --set run=whole "${from[@]}"
[ ! -e whole/backgrounds.h5 ] || fail 'the import made backgrounds that are to be repaired'
run 2 2 generate small.cfg --set run=whole "${from[@]}"
grep -q 'run "meddiff backgrounds"' out || fail 'generate does not name meddiff backgrounds'
run 2 2 backgrounds small.cfg --set run=whole "${from[@]}"
grep -q 'meddiff finetune.*--set finetune.region=background' out || fail 'backgrounds does not name finetune'
[ ! -e whole/backgrounds.h5.tmp ] || fail 'a store was begun without a model'

# The background model beside the lesion model, from one configuration.
run 0 2 finetune small.cfg --set run=whole "${from[@]}" --set finetune.region=background --set backgrounds.steps=6
grep -q 'background: 6/6 steps' out || fail 'backgrounds.steps does not count'
run 0 1 finetune small.cfg --set run=whole "${from[@]}" --set finetune.region=background --set backgrounds.steps=6
grep -q 'models/background is complete already' out || fail 'the model is not found complete'
from+=(--set backgrounds.steps=6)

renew
run 0 2 backgrounds small.cfg "${from[@]}"
mv run/backgrounds.* whole
check whole 12
[ -s whole/backgrounds.png ] || fail 'no backgrounds.png'
[ ! -e whole/backgrounds.h5.tmp ] || fail 'the temporary file is left'
cp whole/backgrounds.h5 before.h5
run 0 3 backgrounds small.cfg --set run=whole "${from[@]}"
grep -q 'is complete already' out || fail 'a second start does not see that all is done'
cmp whole/backgrounds.h5 before.h5 || fail 'a second start changed it'
for np in 1 3 5; do
    renew
    run 0 $np backgrounds small.cfg "${from[@]}"
    cmp before.h5 run/backgrounds.h5 || fail "backgrounds.h5 of $np processes differs"
    cmp whole/backgrounds.png run/backgrounds.png || fail "backgrounds.png of $np processes differs"
done
# What the check is worth: another strength gives other pixels.
renew
run 0 2 backgrounds small.cfg "${from[@]}" --set backgrounds.strength=0.9
"$programs/check_backgrounds" run 12 before.h5 >out 2>&1 && fail 'other strengths give the same pictures'

# As many as wanted: fewer are part of more, images come again where there are too few of them.
for count in 5 31; do
    renew
    run 0 2 backgrounds small.cfg "${from[@]}" --set backgrounds.count=$count
    mv run count$count
done
check whole 12 count5/backgrounds.h5
check count31 31 before.h5
check count31 31 count5/backgrounds.h5

# Killed or asked to end: the next start goes on to the same bytes.
slow=(--set generate.steps=60 --set generate.batch=1 --set generate.eta=1 --set backgrounds.count=24)
more=("${from[@]}" "${slow[@]}")
renew
run 0 3 backgrounds small.cfg "${more[@]}"
mv run/backgrounds.h5 slow.h5
kept=0
for round in KILL:3 KILL:1 USR1:3 TERM:3; do
    signal=${round%:*} np=${round#*:}
    code='*'
    [ "$signal" != USR1 ] || code=0
    for try in 1 2 3; do
        renew
        start "$np" backgrounds run
        wait_until [ -e run/backgrounds.h5.tmp ]
        sleep "0.$((RANDOM % (8 / try) + 1))"
        # the launcher passes SIGTERM on a second late: a complete store is for cmp below to judge
        stop "$signal" "$code" && [ ! -e run/backgrounds.h5 ] && break
        [ $try -lt 3 ] || fail "SIG$signal came too late three times"
    done
    run 0 2 backgrounds small.cfg "${more[@]}"
    if grep -E '[0-9]+ of 24 are done' out; then kept=1; fi
    cmp slow.h5 run/backgrounds.h5 || fail "SIG$signal: the resumed repair ends elsewhere"
done
[ $kept = 1 ] || fail 'no start went on with what was done'

# Unfinished under other settings or from another model: refused. A torn file: begun anew.
renew
start 1 backgrounds run
wait_until [ -e run/backgrounds.h5.tmp ]
sleep 0.3
stop KILL '*'
run 2 1 backgrounds small.cfg "${more[@]}" --set generate.eta=0
grep -q 'generate.eta is 0.0 in .* but 1.0' out || fail 'the refusal does not name generate.eta'
rm -rf run/models/background
cp -r whole/models run
run 0 1 finetune small.cfg "${from[@]}" --set finetune.region=lesion
rm -rf run/models/background && mv run/models/lesion run/models/background
run 2 1 backgrounds small.cfg "${more[@]}"
grep -q 'come from another background model' out || fail 'the refusal does not name the model'
renew
head -c 3000 slow.h5 >run/backgrounds.h5.tmp
run 0 2 backgrounds small.cfg "${more[@]}"
grep -q 'cannot be read, made anew' out || fail 'no word of the torn file'
cmp slow.h5 run/backgrounds.h5 || fail 'after a torn file: another store'

# Complete under other settings: refused, with the key.
run 2 1 backgrounds small.cfg --set run=whole "${from[@]}" --set backgrounds.grow_px=3
grep -q 'backgrounds.grow_px is' out || fail 'the refusal does not name backgrounds.grow_px'
run 2 1 generate small.cfg --set run=whole "${from[@]}" --set backgrounds.count=3
grep -q 'backgrounds.count: 3' out || fail 'generate does not name backgrounds.count'
run 2 1 generate small.cfg --set run=whole
grep -q 'backgrounds.from.*comes to "real" here' out || fail 'generate does not name backgrounds.from'
cmp whole/backgrounds.h5 before.h5 || fail 'a refused start changed it'
# Where the import has made them, there is nothing to do.
run 0 2 pipeline small.cfg --set run=real --set generate.pairs=2
run 0 2 backgrounds small.cfg --set run=real --set generate.pairs=2
grep -q 'nothing to repair' out || fail 'repaired backgrounds where the set has lesion-free images'
[ ! -e real/models/background ] || fail 'a background model without need'

# Lesions that fill their pictures: known before any training.
cp -r phantoms filled
for mask in filled/train/masks/*.png; do
    { # a white BMP of 64 x 64 pixels
        printf 'BM\x36\x30\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x40\0\0\0\x40\0\0\0\x01\0\x18\0'
        head -c 24 /dev/zero
        head -c 12288 /dev/zero | tr '\0' '\377'
    } >"${mask%.png}.bmp"
    rm "$mask"
done
run 2 2 pipeline small.cfg --set run=filled-run "${from[@]}" --set data.root=filled
grep -q 'no training image has a lesion of at most 60 %' out || fail 'lesions that fill their pictures'
[ ! -e filled-run/models ] || fail 'the pipeline trained first'

# The pipeline sees to all of it, and pairs are painted into the repaired images.
run 0 3 pipeline small.cfg --set run=chain "${from[@]}"
check chain 12
check_pairs chain
[ "$(cat chain/RESULT)" = ok ] || fail 'RESULT is not ok'
run 0 3 pipeline small.cfg --set run=chain "${from[@]}"
grep -q 'backgrounds.h5 is complete already' out || fail 'the repair is not skipped'
finish backgrounds
