"""`ouroloop monitor`: the rounds of somebody else's loop, judged from their traces.

As a table and sentences or as JSON.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ouroloop.loop.errors import DataError, RecipeError
from ouroloop.loop.views.lookup import MAIN, find
from ouroloop.loop.views.progress import DASH, markdown
from ouroloop.loop.views.statistics import column, statistic_of, written
from ouroloop.monitors.base import Reading
from ouroloop.monitors.decision.evidence import plain
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.follower import Follower, Judged, trace_monitors
from ouroloop.monitors.metrics.readings import most_samples
from ouroloop.monitors.traces.reader import Traces, main_family, read_traces
from ouroloop.monitors.traces.rows import TraceError

HORIZON = 20
"""Planned rounds when nobody says how many: the rule's own default."""


COLUMNS = (
    Estimand("accuracy/pass@1", MAIN),
    Estimand("accuracy/pass@k", MAIN),
    Estimand("diversity/dcp", MAIN),
    Estimand("coverage/alive@n"),
    Estimand("coverage/rare_retention"),
    Estimand("calibration/overconfidence@n", MAIN),
    Estimand("entropy/token"),
    Estimand("length/tokens"),
    Estimand("supply/yield", samples="pool"),
)
"""Numbers of the table, the family and the number in the statistic left open."""


class Watched(NamedTuple):
    """Everything that was read and judged."""

    rule: DecisionRule
    traces: Traces
    rounds: list[Judged]

    @property
    def exit_code(self) -> int:
        """3 when any round has HALT evidence."""
        return 3 if any(judged.is_halt for judged in self.rounds) else 0


def monitor(
    paths: Sequence[Path],
    strategies: str | None = None,
    settings: Sequence[str] = (),
    plan_rounds: int | None = None,
    temperature: float = 1.0,
    keep_order: bool = False,
    anchors: Sequence[int] = (0,),
) -> Watched:
    """Read one file per round, the anchor first, and judge every round.

    Anchors: the rounds that later ones are held against, 0 among them.

    Raises:
        DataError: the traces are wrong.
        RecipeError: a setting is wrong.
    """
    if not anchors or anchors[0] != 0 or list(anchors) != sorted(set(anchors)):
        raise RecipeError(
            f"--anchors {' '.join(map(str, anchors))}: expected rounds in ascending order,"
            " beginning with 0, e.g. --anchors 0 1"
        )
    panel = dataclasses.replace(
        rule_of(settings, plan_rounds or max(HORIZON, len(paths))), num_baselines=len(anchors)
    )
    try:
        traces = read_traces(paths, strategies, keep_order)
        if not panel.main_family:
            panel = dataclasses.replace(panel, main_family=main_family(traces.views[0]))
        elif panel.main_family not in (known := sorted(set(traces.views[0].probe.family))):
            raise RecipeError(
                f"--set main_family={panel.main_family}: no such family in {paths[0]}; expected one"
                f" of {', '.join(known)}."
            )
        num_samples = min(max(1, most_samples(view.probe)) for view in traces.views)
        follower = Follower(
            panel,
            trace_monitors(panel, num_samples, temperature),
            baselines=tuple(anchors),
        )
        return Watched(panel, traces, [follower.judge(view) for view in traces.views])
    except TraceError as error:
        raise DataError(str(error)) from error


def rule_of(settings: Sequence[str], rounds: int) -> DecisionRule:
    """The rule with its defaults, changed by `name=value` settings.

    Raises:
        RecipeError: an unknown name, or an impossible value.
    """
    kinds: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(DecisionRule)} | {
        "main_family": ""
    }
    values: dict[str, Any] = {"main_family": "", "rounds": rounds}
    for text in settings:
        name, sep, value = text.partition("=")
        if not sep or name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1, cutoff=0.5)
            hint = (
                f"Did you mean {near[0]!r}?"
                if near and near[0] != name
                else f"Known names: {', '.join(kinds)}."
            )
            raise RecipeError(
                f"--set {text}: expected name=value with a field of the decision rule, e.g. --set"
                f" accuracy_loss=0.02. {hint}"
            )
        kind = type(kinds[name])
        try:
            values[name] = kind(value)
            if isinstance(values[name], float) and not 0 <= values[name] <= 1:
                raise ValueError
        except ValueError:
            expected = {int: "a whole number", float: "a number in [0, 1]"}.get(kind, "a text")
            raise RecipeError(
                f"--set {text}: got {value!r}; expected {expected}, e.g. {name}={kinds[name]}."
            ) from None
    try:
        return DecisionRule(**values)
    except ValueError as error:
        raise RecipeError(f"--set: {error}") from None


def text(watched: Watched) -> str:
    """The table, a sentence per round, what could not be measured and why, and the verdict."""
    rounds, names = watched.rounds, watched.traces.sources
    out = [table(watched), ""]
    out += [sentence(judged, name) for judged, name in zip(rounds, names, strict=True)]
    said = [
        *watched.traces.notes,
        *(note for judged in rounds for note in judged.notes),
        *unmeasured(rounds),
    ]
    if said:
        out += ["", *said]
    halted = [judged.decision.round for judged in rounds if judged.is_halt]
    return "\n".join([*out, "", _verdict(watched.rule, halted, len(rounds))])


def sentence(judged: Judged, source: str) -> str:
    """`round 3 (traces/r3.jsonl): reinject - why, with numbers`."""
    decision = judged.decision
    mode = f" [mode {decision.mode}]" if decision.mode else ""
    return (
        f"round {decision.round} ({source}): {decision.action}{mode} -"
        f" {'; '.join(decision.reasons)}"
    )


def table(watched: Watched) -> str:
    """A row per round: the readings with their 95 % intervals, and the evidence of both tiers.

    Columns that no round has are left out.
    """
    rows, main = [], watched.rule.main_family
    columns = [[find(judged.readings, each, main) for judged in watched.rounds] for each in COLUMNS]
    for index, judged in enumerate(watched.rounds):
        row = {"round": str(judged.decision.round), "decision": judged.decision.action}
        for found in columns:
            head = next((column(reading.estimand) for reading in found if reading), None)
            if head is not None:
                row[head] = _cell(found[index])
        for tier in ("watch", "halt"):
            evidence = judged.decision.details.get(tier)
            row[f"{tier.upper()} e"] = (
                f"{plain(evidence['log_e'])} of {plain(evidence['log_limit'])}"
                if evidence
                else DASH
            )
        rows.append(row)
    empty = [head for head in rows[0] if all(row[head] == DASH for row in rows)]
    return markdown(
        [{head: cell for head, cell in row.items() if head not in empty} for row in rows]
    )


def _cell(reading: Reading | None) -> str:
    """A reading with its interval; a dash where it is undefined."""
    if reading is None or math.isnan(reading.value):
        return DASH
    return written(reading, statistic_of(reading.estimand).unit)


def unmeasured(rounds: Sequence[Judged]) -> list[str]:
    """`not measured: names: reason (rounds)`.

    Readings of one reason and quantities without a guard in one line each.
    """
    by_reason: dict[tuple[str, str], dict[str, list[int]]] = {}
    for judged in rounds:
        number = judged.decision.round
        items = [
            ("not measured", r.reason, r.name)
            for r in judged.readings
            if r.status != "ok" and not (number == 0 and "round 0" in r.reason)
        ]
        items += [
            ("not guarded", reason, name)
            for name, reason in judged.decision.details.get("unmeasured", {}).items()
        ]
        for kind, reason, name in items:
            by_reason.setdefault((kind, reason), {}).setdefault(name, []).append(number)
    out = []
    for (kind, reason), names in by_reason.items():
        numbers = sorted({n for found in names.values() for n in found})
        where = (
            "" if len(numbers) >= len(rounds) - 1 else f" (round {', '.join(map(str, numbers))})"
        )
        out.append(f"{kind}: {', '.join(names)}: {reason}{where}")
    return out


def to_json(watched: Watched) -> dict[str, Any]:
    """Everything for a script; undefined is null with its reason."""
    rounds = zip(watched.rounds, watched.traces.sources, strict=True)
    return {
        "rule": dataclasses.asdict(watched.rule),
        "notes": list(watched.traces.notes),
        "exit_code": watched.exit_code,
        "rounds": [judged_json(judged) | {"source": source} for judged, source in rounds],
    }


def judged_json(judged: Judged) -> dict[str, Any]:
    """One round: the decision with its details, the readings, the notes."""
    decision = dataclasses.asdict(judged.decision)
    return {
        **decision,
        "reasons": list(judged.decision.reasons),
        "readings": list(readings_json(judged)),
        "notes": list(judged.notes),
    }


def readings_json(judged: Judged) -> Iterable[dict[str, Any]]:
    """Readings as plain JSON values."""
    return (reading.to_json() for reading in judged.readings)


def _verdict(panel: DecisionRule, halted: Sequence[int], num: int) -> str:
    chance = (
        "in a run in which no guarded quantity is ever worse than tolerated, the chance of any is"
        f" at most {panel.alpha:.0%}"
    )
    if halted:
        return (
            f"HALT evidence in round {', '.join(map(str, halted))} of {num - 1}: go back to a round"
            f" before, or stop ({chance})."
        )
    if num == 1:
        return "Only the anchor so far: name the later rounds' files after it."
    return (
        f"No HALT evidence in {num - 1} round{'s' * (num > 2)} ({chance}, over {panel.rounds}"
        " planned rounds)."
    )
