#!/bin/bash
# The whole chain with a foundation of random weights: import, fine-tune, generate; the same pairs from any
# number of workers; a killed run goes on to the same bytes; a changed key is refused.
set -uo pipefail
meddiff=$(realpath "$1")
helpers=$(realpath "$2")
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
bad=0

fail() {
    echo "FAILED: $1"
    [ ! -e out ] || tail -n 12 out | sed 's/^/    /'
    bad=1
}

# run_in DIR NP JOB [options]: runs there, output to out; the run directory is DIR/run.
run_in() {
    local where=$1 np=$2
    shift 2
    (cd "$where" && mpirun -n "$np" "$meddiff" "$1" ../chain.cfg "${@:2}") >out 2>&1
}

# kill_midway DIR PROGRESS JOB [options]: runs alone, is killed once PROGRESS (a pattern) appears in its log.
kill_midway() {
    local where=$1 pattern=$2 pid
    shift 2
    (cd "$where" && exec "$meddiff" "$1" ../chain.cfg "${@:2}") >out 2>&1 &
    pid=$!
    for _ in $(seq 1200); do
        compgen -G "$where/$pattern" >/dev/null && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    kill -9 $pid 2>/dev/null || fail "$1 ended before it could be killed"
    wait $pid 2>/dev/null
}

"$helpers/make_foundation" foundation >out 2>&1 || fail make_foundation
"$meddiff" phantom phantoms --set phantom.count=8 --set phantom.normal=4 --set phantom.test=2 \
    --set phantom.size=64 >out 2>&1 || fail phantom
cat >chain.cfg <<END
run = "run";
seed = 7;
data = { format = "folder"; root = "../phantoms"; size = 64; pairs = 8; };
model = { foundation = "../foundation"; encoder = ""; };
guide = { from = "data"; };
finetune = { steps = 6; batch = 4; lr = 1e-4; };
generate = { pairs = 10; steps = 4; batch = 2; guidance = 2.0; };
checkpoint = { minutes = 0.0; };
END

mkdir n1
run_in n1 1 pipeline || fail 'pipeline -n 1'
for file in data.h5 backgrounds.h5 import.png models/lesion/unet/config.json metrics.csv pairs.h5 preview.png; do
    [ -s "n1/run/$file" ] || fail "pipeline left no $file"
done
[ "$(cat n1/run/RESULT)" = ok ] || fail 'RESULT is not ok'
"$helpers/check_pairs" n1/run >out 2>&1 || fail check_pairs

# ---- a second start finds all of it done
cp n1/run/pairs.h5 before.h5
left=(n1/run/RESULT.tmp.17 n1/run/models/lesion/unet/diffusion_pytorch_model.safetensors.tmp.17)
touch "${left[@]}" n1/run/a.tmp.txt n1/run/backgrounds.h5.tmp
run_in n1 1 pipeline || fail 'pipeline again'
LC_ALL=C ls "${left[@]}" >out 2>&1
[ "$(grep -c 'No such file' out)" = 2 ] || fail 'what a killed start was writing is still there'
[ -e n1/run/a.tmp.txt ] || fail 'a file of another name is gone'
[ -e n1/run/backgrounds.h5.tmp ] || fail 'a store that a start would go on with is gone'
rm n1/run/backgrounds.h5.tmp
cmp n1/run/pairs.h5 before.h5 || fail 'a second start changed pairs.h5'

# ---- an import that is complete is not made again, nor over one made differently
sha256sum n1/run/{data,backgrounds}.h5 >stores
stat -c '%i' n1/run/{data,backgrounds}.h5 >inodes
run_in n1 1 import || fail 'import again'
grep -q 'complete already' out || fail 'it imported again'
run_in n1 1 import --set data.fit=crop && fail 'a changed data.fit was accepted'
grep -q 'data.fit' out || fail 'the refusal does not name data.fit'
sha256sum -c --quiet stores || fail 'the refused import changed a store'
stat -c '%i' n1/run/{data,backgrounds}.h5 | cmp - inodes || fail 'a store was made again'

# ---- the same models on 1, 2 and 4 workers
for np in 2 3 5; do
    mkdir -p "n$np/run"
    cp -r n1/run/{data.h5,backgrounds.h5,models} "n$np/run"
    run_in "n$np" "$np" generate || fail "generate -n $np"
    cmp n1/run/pairs.h5 "n$np/run/pairs.h5" || fail "pairs.h5 of -n $np differs"
    cmp n1/run/preview.png "n$np/run/preview.png" || fail "preview.png of -n $np differs"
done

# ---- killed and started again
mkdir -p killed/run
cp -r n1/run/{data.h5,backgrounds.h5} killed/run
kill_midway killed 'run/checkpoints/*' finetune
run_in killed 1 finetune || fail 'finetune after a kill'
for file in n1/run/models/lesion/unet/*.safetensors; do
    cmp "$file" "killed/${file#n1/}" || fail 'the resumed fine-tune ends elsewhere'
done
kill_midway killed run/pairs.h5 generate
run_in killed 1 generate || fail 'generate after a kill'
cmp n1/run/pairs.h5 killed/run/pairs.h5 || fail 'the resumed pairs differ'

# ---- what shapes samples may not change, the number of pairs may grow
of_run() { (cd n1/run && stat -c '%n %Y %i' RESULT && sha256sum RESULT REQUEUE config.cfg pairs.h5 2>&1); }
was=$(of_run)
for np in 1 3; do
    run_in n1 $np generate --set guide.grow=2 && fail 'a changed guide.grow was accepted'
    grep -q 'guide.grow' out || fail 'the refusal does not name guide.grow'
    [ "$(of_run)" = "$was" ] || fail 'a refused start changed config.cfg, RESULT or pairs.h5'
done
# ... but one that has worked before it is refused has failed
mv n1/run/models/lesion lesion
run_in n1 1 pipeline --set guide.grow=2 && fail 'a changed guide.grow was accepted after the fine-tune'
[ "$(head -n 1 n1/run/RESULT)" = failed ] || fail 'RESULT does not say failed after a fine-tune'
grep -q 'grow = 2' n1/run/config.cfg || fail 'config.cfg is not that of the last start that worked'
rm -r n1/run/models/lesion && mv lesion n1/run/models
[ -z "$(ls n1/run/*.before 2>/dev/null)" ] || fail 'something was left aside'
run_in n1 3 generate --set generate.pairs=12 || fail 'more pairs'
"$meddiff" status n1/run >out 2>&1 || fail status
grep -q 12 out || fail 'status does not show 12 pairs'

[ $bad = 0 ] && echo 'chain: all well'
exit $bad
