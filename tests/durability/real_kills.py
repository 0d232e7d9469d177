"""A run on real vLLM and real TRL, killed at random moments: minutes for each."""

from __future__ import annotations

import atexit
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import test_loop_on_vllm_and_trl as real
from trials import ROOT, Fault, Trial
from worlds import finished, lost_rows

# One round: it starts an engine, samples, trains, measures and commits, and so do later ones.
RECIPE = {**real.RECIPE, "rounds": 1, "tracking": {"mlflow": False}}
NAME = RECIPE["name"]
PATIENCE_S = 1800.0
# Kills of one run.
MOST_KILLS = 4
# Training takes its time and writes it down; so does what a GPU or another batch may round.
LEAVE_OUT = ("train.json",)


def start(root: Path) -> tuple[subprocess.Popen[bytes], float]:
    """`ouroloop run`, or `resume` where there is a run, in a process group of its own."""
    runs = root / "runs"
    what = ["run", str(root / "recipe.yaml")]
    if (runs / NAME / "recipe.json").exists():
        what = ["resume", NAME]
    command = [sys.executable, "-m", "ouroloop.loop", *what, "--runs", str(runs)]
    with (root / "said.txt").open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    return process, time.time()


@functools.cache
def reference() -> tuple[Path, float]:
    """(folder, seconds) of the undisturbed run."""
    root = Path(tempfile.mkdtemp(prefix="undisturbed-real-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    (root / "recipe.yaml").write_text(json.dumps(RECIPE))
    process, started = start(root)
    code = process.wait(PATIENCE_S)
    if not finished(code):
        raise RuntimeError(f"the undisturbed run ended with {code}: {root / 'said.txt'}")
    return root / "runs" / NAME, time.time() - started


def killed(folder: Path, seed: str, number: int) -> Trial:
    """A run that is killed a few times, each time at a random moment of a whole run's length."""
    before, whole_s = reference()
    rng = random.Random(seed)
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
    num_kills, code, times = 0, None, []
    while not finished(code):
        process, started = start(folder)
        limit = rng.uniform(0, whole_s) if num_kills < MOST_KILLS else PATIENCE_S
        journalled = _num_bytes(folder)
        until = started + limit
        while (code := process.poll()) is None and time.time() < until:
            time.sleep(0.05)
            if num_kills and len(times) < num_kills and _num_bytes(folder) > journalled:
                times.append(time.time() - started)
        if code is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            num_kills += 1
            if num_kills > MOST_KILLS:
                return Trial("SIGKILL, real", number, num_kills, 0, note="it hangs")
        elif not finished(code):
            said = (folder / "said.txt").read_text(errors="replace")[-300:]
            return Trial("SIGKILL, real", number, num_kills, 0, note=f"{code}: {said}")
    lost = lost_rows(folder / "runs" / NAME, before, LEAVE_OUT)
    note = "" if not lost else "rows differ from the undisturbed run's"
    survived = num_kills if not lost else 0
    return Trial("SIGKILL, real", number, num_kills, survived, lost, None, tuple(times), note)


def _num_bytes(folder: Path) -> int:
    """Of everything in the rounds: it grows with the first answer that is kept."""
    files = (folder / "runs" / NAME / "rounds").rglob("*")
    total = 0
    for path in files:
        # What is renamed meanwhile is counted under its new name.
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


FAULTS = (
    Fault(
        "SIGKILL, real",
        "a run on real vLLM and TRL (1 M parameters) is killed at random moments",
        killed,
        enough=12,
        quick=0,
        is_real=True,
    ),
)
