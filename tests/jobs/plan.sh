#!/bin/bash
# meddiff plan: bytes and work of SD 1.5 at 512 x 512 as published, in the memory of a small process; refusals
# that say what would help.
set -uo pipefail
meddiff=$(realpath "$1")
golden=$PWD/tests/golden
tokenizer=$PWD/tests/format/tokenizer
[ -e "$golden/published/sd15-unet.json" ] || { echo "no published configurations"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
bad=0

fail() {
    echo "FAILED: $1"
    sed 's/^/    /' out err
    bad=1
}

# Less than the UNet's weights alone; sanitizers reserve more than that for themselves.
limit=3200000
(ulimit -v $limit; "$meddiff" --version) >out 2>&1 || limit=unlimited

# plan CODE arguments...
plan() {
    local want=$1 rc
    shift
    (ulimit -v $limit; OMP_NUM_THREADS=2 "$meddiff" plan "$@") >out 2>err
    rc=$?
    [ $rc = "$want" ] || fail "plan $*: exit code $rc, wanted $want"
}

said() { grep -qE -- "$1" out || fail "no \"$1\""; }
complained() { grep -qF -- "$1" err || fail "no \"$1\""; }

for part in unet vae text_encoder; do
    mkdir -p "sd15/$part"
    cp "$golden/published/sd15-$part.json" "sd15/$part/config.json"
done
cp -r "$golden/sd/scheduler" "$tokenizer" sd15
cat >sd15.cfg <<END
model = { foundation = "sd15"; };
memory = { budget = 60000; };
END

plan 0 sd15.cfg
said '^unet: 859\.52 M parameters'
said '^vae: 83\.65 M parameters'
said '^text_encoder: 123\.06 M parameters'
said '^UNet: 803\.[0-9] GFLOP for one picture and prompt of 512 pixels'
# weights 4 x 1066 M, gradients and moments of the UNet: 4 and 8 bytes each
said '^finetune step +4067\.[0-9] +3278\.[0-9] +6557\.[0-9] '
said '^0 of 38 blocks are recomputed'
said '^generate: at most [0-9.]+ MiB of 60000\.0, about [0-9]+ h [0-9]+ min on one worker'
[ -e runs ] && fail 'a run directory was made'

# the mask generator as the paper has it: 64, 128, 256, 512 channels (diffusers' UNet2DModel counts the same);
# gradients, and moments with the average: 4 and 12 bytes each; 1500 masks by 16 in 50 steps
said '^mask UNet: 61\.83 M parameters'
said '^masks step +235\.9 +235\.9 +707\.6 .* 10000 '
said '^masks draw +235\.9 +0\.0 +0\.0 .* 4700 '
plan 0 sd15.cfg --set guide.from=data
grep -q '^mask' out && fail 'a mask generator although guides are the training masks'
plan 2 sd15.cfg --set masks.size=512 --set data.size=256
complained 'masks.size'

plan 0 sd15.cfg --set generate.guidance=1 --set generate.batch=1 --set generate.sampler=ddim
said '^generate step .* 803\.[0-9]+ +75000 '
said '^sampler: ddim, 50 evaluations for 50 steps'

# guidance doubles the UNet's work, and only that
plan 0 sd15.cfg --set generate.guidance=1 --set generate.batch=1
said '^generate step .* 803\.[0-9]+ +76500 ' # the folder's PNDM: 51 evaluations
said '^UNet: 803\.[0-9] GFLOP'

# less memory: recomputed blocks, more work
plan 0 sd15.cfg --set memory.budget=15200
said '^[1-9][0-9]* of 38 blocks are recomputed'
plan 1 sd15.cfg --set memory.budget=9000
complained 'with all blocks recomputed'
complained 'raise memory.budget or finetune.accumulate'
plan 1 sd15.cfg --set memory.budget=700
complained 'not trained take'
plan 1 sd15.cfg --set memory.budget=20000 --set generate.batch=100
complained 'lower generate.batch'

# the class of a prior is drawn first, and doubles the batch
plan 0 sd15.cfg --set finetune.prior_weight=1 --set finetune.prior_prompt=image --set generate.steps=10
said '^finetune encode .* 130 '
said '^finetune class .* 250 '
plan 2 sd15.cfg --set finetune.prior_weight=1
complained finetune.prior_prompt
# adapters: frozen weights need no gradients and no moments, and in bf16 no f32
plan 0 sd15.cfg --set finetune.lora_rank=16
said '^finetune step +4079\.[0-9] +12\.[0-9] +24\.[0-9] '
said '^unet: 3\.189 M parameters in 128 adapters are trained, and nothing else'
said '^generate step +4067\.[0-9] +0\.0 '
plan 0 sd15.cfg --set finetune.lora_rank=16 --set model.dtype=bf16 --set memory.budget=7500
said '^finetune step +2051\.[0-9] +6\.[0-9] +24\.[0-9] '
said '^0 of 38 blocks are recomputed'

# bad input
plan 2 sd15.cfg --set model.foundation=nowhere
complained 'nowhere'
plan 2 sd15.cfg --set data.size=100
complained 'data.size'
exit $bad
