"""Several runs side by side, round by round: a table to read, or a dictionary for a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import UserError
from ouroloop.loop.views import figures
from ouroloop.loop.views.arms import Arm, arms
from ouroloop.loop.views.measures import BY_KEY, MEASURES, Measure, Value, labels, title_of
from ouroloop.loop.views.progress import markdown
from ouroloop.loop.views.reader import NAN, RoundData, RunData, read_run
from ouroloop.loop.views.statistics import DASH, column
from ouroloop.loop.views.svg import save_figure

# What an arm is judged by first; where nobody scores, what is left of it. `--json` has all.
TABLE_KEYS = (
    *("pass@1", "dcp", "strategy_entropy", "overconfidence", "yield"),
    *("apart", "trace_entropy", "length"),
)
# What fits into a terminal with two runs side by side.
TABLE_MEASURES = 5
DRAWN_KEYS = ("pass@1", "dcp", "ways", "apart", "trace_entropy", "overconfidence", "yield")
CHARTS_PER_ROW = 3


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


def compare_table(comparison: dict[str, Any]) -> str:
    """The comparison as a Markdown table.

    One row per round, the arms side by side within each measure; then one line per run.

    A failed run has a second line with the reason.
    """
    runs: dict[str, Any] = comparison["runs"]
    numbers = sorted({int(number) for run in runs.values() for number in run["rounds"]})
    lines = ["No round is finished yet."]
    if numbers:
        shown = [key for key in TABLE_KEYS if _anywhere(comparison, key)][:TABLE_MEASURES]
        lines = [markdown([_row(comparison, str(number), shown) for number in numbers])]
    for name, arm in comparison["arms"].items():
        if len(arm["runs"]) > 1:
            lines.append(f"{name}: mean of {len(arm['runs'])} seeds, 95 % interval of the mean")
    for name, run in runs.items():
        best = "no round is fit to be called best"
        if run["best_round"] is not None:
            best = f"best round {run['best_round']}, checkpoint {run['best_checkpoint']}"
        lines.append(f"{name}: {best}")
    lines += [f"{name}: failed: {run['failure']}" for name, run in runs.items() if run["failure"]]
    return "\n".join(lines)


def _anywhere(comparison: dict[str, Any], key: str) -> bool:
    """Whether the measure is defined in some round of some arm."""
    rounds = [r for arm in comparison["arms"].values() for r in arm["rounds"].values()]
    return any(round[key]["value"] is not None for round in rounds)


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
    # Named, for a table without rows has columns too.
    columns = ["arm", "run", "seed", "round", "action", "carried_out", "measure"]
    table = pd.DataFrame(rows, columns=[*columns, "id", "value", "low", "high", "reason"])
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        table.to_csv(out, index=False)
    elif out.suffix == ".parquet":
        table.to_parquet(out, index=False)
    else:
        raise UserError(
            f"compare --out {out}: got a file ending in {out.suffix or 'nothing'!r}; expected .csv,"
            " .parquet or .svg."
        )
    return out


def draw_comparison(paths: Sequence[Path], out: Path) -> Path:
    """Draw the arms side by side as one SVG: a chart for each of a few measures.

    Several seeds are their mean with its 95 % interval, one run its readings with theirs.

    Raises:
        RunStateError: a path is not a run directory.
        UserError: no measure is defined in any round.
    """
    groups = arms([read_run(path) for path in paths])
    lines = {
        key: {group.name: figures.Line(group.points(BY_KEY[key])) for group in groups}
        for key in DRAWN_KEYS
    }
    defined = [key for key, by_arm in lines.items() if any(map(_is_defined, by_arm.values()))]
    if not defined:
        raise UserError(f"compare --out {out}: no measure is defined in any round of these runs.")

    def draw(figure: Any) -> None:
        wide, high = figures.SIZE
        num_rows = math.ceil(len(defined) / CHARTS_PER_ROW)
        # An inch for the names of the arms.
        figure.set_size_inches(wide * CHARTS_PER_ROW, high * num_rows + 1)
        first = groups[0].first
        for place, key in enumerate(defined, start=1):
            axes = figure.add_subplot(num_rows, CHARTS_PER_ROW, place)
            figures.style(axes)
            floor = None if key == "overconfidence" else 0.0
            figures.draw_curves(axes, lines[key], BY_KEY[key].unit, floor)
            axes.set_title(title_of(BY_KEY[key], first), fontsize=10.5, color=figures.INK)
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)

    out.parent.mkdir(parents=True, exist_ok=True)
    save_figure(draw, out, "compare")
    return out


def _is_defined(line: figures.Line) -> bool:
    return any(value.defined for _, value in line.points)


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
