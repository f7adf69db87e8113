#!/bin/bash
# meddiff show: what it tells of pairs of every state, the picture; a pair painted again, alone, has the bytes
# that any number of workers gave it, whichever attempt it is, and it is said where it has not. What is seen
# of a run on its way: preview.png before its end, a bar with rate and time left on a terminal, and
# lines in a file.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
poke=$programs/poke
lines=30
encoder=(--set "model.encoder=$tree/tests/golden/features" --set quality.quantile=0.4)

# show CODE RUN ID OPTIONS...: output to out.
show() {
    local want=$1 rc
    shift
    "$meddiff" show "$@" >out 2>&1
    rc=$?
    [ $rc = "$want" ] || fail "show $*: exit code $rc, wanted $want"
}
said() { grep -qE -- "$1" out || fail "not said: $1"; }
# edges FILE.png: width and height.
edges() { od -An -tu1 -j16 -N8 "$1" | awk '{print $1 * 16777216 + $2 * 65536 + $3 * 256 + $4, $5 * 16777216 + $6 * 65536 + $7 * 256 + $8}'; }

run 0 3 pipeline small.cfg --set run=plain
run 0 3 pipeline small.cfg --set run=judged "${encoder[@]}"
find judged plain -type f -exec sha256sum {} + | sort >before

# ---- what is told
show 0 plain 3
said '^pair +3 of plain/pairs.h5, 64x64 pixels: accepted$'
said '^background +row [0-9]+ of backgrounds.h5: .*png \(lesion-free image\), group [0-9]+, train part$'
said '^guide +row [0-9]+ of data.h5: .*png \(lesion image\), group [0-9]+, train part$'
said '^similarity +not measured: model.encoder is empty$'
said '^seed +7; Philox4x32-10 of slot 3, attempt 0:$'
said 'guide +key 00000007 00000000, counter from 00000000 00000003 00000000 07000000$'
said '^SHA-256 +data +[0-9a-f]{64}$'
said '^ +finetune.steps = 20$'
said '^checksum +CRC32C [0-9a-f]{8} of image, mask and guide$'
said '^make again +meddiff show plain 3 --set show.redraw=true$'
grep -q 'finetune.beta1' out && fail 'a default is listed'
[ "$(edges plain/show-3.png)" = '788 416' ] || fail "the picture has $(edges plain/show-3.png) pixels"
grep -qa 'Philox4x32-10 of slot 3' plain/show-3.png || fail 'the picture does not hold its text'
cp -r plain "with space's"
show 0 "with space's" 0 --set show.to=zero.png
said "make again +meddiff show 'with space'.''s' 0 --set"
{ [ -s zero.png ] && [ ! -e "with space's/show-0.png" ]; } || fail 'show.to is not where the picture is'
rm plain/show-3.png
show 1 plain 3 --set show.to=nowhere/3.png
said '^pair +3 of plain'
said 'the picture \(show.to=FILE names another place\): .*nowhere/3.png'

# ---- painted again: every slot of two runs, made by two workers
draws=$(sed 1d judged/rejected.csv | wc -l)
[ "$draws" -gt 0 ] || fail 'no draw was rejected: the test needs one'
for where in plain judged; do
    for slot in 0 5 13; do
        show 0 $where $slot --set show.redraw=true --set show.to=again.png
        said 'CRC32C [0-9a-f]{8}, the same bytes as in the store$'
    done
done
find judged plain -type f -exec sha256sum {} + | sort | cmp - before || fail 'show changed something'

# ---- the first draw of a slot that was drawn again: as another run has it that keeps the first ones
slot=$(sed -n '2s/,.*//p' judged/rejected.csv)
show 0 judged "$slot"
said "^rejected +attempt 0: .*\(image 0\.[0-9]+, five nearest"
said '^similarity +image 0\.[0-9]+ to the nearest, lesion'
said '^nearest +row [0-9]+ of data.h5: .*png \(lesion image\)'
rm "judged/show-$slot.png"
inputs_of judged once
run 0 2 generate small.cfg --set run=once "${encoder[@]}" --set quality.redraw=false
show 0 once "$slot"
said 'pixels: rejected for good$'
said '^reason +.*too (dis)?similar: '
crc=$(sed -nE 's/^checksum +CRC32C ([0-9a-f]+) .*/\1/p' out)
show 0 judged "$slot" --set show.redraw=true --set show.attempt=0
said "^redrawn +attempt 0: CRC32C $crc, alignment 0\.[0-9]+; the store does not hold this draw$"
show 0 once "$slot" --set show.redraw=true
said "CRC32C $crc, the same bytes"
show 2 judged "$slot" --set show.attempt=0
said 'show.attempt: .*set show.redraw=true too'

# ---- a slot that is empty, failed, torn; another guide, model, setting
cp -r plain poked
"$poke" poked/pairs.h5 set state 2 0 && "$poke" poked/pairs.h5 set attempt 2 3
"$poke" poked/pairs.h5 set state 4 4 && "$poke" poked/pairs.h5 text reason 4 'non-finite value: slot 4'
"$poke" poked/pairs.h5 clear images 6
show 0 poked 2
said 'pixels: empty: not painted yet$'
said '^attempt +3 is the next to be painted$'
[ ! -e poked/show-2.png ] || fail 'a picture of an empty slot'
show 0 poked 2 --set show.redraw=true
said '^redrawn +attempt 3: .*the store does not hold this draw$'
[ -s poked/show-2.png ] || fail 'no picture of what was painted'
show 0 poked 4
said '^reason +non-finite value: slot 4$'
show 1 poked 6
said 'which its pixels do NOT give$'
said 'ERROR show: pair 6: its pixels do not give the checksum'
"$poke" poked/pairs.h5 seal 6 >/dev/null
show 1 poked 6 --set show.redraw=true
said '^redrawn +attempt 0: .*NOT the same: [0-9]+ pixels of the image differ, by at most [0-9]+ grey levels, 0 of the mask, 0 of the guide$'
said 'ERROR show: pair 6 painted again differs'
show 2 plain 1 --set show.redraw=true --set generate.steps=5
said 'generate.steps is 5 in this command but 4 in plain/pairs.h5'
cp judged/models/lesion/unet/*.safetensors poked/models/lesion/unet/ # the same training, so the same file
show 0 poked 1 --set show.redraw=true
"$poke" poked/data.h5 set group 0 77
show 0 poked 1
said 'SHA-256 +data .*\(ANOTHER ONE IS THERE NOW\)$'
show 2 poked 1 --set show.redraw=true
said 'another version of "data"'
rm poked/backgrounds.h5
show 0 poked 1
said 'row [0-9]+ of backgrounds.h5, which is not there$'

# ---- what is asked wrongly
show 2 plain 14
said '"14" is no pair of plain/pairs.h5, which has 0 to 13'
show 2 plain 1x
said '"1x" is no pair'
show 2 .
said 'show needs its arguments: meddiff show RUN ID'
show 2 . 1
said 'pairs.h5 does not exist: name a run directory'
show 2 plain 1 2
said 'show takes one RUN ID, got "1" and "2"'

# ---- a run on its way: preview.png, plain lines
inputs_of plain long
run=long
more=(--set generate.pairs=3000)
start 2 generate long
wait_until test -s long/preview.png
kill -0 "$launcher" 2>/dev/null || fail 'the run ended before there was a preview.png'
stop USR1 0 || fail 'the run ended too early'
grep -q 'generate: 3000/3000' long/log.txt && fail 'preview.png came at the end only'
grep -q '\[##*\.*\]' out long/log.txt && fail 'a bar in a file'
grep -qE 'memory: generate: at most [0-9]+ MiB resident' judged/log.txt || fail 'no memory of a stage in the log'
if command -v script >/dev/null; then
    inputs_of plain term
    script -qec "mpirun -n 2 '$meddiff' generate small.cfg --set run=term --set generate.pairs=200" out >/dev/null 2>&1
    grep -qE 'generate \[#+\.*\] [0-9]+/200 pairs, [0-9.]+/s, [0-9]+ s left' out || fail 'no bar on a terminal'
    grep -q '\[#' term/log.txt && fail 'the bar is in the log, too'
fi

finish show
