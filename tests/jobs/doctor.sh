#!/bin/bash
# A machine with a fault of each kind: doctor names it and what to do, ends with 1 where something is
# missing and with 0 where it only warns, and leaves nothing behind.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
unset OMP_WAIT_POLICY HDF5_USE_FILE_LOCKING
plant=$programs/libplant.so
lines=25

# doctor CODE STATE WHAT TEXT [arguments...]: the exit code, and a line of that state about it with the text.
doctor() {
    local want=$1 state=$2 what=$3 text=$4 rc
    shift 4
    "${under[@]}" "$meddiff" doctor "$@" >out 2>err
    rc=$?
    seen "$want" $rc "$state" "$what" "$text" "${under[*]} doctor $*"
}

seen() {
    [ "$1" = "$2" ] || fail "$6: exit code $2, wanted $1"
    grep -E "^$3 +$4 " out | grep -qF -- "$5" || fail "$6: no line \"$3 $4\" with \"$5\""
    [ "$1" = 0 ] || [ "$(grep -c 'ERROR doctor' err)" = 1 ] || fail "$6: not one message on stderr"
    ! ls -d .meddiff-doctor* ./*/.meddiff-doctor* >/dev/null 2>&1 || fail "$6: its folder is left behind"
}
under=(env)

# ---- nothing is wrong
"$meddiff" doctor small.cfg 2>/dev/null | head -n 1 >/dev/null
! ls -d .meddiff-doctor* ./*/.meddiff-doctor* >/dev/null 2>&1 || fail "doctor | head: its folder is left behind"
doctor 0 ok 'MPI' 'one process alone'
doctor 0 ok 'HDF5' 'written through MPI-IO by every rank and read'
doctor 0 ok 'foundation' 'small: ' small.cfg
doctor 0 ok 'data' '16 images with a lesion' small.cfg
doctor 0 ok 'room' 'the run takes about 10 MiB' small.cfg
! grep -q '^missing' out || fail 'something is missing where nothing is'
if ! grep -q '^ok .* GPU' out; then
    doctor 0 note 'GPU' 'it computes on the processor' small.cfg
    doctor 1 missing 'GPU' '--set device=cpu' small.cfg --set device=cuda
fi
doctor 0 note 'GPU' 'leaves them alone' small.cfg --set device=cpu
doctor 0 note 'encoder' 'not judged' small.cfg
[ ! -e run ] || fail 'doctor made a run directory'

# ---- the configuration
"$meddiff" doctor none.cfg >out 2>err
[ $? = 2 ] || fail 'no such configuration: exit code'
"$meddiff" doctor small.cfg --set data.rot=x >out 2>err
[ $? = 2 ] || fail 'unknown key: exit code'
doctor 1 missing 'settings' 'finetune' small.cfg --set loss.target=x0 --set loss.weight=min-snr --set finetune.batch=1 \
    --set finetune.region=background --set finetune.prior_weight=1

# ---- models
spoil() { rm -rf model; cp -r small model; }
weights=unet/diffusion_pytorch_model.safetensors
doctor 1 missing 'foundation' 'nowhere: ' small.cfg --set model.foundation=nowhere
spoil && rm model/vae/config.json
doctor 1 missing 'foundation' 'vae/config.json' small.cfg --set model.foundation=model
spoil && head -c 20000 small/$weights >model/$weights
doctor 1 missing 'foundation' "$weights" small.cfg --set model.foundation=model
spoil && mv model/$weights model/unet/diffusion_pytorch_model.bin
doctor 1 missing 'foundation' 'pickle' small.cfg --set model.foundation=model
mkdir encoder && echo '{ "model_type": "dinov2" }' >encoder/config.json
doctor 1 missing 'encoder' 'model.safetensors' small.cfg --set model.encoder=encoder
rm -r model encoder
doctor 1 missing 'memory' 'finetune.lora_rank=16' small.cfg --set memory.budget=1

# ---- the data set
doctor 1 missing 'data' 'data.root: nowhere: ' small.cfg --set data.root=nowhere
mkdir empty
doctor 1 missing 'data' 'empty' small.cfg --set data.root=empty
doctor 1 missing 'data' 'phantoms' small.cfg --set data.format=busi

# ---- the file system
under=(env LD_PRELOAD="$plant" PLANT=flock)
doctor 0 warning 'locks' 'keeps no locks (flock)'
under+=(HDF5_USE_FILE_LOCKING=TRUE)
doctor 1 missing 'HDF5 locks' 'unset it'
grep -q '^missing  HDF5 .*no store comes about' out || fail 'HDF5 works where it should not'
under=(env LD_PRELOAD="$plant" PLANT=fcntl)
doctor 0 warning 'locks' 'no record locks (fcntl)'
under=(env LD_PRELOAD="$plant" PLANT=allocate)
doctor 1 missing 'HDF5' 'no room'
under=(env LD_PRELOAD="$plant" PLANT=hdf5)
doctor 1 missing 'HDF5' 'the program was compiled with'
under=(env HDF5_USE_FILE_LOCKING=TRUE)
doctor 0 warning 'HDF5 locks' 'shut each other out: unset it'
under=(env HDF5_USE_FILE_LOCKING=yes)
doctor 0 warning 'HDF5 locks' 'means nothing to HDF5'
under=(env)
mkdir live
exec 9<live
flock 9
doctor 0 note 'run' 'a job works in live' --set run=live
exec 9<&-
doctor 1 missing 'room' 'lower generate.pairs' small.cfg --set generate.pairs=100000000 --set data.size=2048
if [ "$(id -u)" = 0 ]; then
    mkdir -p disk
    if mount -t tmpfs -o size=2m tmpfs disk 2>err; then
        doctor 1 missing 'room' 'set run to a larger disk' small.cfg --set run=disk/run
        grep -q '^warning  run .*lies in memory' out || fail 'a run directory in memory is not named'
        mount -o remount,ro disk
        doctor 1 missing 'run' 'or set run to another folder' small.cfg --set run=disk/run
        umount disk
    else
        echo "not tried: a full and a read-only file system (no mount here: $(head -n 1 err))"
    fi
else
    mkdir -m 500 closed
    doctor 1 missing 'run' 'or set run to another folder' small.cfg --set run=closed/run
    echo 'not tried: a full file system, which wants root to mount it'
fi

# ---- the environment of a process
long=$PWD/$(printf 'x%.0s' {1..90})
mkdir "$long"
under=(env TMPDIR="$long")
doctor 0 warning 'TMPDIR' 'set TMPDIR to a short folder'
under=(env TMPDIR="$PWD/nowhere")
doctor 0 warning 'TMPDIR' 'No such file or directory'
# shellcheck disable=SC2016
limited() { under=(bash -c "ulimit $1; exec \"\$@\"" -); }
limited '-n 100'
doctor 0 warning 'limits' 'ulimit -n 1024'
limited '-t 3600'
doctor 0 warning 'limits' 'ulimit -t'
limited '-f 200000' # blocks of 1 KiB: MPI's own files stay below
doctor 1 missing 'room' 'ulimit -f unlimited' small.cfg --set generate.pairs=20000
limited "-v $(($(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo) - 1000000))"
doctor 0 warning 'memory' '--set memory.budget='
under=(env SLURM_JOB_END_TIME=$(($(date +%s) + 3600)))
doctor 0 note 'limits' 'Slurm ends this job in'

# ---- launchers
under=(env SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=3)
doctor 1 missing 'PMIx' 'srun --mpi=pmix'
under=(env SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1)
doctor 0 warning 'PMIx' 'this one process lies in a step of srun without PMIx'
under=(env PMI_RANK=0 PMI_SIZE=3)
doctor 1 missing 'PMIx' 'started 3 processes without PMIx'
mkdir other
printf '#!/bin/sh\necho "HYDRA build details:"\n' >other/mpirun
chmod +x other/mpirun
under=(env PATH="$PWD/other:$PATH")
doctor 1 missing 'mpirun' 'first in PATH'
printf '#!/bin/sh\nexit 1\n' >other/mpirun
doctor 0 warning 'mpirun' 'is not in PATH'

# ---- several ranks
# ranks CODE STATE WHAT TEXT COMMAND...
ranks() {
    local want=$1 state=$2 what=$3 text=$4 rc
    shift 4
    timeout -k 5 120 mpirun -n 3 "$@" >out 2>err
    rc=$?
    seen "$want" $rc "$state" "$what" "$text" "mpirun -n 3 $*"
}
ranks 0 ok 'ranks' '3 of 3, 2 of them workers' "$meddiff" doctor small.cfg
[ "$(grep -c '^ok  *HDF5' out)" = 1 ] || fail 'ranks: not one line about HDF5'
ranks 1 missing 'data' nowhere "$meddiff" doctor small.cfg --set data.root=nowhere
ranks 0 warning 'threads' 'export OMP_WAIT_POLICY=passive' "$meddiff" doctor small.cfg --set threads=64
export OMP_WAIT_POLICY=passive
ranks 0 ok 'threads' 'as OMP_WAIT_POLICY says' "$meddiff" doctor small.cfg --set threads=64
if [ "$(nproc)" -gt 1 ]; then
    # shellcheck disable=SC2016
    ranks 0 warning 'threads' 'bound to' sh -c 'exec taskset -c 0 "$@"' - "$meddiff" doctor small.cfg --set threads=2
else
    echo 'not tried: ranks bound to fewer cores than they have threads, on one core'
fi
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
    cat >elsewhere.sh <<'END'
[ "$OMPI_COMM_WORLD_RANK" != 2 ] || mount -t tmpfs tmpfs "$1"
shift
exec "$@"
END
    mkdir local models
    cp -r small models/
    ranks 1 missing 'run' 'set run to a folder that all machines share' unshare -m sh elsewhere.sh local \
        "$meddiff" doctor small.cfg --set run=local
    ranks 1 missing 'models' 'put it where all machines see it' unshare -m sh elsewhere.sh models \
        "$meddiff" doctor small.cfg --set model.foundation=models/small
    under=(unshare -m sh -c 'mount -t tmpfs -o size=1m tmpfs /dev/shm; exec "$@"' -)
    OMPI_MCA_btl=self doctor 0 warning '/dev/shm' '--shm-size=1g'
else
    echo 'not tried: machines that do not share a folder, a small /dev/shm (they want root and mount namespaces)'
fi

# ---- what a run takes while it goes on is no more than was said, and not far from it
said=10 most=0
more=(--set checkpoint.minutes=0)
start 3 pipeline whole
while kill -0 "$launcher" 2>/dev/null; do
    took=$(du -sk whole 2>/dev/null | cut -f 1)
    [ "${took:-0}" -le "$most" ] || most=$took
done
wait "$launcher" || fail "pipeline: exit code $?"
{ [ "$most" -le $((said * 1024)) ] && [ $((2 * most)) -ge $((said * 1024)) ]; } ||
    fail "the run took up to $most KiB, doctor said $said MiB"
finish doctor
