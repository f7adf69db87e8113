#!/bin/bash
# analysis/report.py: one page about a run, whatever there is of it: well formed, complete, nothing fetched,
# what files say cannot become part of the page. In a headless Chromium, where there is one, its script
# runs, the switches work, and nothing is wider than a phone. Skipped without h5py and numpy.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
lines=30
python=
for p in "${MEDDIFF_PYTHON:-}" python3 /usr/bin/python3; do
    [ -n "$python" ] || ! "$p" -c 'import h5py, numpy' 2>/dev/null || python=$p
done
[ -n "$python" ] || { echo 'skipped: no Python with h5py and numpy here (Debian: python3-h5py)'; exit 77; }
poke=$programs/poke

# report RUN OPTIONS...: writes the page; check OPTIONS...: looks at it.
report() {
    "$python" -B "$tree/analysis/report.py" "$@" >out 2>&1 || fail "report.py $*: exit code $?"
    page=$1/report.html
}
check() { "$python" -B "$tree/tests/jobs/report_check.py" "$page" "$@" >out 2>&1 || fail "$page"; }

# A name and a prompt that would be markup, if they were not text.
mv phantoms/train/images/skin-00003.png "phantoms/train/images/skin<b onclick=x>&\"00003.png"
mv phantoms/train/masks/skin-00003.png "phantoms/train/masks/skin<b onclick=x>&\"00003.png"
cat >>small.cfg <<'END'
masks = {
    size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; ema = 0.95;
    count = 12; sample_steps = 10; sample_batch = 4; attempts = 8; copy = 0.99;
};
END
whole=(--set "model.encoder=$tree/tests/golden/features" --set quality.quantile=0.25 --set guide.from=masks
    --set backgrounds.from=repaired --set backgrounds.tries=2 --set backgrounds.steps=6
    --set 'model.prompt=a </style><script>alert(1)</script> mole')

# ---- everything: encoder, masks, repaired backgrounds
run 0 3 pipeline small.cfg --set run=whole "${whole[@]}"
report whole
grep -q '^whole/report.html: [0-9.]* MB$' out || fail 'the page is not named'
check --most 1500000 --has 'Outcome: finished' --has 'pairs accepted' --has '14 accepted' --has 'too ' \
    --has 'repaired backgrounds: before' --has 'Kolmogorov-Smirnov' --has 'Lesion model' --has 'Background model' \
    --has 'Mask generator' --has 'skin<b onclick=x>&"00003.png' --has 'a </style><script>alert(1)</script> mole' \
    --has 'the same' --has 'most of a process' --has 'made under the same configuration' --hasnot 'ANOTHER ONE' \
    --pictures 60
rows=$(("$(wc -l <whole/rejected.csv)" - 1))
[ "$rows" -gt 0 ] || fail 'no draw was rejected: the test needs one'
check --most 1500000 --count 'beside the nearest real image"' "$rows"
"$meddiff" status whole >out 2>&1 || fail 'status beside the page'
sha256sum whole/*.h5 >stores
report whole --to elsewhere.html --pictures 3
page=elsewhere.html
check --most 1500000 --count 'alt="generated pair' 17 # 3 in the grid, 4 and 4 beside real ones, 6 from real image to pair
sha256sum -c --quiet stores || fail 'report.py changed a store'

# ---- no encoder, guides from the training masks, lesion-free images
run 0 2 pipeline small.cfg --set run=plain
report plain
check --has 'Nobody judged the pairs' --has 'model.encoder was empty' --has 'Nothing was repaired' \
    --has 'No masks were drawn' --has 'Not trained in this run directory: background model, mask generator' \
    --has 'assessment.json is not there' --hasnot 'cosine similarity'

# ---- on its way: imported; trained in part; some slots made, given up, failed
mkdir begun && cp plain/{config.cfg,data.h5,backgrounds.h5,log.txt} begun
report begun
check --has 'No pairs yet' --has 'under way, or ended' --has 'No training has left a line yet'
mkdir bare && cp plain/config.cfg bare
report bare
check --has 'Not imported yet' --has 'log.txt is not there'
head -n 8 plain/metrics.csv >begun/metrics.csv
printf 'lesion,7,0.1' >>begun/metrics.csv # what a kill leaves
cp plain/pairs.h5 begun
for slot in 3 4 5 6; do "$poke" begun/pairs.h5 set state $slot $((slot % 4)); done
"$poke" begun/pairs.h5 set state 7 4
"$poke" begun/pairs.h5 text reason 7 'non-finite value: <i>slot 7</i>'
: >begun/REQUEUE
report begun
check --has 'stopped by a signal' --has '7 of 20 steps' --has '2 slots are still to be made' \
    --has '1 slot was failed for good' --has '1 slot was rejected for good'

# ---- stores that are damaged, or others than they were
cp -r whole hurt
head -c 5000 whole/pairs.h5 >hurt/pairs.h5
printf '{"area": ' >hurt/masks_report.json
printf 'no,csv\n1\n' >hurt/rejected.csv
report hurt
check --has 'pairs.h5 cannot be read' --has 'masks_report.json'
cp -r whole other
"$poke" other/data.h5 set group 0 77
report other
check --has 'data.h5 is not the one that the pairs were made from' --has 'ANOTHER ONE'
"$python" -B "$tree/analysis/report.py" phantoms >out 2>&1
{ [ $? = 2 ] && grep -q 'phantoms is no run directory: it holds no config.cfg' out; } || fail 'a folder that is no run'

"$python" -B "$tree/analysis/report.py" plain --to nowhere/page.html >out 2>&1
{ [ $? = 1 ] && grep -q 'nowhere/page.html: cannot write: .*--to FILE' out; } || fail 'a page that cannot be written'

# ---- in a browser that reaches nothing
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$browser" ]; then
    echo 'not looked at in a browser: there is no chromium here'
else
    # dom FILE: the page as it is after its script.
    dom() {
        timeout 120 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$dir/browser" \
            --host-resolver-rules='MAP * ~NOTFOUND' --window-size=1300,900 --virtual-time-budget=5000 \
            --dump-dom "file://$dir/$1" 2>browser.log
    }
    for where in whole plain bare begun hurt; do
        dom $where/report.html >out # under the page's own policy
        grep -q '<html[^>]*data-ready="yes"' out || fail "$where: the page's script did not run to its end"
        grep -q '<html[^>]*data-error' out && fail "$where: an error in the page's script"
        for width in 390 1280; do
            "$python" -B "$tree/tests/jobs/report_check.py" $where/report.html --probe probe.html $width >out 2>&1 || fail probe
            dom probe.html.frame.html >out
            grep -q "data-probe=\"ok $width\"" out || fail "$where at $width pixels"
        done
    done
fi

finish report
