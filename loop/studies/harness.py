"""Run a study's arms over seeds, each in a process of its own: what is finished is kept, what was cut off goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from loop.errors import EngineError
from loop.studies import collapse, planted, rounds


def run(arms: Sequence[str], seeds: Sequence[int], num_rounds: int, runs: Path, out: Path, jobs: int = 1) -> None:
    """Bring every arm of every seed to its end, seed by seed, at most `jobs` at a time; write out/<arm>-<seed>.csv as each finishes.

    Raises:
        EngineError: a run failed; the others that were under way are ended first. Called again, everything goes on from there.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a run does not outlive its study
    todo = [(arm, seed) for seed in seeds for arm in arms if not (out / f"{arm}-{seed}.csv").exists()]
    print(f"{len(arms) * len(seeds) - len(todo)} of {len(arms) * len(seeds)} runs are finished; tables in {out}", flush=True)
    busy: dict[tuple[str, int], tuple[subprocess.Popen[bytes], float]] = {}
    queue = iter(todo)
    try:
        for arm, seed in queue:
            busy[arm, seed] = (_start(arm, seed, num_rounds, runs), time.monotonic())
            while len(busy) >= jobs:
                _collect(busy, runs, out)
        while busy:
            _collect(busy, runs, out)
    finally:
        for process, _ in busy.values():
            process.terminate()
            process.wait()


def finished(out: Path) -> Iterator[tuple[str, int, Path]]:
    """(arm, seed, CSV file) of every run whose table is there."""
    for path in sorted(out.glob("*-*.csv")):
        arm, _, seed = path.stem.rpartition("-")
        if arm in collapse.ARMS and seed.isdigit():
            yield arm, int(seed), path


def _start(arm: str, seed: int, num_rounds: int, runs: Path) -> subprocess.Popen[bytes]:
    """`ouroloop run`, or `resume` where a run of this name was begun; its output goes to a log beside the runs."""
    model = str(planted.plant(runs / "planted")) if collapse.ARMS[arm].get("model") == "planted" else ""
    recipe = collapse.recipe(arm, seed, num_rounds, model)
    path = runs / "recipes" / f"{recipe['name']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    begun = (runs / recipe["name"] / "recipe.json").exists()
    command = ["resume", recipe["name"], "--recipe", str(path)] if begun else ["run", str(path)]
    with (runs / "recipes" / f"{recipe['name']}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "loop", *command, "--runs", str(runs)], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def _collect(busy: dict[tuple[str, int], tuple[subprocess.Popen[bytes], float]], runs: Path, out: Path) -> None:
    """Wait until one of the runs ends and write its table."""
    while True:
        for key, (process, started) in list(busy.items()):
            if process.poll() is None:
                continue
            name = f"{key[0]}-{key[1]}"
            del busy[key]
            if process.returncode not in (0, 3):
                raise EngineError(f"{name} ended with exit code {process.returncode}; see {runs / 'recipes' / name}.log")
            found = rounds.table(runs / name)
            rounds.write(found, out / f"{name}.csv")
            last = found[-1]
            told = f"pass@1 {last['pass_1']:.3f}, DCP {last['dcp']:.3f}, {last['alive']} strategies alive"
            print(f"{name}: {len(found) - 1} rounds in {(time.monotonic() - started) / 60:.1f} minutes; {told}", flush=True)
            return
        time.sleep(1)
