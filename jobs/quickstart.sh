#!/bin/bash
# From nothing to pairs, on a fresh Debian 12 or 13 or Ubuntu machine, in minutes on two cores:
# installs, builds, draws phantoms, then imports, fine-tunes and generates.
#   jobs/quickstart.sh [--set section.name=value]...
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=jobs/setup.sh
source jobs/setup.sh

install_packages
build_meddiff -DMEDDIFF_TESTS=OFF
mpi_environment
workers=${MEDDIFF_WORKERS:-2}
phantoms=runs/quickstart-phantoms
if [ ! -e "$phantoms/DONE" ]; then
    rm -rf "$phantoms"
    build/meddiff phantom "$phantoms" --set phantom.kind=skin
    touch "$phantoms/DONE"
fi
mpirun -n $((workers + 1)) build/meddiff pipeline configs/quickstart.cfg "$@"

for file in runs/quickstart/pairs.h5 runs/quickstart/preview.png; do
    [ -s "$file" ] || { echo "$file is missing" >&2; exit 1; }
done
echo
echo "made runs/quickstart/pairs.h5      the image-mask pairs"
echo "     runs/quickstart/preview.png   some of them, with the mask's outline"
