#!/usr/bin/env bash
# What the loop gets out of one GPU, in twelve minutes: sampling beside vLLM's own benchmark and beside
# bare vLLM, the hand-over between engine and trainer, and how busy training keeps the GPU.
#
#   tools/gpu_bench.sh MODEL DATA        MODEL: a checkpoint's folder; DATA: JSON Lines with `question`, `solution`
#   tools/gpu_bench.sh --dry-run ...     say what would run, and check what can be checked without a GPU
#
# Results are lines of JSON and text in $OUT (default .gpu/bench). Variables: OUT, DTYPE (bfloat16),
# REQUESTS (512), TOKENS (256, of each answer), ROWS (256), SECONDS_EACH (150: the most that a step may take).
set -euo pipefail
cd "$(dirname "$0")/.."

out=${OUT:-.gpu/bench} dtype=${DTYPE:-bfloat16} requests=${REQUESTS:-512} tokens=${TOKENS:-256} rows=${ROWS:-256}
each=${SECONDS_EACH:-150} dry= failed=0
python=${OUROLOOP_VENV_PYTHON:-.venv/bin/python}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} VLLM_ENABLE_V1_MULTIPROCESSING=0
if [ "${1:-}" = --dry-run ]; then dry=1 && shift; fi

say() { printf 'gpu bench: %s\n' "$*" >&2; }
die() { say "$@" && exit 2; }

# A step that fails costs itself and not the ones after it: the GPU is lent for minutes.
step() { # name, then the command; its output is NAME.txt
    local name=$1
    shift
    if [ -n "$dry" ]; then say "would run ($name): $*" && return; fi
    say "$name"
    timeout --signal=TERM --kill-after=20 "$each" "$@" >"$out/$name.txt" 2>"$out/$name.log" ||
        { failed=1 && say "$name failed ($?): $(tail -n 3 "$out/$name.log")"; }
}

[ $# = 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" && exit 2; }
model=$1 data=$2
[ -f "$model/config.json" ] || die "$model: no config.json; name the folder of a checkpoint."
[ -f "$data" ] || die "$data: no such file; expected JSON Lines with \`question\` and \`solution\`."
for needed in tools/sampling_speed.py tools/training_speed.py tools/bench/sides.py; do
    [ -f "$needed" ] || die "$needed is missing from this checkout."
done
mkdir -p "$out"

step gpu nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
# vLLM's own number: as many prompts of the same length, answers of the same length.
step vllm_bench "$python" -m vllm.entrypoints.cli.main bench throughput --model "$model" --dtype "$dtype" \
    --input-len 48 --output-len "$tokens" --num-prompts "$requests" --output-json "$out/vllm_bench.json"
step sampling "$python" tools/sampling_speed.py "$model" --dtype "$dtype" --requests "$requests" \
    --max-tokens "$tokens" --repeats 3 --json
step hand_over "$python" -m tools.bench.sides hand_over "{\"model\": \"$model\", \"dtype\": \"$dtype\"}"

# How busy the GPU is while it trains, once a second.
watcher=
if [ -z "$dry" ]; then
    nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits -l 1 >"$out/utilisation.csv" &
    watcher=$!
fi
step training "$python" tools/training_speed.py "$model" "$data" --rows "$rows" --repeats 2
if [ -n "$watcher" ]; then
    kill "$watcher" && wait "$watcher" || true
    # Seconds without any work are the start of a process, which `training` measures by itself.
    awk -F, '$1 > 0 { n++; sum += $1 } $2 > most { most = $2 }
        END { printf "utilisation while at work: %.0f %% (%d s), memory at most %d MiB\n", n ? sum / n : 0, n, most }' \
        "$out/utilisation.csv" | tee "$out/utilisation.txt" >&2
fi
[ -n "$dry" ] || say "results: $(ls "$out" | tr '\n' ' ')"
exit "$failed"
