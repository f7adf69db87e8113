#!/bin/bash
# A full disk: a small one is squeezed so that each file which a stage leaves is, in turn, the one there is no room
# for. A message that names a file and says what to do, a code other than 0, nothing half; with room the same command
# ends as without.
# Takes some two minutes and more: with MEDDIFF_LONG=1 alone. Sizes are rounded to whole pages.
# shellcheck disable=SC2017
[ -n "${MEDDIFF_LONG:-}" ] || { echo 'skipped: takes two minutes and more; MEDDIFF_LONG=1 runs it'; exit 77; }
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
mkdir disk
mount -t tmpfs -o size=48m tmpfs disk 2>/dev/null || { echo 'skipped: no right to mount'; exit 77; }
cat >full.cfg <<END
run = "disk/run";
seed = 8;
threads = 1;
data = { format = "folder"; root = "phantoms"; size = 64; pairs = 12; };
model = { foundation = "small"; encoder = "$tree/tests/golden/features"; };
masks = { size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; ema = 0.95; count = 4; sample_steps = 5;
          sample_batch = 4; attempts = 20; copy = 0.999; };
backgrounds = { from = "repaired"; steps = 3; tries = 1; };
quality = { quantile = 0.25; };
finetune = { steps = 3; batch = 2; lr = 1e-3; prior_weight = 1.0; prior_prompt = "an image"; prior_images = 2; };
generate = { pairs = 5; steps = 3; batch = 2; guidance = 2.0; };
END

# fill LEFT: leaves LEFT KiB of the disk.
fill() {
    rm -f disk/ballast
    local free
    free=$(df -Pk disk | awk 'NR == 2 { print $4 }')
    fallocate -l $(((free - $1) * 1024)) disk/ballast
}
# job NP JOB ARGUMENTS...: output to out; returns its code.
job() {
    local np=$1
    shift
    if [ "$np" = 1 ]; then
        timeout -k 5 60 "$meddiff" "$@" >out 2>&1
    else
        timeout -k 5 60 mpirun -n "$np" "$meddiff" "$@" >out 2>&1
    fi
}
# well NP JOB ARGUMENTS...
well() { job "$@" || fail "-n $*: exit code $?"; }

# squeeze LEFT NP JOB ARGUMENTS...: from before/ on a disk with LEFT KiB; then with room; then as in after/.
failed=0
squeeze() {
    local left=$1 np=$2 rc
    shift 2
    rm -rf disk/run disk/ballast
    [ ! -d before ] || cp -a before disk/run
    fill "$left"
    job "$np" "$@"
    rc=$?
    if [ $rc != 0 ]; then
        failed=$((failed + 1))
        [ $rc = 1 ] || fail "$left KiB, -n $np $*: exit code $rc"
        grep ERROR out | grep -q 'disk/run.*No space left on device): free some of it and start the same command again' ||
            fail "$left KiB, -n $np $*: no message that names a file and says what to do"
        grep ERROR out >>messages
        [ -z "${DISK_TALK:-}" ] || echo "$left KiB, -n $np $1: $(grep -m 1 ERROR out | grep -o 'disk/run[^ :]*' | head -n 1)"
        [ ! -e disk/run/config.cfg ] || "$meddiff" verify disk/run >verified 2>&1 || {
            cat verified
            fail "$left KiB, -n $np $*: verify finds something"
        }
    fi
    rm disk/ballast
    [ $rc = 0 ] || well "$np" "$@"
    same after disk/run
}
# payload FILE: KiB of the numbers in a safetensors file.
payload() { echo $((($(stat -c %s "$1") - $(od -An -N8 -tu8 "$1") - 8 + 1023) / 1024)); }

# kib FILE: that it takes on the disk.
kib() { echo $((($(stat -c %s "after/$1") + 4095) / 4096 * 4)); }

# stage NPS COPIES JOB ARGUMENTS...: once with room; then with room for each of the files that this left, in their order,
# up to the middle, or of small ones some pages more and less, as the log and what is replaced take some too. What
# is in models/ is written beside a checkpoint, which is COPIES times as large.
stage() {
    local nps=$1 copies=$2 sum=4 beside=0 lefts=0 left np n=0 size path
    shift 2
    rm -rf before after disk/ballast
    [ ! -d disk/run ] || { cp -a disk/run before && rm before/{config.cfg,log.txt,RESULT}; }
    touch stamp
    well "${nps##* }" "$@"
    cp -a disk/run after
    path=$(find disk/run/models -name '*.safetensors' -newer stamp 2>/dev/null)
    [ "$copies" = 0 ] || beside=$((copies * $(payload "$path") + 8))
    while read -r _ size path; do
        left=$sum
        case $path in ./models/*) left=$((sum + beside)) ;; esac
        if [ "$size" -gt 8192 ]; then
            lefts+=" $((left + size / 8192 * 4)) $((left + (size - 1) / 4096 * 4))"
        else
            lefts+=" $left $((left + 4))"
        fi
        sum=$((sum + (size + 4095) / 4096 * 4))
    done < <(cd disk/run && find . -type f ! -name log.txt ! -path './rejected/*' -newer "$dir/stamp" -printf '%T@ %s %p\n' |
        sort -n)
    for left in $(tr ' ' '\n' <<<"$lefts" | sort -nu); do
        # shellcheck disable=SC2086
        np=$(set -- $nps; shift $((n % $#)); echo "$1")
        squeeze "$left" "$np" "$@"
        n=$((n + 1))
    done
    echo "$*: $n times, $failed failures in all"
}

stage '1 1 1 3' 0 import full.cfg --set backgrounds.from=real
rm -rf disk/run
stage 1 0 import full.cfg
squeeze $(($(kib data.h5) + $(kib import.png))) 1 import full.cfg
stage 1 3 finetune full.cfg
well 1 finetune full.cfg --set finetune.region=background
stage 1 4 masks train full.cfg --set masks.steps=2
rm -rf disk/run/models/masks
well 1 masks train full.cfg
stage '3 1 1 1 1 1' 0 masks sample full.cfg
# again FILE LEFT JOB ARGUMENTS...: where only these files are missing, for a store claims more than it then takes
again() {
    local path
    rm -rf before disk/ballast
    cp -a after before
    for path in $1; do rm "before/$path"; done
    squeeze "$2" 1 "${@:3}"
}
for left in 0 4 8; do again 'masks_report.json masks_report.csv masks.png config.cfg log.txt' $left masks sample full.cfg; done
stage '1 1 1 3' 0 backgrounds full.cfg
stage '3 1 1 1 1' 0 generate full.cfg
for left in 8 80; do again 'preview.png guide.png config.cfg log.txt' $left generate full.cfg; done
for left in 4 8 12; do
    again 'assessment.json preview.png guide.png config.cfg log.txt' $((left + $(kib preview.png))) generate full.cfg
done
stage '1 1 1 1 3' 0 assess full.cfg --set quality.quantile=0.4

# Several processes train, with a checkpoint after each step: no room for the first, the second, the third beside two.
rm -rf before after disk/run disk/ballast
well 1 import full.cfg
cp -a disk/run before
well 3 finetune full.cfg --set checkpoint.minutes=0
cp -a disk/run after
for left in 700 4500 8000; do
    squeeze $left 3 finetune full.cfg --set checkpoint.minutes=0
done
for file in config.cfg RESULT data.h5 import.png backgrounds.h5 prior/ metrics.csv checkpoints/lesion 'checkpoint of step' \
    models/lesion/unet models/lesion/DONE models/masks masks.h5 masks_report backgrounds.png features.safetensors pairs.h5 \
    preview.png guide.png assessment.json; do
    grep -q "$file" messages || fail "nothing failed for want of room for $file"
done
[ "$failed" -ge 60 ] || fail "only $failed failures"
finish disk
