#!/bin/bash
# doctor under a real Slurm: srun with PMIx, whose ranks find each other, and without, where each would be alone;
# and as a batch script, whose exit code is doctor's.
# shellcheck source=tests/slurm/site.bash
source tests/slurm/site.bash
lines=25

# sees CODE TEXT: the exit code of what was just run is CODE, and a line of out begins so.
sees() {
    local rc=$?
    [ $rc = "$1" ] || fail "$3: exit code $rc, wanted $1"
    grep -qE "^$2" out || fail "$3: no line \"$2\""
}
timeout 120 srun --mpi=none -n 3 "$meddiff" doctor small.cfg >out 2>&1
sees 1 'missing  PMIx  .* 3 processes without PMIx' 'srun --mpi=none'
[ "$(grep -c '^ok  *run ' out)" = 1 ] || fail 'srun --mpi=none: not one process alone prints'
if srun --mpi=list 2>&1 | grep -q pmix; then
    timeout 120 srun --mpi=pmix -n 3 "$meddiff" doctor small.cfg >out 2>&1
    sees 0 'ok  *ranks  .*: 3 of 3, 2 of them workers' 'srun --mpi=pmix'
    grep -qE '^ok  *MPI  .*started by srun' out || fail 'srun --mpi=pmix: its launcher is not named'
fi
options=(--nodes=1 --ntasks=3 --gpus-per-node=0 --cpus-per-task=1 --wait --output=out)
rm -f out
timeout 180 sbatch "${options[@]}" slurm/doctor.sbatch small.cfg >/dev/null 2>&1
sees 0 'ok  *ranks  .*: 3 of 3, 2 of them workers' 'sbatch slurm/doctor.sbatch'
rm -f out
timeout 180 sbatch "${options[@]}" slurm/doctor.sbatch small.cfg --set data.root=nowhere >/dev/null 2>&1
sees 1 'missing  data ' 'sbatch slurm/doctor.sbatch without data'
finish doctor
