"""`ouroloop monitor`: the rounds of any loop, judged from their traces.

As a table and sentences, or as JSON.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ouroloop.loop.errors import DataError, RecipeError
from ouroloop.loop.models.encoders import encoder_of
from ouroloop.loop.traces.frameworks import read_framework
from ouroloop.loop.traces.scoring import Scoring
from ouroloop.loop.traces.tables import read_own
from ouroloop.loop.views.headlines import NUM_APPROVALS, approved_in
from ouroloop.loop.views.lookup import MAIN, find
from ouroloop.loop.views.own_rounds import positions, renumbered
from ouroloop.loop.views.own_rounds import sentence as sentence_of
from ouroloop.loop.views.progress import markdown
from ouroloop.loop.views.statistics import DASH, column, statistic_of, written
from ouroloop.loop.views.verdict import verdict
from ouroloop.monitors.base import Reading
from ouroloop.monitors.decision import guarded
from ouroloop.monitors.decision.reasons import why
from ouroloop.monitors.decision.records import plain
from ouroloop.monitors.decision.rule import OPEN_SHARES, DecisionRule
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.follower import Follower, Judged, trace_monitors
from ouroloop.monitors.names import Tier, mode_label
from ouroloop.monitors.traces.clusters import TraceClusters, When
from ouroloop.monitors.traces.reader import Traces, main_family
from ouroloop.monitors.traces.rows import TraceError

# Planned rounds when nobody says how many: the rule's own default.
HORIZON = 20
# Numbers of the table, the family and the number in the statistic left open.
COLUMNS = (
    Estimand("accuracy/pass@1", MAIN),
    Estimand("accuracy/pass@k", MAIN),
    Estimand("diversity/dcp", MAIN),
    Estimand("ways/several@n", MAIN),
    Estimand("clusters/apart"),
    Estimand("coverage/rare_retention"),
    Estimand("calibration/overconfidence@n", MAIN),
    Estimand("entropy/token"),
    Estimand("length/tokens"),
    Estimand("supply/yield", samples="pool"),
)


class Watched(NamedTuple):
    """Everything that was read and judged."""

    rule: DecisionRule
    traces: Traces
    rounds: list[Judged]

    @property
    def exit_code(self) -> int:
        """3 when any round has HALT evidence."""
        if any(judged.is_halt for judged in self.rounds):
            return 3
        return 0


def monitor(
    paths: Sequence[Path],
    strategies: str | None = None,
    clusters: str | None = None,
    settings: Sequence[str] = (),
    plan_rounds: int | None = None,
    temperature: float = 1.0,
    keep_order: bool = False,
    baselines: Sequence[int] = (0,),
    framework: str | None = None,
    scoring: Scoring | None = None,
) -> Watched:
    """Read every round, the baseline round first, and judge it.

    Args:
        paths: one file per round, in their order; or one file with a column `round`.
        strategies: How strategies are named from the texts; None: `operators`, where the rows name
            none themselves.
        clusters: The encoder of response clusters, or "none"; None: `lexical`, where some problem
            has no row that says whether it is right, and no row has a cluster of its own.
        settings: `name=value` settings of the decision rule.
        plan_rounds: Rounds planned in all, over which the chance of a false HALT is shared.
        temperature: At which the traces were sampled.
        keep_order: Take the files in the given order whatever their names say.
        baselines: The rounds that later ones are compared with, 0 among them.
        framework: What wrote the files, where it was another than this project.
        scoring: How that framework's rewards become verdicts.

    Raises:
        DataError: the traces are wrong.
        RecipeError: a setting is wrong.
    """
    _check_baselines(baselines)
    rule = rule_of(settings, plan_rounds or HORIZON)
    try:
        own = trace_clusters(clusters)
        if framework is None:
            traces = read_own(paths, strategies, keep_order, own)
        else:
            traces = read_framework(framework, paths, scoring, strategies, own)
        traces = dataclasses.replace(traces, notes=_notes(traces, baselines))
        planned = plan_rounds or max(HORIZON, len(traces.views))
        rule = dataclasses.replace(rule, rounds=planned, num_baselines=len(baselines))
        rule = _with_main_family(rule, traces, paths[0])
        # Readings of k samples are compared over rounds, so k is what every round has.
        monitors = trace_monitors(rule, traces.num_samples, temperature)
        follower = Follower(rule, monitors, baselines=positions(baselines, traces.numbers))
        return Watched(rule, traces, renumbered(map(follower.judge, traces.views), traces.numbers))
    except TraceError as error:
        raise DataError(str(error)) from error


def _check_baselines(baselines: Sequence[int]) -> None:
    if not baselines or baselines[0] != 0 or list(baselines) != sorted(set(baselines)):
        raise RecipeError(
            f"--baselines {' '.join(map(str, baselines))}: expected rounds in ascending order,"
            " beginning with 0, e.g. --baselines 0 1"
        )


def _notes(traces: Traces, baselines: Sequence[int]) -> tuple[str, ...]:
    """What has to be said of the traces, and which baselines are no round yet."""
    notes = tuple(sentence_of(note, traces.numbers) for note in traces.notes)
    num = len(traces.views)
    places = zip(baselines, positions(baselines, traces.numbers), strict=True)
    missing = ", ".join(str(number) for number, place in places if place >= num)
    if not missing:
        return notes
    last = (traces.numbers or range(num))[-1]
    return (*notes, f"--baselines: round {missing} is not there yet; the last one is {last}")


def trace_clusters(name: str | None) -> TraceClusters:
    """What `--clusters` asks for.

    Raises:
        CheckpointError: no such encoder.
    """
    if name is None:
        return TraceClusters()
    if name == "none":
        return TraceClusters(when=When.NEVER)
    return TraceClusters(encoder_of(name), When.ALWAYS)


def _with_main_family(rule: DecisionRule, traces: Traces, path: Path) -> DecisionRule:
    """The rule with the main family of the traces, unless it names one itself."""
    first = traces.views[0]
    if not rule.main_family:
        return dataclasses.replace(rule, main_family=main_family(first))
    known = sorted(set(first.probe.family))
    if rule.main_family not in known:
        raise RecipeError(
            f"--set main_family={rule.main_family}: no such family in {path}; expected one of"
            f" {', '.join(known)}."
        )
    return rule


def rule_of(settings: Sequence[str], rounds: int) -> DecisionRule:
    """The rule with its defaults, changed by `name=value` settings.

    Raises:
        RecipeError: an unknown name, or an impossible value.
    """
    kinds: dict[str, Any] = DecisionRule("").to_json()
    del kinds["guarded"]
    values: dict[str, Any] = {"main_family": "", "rounds": rounds}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in kinds:
            raise RecipeError(
                f"--set {setting}: expected name=value with a field of the decision rule, e.g."
                f" --set accuracy_loss=0.02. {_hint(name, kinds)}"
            )
        values[name] = _value_of(setting, value, kinds[name])
    try:
        tolerances = {name: values.pop(name) for name in guarded.tolerances() if name in values}
        return DecisionRule(tolerances=tolerances, **values)
    except ValueError as error:
        raise RecipeError(f"--set: {error}") from None


def _value_of(setting: str, value: str, default: Any) -> Any:
    """The text as a value of the default's type; a real number lies in [0, 1] in every field."""
    kind, name = type(default), setting.partition("=")[0]
    # The rule itself refuses the ends of some, and says so of every number outside.
    share = "a number in (0, 1)" if name in OPEN_SHARES else "a number in [0, 1]"
    try:
        converted = kind(value)
        is_closed = isinstance(converted, float) and name not in OPEN_SHARES
        if is_closed and not 0 <= converted <= 1:
            raise ValueError
        return converted
    except ValueError:
        expected = {int: "a whole number", float: share}.get(kind, "a text")
        raise RecipeError(
            f"--set {setting}: got {value!r}; expected {expected}, e.g. {name}={default}."
        ) from None


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near and near[0] != name:
        return f"Did you mean {near[0]!r}?"
    return f"Known names: {', '.join(known)}."


def text(watched: Watched) -> str:
    """The table, a sentence per round, what could not be measured and why, and the verdict."""
    rounds, sources = watched.rounds, watched.traces.sources
    out = [table(watched), ""]
    out += [sentence(judged, source) for judged, source in zip(rounds, sources, strict=True)]
    notes = [*watched.traces.notes, *(note for judged in rounds for note in judged.notes)]
    notes += unmeasured(rounds)
    if notes:
        out += ["", *notes]
    return "\n".join([*out, "", *verdict(watched.rule, rounds)])


def sentence(judged: Judged, source: str) -> str:
    """`round 3 (traces/r3.jsonl): reinject - why, with numbers`."""
    decision = judged.decision
    mode = ""
    if decision.mode:
        mode = f" [{mode_label(decision.mode)}]"
    # What is guarded is said once, at the end.
    reasons = "; ".join(why(decision))
    return f"round {decision.round} ({source}): {decision.action}{mode} - {reasons}"


def table(watched: Watched) -> str:
    """A row per round: the readings with their 95 % intervals, and the evidence of both tiers.

    Columns that no round has are left out.
    """
    rounds, main = watched.rounds, watched.rule.main_family
    wanted = (*approved_in(rounds[0].readings)[:NUM_APPROVALS], *COLUMNS)
    columns = [[find(judged.readings, each, main) for judged in rounds] for each in wanted]
    rows = [
        _row(judged, [found[index] for found in columns], _heads(columns))
        for index, judged in enumerate(rounds)
    ]
    kept = [head for head in rows[0] if any(row[head] != DASH for row in rows)]
    return markdown([{head: row[head] for head in kept} for row in rows])


def _heads(columns: Sequence[Sequence[Reading | None]]) -> list[str | None]:
    """The head of each column, from the first round that has its reading."""
    firsts = (next((reading for reading in found if reading), None) for found in columns)
    return [column(reading.estimand) if reading else None for reading in firsts]


def _row(
    judged: Judged, found: Sequence[Reading | None], heads: Sequence[str | None]
) -> dict[str, str]:
    """One round's cells by the heads of their columns."""
    row = {"round": str(judged.decision.round), "decision": str(judged.decision.action)}
    for head, reading in zip(heads, found, strict=True):
        if head is not None:
            row[head] = _cell(reading)
    for tier in Tier:
        evidence = judged.decision.evidence.get(tier)
        cell = DASH
        if evidence:
            cell = f"{plain(evidence.log_e)} / {plain(evidence.log_limit)}"
        row[f"{tier.upper()} e / limit"] = cell
    return row


def _cell(reading: Reading | None) -> str:
    """A reading with its interval; a dash where it is undefined."""
    if reading is None or math.isnan(reading.value):
        return DASH
    return written(reading, statistic_of(reading.estimand).unit)


def unmeasured(rounds: Sequence[Judged]) -> list[str]:
    """`not measured: names: reason (rounds)`.

    Readings of one reason and quantities without a guard in one line each.
    """
    # One reason often explains many readings: it is written once.
    by_reason: dict[tuple[str, str], dict[str, list[int]]] = {}
    for judged in rounds:
        for kind, reason, name in _gaps(judged, is_first=judged is rounds[0]):
            names = by_reason.setdefault((kind, reason), {})
            names.setdefault(name, []).append(judged.decision.round)
    out = []
    for (kind, reason), names in by_reason.items():
        numbers = sorted({number for found in names.values() for number in found})
        where = ""
        # What is missing in (nearly) every round is a property of the run, not of a round.
        if len(numbers) < len(rounds) - 1:
            where = f" (round {', '.join(map(str, numbers))})"
        out.append(f"{kind}: {', '.join(names)}: {reason}{where}")
    return out


def _gaps(judged: Judged, is_first: bool) -> Iterator[tuple[str, str, str]]:
    """(kind, reason, name) of what one round could not measure or guard."""
    for reading in judged.readings:
        # The first is what others are compared with: that it is not compared itself says nothing.
        is_expected = is_first and f"round {judged.decision.round}" in reading.reason
        if reading.status != "ok" and not is_expected:
            yield "not measured", reading.reason, reading.name
    for gap in judged.decision.unmeasured:
        yield "not guarded", gap.reason, gap.name


def to_json(watched: Watched) -> dict[str, Any]:
    """Everything for a script; undefined is null with its reason."""
    rounds = zip(watched.rounds, watched.traces.sources, strict=True)
    return {
        "rule": watched.rule.to_json(),
        "notes": list(watched.traces.notes),
        "exit_code": watched.exit_code,
        "rounds": [judged_json(judged) | {"source": source} for judged, source in rounds],
    }


def judged_json(judged: Judged) -> dict[str, Any]:
    """One round: the decision, the readings, the notes."""
    return {
        **judged.decision.to_json(),
        "readings": list(readings_json(judged)),
        "notes": list(judged.notes),
    }


def readings_json(judged: Judged) -> Iterable[dict[str, Any]]:
    """Readings as plain JSON values."""
    return (reading.to_json() for reading in judged.readings)
