#!/bin/bash
# meddiff verify: silent about a whole run, names every fault that is planted, disturbs nothing, and says
# beside a live run what it cannot judge.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
poke=$programs/poke

# verify CODE RUN: output to out.
verify() {
    local rc
    "$meddiff" verify "$2" >out 2>&1
    rc=$?
    [ $rc = "$1" ] || fail "verify $2: exit code $rc, wanted $1"
}

ln -s "$tree/tests/golden/features" encoder
run 0 2 pipeline small.cfg --set model.encoder=encoder --set quality.low=-1 --set quality.high=1 \
    --set quality.lesion_low=-1 --set quality.lesion_high=1
find run -type f -exec sha256sum {} + | sort >before
verify 0 run
grep -q '^run: .* 0 problems$' out || fail 'a whole run has problems'
grep -q '^note' out && fail 'a finished run has something left to say'
chmod -R a-w run && verify 0 run
chmod -R u+w run
find run -type f -exec sha256sum {} + | sort | cmp - before || fail 'verify changed something'

# plant TEXT COMMAND...: in a copy of the run; the one problem that is named is this one.
plant() {
    local text=$1
    shift
    rm -rf bad && cp -r run bad
    (cd bad && eval "$*") >out 2>&1 || fail "$*: did not work"
    verify 1 bad
    grep -vE '^(note: |bad: |20)' out | grep -qF -- "$text" || fail "$*: no line says \"$text\""
    grep -q ', 1 problem$' out || fail "$*: other problems too"
    planted=$((planted + 1))
}
# remark TEXT COMMAND...: the same for what is no fault.
remark() {
    local text=$1
    shift
    rm -rf bad && cp -r run bad
    (cd bad && eval "$*") >out 2>&1 || fail "$*: did not work"
    verify 0 bad
    grep '^note: ' out | grep -qF -- "$text" || fail "$*: no note says \"$text\""
}
# rehash STORE: pairs.h5 then says that it was made from this one, so that the hash is not a second problem.
rehash() { "$poke" pairs.h5 attribute "sha256_$1" "$(sha256sum "$1.h5" | cut -c1-64)"; }
planted=0
n=4096 # pixels of a picture

# ---- data.h5 and backgrounds.h5
for store in data backgrounds; do
    plant "bad/$store.h5" "truncate -s -1000 $store.h5; rehash $store"
    plant "bad/$store.h5" "echo text >$store.h5; rehash $store"
    plant "bad/$store.h5: dataset /crc is missing" "$poke $store.h5 rename crc cyclic; rehash $store"
    plant "bad/$store.h5: holds meddiff.other" "$poke $store.h5 attribute schema meddiff.other; rehash $store"
    plant "bad/$store.h5: schema version 7" "$poke $store.h5 numbers schema_version 7; rehash $store"
    plant "bad/$store.h5" "$poke $store.h5 drop licences; rehash $store"
    plant "bad/$store.h5: its seed is 8" "$poke $store.h5 numbers seed 8; rehash $store"
    plant "bad/$store.h5: row 1: its pixels do not give the checksum" "$poke $store.h5 set images $((3 * n + 5)) 77; rehash $store"
    plant "bad/$store.h5: row 2: sha256 is no SHA-256" "$poke $store.h5 text sha256 2 cafe; rehash $store"
    plant "bad/$store.h5: row 0: it has no name" "$poke $store.h5 text name 0 ''; rehash $store"
    plant "bad/$store.h5: row 0 has the unknown kind 9" "$poke $store.h5 set kind 0 9; rehash $store"
    plant "bad/$store.h5: row 1: its valid rectangle leaves the picture" "$poke $store.h5 set valid 6 65; rehash $store"
    plant "made from another version of \"$store\"" "$poke $store.h5 set source 0 0.5"
    remark "the $store.h5 that it was made from is not there" "rm $store.h5"
done
# in_data WORDS...: poke data.h5 with each; the checksums of what was poked are right afterwards.
in_data() {
    local words
    for words; do
        # shellcheck disable=SC2086
        "$poke" data.h5 $words
    done
    "$poke" data.h5 seal 0
    rehash data
}
plant 'row 0: its mask holds another value' "in_data 'set masks 5 2'"
plant 'row 0: its mask marks the border' "in_data 'set masks 5 1' 'set valid 0 3'"
plant 'row 0: a lesion-free picture has a mask' "in_data 'set kind 0 1' 'set used 0 0' 'set used 2 1'"
plant 'row 15: the mask of a lesion picture is empty' "in_data 'set kind 15 0' 'set used 15 0'; rm backgrounds.h5"
plant 'row 2: a picture of this kind does not belong here' "in_data 'set kind 2 2'"
plant 'row 2: it belongs to no group' "in_data 'set group 2 -1'"
plant 'row 19: it is used, but not of the train split' "in_data 'set used 19 1' 'set used 0 0'"
plant 'row 19: group 0 is in two splits, train and test' "in_data 'set group 19 0'"
plant '13 training pairs are used, data.pairs means 12' "in_data 'set used 2 1'"
in_backgrounds() { "$poke" backgrounds.h5 "$@"; rehash backgrounds; }
plant 'row 3: it is not of the train split' 'in_backgrounds set split 3 1'
plant 'row 3: a picture of this kind does not belong here' 'in_backgrounds set kind 3 0'
plant 'row 3: data_id is no row of data.h5' 'in_backgrounds set data_id 3 21'
plant 'row 3: it comes from a picture that is not of the train split' 'in_backgrounds set data_id 3 19'
plant 'row 3: group and SHA-256 are not those' 'in_backgrounds set data_id 3 14'
plant 'row 3: its kind does not fit' 'in_backgrounds set kind 3 2'

# ---- pairs.h5
in_pairs() { # WORDS...: as in_data, slot 1
    local words
    for words; do
        eval "$poke pairs.h5 $words"
    done
    "$poke" pairs.h5 seal 1
}
plant 'bad/pairs.h5' 'truncate -s -1000 pairs.h5'
plant 'bad/pairs.h5: dataset /guides is missing' "$poke pairs.h5 rename guides other"
plant 'bad/pairs.h5: holds meddiff.data' "$poke pairs.h5 attribute schema meddiff.data"
for name in prompt licences band seed contains_real_pixels config; do
    plant 'bad/pairs.h5' "$poke pairs.h5 drop $name"
done
plant 'pairs.h5:1: syntax error' "$poke pairs.h5 attribute config 'seed = ;'"
plant 'pairs.h5: its seed is 8' "$poke pairs.h5 numbers seed 8"
plant 'pairs.h5: the band of the whole image, 0.9 to 0.1, is none' "$poke pairs.h5 numbers band 0.9 0.1 0.1 0.9"
plant "pairs.h5: the band of the lesion's box, 0.9 to 0.1, is none" "$poke pairs.h5 numbers band 0.1 0.9 0.9 0.1"
for store in data backgrounds; do
    plant "another version of \"$store\"" "$poke pairs.h5 attribute sha256_$store cafe"
done
for part in unet vae text_encoder scheduler encoder; do
    plant "another version of \"$part\"" "$poke pairs.h5 attribute sha256_$part cafe"
done
plant 'slot 1: its pixels do not give the checksum' "$poke pairs.h5 set images $((3 * n + 7)) 77"
plant 'slot 1: its pixels do not give the checksum' "$poke pairs.h5 set guides $((n + 7)) 1"
plant 'slot 1: its pixels do not give the checksum' "$poke pairs.h5 set crc 1 5"
plant 'slot 1: the mask leaves the guide' "in_pairs 'set masks $n 1'"
plant 'slot 1: mask or guide holds another value' "in_pairs 'set guides $n 3'"
plant 'slot 1: the mask is empty' "$poke pairs.h5 clear masks 1; in_pairs"
plant 'slot 1 has the unknown state 9' "in_pairs 'set state 1 9'"
plant 'slot 1: rejected or failed without a reason' "in_pairs 'set state 1 3'"
plant 'slot 1: rejected or failed without a reason' "in_pairs 'set state 1 4'"
plant 'slot 1: a negative attempt' "in_pairs 'set attempt 1 -1'"
plant 'slot 1: background_id is no row' "in_pairs 'set background_id 1 5'"
plant 'slot 1: mask_id is no row' "in_pairs 'set mask_id 1 21'"
plant 'slot 1: nearest_id is no row' "in_pairs 'set nearest_id 1 -2'"
plant 'slot 1: a similarity or alignment out of range' "in_pairs 'set similarity 1 1.5'"
plant 'slot 1: a similarity or alignment out of range' "in_pairs 'set alignment 1 -0.5'"
remark '2 slots are still to be made' "$poke pairs.h5 set state 1 0; $poke pairs.h5 set state 3 1; rm RESULT"
plant 'says ok, but 1 slots of pairs.h5 are unfinished' "$poke pairs.h5 set state 1 0"
remark 'no RESULT: the last job was killed' 'rm RESULT'

# ---- models, pictures, the outcome
weights=models/lesion/unet/diffusion_pytorch_model.safetensors
plant "bad/$weights" "truncate -s -100 $weights; rm pairs.h5"
plant "$weights" "sed -i 's/mid_block/mid_blick/' $weights; rm pairs.h5"
plant 'another version of "unet"' "printf x | dd of=$weights bs=1 seek=\$((\$(stat -c %s $weights) - 1)) conv=notrunc"
plant 'models/lesion/unet/config.json' "echo '{' >models/lesion/unet/config.json; rm pairs.h5"
plant 'models/lesion/DONE:1: syntax error' 'echo "seed = ;" >models/lesion/DONE'
plant 'models/lesion' 'rm -r models/lesion/unet; rm pairs.h5'
remark 'models/lesion is not complete' 'rm models/lesion/DONE'
remark 'cannot be compared with its hashes' 'rm -r models'
mv encoder away
remark 'the encoder that judged it, encoder, is not there' :
mv away encoder
remark 'models/lesion is not held against its foundation' "sed -i 's/\"small\"/\"gone\"/' models/lesion/DONE"
plant preview.png 'truncate -s 1000 preview.png'
plant config.cfg 'echo "seed = ;" >config.cfg'
plant '"well" is none of ok, stopped, failed' 'echo well >RESULT'
plant 'REQUEUE: is there, but RESULT says ok' 'touch REQUEUE'
plant 'REQUEUE: is there without a RESULT' 'touch REQUEUE; rm RESULT'
remark 'not finished: left by a job that was stopped' 'touch pairs.h5.tmp'

# ---- masks.h5
cat >masks.cfg <<END
$(cat small.cfg)
masks = { size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; ema = 0.95; count = 12; sample_steps = 10;
          sample_batch = 4; attempts = 8; copy = 0.99; };
END
mv run whole
mkdir run && cp whole/{data,backgrounds}.h5 run
run 0 2 masks masks.cfg
verify 0 run
plant 'mask 0: its pixels do not give the checksum' "$poke masks.h5 set state 0 2; $poke masks.h5 set masks 0 1"
plant 'mask 3: nearest_id is no row' "$poke masks.h5 set nearest_id 3 99"
plant 'mask 2: a negative attempt' "$poke masks.h5 set attempt 2 -1"
plant 'bad/masks.h5' "$poke masks.h5 drop sha256_data"
plant 'bad/masks.h5' 'truncate -s -1000 masks.h5'
rm -rf run && mv whole run

# ---- checkpoints, and a run that was killed
mkdir trained && cp run/{data,backgrounds}.h5 trained
"$meddiff" finetune small.cfg --set run=trained --set finetune.steps=5000 --set checkpoint.minutes=0 >out 2>&1 &
pid=$!
until [ "$(find trained/checkpoints -name DONE 2>/dev/null | wc -l)" -ge 2 ] || ! kill -0 $pid 2>/dev/null; do
    sleep 0.02
done
for _ in 1 2 3; do # beside it
    verify 0 trained
    grep -q '^note: trained: a job works here' out || fail 'it does not notice the live training'
done
kill -9 $pid && wait $pid 2>/dev/null
verify 0 trained
grep -q 'no RESULT: the last job was killed' out || fail 'it does not notice that the training was killed'
rm -rf run && mv trained run
newest=$(find run/checkpoints/lesion -name DONE | sort -V | tail -n 1)
newest=${newest#run/} newest=${newest%/DONE}
plant "bad/$newest/state.safetensors: CRC32C is" "printf x | dd of=$newest/state.safetensors bs=1 seek=5000 conv=notrunc"
plant "bad/$newest/state.safetensors" "truncate -s 9 $newest/state.safetensors"
plant "bad/$newest/state.safetensors" "rm $newest/state.safetensors"
plant "bad/$newest/DONE: not a checkpoint's DONE" "echo DONE >$newest/DONE"
remark "bad/$newest is not complete: the one before it will be used" "rm $newest/DONE"

# ---- beside a generation
rm -rf run
run 0 2 pipeline small.cfg
"$meddiff" generate small.cfg --set generate.pairs=150 --set generate.batch=2 >generated 2>&1 &
pid=$!
seen=0
while kill -0 $pid 2>/dev/null; do
    verify 0 run
    ! grep -q '^note: run: a job works here' out || seen=$((seen + 1))
    sleep 0.2
done
wait $pid || fail 'the generation beside which verify ran'
[ $seen -gt 0 ] || fail 'the generation was over too soon'
verify 0 run
grep -q '^note' out && fail 'a finished run has something left to say'
[ $planted -ge 90 ] || fail "only $planted faults were planted"
finish verify
