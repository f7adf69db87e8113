#!/bin/bash
# Prior preservation: the foundation draws the class, the same pictures by any number of workers; what is
# missing is drawn again, what was made otherwise is refused; a folder of the user's own serves as well.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

weights=models/lesion/unet/diffusion_pytorch_model.safetensors
short=(--set finetune.steps=4)
prior=("${short[@]}" --set finetune.prior_weight=1 --set 'finetune.prior_prompt=an image' --set finetune.prior_images=7)

# said TEXT...: all of it in the last output.
said() {
    local text
    for text in "$@"; do
        grep -qF -- "$text" out || fail "not said: $text"
    done
}
# trainable RUN: a new run directory with the imported data.
trainable() {
    mkdir -p "$1" && cp whole/data.h5 whole/backgrounds.h5 "$1"
}

run 0 1 import small.cfg --set run=whole
trainable plain
run 0 1 finetune small.cfg --set run=plain "${short[@]}"
[ ! -e plain/prior ] || fail 'pictures of a class nobody asked for'

trainable nameless
run 2 1 finetune small.cfg --set run=nameless --set finetune.prior_weight=1
said finetune.prior_prompt

run 0 1 finetune small.cfg --set run=whole "${prior[@]}"
said 'draws 7 pictures of the class'
[ "$(find whole/prior -name '*.png' | wc -l)" = 7 ] || fail 'not 7 pictures'
[ "$(cat whole/prior/*.png | md5sum)" != "$(for _ in 1 2 3 4 5 6 7; do cat whole/prior/00000.png; done | md5sum)" ] ||
    fail 'all pictures are one'
cmp -s plain/$weights whole/$weights && fail 'the prior changed nothing'

trainable three
run 0 4 finetune small.cfg --set run=three "${prior[@]}"
diff -r whole/prior three/prior >out 2>&1 || fail 'three workers drew other pictures'

trainable again
cp -r whole/prior again/prior
rm again/prior/0000[25].png
run 0 1 finetune small.cfg --set run=again "${prior[@]}"
said 'draws 2 pictures of the class'
diff -r whole/prior again/prior >out 2>&1 || fail 'pictures drawn again differ'
cmp -s again/$weights whole/$weights || fail 'not the same training'

trainable other
cp -r whole/prior other/prior
run 2 1 finetune small.cfg --set run=other "${prior[@]}" --set 'finetune.prior_prompt=a picture'
said 'other settings' 'prompt an image' 'prompt a picture'
run 0 1 finetune small.cfg --set run=other "${prior[@]}" --set finetune.prior_folder=whole/prior
cmp -s other/$weights whole/$weights || fail 'the same pictures, given, make another training'

trainable given
run 0 1 finetune small.cfg --set run=given "${prior[@]}" --set finetune.prior_folder=phantoms/train/images
cmp -s given/$weights whole/$weights && fail 'other pictures make the same training'
mkdir none
trainable empty
run 2 1 finetune small.cfg --set run=empty "${prior[@]}" --set finetune.prior_folder=none
said none 'no picture'

finish prior
