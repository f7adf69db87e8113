# Sourced by every script here: first what differs from site to site, then how a job is run and ends.
# shellcheck shell=bash

# ---- this site

# What makes the program's libraries known: modules, paths.
# module load openmpi hdf5 cuda

# Site options of sbatch can stand here too, for chain.sh: SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_QOS, ...
# export SBATCH_ACCOUNT=project

# The program: the one that was built here, or an installed one.
if [ -z "${MEDDIFF:-}" ]; then
    MEDDIFF=build/meddiff
    [ -x "$MEDDIFF" ] || MEDDIFF=meddiff
fi

# srun, or mpirun of the Open MPI that the program was built with. mpirun lets a generation go on without
# workers that die; under srun Slurm ends the step, and the job is started again.
LAUNCH=${LAUNCH:-mpirun}
SRUN_OPTIONS=${SRUN_OPTIONS:---mpi=pmix}
MPIRUN_OPTIONS=${MPIRUN_OPTIONS:---enable-recovery}

# Ranks that share cores, as where there is no GPU, must not spin while they wait.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

# How often a job is started again after its launcher or a rank was killed, or nothing was launched; an orderly
# stop is not counted.
RESTARTS=${RESTARTS:-3}

# ---- the same everywhere

# run_of JOB CONFIG [OPTION]...: the run directory; 2 where the program is missing or refuses the line.
run_of() {
    # mpirun --enable-recovery would wait for it until the limit
    command -v "$MEDDIFF" >/dev/null || { echo "$MEDDIFF: no such program; see slurm/env.sh" >&2; return 2; }
    "$MEDDIFF" --run-of "$@" || return 2
}

# key RUN section.name: its value in the run's resolved configuration.
key() {
    awk -v section="${2%.*}" -v name="${2#*.}" '
        $1 == section && /[=:] *{?$/ { inside = 1 }
        $1 == "}" || $1 == "};" { inside = 0 }
        inside && $1 == name { sub(/^[^=:]*[=:] */, ""); sub(/; *$/, ""); gsub(/"/, ""); print; exit }
    ' "$1/config.cfg"
}

# A RESULT that a start leaves as it was belongs to an earlier run.
result_stamp() { stat -c '%i %y' "$1/RESULT" 2>/dev/null; }

# launch ARGUMENTS...: the ranks of this allocation, in the background; its process is $launched.
launch() {
    # shellcheck disable=SC2086
    if [ "$LAUNCH" = srun ]; then
        srun $SRUN_OPTIONS "$MEDDIFF" "$@" &
    else
        mpirun $MPIRUN_OPTIONS "$MEDDIFF" "$@" &
    fi
    launched=$!
}

# wait_for_launched: its exit code, although signals interrupt the waiting.
wait_for_launched() {
    local rc
    while :; do
        wait "$launched"
        rc=$?
        if [ $rc -le 128 ] || ! kill -0 "$launched" 2>/dev/null; then
            return $rc
        fi
    done
}

# outcome RUN STAMP CODE: what became of a start. RESULT says it; launchers lie, and are asked only where no RESULT
# came or went. Prints ok, requeue, stopped, refused, failed, killed or unlaunched.
outcome() {
    local run=$1 before=$2 rc=$3 after word
    after=$(result_stamp "$run")
    if [ "$after" != "$before" ]; then
        word=killed # the RESULT of the run before was put aside, and none came in its place
        [ -z "$after" ] || word=$(head -n 1 "$run/RESULT")
        if [ -e "$run/REQUEUE" ]; then
            [ "$word" != stopped ] || word=requeue
            [ "$word" != failed ] || word=killed # a rank was, and the others did not go on
        fi
        echo "$word"
    elif [ "$rc" = 2 ]; then
        echo refused # the ranks' own code
    elif [ -z "$after" ] && [ -e "$run/config.cfg" ]; then
        echo killed # as the start before was
    elif [ "$rc" = 0 ] && [ "$LAUNCH" != srun ]; then
        echo refused # mpirun --enable-recovery forgets the ranks' codes
    else
        echo unlaunched # no rank ends like this; srun says 0 even where its node could not start the step
    fi
}

# again: this job once more, from where it stopped.
again() {
    trap - TERM USR1
    echo "job $SLURM_JOB_ID: to be started again"
    scontrol requeue "${SLURM_HET_JOB_ID:-$SLURM_JOB_ID}"
    sleep 60 # Slurm ends this script meanwhile
    exit 1
}

# options ARGUMENTS...: these as $options, but a job that is started again goes on: --fresh was for its first start.
options() {
    local a
    options=()
    for a; do
        [ "$a" = --fresh ] && [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || options+=("$a")
    done
}

# step JOB CONFIG [--set section.name=value]...: runs it; ends this script unless it ends well.
step() {
    local job=$1 run before rc word
    shift
    [ $# -ge 1 ] || { echo "usage: sbatch slurm/$job.sbatch CONFIG [--set section.name=value]..." >&2; exit 2; }
    run=$(run_of "$job" "$@") || exit 2
    before=$(result_stamp "$run")
    # Slurm warns this shell ahead of the limit (--signal=B:USR1): the ranks finish what they are at.
    trap 'kill -USR1 "$launched" 2>/dev/null' USR1
    # SIGTERM reaches the ranks by itself; this shell stays to say what became of them. Whether the job starts again
    # is then Slurm's: not when it was cancelled.
    local terminated=0
    trap 'terminated=1' TERM
    options "$@"
    # shellcheck disable=SC2086
    launch $job "${options[@]}"
    wait_for_launched
    rc=$?
    word=$(outcome "$run" "$before" $rc)
    echo "job ${SLURM_JOB_ID:-}: $job in $run: $word (the launcher says $rc)"
    case $word in
    ok) rm -f "$run/killed.$SLURM_JOB_ID" ;;
    requeue) again ;;
    refused) exit 2 ;;
    killed | unlaunched)
        # a rank or the launcher was killed, or a node could not start its ranks, which may pass; where a node
        # fails, Slurm itself starts the job again
        mkdir -p "$run" # not made yet where nothing was ever launched
        echo "$word" >>"$run/killed.$SLURM_JOB_ID"
        if [ $terminated = 0 ] && [ "$(wc -l <"$run/killed.$SLURM_JOB_ID")" -le "$RESTARTS" ]; then again; fi
        exit 1
        ;;
    *) exit $((rc == 0 ? 1 : rc)) ;; # failed; stopped by SIGTERM, which is no success either
    esac
}
