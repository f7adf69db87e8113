#!/bin/bash
# analysis/meddiff_data.py: check_data.py on a run's stores and a compact copy. Skipped where python3 (or what
# MEDDIFF_PYTHON names) has no h5py, or, after the functions have passed, no PyTorch.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
python=${MEDDIFF_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python here"; exit 77; }
run 0 1 pipeline small.cfg
"$programs/poke" run/pairs.h5 set state 3 3
"$programs/poke" run/pairs.h5 set state 5 0
"$meddiff" export run --set export.format=hdf5 >out 2>&1 || fail export
(cd "$tree" && "$python" -B tests/jobs/check_data.py "$dir"/run/{pairs,data,export/hdf5/pairs}.h5) >out 2>&1
rc=$?
[ $rc != 77 ] || { tail -n 1 out; [ $bad = 0 ] && exit 77; }
[ $rc = 0 ] || fail check_data.py
finish data
