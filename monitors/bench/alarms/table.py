"""The benchmark's result: one table of numbers, and the page that is written from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ouroloop.monitors.bench.alarms import lock
from ouroloop.monitors.bench.alarms.evaluate import (
    FalseAlarms,
    Power,
    Rule,
    RunFacts,
    Scored,
    alarm_of,
    false_alarms,
    powers,
    rules_of,
)
from ouroloop.monitors.bench.alarms.simulation import OUTCOMES
from ouroloop.monitors.bench.markdown import percent, table

DASH = "-"
TITLES = {
    "event": "the event: pass@1 or the tail's pass@4 2 points down, or DCP a quarter down",
    "accuracy": "pass@1 or the tail's pass@4 2 points down",
    "diversity": "DCP a quarter down",
    "pass@64": "pass@64 2 points down (nothing guards it)",
    "other structures": "pass@64 of other, harder problems 2 points down (nothing guards it)",
}


@dataclass(frozen=True)
class Result:
    """Everything that was found, one entry for each rule in each list."""

    rules: tuple[Rule, ...]
    false_alarms: tuple[FalseAlarms, ...]
    powers: tuple[Power, ...]
    runs: tuple[RunFacts, ...]
    real: Mapping[Rule, Mapping[str, tuple[int, ...]]]
    """Rule -> arm of a real run -> the first alarm of each of its runs."""


def result(scored: Mapping[str, Sequence[Scored]], limits: Mapping[str, float | None]) -> Result:
    """Evaluate every detector. scored: name -> its scores of every run."""
    rules = [rule for name, runs in scored.items() for rule in rules_of(name, runs, limits[name])]
    alarms = [false_alarms(rule, scored[rule.detector]) for rule in rules]
    found = [power for rule in rules for power in powers(rule, scored[rule.detector])]
    # Any detector's will do: all of them score the same runs.
    runs = tuple(run.facts for run in next(iter(scored.values()), ()))
    real = {rule: _real_alarms(rule, scored[rule.detector]) for rule in rules}
    return Result(
        tuple(rules),
        tuple(each for each in alarms if each is not None),
        tuple(found),
        runs,
        real,
    )


def _real_alarms(rule: Rule, scored: Sequence[Scored]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for run in scored:
        if run.facts.kind == "real":
            known = found.get(run.facts.regime, ())
            found[run.facts.regime] = (*known, alarm_of(rule, run))
    return found


# --- one row for each rule and regime ---


def rows(of: Result) -> list[dict[str, object]]:
    """The numbers, tidy: a row for each rule on its healthy runs, each regime and outcome."""
    out: list[dict[str, object]] = []
    for each in of.false_alarms:
        out.append(
            {
                **_of_rule(each.rule),
                "accepted": each.accepted,
                "regime": "healthy",
                "outcome": "false alarm",
                "runs": each.runs,
                "alarmed": each.alarmed,
                "low": _number(each.low),
                "high": _number(each.high),
                "delay": "",
                "lead": "",
                "run_length": _number(each.run_length),
                "before_onset": _number(each.before_onset),
            }
        )
    accepted = {each.rule: each.accepted for each in of.false_alarms}
    for power in of.powers:
        out.append(
            {
                **_of_rule(power.rule),
                "accepted": accepted.get(power.rule),
                "regime": power.regime,
                "outcome": power.outcome,
                "runs": power.runs,
                "alarmed": power.seen,
                "low": _number(power.low),
                "high": _number(power.high),
                "delay": _number(power.delay),
                "lead": _number(power.lead),
                "run_length": "",
                "before_onset": "",
            }
        )
    return out


def _of_rule(rule: Rule) -> dict[str, object]:
    budget = "own limit" if rule.budget is None else rule.budget
    return {"detector": rule.detector, "budget": budget, "threshold": _number(rule.threshold)}


def _number(value: float) -> object:
    return round(value, 4) if math.isfinite(value) else ""


# --- the page ---


def page(of: Result, command: str) -> str:
    """The whole result in Markdown."""
    parts = [_head(of, command)]
    for budget in (*lock.BUDGETS, None):
        # A table for each budget: detectors of different budgets must not be compared.
        rules = [rule for rule in of.rules if rule.budget == budget]
        alarms = [each for each in of.false_alarms if each.rule in rules]
        has_real = any(of.real[rule] for rule in rules)
        # Without a healthy run to judge them nothing is known of the rules but what they do.
        if not alarms and not has_real:
            continue
        title = "At their own limits"
        if budget is not None:
            title = f"At {budget:.0%} false alarms per {lock.ROUNDS} rounds"
        parts += [f"## {title}"]
        if alarms:
            parts += [_summary(of, alarms), _by_regime(of, alarms)]
        if alarms and budget is not None:
            parts += [_by_outcome(of, alarms)]
        if has_real:
            parts += [_real(of, rules)]
    return "\n\n".join(parts) + "\n"


def _head(of: Result, command: str) -> str:
    simulated = [run for run in of.runs if run.kind == "simulated"]
    num = {
        (healthy, split): sum(r.healthy is healthy and r.split == split for r in simulated)
        for healthy in (True, False)
        for split in lock.Split
    }
    return (
        "# Alarms of collapse under a locked budget\n\n"
        f"Written by `{command}` (benchmark version {lock.VERSION}, lock {lock.digest()}); what it"
        " means and how to add a detector: [alarms](../alarms.md).\n\n"
        f"Simulated runs: {num[True, lock.Split.CALIBRATION]} healthy ones to choose thresholds,"
        f" {num[True, lock.Split.EVALUATION]} healthy and {num[False, lock.Split.EVALUATION]}"
        " collapsing ones, in other worlds, to judge them."
        f" Real runs: {len(of.runs) - len(simulated)}."
    )


def _summary(of: Result, alarms: Sequence[FalseAlarms]) -> str:
    lines = []
    for each in alarms:
        mine = [p for p in of.powers if p.rule == each.rule and p.outcome == "event"]
        accepted = {True: "yes", False: "no", None: DASH}[each.accepted]
        interval = f"{100 * each.low:.0f} to {100 * each.high:.0f}"
        lines.append(
            (
                each.rule.detector,
                accepted,
                f"{percent(each.alarmed, each.runs)} ({interval})",
                f"{each.worst} {each.worst_share:.0%}" if each.alarmed else DASH,
                f"{each.run_length:.0f}" if math.isfinite(each.run_length) else "no alarm",
                _share(each.before_onset),
                _share(_mean(p.seen / p.runs for p in mine if p.runs)),
                _plain(_mean(p.delay for p in mine)),
                _plain(_mean(p.lead for p in mine), "+.1f"),
            )
        )
    head = (
        "detector",
        "accepted",
        "false alarms (95 %)",
        "worst healthy regime",
        "rounds per false alarm",
        "before the onset",
        "seen by the event (mean of regimes)",
        "delay",
        "lead",
    )
    return table(head, lines)


def _by_regime(of: Result, alarms: Sequence[FalseAlarms]) -> str:
    """A row for each regime, a column for each detector: what is seen by the event."""
    found = {(p.rule, p.regime): p for p in of.powers if p.outcome == "event"}
    lines = []
    for regime in dict.fromkeys(p.regime for p in of.powers):
        cells = [found[each.rule, regime] for each in alarms]
        shown = [percent(p.seen, p.runs) for p in cells]
        lines.append((regime, cells[0].runs, *shown))
    if not lines:
        return "No collapsing run."
    head = ("seen by the event", "runs", *(each.rule.detector for each in alarms))
    return table(head, lines)


def _by_outcome(of: Result, alarms: Sequence[FalseAlarms]) -> str:
    """A row for each outcome: what is seen before it is lost, all regimes' runs together."""
    lines = []
    for outcome in OUTCOMES:
        # All regimes together: some of them lose an outcome in a few runs only.
        cells, num = [], 0
        for each in alarms:
            mine = [p for p in of.powers if p.rule == each.rule and p.outcome == outcome]
            num = sum(p.runs for p in mine)
            cells.append(percent(sum(p.seen for p in mine), num))
        lines.append((TITLES[outcome], num, *cells))
    return table(("seen by", "runs", *(each.rule.detector for each in alarms)), lines)


def _real(of: Result, rules: Sequence[Rule]) -> str:
    """A row for each arm of real runs: runs with an alarm, and the median of its round."""
    lines = []
    for arm in dict.fromkeys(arm for rule in rules for arm in of.real[rule]):
        cells = []
        for rule in rules:
            found = of.real[rule][arm]
            # Median of the alarms alone; runs without one are in the count before it.
            hits = sorted(number for number in found if number)
            at = f", round {hits[len(hits) // 2]}" if hits else ""
            cells.append(f"{len(hits)} of {len(found)}{at}")
        lines.append((arm, *cells))
    return table(("real runs with an alarm", *(rule.detector for rule in rules)), lines)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def _share(value: float) -> str:
    return f"{value:.0%}" if math.isfinite(value) else DASH


def _plain(value: float, form: str = ".1f") -> str:
    return format(value, form) if math.isfinite(value) else DASH
