"""Thresholds on one half of the healthy runs, and what they do on all other runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from ouroloop.monitors.bench.alarms.detectors.base import Detector
from ouroloop.monitors.bench.alarms.history import History
from ouroloop.monitors.bench.alarms.lock import BUDGETS, Split
from ouroloop.monitors.bench.alarms.simulation import OUTCOMES
from ouroloop.monitors.estimators.stats import clopper_pearson


@dataclass(frozen=True)
class RunFacts:
    """A line of runs.parquet.

    Attributes:
        run: its name.
        kind: "simulated" or "real".
        regime: of a simulated run; of a real one its arm.
        healthy: whether nothing is the matter; None: nobody knows.
        world: of a simulated run.
        seed: likewise.
        split: calibration or evaluation.
        rounds: after the baseline.
        onset: first round of the regime, 0 for none.
        events: outcome -> first round in which it is truly lost, 0 for never; empty: not known.
    """

    run: str
    kind: str
    regime: str
    healthy: bool | None
    split: Split
    rounds: int
    world: int | None = None
    seed: int | None = None
    onset: int = 0
    events: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """A run, and one detector's score after each of its rounds but the baseline."""

    facts: RunFacts
    scores: tuple[float, ...]

    def alarm(self, threshold: float, reaches: bool = False) -> int:
        """The first round with a score above the threshold (or at it), 0 for none."""
        for number, score in enumerate(self.scores, start=1):
            # NaN compares as false: no alarm.
            # A calibrated threshold is a score that some healthy run had, so it must be exceeded; a
            # detector's own limit is where its rule acts, so meeting it is enough.
            if score > threshold or (reaches and score == threshold):
                return number
        return 0


def scores_of(detector: Detector, history: History) -> tuple[float, ...]:
    """The detector's score after every round but the baseline, each from what came before."""
    numbers = range(1, len(history.rounds))
    return tuple(float(detector.score(history.until(number))) for number in numbers)


@dataclass(frozen=True)
class Rule:
    """A detector with a threshold.

    Attributes:
        detector: its name.
        budget: allowed share of healthy runs with an alarm; None: its own limit, not calibrated.
        threshold: of its score.
    """

    detector: str
    budget: float | None
    threshold: float


@dataclass(frozen=True)
class FalseAlarms:
    """What a rule does on the healthy runs of the evaluation split.

    Attributes:
        rule: the rule.
        runs: how many.
        alarmed: of them with an alarm.
        low: lower end of the 95 % interval of that share.
        high: its upper end.
        worst: the healthy regime with most alarms.
        worst_share: and its share.
        run_length: rounds per alarm, runs ending at their first one; infinite without any.
        before_onset: share of the collapsing runs with an alarm while still healthy.
        accepted: whether the budget is kept, see `false_alarms`; None without a budget.
    """

    rule: Rule
    runs: int
    alarmed: int
    low: float
    high: float
    worst: str
    worst_share: float
    run_length: float
    before_onset: float
    accepted: bool | None


@dataclass(frozen=True)
class Power:
    """How many of a regime's runs a rule sees in time.

    Attributes:
        rule: the rule.
        regime: whose runs.
        outcome: what must not yet be lost.
        runs: in which it is lost.
        seen: of them with an alarm from the onset to the round of the loss.
        low: lower end of the 95 % interval of that share.
        high: its upper end.
        delay: median rounds from onset to alarm, of all runs that are alarmed after it.
        lead: median rounds from alarm to loss, of those in which it is lost; below 0: too late.
    """

    rule: Rule
    regime: str
    outcome: str
    runs: int
    seen: int
    low: float
    high: float
    delay: float
    lead: float


def calibrated(healthy: Sequence[Scored], budget: float) -> float:
    """The threshold with which a fresh healthy run has an alarm with at most this probability.

    An order statistic of the runs' largest scores; infinite where there are too few runs to
    promise it. Source: split conformal prediction (Papadopoulos et al. 2002, Vovk et al. 2005).
    """
    # A run without any finite score can have no alarm, whatever the threshold.
    largest = sorted(max(_sound(run.scores), default=-math.inf) for run in healthy)
    # 1e-9: 0.95 x 20 must be 19.
    place = math.ceil((1 - budget) * (len(largest) + 1) - 1e-9)
    return largest[place - 1] if place <= len(largest) else math.inf


def _sound(scores: Sequence[float]) -> list[float]:
    return [score for score in scores if not math.isnan(score)]


def rules_of(name: str, scored: Sequence[Scored], limit: float | None) -> list[Rule]:
    """The detector at every budget, or at its own limit if it has one."""
    if limit is not None:
        return [Rule(name, None, limit)]
    healthy = [s for s in scored if s.facts.healthy and s.facts.split == Split.CALIBRATION]
    return [Rule(name, budget, calibrated(healthy, budget)) for budget in BUDGETS]


def alarm_of(rule: Rule, run: Scored) -> int:
    """The rule's first alarm in a run, 0 for none; its own limit is reached where it is met."""
    return run.alarm(rule.threshold, reaches=rule.budget is None)


def false_alarms(rule: Rule, scored: Sequence[Scored]) -> FalseAlarms | None:
    """The rule on the healthy runs of the evaluation split; None without any.

    Accepted is a rule unless its realised share lies significantly above the budget: the lower end
    of the one-sided 95 % interval must not.
    """
    healthy = [s for s in scored if s.facts.healthy and s.facts.split == Split.EVALUATION]
    if not healthy:
        return None
    alarms = {run.facts.run: alarm_of(rule, run) for run in healthy}
    hits = sum(number > 0 for number in alarms.values())
    low, high = clopper_pearson(hits, len(healthy))
    shares = {
        regime: _share([alarms[r.facts.run] > 0 for r in healthy if r.facts.regime == regime])
        for regime in dict.fromkeys(run.facts.regime for run in healthy)
    }
    # Of equal ones the first in the order of the runs.
    worst = max(shares, key=lambda regime: shares[regime])
    # A run ends with its first alarm: what would come after is nobody's run.
    at_risk = sum(alarms[run.facts.run] or run.facts.rounds for run in healthy)
    # Only collapsing runs have an onset; before it they are as healthy as the others.
    early = [
        0 < alarm_of(rule, run) < run.facts.onset for run in scored if run.facts.healthy is False
    ]
    accepted = None
    if rule.budget is not None:
        # The lower end of a two-sided 90 % interval is a one-sided bound of 95 %.
        accepted = clopper_pearson(hits, len(healthy), 0.90)[0] <= rule.budget
    return FalseAlarms(
        rule=rule,
        runs=len(healthy),
        alarmed=hits,
        low=low,
        high=high,
        worst=worst,
        worst_share=shares[worst],
        run_length=at_risk / hits if hits else math.inf,
        before_onset=_share(early),
        accepted=accepted,
    )


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found) if found else math.nan


def powers(rule: Rule, scored: Sequence[Scored]) -> list[Power]:
    """The rule on every collapsing regime, by every outcome."""
    collapsing = [run for run in scored if run.facts.healthy is False and run.facts.events]
    regimes = dict.fromkeys(run.facts.regime for run in collapsing)
    return [
        _power(rule, regime, outcome, [r for r in collapsing if r.facts.regime == regime])
        for regime in regimes
        for outcome in OUTCOMES
    ]


def _power(rule: Rule, regime: str, outcome: str, runs: Sequence[Scored]) -> Power:
    seen = lost = 0
    delays, leads = [], []
    for run in runs:
        alarm, onset, event = alarm_of(rule, run), run.facts.onset, run.facts.events[outcome]
        # An alarm before the onset is a false one, and no detection of anything later.
        # At least 1: 0 is no alarm, and would pass where the onset is not known.
        is_true = alarm >= max(onset, 1)
        if is_true:
            delays.append(alarm - onset)
        # Runs in which the outcome is never lost say nothing of whether it is seen in time.
        if event:
            lost += 1
            seen += is_true and alarm <= event
            if is_true:
                leads.append(event - alarm)
    low, high = clopper_pearson(seen, lost) if lost else (math.nan, math.nan)
    return Power(
        rule=rule,
        regime=regime,
        outcome=outcome,
        runs=lost,
        seen=seen,
        low=low,
        high=high,
        delay=float(median(delays)) if delays else math.nan,
        lead=float(median(leads)) if leads else math.nan,
    )
