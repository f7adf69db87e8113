#!/bin/bash
# What a user gets wrong: every mistake ends before any work with one message that names its place, exit
# code 2 (1 where a result file is at fault), never a crash.
set -uo pipefail
meddiff=$(realpath "$1")
helpers=$(realpath "$2")
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
bad=0

fail() {
    echo "FAILED: $1"
    head -n 12 out err | sed 's/^/    /'
    bad=1
}

# expect CODE TEXT arguments...: exit code, one message, and the text in it.
expect() {
    local want=$1 text=$2 rc
    shift 2
    "$meddiff" "$@" >out 2>err
    rc=$?
    [ $rc = "$want" ] || fail "meddiff $*: exit code $rc, wanted $want"
    [ -z "$text" ] || grep -qF -- "$text" err || fail "meddiff $*: no \"$text\""
    [ "$want" = 0 ] || [ "$(grep -cE 'ERROR|^meddiff: ' err)" = 1 ] || fail "meddiff $*: not one message"
}

# ---- the command line
"$meddiff" >out 2>err
[ $? = 2 ] || fail 'no arguments: exit code'
grep -q 'meddiff import' err || fail 'no arguments: no list of jobs'
expect 0 '' --help; grep -q 'meddiff import' out || fail 'no list of jobs'
expect 2 'unknown job "importt"; did you mean "import"?' importt
for job in $("$meddiff" --help | sed -nE 's/^  meddiff ([a-z]+) .*/\1/p'); do
    expect 0 '' "$job" --help
    [ "$job" = doctor ] || expect 2 'needs its argument' "$job"
    expect 2 'unknown option --sett' "$job" x --sett a=b
done
expect 0 '' import --help; grep -q 'data.root  *string' out || fail 'import --help without data.root'

expect 0 '' bench cluster --help; grep -q 'cluster.workers' out || fail 'bench cluster --help without its keys'
expect 0 '' bench cluster --set cluster.workers=8,16 --set cluster.items=8
[ "$(grep -cE '^ +(8|16) ' out)" = 2 ] || fail 'bench cluster without a row per number'
expect 2 'bench cluster takes no argument, got "x"' bench cluster x
expect 2 'cluster.workers: "x" is no list of numbers' bench cluster --set cluster.workers=8,x

# ---- the configuration
printf 'seed = 1;\ndata = { rot = "x"; };\n' >key.cfg
expect 2 'key.cfg:2: unknown key "data.rot"; did you mean "data.root"?' import key.cfg
printf 'data = {\n  size = "big";\n};\n' >type.cfg
expect 2 'type.cfg:2: data.size is a text in quotes, wanted is an integer' import type.cfg
printf 'data = {\n  size = 100;\n};\n' >range.cfg
expect 2 'range.cfg:2: data.size is 100, which is not a multiple of 64' import range.cfg
printf 'seed = ;\n' >syntax.cfg
expect 2 '--with needs a configuration file' import type.cfg --with
expect 2 'status reads no configuration' status here --with type.cfg
expect 2 'syntax.cfg:1: syntax error' import syntax.cfg
expect 2 'none.cfg: cannot open' import none.cfg
[ -z "$(ls -d runs 2>/dev/null)" ] || fail 'a run directory was made before the configuration was checked'

# ---- the data set
"$meddiff" phantom good --set phantom.count=6 --set phantom.normal=2 --set phantom.test=2 \
    --set phantom.size=64 >out 2>err || fail 'phantom'
printf 'data = { format = "folder"; root = "good"; size = 64; };\n' >good.cfg
expect 0 'made runs/good/data.h5' import good.cfg
[ "$(cat runs/good/RESULT)" = ok ] || fail 'RESULT is not ok'
# files over files, --set over all; the run directory is named after the files
expect 2 'type.cfg:2: data.size is a text' import good.cfg --with type.cfg
expect 2 'none.cfg: cannot open' import good.cfg --with none.cfg
mkdir -p configs/deep
cp good.cfg configs/deep/base.cfg
printf 'data = { pairs = 4; size = 128; };\nseed = 5;\n' >other.cfg
printf 'seed = 6;\n' >configs/last.cfg
expect 0 'made runs/deep/base-other-last/data.h5' import configs/deep/base.cfg --with other.cfg \
    --set data.size=64 --with=configs/last.cfg
for line in 'pairs = 4;' 'size = 64;' 'seed = 6;' 'root = "good";'; do
    grep -q "$line" runs/deep/base-other-last/config.cfg || fail "config.cfg without $line"
done
# the same for scripts; and a run's own configuration is meant for that run alone
[ "$("$meddiff" --run-of pipeline configs/deep/base.cfg --with other.cfg --fresh)" = runs/deep/base-other ] || fail '--run-of'
[ "$("$meddiff" --run-of masks train good.cfg --set run=there)" = there ] || fail '--run-of with run set'
"$meddiff" --run-of masks type.cfg >out 2>err && fail '--run-of of a bad configuration'
{ [ ! -s out ] && grep -q 'type.cfg:2' err; } || fail '--run-of does not say what is wrong'
expect 0 'runs/good' import runs/good/config.cfg
cp -r runs/good copied
expect 2 'in its folder: --set run=copied; in the other one: give runs/good/config.cfg' import copied/config.cfg
expect 0 'copied' import copied/config.cfg --set run=copied
expect 2 'good is a folder, where a configuration is wanted; that of a run is runs/good/config.cfg' import runs/good
expect 2 'nowhere' import good.cfg --set data.root=nowhere --set run=runs/x
image=train/images/skin-00001.png mask=train/masks/skin-00001.png
damage() { rm -rf bad; cp -r good bad; }
damage && head -c 200 "good/$image" >"bad/$image"
expect 2 skin-00001.png import good.cfg --set data.root=bad --set run=runs/x
[ "$(head -n 1 runs/x/RESULT)" = failed ] || fail 'RESULT does not say failed'
damage && : >"bad/$mask"
expect 2 skin-00001.png import good.cfg --set data.root=bad --set run=runs/x
damage && echo 'no picture' >"bad/$image"
expect 2 skin-00001.png import good.cfg --set data.root=bad --set run=runs/x
"$meddiff" phantom small --set phantom.count=6 --set phantom.normal=0 --set phantom.test=0 \
    --set phantom.size=128 >out 2>err || fail 'phantom'
damage && cp "small/$mask" "bad/$mask"
expect 2 skin-00001.png import good.cfg --set data.root=bad --set run=runs/x
damage && rm "bad/$mask"
expect 2 skin-00001 import good.cfg --set data.root=bad --set run=runs/x

# ---- the foundation
expect 2 'no-model' finetune good.cfg --set model.foundation=no-model
"$helpers/make_foundation" whole >out 2>err || fail make_foundation
weights=unet/diffusion_pytorch_model.safetensors
spoil() { rm -rf model; cp -r whole model; }
spoil && head -c 10000 "whole/$weights" >model/$weights
expect 2 "$weights" finetune good.cfg --set model.foundation=model --set data.size=64 --set run=runs/y
# A header length beyond the file.
spoil && printf '\377\377\377\377\377\377\377\177' | dd of=model/$weights conv=notrunc status=none
expect 2 "$weights" finetune good.cfg --set model.foundation=model --set data.size=64 --set run=runs/y
spoil && echo '{' >model/unet/config.json
expect 2 unet/config.json finetune good.cfg --set model.foundation=model --set data.size=64 --set run=runs/y
# Nothing was imported, nothing was fine-tuned.
expect 2 data.h5 finetune good.cfg --set model.foundation=whole --set data.size=64 --set run=runs/z
expect 2 data.h5 generate good.cfg --set model.foundation=whole --set data.size=64 --set run=runs/z

# ---- what was imported under another configuration, a run directory in use
expect 2 'data.size is 128 in good.cfg but 64 in runs/good/data.h5' finetune good.cfg \
    --set model.foundation=whole --set data.size=128
spoil && rm model/tokenizer/vocab.json
expect 2 model/tokenizer/vocab.json pipeline good.cfg --set model.foundation=model --set guide.from=data --set run=runs/p
[ ! -e runs/p/data.h5 ] || fail 'the import ran before the foundation was checked'
before=$(<runs/good/RESULT)
exec 9<runs/good
flock 9
expect 2 'another meddiff works in this run directory' import good.cfg
exec 9<&-
[ "$(<runs/good/RESULT)" = "$before" ] || fail 'the refused start touched RESULT'

# ---- several ranks say it once
if command -v mpirun >/dev/null; then
    mpirun -n 3 "$meddiff" import key.cfg >out 2>err
    [ $? = 2 ] || fail 'three ranks: exit code'
    [ "$(grep -c 'ERROR' err)" = 1 ] || fail 'three ranks: not one message'
fi

expect 2 nowhere status nowhere
[ $bad = 0 ] && echo 'cli: all well'
exit $bad
