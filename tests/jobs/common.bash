# Sourced by the scripts here, called with MEDDIFF PROGRAM_DIR from the root of the tree: a scratch folder
# to work in with phantoms, a foundation of random weights and small.cfg; run, fail, finish.
# shellcheck shell=bash disable=SC2034
set -uo pipefail
meddiff=$(realpath "$1")
programs=$(realpath "$2")
tree=$PWD
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
command -v mpirun >/dev/null || { echo 'skipped: no mpirun here'; exit 77; }
dir=$(mktemp -d)
mkdir "$dir/tmp"
export TMPDIR=$dir/tmp # MPI's session folders: a killed run leaves them, and others must not meet them
trap 'cd /; umount "$dir/disk" 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir" || exit 1
bad=0

fail() {
    echo "FAILED: $1"
    [ ! -e out ] || tail -n "${lines:-12}" out | sed 's/^/    /'
    bad=1
}

finish() {
    [ $bad = 0 ] && echo "$1: all well"
    exit $bad
}

# run CODE NP JOB ARGUMENTS...: output to out.
run() {
    local want=$1 np=$2 rc
    shift 2
    timeout -k 5 240 mpirun -n "$np" "$meddiff" "$@" >out 2>&1
    rc=$?
    [ $rc = "$want" ] || fail "-n $np $*: exit code $rc, wanted $want"
}

check_pairs() { "$programs/check_pairs" "$@" >out 2>&1 || fail "check_pairs $*"; }

# same A B: equal, but for what holds times.
same() {
    diff -rq -x log.txt -x RESULT -x metrics.csv -x config.cfg "$1" "$2" >out 2>&1 || fail "$1 and $2 differ"
}

# inputs_of FROM TO: a new run directory with everything that generate needs.
inputs_of() {
    rm -rf "$2"
    mkdir "$2" && cp -r "$1"/{data.h5,backgrounds.h5,models} "$2"
}

# start NP JOB RUN: small.cfg with "${more[@]}", in the background; its launcher is $launcher.
start() {
    local np=$1 job=$2 where=$3
    mpirun -n "$np" "$meddiff" "$job" small.cfg --set "run=$where" "${more[@]}" >out 2>&1 &
    launcher=$!
}

# ranks_of PID: the processes below the launcher.
ranks_of() {
    local status
    for status in /proc/[0-9]*/status; do
        [ "$(sed -n 's/^PPid:\t//p' "$status" 2>/dev/null)" != "$1" ] || basename "${status%/status}"
    done
}

# signal_rank SIGNAL N: to the launcher's rank N.
signal_rank() {
    local pid
    for pid in $(ranks_of "$launcher"); do
        if grep -qzx "OMPI_COMM_WORLD_RANK=$2" "/proc/$pid/environ" 2>/dev/null; then kill "-$1" "$pid"; fi
    done
}

# wait_for_end WITHIN WHAT: of the launcher, whose ranks were "${ranks[@]}"; if it hangs, all are killed. Its code is $rc.
wait_for_end() {
    local began=$SECONDS
    mapfile -t ranks < <(ranks_of "$launcher")
    while kill -0 "$launcher" 2>/dev/null && [ $((SECONDS - began)) -lt "$1" ]; do sleep 0.2; done
    if kill -0 "$launcher" 2>/dev/null; then
        fail "$2: it hangs after $1 s"
        kill -KILL "$launcher" "${ranks[@]}"
    fi
    wait "$launcher" 2>/dev/null
    rc=$?
}

# trained MODEL N: has $run come to N steps on disk?
trained() {
    local newest
    newest=$(find "$run/checkpoints/$1" -name 'step-*' 2>/dev/null | sed 's/.*-//' | sort -n | tail -n 1)
    [ "${newest:-0}" -ge "$2" ]
}

# wait_until COMMAND...: or the launcher has ended, which stop will notice.
wait_until() {
    until "$@" || ! kill -0 "$launcher" 2>/dev/null; do
        sleep 0.02
    done
}

# stop SIGNAL CODE: KILL hits every process, others the launcher. Returns 1 if all was over before that.
stop() {
    local rc hit=0
    if [ "$1" = KILL ]; then
        # shellcheck disable=SC2046
        kill -KILL "$launcher" $(ranks_of $launcher) 2>/dev/null || hit=1
    else
        kill "-$1" "$launcher" 2>/dev/null || hit=1
    fi
    wait "$launcher" 2>/dev/null
    rc=$?
    [ $hit = 0 ] || return 1
    # shellcheck disable=SC2254
    case $rc in $2) ;; *) fail "SIG$1: exit code $rc, wanted $2" ;; esac
    if [ "$1" = USR1 ]; then
        [ -e "$run/REQUEUE" ] || fail 'no REQUEUE after SIGUSR1'
        [ "$(cat "$run/RESULT")" = stopped ] || fail 'RESULT does not say stopped'
    fi
}

# blocks FILE: its blocks of code as block-01.LANGUAGE and so on, but for those under "<!-- by hand".
blocks() {
    awk '/^```/ { if (file) { close(file); file = "" }
                  else if (!by_hand) { n++; file = sprintf("block-%02d.%s", n, substr($0, 4)); printf "" >file }
                  else file = "/dev/null"
                  by_hand = 0; next }
         /^<!-- by hand/ { by_hand = 1 }
         file { print >file }' "$1"
}

"$programs/make_foundation" small >out 2>&1 || fail make_foundation
"$meddiff" phantom phantoms --set phantom.size=64 --set phantom.count=14 --set phantom.normal=5 \
    --set phantom.test=2 >out 2>&1 || fail phantom
cat >small.cfg <<END
run = "run";
seed = 7;
threads = 1;
data = { format = "folder"; root = "phantoms"; size = 64; pairs = 12; };
model = { foundation = "small"; };
finetune = { steps = 20; batch = 4; lr = 1e-3; };
generate = { pairs = 14; steps = 4; batch = 2; guidance = 2.0; };
guide = { from = "data"; };
END
