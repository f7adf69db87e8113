#!/bin/bash
# The batch scripts under a real Slurm of one node: the chain, preempted twice, a step killed, cancelled and
# submitted again, ends with the bytes of an undisturbed run; the exit code of a job is that of its outcome, and a
# launcher that starts nothing is not taken for one.
# shellcheck source=tests/slurm/site.bash
source tests/slurm/site.bash
export SBATCH_OPTIONS='--nodes=1 --ntasks=3 --gpus-per-node=0 --cpus-per-task=1' SBATCH_PARTITION=low
mkdir -p configs/lab
cat >configs/lab/small.cfg <<END
seed = 7;
threads = 1;
data = { format = "folder"; root = "phantoms"; size = 64; pairs = 12; };
model = { foundation = "small"; encoder = ""; };
guide = { from = "data"; };
finetune = { steps = 300; batch = 16; lr = 1e-3; }; # many times what passes until it is preempted, twice
generate = { pairs = 200; steps = 8; batch = 2; guidance = 2.0; }; # and until it is cancelled, then killed
checkpoint = { minutes = 0.0; };
END
brief=(--set finetune.steps=80 --set generate.pairs=40) # warned at once, without the scheduler
import='' finetune='' masks='' backgrounds='' generate='' # ids of jobs
weights=models/lesion/unet/diffusion_pytorch_model.safetensors
run=runs/lab/small # as the program names it
run 0 3 pipeline configs/lab/small.cfg --set run=whole

# wait_until COMMAND...: ends the test, with what the jobs and their node said last, when it does not come true.
wait_until() {
    local end=$((SECONDS + 180)) # of a slow and busy machine
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || {
            tail -n 5 ./*_*.log
            grep error slurmd/log/slurmd.log | tail -n 10
            fail "waited in vain: $*"
            finish slurm
        }
        sleep 0.1
    done
}
field() { scontrol show job -o "$1" 2>/dev/null | sed -nE "s/.* $2=([^ ]*).*/\\1/p"; }
state_is() { [[ " ${*:2} " == *" $(field "$1" JobState) "* ]]; }
ended() { state_is "$1" COMPLETED FAILED CANCELLED TIMEOUT; }
restarted() { [ "$(field "$1" Restarts)" -ge "$2" ]; }
# How far the run has come, so that waiting is for a job's own progress and not for an earlier one's.
trained_steps() { find "$run/checkpoints/lesion" -name DONE 2>/dev/null | sed 's/.*step-//; s,/DONE,,' | sort -n | tail -n 1; }
painted_pairs() { "$meddiff" status "$run" 2>/dev/null | sed -nE 's/^generated +([0-9]+) of.*/\1/p'; }
trained() { [ "$(trained_steps)" -ge "$1" ]; }
painted() { [ "$(painted_pairs)" -ge "$1" ]; }
# at_once JOB: what was requeued starts now, not in two minutes. Pending it has no processes left; a credential of the
# very second in which its last one was revoked would be refused.
at_once() {
    wait_until state_is "$1" PENDING
    sleep 1.1
    scontrol update jobid="$1" StartTime=now
}
# ends JOB STATE CODE: ends so.
ends() {
    wait_until ended "$1"
    [ "$(field "$1" JobState) $(field "$1" ExitCode)" = "$2 $3:0" ] || {
        tail -n 5 ./*"_$1.log"
        fail "job $1 ended $(field "$1" JobState) with $(field "$1" ExitCode), wanted $2 $3:0"
    }
}
# chain [ARGUMENTS...]: ids in $import $finetune $masks $backgrounds $generate.
chain() {
    local name id
    slurm/chain.sh configs/lab/small.cfg "$@" >chained 2>out || fail 'chain.sh'
    while read -r name id; do declare -g "$name=$id"; done <chained
}
# submit NAME ARGUMENTS...: a job on its own; prints its id.
submit() {
    local name=$1
    shift
    # shellcheck disable=SC2086
    sbatch --parsable $SBATCH_OPTIONS "slurm/$name.sbatch" "$@"
}
# A job of higher priority takes all cores for a moment.
preempt() {
    local high
    high=$(sbatch --parsable --partition=high --ntasks=8 --output=/dev/null --wrap='sleep 1')
    wait_until ended "$high"
}

# ---- the fine-tune loses its place twice
export LAUNCH=mpirun
chain
for round in 1 2; do
    before=$(trained_steps)
    wait_until trained $((${before:-0} + 3))
    preempt
    [ ! -e $run/models/lesion/DONE ] || { fail 'the preemption came too late'; finish slurm; }
    at_once "$finetune"
    wait_until restarted "$finetune" $round
done
grep -q 'finetune in .*: requeue' finetune_"$finetune".log || fail 'no orderly stop before a preemption'
ends "$finetune" COMPLETED 0
[ "$(grep -c 'resumed after step' finetune_"$finetune".log)" = 2 ] || fail 'it did not resume twice'
cmp whole/$weights $run/$weights || fail 'the preempted fine-tune ends elsewhere'

# ---- cancelled, and the chain submitted again
wait_until painted 1
scancel "$generate"
wait_until ended "$generate"
state_is "$generate" CANCELLED || fail 'it was not cancelled'
"$meddiff" verify $run >out 2>&1 || fail 'verify of a cancelled run'
before=$(painted_pairs)
export LAUNCH=srun
chain

# ---- a step killed
wait_until painted $((before + 10))
scancel --signal=KILL "$generate.0"
wait_until grep -q 'generate in .*: killed' generate_"$generate".log
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
wait_until ended "$generate"
state_is "$generate" CANCELLED || fail 'what waits for a failure was not cancelled'

# ---- what is not launched is not refused, whatever the launcher says and an older RESULT: here it prints its version
job=$(SRUN_OPTIONS=--version RESTARTS=1 submit generate configs/lab/small.cfg)
wait_until grep -q ': unlaunched (the launcher says 0)' generate_"$job".log
at_once "$job"
ends "$job" FAILED 1
job=$(SRUN_OPTIONS=--version RESTARTS=0 submit import configs/lab/small.cfg --set run=runs/new)
ends "$job" FAILED 1
job=$(LAUNCH=mpirun MEDDIFF=build/none submit generate configs/lab/small.cfg)
ends "$job" FAILED 2
[ "$(head -n 1 $run/RESULT)" = ok ] || fail 'a job that was refused or not launched changed RESULT'
"$programs/check_pairs" whole $run/pairs.h5 >out 2>&1 || fail 'a job that was refused or not launched changed the pairs'

# ---- all stages in one job, under either launcher, warned ahead of the limit
run 0 3 pipeline configs/lab/small.cfg "${brief[@]}" --set run=brief
for LAUNCH in srun mpirun; do
    run=runs/$LAUNCH
    job=$(submit pipeline configs/lab/small.cfg "${brief[@]}" --set run=$run)
    wait_until trained 3
    scancel --signal=USR1 --batch "$job"
    wait_until grep -q ': requeue' pipeline_"$job".log
    at_once "$job"
    ends "$job" COMPLETED 0
    "$programs/check_pairs" brief $run/pairs.h5 >out 2>&1 || fail "$LAUNCH: the pairs differ"
done
finish slurm
