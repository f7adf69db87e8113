#!/bin/bash
# segment.sh MEDDIFF: draws and imports phantoms of 64 pixels, and runs segment_check.py and study_check.py on
# them. Skipped where python3 (or what MEDDIFF_PYTHON names) has no PyTorch or h5py.
set -euo pipefail
cd "$(dirname "$0")/../.."
meddiff=$(realpath "$1")
python=${MEDDIFF_PYTHON:-python3}
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
"$python" -B analysis/segment_small.py --help >/dev/null || exit
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
seed=0
for part in train test; do
    seed=$((seed + 1))
    "$meddiff" phantom "$dir/$part" --set "seed=$seed" --set phantom.size=64 --set phantom.count=40 \
        --set phantom.normal=10 --set phantom.test=0
    cat >"$dir/$part.cfg" <<END
run = "$dir/run-$part";
data = { format = "folder"; root = "$dir/$part"; size = 64; pairs = 0; near_duplicates = "warn"; };
END
    "$meddiff" import "$dir/$part.cfg"
done
"$python" -B tests/quality/segment_check.py "$dir/run-train/data.h5" "$dir/run-test/data.h5" "$dir"
"$python" -B tests/quality/study_check.py "$dir/run-train/data.h5" "$dir/run-test/data.h5" "$dir"
