#!/bin/bash
# Every sample in configs/: refused by name where its data set is missing, and run, made small, on phantoms
# in its data set's layout.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

"$meddiff" phantom ultrasound --set phantom.kind=ultrasound --set phantom.size=64 --set phantom.count=14 \
    --set phantom.normal=5 --set phantom.test=2 >out 2>&1 || fail 'phantom ultrasound'
"$meddiff" phantom large --set phantom.size=256 --set phantom.count=14 --set phantom.normal=0 \
    --set phantom.test=0 >out 2>&1 || fail 'phantom large'

# isic_layout FROM IMAGES MASKS: skin phantoms as ISIC names its files.
isic_layout() {
    local file id
    mkdir -p "$2" "$3"
    for file in "$1"/train/images/*.png; do
        id=ISIC_$(basename "$file" .png)
        id=${id/skin-/00}
        cp "$file" "$2/$id.png"
        cp "$1/train/masks/${file##*/}" "$3/${id}_segmentation.png"
    done
}
isic_layout large isic2017/ISIC-2017_Training_{Data,Part1_GroundTruth}
isic_layout large isic2018/ISIC2018_Task1{-2_Training_Input,_Training_GroundTruth}
isic_layout phantoms crowded/ISIC2018_Task1{-2_Training_Input,_Training_GroundTruth}

# PH2: a folder for each case; pictures are told apart by content, so PNG does for its BMP.
k=1
for file in large/train/images/*.png; do
    id=IMD$(printf %03d $k)
    mkdir -p "ph2/PH2 Dataset images/$id/${id}_"{Dermoscopic_Image,lesion}
    cp "$file" "ph2/PH2 Dataset images/$id/${id}_Dermoscopic_Image/$id.bmp"
    cp "large/train/masks/${file##*/}" "ph2/PH2 Dataset images/$id/${id}_lesion/${id}_lesion.bmp"
    k=$((k + 1))
done

# DDTI: an outline for each picture; octagons of several sizes and places.
mkdir ddti
k=1
for file in large/train/images/*.png; do
    cp "$file" "ddti/${k}_1.jpg"
    points=
    r=$((20 + 3 * k))
    for xy in -1,-2 1,-2 2,-1 2,1 1,2 -1,2 -2,1 -2,-1; do
        points="$points{\"x\": $((120 + k + r * ${xy%,*})), \"y\": $((140 - 2 * k + r * ${xy#*,}))}, "
    done
    echo "<case><number>$k</number><mark><image>1</image><svg>[{\"points\": [${points%, }], \"annotation\": {}, \"regionType\": \"freehand\"}]</svg></mark></case>" >"ddti/$k.xml"
    k=$((k + 1))
done

# Small, with a mask generator that is just good enough.
few=(--set model.foundation=small --set data.size=64 --set data.pairs=12 --set finetune.steps=3
    --set finetune.batch=2 --set generate.pairs=4 --set generate.steps=2 --set threads=1
    --set masks.width=8 --set masks.steps=300 --set masks.batch=4 --set masks.lr=2e-3 --set masks.ema=0.95
    --set masks.count=8 --set masks.sample_steps=10 --set masks.copy=0.99)
# With limits that let every pair through.
every=(--set backgrounds.steps=3 --set backgrounds.count=6 --set model.encoder=judge/encoder
    --set quality.low=-1 --set quality.high=1 --set quality.lesion_low=-1 --set quality.lesion_high=1)
run 0 1 pretrain "$tree/configs/tiny-pretrain.cfg" --set run=encoder --set pretrain.out=judge \
    --set pretrain.what=encoder --set pretrain.encoder_steps=2 --set pretrain.encoder_batch=2 \
    --set pretrain.encoder_group=8 --set threads=1
for config in "$tree"/configs/*.cfg "$tree"/configs/*/*.cfg; do
    name=${config#"$tree/configs/"}
    name=${name%.cfg}
    case $name in
    quickstart | folder-tiny | folder) set=phantoms ;;
    tiny/busi | phantom-ultrasound) set=ultrasound/train/Dataset_BUSI_with_GT ;;
    tiny/*) set=${name#tiny/} ;;
    tiny-pretrain) # jobs/pretrain runs it
        grep -q 'configs/tiny-pretrain.cfg' "$tree/tests/jobs/pretrain.sh" || fail "no test runs $name.cfg"
        continue
        ;;
    reference/* | paper/*) # jobs/presets runs them
        grep -qE "^(preset |paper )(paper/)?${name#paper/}\b" "$tree/tests/jobs/presets.sh" || fail "no test runs $name.cfg"
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
    if [[ $name = tiny/* ]] || [ "$name" = folder ]; then
        run 0 3 pipeline "$config" "${few[@]}" "${every[@]}" --set "data.root=$set" --set masks.size=32 --set masks.layers=1 \
            --set backgrounds.from=repaired
        grep -q "assess: similarity" "runs/$name/log.txt" || fail "$name: nothing was judged"
        for file in masks.h5 models/background/DONE; do
            [ -e "runs/$name/$file" ] || fail "$name: no $file, so not every stage ran"
        done
    else
        run 0 3 pipeline "$config" "${few[@]}" --set "data.root=$set"
    fi
    [ "$(cat "runs/$name/RESULT")" = ok ] || fail "$name: RESULT is not ok"
    check_pairs "runs/$name"
done

# The rows at tiny size: what they are about is in the run's configuration, and one is run.
row() {
    local name=$1 line
    shift
    run 0 1 import "$tree/configs/tiny/busi.cfg" --with "$tree/configs/tiny/with/$name.cfg" --set data.size=64 \
        --set data.root=ultrasound/train/Dataset_BUSI_with_GT
    for line; do
        grep -q "$line" "runs/tiny/busi-$name/config.cfg" || fail "$name: $line is not in its run's configuration"
    done
}
row table1 'encoder = ""' 'corrode_px = 0'
row table3-filter 'encoder = "data/tiny/encoder"' 'corrode_px = 0' 'redraw = false'
row table3-corrode 'encoder = ""' 'corrode_px = 1'
row table3-both 'encoder = "data/tiny/encoder"' 'corrode_px = 1' 'redraw = false'
row pairs-367 'pairs = 367'
[ "$(find "$tree/configs/tiny/with" -name '*.cfg' | wc -l)" = 5 ] || fail 'a row of configs/tiny/with is not tried'
run 0 3 pipeline "$tree/configs/tiny/busi.cfg" --with "$tree/configs/tiny/with/table3-both.cfg" --with "$tree/configs/paper/with/table4-20.cfg" \
    "${few[@]}" "${every[@]}" --set data.root=ultrasound/train/Dataset_BUSI_with_GT
check_pairs runs/tiny/busi-table3-both-table4-20

# Pictures without room beside the lesion: known before the fine-tune.
run 2 2 pipeline "$tree/configs/tiny/isic2018.cfg" "${few[@]}" --set data.root=crowded --set model.encoder= --set run=crowded-run \
    --set backgrounds.from=crops --set backgrounds.count=0
grep -q 'nothing to paint into' out || fail 'no message that there are no backgrounds'
[ ! -e crowded-run/models ] || fail 'it trained although there is nothing to paint into'
finish configs
