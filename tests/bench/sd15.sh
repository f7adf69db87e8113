#!/bin/bash
# sd15.sh DIR: a foundation folder of Stable Diffusion 1.5's published sizes without weights, for what needs
# sizes only (meddiff plan, meddiff bench). Run it in the root of the tree.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,3p' "$0"; exit 2; }
for part in unet vae text_encoder; do
    mkdir -p "$1/$part"
    cp "tests/golden/published/sd15-$part.json" "$1/$part/config.json"
done
cp -r tests/golden/sd/scheduler tests/format/tokenizer "$1"
