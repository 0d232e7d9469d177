"""Several runs side by side, round by round: a table to read, or a dictionary for a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.views.measures import BY_KEY, MEASURES, Measure, Value, labels
from ouroloop.loop.views.progress import DASH, markdown
from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.loop.views.statistics import column

TABLE_KEYS = ("pass@1", "dcp", "strategy_entropy", "overconfidence", "yield")


def compare(paths: Sequence[Path]) -> dict[str, Any]:
    """Every measure of every round of every run, as plain JSON values (undefined.

    Value null, with its reason).

    Raises:
        RunStateError: a path is not a run directory.
    """
    runs = [read_run(path) for path in paths]
    names = labels(runs)
    return {
        "measures": {
            m.key: {"id": m.estimand.id, "title": m.title, "unit": m.unit, "meaning": m.meaning}
            for m in MEASURES
        },
        "runs": {
            name: {
                "path": str(run.path),
                "guarded": run.guarded,
                "state": run.state,
                "failure": run.failure or None,
                "best_round": run.best_round,
                "best_checkpoint": (
                    str(run.checkpoint(run.best_round)) if run.best_round is not None else None
                ),
                "rounds": {str(round.number): _round(round) for round in run.rounds},
            }
            for name, run in zip(names, runs, strict=True)
        },
    }


def compare_table(comparison: dict[str, Any], keys: Sequence[str] = TABLE_KEYS) -> str:
    """The comparison as a Markdown table.

    One row per round, the runs side by side within each measure; then one line per run.

    A failed run has a second line with the reason.
    """
    runs: dict[str, Any] = comparison["runs"]
    numbers = sorted({int(number) for run in runs.values() for number in run["rounds"]})
    rows = []
    for number in numbers:
        row = {"round": str(number)}
        for name, run in runs.items():
            round = run["rounds"].get(str(number))
            row[f"{name}: decision"] = (
                DASH
                if round is None
                else round["action"] + ("" if round["carried_out"] else " (not done)")
            )
        for key in keys:
            for name, run in runs.items():
                row[f"{name}: {column(BY_KEY[key].estimand)}"] = _cell(
                    BY_KEY[key], run["rounds"].get(str(number))
                )
        rows.append(row)
    best = [
        f"{name}: best round {run['best_round']}, checkpoint {run['best_checkpoint']}"
        for name, run in runs.items()
    ]
    failed = [f"{name}: failed: {run['failure']}" for name, run in runs.items() if run["failure"]]
    return "\n".join([markdown(rows) if rows else "No round is finished yet.", *best, *failed])


def _round(round: RoundData) -> dict[str, Any]:
    values = {m.key: {"id": m.of(round).id, **_plain(m.read(round))} for m in MEASURES}
    return {
        "action": round.action,
        "carried_out": round.carried_out,
        "reasons": list(round.decision.get("reasons", [])),
        **values,
    }


def _plain(value: Value) -> dict[str, float | str | None]:
    return {
        key: None if isinstance(part, float) and math.isnan(part) else part
        for key, part in value._asdict().items()
    }


def _cell(measure: Measure, round: dict[str, Any] | None) -> str:
    if round is None or round[measure.key]["value"] is None:
        return DASH
    return measure.text(Value(round[measure.key]["value"]), interval=False).replace(" %", "")
