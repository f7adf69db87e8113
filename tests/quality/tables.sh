#!/bin/bash
# What help.md says of the study is what its results, which lie beside it, come to. Skipped where python3 (or what
# MEDDIFF_PYTHON names) has no numpy.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${MEDDIFF_PYTHON:-python3}
"$python" -B analysis/segment.py --help >/dev/null || exit
bad=0
for results in tests/quality/help-*; do
    table=$("$python" -B analysis/segment.py --table "$results"/*.jsonl)
    while read -r line; do
        grep -qxF -e "$line" tests/quality/help.md || { echo "$results, not in help.md: $line"; bad=1; }
    done <<<"$table"
done
exit $bad
