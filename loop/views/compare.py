"""Several runs side by side, round by round: a table to read, or a dictionary for a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.views.measures import BY_KEY, MEASURES, Measure, Value, labels
from ouroloop.loop.views.progress import DASH, markdown
from ouroloop.loop.views.reader import RoundData, RunData, read_run
from ouroloop.loop.views.statistics import column

# What fits into a terminal with two runs side by side; `--json` has all.
TABLE_KEYS = ("pass@1", "dcp", "strategy_entropy", "overconfidence", "yield")


def compare(paths: Sequence[Path]) -> dict[str, Any]:
    """Every measure of every round of every run, as plain JSON values.

    An undefined value is null, with its reason.

    Raises:
        RunStateError: a path is not a run directory.
    """
    runs = [read_run(path) for path in paths]
    measures = {
        m.key: {"id": m.estimand.id, "title": m.title, "unit": m.unit, "meaning": m.meaning}
        for m in MEASURES
    }
    named = zip(labels(runs), runs, strict=True)
    return {"measures": measures, "runs": {name: _run(run) for name, run in named}}


def compare_table(comparison: dict[str, Any], keys: Sequence[str] = TABLE_KEYS) -> str:
    """The comparison as a Markdown table.

    One row per round, the runs side by side within each measure; then one line per run.

    A failed run has a second line with the reason.
    """
    runs: dict[str, Any] = comparison["runs"]
    numbers = sorted({int(number) for run in runs.values() for number in run["rounds"]})
    lines = ["No round is finished yet."]
    if numbers:
        lines = [markdown([_row(runs, str(number), keys) for number in numbers])]
    for name, run in runs.items():
        lines.append(f"{name}: best round {run['best_round']}, checkpoint {run['best_checkpoint']}")
    lines += [f"{name}: failed: {run['failure']}" for name, run in runs.items() if run["failure"]]
    return "\n".join(lines)


def _row(runs: dict[str, Any], number: str, keys: Sequence[str]) -> dict[str, str]:
    """One round of every run; a run that is shorter has dashes."""
    rounds = {name: run["rounds"].get(number) for name, run in runs.items()}
    row = {"round": number}
    for name, round in rounds.items():
        row[f"{name}: decision"] = _decision(round)
    # By measure, then by run: what is compared stands side by side.
    for key in keys:
        for name, round in rounds.items():
            row[f"{name}: {column(BY_KEY[key].estimand)}"] = _cell(BY_KEY[key], round)
    return row


def _decision(round: dict[str, Any] | None) -> str:
    if round is None:
        return DASH
    if round["carried_out"]:
        return str(round["action"])
    return f"{round['action']} (not done)"


def _run(run: RunData) -> dict[str, Any]:
    best = None
    if run.best_round is not None:
        best = run.place(run.best_round)
    return {
        "path": str(run.path),
        "guarded": run.guarded,
        "state": run.state,
        "failure": run.failure or None,
        "best_round": run.best_round,
        "best_checkpoint": best,
        "rounds": {str(round.number): _round(round) for round in run.rounds},
    }


def _round(round: RoundData) -> dict[str, Any]:
    values = {m.key: {"id": m.of(round).id, **_plain(m.read(round))} for m in MEASURES}
    return {
        "action": round.action,
        "carried_out": round.carried_out,
        "reasons": list(round.decision.get("reasons", [])),
        **values,
    }


def _plain(value: Value) -> dict[str, float | str | None]:
    plain = value._asdict()
    for key, part in plain.items():
        # JSON has no NaN.
        if isinstance(part, float) and math.isnan(part):
            plain[key] = None
    return plain


def _cell(measure: Measure, round: dict[str, Any] | None) -> str:
    if round is None or round[measure.key]["value"] is None:
        return DASH
    return measure.text(Value(round[measure.key]["value"]), interval=False).replace(" %", "")
