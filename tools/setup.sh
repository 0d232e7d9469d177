#!/usr/bin/env bash
# Make .venv hold what the lock file names and the project itself; return at once when it already does.
#
#   OUROLOOP_PYTHON  interpreter to build .venv with (default: the first of python3.11, python3.12, python3.13, python3 that will do)
#   OUROLOOP_DEVICE  cpu or gpu (default: gpu when nvidia-smi finds a driver, else cpu)
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v flock >/dev/null; then exec 9<tools/setup.sh && flock 9; fi # two `make` at once: the second waits

say() { printf 'set-up: %s\n' "$*" >&2; }
die() { say "$@" && exit 2; }

usable() { "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

choose_python() {
    local candidate
    for candidate in ${OUROLOOP_PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if usable "$candidate"; then command -v "$candidate" && return; fi
    done
    die "no Python 3.11, 3.12 or 3.13 (tried: ${OUROLOOP_PYTHON:-python3.11 python3.12 python3.13 python3})." \
        "Install one, or name it: OUROLOOP_PYTHON=/path/to/python3.11 make ..."
}

# The build of torch that pip would take, without downloading it: prints the wheel's address.
torch_offered() {
    "$venv_python" -m pip install --quiet --dry-run --no-deps --ignore-installed --report - "$torch" 2>>"$log" |
        "$venv_python" -c 'import json, sys, urllib.parse as u; print(u.unquote(json.load(sys.stdin)["install"][0]["download_info"]["url"]))' 2>>"$log"
}

# The CUDA version of the torch in .venv ("None": a CPU build), read from its version file: a wrong build may not import at all.
torch_cuda() {
    "$venv_python" -c 'import importlib.util as i, pathlib as p
scope = {}; exec((p.Path(i.find_spec("torch").origin).parent / "version.py").read_text(), scope); print(scope["cuda"])'
}

wrong_torch() {
    if [ "$device" = cpu ]; then
        die "pip finds only the CUDA build of $torch; vLLM's CPU build needs torch's own CPU build." \
            "Add PyTorch's index of CPU wheels (their install page names it under 'Compute Platform: CPU') and run again:" \
            "export PIP_EXTRA_INDEX_URL=<that address>"
    fi
    die "pip finds only a CPU build of $torch, but there is an NVIDIA driver. Take PyTorch's CPU index or folder out of pip's settings" \
        "(see: python -m pip config list), or go without the GPU: OUROLOOP_DEVICE=cpu"
}

install() { # what, then pip's arguments; a counter on a terminal, everything in the log
    local what=$1 total=$2
    shift 2
    "$venv_python" -m pip install --no-deps --progress-bar off "$@" 2>&1 | tee -a "$log" |
        awk -v total="$total" -v tty="$([ -t 2 ] && echo 1)" \
            'tty && /^Collecting /{ printf "\rset-up: %d of %d packages", ++n, total > "/dev/stderr" }
             tty && /^Installing collected/{ printf ", unpacking" > "/dev/stderr" }
             END { if (n) print "" > "/dev/stderr" }' ||
        { tail -n 15 "$log" >&2 && die "installing $what failed; the whole log: $log"; }
}

case ${OUROLOOP_DEVICE:=$(nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)} in
cpu | gpu) device=$OUROLOOP_DEVICE ;;
*) die "OUROLOOP_DEVICE is '$OUROLOOP_DEVICE'; expected cpu or gpu." ;;
esac
python=$(choose_python)
lock=requirements/$device.lock
identity="$device $("$python" -c 'import sys; print(sys.version.split()[0])') $PWD"
contents=$(cat "$lock" pyproject.toml tools/setup.sh | cksum)
[ "$(cat .venv/identity .venv/contents 2>/dev/null)" != "$identity"$'\n'"$contents" ] || exit 0

if [ "$(cat .venv/identity 2>/dev/null)" != "$identity" ]; then
    [ ! -e .venv ] || [ -e .venv/identity ] || die ".venv was not made by this script; move it away and run again."
    rm -rf .venv && mkdir .venv && echo "$identity" >.venv/identity
fi
venv_python=.venv/bin/python log=.venv/install.log
rm -f .venv/contents
"$venv_python" -m pip --version >/dev/null 2>&1 || "$python" -m venv .venv ||
    die "$python cannot make a virtual environment with pip (on Debian and Ubuntu: apt install python3-venv)."

started=$SECONDS total=$(grep -c '==' "$lock") torch=$(grep -E '^torch==' "$lock")
say "installing $total packages of $lock into .venv with $("$python" --version) (some minutes, once)"
if [ "$(uname -sm)" = "Linux x86_64" ]; then
    case $device-$(torch_offered) in
    ?pu-) tail -n 15 "$log" >&2 && die "pip finds no $torch; the whole log: $log" ;;
    cpu-*+cpu*) ;;
    gpu-*+cpu* | cpu-*) wrong_torch ;;
    esac
fi
install torch 1 "$torch"
if [ "$device $(torch_cuda)" = "gpu None" ] || [ "$device" = cpu ] && [ "$(torch_cuda)" != None ]; then
    "$venv_python" -m pip uninstall --quiet --yes torch
    wrong_torch
fi
install "$lock" "$total" -r "$lock"
install "the project" 1 --no-build-isolation -e .
"$venv_python" -m compileall -q -j 0 loop monitors evals # else the first command, and each worker of the first tests, does it
echo "$contents" >.venv/contents
say "ready after $((SECONDS - started)) s"
