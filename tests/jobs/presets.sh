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

# The paper: 4 channels, and not pasted back. Table 3's pairs with corrosion alone are Table 1's with smaller masks.
few+=(--set model.foundation=small --set generate.pairs=6)
preset paper/table1
preset paper/table3-corrode
check corroded runs/paper-table1 runs/paper-table3-corrode
passes 'masks that are not eroded' corroded runs/paper-table1 runs/paper-table1
passes 'masks that are' corroded runs/paper-table3-corrode runs/paper-table3-corrode
grep -q 'were not eroded' runs/paper-table3-corrode/log.txt && fail 'masks counted that did not vanish'

# A disc that leaves nothing of any guide: all are kept, counted, and marked in the store.
inputs_of runs/paper-table1 vanished
run 0 2 generate "$tree/configs/paper/table1.cfg" "${few[@]}" --set run=vanished --set quality.corrode_px=64
grep -q '6 masks were not eroded' vanished/log.txt || fail 'vanished masks are not counted'
check kept vanished
passes 'masks that were eroded' kept runs/paper-table3-corrode
run 0 2 generate "$tree/configs/paper/table1.cfg" "${few[@]}" --set run=vanished --set quality.corrode_px=64 \
    --set generate.pairs=7
grep -q '7 masks were not eroded' vanished/log.txt || fail 'the count forgets those of an earlier run'

finish presets
