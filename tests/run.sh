#!/bin/bash
# Builds the program and passes its tests, on a fresh Debian 12 or 13 or Ubuntu machine too:
#   tests/run.sh [ctest options]        tests/run.sh -R base
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=jobs/setup.sh
source jobs/setup.sh

packages+=(g++) # runs the GPU's kernels on the host
install_packages
(packages=(python3-h5py python3-pil) && install_packages) || echo 'without h5py: what reads stores from Python is skipped'
# Those packages are for Debian's own Python, which need not be the first in PATH.
[ ! -x /usr/bin/python3 ] || export MEDDIFF_PYTHON=${MEDDIFF_PYTHON:-/usr/bin/python3}
(packages=(slurm-wlm munge) && install_packages) || echo 'without Slurm: tests/slurm will be skipped'
build_meddiff -DMEDDIFF_TESTS=ON
mpi_environment
# Sessions of Open MPI and files of the tests go where they can be removed whatever happens.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
status=0
ctest --test-dir build -j 2 --output-on-failure "$@" || status=$?
exit $status
