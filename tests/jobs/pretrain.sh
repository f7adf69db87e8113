#!/bin/bash
# The job that makes the tiny foundation, for a few steps: alone and with two workers, stopped and gone on
# with, and what comes out opens as a foundation.
set -uo pipefail
meddiff=$(realpath "$1")
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
config=$PWD/configs/tiny-pretrain.cfg
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
bad=0
few=(--set pretrain.vae_steps=3 --set pretrain.vae_batch=2 --set pretrain.vae_crop=32 --set pretrain.pictures=4
    --set pretrain.unet_steps=2 --set pretrain.unet_batch=2 --set pretrain.encoder_steps=2
    --set pretrain.encoder_batch=2 --set pretrain.encoder_group=8 --set checkpoint.minutes=0)

# pretrain NP RUN: output to RUN.out
pretrain() {
    mpirun -n "$1" "$meddiff" pretrain "$config" --set "run=$2" "${few[@]}" "${@:3}" >"$2.out" 2>&1
}

expect() { # expect WHAT COMMAND...
    local what=$1
    shift
    "$@" || { echo "FAILED: $what"; tail -n 12 ./*.out | sed 's/^/    /'; bad=1; }
}

expect "alone" pretrain 1 alone
for file in model_index.json tokenizer/vocab.json tokenizer/merges.txt scheduler/scheduler_config.json \
    text_encoder/model.safetensors vae/diffusion_pytorch_model.safetensors \
    unet/diffusion_pytorch_model.safetensors encoder/config.json encoder/model.safetensors \
    encoder/preprocessor_config.json; do
    expect "alone leaves $file" test -s "alone/models/foundation/$file"
done
expect "with two workers" pretrain 3 two
expect "a second start has nothing left to learn" pretrain 1 alone
expect "the result opens" "$meddiff" plan "$config" --set model.foundation=alone/models/foundation --set data.size=128
# the UNet's training stopped after its first step and gone on with: the same bytes
mkdir -p stopped/checkpoints && cp -r alone/checkpoints/vae stopped/checkpoints/
mkdir -p stopped/checkpoints/unet && cp -r alone/checkpoints/unet/step-1 stopped/checkpoints/unet/
expect "going on from a checkpoint" pretrain 1 stopped
for part in vae unet; do
    expect "the same $part after going on" cmp {alone,stopped}/models/foundation/$part/diffusion_pytorch_model.safetensors
done
# the encoder depends on no other part: alone it is the same, and the others are left as they are
expect "the encoder alone" pretrain 1 encoder --set pretrain.what=encoder --set pretrain.out=made
expect "it is the encoder of the whole run" cmp {alone/models/foundation,made}/encoder/model.safetensors
expect "and nothing else was written" test "$(ls made)" = encoder
expect "the encoder goes on from a checkpoint" rm -r encoder/checkpoints/encoder/step-2
expect "the encoder alone again" pretrain 1 encoder --set pretrain.what=encoder --set pretrain.out=again
expect "with the same bytes" cmp {made,again}/encoder/model.safetensors
expect "the foundation alone" pretrain 1 parts --set pretrain.what=foundation
expect "without an encoder" test ! -e parts/models/foundation/encoder
expect "with the same UNet" cmp {alone,parts}/models/foundation/unet/diffusion_pytorch_model.safetensors
exit $bad
