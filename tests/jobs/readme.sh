#!/bin/bash
# Every block of README.md but those under "by hand", in its order and as it stands: FOLDER is a set of phantoms, SD15 and
# DINOV2 are small models; build/meddiff is the program, to which small sizes are said last.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
python=$(command -v "${MEDDIFF_PYTHON:-python3}")
[ -z "$python" ] || PATH=$(dirname "$python"):$PATH
mv phantoms/train FOLDER
cp -r small SD15
ln -s "$tree/tests/golden/features" DINOV2
for folder in analysis configs data docs jobs; do ln -s "$tree/$folder" $folder; done
mkdir build
cat >build/meddiff <<END
#!/bin/bash
small=(--set data.size=64 --set data.pairs=10 --set finetune.steps=4 --set finetune.batch=2 --set finetune.warmup=0
    --set generate.pairs=8 --set generate.steps=3 --set masks.size=32)
case " \$* " in
*" configs/"*) exec "$meddiff" "\$@" "\${small[@]}" ;;
esac
exec "$meddiff" "\$@"
END
chmod +x build/meddiff
ran=0 left_out=0
blocks "$tree/README.md"
for block in block-*; do
    case $(cat "$block") in
    *python3*)
        if ! "$python" -c 'import h5py, numpy' 2>/dev/null; then
            echo "$block was not run: no h5py here"
            left_out=$((left_out + 1))
            continue
        fi
        ;;
    esac
    timeout 300 bash -euo pipefail "$block" >out 2>&1 || fail "$block: $(cat "$block")"
    ran=$((ran + 1))
done
if [ $ran -lt 2 ] || [ $((ran + left_out)) -lt 3 ]; then fail "only $ran blocks ran, $left_out were left out"; fi
[ "$(cat runs/mine/RESULT)" = ok ] || fail 'RESULT is not ok'
[ -s runs/mine/show-3.png ] || fail 'no picture of pair 3'
[ -e runs/mine/export/nnunet ] || fail 'no export'
# What the page leads to is there.
sed -nE 's/.*\]\(([^)#:]+)\).*/\1/p' "$tree"/README.md | while read -r path; do
    [ -e "$tree/$path" ] || echo "$path"
done >missing
[ ! -s missing ] || fail "README.md leads to what is not there: $(cat missing)"
finish readme
