"""Real runs of this project as runs of the benchmark."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.errors import DataError
from ouroloop.loop.views.reader import RunData, read_run
from ouroloop.monitors.base import Samples
from ouroloop.monitors.bench.alarms.evaluate import RunFacts
from ouroloop.monitors.bench.alarms.history import MAIN
from ouroloop.monitors.bench.alarms.lock import Split

REAL = "real"
# "sharpen-3", "sharpen_seed3": what is counted is the seed, the rest is the arm.
_SEED = re.compile(r"[-_.]?(?:seed|s)?[-_]?\d+$")


def run_folders(folder: Path) -> list[Path]:
    """The runs in a folder, at any depth, in order.

    Raises:
        DataError: there is none.
    """
    found = sorted(path.parent for path in folder.rglob("recipe.json"))
    found = [path for path in found if (path / "rounds").is_dir()]
    if not found:
        raise DataError(
            f"--runs {folder}: no run in it; expected folders with a recipe.json and rounds/, as"
            " `ouroloop run` leaves them."
        )
    return found


def real_runs(folder: Path, healthy: Sequence[str]) -> Iterator[tuple[RunFacts, dict[str, Any]]]:
    """Every run with a round after its baseline: what is known of it, and its samples.

    Args:
        folder: of runs.
        healthy: patterns of the names of runs that are healthy by their design.
    """
    for path in run_folders(folder):
        run = read_run(path)
        # Without a later round there is nothing to raise an alarm about.
        if len(run.rounds) > 1:
            yield _facts(run, path.relative_to(folder), healthy), _columns(run)


def _facts(run: RunData, place: Path, healthy: Sequence[str]) -> RunFacts:
    name = "-".join(place.parts) or run.name
    is_healthy = any(fnmatch(name, pattern) for pattern in healthy)
    return RunFacts(
        run=name,
        kind=REAL,
        regime=_SEED.sub("", name) or name,
        # Nobody knows what is true of the others: they are shown, and no power is read from them.
        healthy=True if is_healthy else None,
        split=Split.EVALUATION,
        rounds=len(run.rounds) - 1,
    )


def _columns(run: RunData) -> dict[str, Any]:
    """The probe set's samples of every round, one entry of each column a sample."""
    parts = []
    for a_round in run.rounds:
        probe = a_round.view.probe
        parts.append(_of_round(a_round.number, probe, run.rounds[0].main_family))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _of_round(number: int, probe: Samples, main_family: str) -> dict[str, Any]:
    is_main_N = probe.family == main_family
    # A sample is known by its place among its problem's.
    counted: dict[str, int] = {}
    sample_N = np.zeros(len(probe), dtype=np.int16)
    for row, problem in enumerate(probe.problem):
        sample_N[row] = counted.get(problem, 0)
        counted[problem] = counted.get(problem, 0) + 1
    correct_N = np.array([None if np.isnan(x) else x == 1 for x in probe.correct], dtype=object)
    return {
        "round": np.full(len(probe), number, dtype=np.int16),
        "family": np.where(is_main_N, MAIN, probe.family).astype(object),
        "slice": probe.slice,
        "problem": probe.problem,
        "sample": sample_N,
        "correct": correct_N,
        "strategy": probe.strategy,
        "answer": probe.answer,
    }
