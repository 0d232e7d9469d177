"""Several runs side by side, round by round: a table to read, or a dictionary for a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import UserError
from ouroloop.loop.views.arms import Arm, arms
from ouroloop.loop.views.measures import BY_KEY, MEASURES, Measure, Value, labels
from ouroloop.loop.views.progress import DASH, markdown
from ouroloop.loop.views.reader import NAN, RoundData, RunData, read_run
from ouroloop.loop.views.statistics import column

# What fits into a terminal with two runs side by side; `--json` has all.
TABLE_KEYS = ("pass@1", "dcp", "strategy_entropy", "overconfidence", "yield")


def compare(paths: Sequence[Path]) -> dict[str, Any]:
    """Every measure of every round of every run, as plain JSON values.

    An undefined value is null, with its reason. Under `arms`, runs that differ in their seed alone
    are together: the mean over seeds, and its 95 % interval.

    Raises:
        RunStateError: a path is not a run directory.
    """
    runs = [read_run(path) for path in paths]
    measures = {
        m.key: {"id": m.estimand.id, "title": m.title, "unit": m.unit, "meaning": m.meaning}
        for m in MEASURES
    }
    named = dict(zip(labels(runs), runs, strict=True))
    name_of = {run.path: name for name, run in named.items()}
    return {
        "measures": measures,
        "runs": {name: _run(run) for name, run in named.items()},
        "arms": {
            arm.name: {"runs": [name_of[run.path] for run in arm.runs], "rounds": _rounds(arm)}
            for arm in arms(runs)
        },
    }


def compare_table(comparison: dict[str, Any], keys: Sequence[str] = TABLE_KEYS) -> str:
    """The comparison as a Markdown table.

    One row per round, the arms side by side within each measure; then one line per run.

    A failed run has a second line with the reason.
    """
    runs: dict[str, Any] = comparison["runs"]
    numbers = sorted({int(number) for run in runs.values() for number in run["rounds"]})
    lines = ["No round is finished yet."]
    if numbers:
        lines = [markdown([_row(comparison, str(number), keys) for number in numbers])]
    for name, arm in comparison["arms"].items():
        if len(arm["runs"]) > 1:
            lines.append(f"{name}: mean of {len(arm['runs'])} seeds, 95 % interval of the mean")
    for name, run in runs.items():
        lines.append(f"{name}: best round {run['best_round']}, checkpoint {run['best_checkpoint']}")
    lines += [f"{name}: failed: {run['failure']}" for name, run in runs.items() if run["failure"]]
    return "\n".join(lines)


def write_comparison(comparison: dict[str, Any], out: Path) -> Path:
    """Write the comparison as a tidy table: a row for each run, round and measure.

    Args:
        comparison: what `compare` gave.
        out: a `.csv` or `.parquet` file.

    Raises:
        UserError: another suffix.
    """
    import pandas as pd

    arm_of = {name: arm for arm, found in comparison["arms"].items() for name in found["runs"]}
    rows = [
        {
            "arm": arm_of[name],
            "run": name,
            "seed": run["seed"],
            "round": int(number),
            "action": round["action"],
            "carried_out": round["carried_out"],
            "measure": key,
            **round[key],
        }
        for name, run in comparison["runs"].items()
        for number, round in run["rounds"].items()
        for key in comparison["measures"]
    ]
    table = pd.DataFrame(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        table.to_csv(out, index=False)
    elif out.suffix == ".parquet":
        table.to_parquet(out, index=False)
    else:
        raise UserError(
            f"compare --out {out}: got a file ending in {out.suffix or 'nothing'!r}; expected .csv"
            " or .parquet. For a picture of the runs: `ouroloop report RUN RUN`."
        )
    return out


def _rounds(arm: Arm) -> dict[str, Any]:
    """Round -> the decisions of the arm's runs, and every measure's mean over them."""
    found: dict[str, Any] = {}
    for run in arm.runs:
        for round in run.rounds:
            entry = found.setdefault(str(round.number), {"decisions": {}})
            decision = round.action if round.carried_out else f"{round.action} (not done)"
            entry["decisions"][decision] = entry["decisions"].get(decision, 0) + 1
    for measure in MEASURES:
        for number, value in arm.points(measure):
            found[str(number)][measure.key] = _plain(value)
    return found


def _row(comparison: dict[str, Any], number: str, keys: Sequence[str]) -> dict[str, str]:
    """One round of every arm; an arm that is shorter has dashes."""
    found = comparison["arms"]
    rounds = {name: arm["rounds"].get(number) for name, arm in found.items()}
    row = {"round": number}
    for name, round in rounds.items():
        row[f"{name}: decision"] = _decision(round)
    # By measure, then by arm: what is compared stands side by side.
    for key in keys:
        for name, round in rounds.items():
            several = len(found[name]["runs"]) > 1
            row[f"{name}: {column(BY_KEY[key].estimand)}"] = _cell(BY_KEY[key], round, several)
    return row


def _decision(round: dict[str, Any] | None) -> str:
    """`reinject`, or of several seeds `2 continue, 1 reinject`."""
    if round is None:
        return DASH
    decisions = round["decisions"]
    if sum(decisions.values()) == 1:
        return str(next(iter(decisions)))
    return ", ".join(f"{count} {decision}" for decision, count in decisions.items())


def _run(run: RunData) -> dict[str, Any]:
    best = None
    if run.best_round is not None:
        best = run.place(run.best_round)
    return {
        "path": str(run.path),
        "seed": run.recipe.get("seed"),
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


def _cell(measure: Measure, round: dict[str, Any] | None, interval: bool) -> str:
    if round is None or round[measure.key]["value"] is None:
        return DASH
    value, low, high = (
        NAN if part is None else float(part)
        for part in map(round[measure.key].get, ("value", "low", "high"))
    )
    return measure.text(Value(value, low, high), interval).replace(" %", "")
