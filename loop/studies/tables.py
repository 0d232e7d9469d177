"""What a study's runs come to: one line per arm over its seeds, and the frontier between accuracy gained and breadth kept."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loop.studies import collapse, harness, rounds
from monitors.stats import mean

Rows = Sequence[Mapping[str, Any]]
FALL = 0.02
"""Points below round 0 (pass@1) or below the best so far (tail pass@k) that count as the fall that a warning should come before."""


def gained(name: str) -> Callable[[Rows], float]:
    """The last round's value."""
    return lambda run: float(run[-1][name])


def kept(name: str) -> Callable[[Rows], float]:
    """The last round's value over round 0's."""
    return lambda run: float(run[-1][name]) / float(run[0][name])


COLUMNS: dict[str, tuple[Callable[[Rows], float], str]] = {
    "pass@1": (gained("pass_1"), "%"),
    "greedy": (gained("greedy"), "%"),
    "maj@16": (gained("maj_k"), "%"),
    "tail pass@8": (gained("tail_pass_k"), "%"),
    "DCP kept": (kept("dcp"), "%"),
    "strategies alive": (gained("alive"), ""),
    "rarest share": (lambda run: min(float(run[-1][f"share_{s}"]) for s in rounds.STRATEGIES), "%"),
    "over-confidence": (gained("overconfidence"), "%"),
}


def first(run: Rows, *actions: str) -> float:
    """The first round with one of these decisions; NaN if there is none."""
    return next((float(row["round"]) for row in run if row["action"] in actions), math.nan)


def fallen(run: Rows) -> float:
    """The first round in which pass@1 or the tail's pass@k was seen `FALL` below its best so far, NaN if none was. Seen: both are estimates."""
    best = {"pass_1": -math.inf, "tail_pass_k": -math.inf}
    for row in run:
        for name, value in best.items():
            if float(row[name]) < value - FALL:
                return float(row["round"])
            best[name] = max(value, float(row[name]))
    return math.nan


def markdown(out: Path) -> str:
    """The table of all finished runs in `out`: mean over seeds with its 95 % t interval, then the decisions of every run."""
    runs: dict[str, dict[int, Rows]] = defaultdict(dict)
    for arm, seed, path in harness.finished(out):
        runs[arm][seed] = rounds.read(path)
    lines = [f"| arm | seeds | rounds | {' | '.join(COLUMNS)} |", "|---" * (3 + len(COLUMNS)) + "|"]
    for arm in (a for a in collapse.ARMS if a in runs):
        found = list(runs[arm].values())
        cells = [_cell([column(run) for run in found], unit) for column, unit in COLUMNS.values()]
        lines.append(f"| {arm} | {len(found)} | {_range([len(r) - 1 for r in found])} | {' | '.join(cells)} |")
    lines += ["", "| arm | seed | first WATCH or HALT | first HALT | pass@1 or tail pass@8 2 points below its best | modes named |"]
    lines += ["|---|---|---|---|---|---|"]
    for arm in (a for a in collapse.ARMS if a in runs):
        for seed, run in sorted(runs[arm].items()):
            modes = "".join(sorted({str(row["mode"]) for row in run if row["mode"]})) or "-"
            when = [first(run, "reinject", "rollback", "halt"), first(run, "rollback", "halt"), fallen(run)]
            lines.append(f"| {arm} | {seed} | {' | '.join('-' if math.isnan(w) else f'{w:.0f}' for w in when)} | {modes} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float], unit: str) -> str:
    estimate = mean(values)
    scale, digits = (100, 1) if unit == "%" else (1, 1)
    shown = f"{scale * estimate.value:.{digits}f}"
    if len(values) > 1 and math.isfinite(estimate.low):
        shown += f" [{scale * estimate.low:.{digits}f}, {scale * estimate.high:.{digits}f}]"
    return shown


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)}-{max(values)}"
