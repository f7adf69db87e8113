#!/bin/bash
# LoRA adapters through the whole chain: what a fine-tune leaves, what generate makes of it, that diffusers
# loads it (where it is installed; MEDDIFF_PYTHON names an interpreter), resuming, and what is refused.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
python=${MEDDIFF_PYTHON:-python3}
adapters=models/lesion/pytorch_lora_weights.safetensors
more=(--set finetune.lora_rank=3 --set finetune.lora_alpha=6 --set finetune.lora_layers=all
    --set finetune.text_encoder=true --set finetune.lr=3e-2 --set checkpoint.minutes=0)

# Adapters alone, small beside the model; a store that names them.
run 0 3 pipeline small.cfg --set run=lora "${more[@]}"
[ -s lora/$adapters ] || fail 'no adapters'
[ ! -e lora/models/lesion/unet ] || fail 'a whole UNet beside the adapters'
[ ! -e lora/models/lesion/text_encoder ] || fail 'a whole text encoder beside the adapters'
[ $((3 * $(stat -c %s lora/$adapters))) -lt "$(stat -c %s small/unet/diffusion_pytorch_model.safetensors)" ] ||
    fail 'the adapters are not small'
grep -qaF "$(sha256sum lora/$adapters | cut -d' ' -f1)" lora/pairs.h5 ||
    fail 'pairs.h5 does not name the adapters'
check_pairs lora

# They are not the foundation: control pairs differ.
inputs_of lora control
run 0 1 generate small.cfg --set run=control --set generate.weights=foundation "${more[@]}"
cmp -s lora/pairs.h5 control/pairs.h5 && fail 'the adapters change nothing'
"$programs/check_pairs" lora control/pairs.h5 >out 2>&1 && fail 'the adapters change no pair'

# The sums, asked for after the training: as a model of their own they paint the same pairs.
run 0 2 finetune small.cfg --set run=lora "${more[@]}" --set finetune.lora_merge=true
for part in unet/diffusion_pytorch_model text_encoder/model; do
    [ -s "lora/models/lesion/$part.safetensors" ] || fail "no merged $part"
done
cp lora/models/lesion/unet/diffusion_pytorch_model.safetensors merged.safetensors
inputs_of lora merged
rm merged/$adapters
run 0 2 generate small.cfg --set run=merged "${more[@]}"
check_pairs lora merged/pairs.h5
run 0 2 finetune small.cfg --set run=lora "${more[@]}" --set finetune.lora_merge=true
grep -q 'is complete already' out || fail 'merged twice'
# a kill after DONE leaves checkpoints of a model that is complete
mkdir -p lora/checkpoints/lesion/step-3
touch lora/checkpoints/lesion/step-3/state.safetensors
run 0 2 finetune small.cfg --set run=lora "${more[@]}" --set finetune.lora_merge=true
[ ! -e lora/checkpoints/lesion ] || fail 'checkpoints of a complete model stay'

# ... and with the training: the same bytes.
mkdir at-once && cp lora/{data.h5,backgrounds.h5} at-once
run 0 3 finetune small.cfg --set run=at-once "${more[@]}" --set finetune.lora_merge=true
for file in $adapters models/lesion/unet/diffusion_pytorch_model.safetensors \
    models/lesion/text_encoder/model.safetensors; do
    cmp "lora/$file" "at-once/$file" || fail "$file depends on when it was merged"
done

# bf16, one process alone, the default layers.
mkdir bf16 && cp lora/{data.h5,backgrounds.h5} bf16
bf16=("${more[@]}" --set model.dtype=bf16 --set finetune.lora_layers=attention)
run 0 1 finetune small.cfg --set run=bf16 "${bf16[@]}" --set finetune.lora_merge=true
run 0 1 generate small.cfg --set run=bf16 "${bf16[@]}"

if "$python" "$tree/tests/golden/check_lora.py" --probe >out 2>&1; then
    for which in lora bf16; do
        "$python" "$tree/tests/golden/check_lora.py" $which/models/lesion small $which/models/lesion >out 2>&1 ||
            fail "diffusers loads something else of $which"
        grep differs out
    done
    "$python" "$tree/tests/golden/check_lora.py" lora/models/lesion small small >out 2>&1 &&
        fail 'check_lora.py cannot fail'
else
    echo "not checked against diffusers: $(cat out)"
fi

# Killed in the middle and started again: the same bytes.
mkdir killed && cp lora/{data.h5,backgrounds.h5} killed
mpirun -n 3 "$meddiff" finetune small.cfg --set run=killed "${more[@]}" --set finetune.batch=16 >out 2>&1 &
launcher=$!
until compgen -G 'killed/checkpoints/lesion/step-[5-9]/DONE' >/dev/null || ! kill -0 $launcher 2>/dev/null; do
    sleep 0.02
done
for rank in $(pgrep -P $launcher) $launcher; do
    kill -KILL "$rank" 2>/dev/null
done
wait $launcher 2>/dev/null
[ ! -e killed/models/lesion/DONE ] || fail 'killed too late'
run 2 3 finetune small.cfg --set run=killed "${more[@]}" --set finetune.batch=16 --set finetune.lora_rank=4
grep -q 'finetune.lora_rank is ' out || fail 'the refusal does not name finetune.lora_rank'
run 0 3 finetune small.cfg --set run=killed "${more[@]}" --set finetune.batch=16
grep -q 'resumed after step' out || fail 'it did not resume'
mkdir whole && cp lora/{data.h5,backgrounds.h5} whole
run 0 3 finetune small.cfg --set run=whole "${more[@]}" --set finetune.batch=16
cmp killed/$adapters whole/$adapters || fail 'the resumed fine-tune ends elsewhere'

# Adapters that stayed from an earlier training are not mixed up with a whole model.
rm whole/models/lesion/DONE
run 2 3 finetune small.cfg --set run=whole
grep -q 'whole/models/lesion holds LoRA adapters of an earlier training: remove it' out ||
    fail 'old adapters are not refused'

# Damaged, or another model's: refused with the file and the tensor.
inputs_of lora damaged
truncate -s -5 damaged/$adapters
run 2 2 generate small.cfg --set run=damaged "${more[@]}"
grep -q "damaged/$adapters" out || fail 'the refusal does not name the damaged file'
cp "$tree/tests/golden/training/lora.start.safetensors" damaged/$adapters
run 2 2 generate small.cfg --set run=damaged "${more[@]}"
grep -q "damaged/$adapters: unexpected tensor conv_in.lora_A.weight" out ||
    fail 'the refusal does not name the tensor'
finish lora
