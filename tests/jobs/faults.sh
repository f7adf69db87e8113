#!/bin/bash
# What can go wrong while it works: weights that are not numbers, a full disk. One message, exit code 1,
# and what was done stays.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
run 0 2 pipeline small.cfg

# ---- a latent that is not finite: the slot fails with its reason, three tries each, the run goes on
"$programs/make_foundation" huge 3e38 >out 2>&1 || fail 'make_foundation'
huge=(--set model.foundation=huge --set run=huge-run)
for np in 1 3; do
    inputs_of run huge-run
    run 1 $np generate small.cfg "${huge[@]}" --set generate.weights=foundation --set generate.pairs=5
    grep -q '5 slots of huge-run/pairs.h5 failed; /reason' out || fail 'no message that counts them'
    [ "$(head -n 1 huge-run/RESULT)" = failed ] || fail 'RESULT does not say failed'
    "$meddiff" status huge-run >out 2>&1 || fail 'status of failed slots'
    grep -q '5 failed' out || fail 'status does not count failed slots'
    if command -v h5dump >/dev/null; then
        h5dump -d /reason huge-run/pairs.h5 >out 2>&1
        [ "$(grep -c 'the latent is not finite' out)" = 5 ] || fail '/reason does not say why'
    fi
done
# ... and a fine-tune gives up with a message, not with weights
rm -rf huge-run && mkdir huge-run && cp run/{data,backgrounds}.h5 huge-run
for np in 1 3; do
    run 1 $np finetune small.cfg "${huge[@]}"
    grep -q 'in a row were not finite' out || fail 'the fine-tune does not say what is wrong'
    [ ! -e huge-run/models/lesion/DONE ] || fail 'what never learned was saved as a result'
done
# Weights that are no numbers are refused.
"$programs/make_foundation" nan nan >out 2>&1 || fail 'make_foundation'
run 2 3 finetune small.cfg "${huge[@]}" --set model.foundation=nan
grep -q 'unet/.*conv_out.weight.*not finite' out || fail 'the refusal names neither file nor tensor'

# ---- a full disk: nothing half, and the same command finishes once there is room
mkdir disk
if mount -t tmpfs -o size=64m tmpfs disk 2>/dev/null; then
    # fill LEFT: leaves LEFT KiB of it.
    fill() {
        local free
        rm -f disk/ballast
        free=$(df -Pk disk | awk 'NR == 2 { print $4 }')
        head -c "$(((free - $1) * 1024))" /dev/zero >disk/ballast
    }
    on_disk=(--set run=disk/run --set checkpoint.minutes=0)
    for np in 1 3; do
        rm -rf disk/run
        for left in 40 1500 5000; do # in the import, the first checkpoint, a later one
            fill $left
            timeout 120 mpirun -n $np "$meddiff" pipeline small.cfg "${on_disk[@]}" >out 2>&1
            rc=$?
            [ $rc = 1 ] || [ $rc = 0 ] || fail "$left KiB left, $np processes: exit code $rc"
            echo "$left KiB, $np processes: $rc $(grep -m 1 ERROR out)"
            [ $rc = 0 ] || grep -qi 'no space left' out || fail "$left KiB left: no message about space"
        done
        rm disk/ballast
        run 0 $np pipeline small.cfg "${on_disk[@]}"
        check_pairs disk/run
        fill 1500 # 300 pairs take 6 MB
        run 1 $np generate small.cfg "${on_disk[@]}" --set generate.pairs=300
        grep -qi 'no room.*no space left' out || fail 'no message about the larger store'
        check_pairs disk/run
        rm disk/ballast
        run 0 $np generate small.cfg "${on_disk[@]}" --set generate.pairs=300
        check_pairs disk/run
    done
else
    echo 'the full disk: skipped, no right to mount'
fi
finish faults
