#!/bin/bash
# README.md followed literally, line by line in one shell, on an empty machine; prints each command with its time.
#   tests/newcomer.sh [--without-tests]     as root, in a fresh clone on an empty Debian 12 or 13
# FOLDER is what the quickstart drew, SD15 and DINOV2 are data/tiny and its encoder. The one line that wants the published
# weights and four GPUs is left out, and with --without-tests so is tests/run.sh.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
ln -sfn runs/quickstart-phantoms/train FOLDER
ln -sfn data/tiny SD15
ln -sfn data/tiny/encoder DINOV2
mkdir -p runs/newcomer
bad=0 n=0
# shellcheck disable=SC2016
while read -r line; do
    case $line in
    "mpirun -n 5 "*) continue ;; # five ranks: four GPUs
    tests/run.sh*) [ "${1:-}" != --without-tests ] || continue ;;
    esac
    n=$((n + 1))
    SECONDS=0
    eval "$line" </dev/null >"runs/newcomer/$n.log" 2>&1
    rc=$?
    [ $rc = 0 ] || bad=1
    printf '%5d s  %s  %s\n' "$SECONDS" "$([ $rc = 0 ] && echo ok || echo "ended with $rc, see runs/newcomer/$n.log")" "$line"
done < <(sed -nE '/^```sh$/,/^```$/{/^```/!p}; s/.*\(Debian: `(python3[^`]*)`\).*/apt-get install -y \1/p' README.md)
exit $bad
