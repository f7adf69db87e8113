#!/bin/bash
# Inputs of which a part is of no use: backgrounds where no lesion can lie, slots that failed.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
poke=$programs/poke
said() { grep -qE -- "$1" out || fail "not said: $1"; }
# paints_over RUN ROW: is one of its pairs painted over this background?
paints_over() {
    local slot
    for slot in {0..13}; do
        "$meddiff" show "$1" "$slot" --set show.to=slot.png | grep -qE "^background +row $2 " && return
    done
    return 1
}
for job in import finetune; do run 0 3 $job small.cfg; done

# ---- a background without room: it is named and left out, the others take its place
inputs_of run black
{ "$poke" black/backgrounds.h5 clear allowed 1 && "$poke" black/backgrounds.h5 seal 1; } >out 2>&1 || fail 'poke'
for np in 1 3; do
    rm -f black/pairs.h5
    run 0 $np generate small.cfg --set run=black
    said '1 of [0-9]+ backgrounds have no room for a lesion and are left out: rows 1 \(.*png\)'
    [ "$(grep -c 'have no room' out)" = 1 ] || fail 'every worker warns'
    check_pairs black
    paints_over black 1 && fail 'the background without room was painted'
    cp black/pairs.h5 "black/$np.h5"
done
cmp black/1.h5 black/3.h5 || fail 'one and two workers differ'
"$meddiff" show black 2 --set show.redraw=true --set show.to=again.png >out 2>&1 || fail 'show'
said 'the same bytes as in the store'

# ---- none has room
for row in 0 2 3 4 5 6 7; do
    { "$poke" black/backgrounds.h5 clear allowed $row && "$poke" black/backgrounds.h5 seal $row; } >out 2>&1
done
rm black/pairs.h5
run 2 3 generate small.cfg --set run=black
said 'none of its [0-9]+ backgrounds has room for a lesion: rows 0 '
[ ! -e black/pairs.h5 ] || fail 'a store of which no slot can be made'

# ---- room enough by its pixels, but for no mask: the draw takes another background
inputs_of run strip
"$poke" strip/backgrounds.h5 clear allowed 1 >out 2>&1 || fail 'poke'
for x in {0..63}; do
    for y in 20 21; do "$poke" strip/backgrounds.h5 set allowed $((64 * 64 + 64 * y + x)) 1 || fail 'poke'; done
done
"$poke" strip/backgrounds.h5 seal 1 >out 2>&1 || fail 'poke'
run 0 3 generate small.cfg --set run=strip
grep -q 'have no room' out && fail 'the strip was left out: the test wants it drawn'
check_pairs strip
paints_over strip 1 && fail 'a mask lies in the strip'

# ---- a slot that failed: the next start draws it at its next attempt, and show makes it again
run 0 3 generate small.cfg
cp -r run failed
{ "$poke" failed/pairs.h5 set state 5 4 && "$poke" failed/pairs.h5 text reason 5 'NONFINITE: planted'; } >out 2>&1 || fail 'poke'
run 0 3 generate small.cfg --set run=failed
said '1 slots failed in an earlier start and are drawn again'
said '13 of 14 slots are done'
check_pairs failed
"$meddiff" verify failed >out 2>&1 || fail 'verify after the retry'
"$meddiff" show failed 5 --set show.redraw=true --set show.to=again.png >out 2>&1 || fail 'show'
said 'attempt 1: CRC32C [0-9a-f]{8}, the same bytes as in the store'

# ---- training images of which the loss counts nothing: told, and where all are so, before the training
mkdir empty && cp run/data.h5 empty
for row in 0 3; do
    { "$poke" empty/data.h5 clear masks $row && "$poke" empty/data.h5 seal $row; } >out 2>&1 || fail 'poke'
done
run 0 3 finetune small.cfg --set run=empty
said '4 of 24 samples .* are skipped, .*; rows 0 \(.*png\), 3 \(.*png\)$'
[ "$(grep -c 'are skipped' out)" = 1 ] || fail 'every worker warns'
rm -r empty/models
run 0 1 finetune small.cfg --set run=empty --set loss.outside=1
grep -q 'are skipped' out && fail 'all of the picture counts, nothing is skipped'
for row in {0..13}; do "$poke" empty/data.h5 clear masks "$row" >out 2>&1 || fail 'poke'; done
rm -r empty/models
run 2 3 finetune small.cfg --set run=empty
said 'nothing to train on: .* in all 12 training images: there is no lesion, .*; rows .*, \.\.\.$'
run 2 1 finetune small.cfg --set run=run --set finetune.region=background --set finetune.grow_px=64
said 'in all 12 training images: the lesion, grown by finetune.grow_px'
{ [ ! -e empty/models ] && [ ! -e run/models/background ]; } || fail 'a model that has learned nothing'

# ---- one training mask teaches no new ones: said before the training; of two masks some pass
cat >>small.cfg <<END
masks = {
    size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; ema = 0.95;
    count = 12; sample_steps = 10; sample_batch = 4; attempts = 8;
};
END
run 0 1 import small.cfg --set run=one --set data.pairs=1
run 2 3 masks small.cfg --set run=one --set data.pairs=1
said 'one/data.h5: 1 training mask: .* set guide.from = "data"'
{ [ ! -e one/checkpoints ] && [ ! -e one/models ]; } || fail 'it has trained before'
run 0 1 import small.cfg --set run=two --set data.pairs=2
run 0 3 masks small.cfg --set run=two --set data.pairs=2
said 'limits of 2 training masks: .*; a copy: IoU above 0\.9'
said ' [1-9][0-9]* masks in two/masks.h5'
finish degenerate
