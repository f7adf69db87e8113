#!/bin/bash
# tests/quality/guide.sh, made small: every part of the guide on and off gives its row, and they are not the same
# pictures.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
"${MEDDIFF_PYTHON:-python3}" -c 'import numpy, h5py' 2>/dev/null || { echo 'skipped: no python3 with numpy and h5py'; exit 77; }

run 0 3 pipeline small.cfg --set guide.from=data
MEDDIFF=$meddiff bash "$tree/tests/quality/guide.sh" small.cfg run parts --set guide.from=data --set generate.pairs=4 \
    >out 2>&1 || fail 'guide.sh'
for row in real none grow-1 grow-2 feather grow-feather core core-deep edge edge-settled; do
    grep -q "^| $row | [1-9]" out || fail "no row $row"
done
[ -s parts/guide-parts.png ] || fail 'no sheet'
[ "$(md5sum parts/*/pairs.h5 | cut -d ' ' -f 1 | sort -u | wc -l)" = 9 ] || fail 'two parts gave the same pairs'
finish guide
