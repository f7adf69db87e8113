#!/bin/bash
# The batch scripts under a real Slurm of one node: the chain, preempted twice, a step killed, cancelled and
# submitted again, ends with the bytes of an undisturbed run; the exit code of a job is that of its outcome.
bash tests/slurm/sandbox.sh missing || exit
here=$PWD
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
sandbox=$here/tests/slurm/sandbox.sh
# one site: the scripts, the program, the fixture
cp -r "$here/slurm" . && mkdir build && ln -s "$meddiff" build/meddiff
trap 'bash "$sandbox" stop "$dir/slurmd" >/dev/null 2>&1; cd /; rm -rf "$dir"' EXIT
settings=$(bash "$sandbox" start "$dir/slurmd" 2>sandbox.err) || {
    cat sandbox.err
    echo 'skipped: no Slurm can be started here'
    exit 77
}
eval "$settings"
export SBATCH_OPTIONS='--nodes=1 --ntasks=3 --gpus-per-node=0 --cpus-per-task=1' SBATCH_PARTITION=low
cat >small.cfg <<END
seed = 7;
threads = 1;
data = { format = "folder"; root = "phantoms"; size = 64; pairs = 12; };
model = { foundation = "small"; encoder = ""; };
guide = { from = "data"; };
finetune = { steps = 100; batch = 16; lr = 1e-3; };
generate = { pairs = 120; steps = 8; batch = 2; guidance = 2.0; };
checkpoint = { minutes = 0.0; };
END
import='' finetune='' masks='' backgrounds='' generate='' # ids of jobs
weights=models/lesion/unet/diffusion_pytorch_model.safetensors
run=runs/small
run 0 3 pipeline small.cfg --set run=whole

# wait_until SECONDS COMMAND...: returns 1, with a failure, when it does not come true in time.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { fail "waited in vain: $*"; return 1; }
        sleep 0.1
    done
}
field() { scontrol show job -o "$1" 2>/dev/null | sed -nE "s/.* $2=([^ ]*).*/\\1/p"; }
state_is() { [[ " ${*:2} " == *" $(field "$1" JobState) "* ]]; }
ended() { state_is "$1" COMPLETED FAILED CANCELLED TIMEOUT; }
restarted() { [ "$(field "$1" Restarts)" -ge "$2" ]; }
trained() {
    local newest
    newest=$(find "$run/checkpoints/lesion" -name DONE 2>/dev/null | sed 's/.*step-//; s,/DONE,,' | sort -n | tail -n 1)
    [ "${newest:-0}" -ge "$1" ]
}
painted() { [ "$("$meddiff" status "$run" 2>/dev/null | sed -nE 's/^generated +([0-9]+) of.*/\1/p')" -ge "$1" ]; }
# at_once JOB: what was requeued starts now, not in two minutes; its old processes must have gone.
at_once() {
    wait_until 60 state_is "$1" PENDING || return
    sleep 2
    scontrol update jobid="$1" StartTime=now
}
# ends JOB STATE CODE: ends so.
ends() {
    wait_until 120 ended "$1" || return
    [ "$(field "$1" JobState) $(field "$1" ExitCode)" = "$2 $3:0" ] || {
        tail -n 5 ./*"_$1.log"
        fail "job $1 ended $(field "$1" JobState) with $(field "$1" ExitCode), wanted $2 $3:0"
    }
}
# chain [ARGUMENTS...]: ids in $import $finetune $masks $backgrounds $generate.
chain() {
    local name id
    slurm/chain.sh small.cfg "$@" >chained 2>out || fail 'chain.sh'
    while read -r name id; do declare -g "$name=$id"; done <chained
}
# A job of higher priority takes all cores for a moment.
preempt() {
    local high
    high=$(sbatch --parsable --partition=high --ntasks=8 --output=/dev/null --wrap='sleep 1')
    wait_until 60 ended "$high"
}

# ---- the fine-tune loses its place twice
export LAUNCH=mpirun
chain
for round in 1 2; do
    wait_until 60 trained $((10 * round)) || finish slurm
    preempt
    at_once "$finetune"
    wait_until 60 restarted "$finetune" $round
    [ ! -e $run/models/lesion/DONE ] || fail 'the preemption came too late'
done
grep -q 'finetune in .*: requeue' finetune_"$finetune".log || fail 'no orderly stop before a preemption'
ends "$finetune" COMPLETED 0
[ "$(grep -c 'resumed after step' finetune_"$finetune".log)" = 2 ] || fail 'it did not resume twice'
cmp whole/$weights $run/$weights || fail 'the preempted fine-tune ends elsewhere'

# ---- cancelled, and the chain submitted again
wait_until 60 painted 1
scancel "$generate"
wait_until 60 ended "$generate"
state_is "$generate" CANCELLED || fail 'it was not cancelled'
"$meddiff" verify $run >out 2>&1 || fail 'verify of a cancelled run'
export LAUNCH=srun
chain

# ---- a step killed
wait_until 60 state_is "$generate" RUNNING
wait_until 60 painted 30
scancel --signal=KILL "$generate.0"
wait_until 30 grep -q 'generate in .*: killed' generate_"$generate".log
at_once "$generate"
ends "$generate" COMPLETED 0
for job in $import $finetune $masks $backgrounds; do ends "$job" COMPLETED 0; done
"$programs/check_pairs" whole $run/pairs.h5 >out 2>&1 || fail 'the pairs differ'
"$meddiff" verify $run >out 2>&1 || fail 'verify'

# ---- what is refused ends with 2, and what waits for it does not start
chain --set guide.grow=3
ends "$generate" FAILED 2
chain --set data.size=128
ends "$import" FAILED 2
wait_until 60 ended "$generate"
state_is "$generate" CANCELLED || fail 'what waits for a failure was not cancelled'
[ "$(head -n 1 $run/RESULT)" = ok ] || fail 'a refused job changed RESULT'
"$programs/check_pairs" whole $run/pairs.h5 >out 2>&1 || fail 'a refused job changed the pairs'

# ---- all stages in one job, under either launcher, warned ahead of the limit
for LAUNCH in srun mpirun; do
    run=runs/$LAUNCH
    # shellcheck disable=SC2086
    job=$(sbatch --parsable $SBATCH_OPTIONS slurm/pipeline.sbatch small.cfg --set run=$run)
    wait_until 60 trained 5
    scancel --signal=USR1 --batch "$job"
    wait_until 30 grep -q ': requeue' pipeline_"$job".log
    at_once "$job"
    ends "$job" COMPLETED 0
    "$programs/check_pairs" whole $run/pairs.h5 >out 2>&1 || fail "$LAUNCH: the pairs differ"
done
finish slurm
