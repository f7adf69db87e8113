#!/bin/bash
# Trials of kill -9: one process or all, in one stage at one moment, then a resume that must end as if nothing
# had happened. Called as its neighbours, and at length:
#   bash tests/jobs/kills.sh build/meddiff build/tests/jobs --trials 500 --table kills.csv --report kills.md
# --trials N   trials 0 to N-1 (40)            --trial K   this one alone, on a terminal
# --seed S     another draw of all (1)         --report F  writes the counts of the table there
# --table F    a line per trial, which is not made again: interrupted in any way, it goes on when started again.
#              The folder of a trial that fails stays, in F.failed.
# Trial K kills in stage K mod 6, victim K/6 mod 4; each 25th anywhere in a run from nothing. When, and how the
# resume goes, comes from K and the seed. What stood there at the kill is seen afterwards and told in the table.
trials=40 seed=1 table='' report='' only=''
programs_given=("$1" "$2")
shift 2
while [ $# -gt 1 ]; do
    case $1 in
    --trials) trials=$2 ;;
    --seed) seed=$2 ;;
    --table) table=$(realpath "$2") ;;
    --report) report=$(realpath "$2") ;;
    --trial) only=$2 ;;
    *) break ;;
    esac
    shift 2
done
[ $# = 0 ] || { echo "kills.sh: what is $1?" >&2; exit 2; }
outside=${TMPDIR:-/tmp} keep='' table_given=$table
set -- "${programs_given[@]}"
rank_process=() steps=()
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
[ -n "$table" ] || table=$dir/table.csv
commit=$(git -C "$tree" describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)

stages=(finetune checkpoint mask-training masks generate assess)
victims=(worker coordinator mpirun all)
launcher=''
end_of_script() {
    # shellcheck disable=SC2046
    [ -z "$launcher" ] || kill -KILL "$launcher" $(ranks_of "$launcher") 2>/dev/null
    exit 130
}
trap end_of_script INT TERM HUP
exec {nap}<> <(:)
pause() { read -rt 0.002 -u "$nap"; } # without a process of its own
# alive PID: not a zombie either, as which kill -0 finds a child that bash never collects: read -t of bash 5.2 can leave
# SIGCHLD blocked for good.
alive() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null && [[ $stat != *') Z '* ]]
}

# draw NAME N: 0 to N-1, from the seed, the trial and the name.
draw() {
    local hash
    hash=$(printf '%s' "$seed $trial $1" | md5sum)
    echo $((16#${hash:0:8} % $2))
}

now_ms() { ms=$((${EPOCHREALTIME/[.,]/} / 1000)); }

# ---- the run that nobody disturbs, and where trials start

make_reference() {
    cat >small.cfg <<END
run = "run";
seed = 7;
threads = 1;
data = { format = "folder"; root = "../phantoms"; size = 64; pairs = 12; };
model = { foundation = "../small"; encoder = "$tree/tests/golden/features"; };
finetune = { steps = 24; batch = 4; lr = 1e-3; };
masks = {
    size = 32; width = 8; layers = 1; steps = 300; batch = 4; lr = 2e-3; ema = 0.95;
    count = 6; sample_steps = 4; sample_batch = 2; attempts = 80; copy = 0.99;
};
generate = { pairs = 24; steps = 4; batch = 2; guidance = 2.0; };
quality = { quantile = 0.25; attempts = 40; };
pipeline = { parallel = false; };
checkpoint = { minutes = 0.001; };
END
    mkdir whole
    cd whole || exit 1
    now_ms && began=$ms
    run 0 3 pipeline ../small.cfg
    now_ms && whole_ms=$((ms - began))
    check_pairs run
    "$meddiff" verify run >out 2>&1 || fail 'verify of the undisturbed run'
    grep '^note' out >notes
    [ -s run/rejected.csv ] || fail 'nothing is drawn again'
    cd ..
    # part NAME FILES...: what a trial of this stage finds
    part() {
        mkdir -p "from-$1/run"
        (cd whole/run && cp -r --parents "${@:2}" "../../from-$1/run")
    }
    local data='data.h5 backgrounds.h5 import.png import_skipped.csv'
    local masks='models/masks masks.h5 masks.png masks_report.csv masks_report.json'
    # shellcheck disable=SC2086
    {
        part finetune $data $masks
        part half $data models/lesion
        part masks $data models
        part generate $data models $masks
        part assess $data models $masks
    }
    cp -r from-finetune from-checkpoint
    cp -r from-half from-mask-training
    mkdir -p from-anywhere/run from-mask-training/run/checkpoints/masks
    # the mask model shortly before its end, and pairs that nobody has judged
    cd from-half || exit 1
    launch 3 pipeline
    until newest masks && [ "$step" -ge 230 ] || ! alive "$launcher"; do pause; done
    kill -USR1 "$launcher"
    wait "$launcher" || fail 'the mask model did not stop orderly'
    launcher=''
    newest masks
    steps_before=$step
    [ "$step" -lt 295 ] || fail 'the mask model stopped too late'
    cp -r "run/checkpoints/masks/step-$step" ../from-mask-training/run/checkpoints/masks
    cd ../from-assess || exit 1
    run 0 3 generate ../small.cfg --set model.encoder=
    rm run/{RESULT,log.txt,config.cfg} out
    cd ..
    rm -r from-half
    # how long the stages take whose moments are times
    for stage in masks generate assess; do
        problems=''
        begin_trial
        wait_for_stage
        now_ms && began=$ms
        until ended_"$stage" || ! alive "$launcher"; do pause; done
        now_ms && length_ms[$stage]=$((ms - began))
        wait "$launcher" || fail "undisturbed, from $stage: failed"
        launcher=''
        [ $stage != assess ] || run 0 3 pipeline ../small.cfg
        same_as ../whole
        [ -z "$problems" ] || fail "undisturbed, from $stage: $problems"
        cd ..
        rm -rf trial
    done
    echo "undisturbed: $whole_ms ms; masks ${length_ms[masks]}, generate ${length_ms[generate]}, assess ${length_ms[assess]} ms"
}
declare -A length_ms

# launch NP JOB: in the background, as $launcher.
launch() {
    mpirun -n "$1" "$meddiff" "$2" ../small.cfg >out 2>&1 &
    launcher=$!
}

# newest MODEL: the last step of which there is a folder, finished or not, as $step.
newest() {
    local folder
    step=-1
    for folder in run/checkpoints/"$1"/step-*; do
        folder=${folder##*-}
        [ "$folder" = '*' ] || [ "$folder" -le "$step" ] || step=$folder
    done
}

# said TEXT: does the output have it? (without a process, as it is asked often)
said() {
    local lines=()
    [ ! -e out ] || mapfile lines <out
    [[ ${lines[*]} == *"$1"* ]]
}

# ---- a trial

begin_trial() {
    job=pipeline
    [ "$stage" != assess ] || job=assess
    cp -r "from-$stage" trial
    cd trial || exit 1
    launch 3 $job
    find_ranks
}

# The processes of the launcher's ranks, as rank_process[0..2]; without processes of its own, as it must be quick.
find_ranks() {
    local pid entry children
    rank_process=()
    while [ ${#rank_process[@]} -lt 3 ] && alive "$launcher"; do
        pause
        if ! read -r children <"/proc/$launcher/task/$launcher/children"; then
            [ -e "/proc/$launcher/task/$launcher/children" ] || children=$(ranks_of "$launcher")
        fi
        for pid in $children; do
            while IFS= read -rd '' entry; do
                case $entry in OMPI_COMM_WORLD_RANK=*) rank_process[${entry#*=}]=$pid ;; esac
            done <"/proc/$pid/environ"
        done
    done 2>/dev/null
}

stage_begins() {
    case $stage in
    finetune | checkpoint) said 'pipeline: lesion model' ;;
    mask-training) said 'masks: resumed after step' ;;
    masks) [ -e run/masks.h5 ] ;;
    generate) [ -e run/pairs.h5 ] ;;
    assess) said 'assess: similarity to' ;;
    anywhere) true ;;
    esac
}
ended_masks() { said 'pipeline: masks: done'; }
ended_generate() { said 'pipeline: generate: done'; }
ended_assess() { ! alive "$launcher"; }

wait_for_stage() {
    until stage_begins || ! alive "$launcher"; do pause; done
}

# half_written MODEL STEP: is there a checkpoint of this step or a later one without its DONE?
half_written() {
    newest "$1"
    [ "$step" -ge "$2" ] && [ ! -e "run/checkpoints/$1/step-$step/DONE" ]
}

# draw_moment: what wait_for_moment waits for, as $model, $from_step, $writing and $late.
draw_moment() {
    model=lesion from_step=0 writing=0 late=0
    case $stage in
    finetune) from_step=$(draw step 21) late=$(draw late 60) ;;
    checkpoint) from_step=$((1 + $(draw step 20))) writing=1 late=$(draw late 5) ;;
    mask-training)
        model=masks from_step=$((steps_before + $(draw step $((297 - steps_before)))))
        writing=$(draw writing 2)
        late=$(draw late $((writing ? 12 : 60)))
        [ "$writing" = 0 ] || [ $from_step -gt "$steps_before" ] || from_step=$((from_step + 1))
        ;;
    masks | generate | assess) late=$(draw late "${length_ms[$stage]}") ;;
    anywhere) late=$(draw late "$whole_ms") ;;
    esac
}

reached() {
    case $stage$writing in
    finetune0 | mask-training0) newest $model && [ "$step" -ge $((from_step > 0 ? from_step : -1)) ] ;;
    *1) half_written $model "$from_step" ;;
    esac
}

# wait_for_moment: $moment ms after the stage's beginning.
wait_for_moment() {
    local began until_ms
    over=0
    wait_for_stage
    now_ms && began=$ms
    until reached || ! alive "$launcher"; do pause; done
    now_ms && until_ms=$((ms + late))
    while [ "$ms" -lt $until_ms ]; do
        pause
        now_ms
    done
    list_finished before
    log=()
    [ ! -e run/log.txt ] || mapfile -t log <run/log.txt
    half_written lesion 0 && writing=2
    steps[0]=$step
    half_written masks 0 && writing=2
    steps[1]=$step
    [ ! -e run/RESULT ] || over=1
    now_ms && moment=$((ms - began))
}

strike() {
    case $victim in
    mpirun) kill -KILL "$launcher" ;;
    all) kill -KILL "$launcher" "${rank_process[@]}" ;;
    coordinator) kill -KILL "${rank_process[0]:-none}" ;;
    worker) kill -KILL "${rank_process[$worker]:-none}" ;;
    esac
}

# gone PIDS...: within a minute.
gone() {
    local pid tries=0
    for pid; do
        while alive "$pid"; do
            sleep 0.05
            tries=$((tries + 1))
            [ $tries -lt 1200 ] || return 1
        done
    done
}

# seen: where the log, as it was at the kill, and what is left say that the run was, as $at. Models are named in the log
# together, then trained.
seen() {
    local line model finished=0 open='' i=0
    at=start
    for line in "${log[@]}"; do
        case $line in
        *' pipeline: '*': done in '*)
            line=${line##*pipeline: } line=${line%: done in*}
            open=${open/"$line;"/} at="after $line"
            ;;
        *' pipeline: '*'complete already') at='after import' ;;
        *' INFO pipeline: '*) open+="${line##*pipeline: };" ;;
        *' main: meddiff '*' assess '*) open='assess;' ;;
        esac
    done
    [ -z "$open" ] || at=${open%%;*}
    for model in lesion masks; do
        [ "${steps[i]}" -lt 0 ] || at+=", step ${steps[i]}"
        i=$((i + 1))
        half_written $model 0 && writing=2
    done
    [ "$writing" != 2 ] || at="checkpoint of $at"
    case $at in
    masks | generate | assess)
        [ ! -e finished-after ] || finished=$(wc -l <finished-after)
        [ "$at" = masks ] && finished=$("$meddiff" status run 2>/dev/null | sed -nE 's/^masks +([0-9]+) of.*/\1/p')
        at+=", ${finished:-0} slots"
        ;;
    esac
    [ $over = 0 ] || at='over'
}

problem() { problems+="${problems:+; }$1"; }

# examine NAME: verify finds nothing but what a kill explains; at the end, nothing at all.
examine() {
    [ -e run/config.cfg ] || return 0 # killed before there was anything
    "$meddiff" verify run >"verify-$1" 2>&1 || problem "verify $1: $(grep -vE '^(note|20|run:)' "verify-$1" | head -n 1)"
    [ "$1" != end ] || ! grep '^note' "verify-$1" | grep -vxFf ../whole/notes >notes || problem "verify at the end: $(head -n 1 notes)"
}

# list_finished NAME: the slots that are accepted, and judged, now.
list_finished() {
    local entry
    : >"finished-$1"
    [ -e run/pairs.h5 ] || return 0
    "$programs/check_pairs" --finished run/pairs.h5 >finished 2>out-list || problem "pairs.h5 does not open ($1): $(tail -n 1 out-list)"
    while read -r entry; do
        [[ $entry == *nan ]] || echo "$entry"
    done <finished >"finished-$1"
}

# kept BEFORE AFTER: is every slot of the first list the same in the second?
kept() {
    [ ! -s "finished-$1" ] || [ "$(grep -cxFf "finished-$2" "finished-$1")" = "$(wc -l <"finished-$1")" ] ||
        problem "a slot that was finished $1 is not $2"
}

# same_as FOLDER: everything that the run of that folder has, byte for byte; a pairs.h5 that assess has copied in every
# dataset.
same_as() {
    local but=()
    [ "$stage" != assess ] || but=(-x pairs.h5)
    "$programs/check_pairs" run "$1/run/pairs.h5" >out-pairs 2>&1 || problem "pairs.h5: $(tail -n 1 out-pairs)"
    diff -rq -x log.txt -x metrics.csv -x checkpoints "${but[@]}" run "$1/run" >out-diff 2>&1 || problem "$(head -n 1 out-diff)"
    find run/checkpoints -type f 2>/dev/null | grep -q . && problem 'checkpoints are left'
    [ ! -e run/REQUEUE ] || problem 'REQUEUE is left'
}

# compare_end NP: with the undisturbed run or, after a training by other workers, with one from these models.
compare_end() {
    if [ $training = 0 ] || [ "$1" = 3 ]; then
        same_as ../whole
        checked='all files'
        return
    fi
    mkdir -p ../other/run
    cp -r run/{data.h5,backgrounds.h5,import.png,import_skipped.csv,models} ../other/run
    [ "$stage" = mask-training ] || cp run/masks* ../other/run
    (cd ../other && exec timeout -k 5 240 mpirun -n 3 "$meddiff" pipeline ../small.cfg >out 2>&1) ||
        problem 'no undisturbed run from these models'
    same_as ../other
    rm -rf ../other
    checked='from the model files on'
}

# resume NP: by as many processes, until all is done.
resume() {
    local next
    for next in $([ $job = pipeline ] || echo $job) pipeline; do
        timeout -k 5 240 mpirun -n "$1" "$meddiff" "$next" ../small.cfg >"out-$next" 2>&1 ||
            problem "$next: exit code $?: $(grep -m 1 ERROR "out-$next")"
    done
    [ "$(cat run/RESULT)" = ok ] || problem "RESULT: $(head -n 1 run/RESULT)"
}

# not_redone: a resume that generates begins with the slots that stood after the kill.
not_redone() {
    local found
    [ -s finished-after ] && [ $job = pipeline ] || return 0
    found=$(sed -nE 's/.*: run\/pairs.h5: ([0-9]+) of [0-9]+ slots are done$/\1/p' out-pipeline)
    [ "${found:-0}" -ge "$(wc -l <finished-after)" ] || problem "the resume began with ${found:-0} slots"
}

one_trial() {
    local np=3 wait_for_ranks=1
    SECONDS=0
    problems='' checked='' at='' training=0
    stage=${stages[trial % 6]}
    victim=${victims[trial / 6 % 4]}
    if [ $((trial % 25)) = 24 ]; then
        stage=anywhere victim=${victims[$(draw victim 4)]}
    fi
    case $stage in
    finetune | checkpoint | mask-training)
        training=1
        [ "$(draw fewer 4)" != 0 ] || np=$((1 + $(draw np 2)))
        ;;
    masks | generate | assess) np=$((1 + $(draw np 3))) ;;
    esac
    rm -rf trial
    worker=$((1 + $(draw worker 2)))
    # after a kill of mpirun, the ranks may still be there when it is started again
    [ "$victim" != mpirun ] || wait_for_ranks=$(draw wait 2)
    draw_moment
    begin_trial
    [ ${#rank_process[@]} = 3 ] || problem 'its processes were not found'
    wait_for_moment
    {
        strike
        if ! gone "$launcher" || { [ "$wait_for_ranks" = 1 ] && ! gone "${rank_process[@]}"; }; then
            problem 'not all ends after the kill'
            kill -KILL "$launcher" "${rank_process[@]}"
        fi
        wait "$launcher"
    } 2>/dev/null
    launcher=''
    list_finished after
    kept before after
    seen
    examine after
    resume $np
    not_redone
    gone "${rank_process[@]}" || problem 'a rank outlives its run'
    list_finished end
    kept after end
    examine end
    compare_end $np
    cd ..
    printf '%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s\n' "$trial" "$seed" "$stage" "$victim" "$moment" "${at//,/}" \
        "$(wc -l <trial/finished-after)" "$np$([ "$wait_for_ranks" = 1 ] || echo ' at once')" "$checked" "$SECONDS" \
        "$([ -z "$problems" ] && echo ok || echo FAILED)" "${problems//[$',\n']/;}" >>"$table"
    if [ -n "$problems" ]; then
        failed=$((failed + 1))
        [ -n "$keep" ] || { [ -n "$table_given" ] && keep=$table.failed; } || keep=$(mktemp -d "$outside/kills.XXXXXX")
        mkdir -p "$keep"
        rm -rf "${keep:?}/$trial"
        mv trial "$keep/$trial"
        echo "FAILED: trial $trial ($victim, $at): $problems; kept in $keep/$trial"
    fi
}

# ---- what the table holds

# counts: a line per stage at the kill, a column per victim.
counts() {
    awk -F , -v seed="$seed" '
        $1 ~ /^[0-9]+$/ && $2 == seed {
            at = $6; where = "elsewhere: the start, the import, between stages"
            if (at ~ /^checkpoint of/) where = "writing a checkpoint"
            else if (at ~ /^lesion model/) where = "fine-tune"
            else if (at ~ /^mask model/) where = "training of the mask model"
            else if (at ~ /^masks/) where = "drawing of masks"
            else if (at ~ /^generate/) where = "generation"
            else if (at ~ /^assess/) where = "assessment"
            else if (at ~ /^over/) where = "it was over"
            n[where, $4]++; all[where]++; column[$4]++; total++
            if ($11 != "ok") { bad++; failures[where]++ }
            seconds += $10; slots += $7; from[$9]++
        }
        END {
            print "| at the kill | a worker | the coordinator | mpirun | all | trials | failures |"
            print "|---|---|---|---|---|---|---|"
            split("fine-tune;writing a checkpoint;training of the mask model;drawing of masks;generation;assessment;elsewhere: the start, the import, between stages;it was over", rows, ";")
            for (i = 1; i in rows; i++)
                printf "| %s | %d | %d | %d | %d | %d | %d |\n", rows[i], n[rows[i], "worker"], n[rows[i], "coordinator"],
                    n[rows[i], "mpirun"], n[rows[i], "all"], all[rows[i]], failures[rows[i]]
            printf "| all | %d | %d | %d | %d | %d | %d |\n\n", column["worker"], column["coordinator"], column["mpirun"],
                column["all"], total, bad
            printf "%d trials in %d s, %d failures; %d finished slots stood at the kills. In the end %d trials equal the undisturbed run in every result (log, metrics and checkpoints aside; a judged pairs.h5 by its datasets), %d from the model files on, as other numbers of workers had trained.\n",
                total, seconds, bad, slots, from["all files"], from["from the model files on"]
        }' "$table"
}

write_report() {
    # shellcheck disable=SC2016
    {
        printf '# Kills\n\nWritten by `tests/jobs/kills.sh --report`, which says what a trial is.\n\n'
        printf '%s, commit %s, seed %s, %s; a machine of %s cores, Linux, %s.\n' "$(date -u +%Y-%m-%d)" "$commit" "$seed" \
            "an undisturbed run took $whole_ms ms" "$(nproc)" "$(mpirun --version | head -n 1)"
        printf 'Killed with SIGKILL at a drawn moment, looked at by `meddiff verify`, started again, looked at and compared.\n\n'
        counts
        [ -z "$table_given" ] || printf '\nThe trials one by one: %s.\n' "$(basename "$table")"
        grep ",FAILED," "$table" | sed 's/^/    /'
    } >"$report.new"
    mv "$report.new" "$report"
}

make_reference
[ $bad = 0 ] || { echo 'no undisturbed run to compare with'; exit 1; }
[ -s "$table" ] || echo 'trial,seed,stage,victim,ms,at the kill,finished slots,resumed by,compared,seconds,outcome,why' >"$table"
failed=0
[ -z "$only" ] || trials=$((only + 1))
for ((trial = ${only:-0}; trial < trials; trial++)); do
    grep -q "^$trial,$seed," "$table" || one_trial
    [ -z "$report" ] || write_report
done
counts
[ $((2 * $(cut -d , -f 2,6 "$table" | grep -cx "$seed,over"))) -lt "$trials" ] || fail 'most kills came when it was over'
grep -q "^[0-9]*,$seed,.*,FAILED," "$table" && bad=1
finish kills
