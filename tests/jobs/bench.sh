#!/bin/bash
# meddiff bench: every part on a foundation of random weights, what the table and the JSON lines say, the
# profile, the end of time, what it refuses; compare_torch.py's way out where there is no PyTorch.
set -uo pipefail
meddiff=$(realpath "$1")
programs=$(realpath "$2")
tree=$PWD
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
bad=0

fail() {
    echo "FAILED: $1"
    sed 's/^/    /' out
    bad=1
}

bench() { # bench CODE arguments...
    local want=$1 rc
    shift
    "$meddiff" bench small.cfg "$@" >out 2>&1
    rc=$?
    [ $rc = "$want" ] || fail "bench $*: exit code $rc, wanted $want"
}

number() { sed -nE "s/^\{\"name\": \"$1\".*\"$2\": ([-0-9.e+]+)[,}].*/\1/p" rows.json; }
holds() { awk "BEGIN { exit !($1) }" || fail "not so: $1"; }

"$programs/make_foundation" small >out 2>&1 || fail make_foundation
rm small/*/*.safetensors # sizes are enough
cat >small.cfg <<END
threads = 1;
data = { size = 64; };
model = { foundation = "small"; };
finetune = { batch = 2; };
generate = { batch = 3; };
bench = { repeats = 3; warmup = 1; json = "rows.json"; };
END

bench 0
for part in peak unet train paint encode decode text; do
    [ "$(grep -cE "^$part +3 " out)" = 1 ] || fail "no row of 3 runs for $part"
    low=$(number $part min_ms) median=$(number $part median_ms) high=$(number $part max_ms)
    holds "0 < $low && $low <= $median && $median <= $high"
    holds "$(number $part gflop) > 0 && $(number $part device_bytes) > 0 && $(number $part rss_peak_bytes) > 1e6"
    # TFLOP/s is the one by the other
    holds "$(number $part tflops) * $median / $(number $part gflop) > 0.999"
    holds "$(number $part tflops) * $median / $(number $part gflop) < 1.001"
done
[ "$(wc -l <rows.json)" = 7 ] || fail 'not seven lines of JSON'
if command -v python3 >/dev/null; then
    python3 -c 'import json; [json.loads(line) for line in open("rows.json")]' >out 2>&1 || fail 'no JSON'
fi
holds "$(number train batch) == 2 && $(number paint batch) == 3"
# guidance: twice the UNet's work; a step of training: three times that of its forward pass, nearly
holds "$(number paint gflop) / $(number unet gflop) > 1.99 && $(number paint gflop) / $(number unet gflop) < 2.01"
holds "$(number train gflop) / 2 / ($(number unet gflop) / 3) > 2.5 && $(number train gflop) / 2 / ($(number unet gflop) / 3) < 3.2"
[ -e runs ] && fail 'a run directory was made'

bench 0 --set bench.what=unet,text --set bench.batch=1 --set bench.json= --set model.dtype=bf16
[ "$(grep -cE '^(unet|text) ' out)" = 2 ] || fail 'not the two rows that were asked for'
grep -q '^cpu, bf16, 1 threads' out || fail 'no line on the device'
bench 0 --set bench.what=train --set bench.profile=true
for line in 'train, 3 runs' 'conv2d_dw ' 'attention_grad ' 'train, update, 3 runs' 'adamw +3 '; do
    grep -qE "$line" out || fail "no \"$line\" in the profile"
done
bench 0 --set bench.what=unet --set bench.seconds=0 --set bench.repeats=1000
grep -qE '^unet +1 ' out || fail 'time was over, and there is not one run'

bench 2 --set bench.what=unet,tarin
grep -q 'tarin' out || fail 'the refusal does not name tarin'
bench 2 --set model.foundation=nowhere
bench 2 --set bench.json=nowhere/rows.json
grep -q 'nowhere/rows.json' out || fail 'the refusal does not name the file'

if command -v python3 >/dev/null; then
    mkdir -p none/torch
    echo 'raise ImportError("none here")' >none/torch/__init__.py
    (cd "$tree" && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$dir/none python3 tests/bench/compare_torch.py --device cpu) >out 2>&1
    [ $? = 77 ] || fail 'compare_torch.py without torch: not 77'
    grep -q '^skipped: .*none here' out || fail 'compare_torch.py: no reason'
    [ "$(wc -l <out)" = 1 ] || fail 'compare_torch.py: not one line'
fi
[ $bad = 0 ] && echo 'bench: all well'
exit $bad
