# Sourced from the root of the tree by the scripts here, called as those of tests/jobs: one site in a scratch folder, with the
# scripts, the program, the fixture and a Slurm of its own, which ends with the script.
# shellcheck shell=bash
bash tests/slurm/sandbox.sh missing || exit
here=$PWD
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
sandbox=$here/tests/slurm/sandbox.sh
cp -r "$here/slurm" . && mkdir build && ln -s "$meddiff" build/meddiff
trap 'bash "$sandbox" stop "$dir/slurmd" >/dev/null 2>&1; cd /; rm -rf "$dir"' EXIT
settings=$(bash "$sandbox" start "$dir/slurmd" 2>sandbox.err) || {
    cat sandbox.err
    echo 'skipped: no Slurm can be started here'
    exit 77
}
eval "$settings"
