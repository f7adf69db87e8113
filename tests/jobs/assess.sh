#!/bin/bash
# Pairs judged by a small random encoder: inline and after the fact, with the same result for any number of
# workers; draws that are rejected again and again, limits that change, kills, a damaged cache; copies and
# noise that were planted.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
encoder=(--set "model.encoder=$tree/tests/golden/features" --set quality.quantile=0.4)
run 0 2 pipeline small.cfg --set run=plain # not judged

# lines_of RUN WORD: lines of rejected.csv that hold it.
lines_of() { grep -c "$2" "$1/rejected.csv"; }

# ---- inline: the same bytes whoever works; some draws are rejected, and all pairs accepted in the end
for np in 1 2 3 5; do
    inputs_of plain run
    run 0 $np generate small.cfg "${encoder[@]}"
    grep -q 'similarity to the nearest real image at most .* from 1[0-9] real images' out || fail 'the limits are not told'
    grep -q 'draws were rejected: ' out || fail 'it does not say what was rejected'
    check_pairs run
    mv run np$np
    for file in pairs.h5 rejected.csv; do
        cmp np1/$file "np$np/$file" || fail "$file of $np processes differs"
    done
    diff -rq np1/rejected "np$np/rejected" || fail "the pictures of $np processes differ"
done
[ "$(find np1/rejected -name '*.png' | wc -l)" = "$(($(wc -l <np1/rejected.csv) - 1))" ] || fail 'a rejected draw without a picture'
cmp plain/pairs.h5 np1/pairs.h5 >/dev/null && fail 'judged and not judged are the same'
"$meddiff" verify np1 >out 2>&1 || fail 'verify of what was judged'

# ---- after the fact: what nobody judged, then drawn again, is what is judged inline
run 2 2 generate small.cfg --set run=plain "${encoder[@]}"
grep -q 'model.encoder.*: is set, but.*meddiff assess' out || fail 'generate does not send a store without judgement to assess'
inputs_of plain late && cp plain/pairs.h5 late
run 0 3 assess small.cfg --set run=late "${encoder[@]}"
grep -q '14 pairs judged; late/pairs.h5 holds .* accepted, .* rejected (' out || fail 'assess does not say what it found'
"$meddiff" verify late >out 2>&1 || fail 'verify after assess'
run 0 2 generate small.cfg --set run=late "${encoder[@]}"
check_pairs late np1/pairs.h5
cmp late/rejected.csv np1/rejected.csv || fail 'rejected.csv after assess and generate'
run 0 2 assess small.cfg --set run=late "${encoder[@]}"
grep -q 'assess: 0 pairs judged' out || fail 'what is judged is judged again'
check_pairs late np1/pairs.h5
run 2 1 generate small.cfg --set run=late
grep -q 'model.encoder.*: is empty, but' out || fail 'a judged store goes on without an encoder'

# ---- nothing passes: given up after quality.attempts draws, going on when there are more, or not drawn again
strict=("${encoder[@]}" --set quality.high=0.01 --set quality.low=-1)
inputs_of plain strict
run 1 3 generate small.cfg --set run=strict "${strict[@]}" --set quality.attempts=2
grep -q '14 of 14 pairs were still rejected after 2 draws (14 too similar)' out || fail 'the counts of what was given up'
[ "$(lines_of strict 'too similar')" = 28 ] || fail 'not a line for every draw'
"$meddiff" status strict >out 2>&1
grep -q '14 rejected' out || fail 'status of rejected slots'
"$meddiff" verify strict >out 2>&1 || fail 'verify of rejected slots'
run 1 2 generate small.cfg --set run=strict "${strict[@]}" --set quality.attempts=3
[ "$(lines_of strict 'too similar')" = 42 ] || fail 'a further attempt for each'
inputs_of plain once
run 0 3 generate small.cfg --set run=once "${strict[@]}" --set quality.redraw=false
grep -q '0 pairs in once/pairs.h5, 14 slots rejected' out || fail 'a smaller set'
[ "$(lines_of once ',0,too similar')" = 14 ] || fail 'one draw of each, with quality.redraw = false'
run 2 2 generate small.cfg --set run=once "${strict[@]}" --set quality.redraw=false --set quality.high=0
grep -q 'quality.high.*: .*meddiff assess' out || fail 'other limits are not refused by name'
run 0 2 assess small.cfg --set run=once "${encoder[@]}" --set quality.low=0.9999999
grep -qE '14 rejected \(([0-9] too similar, )?1[0-9] too dissimilar\)' out || fail 'assess with another limit'
run 0 1 assess small.cfg --set run=once "${encoder[@]}"
run 0 2 generate small.cfg --set run=once "${encoder[@]}"
check_pairs once np1/pairs.h5
cmp once/rejected.csv np1/rejected.csv || fail 'rejected.csv keeps what is rejected no longer'
diff -rq once/rejected np1/rejected || fail 'pictures of what is rejected no longer'
for change in quality.corrode_px=2 generate.steps=5; do
    run 2 2 assess small.cfg --set run=once "${encoder[@]}" --set $change
    grep -q "${change%=*} is " out || fail "assess under another ${change%=*} is not refused by name"
done

# ---- killed in the middle, also of assess, and started again; the cache damaged
for job in generate assess; do
    for _ in 1 2 3; do
        inputs_of plain kill
        [ $job = generate ] || cp plain/pairs.h5 kill
        mpirun -n 3 "$meddiff" $job small.cfg --set run=kill "${encoder[@]}" --set quality.attempts=40 >out 2>&1 &
        launcher=$!
        sleep "0.$((RANDOM % 9))"
        until [ -s kill/rejected.csv ] || ! kill -0 $launcher 2>/dev/null; do sleep 0.02; done
        # shellcheck disable=SC2046
        kill -KILL $launcher $(ranks_of $launcher) 2>/dev/null && break
    done
    wait "$launcher" 2>/dev/null
    printf 'torn line' >>kill/rejected.csv
    head -c 700 kill/features.safetensors >damaged && printf x >>damaged && tail -c +702 kill/features.safetensors >>damaged
    cp damaged kill/features.safetensors
    [ $job = generate ] || run 0 2 assess small.cfg --set run=kill "${encoder[@]}"
    run 0 2 generate small.cfg --set run=kill "${encoder[@]}"
    [ $job = assess ] || grep -q 'features.safetensors is damaged' out || fail 'a damaged cache is not noticed'
    check_pairs kill np1/pairs.h5
    cmp kill/rejected.csv np1/rejected.csv || fail "rejected.csv after a kill in $job"
done

# ---- planted: copies and mirrored copies are too similar, noise is too dissimilar (a random encoder sees no more)
mkdir planted && cp plain/{data.h5,backgrounds.h5,config.cfg} planted
read -r copies mirrored _ noise <<<"$("$programs/plant_pairs" planted)"
run 0 2 assess small.cfg --set run=planted "${encoder[@]}"
[ "$(awk -F , '$1 % 4 < 2 && $3 ~ /too similar/' planted/rejected.csv | wc -l)" = $((copies + mirrored)) ] || fail 'a planted copy passes'
[ "$(awk -F , '$1 % 4 == 3 && $3 ~ /too dissimilar/' planted/rejected.csv | wc -l)" = "$noise" ] || fail 'planted noise passes'

# ---- too few real images: said, and refused where there are none to compare with
for pairs in 2 1; do
    rm -rf few
    run 0 1 import small.cfg --set run=few --set data.pairs=$pairs
    cp -r plain/models few
    if [ $pairs = 2 ]; then
        run 1 1 generate small.cfg --set run=few --set data.pairs=2 "${encoder[@]}" --set quality.attempts=1
        grep -q 'limits from 2 groups of real images say little' out || fail 'few groups are not told'
    else
        run 2 1 generate small.cfg --set run=few --set data.pairs=1 "${encoder[@]}"
        grep -q 'two groups at least; set quality.low' out || fail 'one group is not refused'
        [ ! -e few/pairs.h5 ] || fail 'a store was made before that'
        run 2 2 pipeline small.cfg --set run=alone --set data.pairs=1 "${encoder[@]}"
        grep -q '1 real image of 1 group: .* two groups at least' out || fail 'the pipeline does not refuse one group'
        [ ! -e alone/models ] || fail 'the pipeline trained first'
    fi
done
finish assess
