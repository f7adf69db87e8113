#!/bin/sh
# Deaths, signals and failures under mpiexec; checks what is left and what is said. Usage: faults.sh PROGRAM_DIR
set -u
here=$(dirname "$0")
program=$1/mpi_cluster
dir=$(mktemp -d /tmp/mdf.XXXXXX) || exit 1
trap 'rm -rf "$dir"' EXIT
bad=0

fail() {
    echo "FAILED: $1"
    cat "$dir/out" "$dir/err"
    bad=1
}

run() { # expected-code-pattern np args...
    want=$1
    shift
    "$here/mpirun.sh" "$@" >"$dir/out" 2>"$dir/err"
    rc=$?
    # shellcheck disable=SC2254
    case $rc in
    $want) ;; # a pattern
    *) fail "$*: exit code $rc, wanted $want" ;;
    esac
}

# A worker is killed: the others finish. The launcher's code says nothing under recovery.
if mpiexec --version | grep -q -E 'OpenRTE\) 4|Open MPI\) 5|OpenRTE\) 5|PRRTE'; then
    for case in 3:2 5:1; do
        np=${case%:*} victim=${case#*:}
        MPIRUN_FLAGS=--enable-recovery run '*' "$np" "$program" kill "$victim"
        grep -q "rank 0: all items done, 1 of $((np - 1)) workers lost" "$dir/out" ||
            fail "kill -9 of rank $victim of $np: the others did not finish"
    done
else
    echo "kill -9 of a worker: skipped, this launcher is not Open MPI"
fi

# USR1 on any one rank: all end orderly, code 0.
run 0 3 "$program" usr1 2
[ "$(grep -c 'stopped in run 1' "$dir/out")" = 3 ] || fail "USR1 on rank 2 of 3"
run 0 1 "$program" usr1 0
[ "$(grep -c 'stopped in run 1' "$dir/out")" = 1 ] || fail "USR1 on a process alone"

# USR1 to the launcher, as Slurm's --signal does.
MPIRUN_TIMEOUT=60 "$here/mpirun.sh" 3 "$program" signal "$dir/started" >"$dir/out" 2>"$dir/err" &
for _ in $(seq 200); do
    [ -e "$dir/started" ] && break
    sleep 0.1
done
launcher= # without pgrep, which a small machine lacks; Open MPI 5 renames itself
for process in /proc/[0-9]*; do
    case $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") in
    *mpiexec\ *"$program signal $dir/started"* | *prterun\ *"$program signal $dir/started"*)
        case $(readlink "$process/exe") in *timeout) ;; *) launcher=${process#/proc/} ;; esac ;;
    esac
done
kill -USR1 "$launcher"
wait $! || fail "USR1 to mpiexec: non-zero exit"
[ "$(grep -c 'stopped in run 0' "$dir/out")" = 3 ] || fail "USR1 to mpiexec"

# TERM in a process alone: ends at once with what it has.
# (Not under mpiexec, which takes an end without MPI_Finalize for a failure.)
"$program" term 0 >"$dir/out" 2>"$dir/err" || fail "TERM in a process alone: exit code $?"
grep -q 'stopped in run 1' "$dir/out" || fail "TERM in a process alone"

# One message for a failure on any ranks, and one exit code everywhere.
for ranks in 2 0,1,3; do
    run 2 4 "$program" agree "$ranks"
    first=${ranks%%,*}
    # shellcheck disable=SC2015
    [ "$(grep -c ERROR "$dir/err")" = 1 ] && grep -q "ERROR rank $first cannot" "$dir/err" ||
        fail "agreement with ranks $ranks failing"
done
run 0 4 "$program" agree none

[ $bad = 0 ] && echo "faults: all well"
exit $bad
