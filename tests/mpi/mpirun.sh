#!/bin/sh
# mpirun.sh NP COMMAND...: mpiexec for tests, as root in a container too, more ranks than cores.
# MPIRUN_FLAGS: more options (--enable-recovery). Own TMPDIR (short: it holds sockets), removed after.
np=$1
shift
TMPDIR=$(mktemp -d /tmp/md.XXXXXX) || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1         # Open MPI 4
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe OMPI_MCA_btl_tcp_if_include=lo # 5
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Sanitizers meet MPI's own leaks.
export LSAN_OPTIONS="${LSAN_OPTIONS:-suppressions=$(dirname "$0")/leaks.supp:print_suppressions=0}"
export ASAN_OPTIONS="${ASAN_OPTIONS:-fast_unwind_on_malloc=0}"
# shellcheck disable=SC2086
timeout -k 5 "${MPIRUN_TIMEOUT:-100}" mpiexec --bind-to none $MPIRUN_FLAGS -n "$np" "$@"
