#!/usr/bin/env bash
# The study of a real model (runs/experiments/real_model) on one GPU that is lent for minutes at a time.
#
#   tools/gpu_study.sh pack MODEL        here: the checkpoint in parts under 64 MiB, in .gpu/model
#   tools/gpu_study.sh slice [SECONDS]   there: join, prove, train the warm start, run for SECONDS, pack
#   tools/gpu_study.sh unpack FOLDER     here: what a slice left in FOLDER becomes the next one's start
#   --dry-run before any of them         say what would run, and do the parts that need no GPU
#
# Three steps a slice: copy the checkout with .gpu/ and the data to the machine, run `slice`, copy
# $OUT back and `unpack` it. A slice takes the study up where the last one stopped; the checkout must
# lie at the same path in each, because a run's recipe names its files. Variables: OUROLOOP_DATA (the
# problems, default ../shared/data), OUT (where results go, default .gpu/out), JOBS (runs at a time, 3).
set -euo pipefail
cd "$(dirname "$0")/.."

state=.gpu runs=runs/studies/real_model
out=${OUT:-$state/out} jobs=${JOBS:-3} dry=
python=${OUROLOOP_VENV_PYTHON:-.venv/bin/python}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
if [ "${1:-}" = --dry-run ]; then dry=1 && shift; fi

say() { printf 'gpu study: %s\n' "$*" >&2; }
die() { say "$@" && exit 2; }
# What needs the GPU is only shown in a dry run.
on_gpu() { if [ -n "$dry" ]; then say "would run: $*"; else "$@"; fi; }
carry() { "$python" tools/study_state.py "$@"; }

pack_model() {
    [ -f "$1/model.safetensors" ] || die "$1: no model.safetensors; name the folder of a checkpoint."
    carry pack-model "$1" "$state/model"
}

# vLLM's CUDA build has never been seen to serve what was trained: nothing is measured before this.
# The tests marked gpu, and those of real engines: both engines alike, stale weights caught, with
# untied and tied embeddings and adapters.
prove() {
    on_gpu nvidia-smi -L
    on_gpu "$python" -m pytest -q -m gpu -p no:cacheprovider tests/loop ||
        die "the GPU's tests failed; the study was not started. Their output is above."
    on_gpu "$python" -m pytest -q -p no:cacheprovider \
        tests/engines/test_real_engines.py tests/engines/test_stale_weights.py ||
        die "vLLM does not pass its tests on this GPU; the study was not started."
}

# The same of this model in bfloat16: a round of all weights and one of an adapter, each served after
# its training and proved by the weight-sync check.
prove_model() {
    on_gpu "$python" -m ouroloop.loop study runs/experiments/real_model --quick --seeds 0 --jobs 1 \
        --arms unguarded adapter ||
        die "a round of this model failed on this GPU; the study was not started."
}

pack_state() {
    mkdir -p "$out"
    rm -rf "$out/state" && carry pack "$runs" "$out/state"
    cp -f runs/experiments/real_model/results.csv "$out/" 2>/dev/null || say "no run is finished yet"
    if [ -f "$state/proven" ]; then cp -f "$state/proven" "$out/"; fi
}

slice() {
    local seconds=${1:-540} rc=0 joined=$state/joined
    [ -d "$state/model" ] || die "no $state/model: run \`tools/gpu_study.sh pack MODEL\` before copying."
    carry join "$state/model" "$joined"
    if [ -d "$state/state" ]; then carry join "$state/state" "$runs"; fi
    export OUROLOOP_STUDY_MODEL=$PWD/$joined OUROLOOP_STUDY_DTYPE=bfloat16
    local end=$((SECONDS + seconds))
    if [ ! -f "$state/proven" ]; then prove && prove_model && { [ -n "$dry" ] || touch "$state/proven"; }; fi
    # The study ends itself on SIGTERM: finished runs are written down, open ones go on later.
    on_gpu timeout --signal=TERM --kill-after=20 "$((end - SECONDS))" \
        "$python" -m ouroloop.loop study runs/experiments/real_model --jobs "$jobs" || rc=$?
    pack_state
    case $rc in
    0) say "the study is finished" ;;
    124 | 143) say "time is over; the next slice goes on" ;;
    *) die "the study ended with $rc; its last lines: $(tail -n 5 "$runs/worker.log" 2>/dev/null)" ;;
    esac
}

unpack() {
    [ -d "$1/state" ] || die "$1: no state in it; expected what a slice left in \$OUT."
    mkdir -p "$state"
    rm -rf "$state/state" && cp -R "$1/state" "$state/state"
    carry join "$state/state" "$runs"
    if [ -f "$1/proven" ]; then cp -f "$1/proven" "$state/"; fi
    if [ -f "$1/results.csv" ]; then cp -f "$1/results.csv" runs/experiments/real_model/; fi
    if [ -f runs/experiments/real_model/results.csv ]; then
        "$python" -m ouroloop.loop study runs/experiments/real_model --table >/dev/null
    fi
}

case ${1:-} in
pack) [ $# = 2 ] || die "which model? tools/gpu_study.sh pack FOLDER"; pack_model "$2" ;;
slice) slice "${2:-540}" ;;
unpack) [ $# = 2 ] || die "from where? tools/gpu_study.sh unpack FOLDER"; unpack "$2" ;;
*) sed -n '2,13s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
