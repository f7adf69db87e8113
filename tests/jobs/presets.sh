#!/bin/bash
# configs/reference and configs/paper, made small, on foundations of random weights: what the program leaves
# obeys the rules they stand for, and the checks notice when a rule is taken back.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

"$programs/make_foundation" nine inpainting >out 2>&1 || fail 'make_foundation inpainting'
few=(--set data.root=phantoms --set data.size=64 --set data.pairs=3 --set finetune.steps=3
    --set generate.steps=2 --set threads=1)

# preset NAME [--set ...]: a pipeline under configs/NAME.cfg.
preset() {
    local config="$tree/configs/$1.cfg"
    shift
    run 0 3 pipeline "$config" "${few[@]}" "$@"
}

check() { "$programs/check_presets" "$@" >out 2>&1 || fail "check_presets $*"; }

# passes WHAT ARGUMENTS: the check must not.
passes() {
    local what=$1
    shift
    "$programs/check_presets" "$@" >out 2>&1 && fail "check_presets passes $what"
}

# The released code wants 9 channels, and that is known before any work.
run 2 2 pipeline "$tree/configs/reference/readme.cfg" "${few[@]}" --set run=four --set model.foundation=small
grep -q 'needs an inpainting UNet of 9 channels' out || fail 'the refusal does not say why'
[ -e four/data.h5 ] && fail 'work was done before the refusal'

# 3 masks and 5 backgrounds: pair 15 is pair 0 again.
preset reference/readme --set model.foundation=nine --set generate.pairs=17
check reference runs/reference-readme
grep -q 'pairs from number 15 on are copies' runs/reference-readme/log.txt || fail 'no warning of copies'
for change in generate.noise=slot generate.background=drawn guide.mask=moved guide.paste=true \
    quality.corrode_px=1; do
    inputs_of runs/reference-readme other
    run 0 2 generate "$tree/configs/reference/readme.cfg" "${few[@]}" --set model.foundation=nine \
        --set generate.pairs=17 --set run=other --set $change
    passes $change reference other
done

preset reference/defaults --set model.foundation=nine --set generate.pairs=15
grep -q copies runs/reference-defaults/log.txt && fail 'a warning of copies where there are none'
run 0 2 generate "$tree/configs/reference/defaults.cfg" "${few[@]}" --set model.foundation=nine \
    --set generate.pairs=16
check reference runs/reference-defaults
[ "$(grep -c '^lesion,' runs/reference-defaults/metrics.csv)" = 3 ] || fail 'metrics.csv has not 3 steps'

# The paper: 4 channels, and not pasted back. Guides are the training masks here: random weights draw no plausible ones.
few+=(--set model.foundation=small --set generate.pairs=6 --set data.format=folder --set guide.from=data
    --set backgrounds.from=real --set backgrounds.count=0)

# paper NAME [ROW]: a data set's configuration, and the row of a table over it, on phantoms.
paper() {
    local config="$tree/configs/paper/$1.cfg" row=()
    [ -z "${2-}" ] || row=(--with "$tree/configs/paper/with/$2.cfg")
    shift $(($# > 1 ? 2 : 1))
    run 0 3 pipeline "$config" "${row[@]}" "${few[@]}" "$@"
}

# Table 3's pairs with corrosion alone are Table 1's with smaller masks.
paper busi
paper busi table3-corrode
check corroded runs/paper/busi runs/paper/busi-table3-corrode
passes 'masks that are not eroded' corroded runs/paper/busi runs/paper/busi
passes 'masks that are' corroded runs/paper/busi-table3-corrode runs/paper/busi-table3-corrode
grep -q 'were not eroded' runs/paper/busi-table3-corrode/log.txt && fail 'masks counted that did not vanish'

# With the filter, what is rejected stays so: no slot is drawn twice, and the run is a success.
run 0 1 pretrain "$tree/configs/tiny-pretrain.cfg" --set run=encoder --set pretrain.out=judge \
    --set pretrain.what=encoder --set pretrain.encoder_steps=2 --set pretrain.encoder_batch=2 \
    --set pretrain.encoder_group=8 --set threads=1
paper isic2018 table3-filter --set model.encoder=judge/encoder
check filtered runs/paper/busi runs/paper/isic2018-table3-filter
paper ddti table3-both --set model.encoder=judge/encoder --set quality.high=-1
grep -q '6 rejected' runs/paper/ddti-table3-both/log.txt || fail 'nothing is as unlike as that, yet pairs are accepted'
paper ph2 curve-5 --set data.pairs=2
paper isic2017 pairs-2750 --set generate.pairs=7
for row in "$tree"/configs/paper/with/*.cfg; do
    row=$(basename "$row" .cfg)
    case $row in
    table3-* | pairs-2750 | curve-5) # run above
        grep -qE "^paper [a-z0-9]+ $row\b" "$tree/tests/jobs/presets.sh" || fail "no test runs $row.cfg"
        ;;
    curve-* | table4-*) ;; # these name one number; config/config reads them
    *) fail "no test runs $row.cfg" ;;
    esac
done

# A disc that leaves nothing of any guide: all are kept, counted, and marked in the store.
inputs_of runs/paper/busi vanished
run 0 2 generate "$tree/configs/paper/busi.cfg" "${few[@]}" --set run=vanished --set quality.corrode_px=64
grep -q '6 masks were not eroded' vanished/log.txt || fail 'vanished masks are not counted'
check kept vanished
passes 'masks that were eroded' kept runs/paper/busi-table3-corrode
run 0 2 generate "$tree/configs/paper/busi.cfg" "${few[@]}" --set run=vanished --set quality.corrode_px=64 \
    --set generate.pairs=7
grep -q '7 masks were not eroded' vanished/log.txt || fail 'the count forgets those of an earlier run'

finish presets
