#!/bin/sh
# Groups side by side: a failure, signals and a silent group; what each rank is told. Usage: groups.sh PROGRAM_DIR
set -u
here=$(dirname "$0")
program=$1/mpi_groups
dir=$(mktemp -d /tmp/mdg.XXXXXX) || exit 1
trap 'rm -rf "$dir"' EXIT
bad=0

fail() {
    echo "FAILED: $1"
    cat "$dir/out" "$dir/err"
    bad=1
}

run() { # np args...; without MPI_Finalize the launcher's code says nothing
    np=$1
    shift
    "$here/mpirun.sh" "$np" "$program" "$@" >"$dir/out" 2>"$dir/err" || [ "${1:-}" = silent ] ||
        fail "$np $*: exit code $?"
}

count() { grep -c "$1" "$dir/out"; }

# The log of all groups comes from rank 0, each line whole.
run 4
[ "$(count 'all well')" = 4 ] || fail 'plain'
for line in 'the first: on 2 of 3 workers, from rank 1 on' 'the second: on 1 of 3 workers, from rank 3 on' \
    '[[]1/4 .*INFO test: task 0 is at row 40$' '[[]3/4 .*INFO test: task 1 is at row 40$' 'the second: done in '; do
    [ "$(grep -c "$line" "$dir/err")" = 2 ] || fail "the log has not twice \"$line\""
done

# One rank fails: its chain has the task's name, the others are told, none is left waiting.
for rank in 1 2 3; do
    run 4 fail $rank
    name='the first'
    [ $rank != 3 ] || name='the second'
    [ "$(count "^rank $rank: $name: no number")" = 1 ] || fail "fail $rank: its chain"
    [ "$(count ': peer$')" = 3 ] || fail "fail $rank: the others"
    grep -q "WARN cluster: $name failed; what goes on beside it is asked to stop orderly" "$dir/err" || fail "fail $rank: the log"
done

# A signal to one rank of a group, or to rank 0 alone, stops all of them.
for rank in 0 1 2 3; do
    run 4 usr1 $rank
    [ "$(count ': stopped$')" = 4 ] || fail "USR1 on rank $rank"
done

# A group that is not heard of any more.
run 4 silent 3
[ "$(count '^rank 0: the second: nothing was heard of rank 3 on [^ ]* for 1 s')" = 1 ] || fail 'a silent group'

[ $bad = 0 ] && echo "groups: all well"
exit $bad
