#!/bin/bash
# The file system of a run goes away while it works: an error that names the file, nobody hangs, and once it is back the
# same command finishes. (A full disk: disk.sh, faults.sh; one that no longer answers: stall.sh.)
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
mkdir disk kept
if ! mount --bind kept disk 2>/dev/null; then
    echo 'skipped: no right to mount'
    exit 77
fi
run 0 3 pipeline small.cfg --set run=whole --set generate.pairs=60 --set generate.steps=20
more=(--set generate.pairs=60 --set generate.steps=20 --set finetune.steps=200 --set checkpoint.minutes=0)
run=disk/run

# goes_away WHAT: the mount does, and the launcher ends with an error that names a file of the run.
goes_away() {
    umount -l disk || fail "$1: umount"
    for _ in $(seq 300); do kill -0 "$launcher" 2>/dev/null || break; sleep 0.2; done
    if kill -0 "$launcher" 2>/dev/null; then
        fail "$1: it goes on for a minute"
        # shellcheck disable=SC2046
        kill -KILL "$launcher" $(ranks_of "$launcher")
    fi
    wait "$launcher" && fail "$1: exit code 0"
    grep -q "ERROR .*disk/run.*\(still mounted\|No such file or directory\)" out || fail "$1: no word of the file"
    [ -z "$(ls -A disk)" ] || fail "$1: something was written below the mount"
    mount --bind kept disk || fail "$1: mount"
}

# ---- while a model is trained, with a checkpoint after every step
mkdir disk/run && cp whole/{data,backgrounds}.h5 disk/run
start 3 finetune disk/run
wait_until trained lesion 5
goes_away training
run 0 3 finetune small.cfg --set run=disk/run "${more[@]}"
grep -q 'resumed after step' out || fail 'the training began anew'

# ---- while pairs are painted
rm -rf disk/run && mkdir disk/run && cp -r whole/{data.h5,backgrounds.h5,models} disk/run
more=("${more[@]:0:4}")
start 3 generate disk/run
wait_until "$programs/check_pairs" --finished disk/run/pairs.h5 >finished 2>/dev/null
sleep 0.3
goes_away painting
run 0 3 generate small.cfg --set run=disk/run "${more[@]}"
check_pairs disk/run whole/pairs.h5
finish mount
