#!/bin/bash
# Submits a whole run as jobs, one after the other, each with what it needs. Prints a line per job. They share a
# run directory, in which one job works at a time; slurm/pipeline.sbatch trains its models side by side instead.
#   slurm/chain.sh CONFIG [--set section.name=value]...
# SBATCH_OPTIONS: for every job, e.g. SBATCH_OPTIONS="--nodes=2 --ntasks-per-node=4".
# Started again after a failure or a cancellation it goes on: what is complete is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=slurm/env.sh
source slurm/env.sh
[ $# -ge 1 ] || { sed -n '2,5s/^# *//p' "$0" >&2; exit 2; }
[ -f "$1" ] || { echo "$1: no such file" >&2; exit 2; }

# submit NAME JOB-ID ARGUMENTS...: its own id; waits for the other's success.
submit() {
    local name=$1 after=$2
    shift 2
    # shellcheck disable=SC2086
    sbatch --parsable ${SBATCH_OPTIONS:-} ${after:+--dependency=afterok:$after --kill-on-invalid-dep=yes} \
        "slurm/$name.sbatch" "$@"
}

after=''
for name in import finetune masks backgrounds generate; do
    after=$(submit $name "$after" "$@")
    echo "$name $after"
done
