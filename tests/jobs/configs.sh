#!/bin/bash
# Every sample in configs/: refused by name where its data set is missing, and run, made small, on phantoms
# in its data set's layout.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

"$meddiff" phantom ultrasound --set phantom.kind=ultrasound --set phantom.size=64 --set phantom.count=14 \
    --set phantom.normal=5 --set phantom.test=2 >out 2>&1 || fail 'phantom ultrasound'

# isic_layout FROM TO: skin phantoms as ISIC 2018 names its files.
isic_layout() {
    local file id images=$2/ISIC2018_Task1-2_Training_Input masks=$2/ISIC2018_Task1_Training_GroundTruth
    mkdir -p "$images" "$masks"
    for file in "$1"/train/images/*.png; do
        id=ISIC_$(basename "$file" .png)
        id=${id/skin-/00}
        cp "$file" "$images/$id.png"
        cp "$1/train/masks/${file##*/}" "$masks/${id}_segmentation.png"
    done
}
"$meddiff" phantom large --set phantom.size=256 --set phantom.count=14 --set phantom.normal=0 \
    --set phantom.test=0 >out 2>&1 || fail 'phantom large'
isic_layout large isic
isic_layout phantoms crowded

few=(--set model.foundation=small --set data.size=64 --set data.pairs=8 --set finetune.steps=3
    --set finetune.batch=2 --set generate.pairs=4 --set generate.steps=2 --set threads=1
    --set masks.width=8 --set masks.steps=300 --set masks.batch=4 --set masks.lr=2e-3 --set masks.ema=0.95
    --set masks.sample_steps=10 --set masks.copy=0.99) # the least that draws plausible masks
for config in "$tree"/configs/*.cfg "$tree"/configs/*/*.cfg; do
    name=${config#"$tree/configs/"}
    name=${name%.cfg}
    case $name in
    quickstart | folder-tiny) set=phantoms ;;
    busi-tiny | phantom-ultrasound) set=ultrasound/train/Dataset_BUSI_with_GT ;;
    isic2018-tiny) set=isic ;;
    tiny-pretrain) # jobs/pretrain runs it
        grep -q 'configs/tiny-pretrain.cfg' "$tree/tests/jobs/pretrain.sh" || fail "no test runs $name.cfg"
        continue
        ;;
    reference/* | paper/*) # jobs/presets runs them
        grep -q "^preset $name\b" "$tree/tests/jobs/presets.sh" || fail "no test runs $name.cfg"
        continue
        ;;
    *)
        fail "no test runs $name.cfg"
        continue
        ;;
    esac
    run 2 2 import "$config"
    nowhere=$(sed -nE 's/^ *root = "([^"]*)".*/\1/p' "$config")
    grep -qF "$nowhere" out || fail "$name: the refusal does not name $nowhere"
    run 0 3 pipeline "$config" "${few[@]}" --set "data.root=$set"
    [ "$(cat "runs/$name/RESULT")" = ok ] || fail "$name: RESULT is not ok"
    check_pairs "runs/$name"
done

# Pictures without room beside the lesion: known before the fine-tune.
run 2 2 pipeline "$tree/configs/isic2018-tiny.cfg" "${few[@]}" --set data.root=crowded --set run=crowded-run
grep -q 'nothing to paint into' out || fail 'no message that there are no backgrounds'
[ ! -e crowded-run/models ] || fail 'it trained although there is nothing to paint into'
finish configs
