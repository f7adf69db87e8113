#!/bin/bash
# A foundation as one file: the tuned model is written as one, at the end of a training or later, and a run
# from such a file makes what a run from the folder makes.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

run 0 2 import small.cfg
run 0 2 finetune small.cfg --set finetune.single_file=f32
one=run/models/lesion/lesion.safetensors
[ -s $one ] || fail "no $one"
[ -s run/models/lesion/tokenizer/vocab.json ] || fail 'no tokenizer beside it'
[ -e run/models/lesion/DONE ] || fail 'not complete'

# Later, from the files of the training: the same bytes; then it is not written again.
cp $one first && rm $one
run 0 3 finetune small.cfg
[ ! -e $one ] || fail 'written although it is off'
run 0 3 finetune small.cfg --set finetune.single_file=f32
cmp -s $one first || fail 'written later, the file differs'
run 0 1 finetune small.cfg --set finetune.single_file=f16
cmp -s $one first || fail 'written over one that was there'
rm $one
run 0 1 finetune small.cfg --set finetune.single_file=f16
[ "$(stat -c %s $one)" -lt $(($(stat -c %s first) * 6 / 10)) ] || fail 'f16 is not smaller'

# The foundation as one file: generated from the same weights, the pairs are the same.
cp first $one
run 0 2 generate small.cfg --set "model.foundation=$one" --set generate.weights=foundation
mv run/pairs.h5 from-file.h5
run 0 2 generate small.cfg
check_pairs run from-file.h5
run 0 1 plan small.cfg --set "model.foundation=$one"
grep -q 'unet: ' out || fail 'plan of a single file'

# What is no foundation is named, with exit code 2.
mkdir other && printf 'PK\003\004' >other/v1-5.ckpt
run 2 1 finetune small.cfg --set model.foundation=other/v1-5.ckpt --set run=none
grep -q 'get other/v1-5.safetensors' out || fail 'a pickle without advice'
cp first other/moved.safetensors
run 2 1 generate small.cfg --set model.foundation=other/moved.safetensors --set generate.weights=foundation
grep -q 'vocab.json and merges.txt' out || fail 'a file without tokenizer'

# A LoRA training's single file holds the sums.
mkdir adapted && cp run/data.h5 adapted
more=(--set run=adapted --set finetune.lora_rank=2 --set finetune.single_file=f32)
run 0 2 finetune small.cfg "${more[@]}"
cp run/backgrounds.h5 adapted
run 0 1 generate small.cfg --set run=adapted --set finetune.lora_rank=2
mkdir whole && cp run/{data.h5,backgrounds.h5} whole
run 0 1 generate small.cfg --set run=whole --set "model.foundation=adapted/models/lesion/lesion.safetensors" \
    --set generate.weights=foundation
check_pairs whole adapted/pairs.h5

finish single
