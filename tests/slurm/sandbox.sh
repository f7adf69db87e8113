#!/bin/bash
# A Slurm of one node for tests: munged, slurmctld and slurmd of our own, as root, without systemd, everything
# below DIR. Two partitions: `low`, whose jobs are requeued when a job of `high` wants their place.
#   sandbox.sh start DIR    prints what is to be evaluated: export SLURM_CONF=...
#   sandbox.sh stop DIR     cancels all jobs and ends the daemons
#   sandbox.sh missing      prints what is missing here and returns 77, or 0
set -euo pipefail

# A port that nobody listens on, from $1 on.
free_port() {
    local port=$1
    while grep -qiE "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$port") [0-9A-F:]+ 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null; do
        port=$((port + 1))
    done
    echo "$port"
}

# until_true SECONDS COMMAND...
until_true() {
    local tries=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.1
    done
}

# The pid of a daemon of this sandbox, while it is one.
pid_of() {
    local pid
    pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 1
    case $(readlink "/proc/$pid/exe") in */"$1"*) echo "$pid" ;; *) return 1 ;; esac
}

missing() {
    local program
    [ "$(id -u)" = 0 ] || { echo 'skipped: the daemons of a Slurm of our own want to be root'; return 77; }
    for program in munged slurmctld slurmd sbatch srun; do
        command -v $program >/dev/null || {
            echo "skipped: no $program here; apt-get install slurm-wlm munge"
            return 77
        }
    done
}

configure() {
    local host control daemon cgroup=disabled
    host=$(hostname -s)
    control=$(free_port 17817)
    daemon=$(free_port $((control + 1)))
    # cgroups are not used, yet a plugin is loaded; before 23.11 there is no "disabled"
    case $(slurmd -V) in *\ 2[0-2].* | *\ 23.02*) cgroup=cgroup/v1 ;; esac
    echo "CgroupPlugin=$cgroup" >"$dir/cgroup.conf"
    cat >"$dir/slurm.conf" <<EOF
ClusterName=sandbox
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$control
SlurmdPort=$daemon
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.sock
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
TmpFS=$dir/tmp
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=3600
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=4096 State=UNKNOWN
PartitionName=low Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
EOF
}

node_works() { sinfo -h -p low -o %t | grep -qE '^(idle|mix|alloc)$'; }

give_up() {
    tail -n 20 "$dir"/log/*.log >&2
    stop
    echo "sandbox.sh: $1" >&2
    exit 1
}

start() {
    missing >&2 || exit
    # TmpFS: PMIx makes a folder there named after the step, and the step does not start where there is one. Ours
    # begin at job 1 every time, so what one sandbox left in a shared place would fail the next one's.
    mkdir -p "$dir"/{log,state,spool,tmp}
    chmod 755 "$dir"
    (umask 077 && head -c 128 /dev/urandom >"$dir/munge.key")
    configure
    export SLURM_CONF=$dir/slurm.conf
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.sock" --pid-file="$dir/munged.pid" \
        --log-file="$dir/log/munged.log" --seed-file="$dir/munge.seed" --origin=127.0.0.1 >/dev/null ||
        give_up 'munged does not start'
    slurmctld >/dev/null 2>&1 || give_up 'slurmctld does not start'
    slurmd >/dev/null 2>&1 || give_up 'slurmd does not start'
    until_true 30 node_works || give_up 'the node does not come up'
    echo "export SLURM_CONF=$SLURM_CONF"
}

no_jobs() { [ -z "$(squeue -h)" ]; }
is_gone() { ! pid_of "$1"; }

stop() {
    local daemon pid
    export SLURM_CONF=$dir/slurm.conf
    if pid_of slurmctld >/dev/null; then
        squeue -h -o %A | xargs -r scancel --full --signal=KILL >/dev/null 2>&1 || :
        squeue -h -o %A | xargs -r scancel >/dev/null 2>&1 || :
        until_true 10 no_jobs || :
    fi
    for daemon in slurmd slurmctld munged; do
        pid=$(pid_of $daemon) || continue
        kill "$pid"
        until_true 10 is_gone $daemon || kill -9 "$pid"
    done
}

case "${1:-} $#" in
'missing 1') missing ;;
'start 2' | 'stop 2')
    dir=$(realpath -m "$2")
    [ ${#dir} -le 80 ] || { echo "sandbox.sh: $dir is too long for the path of a socket in it" >&2; exit 2; }
    "$1"
    ;;
*) echo 'usage: sandbox.sh start DIR | stop DIR | missing' >&2; exit 2 ;;
esac
