#!/bin/bash
# Rows of the validation and test parts reach nothing: with other pictures and masks there, every model and
# every pair, its likeness to the real images too, are the same to the byte; with another training picture none is.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
cat >>small.cfg <<END
masks = {
    size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; ema = 0.95;
    count = 8; sample_steps = 10; sample_batch = 4; attempts = 80; copy = 1.0;
};
END
all=(--set guide.from=masks --set backgrounds.from=repaired --set backgrounds.steps=8 --set finetune.steps=8 --set generate.pairs=6
    --set "model.encoder=$tree/tests/golden/features")
"$meddiff" phantom others --set phantom.size=64 --set phantom.count=2 --set phantom.normal=5 --set phantom.test=4 \
    --set seed=99 >out 2>&1 || fail phantom

# put FROM N TO: picture and mask N of the test part of FROM, as the only ones of the part TO.
put() {
    local image
    image=$(find "$1/test/images" -name '*.png' | sort | sed -n "$2p")
    rm -rf "phantoms/$3" && mkdir -p "phantoms/$3/images" "phantoms/$3/masks"
    cp "$image" "phantoms/$3/images/marked.png"
    cp "$1/test/masks/$(basename "$image")" "phantoms/$3/masks/marked.png"
}

# whole RUN: every stage.
whole() {
    run 0 4 pipeline small.cfg --set run="$1" "${all[@]}"
    for stage in 'lesion model' 'background model' 'mask model' masks backgrounds generate assess; do
        grep -qE "(cluster|pipeline): $stage: done in" out || fail "$1: no stage $stage"
    done
    check_pairs "$1"
}
models='lesion/unet/diffusion_pytorch_model background/unet/diffusion_pytorch_model masks/diffusion_pytorch_model'

put others 1 val
put others 2 test
whole one
"$meddiff" status one >out 2>&1
for line in '12 train, 1 val, 1 test\|14 train, 1 val, 1 test' models/lesion models/background models/masks '8 of 8 slots finished' 'result *ok'; do
    grep -q "$line" out || fail "status without \"$line\""
done
put others 3 val
put others 4 test
whole two
cmp one/data.h5 two/data.h5 >/dev/null && fail 'the other pictures did not arrive'
for model in $models; do
    cmp "one/models/$model.safetensors" "two/models/$model.safetensors" || fail "a held-back row reached $model"
done
check_pairs one two/pairs.h5

# The same of a training picture that is used matters to all.
cp phantoms/test/images/marked.png "$(find phantoms/train/images phantoms/images -name '*.png' 2>/dev/null | sort | head -n 1)"
put others 1 test
run 0 4 pipeline small.cfg --set run=three --set data.pairs=0 "${all[@]}"
cmp one/models/lesion/unet/diffusion_pytorch_model.safetensors three/models/lesion/unet/diffusion_pytorch_model.safetensors >/dev/null &&
    fail 'a training picture does not matter'
"$programs/check_pairs" one three/pairs.h5 >out 2>&1 && fail 'a training picture does not matter to the pairs'
finish leaks
