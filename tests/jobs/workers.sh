#!/bin/bash
# The same pairs from the same models, byte for byte, for 1, 2 and 4 workers, alone, and with more
# threads, whatever the sampler and the blend.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash

run 0 2 pipeline small.cfg --set run=from --set generate.pairs=1
alone=0
while read -r name options; do
    for np in 1 2 3 5; do
        rm -rf run
        inputs_of from run
        # shellcheck disable=SC2086
        run 0 $np generate small.cfg $options
        rm -rf "np$np"
        mv run "np$np"
        [ $np = 1 ] || cmp np1/pairs.h5 "np$np/pairs.h5" || fail "$name: pairs.h5 of $np processes differs"
        for png in preview guide; do
            [ $np = 1 ] || cmp np1/$png.png "np$np/$png.png" || fail "$name: $png.png of $np processes"
        done
    done
    inputs_of from threads
    # shellcheck disable=SC2086
    run 0 1 generate small.cfg $options --set threads=2 --set run=threads
    check_pairs np1 threads/pairs.h5
    cp np1/pairs.h5 "$name.h5"
    alone=$((alone + 1))
done <<END_OF_ROWS
paper
paper-mean --set guide.blend=paper-mean
renoise --set guide.blend=renoise
x0 --set guide.blend=x0 --set guide.dynamic=edge --set guide.feather=2
ddpm --set generate.sampler=ddpm
pndm --set generate.sampler=pndm
dpm --set generate.sampler=dpm++ --set guide.blend=renoise
euler --set generate.sampler=euler --set generate.guidance=2
bf16 --set model.dtype=bf16 --set generate.eta=0.5 --set guide.dynamic=core --set guide.feather=2
END_OF_ROWS

# No two of them are the same pictures: the options reach the sampler.
[ "$(md5sum ./*.h5 | cut -d ' ' -f 1 | sort -u | wc -l)" = $alone ] || fail 'two variants gave the same file'
# Nor are those of the untuned foundation.
inputs_of from run
run 0 2 generate small.cfg --set generate.weights=foundation
"$programs/check_pairs" run paper.h5 >out 2>&1 && fail 'fine-tuned and untuned weights paint the same'
finish workers
