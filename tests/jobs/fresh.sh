#!/bin/bash
# --fresh: a job starts over, says what it removes, and removes that alone; what would refuse it is found
# before anything is gone; killed in the middle of it, the run directory still says what it lacks.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
cat >small.cfg <<END
run = "run";
seed = 8;
threads = 1;
data = { format = "folder"; root = "phantoms"; size = 64; pairs = 12; };
model = { foundation = "small"; encoder = "$tree/tests/golden/features"; };
backgrounds = { from = "repaired"; steps = 3; tries = 1; };
quality = { quantile = 0.25; };
finetune = { steps = 3; batch = 2; lr = 1e-3; prior_weight = 1.0; prior_prompt = "an image"; prior_images = 2; };
generate = { pairs = 5; steps = 3; batch = 2; guidance = 2.0; };
guide = { from = "data"; };
END
{
    grep -v '^guide' small.cfg
    echo 'masks = { size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; ema = 0.95; count = 4; sample_steps = 5;
              sample_batch = 4; attempts = 20; copy = 0.999; };'
} >full.cfg # drawn masks too, which take long to learn

# alone CODE JOB ARGUMENTS...: one process, in place of run's mpirun.
alone() {
    local want=$1 rc
    shift
    timeout -k 5 240 "$meddiff" "$@" >out 2>&1
    rc=$?
    [ $rc = "$want" ] || fail "$*: exit code $rc, wanted $want"
}
# listing RUN: what is there, but for what every start writes.
listing() { (cd "$1" && find . ! -name log.txt ! -name config.cfg ! -name RESULT ! -type d -exec stat -c '%n %s %F' {} + | sort); }
# removes WORD...: the last output says that exactly these were removed, in this order.
removes() {
    local got want="$*"
    got=$(sed -nE 's/.* fresh: removes (rows from )?run\/([^ ]*) \(.*/\2/p' out | tr '\n' ' ')
    [ "${got% }" = "$want" ] || fail "removed: $got, wanted: $want"
}
restore() { rm -rf run && cp -a "$1" run; }
# killed AT JOB ARGUMENTS...: with --fresh, killed before its AT-th removal, or behind the last
killed() {
    local at=$1
    shift
    (KILL_AT=$at LD_PRELOAD=$programs/libkill_at.so "$meddiff" "$@" --fresh) >out 2>&1
} 2>/dev/null

alone 0 pipeline full.cfg
mv run full
alone 0 pipeline small.cfg
mv run old
run 0 3 pipeline small.cfg --set seed=7
mv run new
listing old >before

# ---- every stage with another seed: the old is gone to the last file, what comes is what a new directory gets
restore old
alone 2 pipeline small.cfg --set seed=7
grep -q 'seed is 7 in small.cfg but 8 in run/data.h5' out || fail 'another seed is not refused'
run 0 3 pipeline small.cfg --set seed=7 --fresh
pairs=(assessment.json features.safetensors pairs.h5 rejected.csv rejected preview.png guide.png)
[ -d old/rejected ] || fail 'no draw was rejected: the test lacks something'
removes "${pairs[@]}" backgrounds.h5 backgrounds.png models/background models/lesion prior data.h5 import.png import_skipped.csv \
    metrics.csv
grep -q 'removes run/models/lesion (3 files, 1\.[0-9] MB)' out || fail 'no size, no number of files'
grep -q 'stays' out && fail 'a file that a job made is not in the table'
same new run
cmp <(cut -d, -f1,2 new/metrics.csv | sort) <(cut -d, -f1,2 run/metrics.csv | sort) || fail 'metrics.csv after --fresh'
grep -q 'fresh: removes run/pairs.h5' run/log.txt || fail 'the log does not say what was removed'
"$meddiff" verify run >out 2>&1 || fail verify

# ---- each job: what it made and what was made from that, and no more
masks=(masks.h5 masks_report.json masks_report.csv masks.png)
models=(models/masks models/background models/lesion)
data=(data.h5 import.png import_skipped.csv)
# only JOB_ARGUMENTS WORD...: the job removes these.
only() {
    local job=$1
    shift
    restore full
    # shellcheck disable=SC2086
    killed 0 $job && fail "$job --fresh was not stopped"
    removes "$@"
    grep -q 'stays' out && fail 'a file that a job made is not in the table'
    for word; do
        [ "$word" = metrics.csv ] || [ ! -e "run/$word" ] || fail "$job: $word is still there"
    done
    "$meddiff" verify run >out 2>&1 || fail "verify of what $job --fresh leaves"
}
only 'pipeline full.cfg' "${pairs[@]}" backgrounds.h5 backgrounds.png "${masks[@]}" "${models[@]}" prior "${data[@]}" metrics.csv
only 'import full.cfg' "${pairs[@]}" backgrounds.h5 backgrounds.png "${masks[@]}" "${models[@]}" "${data[@]}" metrics.csv
only 'assess full.cfg' assessment.json features.safetensors
only 'generate full.cfg' "${pairs[@]}"
only 'backgrounds full.cfg' "${pairs[@]}" backgrounds.h5 backgrounds.png
only 'masks sample full.cfg' "${pairs[@]}" "${masks[@]}"
only 'masks train full.cfg' "${pairs[@]}" "${masks[@]}" models/masks metrics.csv
only 'masks full.cfg' "${pairs[@]}" "${masks[@]}" models/masks metrics.csv
only 'finetune full.cfg' "${pairs[@]}" models/lesion prior metrics.csv
only 'finetune full.cfg --set finetune.region=background' "${pairs[@]}" backgrounds.h5 backgrounds.png \
    models/background prior metrics.csv
# and the job then runs; the pipeline makes again what was before
for job in generate backgrounds finetune; do
    restore old
    alone 0 $job small.cfg --fresh
    alone 0 pipeline small.cfg
    same old run
done

# A changed key that is refused otherwise.
restore old
alone 2 finetune small.cfg --set finetune.lr=2e-3
grep -q 'finetune.lr is 0.002 in small.cfg but 0.001 in run/models/lesion/DONE' out || fail 'the changed key is not named'
alone 0 finetune small.cfg --set finetune.lr=2e-3 --fresh
grep -q 'lr = 0.002' run/models/lesion/DONE || fail 'it was not trained anew'
# Nothing is made from the lesion model where the foundation paints, or from masks.h5 under training masks.
restore full
alone 0 generate full.cfg --set generate.weights=foundation --set guide.from=data --fresh
killed 0 masks full.cfg
removes "${masks[@]}" models/masks metrics.csv
killed 0 finetune full.cfg
removes models/lesion prior metrics.csv
[ -e run/pairs.h5 ] || fail 'pairs of the foundation are gone'
# What was judged is judged anew.
restore old
alone 0 assess small.cfg
grep -q 'assess: 0 pairs judged' out || fail 'assess judges again without --fresh'
run 0 2 assess small.cfg --fresh
grep -q 'assess: 5 pairs judged' out || fail 'assess --fresh judges nothing'
# Lines and pictures of a store that was removed by hand, or by a --fresh that was killed, are not taken for the new one's.
restore old
rm run/pairs.h5
cp run/rejected/0000-00.png run/rejected/0003-09.png
sed -n '2s/^[0-9]*,[0-9]*/3,9/p' run/rejected.csv >line.csv && cat line.csv >>run/rejected.csv
alone 0 generate small.cfg
same old run
# Unfinished work goes too.
restore old
rm -rf run/models/lesion
mkdir -p run/checkpoints/lesion/step-3 run/models/lesion/unet
touch run/checkpoints/lesion/step-3/{state.safetensors,DONE} run/pairs.h5.tmp \
    run/models/lesion/unet/diffusion_pytorch_model.safetensors.tmp.12
alone 0 finetune small.cfg --fresh
grep -q 'stays' out && fail 'a temporary file is not known'
# a dead process's own went at the start, before --fresh looked
find run -name '*.tmp*' | grep . && fail 'a temporary file is left'
removes "${pairs[@]:0:3}" pairs.h5.tmp "${pairs[@]:3}" checkpoints/lesion prior metrics.csv

# ---- what no job made stays and is named; a link goes, what it leads to stays
restore old
mkdir -p run/own/models outside/weights
echo mine | tee run/notes.txt run/own/pairs.h5 run/models/lesion/notes.txt run/prior/mine.png outside/0001-00.png >outside/data.h5
mv run/models/background outside/model
ln -s ../../outside/model run/models/background
rm -r run/rejected run/data.h5
ln -s ../outside run/rejected
ln -s "$dir/outside/data.h5" run/data.h5
ln -s ../outside run/link
find outside -type f -exec sha256sum {} + >outside.sums
alone 0 pipeline small.cfg --fresh
for path in notes.txt own models/lesion/notes.txt prior/mine.png link; do
    [ -e "run/$path" ] || fail "$path is gone"
    grep -q "WARN fresh: run/$path stays: no job made it" out || fail "$path is not named"
done
[ "$(grep -c 'WARN fresh' out)" = 5 ] || fail 'something else is said to stay'
for path in rejected data.h5 models/background; do
    grep -q "removes run/$path (a symbolic link; what it leads to stays)" out || fail "the link $path"
    [ ! -L "run/$path" ] || fail "the link $path is left"
done
sha256sum --quiet -c outside.sums >out 2>&1 || fail 'something behind a link was touched'
rm -r run/own run/notes.txt run/models/lesion/notes.txt run/prior/mine.png run/link
same old run
restore old
mv run/models outside/models && ln -s ../outside/models run/models
listing run >now
alone 2 finetune small.cfg --fresh
grep -q 'run/models is a symbolic link, and --fresh removes nothing beyond one' out || fail 'a folder behind a link'
listing run | cmp now - || fail 'something was removed beside the link'
[ -e outside/models/lesion/DONE ] || fail 'the model behind the link is gone'

# ---- what would refuse the job is found before anything is gone
restore old
exec 9<run
flock 9
alone 2 pipeline small.cfg --fresh
grep -q 'another meddiff works in this run directory' out || fail 'it does not see the other run'
exec 9<&-
listing run | cmp before - || fail 'it removed what another run works with'
# stops TEXT JOB ARGUMENTS...
stops() {
    local text=$1
    shift
    alone 2 "$@" --fresh
    grep -qF -- "$text" out || fail "$*: not said: $text"
    grep -q 'nothing was removed' out || fail "$*: not said that nothing was removed"
    listing run | cmp before - || fail "$*: removed something"
    [ "$(cat run/RESULT)" = ok ] || fail "$*: touched RESULT"
}
stops nowhere pipeline small.cfg --set data.root=nowhere
stops nowhere import small.cfg --set data.root=nowhere
stops model.foundation finetune small.cfg --set model.foundation=nowhere
stops finetune.prior_prompt finetune small.cfg --set finetune.prior_prompt=
stops model.encoder assess small.cfg --set model.encoder=
stops model.encoder pipeline small.cfg --set model.encoder=nowhere
stops masks.size masks small.cfg --set masks.size=128
stops 'seed is 9 in small.cfg but 8 in run/data.h5' generate small.cfg --set seed=9
mv run/models/lesion/DONE kept
listing run >before
stops 'run/models/lesion/DONE does not exist: run "meddiff finetune" first' generate small.cfg
for job in 'plan small.cfg' 'bench small.cfg' 'status run' 'verify run' 'phantom none'; do
    # shellcheck disable=SC2086
    alone 2 $job --fresh
    grep -q 'nothing for --fresh' out || fail "$job takes --fresh"
done
alone 0 import small.cfg --fresh --set run=none
grep -q 'none holds nothing that import would have to remove' out || fail 'it does not say that there is nothing'
alone 0 import --help
grep -q -- '\[--fresh\]' out || fail 'import --help does not name --fresh'
alone 0 plan --help
grep -q -- '\[--fresh\]' out && fail 'plan --help names --fresh'

# ---- killed before every single removal: what is left goes on, or says what is missing; then --fresh makes all of it
went=0
for at in {1..200}; do
    restore old
    killed "$at" pipeline small.cfg --set seed=7
    ! grep -q 'pipeline: import: done' out || break
    went=$at
    "$meddiff" verify run >out 2>&1 || fail "killed at $at: verify finds something"
    if [ $((at % 12)) = 1 ]; then # the old run goes on
        alone 0 pipeline small.cfg
        same old run
    elif [ $((at % 12)) = 7 ]; then # or the new one is begun once more
        alone 0 pipeline small.cfg --fresh --set seed=7
        "$meddiff" verify run >out 2>&1 || fail "killed at $at and begun once more: verify"
        grep -q 'seed = 8' run/{config.cfg,models/*/DONE} && fail 'something of the old run is left'
    elif "$meddiff" generate small.cfg >out 2>&1; then
        check_pairs run old/pairs.h5
    else
        grep -qE 'run/[a-z/.A-Z0-9]* does not exist: run' out || fail "killed at $at: generate does not say what is missing"
    fi
done
[ "$went" -ge 25 ] || fail "only $went moments to be killed at"

# ---- pretrain: its own products, in part or all
few=(--set pretrain.vae_steps=1 --set pretrain.vae_batch=2 --set pretrain.vae_crop=32 --set pretrain.pictures=2
    --set pretrain.unet_steps=1 --set pretrain.unet_batch=2 --set pretrain.encoder_steps=1
    --set pretrain.encoder_batch=2 --set pretrain.encoder_group=8 --set run=run)
rm -rf run
alone 0 pretrain "$tree/configs/tiny-pretrain.cfg" "${few[@]}"
alone 0 pretrain "$tree/configs/tiny-pretrain.cfg" "${few[@]}" --set pretrain.what=encoder --fresh
removes models/foundation/encoder checkpoints/encoder metrics.csv
alone 0 pretrain "$tree/configs/tiny-pretrain.cfg" "${few[@]}" --fresh --set pretrain.encoder_lr=1e-4
removes models/foundation/encoder checkpoints/encoder models/foundation tokenizer checkpoints/unet checkpoints/vae metrics.csv
grep -q 'stays' out && fail 'a file of the foundation is not in the table'

# ---- under a batch system only the first start begins anew
# shellcheck disable=SC2016
words=$(cd "$tree" && bash -c 'source slurm/env.sh; options a --fresh b; echo "${options[*]}"
    SLURM_RESTART_COUNT=1; options a --fresh b; echo "${options[*]}"')
[ "$words" = $'a --fresh b\na b' ] || fail "a job that is started again: $words"
finish fresh
