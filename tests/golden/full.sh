#!/bin/bash
# full.sh SCRIPT ARGUMENTS: full_SCRIPT.py by the Python that MEDDIFF_PYTHON names, or python3; 77 where there is none.
python=${MEDDIFF_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python here"; exit 77; }
exec "$python" "tests/golden/full_$1.py" "${@:2}"
