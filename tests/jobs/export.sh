#!/bin/bash
# meddiff export: every format holds the accepted pairs and the real ones, each in its part, as the stores have
# them; what cannot be exported is refused with a sentence and leaves nothing; --share leaves no name; verify and
# --fresh do not mind an export in the run directory.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
poke=$programs/poke
n=4096 # pixels of a picture

# export_run CODE TEXT ARGUMENTS...: output to out, which holds the text; a failure is one message.
export_run() {
    local want=$1 text=$2 rc
    shift 2
    "$meddiff" export "$@" >out 2>&1
    rc=$?
    [ $rc = "$want" ] || fail "export $*: exit code $rc, wanted $want"
    grep -qF -- "$text" out || fail "export $*: no \"$text\""
    [ "$want" = 0 ] || [ "$(grep -c ERROR out)" = 1 ] || fail "export $*: not one message"
}
# nothing_at FOLDER: no file in it, and no temporary folder.
nothing_at() {
    [ -z "$(find "$1" "$1".tmp.* \( -type f -o -name '*.tmp.*' \) 2>/dev/null)" ] || fail "something is left at $1"
}
# holds FORMAT FOLDER PICTURES
holds() {
    "$programs/check_export" "$1" run "$2" >out 2>&1 || fail "check_export $1 run $2"
    grep -qx "$3 pictures" out || fail "$2 does not hold $3 pictures"
}
# rehash: pairs.h5 then says that it was made from the data.h5 and backgrounds.h5 that are there.
rehash() {
    local store
    for store in data backgrounds; do
        "$poke" "$1/pairs.h5" attribute sha256_$store "$(sha256sum "$1/$store.h5" | cut -c1-64)"
    done
}

run 0 1 pipeline small.cfg
# slot 3 rejected, slot 5 empty; slot 1 in two parts, one with a hole; row 3 for validation, of which slot 0 is painted
# over nothing
"$poke" run/pairs.h5 set state 3 3
"$poke" run/pairs.h5 text reason 3 'too similar'
"$poke" run/pairs.h5 set state 5 0
"$poke" run/pairs.h5 clear masks 1
"$poke" run/pairs.h5 clear guides 1
for at in 0 4095 $((20 * 64 + 20)) $((20 * 64 + 21)) $((20 * 64 + 22)) $((21 * 64 + 20)) $((21 * 64 + 22)) \
    $((22 * 64 + 20)) $((22 * 64 + 21)) $((22 * 64 + 22)); do
    "$poke" run/pairs.h5 set masks $((n + at)) 1
    "$poke" run/pairs.h5 set guides $((n + at)) 1
done
"$poke" run/pairs.h5 seal 1

# ---- every format
for format in png nnunet hdf5 coco; do
    export_run 0 '1 slots of pairs.h5 are still to be made' run --set export.format=$format
    grep -q '1 rejected or failed pairs were left out' out || fail "$format: nothing of the rejected pair"
done
nnunet=run/export/nnunet/Dataset500_run
holds png run/export/png 26
holds nnunet $nnunet 26
holds coco run/export/coco 26
holds hdf5 run/export/hdf5 26
[ "$(wc -l <run/export/png/pairs.csv)" = 27 ] || fail 'pairs.csv has not a line for each picture'
grep -q '^train/images/pair-000001.png,synthetic,train,1,' run/export/png/pairs.csv || fail 'pairs.csv without slot 1'
grep -q '^test/images/real-000020.png,real,test,,.*test/images/skin-t00001.png' run/export/png/pairs.csv ||
    fail 'pairs.csv without row 20'
compgen -G 'run/export/*/{val,test}*/*/pair-*' >/dev/null && fail 'a synthetic pair is no training material'
{ export_run 0 'made again' run --set export.to=again && diff -r run/export/png again; } || fail 'a second export differs'
export_run 0 'made rich' run --set export.to=rich --set export.guides=true --set export.real=all --set export.healthy=true
[ "$(find rich -name '*.png' | wc -l)" = $((12 * 3 + 14 * 2 + 2 * 2 + 5 * 2)) ] || fail 'guides, all, healthy: other files'
[ -s rich/train/masks/healthy-000015.png ] || fail 'a lesion-free picture without its mask'
export_run 0 'made few' run --set export.to=few --set export.real=none
[ "$(find few -name '*.png' | wc -l)" = 24 ] || fail 'export.real=none: other files'

# ---- folds: synthetic pairs train, real ones validate
splits=$nnunet/splits_final.json
[ "$(grep -c '"val": \["real-' $splits)" = 5 ] || fail 'not five folds of the real pictures'
grep '"val"' $splits | grep -q pair && fail 'a synthetic pair validates'
[ "$(grep '"val"' $splits | grep -o 'real-[0-9]*' | sort -u | wc -l)" = 12 ] || fail 'not every real picture validates'
# guides are the data set's own here: a pair trains in no fold that validates on the picture of its guide
guide=$(awk -F, '/pair-000000/ { print $10 }' run/export/png/pairs.csv)
line=$(grep -n "\"val\".*real-$(printf %06d "$guide")" $splits | cut -d: -f1)
sed -n "$((line - 1))p" $splits | grep -q pair-000000 && fail 'a pair trains beside the picture of its guide'
grep -q 'pair-000000' $splits || fail 'pair 0 never trains'
# nor beside the picture that it was painted over
export_run 0 'lesion-free: 5 train' run --set export.format=nnunet --set export.to=with_healthy --set export.healthy=true
splits=with_healthy/Dataset500_run/splits_final.json
background=$(awk -F, '/pair-000000/ { print $13 }' run/export/png/pairs.csv)
line=$(grep -n "\"val\".*healthy-$(printf %06d "$background")" $splits | cut -d: -f1)
sed -n "$((line - 1))p" $splits | grep -q pair-000000 && fail 'a pair trains beside the picture of its background'
grep '"val"' $splits | grep -q pair && fail 'a synthetic pair validates'
cp -r run own
"$poke" own/data.h5 set split 3 1
"$poke" own/data.h5 set used 3 0
rehash own
export_run 0 'val' own --set export.format=nnunet --set export.to=raw --set export.name=with_val --set export.number=7
grep -q '"val": \["real-000003"\]' raw/Dataset007_with_val/splits_final.json || fail "the data set's own validation part"
[ "$(grep -c '"train"' raw/Dataset007_with_val/splits_final.json)" = 1 ] || fail 'not one fold'
export_run 2 'raw holds Dataset007_with_val already' run --set export.format=nnunet --set export.to=raw --set export.number=7
export_run 2 'export.name: "a b" holds more than letters' run --set export.format=nnunet --set export.name='a b'
export_run 0 '"val" of splits_final.json is empty' run --set export.format=nnunet --set export.to=raw \
    --set export.real=none
grep -q '"val": \[\]' raw/Dataset500_run/splits_final.json || fail 'a validation of what is not there'

# ---- for others: phantoms are nobody's
for format in png nnunet hdf5 coco; do
    export_run 0 'made shared' run --share --set export.format=$format --set export.to=shared/$format
done
[ "$(find shared -name 'real-*' | wc -l)" = 0 ] || fail '--share: real pictures'
[ ! -e shared/hdf5/data.h5 ] || fail '--share: data.h5'
[ "$(find shared/png -name '*.png' | wc -l)" = 24 ] || fail '--share: not the pairs'
[ -d shared/nnunet/Dataset500_pairs ] || fail "--share: the run's name"
for word in skin- phantoms small.cfg backgrounds/ foundation run/ "$dir" background_id "$(sha256sum run/data.h5 | cut -c1-64)"; do
    grep -rl --exclude=pairs.h5 -- "$word" shared && fail "--share left \"$word\""
done
for word in skin- phantoms train/ sha256_ "$dir"; do
    grep -l -- "$word" shared/hdf5/pairs.h5 && fail "--share left \"$word\" in pairs.h5"
done
export_run 2 'export.real: these are the data set' run --share --set export.real=used --set export.to=x
export_run 2 'export.healthy: these are the data set' run --share --set export.healthy=true --set export.to=x
cp -r own real && "$poke" real/pairs.h5 numbers contains_real_pixels 1
export_run 2 'pseudonymous, not anonymous' real --share --set export.to=x
grep -q 'real/pairs.h5: --share is refused: these pairs are painted over real images' out || fail '--share: no reason'
nothing_at x
"$meddiff" status run --share >out 2>&1
{ [ $? = 2 ] && grep -q 'nothing for --share' out; } || fail 'status --share'

# ---- what is refused leaves nothing
export_run 2 'run/export/png is there already: remove it, or name another folder' run
export_run 2 'nowhere is no run directory' nowhere
export_run 2 'phantoms is no run directory: it holds no config.cfg' phantoms
export_run 2 'export.format is "tiff"' run --set export.format=tiff
# spoil TEXT CODE COMMAND [ARGUMENTS...]: in a copy of the run.
spoil() {
    local text=$1 code=$2 command=$3
    shift 3
    rm -rf bad && cp -r run bad && rm -r bad/export
    (cd bad && eval "$command") >out 2>&1 || fail "$command: did not work"
    export_run "$code" "$text" bad --set export.to=x "$@"
    [ "$code" = 0 ] || nothing_at x
    rm -rf x
}
spoil 'bad/pairs.h5 is not there: "meddiff generate"' 2 'rm pairs.h5'
spoil 'no pair is accepted (14 empty, 0 not yet judged, 0 rejected, 0 failed), so there is nothing to export' 2 \
    "for i in \$(seq 0 13); do $poke pairs.h5 set state \$i 0; done"
for format in png hdf5 coco nnunet; do
    spoil 'slot 2: its pixels do not give the checksum' 2 "$poke pairs.h5 set images $((2 * 3 * n + 7)) 77" \
        --set export.format=$format
    spoil 'row 4: its pixels do not give the checksum' 2 "$poke data.h5 set images $((4 * 3 * n + 7)) 77
        $poke pairs.h5 attribute sha256_data \$(sha256sum data.h5 | cut -c1-64)" --set export.format=$format
done
spoil 'bad/pairs.h5' 2 'truncate -s -100000 pairs.h5'
spoil 'bad/data.h5 is not there, which holds the real images; --set export.real=none' 2 'rm data.h5'
spoil 'made x' 0 'rm data.h5' --set export.real=none
spoil 'bad/data.h5 is not the one that the pairs of bad were made from' 2 "$poke data.h5 set split 3 1"
spoil 'bad/backgrounds.h5 is not the one' 2 "$poke backgrounds.h5 set group 0 3"
spoil 'known by number only' 0 'rm backgrounds.h5'
spoil 'known by number only' 0 'rm backgrounds.h5' --set export.format=hdf5
export_run 1 'small.cfg/in: cannot make the directory' run --set export.to=small.cfg/in/x
export_run 1 'cannot make' run --set export.to=/proc/meddiff/x
if [ "$(id -u)" != 0 ]; then
    mkdir locked && chmod a-w locked
    export_run 1 'locked/x: cannot be made: Permission denied; --set export.to=FOLDER names another place' run \
        --set export.to=locked/x
fi
mkdir disk
if mount -t tmpfs -o size=900k tmpfs disk 2>/dev/null; then
    for format in png nnunet coco hdf5; do
        for left in 12 60 120; do
            fallocate -l $(((900 - left) * 1024)) disk/ballast
            export_run 1 'the disk is full (No space left on device): free some of it' run --set export.format=$format \
                --set export.to=disk/x
            nothing_at disk/x
            rm -rf disk/ballast disk/x
        done
    done
    umount disk
fi

# ---- what a killed export left goes with the next one; what another is making stays
mkdir -p left.tmp.999999/train left.tmp.$$ left.tmp.7x
export_run 0 'removed ./left.tmp.999999' run --set export.to=left
{ [ ! -e left.tmp.999999 ] && [ -d left.tmp.$$ ] && [ -d left.tmp.7x ]; } || fail 'leftovers'

# ---- a run directory with exports in it

"$poke" run/pairs.h5 set state 5 2
rm -rf run/export/png/train && truncate -s 20 run/export/coco/annotations/*.json && mkdir run/export/png.tmp.999999
"$meddiff" verify run >out 2>&1
grep -q 'export' out && fail 'verify looks at exports'
run 0 1 generate small.cfg --fresh
grep -q 'export' out && fail '--fresh minds the exports'
cmp $nnunet/labelsTr/pair-000001.png raw/Dataset500_run/labelsTr/pair-000001.png || fail '--fresh changed an export'
"$meddiff" verify run >out 2>&1 || fail 'verify after --fresh'
finish export
