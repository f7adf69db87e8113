#!/bin/bash
# memory.sh FOUNDATION [--set key=value]...: what `meddiff plan` promises for a fine-tune on a CPU, and the
# largest RSS of two steps of it, on phantoms of 512 pixels. Run it in the root of the tree. Full-size random
# weights: python3 tests/golden/full_size.py --dir DIR leaves a foundation in DIR/sd15.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,4p' "$0"; exit 2; }
foundation=$1
shift
meddiff=${MEDDIFF:-build/meddiff}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
more=(--set device=cpu --set data.root="$folder/phantoms" --set data.size=512 --set data.pairs=2
    --set model.foundation="$foundation" --set finetune.steps=2 --set finetune.batch=1
    --set run="$folder/run" "$@")
"$meddiff" phantom "$folder/phantoms" --set phantom.size=512 --set phantom.count=4 --set phantom.normal=2 \
    --set phantom.test=0 >"$folder/out" 2>&1 || { cat "$folder/out"; exit 1; }
"$meddiff" import configs/quickstart.cfg "${more[@]}" >"$folder/out" 2>&1 || { cat "$folder/out"; exit 1; }
"$meddiff" plan configs/quickstart.cfg "${more[@]}" | tee "$folder/plan" | grep -E '^MiB|^finetune'
python3 - "$folder" "$meddiff" finetune configs/quickstart.cfg "${more[@]}" <<'END'
import re
import resource
import subprocess
import sys
import time

folder, command = sys.argv[1], sys.argv[2:]
begin = time.time()
done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
if done.returncode:
    sys.exit(done.stdout)
took = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
with open(folder + "/plan") as f:
    promised = float(re.search(r"^finetune: at most ([0-9.]+) MiB", f.read(), re.M).group(1))
print("promised %.0f MiB, taken %.0f MiB: %+.1f %%; %.0f s" %
      (promised, took, 100 * (took / promised - 1), time.time() - begin))
sys.exit(abs(took / promised - 1) > 0.05)
END
